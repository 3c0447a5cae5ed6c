"""Where a long run stands, on disk: one file, never pickled, that is whole at any time."""

import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def write(path: str | os.PathLike[str], arrays: Mapping[str, Any]) -> None:
    """Replace a file by an .npz of these arrays, at once: a crash leaves the old one or the new."""
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The arrays of an .npz; nothing in it is executed."""
    try:
        found = np.load(path, allow_pickle=False)
        if not isinstance(found, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with found:
            return {name: found[name] for name in found.files}
    except FileNotFoundError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{str(path)!r} is not a file that xpmeans has written: {error}") from error


class Checkpoint:
    """The state of one call of `kmeans`, kept in a file as long as the call has not come to its end.

    `before` is what was noted there, by a process that crashed; nothing if there is no file.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        if not isinstance(path, str | os.PathLike | None):
            raise TypeError(f"`checkpoint` must be a path or None, got {path!r}.")
        if path is not None:
            _require_place(Path(path))
        self._path = path
        self._call: dict[str, Any] = {}
        exists = path is not None and Path(path).exists()
        self.before = read(path) if path is not None and exists else {}

    def require(self, call: Mapping[str, Any]) -> None:
        """Require that what was noted belongs to this call; what is noted from now on does.

        Raises
        ------
        ValueError
            If it was noted for another call.
        """
        self._call = {f"call_{name}": np.asarray(value) for name, value in call.items()}
        for name, value in self._call.items():
            if self.before and not (name in self.before and np.array_equal(self.before[name], value)):
                what = name.removeprefix("call_")
                raise ValueError(
                    f"`checkpoint` must be the file of the same call on the same points, but {what} is not "
                    f"what it is in {str(self._path)!r}. Hint: remove the file to begin anew."
                )

    def note(self, arrays: Mapping[str, Any]) -> None:
        """Keep this instead of what was noted before."""
        if self._path is not None:
            write(self._path, {**self._call, **arrays})

    def done(self) -> None:
        """Remove the file: the call has come to its end."""
        if self._path is not None:
            Path(self._path).unlink(missing_ok=True)


def _require_place(path: Path) -> None:
    """Require that a file can be written there."""
    folder = path.parent
    if path.is_dir():
        problem, hint = "it is a folder", "name a file in it."
    elif not folder.is_dir():
        problem, hint = "its folder does not exist", "make the folder first."
    elif not os.access(folder, os.W_OK):
        problem, hint = "nothing can be written to its folder", "choose a folder of yours."
    else:
        return
    raise ValueError(
        f"`checkpoint` must be a file that can be written, got {str(path)!r}: {problem}. Hint: {hint}"
    )
