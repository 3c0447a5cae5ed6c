"""K-means until it converges: the native functions' iteration, what stops it, and empty clusters."""

from collections.abc import Callable
from typing import Any, NamedTuple

from xpmeans._core.distances import squared_distances
from xpmeans._core.initial import points_at
from xpmeans._core.precision import cast
from xpmeans._core.problem import Problem
from xpmeans._kernels import Kernel


class Rules(NamedTuple):
    """What a run is asked to do."""

    max_iter: int
    tol: Any  # squared shift of all centroids that ends a run; here in scaled units
    relocate: bool  # empty clusters to the farthest points
    spherical: bool  # centroids on the unit sphere
    unit: float  # what a weighted scaled square counts in the inertia
    rounded: Callable[[Any], Any]  # centroids as the caller gets them, who may have half precision
    on_empty: Callable[[], None] | None  # called at once, on eager arrays
    on_step: Callable[[Any, Any, Any], bool] | None  # callback(n_iter, inertia, centroids), eager too


class State(NamedTuple):
    """Where a run stands."""

    centroids: Any  # (k, d)
    labels: Any  # (n,) nearest to the centroids before
    n_iter: Any
    converged: Any
    stopped: Any  # by the callback
    kernel_state: Any


def fit(problem: Problem, kernel: Kernel, kernel_state: Any, mass: Any, first: Any, rules: Rules) -> State:
    """Iterate from `first` until no label changes, the centroids hardly move, or `max_iter` is reached."""
    xp, device = problem.xp, problem.device

    def step(state: State) -> State:
        old = state.centroids
        kernel_state, (labels, sums, counts) = kernel.step(state.kernel_state, old)
        stopped = state.stopped
        if rules.on_step is not None:
            inertia = xp.sum(squared_distances(problem, old, labels) * mass) * rules.unit
            stopped = rules.on_step(state.n_iter + 1, inertia, old)
        empty = counts == 0
        means = sums / xp.where(empty, 1.0, counts)[:, None]
        means = xp.where(empty[:, None], cast(xp, old, means.dtype) * problem.scale, means)
        if rules.spherical:
            means = _on_sphere(xp, means, old)
        if rules.on_empty is not None and xp.any(empty):
            rules.on_empty()
        if rules.relocate:

            def relocated(means: Any) -> Any:
                return _relocated(problem, mass, means, old, labels, empty)

            means = problem.flow.branch(xp.any(empty), relocated, lambda means: means, means)
        moved = cast(xp, means / problem.scale, problem.dtypes.compute)
        shift = (cast(xp, moved, means.dtype) - cast(xp, old, means.dtype)) * problem.scale
        converged = xp.all(labels == state.labels) | (xp.sum(shift * shift) <= rules.tol)
        return State(moved, labels, state.n_iter + 1, converged, stopped, kernel_state)

    false = xp.zeros((), dtype=xp.bool, device=device)
    unlabelled = xp.full(problem.x.shape[0], -1, dtype=xp.int32, device=device)
    zero = xp.zeros((), dtype=xp.int32, device=device)
    start = State(first, unlabelled, zero, false, false, kernel_state)
    end: State = problem.flow.iterate(
        step, start, lambda s: s.converged | s.stopped | (s.n_iter == rules.max_iter)
    )
    return end


def _on_sphere(xp: Any, means: Any, old: Any) -> Any:
    """Means moved out to the unit sphere; one at its middle has no direction, and keeps the old one."""
    norms = xp.sqrt(xp.sum(means * means, axis=1))[:, None]
    return xp.where(norms > 0, means / xp.where(norms > 0, norms, 1.0), cast(xp, old, means.dtype))


def _relocated(problem: Problem, mass: Any, means: Any, old: Any, labels: Any, empty: Any) -> Any:
    """Scaled means with each empty cluster moved to the point that is then farthest from all centroids.

    One after the other, in the order of the clusters: a point's copies are near once it is taken, so that no
    two clusters go to one place, and it ends when no point lies away from its centroid. The mean of a point's
    copies may round to a neighbour of it, which is not away: two clusters would take turns for ever.
    """
    xp = problem.xp
    order = xp.arange(means.shape[0], device=problem.device)
    nearest = squared_distances(problem, old, labels)
    origin = xp.zeros((1, means.shape[1]), dtype=means.dtype, device=problem.device)
    rounding = (2 * float(xp.finfo(problem.dtypes.compute).eps)) ** 2 * squared_distances(problem, origin)
    nearest = xp.where((mass > 0) & (nearest > rounding), nearest, 0.0)

    def step(state: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        means, empty, nearest = state
        here = order == xp.argmax(cast(xp, empty, xp.int32))
        point = points_at(problem, xp.argmax(nearest)[None])
        means = xp.where(here[:, None], cast(xp, point, means.dtype) * problem.scale, means)
        return means, empty & ~here, xp.minimum(nearest, squared_distances(problem, point))

    def finished(state: tuple[Any, Any, Any]) -> Any:
        return ~xp.any(state[1]) | (xp.max(state[2]) == 0)

    return problem.flow.iterate(step, (means, empty, nearest), finished)[0]
