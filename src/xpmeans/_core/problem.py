"""What one clustering problem is made of, once its inputs are checked."""

from types import ModuleType
from typing import Any, NamedTuple

from xpmeans._core.loop import EAGER, Flow
from xpmeans._core.plan import ACCELERATOR_BUDGET, BUDGET, Plan, make_plan
from xpmeans._core.precision import Precision, Reach, scale_for


class Problem(NamedTuple):
    """Points and how to compute with them; everything in `_core` works on one of these."""

    xp: ModuleType
    device: Any
    x: Any  # (n, d) points in the caller's dtype
    dtypes: Precision
    plan: Plan
    scale: Any  # power of two that keeps squared distances from overflowing
    finite: bool  # neither NaN nor infinity in points and first centroids
    flow: Flow = EAGER  # what decides by values


def make_problem(
    xp: ModuleType, device: Any, x: Any, k: int, dtypes: Precision, reach: Reach, flow: Flow = EAGER
) -> Problem:
    """Plan a problem; `reach` is that of points and given centroids."""
    limits = xp.finfo(dtypes.compute)
    n, d = x.shape
    scale = scale_for(reach.largest, float(limits.max), n * d)
    return Problem(xp, device, x, dtypes, plan_for(xp, x, k, dtypes, flow), scale, reach.finite, flow)


def plan_for(xp: ModuleType, x: Any, k: int, dtypes: Precision, flow: Flow) -> Plan:
    """Plan passes over points with k centroids."""
    itemsize = xp.finfo(dtypes.compute).bits // 8
    if flow.asks:
        return make_plan(*x.shape, k, itemsize, BUDGET)
    member, budget = xp.finfo(dtypes.sums).bits // 8, ACCELERATOR_BUDGET
    return make_plan(*x.shape, k, itemsize, budget, member, cached=budget)
