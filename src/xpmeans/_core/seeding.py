"""First centroids. Random numbers come from NumPy on the host; the choice happens on the device.

Each function draws from the generator what SciPy's `kmeans2` draws, in its order, so that one seed gives
one answer on every library.
"""

import math
from types import ModuleType
from typing import Any

import numpy as np

from xpmeans._core.distances import squared_distances
from xpmeans._core.precision import cast, is_one
from xpmeans._core.problem import Problem
from xpmeans._core.stream import PairwiseSum, chunks
from xpmeans._rng import Draws


def points(problem: Problem, k: int, draws: Draws) -> Any:
    """Choose k different points."""
    return _rows(problem, draws.choice(problem.x.shape[0], k))


def plus_plus(problem: Problem, k: int, draws: Draws) -> Any:
    """Choose k points, each with probability proportional to its squared distance from those before.

    Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007. The running
    minimum makes it O(nkd). When all remaining distances are zero, row 0 is taken, as SciPy does.
    """
    xp, n = problem.xp, problem.x.shape[0]
    chosen = np.empty(k, dtype=np.int64)  # all at once: a `k` beyond memory fails here
    chosen[0] = row = draws.integer(n)
    nearest = None
    for done in range(1, k):
        point = cast(xp, problem.x[row : row + 1, ...], problem.dtypes.compute)
        squares = squared_distances(problem, point)
        nearest = squares if nearest is None else xp.minimum(nearest, squares)
        if not problem.finite:
            nearest = xp.where(xp.isfinite(nearest), nearest, 0.0)
        total = float(xp.sum(nearest))
        cumulative = xp.cumulative_sum(nearest / total if total > 0 else nearest)
        # Rounding may leave the last value below the draw: then the last point that can be chosen is.
        draw = min(draws.uniform(), float(cumulative[-1]))
        place = xp.asarray([draw], dtype=nearest.dtype, device=problem.device)
        chosen[done] = row = int(xp.searchsorted(cumulative, place)[0])
    return _rows(problem, chosen)


def gaussian(problem: Problem, k: int, draws: Draws) -> Any:
    """Draw k points from the normal distribution with the mean and covariance of the finite data."""
    xp, device, dtype, scale = problem.xp, problem.device, problem.dtypes.sums, problem.scale
    x = problem.x
    if not problem.finite:
        x = xp.take(x, xp.nonzero(xp.all(xp.isfinite(x), axis=1))[0], axis=0)
    n, d = x.shape
    if n == 0:
        return xp.full((k, d), xp.nan, dtype=dtype, device=device)

    def scaled(rows: slice) -> Any:
        return cast(xp, x[rows, ...], dtype) * scale

    total = PairwiseSum()
    for rows in chunks(n, problem.plan.rows):
        total.add(xp.sum(scaled(rows), axis=0))
    mean = total.value / n
    freedom = max(n - 1, 1)  # one point has no spread
    if d > n:
        # SciPy's way where the covariance cannot have full rank: the centred data themselves are a factor.
        # Step for step in NumPy and in the data's dtype, for every library, since the signs of the vectors
        # depend on whose LAPACK it is, on the dtype and now and then on how the mean rounds.
        points = np.asarray(cast(xp, x, problem.dtypes.compute) * scale)
        _, values, vectors = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
        factor = values[:, None] * vectors / math.sqrt(freedom)
        spread = xp.asarray(draws.normal((k, n)) @ factor, dtype=dtype, device=device)
    else:
        scatter = PairwiseSum()
        for rows in chunks(n, problem.plan.rows):
            centred = scaled(rows) - mean
            scatter.add(centred.T @ centred)
        factor = _cholesky(xp, scatter.value / freedom, device)
        spread = xp.asarray(draws.normal((k, d)), dtype=dtype, device=device) @ factor.T
    # Draws beyond what centroids can hold would become infinite, and take no part in the scores.
    limit = problem.dtypes.limit(xp) * scale
    found = spread + mean
    if xp.any(xp.abs(found) > limit):
        found = xp.clip(found, -limit, limit)
    return found if is_one(scale) else found / scale


def _cholesky(xp: ModuleType, covariance: Any, device: Any) -> Any:
    """Lower factor L of a covariance, L L' = covariance, also where it is singular.

    The library's own factor serves a matrix of full rank. With a constant column, identical rows or as
    many columns as points, rounding decides whether a library raises, returns NaN or returns noise, so
    the columns that add no variance are left zero instead.
    """
    d = covariance.shape[0]
    variances = xp.linalg.diagonal(covariance)
    negligible = 8 * d * float(xp.finfo(covariance.dtype).eps) * variances
    try:
        factor = xp.linalg.cholesky(covariance)
    except (
        ValueError,
        RuntimeError,
    ):  # what NumPy's and torch's LinAlgError derive from; JAX gives NaN
        factor = None
    if factor is not None and xp.all(xp.linalg.diagonal(factor) ** 2 > negligible):
        return factor
    factor = xp.zeros_like(covariance)
    order = xp.arange(d, device=device)
    for column in range(d):
        here = order == column
        rest = covariance[:, column] - factor @ factor[column, :]
        pivot = rest[column]
        keep = pivot > negligible[column]
        scaled = rest / xp.sqrt(xp.where(keep, pivot, 1.0))
        below = xp.where(keep & (order >= column), scaled, 0.0)
        factor = xp.where(here[None, :], below[:, None], factor)
    return factor


def _rows(problem: Problem, rows: Any) -> Any:
    """Points by their row numbers, in the dtype of centroids.

    The numbers are an array also for a single row: JAX then compiles one gather, not one for each row.
    """
    xp = problem.xp
    index = xp.asarray(rows, device=problem.device)
    return cast(xp, xp.take(problem.x, index, axis=0), problem.dtypes.compute)
