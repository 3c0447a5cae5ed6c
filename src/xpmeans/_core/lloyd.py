"""Lloyd's algorithm: label each point by its nearest centroid, move each centroid to its points' mean."""

from collections.abc import Callable
from typing import Any, NamedTuple

from xpmeans._core.loop import iterate
from xpmeans._core.precision import cast
from xpmeans._core.problem import Problem
from xpmeans._kernels import Kernel


class Lloyd(NamedTuple):
    """Where the iteration stands; labels are nearest to the centroids before the last update."""

    centroids: Any  # (k, d)
    labels: Any | None  # (n,) int32
    empty: bool  # whether any cluster was empty in any iteration
    n_iter: int
    kernel_state: Any


def lloyd(
    problem: Problem,
    kernel: Kernel,
    centroids: Any,
    n_iter: int,
    on_empty: Callable[[], None] | None = None,
) -> Lloyd:
    """Run `n_iter` iterations; an empty cluster calls `on_empty` and keeps its centroid."""
    xp = problem.xp

    def step(state: Lloyd) -> Lloyd:
        kernel_state, (labels, sums, counts) = kernel.step(state.kernel_state, state.centroids)
        members = counts[:, None]
        empty = not xp.all(counts)
        if empty:
            if on_empty is not None:
                on_empty()
            means = sums / xp.where(members > 0, members, 1.0)
            means = xp.where(members > 0, means, cast(xp, state.centroids, means.dtype))
        else:
            means = sums / members
        moved = cast(xp, means, problem.dtypes.compute)
        return Lloyd(moved, labels, state.empty or empty, state.n_iter + 1, kernel_state)

    start = Lloyd(centroids, None, False, 0, kernel.start(problem.x, None, problem.plan))
    return iterate(step, start, lambda state: state.n_iter == n_iter)
