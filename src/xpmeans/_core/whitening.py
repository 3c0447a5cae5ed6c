"""Standard deviations to divide by: lazily, traced and with gradients, so no branch on values."""

from types import ModuleType
from typing import Any

from xpmeans._core.precision import cast, widest


def deviations(xp: ModuleType, x: Any, device: Any) -> tuple[Any, Any]:
    """Standard deviation of each column in the widest dtype, 1 where it is constant, and which columns are.

    Variances are summed in the widest dtype: float32 sums of 400,000 values near 1000 are off by 5e-4 of
    the values, and with them the deviations. A constant column is found by its extremes as well, since its
    mean may round (SciPy divides ten times 0.3 by 5.6e-17), and a column with a NaN is not one, though JAX
    loses it in the extremes (openxla/xla#21461). The root is taken after the choice, so that gradients stay
    finite.
    """
    is_real = xp.isdtype(x.dtype, "real floating")
    wide = widest(xp, device)
    narrow = is_real and xp.finfo(x.dtype).bits < xp.finfo(wide).bits  # a longdouble stays what it is
    variance = xp.var(cast(xp, x, wide) if narrow else x, axis=0)
    same = variance == 0
    parts = [x] if is_real else [xp.real(x), xp.imag(x)]
    extremes = [xp.max(part, axis=0) == xp.min(part, axis=0) for part in parts]
    constant = (same | (extremes[0] & extremes[-1])) & xp.isfinite(variance)
    return xp.sqrt(xp.where(constant, xp.ones_like(variance), variance)), constant
