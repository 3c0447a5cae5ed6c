"""What NumPy has beyond the standard: it counts, with weights too, faster than it sorts or multiplies."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from xpmeans._core.plan import BUDGET, Plan
from xpmeans._core.stream import chunks

# Columns from which a cluster's rows are gathered and added up, with weights by a product, if they are enough
# numbers to spread a few microseconds over. Fewer are counted, one after the other.
WIDE = 64
ENOUGH = 2048


def sizes(xp: Any, labels: Any, k: int, device: Any) -> Any:  # noqa: ARG001
    """Points of each cluster."""
    counts = np.zeros(k, np.int64)
    for rows in chunks(len(labels), max(k, 1 << 16)):  # NumPy widens the labels first, in the cache then
        counts += np.bincount(labels[rows], minlength=k)
    return counts


def settle(
    xp: Any,  # noqa: ARG001
    labels: Any,
    decide: Callable[[Any], Any],
    block: int,
    room: int | None,
) -> tuple[Any, None]:
    """Let ``decide(rows)`` label the points whose label is negative; see `loop.settle`."""
    assert room is None  # values are known here
    rows = np.flatnonzero(labels < 0)
    for some in chunks(len(rows), block):
        labels[rows[some]] = decide(rows[some])
    return labels, None


def sums(
    xp: Any,  # noqa: ARG001
    plan: Plan,
    points: Callable[..., Any],
    labels: Any,
    weights: Any | None,
) -> tuple[Any, Any]:
    """Weighted sums (k, d) and counts (k,) of each cluster's points, which ``points(rows)`` gives.

    They are in the dtype of sums, or with None for another one in that of scores.
    """
    wide = plan.d >= WIDE and plan.n * plan.d >= ENOUGH * plan.k
    return (_by_rows if wide else _by_columns)(plan, points, labels, weights)


def _by_columns(plan: Plan, points: Callable[..., Any], labels: Any, weights: Any | None) -> tuple[Any, Any]:
    n, d, k, *_ = plan
    totals, counts = np.zeros((d, k)), np.zeros(k)
    for rows in chunks(n, max(k, BUDGET // (32 * d))):
        some, label = points(rows), labels[rows].astype(np.intp)
        mass = None
        if weights is not None:
            mass = weights[rows]
            some = some * mass[:, None]
        counts += np.bincount(label, mass, k)
        for total, column in zip(totals, some.T, strict=True):
            total += np.bincount(label, column, k)
    return totals.T, counts


def _by_rows(plan: Plan, points: Callable[..., Any], labels: Any, weights: Any | None) -> tuple[Any, Any]:
    d, k = plan.d, plan.k
    totals = np.zeros((k, d))
    # Of integers of 16 bits NumPy sorts the bits.
    order = np.argsort(labels.astype(np.int16) if k <= 1 << 15 else labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=k))
    size = max(1, BUDGET // (16 * d))
    for total, (start, end) in zip(totals, pairwise([0, *ends.tolist()]), strict=True):
        for some in chunks(end - start, size):
            rows = order[start:end][some]
            if weights is None:
                total += np.add.reduce(points(rows, None), axis=0, dtype=np.float64)
            else:
                total += weights[rows] @ points(rows)
    return totals, np.bincount(labels, weights, k).astype(float)
