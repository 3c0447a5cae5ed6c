"""Which dtype is computed in, summed in and returned, and how far the values reach."""

import math
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import array_api_extra as xpx
import numpy as np

from xpmeans._core import threads
from xpmeans._core.stream import chunks

# Numbers of NumPy's that are looked at in one go; and so many that all cores are worth waking, 0.5 ms.
NUMBERS = 1 << 17
MANY = 1 << 21


class Precision(NamedTuple):
    """The dtypes of one call."""

    result: Any  # what the caller gets back
    compute: Any  # scores and centroids: at least float32
    sums: Any  # sums and settled distances: float64 where the device has it

    def held(self, xp: ModuleType, centroids: Any, finite: bool) -> Any:
        """Centroids in the dtype of sums, NaN where the dtype of scores cannot hold them."""
        wide = cast(xp, centroids, self.sums)
        return wide if finite else xp.where(xp.abs(wide) <= self.limit(xp), wide, xp.nan)

    def limit(self, xp: ModuleType) -> float:
        """Largest number that can be computed with."""
        return float(xp.finfo(self.compute).max)


def precision(xp: ModuleType, dtype: Any, device: Any) -> Precision:
    """Choose the dtypes for data of `dtype`; integers become the library's default real dtype.

    Raises
    ------
    ValueError
        For complex dtypes.
    TypeError
        For dtypes wider than float64.
    """
    if not _bits(xp, dtype):
        if xp.isdtype(dtype, "complex floating"):
            raise ValueError(f"Unsupported dtype {dtype}: points must be real.")
        dtype = xpx.default_dtype(xp, "real floating", device=device)
    bits = _bits(xp, dtype)
    if bits > 64:
        raise TypeError(f"type other than float or double not supported, got {dtype}. Hint: use float64.")
    sums = dtype if bits == 64 else widest(xp, device)
    return Precision(dtype, xp.float32 if bits < 32 else dtype, sums)


@cache
def _bits(xp: ModuleType, dtype: Any) -> int:
    """How many bits a real dtype has, 0 for others; libraries take 3 us to tell."""
    return int(xp.finfo(dtype).bits) if xp.isdtype(dtype, "real floating") else 0


def promoted(xp: ModuleType, first: Any, second: Any) -> Any:
    """The dtype of both; where a library does not mix floats with others (strict), that of the floats."""
    for dtype in (first, second):
        if xp.isdtype(dtype, "complex floating"):
            raise ValueError(f"Unsupported dtype {dtype}: values must be real.")
    try:
        return xp.result_type(first, second)
    except TypeError:
        return first if xp.isdtype(first, "real floating") else second


_widest: dict[tuple[ModuleType, str, Any], Any] = {}


def widest(xp: ModuleType, device: Any) -> Any:
    """float64, or float32 on devices (and in JAX's default mode) that have nothing wider.

    JAX takes 140 us to tell, and its answer changes with its mode, as its default does.
    """
    default = xp.__array_namespace_info__().default_dtypes(device=device)["real floating"]
    key = xp, str(device), default
    if key not in _widest:
        dtypes = xp.__array_namespace_info__().dtypes(device=device, kind="real floating")
        _widest[key] = dtypes.get("float64", xp.float32)
    return _widest[key]


def cast(xp: ModuleType, x: Any, dtype: Any) -> Any:
    """`x` in `dtype`, itself if it is: `astype(copy=False)` costs a small problem 1 us for nothing."""
    return x if x.dtype == dtype else xp.astype(x, dtype)


def is_one(scale: Any) -> bool:
    """Whether a scale is known to be 1; under a trace it is an array."""
    return isinstance(scale, float) and scale == 1


def times(points: Any, scale: Any) -> Any:
    """Points scaled, or themselves."""
    return points if is_one(scale) else points * scale


class Reach(NamedTuple):
    """How far values reach."""

    largest: float  # magnitude among those that are finite
    finite: bool  # whether all are

    def joined(self, other: "Reach", limit: float) -> "Reach":
        """Reach of two arrays together; values of the other one beyond `limit` count as infinite."""
        if other.largest > limit:
            return Reach(self.largest, finite=False)
        return Reach(max(self.largest, other.largest), self.finite and other.finite)


def measure(xp: ModuleType, x: Any) -> Reach:
    """Look at each value of a table once.

    A million numbers at a time, so that the booleans in between stay small; fewer of NumPy's, which are read
    twice, from the cache then, and on all cores if there are many.
    """
    size = NUMBERS if isinstance(x, np.ndarray) else 1 << 20
    parts = list(chunks(x.shape[0], max(1, size // x.shape[1])))
    if len(parts) == 1:
        return _reach(xp, x)
    reaches = [Reach(0.0, True)] * len(parts)

    def work(i: int) -> None:
        reaches[i] = _reach(xp, x[parts[i], ...])

    if isinstance(x, np.ndarray) and x.size > MANY:
        threads.run(work, len(parts))
    else:
        for i in range(len(parts)):
            work(i)
    largest = max((reach.largest for reach in reaches), default=0.0)
    return Reach(largest, all(reach.finite for reach in reaches))


def _reach(xp: ModuleType, part: Any) -> Reach:
    """The same for a chunk.

    Minimum and maximum alone do not always tell: in JAX 0.10 on the CPU they lose NaN (openxla/xla#21461).
    """
    if isinstance(part, np.ndarray):
        largest = max(-float(part.min()), float(part.max()))
        if math.isfinite(largest):  # NumPy's minimum and maximum propagate NaN
            return Reach(largest, True)
    elif xp.isdtype(part.dtype, "bool"):
        return Reach(1.0, True)
    finite = True
    if xp.isdtype(part.dtype, "real floating") and not xp.all(xp.isfinite(part)):
        finite = False
        part = xp.where(xp.isfinite(part), part, xp.zeros_like(part))
    return Reach(max(-float(xp.min(part)), float(xp.max(part))), finite)


def scale_for(largest: float, limit: float, count: int) -> float:
    """Power of two that lets the squares of `count` values up to `largest` be summed, or 1 if they can be.

    `limit` is the largest finite number of the dtype. Large values are brought down only as far as they
    must be, so that others beside them keep their squares: points in [0, 1] keep their labels next to a
    fill value of 1e20 in float32, or 1e300 in float64. Values below the fourth root of the smallest number
    (2e-10 in float32, 1e-77 in float64) are brought up to 1. Powers of two scale without rounding.
    """
    if largest == 0:
        return 1.0
    safe = math.sqrt(limit / 64 / count)  # 64: differences of values, and a few terms to a sum
    if largest > safe:
        return 2.0 ** (math.frexp(safe)[1] - 1 - math.frexp(largest)[1])
    if largest < limit**-0.25:
        return 2.0 ** min(math.frexp(limit)[1] - 2, -math.frexp(largest)[1])
    return 1.0
