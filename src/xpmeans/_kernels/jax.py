"""JAX inside a transformation: loops that compile once, and the reference kernel written with them.

Nothing here may look at a value. Chunks all have one size, the last one overlaps the one before it, and the
points that rounding leaves open are decided by a loop of as many blocks as there are.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from xpmeans._core.distances import squared_distances
from xpmeans._core.loop import Flow
from xpmeans._core.nearest import Book, Reference
from xpmeans._core.plan import ACCELERATOR_BUDGET, BUDGET, Plan, make_plan
from xpmeans._core.precision import Precision, cast
from xpmeans._core.problem import Problem
from xpmeans._kernels import Step

# Temporary arrays up to which a pass that makes one value a point runs in one piece. XLA keeps what does not
# change out of the loops around it, and runs the body of a loop within a loop on one core: in chunks,
# k-means++ takes 2.4 times as long on two.
WHOLE = 160 << 20

# Points labelled at once on the CPU: of few centroids more would fit the budget, and take up to four times as
# long a point, for XLA reads scores by columns.
ROWS = 2048

# Points settled at once: the last block is filled up, and loops are compiled whatever the size.
BLOCK = 256


def iterate(step: Callable[[Any], Any], state: Any, finished: Callable[[Any], Any]) -> Any:
    """The one loop, as JAX has it."""
    return lax.while_loop(lambda state: ~finished(state), step, state)


def row_sums(_xp: ModuleType, table: Any, _device: Any) -> Any:
    """Sums of the rows, which XLA makes without ever holding the table; of a product it would."""
    return jnp.sum(table, axis=1)


def for_each(
    _xp: ModuleType, solve: Callable[..., Any], arrays: tuple[Any, ...], batched: tuple[bool, ...]
) -> Any:
    """Solve all problems of a batch at once; what is not batched, they share."""
    return jax.vmap(solve, in_axes=tuple(0 if own else None for own in batched))(*arrays)


def itself(value: Any) -> Any:
    """A value that decides; `lax` takes it as it is."""
    return value


class Window:
    """Rows from `first`, which is not known; chunks have one size, so the last overlaps the one before it."""

    def __init__(self, i: Any, n: int, size: int) -> None:
        self._size = size
        self.first = jnp.minimum(i * size, n - size)
        self._fresh = self.first + jnp.arange(size) >= i * size

    def __call__(self, array: Any) -> Any:
        """These rows of an array."""
        return lax.dynamic_slice_in_dim(array, self.first, self._size)

    def weights(self, array: Any) -> Any:
        """The same of weights; zero for rows that the chunk before has too."""
        return jnp.where(self._fresh, self(array), 0.0)

    def put(self, array: Any, part: Any) -> Any:
        """The array with these rows replaced."""
        return lax.dynamic_update_slice_in_dim(array, part, self.first, 0)


def column(_xp: ModuleType, n: int, size: int, dtype: Any, _device: Any, part: Callable[[Any], Any]) -> Any:
    """A value for each of n points, from chunks of that size."""

    def chunk(i: Any, whole: Any) -> Any:
        window = Window(i, n, size)
        return window.put(whole, part(window).astype(dtype))

    return lax.fori_loop(0, -(-n // size), chunk, jnp.zeros(n, dtype))


def total(n: int, size: int, part: Callable[[Any], Any]) -> Any:
    """A sum over n points, from chunks of that size."""

    def chunk(i: Any, sums: Total) -> Total:
        return sums.plus(part(Window(i, n, size)))

    shape = jax.eval_shape(lambda: part(Window(0, n, size)))
    zero = jnp.zeros(shape.shape, shape.dtype)
    sums = lax.fori_loop(0, -(-n // size), chunk, Total(zero, zero))
    return sums.value + sums.lost


FLOW = Flow(iterate, lax.fori_loop, lax.cond, itself, column, total, row_sums, for_each, traced=True)


def in_trace(
    function: Callable[..., tuple[Any, ...]],
    static: tuple[Any, ...],
    per_point: tuple[bool | None, ...],
    draws: Any,
    arrays: tuple[Any, ...],
) -> tuple[Any, ...]:
    """``function(*static, draws, *arrays)``, as part of a trace.

    A mesh's explicit axes are left to the compiler, but for what comes out: `per_point` it is spread like the
    points, else like the batch, or with None not at all.
    """
    call = partial(function, *static, draws)
    meshes = [jax.typeof(array).sharding.mesh for array in arrays if array is not None]
    mesh = next((mesh for mesh in meshes if AxisType.Explicit in mesh.axis_types), None)
    if mesh is None:
        return call(*arrays)
    spec = jax.typeof(arrays[0]).sharding.spec
    axes = {True: spec[:-1], False: spec[:-2], None: ()}
    specs = (PartitionSpec(*axes[own]) for own in per_point)  # type: ignore[no-untyped-call]
    out = tuple(NamedSharding(mesh, spec) for spec in specs)
    return jax.sharding.auto_axes(call, out_sharding=out)(*arrays)  # type: ignore[no-any-return]


compiled = jax.jit(in_trace, static_argnums=(0, 1, 2))


class Facts(NamedTuple):
    """What is checked of the values of an array."""

    finite: bool
    least: float
    largest: float
    zero_row: int  # the first row of zeros, or -1


def facts_of(array: Any) -> Facts:
    """Look at the values of an array, wherever its parts lie."""
    return Facts(*(fact.item() for fact in compiled(_facts, (), (None,) * 4, None, (array,))))


def _facts(_: None, array: Any) -> tuple[Any, ...]:
    zero_rows = jnp.ravel(jnp.all(array == 0, axis=-1))
    first = jnp.where(jnp.any(zero_rows), jnp.argmax(zero_rows), -1)
    return jnp.all(jnp.isfinite(array)), jnp.min(array), jnp.max(array), first


class State(NamedTuple):
    """What a step needs of the points."""

    x: Any  # (n, d) as the caller gave them
    weights: Any  # (n,) in the dtype of sums
    shift: Any  # (d,) mean of the points
    norms: Any  # (n,) distance of each point from `shift`


class Total(NamedTuple):
    """A sum and what its rounding lost: without float64, counts would stop at 2^24 (Kahan, CACM 1965)."""

    value: Any
    lost: Any

    def plus(self, term: Any) -> "Total":
        """The sum with one more term."""
        term = term + self.lost
        value = self.value + term
        return Total(value, term - (value - self.value))


class Sums(NamedTuple):
    """Weighted sums and counts of each centroid's points."""

    sums: Total  # (k, d)
    counts: Total  # (k,)

    def plus(self, points: Any, weights: Any, labels: Any) -> "Sums":
        """The sums with more points."""
        add = partial(jax.ops.segment_sum, segment_ids=labels, num_segments=self.counts.value.shape[0])
        return Sums(self.sums.plus(add(points * weights[:, None])), self.counts.plus(add(weights)))


def traced_problem(xp: ModuleType, x: Any, k: int, dtypes: Precision) -> Problem:
    """A problem of unknown values.

    The scale is that of `precision.scale_for`.
    """
    n, d = x.shape
    limits = xp.finfo(dtypes.compute)
    largest = cast(xp, jnp.max(jnp.where(jnp.isfinite(x), jnp.abs(x), 0)), dtypes.compute)
    safe = math.sqrt(float(limits.max) / 64 / (n * d))
    tiny = (largest > 0) & (largest < float(limits.max) ** -0.25)
    exponent = jnp.frexp(largest)[1]
    down = math.frexp(safe)[1] - 1 - exponent
    up = jnp.minimum(math.frexp(float(limits.max))[1] - 2, -exponent)
    power = jnp.where(largest > safe, down, jnp.where(tiny, up, 0))
    scale = jnp.ldexp(jnp.ones((), largest.dtype), power)
    plan = _plan(n, d, k, dtypes)
    if n * (2 * d * jnp.dtype(dtypes.sums).itemsize + 128) <= WHOLE:
        plan = plan._replace(rows=n)
    return Problem(xp, None, x, dtypes, plan, scale, True, FLOW)


def power_of_two(value: Any) -> Any:
    """The power of two at or below a value, exactly; the `2.0 ** exponent` of XLA is not always one."""
    return jnp.ldexp(jnp.ones((), value.dtype), jnp.frexp(value)[1] - 1)


def _plan(n: int, d: int, k: int, dtypes: Precision) -> Plan:
    """Chunks for where the program will run; that is not asked of arrays, for tracers are on no device."""
    budget = BUDGET if jax.default_backend() == "cpu" else ACCELERATOR_BUDGET
    return make_plan(n, d, k, jnp.dtype(dtypes.compute).itemsize, budget, cached=budget)


@dataclass(frozen=True)
class Traced(Reference):
    """The reference kernel under a trace; its numbers and its bounds, another way through the data."""

    def start(self, x: Any, weights: Any, plan: Plan) -> State:  # type: ignore[override]  # noqa: ARG002
        """Find the shift and each point's distance from it."""
        if weights is None:
            weights = jnp.ones(x.shape[0], self.dtypes.sums)
        mean = jnp.mean(cast(self.xp, x, self.dtypes.sums) * self.scale, axis=0)
        shift = cast(self.xp, mean, self.dtypes.compute)
        points = self._scaled(x) - shift
        return State(x, weights, shift, jnp.sqrt(jnp.sum(points * points, axis=1)))

    def step(  # type: ignore[override]
        self,
        state: State,
        centroids: Any,
        room: int | None = None,  # noqa: ARG002
    ) -> tuple[State, Step]:
        """Label every point, and sum the points of each centroid."""
        labels, (sums, counts) = self._pass(state, self._book(state.shift, centroids))
        return state, Step(labels, sums.value + sums.lost, counts.value + counts.lost)

    def assign(self, state: State, centroids: Any) -> tuple[Any, Any]:  # type: ignore[override]
        """Labels, and squared distances by differences."""
        n, d = state.x.shape
        plan = _plan(n, d, centroids.shape[0], self.dtypes)
        problem = Problem(self.xp, self.device, state.x, self.dtypes, plan, self.scale, True, FLOW)
        labels, _ = self._pass(state, self._book(state.shift, centroids))
        return labels, squared_distances(problem, centroids, labels)

    def _pass(self, state: State, book: Book) -> tuple[Any, Sums]:
        """Labels, sums and counts."""
        n, d = state.x.shape
        plan = _plan(n, d, book.points.shape[0], self.dtypes)
        size = min(plan.rows, ROWS) if jax.default_backend() == "cpu" else plan.rows
        labels, single, sums = self._by_scores(state, book, size)
        return self._by_differences(state, book, min(plan.block, BLOCK), labels, single, sums)

    def _by_scores(self, state: State, book: Book, size: int) -> tuple[Any, Any, Sums]:
        """Labels, for which points they are certain, and the sums of these, by chunks of that size."""
        n = state.x.shape[0]
        slack = self._slack(book, state.norms, self.dtypes.compute)
        narrow = cast(self.xp, -book.points, self.dtypes.compute)
        half_squares = jnp.where(self._repeats(book), jnp.inf, book.half_squares)
        half_squares = cast(self.xp, half_squares, self.dtypes.compute)[:, None]
        # Which candidate, and how many, by a product: XLA takes three to ten times as long to look for them.
        index = jnp.arange(len(narrow), dtype=self.dtypes.compute)
        numbers = jnp.stack([index, jnp.ones_like(index)])

        def chunk(i: Any, carry: tuple[Any, Any, Sums]) -> tuple[Any, Any, Sums]:
            labels, single, sums = carry
            window = Window(i, n, size)
            points = self._scaled(window(state.x))
            scores = narrow @ (points - state.shift).T + half_squares
            candidates = scores <= jnp.min(scores, axis=0) + window(slack)
            members = candidates.astype(numbers.dtype)
            label, count = jnp.matmul(numbers, members, precision=lax.Precision.HIGHEST)
            alone = count == 1
            label = jnp.where(alone, label, 0).astype(jnp.int32)
            weights = jnp.where(alone, window.weights(state.weights), 0.0)
            points = self._scaled(window(state.x), self.dtypes.sums)
            return window.put(labels, label), window.put(single, alone), sums.plus(points, weights, label)

        zero = jnp.zeros(book.plain.shape, self.dtypes.sums), jnp.zeros(book.plain.shape[0], self.dtypes.sums)
        sums = Sums(*(Total(part, part) for part in zero))
        start = (jnp.zeros(n, jnp.int32), jnp.zeros(n, bool), sums)
        return lax.fori_loop(0, -(-n // size), chunk, start)  # type: ignore[no-any-return]

    def _by_differences(
        self, state: State, book: Book, size: int, labels: Any, single: Any, sums: Sums
    ) -> tuple[Any, Sums]:
        """The same with the doubtful labels decided, in as many blocks of that size as it takes."""
        rank = jnp.cumsum(~single, dtype=jnp.int32)
        found = rank[-1]

        def block(carry: tuple[Any, Any, Sums]) -> tuple[Any, Any, Sums]:
            first, labels, sums = carry
            order = first + jnp.arange(size, dtype=jnp.int32)
            place = jnp.searchsorted(rank, jnp.minimum(order, found))
            points = self._scaled(state.x[place], self.dtypes.sums)
            answer = jnp.argmin(self._lengths(points, book), axis=1).astype(jnp.int32)
            weights = jnp.where(order <= found, state.weights[place], 0.0)  # the last block is filled up
            return first + size, labels.at[place].set(answer), sums.plus(points, weights, answer)

        start = (jnp.ones((), jnp.int32), labels, sums)
        _, labels, sums = lax.while_loop(lambda carry: carry[0] <= found, block, start)
        return labels, sums

    def _lengths(self, points: Any, book: Book) -> Any:
        """Distances (m, k) of a few points from all centroids, squared if there is no scale.

        Else each is taken in units of its largest difference.
        """
        rows, columns = points.T, book.plain.T  # in memory: to gather each column takes 15 times as long
        zeros = jnp.zeros((points.shape[0], book.plain.shape[0]), points.dtype)

        def over_columns(function: Callable[[Any, Any], Any]) -> Any:
            def step(column: Any, value: Any) -> Any:
                return function(value, rows[column, :, None] - columns[column, None, :])

            return lax.fori_loop(0, points.shape[1], step, zeros)

        def squares(unit: Any) -> Any:
            return over_columns(lambda value, difference: value + jnp.square(difference / unit))

        def lengths() -> Any:
            largest = over_columns(lambda value, difference: jnp.maximum(value, jnp.abs(difference)))
            return largest * jnp.sqrt(squares(jnp.where(largest > 0, largest, 1.0)))

        return lax.cond(jnp.asarray(self.scale) == 1, lambda: squares(1.0), lengths)
