"""What ``verbose`` shows: a bar in a terminal where rich is installed, plain lines elsewhere."""

import sys
from typing import Any, Self


class Progress:
    """Lines, or a bar of at most `total` steps, for one call of `fit`; a context manager."""

    def __init__(self, shown: bool, total: int) -> None:
        self._shown = shown
        self._total = total
        self._bar: Any = None

    def __enter__(self) -> Self:
        if self._shown and getattr(sys.stdout, "isatty", bool)():
            try:
                from rich.progress import Progress as Bar
            except ImportError:
                return self
            self._bar = Bar(transient=True)
            self._bar.start()
            self._task = self._bar.add_task("k-means", total=self._total)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, number: int, line: str) -> None:
        """Show that a step is done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=number, description=line)
        else:
            self.say(line)

    def say(self, line: str) -> None:
        """Show a line that stays."""
        if not self._shown:
            return
        if self._bar is not None:
            self._bar.console.print(line)
        else:
            print(line)
