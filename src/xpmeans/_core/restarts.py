"""The best of several runs, and an answer whose parts all belong to one iteration."""

from collections.abc import Callable
from typing import Any, NamedTuple

import array_api_extra as xpx

from xpmeans._core.distances import inertia_of
from xpmeans._core.fit import Rules, fit
from xpmeans._core.initial import variance_of
from xpmeans._core.precision import cast
from xpmeans._core.problem import Problem
from xpmeans._kernels import Kernel


class Answer(NamedTuple):
    """Labels are nearest to the centroids; inertia and counts are those of the labels."""

    centroids: Any  # (k, d) rounded to what the caller gets
    labels: Any  # (n,) int32
    inertia: Any  # () in the dtype of sums
    counts: Any  # (k,) points of each cluster, whatever their weights
    n_iter: Any
    converged: Any


def best_of(
    problem: Problem,
    kernel: Kernel,
    mass: Any,
    n_runs: int,
    first: Callable[[Any], Any],
    rules: Rules,
) -> Answer:
    """Make `n_runs` runs, the i-th from `first(i)`; the least inertia wins, and of equal ones the earlier.

    Equal up to rounding: two runs often end with the same clusters in another order, and which order is
    returned must not depend on how a library sums.
    """
    xp, flow, below = problem.xp, problem.flow, clearly_less(problem)
    kernel_state = kernel.start(problem.x, mass, problem.plan)
    if rules.tol:
        rules = rules._replace(tol=rules.tol * variance_of(problem, mass))

    def run(i: Any) -> Answer:
        state = fit(problem, kernel, kernel_state, mass, first(i), rules)
        centroids = rules.rounded(state.centroids)
        labels, inertia, sizes = _quality(problem, kernel, state.kernel_state, rules.taken(centroids), mass)
        n_iter = xp.asarray(state.n_iter, dtype=xp.int32, device=problem.device)
        return Answer(centroids, labels, inertia, sizes, n_iter, state.converged)

    def step(i: Any, best: Answer) -> Answer:
        other = run(i)
        return flow.branch(other.inertia < best.inertia * below, lambda: other, lambda: best)  # type: ignore[no-any-return]

    best: Answer = flow.repeat(1, n_runs, step, run(0))
    return best._replace(inertia=rules.inertia(best.inertia))


def clearly_less(problem: Problem) -> float:
    """The factor below which an inertia is less than another by more than rounding."""
    return 1 - 64 * float(problem.xp.finfo(problem.dtypes.sums).eps)


def _quality(problem: Problem, kernel: Kernel, state: Any, centroids: Any, mass: Any) -> tuple[Any, Any, Any]:
    """Labels; the inertia, scaled, for out of range all would be equal; and points of each cluster."""
    xp, device = problem.xp, problem.device
    if hasattr(kernel, "quality"):
        labels, inertia, sizes = kernel.quality(state, centroids)
    else:
        labels, squares = kernel.assign(state, centroids)
        inertia = inertia_of(problem, squares, mass)
        sizes = problem.flow.sizes(xp, labels, problem.plan.k, device)
    return labels, inertia, cast(xp, sizes, xpx.default_dtype(xp, "indexing", device=device))
