"""Where randomness comes from: `rng` and `seed` as SciPy's SPEC 7 transition has them.

https://scientific-python.org/specs/spec-0007/
"""

import inspect
import numbers
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

# Default of `rng` and `seed`: leaving `rng` out is not the same as `rng=None`.
UNSET: Any = object()

F = TypeVar("F", bound=Callable[..., Any])


def spec7(function: F) -> F:
    """Show ``rng=None, seed=None`` in the signature, where the defaults are `UNSET`.

    No wrapper: a frame less in tracebacks, and warnings that point at the caller.
    """
    signature = inspect.signature(function)
    shown = [p.replace(default=None) if p.default is UNSET else p for p in signature.parameters.values()]
    function.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    return function


class Draws:
    """The draws that seeding asks for, from a `Generator` or a legacy `RandomState`."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def choice(self, n: int, k: int) -> Any:
        """k different indices below n."""
        return self._source.choice(n, size=k, replace=False)

    def integer(self, n: int) -> int:
        """One index below n."""
        modern = isinstance(self._source, np.random.Generator)
        return int(self._source.integers(n) if modern else self._source.randint(n, dtype="int64"))

    def uniform(self) -> float:
        """One number in [0, 1)."""
        return float(self._source.uniform())

    def normal(self, shape: tuple[int, ...]) -> Any:
        """Standard normal numbers."""
        return self._source.standard_normal(size=shape)


def resolve(function: str, rng: Any, seed: Any) -> Any:
    """The generator that `rng` or `seed` stands for, for `draws` once all else is checked.

    `rng` goes to `numpy.random.default_rng` at once; `seed`, and neither, are left for `draws`, which
    is when SciPy looks at them.

    Raises
    ------
    TypeError
        If both are given.
    """
    if rng is not UNSET and seed is not UNSET:
        raise TypeError(
            f"{function}() got multiple values for argument now known as `rng`. "
            "Specify one of `rng` or `seed`."
        )
    if rng is not UNSET:
        return np.random.default_rng(rng)
    return None if seed is UNSET else seed


def draws(source: Any) -> Draws:
    """Draws from a generator or from what a legacy `seed` may be; None is NumPy's global state."""
    if source is None or source is np.random:
        return Draws(np.random)  # the module's functions are methods of the global RandomState
    if isinstance(source, numbers.Integral):
        return Draws(np.random.RandomState(source))  # type: ignore[arg-type]
    if isinstance(source, np.random.RandomState | np.random.Generator):
        return Draws(source)
    raise ValueError(f"{source!r} cannot be used to seed a numpy.random.RandomState instance")
