"""K-means until it converges: the native functions' iteration, what stops it, and empty clusters."""

from collections.abc import Callable
from typing import Any, NamedTuple

from xpmeans._core.distances import squared_distances
from xpmeans._core.initial import points_at
from xpmeans._core.precision import cast, is_one, times
from xpmeans._core.problem import Problem
from xpmeans._kernels import Kernel


class Rules(NamedTuple):
    """What a run is asked to do."""

    max_iter: int
    tol: Any  # squared shift of all centroids that ends a run; here in scaled units
    relocate: bool  # empty clusters to the farthest points
    spherical: bool  # centroids on the unit sphere
    inertia: Callable[[Any], Any]  # from a sum of weighted scaled squares
    rounded: Callable[[Any], Any]  # centroids as the caller gets them, who may have half precision
    taken: Callable[[Any], Any]  # and as they are taken when they come back
    on_empty: Callable[[], None] | None  # called at once, on eager arrays
    on_step: Callable[[Any, Any, Any], bool] | None  # callback(n_iter, inertia, centroids), eager too


class State(NamedTuple):
    """Where a run stands."""

    centroids: Any  # (k, d)
    labels: Any  # (n,) nearest to the centroids before
    n_iter: Any
    converged: Any
    verdict: Any  # END, or what is to be done about the last step, as a number
    room: int | None  # for doubtful points, see `Kernel.step`
    kernel_state: Any


# The verdict of a step is the one number that is asked for in an iteration: it ends the run, or the run had
# ended before it; or above, how many clusters are empty; or below, how many points found no room.
END = -1
ENDED = -2


def fit(problem: Problem, kernel: Kernel, kernel_state: Any, mass: Any, first: Any, rules: Rules) -> State:
    """Iterate from `first` until no label changes, the centroids hardly move, or `max_iter` is reached."""
    xp, device, flow = problem.xp, problem.device, problem.flow
    zero = xp.zeros((), dtype=xp.int32, device=device)
    false = zero == 1

    plain = rules.on_step is None and not rules.spherical  # nothing but means comes between two steps
    ahead = getattr(kernel, "ahead", None) if plain else None

    def step(state: State) -> State:
        old, room = state.centroids, state.room
        if ahead is not None and state.verdict == 0:
            run = ahead(state.kernel_state, old, rules.max_iter - state.n_iter, rules.tol, by_labels=True)
            if run is not None:
                n_iter = state.n_iter + run.n_steps
                return State(run.centroids, run.labels, n_iter, run.converged, 0, room, run.state)
        kernel_state, (labels, sums, counts, left, n_changed) = kernel.step(state.kernel_state, old, room)
        n_empty = xp.sum(cast(xp, counts == 0, xp.int32), dtype=xp.int32)
        moved, shift = moved_by(problem, old, sums, counts, rules.spherical)
        if n_changed is not None:
            same = n_changed == 0
        else:
            same = false if state.labels is None else xp.all(labels == state.labels)
        converged = same | (shift <= rules.tol)
        if rules.relocate:  # with empty clusters only `relocated` can tell
            converged = converged & (n_empty == 0)
        ends = converged if rules.on_empty is None else converged & (n_empty == 0)
        verdict = flow.known(_verdict(xp, state, ends, n_empty, left))
        if room is not None and verdict == ENDED:
            return state._replace(verdict=END)
        if room is not None and verdict < ENDED:
            room = min(problem.plan.n, 2 * (room + ENDED - verdict))
            return state._replace(kernel_state=kernel_state, room=room)
        if rules.on_step is not None:
            inertia = rules.inertia(xp.sum(squared_distances(problem, old, labels) * mass))
            if rules.on_step(state.n_iter + 1, inertia, old):
                return State(moved, labels, state.n_iter + 1, state.converged, END, room, kernel_state)
        if rules.on_empty is not None and verdict > 0:
            rules.on_empty()
        if rules.relocate:

            def relocated(_: Any, converged: Any) -> tuple[Any, Any]:
                given = _relocated(problem, mass, old, labels, sums, counts, n_empty=verdict)
                moved, shift = moved_by(problem, old, *given, rules.spherical)
                return moved, converged | (shift <= rules.tol)

            def unchanged(moved: Any, converged: Any) -> tuple[Any, Any]:
                return moved, converged

            moved, converged = flow.branch(verdict > 0, relocated, unchanged, moved, converged)
        return State(moved, labels, state.n_iter + 1, converged, verdict, room, kernel_state)

    unlabelled = None  # a trace keeps the shape of its state
    if flow.traced:
        unlabelled = xp.full(problem.x.shape[0], -1, dtype=xp.int32, device=device)
    start = State(
        *(first, unlabelled, flow.known(zero), false, flow.known(zero)),
        *(None if flow.asks else problem.plan.block, kernel_state),
    )

    def finished(state: State) -> Any:
        done = (state.verdict == END) | (state.n_iter == rules.max_iter)
        return done | state.converged if flow.asks else done

    end: State = flow.iterate(step, start, finished)
    return end


def moved_by(problem: Problem, old: Any, sums: Any, counts: Any, spherical: bool) -> tuple[Any, Any]:
    """Means of the clusters, where one that is empty keeps its place, and the square they moved, scaled."""
    xp, flow = problem.xp, problem.flow
    empty = counts == 0
    wide = cast(xp, old, sums.dtype)
    if flow.asks and not flow.traced and not xp.any(empty):
        means = sums / counts[:, None]
    else:
        means = sums / xp.where(empty, 1.0, counts)[:, None]
        means = xp.where(empty[:, None], times(wide, problem.scale), means)
    if spherical:
        means = on_sphere(xp, means, old)
    moved = cast(xp, means if is_one(problem.scale) else means / problem.scale, problem.dtypes.compute)
    shift = times(cast(xp, moved, means.dtype) - wide, problem.scale)
    return moved, xp.sum(shift * shift)


def _verdict(xp: Any, state: State, ends: Any, n_empty: Any, left: Any) -> Any:
    """What is to be done about a step; see `END`."""
    verdict = xp.where(ends, END, n_empty)
    if state.room is None:
        return verdict
    if left is not None:
        verdict = xp.where(left > 0, ENDED - left, verdict)
    return xp.where(state.converged, ENDED, verdict)


def on_sphere(xp: Any, means: Any, old: Any) -> Any:
    """Means moved out to the unit sphere; one at its middle has no direction, and keeps the old one."""
    norms = xp.sqrt(xp.sum(means * means, axis=1))[:, None]
    return xp.where(norms > 0, means / xp.where(norms > 0, norms, 1.0), cast(xp, old, means.dtype))


def _relocated(
    problem: Problem, mass: Any, old: Any, labels: Any, sums: Any, counts: Any, n_empty: Any
) -> tuple[Any, Any]:
    """Sums and counts with each empty cluster given the point that is then farthest from all centroids.

    One after the other, in the order of the clusters: a point's copies go with it, so that no two clusters go
    to one place, and none goes anywhere when no point lies away from its centroid. The mean of a point's
    copies may round to a neighbour of it, which is not away: two clusters would take turns for ever. The
    point leaves the sum of its cluster, unless so little is left there that rounding would show in the mean.
    """
    xp, flow, dtype = problem.xp, problem.flow, problem.dtypes.sums
    order = xp.arange(old.shape[0], dtype=labels.dtype, device=problem.device)
    nearest = squared_distances(problem, old, labels)
    origin = xp.zeros((1, old.shape[1]), dtype=old.dtype, device=problem.device)
    rounding = (2 * float(xp.finfo(problem.dtypes.compute).eps)) ** 2 * squared_distances(problem, origin)
    nearest = xp.where((mass > 0) & (nearest > rounding), nearest, 0.0)
    least = float(xp.finfo(dtype).eps) ** 0.5

    def step(state: tuple[Any, Any, Any, Any]) -> tuple[Any, Any, Any, Any]:
        to_do, sums, counts, nearest = state
        row = xp.argmax(nearest)[None]
        point = points_at(problem, row)
        squares = squared_distances(problem, point)
        weight = xp.sum(xp.where(squares == 0, mass, 0.0)) * cast(xp, xp.any(nearest > 0), dtype)
        here = order == xp.argmax(cast(xp, counts == 0, xp.int32))
        giver = (order == xp.take(labels, row)) & (counts - weight > least * counts)
        change = weight * (cast(xp, here, dtype) - cast(xp, giver, dtype))
        sums = sums + change[:, None] * (cast(xp, point, dtype) * problem.scale)
        return to_do - 1, sums, counts + change, xp.minimum(nearest, squares)

    def finished(state: tuple[Any, Any, Any, Any]) -> Any:
        done = state[0] <= 0  # below, where `vmap` calls this for a problem that has ended
        return done | (xp.max(state[3]) == 0) if flow.asks else done

    _, sums, counts, _ = flow.iterate(step, (n_empty, sums, counts, nearest), finished)
    return sums, counts
