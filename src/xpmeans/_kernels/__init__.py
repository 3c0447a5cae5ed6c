"""The one hot operation, and which implementation of it serves a call.

Only files in this package may import an array library or a compiler, and only when they are chosen.
"""

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from xpmeans._core.loop import ACCELERATOR, EAGER, Flow
from xpmeans._core.precision import is_one
from xpmeans._kernels import numpy

if TYPE_CHECKING:
    from xpmeans._core.plan import Plan
    from xpmeans._core.problem import Problem
    from xpmeans._dispatch import Context

# What `kernel=` may say.
NAMES = ("reference", "host")
# Largest n k d that is not worth loading a compiler for.
HOST_LIMIT = 100_000


def traced() -> Any:
    """The module for work without values, or compiled as a whole; loaded when JAX arrays are there."""
    from xpmeans._kernels import jax

    return jax


def flow_for(context: "Context") -> Flow:
    """How a call is steered: by Python, or where its values are not known, by its library."""
    if context.traced:
        return traced().FLOW  # type: ignore[no-any-return]
    if context.library == "numpy":
        return HOST
    return ACCELERATOR if context.on_gpu else EAGER


# NumPy counts ten times as fast as it sorts, and writes to the places of an array.
HOST = EAGER._replace(sizes=numpy.sizes, sums=numpy.sums, settle=numpy.settle)


class Step(NamedTuple):
    """What one pass over the points yields; labels are nearest to the centroids of that pass."""

    labels: Any  # (n,) int32
    sums: Any  # (k, d) weighted sums of each centroid's points, times the scale
    counts: Any  # (k,) summed weights of each centroid's points
    left: Any = None  # with a `room`: how many points found none, so that the step must be done again
    n_changed: Any = None  # labels that are not those of the step before, where the kernel knows


class Run(NamedTuple):
    """What several steps in one go yield, each from the means of the one before."""

    state: Any
    centroids: Any  # (k, d) the means of the last one
    labels: Any  # (n,) int32, of the last one, from the centroids before
    n_steps: int
    converged: bool  # the centroids moved by a square of `tol` at most, or as asked for no label changed


class Kernel(Protocol):
    """Find each point's nearest centroid and, per centroid, the weighted sum and count of its points.

    A kernel's state is a tuple of arrays that belongs to the kernel alone: norms, shifts, bounds. A step may
    write to arrays of the state it gets, and to the labels of the step before the last.

    Where steps are short a kernel may have ``ahead(state, centroids, most, tol=0.0, by_labels=False)``: None,
    or a `Run` of up to `most` of them, with the same bits. It stops before one that leaves a cluster empty.
    And ``quality(state, centroids)``: labels, the weighted sum of the squared distances times the scale
    squared, and how many points each centroid has, if that takes less time than from what `assign` yields.
    """

    def start(self, x: Any, weights: Any | None, plan: "Plan") -> Any:
        """Look at the points once; the state that the steps carry."""

    def step(self, state: Any, centroids: Any, room: int | None = None) -> tuple[Any, Step]:
        """One pass: labels, sums and counts for these centroids.

        With a `room` the kernel must not ask for values: it may leave points beyond so many undecided.
        """

    def assign(self, state: Any, centroids: Any) -> tuple[Any, Any]:
        """Labels and, by differences, squared distances times the scale squared; no sums."""


@cache
def compiler_found() -> bool:
    """Whether Numba can be imported; nothing is imported to find out."""
    return find_spec("numba") is not None


def is_compiled(problem: "Problem", k: int) -> bool:
    """Whether compiled code serves a problem by itself, with k centroids at a time."""
    n, d = problem.x.shape
    return n * d * k > HOST_LIMIT and _can_compile(problem, k)


def _can_compile(problem: "Problem", k: int) -> bool:
    """Whether compiled code can serve a problem; labels pass through float32, which counts to 2^24."""
    if not isinstance(problem.x, np.ndarray) or k >= 1 << 24:
        return False
    return bool(problem.finite and problem.scale == 1 and compiler_found())


def require_name(name: Any) -> None:
    """Require what `kernel=` may say."""
    if name not in (None, *NAMES):
        raise ValueError(f"`kernel` must be one of None, {', '.join(map(repr, NAMES))}, got {name!r}.")


def select(problem: "Problem", name: str | None = None) -> Kernel:
    """Pick the kernel for a problem, or the one of this name."""
    from xpmeans._core.brute import LIMIT, BruteForce

    n, d, k, *_ = problem.plan
    facts = (problem.xp, problem.device, problem.dtypes, problem.scale, problem.finite)
    if name is None and n * d * k <= LIMIT and is_one(problem.scale) and not problem.flow.traced:
        if not isinstance(problem.x, np.ndarray):
            return BruteForce(*facts)
        from xpmeans._kernels.small import Small

        return Small(*facts)
    require_name(name)
    if name == "host" and not _can_compile(problem, k):
        raise ValueError(
            "`kernel` 'host' serves arrays in host memory, outside of transformations, whose squares stay in "
            "range, and needs Numba. Hint: None chooses it where it can be."
        )
    if problem.flow.traced:
        kernel: Kernel = traced().Traced(problem.xp, problem.device, problem.dtypes, problem.scale)
        return kernel
    if name == "host" or (name is None and is_compiled(problem, k)):
        from xpmeans._kernels.host import Host

        return Host(*facts)
    from xpmeans._core.nearest import Reference

    return Reference(*facts, problem.flow)


def lazy() -> Any:
    """The module for arrays that are computed block by block; loaded when Dask arrays are there."""
    from xpmeans._kernels import dask

    return dask
