"""What a pass over a Dask array asks of one block.

Functions of the block, the weights of its points, the number of its first row and values that all blocks
share. What they return is small, of the size of the centroids: sums and counts, a few rows that were drawn or
that lie farthest away.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from xpmeans import _inputs, _solve
from xpmeans._core import initial
from xpmeans._core.blocks import Drawn, Far, Look, Moments, Quality, Sums, draw, farthest
from xpmeans._core.distances import squared_distances
from xpmeans._core.precision import cast, measure, precision, promoted, scale_for
from xpmeans._core.problem import Problem, plan_for
from xpmeans._dispatch import Context, dispatch, on_host, returned, to_host, without_false_alarms
from xpmeans._kernels import flow_for, lazy, select
from xpmeans._kernels.tally import tally
from xpmeans._solve import Task


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


def beside(block: Any, array: Any) -> Any:
    """A small array, or weights, where a block is."""
    if isinstance(block, np.ndarray):
        return array
    user, _ = dispatch(x=block)
    return user.xp.asarray(array, device=user.device)


def part_of(frame: Frame, block: Any, weights: Any | None, checked: bool = True) -> Part:
    """A block's points, and their weights, where the work happens; `checked` ones are finite."""
    arrays = {"x": block} if weights is None else {"x": block, "sample_weight": beside(block, weights)}
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


def masses(part: Part) -> Any:
    """Weights, also where all are one, in NumPy."""
    return np.ones(part.problem.plan.n) if part.mass is None else to_host(part.mass)


def _mark(frame: Frame, first: int) -> str:
    """What tells a block from the same one at another place, where other weights may go with it."""
    return f"{frame.mark} {first}"


def _started(part: Part, frame: Frame, block: Any, first: int) -> tuple[Any, Any, Any]:
    """The kernel for a block, and from the last step, if it left them, a state and what was added up."""
    problem = part.problem
    kernel = select(problem, frame.kernel)
    beside = lazy().left_beside(block, _mark(frame, first))
    if beside is None:
        return kernel, kernel.start(problem.x, None, problem.plan), None
    kind, items, last = beside
    return kernel, kind._make(problem.x if item is ... else item for item in items), last


def _leave(part: Part, frame: Frame, block: Any, first: int, state: Any, last: Any) -> None:
    """Leave a kernel's state beside the block, without the points."""
    items = tuple(... if item is part.problem.x else item for item in state)
    lazy().leave_beside(block, _mark(frame, first), (type(state), items, last))


@without_false_alarms
def look(
    block: Any, weights: Any, first: int, frame: Frame, sizes: tuple[tuple[int, int], ...], moments: bool
) -> Look:
    """Check values, take mean and spread, and for each pair of a key and a size draw so many rows."""
    part = part_of(frame, block, weights, checked=False)
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
    part = part_of(frame._replace(scale=scale, size=size), block, weights)
    mass = masses(part)
    if moments:
        found = found._replace(moments=_moments(part, mass, size))
    drawn = tuple(draw(key, 0, first, mass * size, Rows(part.problem), number) for key, number in sizes)
    return found._replace(drawn=drawn)


class Rows:
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
def step(block: Any, weights: Any, first: int, frame: Frame, book: Any, asks: bool) -> Sums:
    """Label every point, and sum the points of each centroid; the inertia if it `asks` for it."""
    part = part_of(frame, block, weights)
    problem, xp = part.problem, part.problem.xp
    book = xp.asarray(book, device=problem.device)
    kernel, state, last = _started(part, frame, block, first)
    state, found = kernel.step(state, book)
    if last is None or found.n_changed != 0:
        sums, counts = tally(problem, part.mass, found.labels)
        last = to_host(sums), to_host(counts)
    _leave(part, frame, block, first, state, last)
    inertia = _sum(part, squared_distances(problem, book, found.labels)) if asks else 0.0
    return Sums(last[0], last[1], inertia)


@without_false_alarms
def quality(block: Any, weights: Any, first: int, frame: Frame, book: Any, goes_on: bool) -> Quality:
    """Inertia and sizes of clusters; what is beside the block is cleared away unless it `goes_on`."""
    part = part_of(frame, block, weights)
    problem, xp = part.problem, part.problem.xp
    kernel, state, last = _started(part, frame, block, first)
    labels, squares = kernel.assign(state, xp.asarray(book, device=problem.device))
    if goes_on:
        _leave(part, frame, block, first, state, last)
    return Quality(_sum(part, squares), to_host(problem.flow.sizes(xp, labels, frame.k, problem.device)))


class Nearest(NamedTuple):
    """The rows of some books that are nearest to the points of a block."""

    n_books: int
    squares: Any  # (n,) of the distances, scaled
    rows: Any  # (n,) their numbers in all books


def _nearest(part: Part, found: Nearest | None, books: tuple[Any, ...], kinds: tuple[Any, Any]) -> Nearest:
    """Go on from what was found for the first of the books; of equally near rows the first.

    In the dtypes given, which are narrow, so that what is kept takes up little.
    """
    problem = part.problem
    kernel = select(problem)
    state = kernel.start(problem.x, None, problem.plan)
    done, squares, rows = found or (0, None, None)
    for i in range(done, len(books)):
        answer = kernel.assign(state, problem.xp.asarray(books[i], device=problem.device))
        numbers, away = map(to_host, answer)
        away, numbers = away.astype(kinds[0]), (numbers + sum(map(len, books[:i]))).astype(kinds[1])
        if squares is not None:
            nearer = away < squares
            away, numbers = np.where(nearer, away, squares), np.where(nearer, numbers, rows)
        squares, rows = away, numbers
    return Nearest(len(books), squares, rows)


@without_false_alarms
def spread_out(
    block: Any,
    weights: Any,
    first: int,
    found: Nearest | None,
    frame: Frame,
    books: tuple[Any, ...],
    kinds: tuple[Any, Any],
    key: int,
    size: int,
) -> tuple[Drawn, Nearest]:
    """Draw rows in proportion to weight times squared distance from the nearest row of all `books`."""
    part = part_of(frame._replace(k=max(map(len, books))), block, weights)
    nearest = _nearest(part, found, books, kinds)
    return draw(key, len(books), first, masses(part) * nearest.squares, Rows(part.problem), size), nearest


@without_false_alarms
def weigh(
    block: Any,
    weights: Any,
    _first: int,
    found: Nearest | None,
    frame: Frame,
    books: tuple[Any, ...],
    kinds: tuple[Any, Any],
) -> tuple[Sums, None]:
    """The weight of the points that are nearest to each row of all books."""
    part = part_of(frame._replace(k=max(map(len, books))), block, weights)
    rows = _nearest(part, found, books, kinds).rows
    counts = np.bincount(rows, None if part.mass is None else to_host(part.mass), sum(map(len, books)))
    return Sums(np.zeros((0, 0)), counts.astype(float), 0.0), None


@without_false_alarms
def far(
    block: Any, weights: Any, first: int, frame: Frame, book: Any, taken: tuple[Any, ...], size: int
) -> Far:
    """The points farthest from all centroids, and from those `taken`; see `fit._relocated`."""
    part = part_of(frame, block, weights)
    problem, xp = part.problem, part.problem.xp
    book = xp.asarray(book, device=problem.device)
    kernel, state, last = _started(part, frame, block, first)
    labels, _ = kernel.assign(state, book)
    _leave(part, frame, block, first, state, last)
    squares = squared_distances(problem, book, labels)
    origin = xp.zeros((1, problem.plan.d), dtype=book.dtype, device=problem.device)
    least = (2 * float(xp.finfo(problem.dtypes.compute).eps)) ** 2 * squared_distances(problem, origin)
    squares, mass = to_host(xp.where(squares > least, squares, 0.0)), masses(part)
    squares = np.where(mass > 0, squares, 0.0)
    for point in taken:
        away = squared_distances(problem, xp.asarray(point[None, :], device=problem.device))
        squares = np.minimum(squares, to_host(away))
    rows, floor = np.flatnonzero(squares > 0), 0.0
    if rows.shape[0] > size:  # equal ones stay together
        least_taken = np.partition(squares, -size)[-size]
        rows, left = np.flatnonzero(squares >= least_taken), squares[squares < least_taken]
        floor = float(left.max()) if left.size else 0.0
    points, labels = Rows(problem)[rows], to_host(labels)[rows]
    return farthest(squares[rows], rows + first, points, mass[rows], labels, floor, size)


@without_false_alarms
def copies(block: Any, weights: Any, _first: int, frame: Frame, point: Any) -> Sums:
    """The weight of all points that equal this one."""
    part = part_of(frame, block, weights)
    xp = part.problem.xp
    away = squared_distances(part.problem, xp.asarray(point[None, :], device=part.problem.device))
    weight = _sum(part, cast(xp, away == 0, part.problem.dtypes.sums))
    return Sums(np.zeros((0, 0)), np.asarray([weight]), 0.0)


@without_false_alarms
def labelled(block: Any, book: Any, frame: Frame) -> tuple[Any]:
    """Labels of a block's points."""
    if not block.shape[0]:
        user, _ = dispatch(x=block)
        return (user.xp.zeros(0, dtype=user.xp.int32, device=user.device),)
    part = part_of(frame, block, None)
    problem, xp = part.problem, part.problem.xp
    kernel = select(problem, frame.kernel)
    state = kernel.start(problem.x, None, problem.plan)
    return (part.back(kernel.assign(state, xp.asarray(book, device=problem.device))[0]),)


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
    return Totals((first,), (float(np.cumsum(masses(part_of(frame, block, weights)))[-1]),))


@without_false_alarms
def fetch(block: Any, weights: Any, first: int, frame: Frame, wanted: dict[int, Any]) -> Batch | None:
    """The points at some places of a block's cumulated weights."""
    if first not in wanted:
        return None
    part = part_of(frame, block, weights)
    order, places = wanted[first]
    rows = initial.interval(np, np.cumsum(masses(part)), places)
    return Batch(order, Rows(part.problem)[rows])


@without_false_alarms
def assigned(block: Any, book: Any, metric: str, kernel: str | None, dtype: Any) -> tuple[Any, Any]:
    """Labels and distances of a block's points."""
    user, book, dtype = _at(block, book, dtype)
    if not block.shape[0]:
        return tuple(user.xp.zeros(0, dtype=kind, device=user.device) for kind in (user.xp.int32, dtype))
    inputs = _inputs.inputs_of("assign", block, centroids=book)
    task = Task(inputs.user, inputs.work, inputs.dtype, metric, kernel)
    labels, lengths = _solve.solve(_solve.assign, task, inputs, per_point=(True, True))
    return returned(user, labels), returned(user, lengths, dtype)


@without_false_alarms
def transformed(block: Any, book: Any, metric: str, dtype: Any) -> tuple[Any]:
    """Distances of a block's points from all centroids."""
    user, book, dtype = _at(block, book, dtype)
    if not block.shape[0]:
        return (user.xp.zeros((0, book.shape[0]), dtype=dtype, device=user.device),)
    inputs = _inputs.inputs_of("assign", block, cluster_centers_=book)
    task = Task(inputs.user, inputs.work, inputs.dtype, metric)
    (found,) = _solve.solve(_solve.transform, task, inputs, (True,))
    return (returned(user, found, dtype),)


def _at(block: Any, book: Any, dtype: Any) -> tuple[Context, Any, Any]:
    """What a block is made of, a code book where it is, and its own dtype for one that NumPy was told of."""
    user, _ = dispatch(x=block)
    if user.library == "numpy":
        return user, book, dtype
    book = beside(block, book)
    kinds = (precision(user.xp, table.dtype, user.device).result for table in (block, book))
    return user, book, promoted(user.xp, *kinds)
