"""K-means on Dask arrays: what each pass asks of a block, and how the passes follow from each other.

A counterpart of `_solve` for data that are never in one place. Everything that a pass returns is small, of
the size of the centroids: sums and counts, a few rows that were drawn or that lie farthest away. What is
decided from it is decided here, in NumPy, by the rules of `_core.fit`.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np

from xpmeans import _inputs, _solve
from xpmeans._checkpoint import Checkpoint
from xpmeans._core import initial
from xpmeans._core.blocks import Drawn, Far, Look, Moments, Quality, Sums, draw, farthest
from xpmeans._core.distances import squared_distances
from xpmeans._core.fit import moved_by
from xpmeans._core.initial import OVERSAMPLING, ROUNDS
from xpmeans._core.minibatch import Pace, Run
from xpmeans._core.minibatch import run as run_batches
from xpmeans._core.precision import Reach, cast, measure, precision, scale_for
from xpmeans._core.problem import Problem, plan_for
from xpmeans._core.restarts import Answer
from xpmeans._dispatch import dispatch, on_host, returned, to_host, without_false_alarms
from xpmeans._inputs import Inputs
from xpmeans._kernels import flow_for, lazy, select
from xpmeans._kernels.tally import tally
from xpmeans._solve import Task

# Points that "k-means++" chooses from, as a multiple of k, and at least.
SAMPLE = 32
SAMPLE_LEAST = 4096
# Farthest points that a pass brings, for each cluster that lost its points, and at least.
FARTHEST = 4
FARTHEST_LEAST = 64


class Frame(NamedTuple):
    """What all blocks of a call have in common."""

    k: int
    metric: str
    kernel: str | None
    scale: float = 1.0
    size: float = 1.0  # that weights are divided by
    mark: str = ""  # of the call


class Part(NamedTuple):
    """A block as it is worked on."""

    problem: Problem
    mass: Any  # (n,) in the dtype of sums, or None where all are one
    back: Callable[[Any], Any]  # to the block's library


def _part(frame: Frame, block: Any, weights: Any | None, checked: bool = True) -> Part:
    """A block's points, and their weights, where the work happens; `checked` ones are finite."""
    arrays = {"x": block} if weights is None else {"x": block, "sample_weight": weights}
    user, found = dispatch(**arrays)
    work, found = on_host(user, found)
    x, xp = found[0], work.xp
    dtypes, flow = precision(xp, x.dtype, work.device), flow_for(work)
    plan = plan_for(xp, x, frame.k, dtypes, flow)
    problem = Problem(xp, work.device, x, dtypes, plan, frame.scale, True, flow)
    if frame.metric == "cosine" and checked:
        problem = problem._replace(x=_solve._directions("x", problem, x), scale=1.0)
    mass = None if weights is None else cast(xp, found[1], dtypes.sums) / frame.size
    return Part(problem, mass, lambda array: returned(user, array))


def _sum(part: Part, values: Any) -> float:
    """A sum over points, weighted."""
    xp = part.problem.xp
    return float(xp.sum(values if part.mass is None else values * part.mass))


def _masses(part: Part) -> Any:
    """Weights, also where all are one, in NumPy."""
    return np.ones(part.problem.plan.n) if part.mass is None else to_host(part.mass)


def _started(part: Part, frame: Frame, block: Any) -> tuple[Any, Any, Any]:
    """The kernel for a block, and from the last step, if it left them, a state and what was added up."""
    problem = part.problem
    kernel = select(problem, frame.kernel)
    beside = lazy().left_beside(block, frame.mark)
    if beside is None:
        return kernel, kernel.start(problem.x, None, problem.plan), None
    kind, items, last = beside
    return kernel, kind._make(problem.x if item is ... else item for item in items), last


def _leave(part: Part, frame: Frame, block: Any, state: Any, last: Any) -> None:
    """Leave a kernel's state beside the block, without the points."""
    items = tuple(... if item is part.problem.x else item for item in state)
    lazy().leave_beside(block, frame.mark, (type(state), items, last))


@without_false_alarms
def look(
    block: Any, weights: Any, first: int, frame: Frame, sizes: tuple[tuple[int, int], ...], moments: bool
) -> Look:
    """Check values, take mean and spread, and for each pair of a key and a size draw so many rows."""
    part = _part(frame, block, weights, checked=False)
    problem, xp = part.problem, part.problem.xp
    reach, zero_row = measure(xp, problem.x), -1
    least, most, weights_finite = 1.0, 1.0, True
    if part.mass is not None:
        most, weights_finite = measure(xp, part.mass[:, None])
        least = float(xp.min(part.mass)) if weights_finite else math.nan
    if frame.metric == "cosine" and reach.finite:
        flat = to_host(xp.max(xp.abs(problem.x), axis=1) == 0)
        zero_row = first + int(flat.argmax()) if flat.any() else -1
    found = Look(reach.largest, reach.finite, zero_row, least, most, weights_finite, None, ())
    if not found.sound:
        return found
    n, d = problem.x.shape
    scale = scale_for(reach.largest, float(xp.finfo(problem.dtypes.compute).max), n * d)
    size = 2.0 ** (math.frexp(most)[1] - 1) if most > 0 else 1.0
    part = _part(frame._replace(scale=scale, size=size), block, weights)
    mass = _masses(part)
    if moments:
        found = found._replace(moments=_moments(part, mass, size))
    drawn = tuple(draw(key, 0, first, mass * size, _Rows(part.problem), number) for key, number in sizes)
    return found._replace(drawn=drawn)


class _Rows:
    """Points by their row numbers in NumPy."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    def __getitem__(self, rows: Any) -> Any:
        xp = self._problem.xp
        return to_host(xp.take(self._problem.x, xp.asarray(rows, device=self._problem.device), axis=0))


def _moments(part: Part, mass: Any, size: float) -> Moments:
    """Mean and spread of a block."""
    problem, xp = part.problem, part.problem.xp
    total = float(mass.sum())
    if not total:
        return Moments(0.0, np.zeros(problem.plan.d), 0.0, problem.scale, size)
    weights = xp.asarray(mass, dtype=problem.dtypes.sums, device=problem.device)
    mean = initial.mean_of(problem, weights)
    squares = squared_distances(problem, (mean / problem.scale)[None, :])
    return Moments(total, to_host(mean).astype(float), float(xp.sum(squares * weights)), problem.scale, size)


@without_false_alarms
def step(block: Any, weights: Any, _first: int, frame: Frame, book: Any, asks: bool) -> Sums:
    """Label every point, and sum the points of each centroid; the inertia if it `asks` for it."""
    part = _part(frame, block, weights)
    problem, xp = part.problem, part.problem.xp
    book = xp.asarray(book, device=problem.device)
    kernel, state, last = _started(part, frame, block)
    state, found = kernel.step(state, book)
    if last is None or found.n_changed != 0:
        sums, counts = tally(problem, part.mass, found.labels)
        last = to_host(sums), to_host(counts)
    _leave(part, frame, block, state, last)
    inertia = _sum(part, squared_distances(problem, book, found.labels)) if asks else 0.0
    return Sums(last[0], last[1], inertia)


@without_false_alarms
def quality(block: Any, weights: Any, _first: int, frame: Frame, book: Any, goes_on: bool) -> Quality:
    """Inertia and sizes of clusters; what is beside the block is cleared away unless it `goes_on`."""
    part = _part(frame, block, weights)
    problem, xp = part.problem, part.problem.xp
    kernel, state, last = _started(part, frame, block)
    labels, squares = kernel.assign(state, xp.asarray(book, device=problem.device))
    if goes_on:
        _leave(part, frame, block, state, last)
    return Quality(_sum(part, squares), to_host(problem.flow.sizes(xp, labels, frame.k, problem.device)))


@without_false_alarms
def spread_out(
    block: Any, weights: Any, first: int, frame: Frame, books: tuple[Any, ...], key: int, size: int
) -> Drawn:
    """Draw rows in proportion to weight times squared distance from the nearest row of all `books`."""
    part = _part(frame._replace(k=max(map(len, books))), block, weights)
    problem, mark = part.problem, f"{frame.mark} {key}"
    done, nearest = lazy().left_beside(block, mark) or (0, None)
    if done > len(books):
        done, nearest = 0, None
    kernel = select(problem)
    state = kernel.start(problem.x, None, problem.plan)
    for book in books[done:]:
        squares = to_host(kernel.assign(state, problem.xp.asarray(book, device=problem.device))[1])
        nearest = squares if nearest is None else np.minimum(nearest, squares)
    lazy().leave_beside(block, mark, (len(books), nearest))
    return draw(key, len(books), first, _masses(part) * nearest, _Rows(problem), size)


@without_false_alarms
def weigh(block: Any, weights: Any, _first: int, frame: Frame, book: Any) -> Sums:
    """The weight of the points that are nearest to each row of a book."""
    part = _part(frame._replace(k=len(book)), block, weights)
    problem = part.problem
    kernel = select(problem)
    lazy().left_beside(block, frame.mark)  # the draws' distances, for which there is no more use
    book = problem.xp.asarray(book, device=problem.device)
    labels, _ = kernel.assign(kernel.start(problem.x, None, problem.plan), book)
    counts = np.bincount(to_host(labels), to_host(part.mass) if part.mass is not None else None, len(book))
    return Sums(np.zeros((0, 0)), counts.astype(float), 0.0)


@without_false_alarms
def far(
    block: Any, weights: Any, first: int, frame: Frame, book: Any, taken: tuple[Any, ...], size: int
) -> Far:
    """The points farthest from all centroids, and from those `taken`; see `fit._relocated`."""
    part = _part(frame, block, weights)
    problem, xp = part.problem, part.problem.xp
    book = xp.asarray(book, device=problem.device)
    kernel, state, last = _started(part, frame, block)
    labels, _ = kernel.assign(state, book)
    _leave(part, frame, block, state, last)
    squares = squared_distances(problem, book, labels)
    origin = xp.zeros((1, problem.plan.d), dtype=book.dtype, device=problem.device)
    least = (2 * float(xp.finfo(problem.dtypes.compute).eps)) ** 2 * squared_distances(problem, origin)
    squares, mass = to_host(xp.where(squares > least, squares, 0.0)), _masses(part)
    squares = np.where(mass > 0, squares, 0.0)
    for point in taken:
        away = squared_distances(problem, xp.asarray(point[None, :], device=problem.device))
        squares = np.minimum(squares, to_host(away))
    rows, floor = np.flatnonzero(squares > 0), 0.0
    if rows.shape[0] > size:  # equal ones stay together
        least_taken = np.partition(squares, -size)[-size]
        rows, left = np.flatnonzero(squares >= least_taken), squares[squares < least_taken]
        floor = float(left.max()) if left.size else 0.0
    points, labels = _Rows(problem)[rows], to_host(labels)[rows]
    return farthest(squares[rows], rows + first, points, mass[rows], labels, floor, size)


@without_false_alarms
def copies(block: Any, weights: Any, _first: int, frame: Frame, point: Any) -> Sums:
    """The weight of all points that equal this one."""
    part = _part(frame, block, weights)
    xp = part.problem.xp
    away = squared_distances(part.problem, xp.asarray(point[None, :], device=part.problem.device))
    weight = _sum(part, cast(xp, away == 0, part.problem.dtypes.sums))
    return Sums(np.zeros((0, 0)), np.asarray([weight]), 0.0)


def _labelled(block: Any, book: Any, frame: Frame) -> tuple[Any]:
    """Labels of a block's points."""
    if not block.shape[0]:
        user, _ = dispatch(x=block)
        return (user.xp.zeros(0, dtype=user.xp.int32, device=user.device),)
    part = _part(frame, block, None)
    problem, xp = part.problem, part.problem.xp
    kernel = select(problem, frame.kernel)
    state = kernel.start(problem.x, None, problem.plan)
    return (part.back(kernel.assign(state, xp.asarray(book, device=problem.device))[0]),)


class Numbers(NamedTuple):
    """All random numbers of a run, drawn on the host before the work."""

    key: int  # of the generator that numbers rows
    thinning: Any  # (k, trials) for the greedy choice among few

    @classmethod
    def drawn(cls, source: np.random.Generator, k: int, trials: int | None = None) -> "Numbers":
        """Take them from the caller's generator."""
        low, high = source.integers(0, 1 << 64, size=2, dtype=np.uint64)
        return cls(int(low) | int(high) << 64, source.random((k, trials or 2 + int(math.log(k)))))

    @classmethod
    def packed(cls, numbers: "list[Numbers]") -> dict[str, Any]:
        """Those of all runs as arrays."""
        keys = [[each.key & (1 << 64) - 1, each.key >> 64] for each in numbers]
        return {
            "keys": np.asarray(keys, np.uint64),
            "thinning": np.asarray([each.thinning for each in numbers]),
        }

    @classmethod
    def unpacked(cls, arrays: dict[str, Any]) -> "list[Numbers]":
        """And back."""
        pairs = zip(arrays["keys"].tolist(), arrays["thinning"], strict=True)
        return [cls(low | high << 64, thinning) for (low, high), thinning in pairs]


class Table:
    """The points of one call, once their values are checked."""

    def __init__(
        self,
        task: Task,
        blocks: Any,
        numbers: list[Numbers],
        book: Any = None,
        moments: bool = False,
        mark: str = "",
    ) -> None:
        n, k = blocks.n, task.k
        if not n:
            raise ValueError("`x` must not be empty, all its blocks are.")
        if k > n:
            raise ValueError(f"`n_clusters` must be between 1 and the number of points ({n}), got {k}.")
        frame = Frame(k, task.metric, task.kernel, mark=mark or uuid4().hex)
        sizes = {"random": k, "k-means++": min(n, max(SAMPLE * k, SAMPLE_LEAST)), "k-means||": 1}
        races = tuple((each.key, sizes[task.init]) for each in numbers) if task.init in sizes else ()
        seen = blocks.total("check", look, (frame, races, moments))
        _inputs.require_finite("x", seen.finite)
        weighted = blocks.weights is not None
        if weighted:
            _inputs.require_finite("sample_weight", seen.weights_finite)
            _inputs.require_weights(seen.least, seen.most)
        if task.metric == "cosine":
            _inputs.require_directions("x", seen.zero_row)
        context, _ = dispatch(x=np.zeros(0))
        dtype = np.dtype(str(blocks.x.dtype).rpartition(".")[2])
        dtypes = precision(context.xp, dtype, "cpu")
        reach = Reach(seen.largest, finite=True)
        if book is not None:
            reach = reach.joined(measure(context.xp, book), dtypes.limit(context.xp))
        d = int(blocks.x.shape[1])
        limit = float(context.xp.finfo(dtypes.compute).max)
        scale = 1.0 if task.metric == "cosine" else scale_for(reach.largest, limit, n * d)
        size = 2.0 ** (math.frexp(seen.most)[1] - 1) if weighted else 1.0
        points = np.zeros((1, d), dtype)
        plan = plan_for(context.xp, points, k, dtypes, flow_for(context))
        self.task, self.blocks, self.drawn, self.numbers = task, blocks, seen.drawn, numbers
        self.frame = frame._replace(scale=scale, size=size)
        self.few = Problem(context.xp, "cpu", points, dtypes, plan, scale, True, flow_for(context))
        self.variance, self.digest = 0.0, [""]
        if seen.moments is not None:
            whole = seen.moments.at(scale, size)
            self.variance = whole.spread / whole.total / d
            self.digest = [f"{number:.6e}" for number in (*whole.mean / scale, whole.spread / scale / scale)]

    def total(self, name: str, work: Callable[..., Any], *shared: Any) -> Any:
        """One pass, see `Blocks.total`."""
        return self.blocks.total(name, work, (self.frame, *shared))

    def call(self, init: str | None, book: Any) -> dict[str, Any]:
        """What tells this call from others, points included as far as mean and spread do."""
        task, points = self.task, self.digest
        named = "centroids" if book is not None else str(init)
        options = (task.metric, task.empty, named, task.max_iter, task.tol, task.n_runs)
        names = ("metric", "empty", "init", "max_iter", "tol", "n_init")
        shape = {"n_points": self.blocks.n, "n_clusters": task.k, "dtype": str(self.few.x.dtype)}
        given = {} if book is None else {"centroids": book}
        return {**shape, **dict(zip(names, options, strict=True)), "points": points, **given}

    def first(self, run: int) -> Drawn:
        """First centroids of a run by the method asked for."""
        drawn: Drawn = self.drawn[run]
        numbers = self.numbers[run]
        k = self.task.k
        if self.task.init == "k-means||":
            return self._parallel(drawn, numbers)
        if self.task.init == "k-means++":
            return self._thinned(drawn, np.ones(len(drawn.rows)), numbers)
        order = np.resize(np.arange(len(drawn.rows)), k)  # again from the start where too few have a weight
        return drawn._replace(rows=drawn.rows[order], points=drawn.points[order])

    def _parallel(self, drawn: Drawn, numbers: Numbers) -> Drawn:
        """K-means||: rounds of many candidates at once, thinned out in the end."""
        found = [drawn]
        for _ in range(ROUNDS):
            books = tuple(part.points for part in found)
            more = self.total("seed", spread_out, books, numbers.key, OVERSAMPLING * self.task.k)
            if not len(more.rows):
                break
            found.append(more)
        rows = np.concatenate([part.rows for part in found])
        points = np.concatenate([part.points for part in found])
        weights = self.total("weigh", weigh, points).counts
        return self._thinned(drawn._replace(rows=rows, points=points), weights, numbers)

    def _thinned(self, drawn: Drawn, weights: Any, numbers: Numbers) -> Drawn:
        """As many of some rows as clusters are asked for, by greedy k-means++."""
        plan = plan_for(self.few.xp, drawn.points, self.task.k, self.few.dtypes, self.few.flow)
        few = self.few._replace(x=drawn.points, plan=plan)
        order = initial.plus_plus(few, weights, numbers.thinning)
        return drawn._replace(rows=drawn.rows[order], points=drawn.points[order])

    def book(self, name: str, book: Any) -> Any:
        """A code book as the iteration takes it."""
        return _solve._book(self.task, self.few, name, book)

    def rounded(self, centroids: Any) -> Any:
        """Centroids as the caller gets them."""
        with np.errstate(over="ignore"):
            return centroids.astype(self.few.dtypes.result)

    def inertia(self, total: float) -> Any:
        """The inertia that a sum of weighted scaled squares stands for."""
        return _solve._inertia(self.task, self.few, self.frame.size, np.float64(total))

    def relocated(self, old: Any, sums: Any, counts: Any, to_do: int) -> None:
        """Give each empty cluster the point that is then farthest, in place, as `fit._relocated` does.

        A pass brings the farthest points, each with its copies; those beyond all that it left out are taken.
        """
        taken: list[Any] = []
        least = float(np.finfo(counts.dtype).eps) ** 0.5
        while to_do:
            size = max(FARTHEST_LEAST, FARTHEST * to_do)
            found: Far = self.total("relocate", far, old, tuple(taken), size)
            if not len(found.rows):
                return
            plan = plan_for(self.few.xp, found.points, self.task.k, self.few.dtypes, self.few.flow)
            few = self.few._replace(x=found.points, plan=plan)
            left, begun = found.squares.copy(), False
            while to_do and left.any() and (left.max() > found.floor or not begun):
                i = int(left.argmax())
                point = cast(few.xp, found.points[i], few.dtypes.compute)
                squares = squared_distances(few, point[None, :])
                weight = float(found.mass[squares == 0].sum())
                if left[i] <= found.floor:  # some of its copies may have been left out
                    weight = float(self.total("copies", copies, point).counts[0])
                wide = point.astype(sums.dtype) * few.scale
                here, giver = int((counts == 0).argmax()), int(found.labels[i])
                if counts[giver] - weight > least * counts[giver]:
                    sums[giver] -= weight * wide
                    counts[giver] -= weight
                sums[here] += weight * wide
                counts[here] += weight
                left = np.minimum(left, squares)
                taken.append(point)
                to_do, begun = to_do - 1, True


class Standing(NamedTuple):
    """Where a run stands."""

    centroids: Any
    n_iter: int = 0
    converged: bool = False
    ended: bool = False


def fit(table: Table, standing: Standing, tol: float, note: Callable[[Standing], None]) -> Standing:
    """Iterate until the centroids hardly move, or `max_iter` is reached, as `_core.fit` does.

    Where no label changes the sums are the same to the last bit, and the centroids do not move at all.
    """
    task, few = table.task, table.few
    while not (standing.ended or standing.converged or standing.n_iter == task.max_iter):
        old, n_iter = standing.centroids, standing.n_iter + 1
        sums, counts, inertia = table.total("step", step, old, task.callback is not None)
        moved, shift = moved_by(few, old, sums, counts, task.metric == "cosine")
        n_empty = int(np.sum(counts == 0))
        relocate = task.empty == "relocate"
        converged = bool(shift <= tol) and not (relocate and n_empty)
        ends = converged and not (task.empty == "raise" and n_empty)
        if task.callback is not None and task.callback(
            n_iter, float(table.inertia(inertia)), table.rounded(old)
        ):
            return Standing(moved, n_iter, standing.converged, True)
        if task.empty == "raise" and n_empty and not ends:
            _inputs.raise_empty()
        if relocate and n_empty:
            table.relocated(old, sums, counts, n_empty)
            moved, shift = moved_by(few, old, sums, counts, task.metric == "cosine")
            converged = bool(shift <= tol)
        standing = Standing(moved, n_iter, converged)
        note(standing)
    return standing


@without_false_alarms
def cluster(
    task: Task, inputs: Inputs, source: np.random.Generator, persist: Any, checkpoint: Any = None
) -> Answer:
    """K-means, `n_runs` times; labels are left to be computed."""
    book = None if inputs.book is None else lazy().computed(inputs.book)
    if book is not None:
        _inputs.finite("init", np, book)
    blocks = lazy().Blocks(inputs.x, inputs.weights).ready(persist)
    before, mark = Checkpoint(checkpoint), uuid4().hex
    named = task.init if isinstance(task.init, str) else None
    numbers = [Numbers.drawn(source, task.k) for _ in range(task.n_runs)] if named else []
    if "keys" in before.before:
        numbers = Numbers.unpacked(before.before)[: len(numbers)]
    try:
        table = Table(task, blocks, numbers, book, task.tol > 0 or checkpoint is not None, mark)
        before.require(table.call(named, book))
        best = _best(table, inputs, source, book, before)
    finally:
        blocks.let_go()
        lazy().forget(mark)
    (labels,) = lazy().columns("label", inputs.x, best.labels, _labelled, (table.frame,), ((np.int32, None),))
    return best._replace(labels=labels)


def _best(
    table: Table, inputs: Inputs, source: np.random.Generator, book: Any, checkpoint: Checkpoint
) -> Answer:
    """The best of all runs, with the centroids that the labels are of in place of the labels."""
    task, before = table.task, checkpoint.before
    best: Answer | None = None
    least, begun = math.inf, int(before.get("run", 0))
    if "best_centroids" in before:
        best, least = Answer(*(before[f"best_{name}"] for name in Answer._fields)), float(before["least"])
    for run in range(begun, task.n_runs):
        kept = {} if best is None else {f"best_{name}": value for name, value in best._asdict().items()}
        kept.update(Numbers.packed(table.numbers), least=least, run=run)

        def note(standing: Standing, kept: dict[str, Any] = kept) -> None:
            checkpoint.note({**kept, **standing._asdict()})

        if run == begun and before:
            standing = Standing(before["centroids"], int(before["n_iter"]), bool(before["converged"]))
        elif table.numbers:
            standing = Standing(cast(table.few.xp, table.first(run).points, table.few.dtypes.compute))
        else:
            standing = Standing(table.book("init", _called(task, inputs, source) if book is None else book))
        note(standing)
        standing = fit(table, standing, task.tol * table.variance, note)
        centroids = table.rounded(standing.centroids)
        own = table.book("centroids", centroids)
        found = table.total("assess", quality, own, run + 1 < task.n_runs)
        if best is None or found.inertia < least:
            least = found.inertia
            inertia = table.inertia(found.inertia)
            best = Answer(centroids, own, inertia, found.sizes, standing.n_iter, standing.converged)
    assert best is not None
    checkpoint.done()
    return best._replace(
        inertia=np.float64(best.inertia), n_iter=int(best.n_iter), converged=bool(best.converged)
    )


def problems(inputs: Inputs) -> list[Inputs]:
    """Each problem of a batch by itself."""

    def part(array: Any, b: int, ndim: int) -> Any:
        return array if array is None or array.ndim < ndim else array[b]

    return [
        inputs._replace(x=inputs.x[b], weights=part(inputs.weights, b, 2), book=part(inputs.book, b, 3))
        for b in range(inputs.x.shape[0])
    ]


def assign(task: Task, inputs: Inputs, dtype: Any) -> tuple[Any, Any]:
    """Labels and distances, to be computed."""
    kinds = ((np.int32, None), (dtype, None))
    shared = (task.metric, task.kernel, dtype)
    labels, lengths = lazy().columns("assign", inputs.x, inputs.book, _assigned, shared, kinds)
    return labels, lengths


def _assigned(block: Any, book: Any, metric: str, kernel: str | None, dtype: Any) -> tuple[Any, Any]:
    """Labels and distances of a block's points."""
    if not block.shape[0]:
        user, _ = dispatch(x=block)
        return tuple(user.xp.zeros(0, dtype=kind, device=user.device) for kind in (user.xp.int32, dtype))
    inputs = _inputs.inputs_of("assign", block, centroids=_beside(block, book))
    task = Task(inputs.user, inputs.work, inputs.dtype, metric, kernel)
    labels, lengths = _solve.solve(_solve.assign, task, inputs, per_point=(True, True))
    return returned(inputs.user, labels), returned(inputs.user, lengths, dtype)


def transform(task: Task, inputs: Inputs, dtype: Any) -> Any:
    """Distances of all points from all centroids, to be computed."""
    book: Any = inputs.book
    kinds = ((dtype, int(book.shape[0])),)
    (found,) = lazy().columns("transform", inputs.x, book, _transformed, (task.metric, dtype), kinds)
    return found


def _transformed(block: Any, book: Any, metric: str, dtype: Any) -> tuple[Any]:
    """Distances of a block's points from all centroids."""
    if not block.shape[0]:
        user, _ = dispatch(x=block)
        return (user.xp.zeros((0, book.shape[0]), dtype=dtype, device=user.device),)
    inputs = _inputs.inputs_of("assign", block, cluster_centers_=_beside(block, book))
    task = Task(inputs.user, inputs.work, inputs.dtype, metric)
    (found,) = _solve.solve(_solve.transform, task, inputs, (True,))
    return (returned(inputs.user, found, dtype),)


@without_false_alarms
def inertia(task: Task, inputs: Inputs) -> float:
    """The inertia of centroids; two passes."""
    book = lazy().computed(inputs.book)
    blocks = lazy().Blocks(inputs.x, inputs.weights).ready(False)
    task = task._replace(k=1)  # any number of points will do
    table = Table(task, blocks, [], book)
    table.frame = table.frame._replace(k=len(book))
    return float(table.inertia(table.total("assess", quality, table.book("centroids", book), False).inertia))


class Batch(NamedTuple):
    """Points that were fetched by where they lie in the cumulated weights."""

    order: Any  # (m,) of the places that were asked for
    points: Any  # (m, d)

    def joined(self, others: Any) -> "Batch":
        """Take in others."""
        parts = (self, *others)
        return Batch(*(np.concatenate([part[i] for part in parts]) for i in range(2)))


class Totals(NamedTuple):
    """The weight of each block, by the number of its first row."""

    firsts: tuple[int, ...]
    weights: tuple[float, ...]

    def joined(self, others: Any) -> "Totals":
        """Take in others."""
        parts = (self, *others)
        return Totals(*(sum((part[i] for part in parts), ()) for i in range(2)))


def total_of(block: Any, weights: Any, first: int, frame: Frame) -> Totals:
    """The weight of a block."""
    return Totals((first,), (float(np.cumsum(_masses(_part(frame, block, weights)))[-1]),))


@without_false_alarms
def fetch(block: Any, weights: Any, first: int, frame: Frame, wanted: dict[int, Any]) -> Batch | None:
    """The points at some places of a block's cumulated weights."""
    if first not in wanted:
        return None
    part = _part(frame, block, weights)
    order, places = wanted[first]
    rows = initial.interval(np, np.cumsum(_masses(part)), places)
    return Batch(order, _Rows(part.problem)[rows])


def _places(table: Table, totals: Totals, uniforms: Any) -> Any:
    """Points by uniform numbers, in proportion to weight; one pass."""
    ends = np.cumsum(totals.weights)
    places = uniforms.reshape(-1) * ends[-1]
    block = initial.interval(np, ends, places)
    wanted = {}
    for i in np.unique(block):
        order = np.flatnonzero(block == i)
        wanted[totals.firsts[i]] = order, places[order] - (ends[i - 1] if i else 0.0)
    found = table.total("fetch", fetch, wanted)
    return found.points[np.argsort(found.order)]


# Bytes of batches that are fetched in one pass.
AHEAD = 32 << 20


@without_false_alarms
def minibatch(task: Task, pace: Pace, init_size: int, rng: np.random.Generator, inputs: Inputs) -> Run:
    """K-means by batches that are drawn from the points, many of them in one pass."""
    blocks = lazy().Blocks(inputs.x, inputs.weights).ready("auto")
    try:
        given = None if inputs.book is None else lazy().computed(inputs.book)
        # The first centroids come from a sample, which is in memory.
        table = Table(task._replace(init=None), blocks, [], given, pace.tol > 0)
        totals = table.total("weigh", total_of)
        size, d = pace.batch_size, table.few.plan.d

        def drawn(number: int) -> Problem:
            points = _places(table, totals, rng.random(number))
            plan = plan_for(table.few.xp, points, task.k, table.few.dtypes, table.few.flow)
            return table.few._replace(x=points, plan=plan)

        def batches() -> Iterator[Problem]:
            while True:
                many = max(1, min(pace.max_steps, AHEAD // (size * d * 8)))
                whole = drawn(many * size)
                for i in range(many):
                    points = whole.x[i * size : (i + 1) * size]
                    plan = plan_for(whole.xp, points, task.k, whole.dtypes, whole.flow)
                    yield whole._replace(x=points, plan=plan)

        if given is None:
            first = _solve._best_of_samples(task, drawn, init_size, rng)
        else:
            first = table.book("init", given)
        if pace.tol:
            pace = pace._replace(tol=pace.tol * table.variance / table.few.scale / table.few.scale)
        pace = pace._replace(inertia=lambda total: _solve._inertia(task, table.few, 1.0, total))
        few = table.few._replace(plan=table.few.plan._replace(n=blocks.n))
        return run_batches(few, None, first, pace, rng, batches())
    finally:
        blocks.let_go()


def _beside(block: Any, book: Any) -> Any:
    """A code book where a block is."""
    user, _ = dispatch(x=block)
    return book if user.library == "numpy" else user.xp.asarray(book, device=user.device)


def _called(task: Task, inputs: Inputs, source: np.random.Generator) -> Any:
    """First centroids from the caller's function."""
    found = _inputs.inputs_of("kmeans", inputs.x, init=task.init(inputs.x, task.k, source))
    _inputs.require_count("init", found.book, task.k)
    return lazy().computed(found.book)


@without_false_alarms
def plus_plus(task: Task, inputs: Inputs, source: np.random.Generator, trials: int | None) -> tuple[Any, Any]:
    """Points far from each other by k-means||, and their row numbers."""
    task = task._replace(init="k-means||")
    numbers = Numbers.drawn(source, task.k, trials)
    blocks = lazy().Blocks(inputs.x, inputs.weights).ready("auto")
    try:
        table = Table(task, blocks, [numbers])
        chosen = table.first(0)
    finally:
        blocks.let_go()
    return chosen.points.astype(table.few.dtypes.result), chosen.rows
