"""Which dtype is computed in, summed in and returned, and how far the values reach."""

import math
from types import ModuleType
from typing import Any, NamedTuple


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
    if xp.isdtype(dtype, "complex floating"):
        raise ValueError(f"Unsupported dtype {dtype}: points must be real.")
    if not xp.isdtype(dtype, "real floating"):
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
    """Largest magnitude in `x`; infinite or NaN when `x` holds an infinity or a NaN.

    One look answers two questions, whether all values are finite and whether their squares overflow,
    without a temporary array: minimum and maximum propagate NaN in every library we serve.
    """
    if xp.isdtype(x.dtype, "bool"):
        return 1.0
    low, high = float(xp.min(x)), float(xp.max(x))
    return math.nan if math.isnan(low) or math.isnan(high) else max(-low, high)


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
