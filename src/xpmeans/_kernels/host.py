"""The kernel for eager arrays in host memory: compiled, on all cores, and only for points that may move.

A step gives each of a fixed number of strands of points to whichever thread is free; what they yield is put
together in the order of the strands, so that the number of threads changes nothing.

Bounds. From the second step on a point is looked at only if its centroid may no longer be the nearest. The
kernel keeps an upper bound on each point's distance from its own centroid and a lower bound on the distance
from any other one, and widens them by what the centroids have moved (Hamerly, "Making k-means even faster",
SDM 2010). Of the others it tells a few neighbours of the own centroid from the rest, which is too far away to
matter: what the neighbours have moved is often a fraction of what the most restless centroid has. Bounds are
rounded outwards, so that no label depends on them.

Sums. Points that change their cluster are taken from one sum and added to the other. What the sums round to
then depends on the steps before, by a unit in the last place or so of the largest point that was ever added;
they are made afresh from all points when no label changes any more, and after `AGE` steps.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from xpmeans._core import threads
from xpmeans._core.plan import STRANDS, Plan, neighbours, pruning_pays, shares, strands, windows_pay
from xpmeans._core.precision import Precision
from xpmeans._kernels import Run, Step, ahead, books, walk
from xpmeans._kernels.compiled import address, compiled
from xpmeans._kernels.lanes import BYTES, REGISTERS
from xpmeans._kernels.tile import COLUMNS, QUAD

# Steps until the sums are made afresh.
AGE = 32
# Steps in one go, 80 ms at most, after which an interrupt is seen.
AT_ONCE = 256
# Bytes of points that are kept as they are scanned, for steps in one go.
KEPT = 4 << 20
# Numbers that one thread adds up in 400 us.
MANY = 1 << 19
# Differences of two centroids, a column each, that one thread looks at in 100 to 400 us.
PAIRS = 1 << 21
# Points whose mean is the shift: it only has to lie somewhere among them.
MIDST = 128
# Points whose bounds tell how many a step would look at.
SAMPLE = 1024


def dtype_of(x: Any) -> Any:
    """What points are read in: float32 or float64, in which integers keep their digits."""
    return np.dtype(np.float32 if x.dtype in (np.float16, np.float32) else np.float64)


def converted(x: Any, dtype: Any) -> Any:
    """Points in another dtype; themselves if they have it."""
    return x if x.dtype == dtype and x.flags.aligned else x.astype(dtype)


class Book(NamedTuple):
    """Centroids made ready for one pass."""

    plain: Any  # (k, d) in float64
    order: Any  # (k,) numbers of the centroids in the order of one coordinate
    names: Any  # these numbers once more, in the dtype of scores, zeros to fill up fours
    keys: Any  # (k,) that coordinate in this order
    quads: Any  # in this order, negative and shifted, by fours, in the dtype of scores
    half_squares: Any  # half the squared lengths of the shifted, infinite for repeats and to fill up fours
    reach: Any  # lengths of the longest and the shortest
    exact: Any  # `plain` by eights
    repeats: bool  # whether two are equal


class Last(NamedTuple):
    """What the last step found out. The next step takes over the arrays of bounds, and changes them."""

    book: Book
    labels: Any  # (n,)
    before: Any  # (n,) of the step before that, to be written to by the next
    upper: Any  # (n,) bounds on distances, or empty
    lower: Any
    totals: Any  # (2, k, d + 2) sums of columns, weights and points, and what these lack by rounding
    age: int  # steps since they were made from all points
    near: Any  # (k, m) int32, some others near each centroid
    parts: Any  # (strands, k, d + 2) zeros, to be added to by the next step: new ones would cost page faults


class State(NamedTuple):
    """Points, and what is known of them."""

    x: Any  # (n, d) as the caller gave them
    weights: Any  # (n,) float64, or empty if all are equal to one
    shift: Any  # (d,) about the mean of the points
    axis: int  # a coordinate in which the points are far apart
    last: Last | None = None

    def points(self, rows: slice) -> Any:
        """Some points, in the dtype of scores."""
        return converted(self.x[rows], self.shift.dtype)


@dataclass(frozen=True)
class Host:
    """Nearest centroids on the CPU; for points that are finite and whose squares do not overflow."""

    xp: ModuleType
    device: Any
    dtypes: Precision
    scale: float = 1.0
    finite: bool = True

    def start(self, x: Any, weights: Any | None, plan: Plan) -> State:
        """Take the mean of a few points, and see whether their weights are all equal to one."""
        sample = x[:: -(-plan.n // MIDST)].astype(np.float64)
        dtype = dtype_of(x) if self.dtypes.compute == np.float32 else np.float64
        # No product, after which BLAS's threads would stay awake for 25 ms and take up a core.
        shift = (np.add.reduce(sample) / len(sample)).astype(dtype)
        if weights is None or not weights.strides[0]:
            unit = weights is None or bool(weights[0] == 1)
        else:
            unit = bool((weights == 1).all())
        axis = int((np.maximum.reduce(sample) - np.minimum.reduce(sample)).argmax())
        return State(x, np.empty(0) if unit else np.ascontiguousarray(weights), shift, axis)

    def step(self, state: State, centroids: Any, room: int | None = None) -> tuple[State, Step]:  # noqa: ARG002
        """Label every point, and sum the points of each centroid."""
        book, last = _book(centroids, state), state.last
        k, d = book.plain.shape
        if last is not None and last.book.plain.shape != book.plain.shape:
            last = None  # `kmeans` drops centroids on the way
        before, labels, upper, lower, near, parts, n_changed = _pass(state, book, last)
        if last is not None and not n_changed and last.age == 0:
            totals, age = last.totals, 0
        else:
            if last is None or not n_changed or last.age == AGE:
                totals, age = np.zeros((2, k, d + 2)), 0
            else:
                totals, age = last.totals.copy(), last.age + 1
            if last is not None and age == 0:
                parts = _sums(state, np.full_like(labels, -1), labels, np.zeros_like(parts))
            _add_up(parts, totals)
        sums = totals[0] + totals[1]
        state = state._replace(last=Last(book, labels, before, upper, lower, totals, age, near, parts))
        return state, Step(labels, sums[:, :d], sums[:, d], n_changed=n_changed)

    def ahead(
        self, state: State, centroids: Any, most: int, tol: float = 0.0, by_labels: bool = False
    ) -> Run | None:
        """Take steps in one go if a thread is enough for them; then bounds are not worth while either."""
        (n, d), k, last, dtype = state.x.shape, centroids.shape[0], state.last, state.shift.dtype
        if len(strands(n, d, k, dtype.itemsize)) > 1:
            return None
        book = _book(centroids, state)
        if book.repeats:
            return None
        labels, sums, tables = np.empty((2, n), np.int32), np.empty((2, 2, k, d + 2)), np.empty((3, k, d))
        parts = np.zeros((1, k, d + 2))
        tables[0], bounds, drift, age = book.plain, np.empty(0, dtype), np.empty((0, 4), dtype), -1
        if last is not None:
            labels[0], sums[0], age = last.labels, last.totals, last.age
        block = REGISTERS * BYTES // dtype.itemsize
        kept = d < COLUMNS + 4 and n * (d + 1) * dtype.itemsize <= KEPT
        tiles = np.empty((-(-n // block), block * (d + 1)) if kept else (0, 0), dtype)
        functions = (walk.walk, dtype), (books.prepare, dtype), (walk.add_up, "d"), (walk.sum_up, dtype)
        n_steps, age, converged = compiled(ahead.ahead, dtype.char)(
            *(address(function, np.dtype(kind).char) for function, kind in functions),
            *(state.points(slice(n)), state.weights, labels, bounds, np.array([0, n]), book.quads),
            *(book.half_squares, book.order, book.names, book.keys, book.reach, book.exact, tables),
            *(state.shift, np.empty(k), drift, tiles, _partial(book, dtype), parts, np.empty(1, np.int64)),
            *(np.full(n, -1, np.int32), sums, age, AGE, self.dtypes.compute == np.float32, tol, by_labels),
            min(most, AT_ONCE),
        )
        if n_steps == 0:
            return None
        book = book._replace(plain=tables[(n_steps - 1) % 3])
        now, before = labels[n_steps % 2], labels[1 - n_steps % 2]
        near = np.empty((k, 0), np.int32)
        last = Last(book, now, before, bounds, bounds, sums[n_steps % 2], age, near, parts)
        moved = tables[n_steps % 3].astype(self.dtypes.compute)
        return Run(state._replace(last=last), moved, now.copy(), n_steps, converged)

    def assign(self, state: State, centroids: Any) -> tuple[Any, Any]:
        """Labels, and squared distances by differences."""
        labels, plain = _labels(state, centroids)
        found = np.empty(labels.shape[0])
        squares = compiled(walk.squares, state.shift.dtype.char)
        parts = strands(*state.x.shape, 1, 4)  # in float64, whatever the points are

        def work(i: int) -> None:
            squares(state.points(parts[i]), labels[parts[i]], plain, found[parts[i]])

        threads.run(work, len(parts))
        return labels, found

    def quality(self, state: State, centroids: Any) -> tuple[Any, Any, Any]:
        """Labels, the weighted sum of the squared distances, and how many points each centroid has."""
        labels, plain = _labels(state, centroids)
        (n, d), k = state.x.shape, plain.shape[0]
        parts = strands(n, d, k, 4, sums=True)  # in float64, whatever the points are
        sizes, inertia = [np.zeros(k, np.int64) for _ in parts], np.zeros(len(parts))
        judge = compiled(walk.judge, state.shift.dtype.char)

        def work(i: int) -> None:
            rows = parts[i]
            inertia[i] = judge(state.points(rows), state.weights[rows], labels[rows], plain, sizes[i])

        threads.run(work, len(parts))
        return labels, inertia.sum(), sum(sizes)


def _labels(state: State, centroids: Any) -> tuple[Any, Any]:
    """The labels for some centroids, which may be those of the last step; and these in float64."""
    last, plain = state.last, np.array(centroids, dtype=np.float64, order="C")
    if last is not None and np.array_equal(last.book.plain, plain):
        labels = _room(len(last.labels))
        labels[:] = last.labels
        return labels, plain
    book = _book(centroids, state)
    if last is not None and last.book.plain.shape == book.plain.shape:
        spare, upper, lower = _room(len(last.labels)), last.upper.copy(), last.lower.copy()
        last = last._replace(before=spare, upper=upper, lower=lower)
    else:
        last = None
    return _pass(state, book, last, sums=False)[1], plain


def _room(n: int) -> Any:
    """Room for labels from a multiple of 64 bytes on, where JAX need not copy them: 24 ms for ten million."""
    numbers = np.empty(n + 15, np.int32)
    first = -(numbers.ctypes.data // 4) % 16
    return numbers[first : first + n]


def _pass(state: State, book: Book, last: Last | None, sums: bool = True) -> tuple[Any, ...]:
    """Labels before and now, bounds, neighbours, what the sums change by, and how many points changed."""
    (n, d), k, dtype = state.x.shape, book.plain.shape[0], state.shift.dtype
    drift, farthest, axis = np.empty((0, 4), dtype), dtype.type(0), -1
    parts = np.empty((0, 0, d + 2))
    if last is None:
        if sums:
            parts = np.zeros((len(strands(n, d, k, dtype.itemsize, sums=True)), k, d + 2))
        before, labels = _room(n), _room(n)  # one is the other's in the next step
        size = n if sums and pruning_pays(n, d, k, dtype.itemsize, 0.0) else 0
        upper, lower = np.empty(size, dtype), np.empty(size, dtype)
        m = neighbours(n, k)
        near = ((np.arange(k)[:, None] + np.arange(1, m + 1)) % k).astype(np.int32)
    else:
        before, labels, upper, lower, near = last.labels, last.before, last.upper, last.lower, last.near
        if sums:
            parts = last.parts
        if upper.size and not (last.book.repeats or book.repeats):  # repeats have no bounds
            drift, farthest, axis = _drift(state, book, last)
    n_changed = _walk(state, book, last is None, before, labels, upper, lower, drift, farthest, axis, parts)
    return before, labels, upper, lower, near, parts, n_changed


def _walk(
    state: State,
    book: Book,
    first: bool,
    before: Any,
    labels: Any,
    upper: Any,
    lower: Any,
    drift: Any,
    farthest: Any,
    axis: int,
    parts: Any,
) -> int:
    """Let the threads walk over all strands, and add up what the sums change by; how many points changed."""
    (n, d), k = state.x.shape, book.plain.shape[0]
    ends = [strand.stop for strand in strands(n, d, k, state.shift.itemsize)]
    together = len(parts) == len(ends)
    deltas = parts if together else np.empty((len(ends), 0, d + 2))
    n_changed = np.zeros(len(ends), np.int64)
    edges = np.array([0, *ends])
    label_strands = compiled(walk.walk, state.shift.dtype.char)
    tasks = shares(len(ends), threads.count(), short=drift.size > 0)

    def work(i: int) -> None:
        strand = tasks[i]
        begin, end = edges[strand.start], edges[strand.stop]
        rows = slice(begin, end)
        label_strands(
            *(state.points(rows), state.weights[rows], first, before[rows], labels[rows]),
            *(upper[rows], lower[rows], edges[strand.start : strand.stop + 1] - begin),
            *(book.quads, book.half_squares, book.names, book.keys, axis if drift.size else -1, book.reach),
            *(book.exact, book.plain, state.shift, drift, farthest, drift[:0], False),
            *(_partial(book, drift.dtype), deltas[strand], n_changed[strand]),
        )

    threads.run(work, len(tasks))
    if len(parts) and not together:
        _sums(state, before, labels, parts)
    return int(n_changed.sum())


def _partial(book: Book, dtype: Any) -> Any:
    """Room for the scores of a tile where its columns come in several goes."""
    several = book.plain.shape[1] >= COLUMNS + 4
    return np.empty(REGISTERS * BYTES // dtype.itemsize * book.half_squares.size if several else 0, dtype)


def _book(centroids: Any, state: State) -> Book:
    """Make centroids ready; those that repeat one of a lower index get no points by scores."""
    plain = np.array(centroids, dtype=np.float64, order="C")
    (k, d), dtype = plain.shape, state.shift.dtype
    order = plain[:, state.axis].argsort()
    keys = plain[order, state.axis]
    quads, half_squares = np.empty((k + -k % QUAD) * d, dtype), np.empty(k + -k % QUAD, dtype)
    exact, reach = np.empty((k + -k % (BYTES // 8)) * d), np.empty(2, dtype)
    names, halves = np.empty_like(half_squares), np.empty(k)
    arrays = quads, half_squares, names, exact, reach, halves
    compiled(books.prepare, dtype.char)(plain, state.shift, order, *arrays)
    lengths = np.sort(halves)
    repeats = bool((lengths[1:] == lengths[:-1]).any())
    if repeats:
        by_length, places = halves.argsort(kind="stable"), order.argsort()
        repeats = compiled(books.repeat, dtype.char)(plain, by_length, places, half_squares)
    return Book(plain, order, names, keys, quads, half_squares, reach, exact, repeats)


def _drift(state: State, book: Book, last: Last) -> tuple[Any, Any, int]:
    """How the centroids moved, for `walk`: see `books.drifts`; and the axis of its windows, or -1.

    No rows if a sample of the points says that most would be looked at anyway.
    """
    n, (k, d) = state.x.shape[0], book.plain.shape
    near, gaps, outside = last.near, np.zeros(k), np.zeros(k)
    if near.size:
        find, count = compiled(books.neighbours, "d"), min(k, STRANDS, 1 + k * k * (d + 8) // PAIRS)

        def work(i: int) -> None:
            spare = np.empty(k + -k % (BYTES // 8)), np.empty(near.shape[1])
            find(book.exact, book.plain, k * i // count, k * (i + 1) // count, near, gaps, outside, *spare)

        threads.run(work, count)
    drift, step = np.empty((k, 4), state.shift.dtype), -(-n // SAMPLE)
    farthest, share, inside = compiled(books.drifts, drift.dtype.char)(
        *(book.plain, last.book.plain, near, gaps, outside),
        *(state.x[::step, state.axis].astype(np.float64), book.keys),
        *(last.upper, last.lower, last.labels, step, drift, np.empty(k)),
    )
    axis = state.axis if windows_pay(k, inside) else -1
    if not pruning_pays(n, d, k, drift.itemsize, share, inside if axis >= 0 else 1.0):
        drift = drift[:0]
    return drift, farthest, axis


def _add_up(parts: Any, totals: Any) -> None:
    """Add what the strands found to the totals of all clusters, and leave zeros there."""
    add, k = compiled(walk.add_up, "d"), parts.shape[1]
    count = min(k, 1 + parts.size // MANY)

    def work(i: int) -> None:
        add(parts, *totals, k * i // count, k * (i + 1) // count)

    threads.run(work, count)


def _sums(state: State, before: Any, labels: Any, parts: Any) -> Any:
    """The tables `parts`, with what the sums change by when points move from some clusters to others."""
    (n, d), k = state.x.shape, parts.shape[1]
    rows = strands(n, d, k, state.shift.itemsize, sums=True)
    sum_up = compiled(walk.sum_up, state.shift.dtype.char)

    def work(i: int) -> None:
        some = rows[i]
        sum_up(state.points(some), state.weights[some], before[some], labels[some], parts[i])

    threads.run(work, len(rows))
    return parts
