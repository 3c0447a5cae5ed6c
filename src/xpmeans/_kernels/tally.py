"""Sums over the points of each cluster that depend on the labels alone, not on how these were found.

What a kernel's step adds up may round by the steps before it, or by which points it settled late. Here the
same points and labels give the same bits, in any process and however often they are asked for.
"""

from functools import cache
from typing import Any

import numpy as np

from xpmeans._core import threads
from xpmeans._core.precision import cast, times
from xpmeans._core.problem import Problem
from xpmeans._core.stream import chunks
from xpmeans._kernels import compiler_found

# Points that are added up in one go; and at most so many goes, whatever the number of threads.
ROWS = 1 << 16
STRANDS = 16


def tally(problem: Problem, mass: Any | None, labels: Any) -> tuple[Any, Any]:
    """Per centroid the sum (k, d) of its points, times `mass` and the scale, and the sum (k,) of `mass`."""
    if not isinstance(problem.x, np.ndarray):
        return _products(problem, mass, labels)
    (n, d), k = problem.x.shape, problem.plan.k
    count = max(1, min(STRANDS, n // ROWS, (1 << 22) // (k * (d + 1))))
    edges = [n * i // count for i in range(count + 1)]
    totals = np.zeros((count, k, d + 1))
    add = _compiled() if compiler_found() else _counted
    scale = float(problem.scale)

    def work(i: int) -> None:
        rows = slice(edges[i], edges[i + 1])
        points = problem.x[rows]
        if points.dtype not in (np.float32, np.float64):
            points = points.astype(np.float32 if points.dtype == np.float16 else np.float64)
        weights = np.ones(0) if mass is None else np.ascontiguousarray(mass[rows])
        add(np.ascontiguousarray(points), weights, np.ascontiguousarray(labels[rows]), scale, totals[i])

    threads.run(work, count)
    whole = totals.sum(axis=0)
    return whole[:, :d], whole[:, d]


def _add(x: Any, weights: Any, labels: Any, scale: float, totals: Any) -> None:
    """Add up points as they come; the last column counts them."""
    d = x.shape[1]
    for i in range(x.shape[0]):
        c = labels[i]
        if weights.size:
            w = weights[i]
            for j in range(d):
                totals[c, j] += np.float64(x[i, j]) * scale * w
            totals[c, d] += w
        else:
            for j in range(d):
                totals[c, j] += np.float64(x[i, j]) * scale
            totals[c, d] += 1.0


@cache
def _compiled() -> Any:
    import numba

    return numba.njit(nogil=True, cache=True, error_model="numpy")(_add)


def _counted(x: Any, weights: Any, labels: Any, scale: float, totals: Any) -> None:
    """The same without a compiler."""
    k, width = totals.shape
    mass = weights if weights.size else None
    for j in range(width - 1):
        column = x[:, j].astype(np.float64) * scale
        totals[:, j] = np.bincount(labels, column if mass is None else column * mass, minlength=k)
    totals[:, -1] = np.bincount(labels, mass, minlength=k)


def _products(problem: Problem, mass: Any | None, labels: Any) -> tuple[Any, Any]:
    """The same where arrays are not in host memory: a product for each chunk."""
    xp, dtype = problem.xp, problem.dtypes.sums
    index = xp.arange(problem.plan.k, dtype=labels.dtype, device=problem.device)[:, None]
    sums: Any = 0.0
    counts: Any = 0.0
    for rows in chunks(problem.plan.n, problem.plan.rows):
        members = cast(xp, index == labels[rows][None, :], dtype)
        if mass is not None:
            members = members * mass[rows][None, :]
        sums = sums + members @ times(cast(xp, problem.x[rows, ...], dtype), problem.scale)
        counts = counts + xp.sum(members, axis=1)
    return sums, counts
