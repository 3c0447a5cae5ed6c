"""Which dtype is computed in, summed in and returned, and how far the values reach."""

import math
from types import ModuleType
from typing import Any, NamedTuple

from xpmeans._core.stream import chunks


class Precision(NamedTuple):
    """The dtypes of one call."""

    result: Any  # what the caller gets back
    compute: Any  # scores and centroids: at least float32
    sums: Any  # sums and settled distances: float64 where the device has it


def precision(xp: ModuleType, dtype: Any, device: Any) -> Precision:
    """Choose the dtypes for data of `dtype`; integers become the library's default real dtype.

    Raises
    ------
    ValueError
        For complex dtypes.
    TypeError
        For dtypes wider than float64.
    """
    if not xp.isdtype(dtype, "real floating"):
        if xp.isdtype(dtype, "complex floating"):
            raise ValueError(f"Unsupported dtype {dtype}: points must be real.")
        dtype = xp.__array_namespace_info__().default_dtypes(device=device)["real floating"]
    bits = xp.finfo(dtype).bits
    if bits > 64:
        raise TypeError(f"type other than float or double not supported, got {dtype}. Hint: use float64.")
    return Precision(dtype, xp.float32 if bits < 32 else dtype, _widest(xp, device))


def _widest(xp: ModuleType, device: Any) -> Any:
    """float64, or float32 on devices (and in JAX's default mode) that have nothing wider."""
    dtypes = xp.__array_namespace_info__().dtypes(device=device, kind="real floating")
    return dtypes.get("float64", xp.float32)


def cast(xp: ModuleType, x: Any, dtype: Any) -> Any:
    """`x` in `dtype`, itself if it is: `astype(copy=False)` costs a small problem 1 us for nothing."""
    return x if x.dtype == dtype else xp.astype(x, dtype)


def peak(xp: ModuleType, x: Any) -> float:
    """Largest magnitude in `x`, or NaN when a value of `x` is not finite: the one scan of the data.

    A million numbers at a time, so that the booleans in between stay small. Minimum and maximum alone
    would do if they propagated NaN, but in JAX 0.10 on the CPU they lose it (openxla/xla#21461).
    """
    real = xp.isdtype(x.dtype, "real floating")
    if not real and xp.isdtype(x.dtype, "bool"):
        return 1.0
    rows = max(1, (1 << 20) // x.shape[1])
    reach = 0.0
    for chunk in chunks(x.shape[0], rows):
        part = x[chunk, ...]
        if real and not xp.all(xp.isfinite(part)):
            return math.nan
        reach = max(reach, -float(xp.min(part)), float(xp.max(part)))
    return reach


def scale_for(reach: float, largest: float) -> float:
    """Power of two that brings values of magnitude `reach` near 1, or 1 when their squares are safe.

    `largest` is the largest finite number of the dtype. Up to its fourth root (4e9 in float32, 1e77 in
    float64) squares summed over any number of columns do not overflow nor, down to that root's inverse,
    underflow. Powers of two scale without rounding.
    """
    safe = largest**0.25
    if reach == 0 or not math.isfinite(reach) or 1 / safe <= reach <= safe:
        return 1.0
    limit = math.frexp(largest)[1] - 2
    return 2.0 ** -max(-limit, min(limit, math.frexp(reach)[1]))
