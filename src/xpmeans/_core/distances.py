"""Squared distances by differences: they keep their digits far from the origin, where products lose them."""

from typing import Any

from xpmeans._core.precision import cast, times
from xpmeans._core.problem import Problem
from xpmeans._core.stream import Column, chunks


def squared_distances(problem: Problem, centroids: Any, labels: Any | None = None) -> Any:
    """(n,) from each point to its own centroid, or to the only one; times the scale squared.

    NaN where the point or its centroid is not finite.
    """
    xp, dtype = problem.xp, problem.dtypes.sums
    n = problem.x.shape[0]
    centroids = cast(xp, centroids, dtype) * problem.scale
    squares = Column(xp, n, dtype, problem.device)
    for rows in chunks(n, problem.plan.rows):
        points = cast(xp, problem.x[rows, ...], dtype)
        own = centroids if labels is None else xp.take(centroids, labels[rows], axis=0)
        if not problem.finite:  # infinities less infinities would warn
            points = xp.where(xp.isfinite(points), points, xp.nan)
        difference = times(points, problem.scale) - own
        difference *= difference
        squares.put(rows, problem.flow.row_sums(xp, difference, problem.device))
    found = squares.value
    return found if problem.finite else xp.where(xp.isfinite(found), found, xp.nan)
