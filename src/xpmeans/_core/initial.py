"""First centroids of the native functions, from uniform numbers that were drawn beforehand.

Nothing but uniforms is drawn, all of them before the work, in arrays whose shapes follow from k alone. So
one seed gives one answer eagerly and under a trace. A choice inverts the cumulative weights: a point of
weight 3 is chosen by the same numbers as three copies of it in its place.
"""

from collections.abc import Callable
from typing import Any

from xpmeans._core.distances import squared_distances
from xpmeans._core.precision import cast
from xpmeans._core.problem import Problem, plan_for
from xpmeans._core.stream import Window
from xpmeans._kernels import is_compiled, select

# Passes over the data that "k-means||" makes, and candidates each of them adds, as multiples of k: the
# setting of its authors' experiments, which later found no gain in more (VLDB 2012, section 5).
ROUNDS = 5
OVERSAMPLING = 2

# Two candidates of a greedy step count as equally good when their potentials differ by rounding only.
TIE = 1e-9


def mean_of(problem: Problem, mass: Any) -> Any:
    """Mean (d,) of the scaled points, weighted by `mass`."""
    xp, dtype = problem.xp, problem.dtypes.sums

    def part(window: Window) -> Any:
        return window.weights(mass) @ (cast(xp, window(problem.x), dtype) * problem.scale)

    return problem.flow.total(problem.x.shape[0], problem.plan.rows, part) / xp.sum(mass)


def variance_of(problem: Problem, mass: Any) -> Any:
    """Average of the columns' variances of the scaled points, weighted by `mass`."""
    mean = mean_of(problem, mass) / problem.scale
    squares = squared_distances(problem, mean[None, :])
    return problem.xp.sum(squares * mass) / problem.xp.sum(mass) / problem.x.shape[1]


def random(problem: Problem, mass: Any, uniforms: Any) -> Any:
    """Row numbers (k,) of different points, each drawn in proportion to its weight among those left.

    A draw falls into the weights laid end to end, less those of the points that were taken; it is moved
    right by the taken ones before it. O(n + k^2 log k), with one cumulative sum.
    """
    xp = problem.xp
    k = uniforms.shape[0]
    ends = xp.cumulative_sum(mass)
    order = xp.arange(k, device=problem.device)

    def step(i: Any, state: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        chosen, starts, widths = state
        place = uniforms[i][None] * (ends[-1] - xp.sum(widths))
        by_start = xp.argsort(starts, stable=True)
        left, width = xp.take(starts, by_start), xp.take(widths, by_start)
        closed_up = left - (xp.cumulative_sum(width) - width)
        place = place + xp.sum(xp.where(closed_up <= place, width, 0.0))
        row = interval(xp, ends, place)
        here = order == i
        chosen = xp.where(here, cast(xp, row, chosen.dtype), chosen)
        widths = xp.where(here, xp.take(mass, row), widths)
        starts = xp.where(here, xp.take(ends, row) - xp.take(mass, row), starts)
        return chosen, starts, widths

    nowhere = xp.full(k, xp.inf, dtype=ends.dtype, device=problem.device)
    start = (xp.zeros_like(order), nowhere, xp.zeros_like(nowhere))
    return problem.flow.repeat(0, k, step, start)[0]


def plus_plus(problem: Problem, mass: Any, uniforms: Any) -> Any:
    """Row numbers (k,) by greedy k-means++: of several candidates the one that lowers the inertia most.

    `uniforms` is (k, number of candidates). Arthur and Vassilvitskii, SODA 2007, section 4; the draw is in
    proportion to weight times squared distance, or to weight when all distances are zero. O(nkd) for each
    candidate.
    """
    if is_compiled(problem, uniforms.shape[1]):
        from xpmeans._kernels import seeding

        return seeding.plus_plus(problem.x, mass, uniforms, TIE)
    xp, device = problem.xp, problem.device
    k, n_candidates = uniforms.shape
    if not problem.flow.traced:  # for a few candidates; chunks as for 64 centroids fit the caches best
        plan = plan_for(xp, problem.x, max(n_candidates, min(k, 64)), problem.dtypes, problem.flow)
        problem = problem._replace(plan=plan)
    mean = mean_of(problem, mass)
    first = _pick(xp, mass, mass, uniforms[0, :1])
    order = xp.arange(k, device=device)

    def step(i: Any, state: tuple[Any, Any]) -> tuple[Any, Any]:
        chosen, nearest = state
        candidates = _pick(xp, mass * nearest, mass, uniforms[i, :])
        potentials = _potentials(problem, mean, mass, nearest, candidates)
        good = potentials <= xp.min(potentials) * (1 + TIE)
        row = xp.take(candidates, xp.argmax(cast(xp, good, xp.int32))[None])
        chosen = xp.where(order == i, cast(xp, row, chosen.dtype), chosen)
        return chosen, xp.minimum(nearest, squared_distances(problem, points_at(problem, row)))

    start = xp.where(order == 0, cast(xp, first, order.dtype), 0)
    nearest = squared_distances(problem, points_at(problem, first))
    return problem.flow.repeat(1, k, step, (start, nearest))[0]


def parallel(problem: Problem, mass: Any, draws: Any, thinning: Any) -> Any:
    """Row numbers (k,) by k-means||: rounds of many candidates at once, thinned out by `plus_plus`.

    Bahmani et al., "Scalable k-means++", VLDB 2012, with a fixed number of draws a round instead of one coin
    for each point. `draws` are (1 + ROUNDS * OVERSAMPLING * k,), `thinning` the uniforms of `plus_plus`.
    """
    xp = problem.xp
    size = (draws.shape[0] - 1) // ROUNDS
    chosen = [_pick(xp, mass, mass, draws[:1])]
    nearest = squared_distances(problem, points_at(problem, chosen[0]))
    plan = plan_for(xp, problem.x, draws.shape[0], problem.dtypes, problem.flow)
    kernel = select(problem)
    state = kernel.start(problem.x, mass, plan)
    for first in range(1, draws.shape[0], size):
        rows = _pick(xp, mass * nearest, mass, draws[first : first + size])
        chosen.append(rows)
        _, squares = kernel.assign(state, points_at(problem, rows))
        nearest = xp.minimum(nearest, squares)
    candidates = xp.concat(chosen)
    book = points_at(problem, candidates)
    _, (_, _, weights, *_) = kernel.step(state, book)
    few = problem._replace(x=book, plan=plan_for(xp, book, thinning.shape[0], problem.dtypes, problem.flow))
    return xp.take(candidates, plus_plus(few, weights, thinning))


def points_at(problem: Problem, rows: Any) -> Any:
    """Points by their row numbers, in the dtype of centroids."""
    return cast(problem.xp, problem.xp.take(problem.x, rows, axis=0), problem.dtypes.compute)


def _pick(xp: Any, weights: Any, fallback: Any, uniforms: Any) -> Any:
    """Row numbers drawn in proportion to `weights`, or to `fallback` when all weights are zero."""
    weights = xp.where(xp.any(weights > 0), weights, fallback)
    ends = xp.cumulative_sum(weights)
    return interval(xp, ends, uniforms * ends[-1])


def interval(xp: Any, ends: Any, places: Any) -> Any:
    """The interval that each place falls into, never one of width zero, nor past the end by rounding."""
    last = xp.searchsorted(ends, ends[-1:])
    return xp.minimum(xp.searchsorted(ends, places, side="right"), last)


def _potentials(problem: Problem, mean: Any, mass: Any, nearest: Any, candidates: Any) -> Any:
    """The inertia that each candidate (m,) would leave, (m,).

    By products in the dtype of sums, several times faster than by differences: it only ranks candidates.
    """
    xp, dtype = problem.xp, problem.dtypes.sums

    def shifted(points: Any) -> Any:
        return cast(xp, points, dtype) * problem.scale - mean

    book = shifted(points_at(problem, candidates))
    half_squares = xp.sum(book * book, axis=1) * 0.5
    ones = xp.ones(book.shape[1], dtype=dtype, device=problem.device)

    def part(window: Window) -> Any:
        points = shifted(window(problem.x))
        halves = ((points * points) @ ones * 0.5)[None, :] + half_squares[:, None] - book @ points.T
        squares = xp.minimum(2 * xp.clip(halves, min=0.0), window(nearest)[None, :])
        return squares @ window.weights(mass)

    return problem.flow.total(problem.x.shape[0], problem.plan.rows, part)


ROWS: dict[str, Callable[..., Any]] = {"random": random, "k-means++": plus_plus, "k-means||": parallel}
