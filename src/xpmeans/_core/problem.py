"""What one clustering problem is made of, once its inputs are checked."""

import math
from types import ModuleType
from typing import Any, NamedTuple

from xpmeans._core.plan import Plan, make_plan
from xpmeans._core.precision import Precision, scale_for


class Problem(NamedTuple):
    """Points and how to compute with them; everything in `_core` works on one of these."""

    xp: ModuleType
    device: Any
    x: Any  # (n, d) points in the caller's dtype
    dtypes: Precision
    plan: Plan
    scale: float  # power of two that keeps squared distances from overflowing
    finite: bool  # neither NaN nor infinity in points and first centroids


def make_problem(xp: ModuleType, device: Any, x: Any, k: int, dtypes: Precision, reach: float) -> Problem:
    """Plan a problem; `reach` bounds the magnitude of points and given centroids, NaN if they hold one."""
    limits = xp.finfo(dtypes.compute)
    plan = make_plan(*x.shape, k, limits.bits // 8)
    return Problem(
        xp,
        device,
        x,
        dtypes,
        plan,
        scale_for(reach, float(limits.max)),
        math.isfinite(reach),
    )
