"""The one hot operation, and which implementation of it serves a call.

Only files in this package may import an array library or a compiler, and only when they are chosen.
"""

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from xpmeans._core.loop import ACCELERATOR, EAGER, Flow

if TYPE_CHECKING:
    from xpmeans._core.plan import Plan
    from xpmeans._core.problem import Problem
    from xpmeans._dispatch import Context


def traced() -> Any:
    """The module for work without values, or compiled as a whole; loaded when JAX arrays are there."""
    from xpmeans._kernels import jax

    return jax


def flow_for(context: "Context") -> Flow:
    """How a call is steered: by Python, or where its values are not known, by its library."""
    if context.traced:
        return traced().FLOW  # type: ignore[no-any-return]
    return ACCELERATOR if context.on_gpu else EAGER


class Step(NamedTuple):
    """What one pass over the points yields; labels are nearest to the centroids of that pass."""

    labels: Any  # (n,) int32
    sums: Any  # (k, d) weighted sums of each centroid's points, times the scale
    counts: Any  # (k,) summed weights of each centroid's points
    left: Any = None  # with a `room`: how many points found none, so that the step must be done again


class Kernel(Protocol):
    """Find each point's nearest centroid and, per centroid, the weighted sum and count of its points.

    A kernel's state is a tuple of arrays that belongs to the kernel alone: norms, shifts, bounds.
    """

    def start(self, x: Any, weights: Any | None, plan: "Plan") -> Any:
        """Look at the points once; the state that the steps carry."""

    def step(self, state: Any, centroids: Any, room: int | None = None) -> tuple[Any, Step]:
        """One pass: labels, sums and counts for these centroids.

        With a `room` the kernel must not ask for values: it may leave points beyond so many undecided.
        """

    def assign(self, state: Any, centroids: Any) -> tuple[Any, Any]:
        """Labels and, by differences, squared distances times the scale squared; no sums."""


def select(problem: "Problem", name: str | None = None) -> Kernel:
    """Pick the kernel for a problem, or the one of this name."""
    from xpmeans._core.brute import LIMIT, BruteForce
    from xpmeans._core.nearest import Reference
    from xpmeans._core.precision import is_one

    n, d, k, *_ = problem.plan
    if name not in (None, "reference"):
        raise ValueError(f"`kernel` must be None or 'reference', got {name!r}.")
    if problem.flow.traced:
        kernel: Kernel = traced().Traced(problem.xp, problem.device, problem.dtypes, problem.scale)
        return kernel
    small = n * d * k <= LIMIT and is_one(problem.scale)
    kind = BruteForce if small and name is None else Reference
    return kind(problem.xp, problem.device, problem.dtypes, problem.scale, problem.finite)
