"""The work of one call of a native function, from checked arrays to its answer.

Functions of a task and of arrays, and of nothing else: JAX compiles them once for each task and shape.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from xpmeans import _inputs
from xpmeans._core import initial
from xpmeans._core.distances import all_distances, distances, inertia_of
from xpmeans._core.fit import Rules
from xpmeans._core.minibatch import Pace, Run, Stream, run, subset, update
from xpmeans._core.precision import cast, is_one, measure, precision, promoted
from xpmeans._core.problem import Problem, make_problem
from xpmeans._core.restarts import Answer, best_of
from xpmeans._dispatch import Context, on_host, returned, there_and_back, without_false_alarms
from xpmeans._inputs import Inputs
from xpmeans._kernels import flow_for, select, traced


class Task(NamedTuple):
    """What is asked for, apart from arrays; it can be hashed."""

    user: Context  # what came in
    work: Context  # where the work happens
    dtype: Any  # of the centroids that go out, in the user's library
    metric: str = "euclidean"
    kernel: str | None = None
    k: int = 0
    init: Any = None  # a name, a callable, or None for given centroids
    rng: Callable[[], np.random.Generator] | None = None  # a problem's generator, for the callable
    n_runs: int = 1
    max_iter: int = 0
    tol: float = 0.0
    empty: str = "keep"
    callback: Callable[[int, float, Any], Any] | None = None


def solve(
    function: Callable[..., Any], task: Task, inputs: Inputs, per_point: tuple[bool, ...], draws: Any = ()
) -> tuple[Any, ...]:
    """What `function` yields for the problem, or stacked for each problem of a batch.

    `per_point` says which of its results have a value for each point.
    """
    arrays = _, weights, book = inputs.x, inputs.weights, inputs.book
    batched = (True, weights is not None and weights.ndim == 2, book is not None and book.ndim == 3)
    if not task.work.traced:
        return _each(function, task, batched, draws, *arrays)
    if not task.user.traced:
        _inputs.require_values(inputs, task.metric)
    run = traced().in_trace if task.user.traced else traced().compiled
    return tuple(run(_each, (function, task, batched), per_point, draws, arrays))


@without_false_alarms
def _each(
    function: Callable[..., Any], task: Task, batched: tuple[bool, ...], draws: Any, *arrays: Any
) -> tuple[Any, ...]:
    one = partial(function, task, draws)
    if arrays[0].ndim == 2:
        return tuple(one(*arrays))
    return tuple(flow_for(task.work).for_each(task.work.xp, one, arrays, batched))


def cluster(task: Task, draws: Any, x: Any, weights: Any, book: Any) -> Answer:
    """K-means, `n_runs` times; `book` is a given start."""
    problem, mass, size = _problem(task, x, task.k, weights, book)
    uniforms = [_uniforms(problem, draw) for draw in draws]
    starts = None if isinstance(task.init, str) else _starts(task, problem, x, book)

    def first(i: Any) -> Any:
        if starts is not None:
            return starts[i, ...]
        rows = initial.ROWS[task.init](problem, mass, *(numbers[i, ...] for numbers in uniforms))
        return initial.points_at(problem, rows)

    def rounded(centroids: Any) -> Any:
        if task.work.traced or centroids.dtype == task.dtype:
            return cast(task.work.xp, centroids, task.dtype)
        return there_and_back(task.user, centroids, task.dtype)

    def on_step(n_iter: Any, inertia: Any, centroids: Any) -> bool:
        assert task.callback is not None
        return bool(task.callback(int(n_iter), float(inertia), returned(task.user, centroids, task.dtype)))

    rules = Rules(
        task.max_iter,
        task.tol,
        relocate=task.empty == "relocate",
        spherical=task.metric == "cosine",
        inertia=partial(_inertia, task, problem, size),
        rounded=rounded,
        taken=partial(_book, task, problem, "centroids"),
        on_empty=_inputs.raise_empty if task.empty == "raise" else None,
        on_step=on_step if task.callback is not None else None,
    )
    return best_of(problem, select(problem, task.kernel), mass, task.n_runs, first, rules)


def _starts(task: Task, problem: Problem, x: Any, book: Any) -> Any:
    """Given centroids, or those of a callable for each run: (n_runs, k, d)."""
    if task.rng is None:
        start = _book(task, problem, "init", book)
        return problem.xp.asarray(start, copy=True)[None, ...]  # callbacks get it, and may write to it
    data, rng = returned(task.user, x), task.rng()
    starts = []
    for _ in range(task.n_runs):
        inputs = _inputs.inputs_of("kmeans", data, init=task.init(data, task.k, rng))
        _inputs.require_count("init", inputs.book, task.k)
        starts.append(_book(task, problem, "init", inputs.book))
    return problem.xp.stack(starts)


@without_false_alarms
def minibatch(task: Task, pace: Pace, init_size: int, rng: np.random.Generator, inputs: Inputs) -> Run:
    """K-means by batches that are drawn from the points."""
    problem, mass, _ = _problem(task, inputs.x, task.k, inputs.weights, inputs.book)
    first = _first(task, problem, mass, inputs, init_size, rng)
    if pace.tol:
        variance = float(initial.variance_of(problem, mass))
        pace = pace._replace(tol=pace.tol * variance / problem.scale / problem.scale)
    pace = pace._replace(inertia=partial(_inertia, task, problem, 1.0))
    return run(problem, None if inputs.weights is None else mass, first, pace, rng)


@without_false_alarms
def one_batch(
    task: Task, pace: Pace, stream: Stream | None, init_size: int, rng: np.random.Generator, inputs: Inputs
) -> Stream:
    """The stream after one more batch; the batch is all the points, and begins a stream if there is none."""
    problem, mass, size = _problem(task, inputs.x, task.k, inputs.weights, inputs.book)
    xp = problem.xp
    mass = mass * size  # weights as they were given, for other batches have others
    if stream is None:
        first = _first(task, problem, mass, inputs, init_size, rng)
        counts = xp.zeros(task.k, dtype=problem.dtypes.sums, device=problem.device)
        stream = Stream(first, counts, 0)
    else:
        (counts,) = on_host(task.user, [stream.counts])[1]
        book = _book(task, problem, "cluster_centers_", inputs.book)
        stream = stream._replace(centroids=book, counts=cast(xp, counts, problem.dtypes.sums))
    return update(problem, mass, stream, pace, rng)[0]


def _first(
    task: Task, problem: Problem, mass: Any, inputs: Inputs, size: int, rng: np.random.Generator
) -> Any:
    """First centroids: given, or the best of `n_runs`, each from `size` points, judged on `size` others."""
    if task.init is None:
        return _book(task, problem, "init", inputs.book)
    n, xp = problem.x.shape[0], problem.xp

    def part() -> tuple[Problem, Any]:
        rows = xp.asarray(rng.integers(n, size=size), device=problem.device)
        return subset(problem, rows), xp.take(mass, rows)

    return _best_of(task, part, None if size < n else (problem, mass), rng)


def _best_of_samples(task: Task, drawn: Callable[[int], Problem], size: int, rng: np.random.Generator) -> Any:
    """The same from points that `drawn` gives, in proportion to their weight."""

    def part() -> tuple[Problem, Any]:
        some = drawn(size)
        return some, some.xp.ones(some.plan.n, dtype=some.dtypes.sums, device=some.device)

    return _best_of(task, part, None, rng)


def _best_of(task: Task, part: Callable[[], Any], whole: Any, rng: np.random.Generator) -> Any:
    """First centroids from a `part` of the points each or the `whole`, judged on another part."""
    valid, valid_mass = part()
    xp = valid.xp
    best, least = None, math.inf
    for _ in range(task.n_runs):
        some, some_mass = part() if whole is None else whole
        if callable(task.init):
            one = task._replace(rng=lambda: rng, n_runs=1)
            book = _starts(one, some, some.x, None)[0, ...]
        else:
            draws = _inputs.draws(task.init, rng, 1, task.k)
            uniforms = [_uniforms(some, draw[0]) for draw in draws]
            book = initial.points_at(some, initial.ROWS[task.init](some, some_mass, *uniforms))
        kernel = select(valid)
        _, squares = kernel.assign(kernel.start(valid.x, None, valid.plan), book)
        inertia = float(xp.sum(squares * valid_mass))
        if best is None or inertia < least:
            best, least = book, inertia
    return best


def score(task: Task, _draws: Any, x: Any, weights: Any, book: Any) -> tuple[Any, Any]:
    """Labels, and the inertia, as `cluster` finds them for its own centroids."""
    wide = promoted(task.work.xp, x.dtype, book.dtype)
    problem, mass, size = _problem(task, x, book.shape[0], weights, book, wide)
    kernel = select(problem)
    state = kernel.start(problem.x, None, problem.plan)
    labels, squares = kernel.assign(state, _book(task, problem, "cluster_centers_", book))
    return labels, _inertia(task, problem, size, inertia_of(problem, squares, mass))


def transform(task: Task, _draws: Any, x: Any, _weights: Any, book: Any) -> tuple[Any]:
    """Distances of all points from all centroids."""
    wide = promoted(task.work.xp, x.dtype, book.dtype)
    problem, *_ = _problem(task, x, book.shape[0], None, book, wide)
    xp, dtype = problem.xp, problem.dtypes.result

    def finished(part: Any) -> Any:
        if task.metric == "cosine":
            part = part * part / 2
        elif not is_one(problem.scale):
            part = part / problem.scale
        return cast(xp, part, dtype)

    return (all_distances(problem, _book(task, problem, "cluster_centers_", book), finished, dtype),)


def assign(task: Task, _draws: Any, x: Any, _weights: Any, book: Any) -> tuple[Any, Any]:
    """Labels, and distances that are not squared."""
    wide = promoted(task.work.xp, x.dtype, book.dtype)
    problem, *_ = _problem(task, x, book.shape[0], None, book, wide)
    kernel = select(problem, task.kernel)
    centroids = _book(task, problem, "centroids", book)
    labels, squares = kernel.assign(kernel.start(problem.x, None, problem.plan), centroids)
    if task.metric == "cosine":
        return labels, squares / 2
    return labels, distances(problem, centroids, labels, squares) / problem.scale


def plus_plus(task: Task, draws: Any, x: Any, weights: Any, _book: Any) -> tuple[Any, Any]:
    """Centroids by k-means++, and their row numbers."""
    problem, mass, _ = _problem(task, x, task.k, weights)
    rows = initial.plus_plus(problem, mass, _uniforms(problem, draws[0][0]))
    return initial.points_at(problem, rows), rows


def _problem(
    task: Task, x: Any, k: int, weights: Any, book: Any = None, dtype: Any = None
) -> tuple[Problem, Any, float]:
    """One problem, the weights of its points, and by what power of two these are divided."""
    work = task.work
    xp, device = work.xp, work.device
    dtypes = precision(xp, dtype or x.dtype, device)
    mass = xp.broadcast_to(xp.ones(1, dtype=dtypes.sums, device=device), (x.shape[0],))
    if work.traced:
        problem = traced().traced_problem(xp, x, k, dtypes)
    else:
        reach = _inputs.finite("x", xp, x)
        if book is not None:
            reach = reach.joined(measure(xp, book), dtypes.limit(xp))
        problem = make_problem(xp, device, x, k, dtypes, reach, flow_for(work))
    if task.metric == "cosine":
        problem = problem._replace(x=_directions("x", problem, x), scale=1.0)
    if weights is None:
        return problem, mass, 1.0
    mass = cast(xp, weights, dtypes.sums)
    if work.traced:
        size = traced().power_of_two(xp.max(mass))
    else:
        largest = _inputs.finite("sample_weight", xp, mass[:, None]).largest
        _inputs.require_weights(float(xp.min(mass)), float(xp.max(mass)))
        size = 2.0 ** (math.frexp(largest)[1] - 1)  # so that neither tiny nor huge weights leave the range
    return problem, mass / size, size


def _inertia(task: Task, problem: Problem, size: Any, total: Any) -> Any:
    """The inertia that a sum of weighted scaled squares stands for; infinite beyond the largest number."""
    half = 0.5 if task.metric == "cosine" else 1.0  # the square of a chord is twice 1 - cos
    with np.errstate(over="ignore"):
        return total * (size * half) / problem.scale / problem.scale


def _book(task: Task, problem: Problem, name: str, book: Any) -> Any:
    """A code book as the iteration takes it."""
    if task.metric == "cosine":
        return _directions(name, problem, book)
    if not problem.flow.traced:
        _inputs.finite(name, problem.xp, book)
    return cast(problem.xp, book, problem.dtypes.compute)


def _directions(name: str, problem: Problem, rows: Any) -> Any:
    """Rows brought to length 1, each in units of its largest value, so that no square leaves the range."""
    xp = problem.xp
    if not problem.flow.traced:
        _inputs.finite(name, xp, rows)
    rows = cast(xp, rows, problem.dtypes.compute)
    largest = xp.maximum(xp.max(rows, axis=1), -xp.min(rows, axis=1))
    if not problem.flow.traced:
        _inputs.require_directions(name, int(xp.argmin(largest)) if xp.any(largest == 0) else -1)
    rows = rows / largest[:, None]

    def part(window: Any) -> Any:
        some = window(rows)
        return xp.sum(some * some, axis=1)

    n = rows.shape[0]
    squares = problem.flow.column(xp, n, min(n, problem.plan.rows), rows.dtype, problem.device, part)
    rows /= xp.sqrt(squares)[:, None]
    return rows


def _uniforms(problem: Problem, draws: Any) -> Any:
    """Uniform numbers where the points are."""
    return problem.xp.asarray(draws, dtype=problem.dtypes.sums, device=problem.device)
