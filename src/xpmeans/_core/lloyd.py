"""Lloyd's algorithm: label each point by its nearest centroid, move each centroid to its points' mean."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from xpmeans._core.distances import distances, squared_distances
from xpmeans._core.loop import iterate
from xpmeans._core.precision import cast, is_one
from xpmeans._core.problem import Problem
from xpmeans._kernels import Kernel

# Iterations after which `refine` gives up, should a book never come again.
LIMIT = 10_000


class ClusterError(Exception):
    """A cluster is empty, and an error was asked for."""

    __module__ = "xpmeans.vq"  # where users find it


class Lloyd(NamedTuple):
    """Where the iteration stands; labels are nearest to the centroids before the last update."""

    centroids: Any  # (k, d)
    labels: Any | None  # (n,) int32
    empty: bool  # whether any cluster was empty in any iteration
    n_iter: int
    settled: bool  # whether the centroids stayed where they were, bit for bit
    kernel_state: Any


def lloyd(
    problem: Problem,
    kernel: Kernel,
    centroids: Any,
    n_iter: int,
    on_empty: Callable[[], None] | None = None,
) -> Lloyd:
    """Run `n_iter` iterations; an empty cluster calls `on_empty` and keeps its centroid.

    Where the centroids stay in place all iterations that are left would do the same, and are not made.
    """
    xp, ahead = problem.xp, getattr(kernel, "ahead", None)

    def step(state: Lloyd) -> Lloyd:
        if ahead is not None and not state.empty:
            run = ahead(state.kernel_state, state.centroids, n_iter - state.n_iter)
            if run is not None:
                n_done = state.n_iter + run.n_steps
                return Lloyd(run.centroids, run.labels, False, n_done, run.converged, run.state)
        kernel_state, (labels, sums, counts, *_) = kernel.step(state.kernel_state, state.centroids)
        members = counts[:, None]
        empty = int(xp.count_nonzero(counts)) < counts.shape[0]
        if empty:
            if on_empty is not None:
                on_empty()
            means = sums / xp.where(members > 0, members, 1.0) / problem.scale
            means = xp.where(members > 0, means, cast(xp, state.centroids, means.dtype))
        else:
            means = sums / members
            if not is_one(problem.scale):
                means = means / problem.scale
        moved = cast(xp, means, problem.dtypes.compute)
        wide = problem.dtypes.sums  # the first centroids may have any dtype
        changed = cast(xp, moved, wide) != cast(xp, state.centroids, wide)
        settled = int(xp.count_nonzero(changed)) == 0
        return Lloyd(moved, labels, state.empty or empty, state.n_iter + 1, settled, kernel_state)

    start = Lloyd(centroids, None, False, 0, False, kernel.start(problem.x, None, problem.plan))
    return iterate(step, start, lambda state: state.settled or state.n_iter == n_iter)


class Refinement(NamedTuple):
    """Where `refine` stands; the distortion belongs to the book before the last update, as SciPy's does."""

    book: Any  # (k, d), k being the clusters that have members
    distortion: float  # mean distance of the points that are finite
    settled: bool
    n_iter: int
    landmark: Any  # an earlier book
    kernel_state: Any


def refine(problem: Problem, kernel: Kernel, kernel_state: Any, book: Any, thresh: float) -> Refinement:
    """Iterate until the mean distance changes by `thresh` at most; clusters that lose all points are dropped.

    Rounding can lead through a circle of books whose distortions differ by more than `thresh`. The book
    decides all that follows, so the iteration ends when one comes again, found by Brent's method: compare
    with the book of the last iteration whose number is a power of two (BIT 20, 1980).
    """
    xp = problem.xp

    def step(state: Refinement) -> Refinement:
        kernel_state, (labels, sums, counts, *_) = kernel.step(state.kernel_state, state.book)
        n_points = float(xp.sum(counts))
        if n_points == 0:  # not one point is finite
            book = xp.asarray(state.book, copy=True)  # it may be the caller's
            return state._replace(book=book, distortion=math.nan, settled=True)
        squares = squared_distances(problem, state.book, labels)
        lengths = distances(problem, state.book, labels, squares)
        if not problem.finite and xp.any(xp.isfinite(lengths)):  # else not one code is finite
            lengths = xp.where(xp.isfinite(lengths), lengths, 0.0)
        distortion = float(xp.sum(lengths)) / n_points / problem.scale
        if not xp.all(counts):
            kept = xp.nonzero(counts)[0]
            sums, counts = xp.take(sums, kept, axis=0), xp.take(counts, kept)
        moved = cast(xp, sums / counts[:, None] / problem.scale, problem.dtypes.compute)
        n_iter = state.n_iter + 1
        repeated = moved.shape == state.landmark.shape and bool(xp.all(moved == state.landmark))
        return Refinement(
            moved,
            distortion,
            settled=repeated or abs(state.distortion - distortion) <= thresh,
            n_iter=n_iter,
            landmark=moved if n_iter & (n_iter - 1) == 0 else state.landmark,
            kernel_state=kernel_state,
        )

    start = Refinement(book, math.inf, False, 0, cast(xp, book, problem.dtypes.sums), kernel_state)
    return iterate(step, start, lambda state: state.settled or state.n_iter == LIMIT)
