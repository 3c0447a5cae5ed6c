"""What the arguments of the native functions mean, and the errors for those that mean nothing."""

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from xpmeans._core import initial
from xpmeans._core.distances import squared_distances
from xpmeans._core.lloyd import ClusterError
from xpmeans._core.loop import EAGER
from xpmeans._core.precision import Reach, cast, measure, precision
from xpmeans._core.problem import Problem, make_problem
from xpmeans._dispatch import Context, dispatch, on_host
from xpmeans._kernels import flow_for, traced_problem
from xpmeans.capabilities import gate


class Inputs(NamedTuple):
    """The arrays of one call, where they are worked on."""

    user: Context  # what came in
    work: Context  # where the work happens
    x: Any  # (n, d) or (B, n, d)
    weights: Any | None
    book: Any | None  # (k, d) or (B, k, d)
    dtype: Any  # of the results, in the user's library
    book_dtype: Any  # the same for results that belong to the code book


def inputs_of(function: str, x: Any, weights: Any = None, **books: Any) -> Inputs:
    """Dispatch, gate and check the shapes of points, their weights and, by its name, a code book."""
    arrays = {"x": x, "sample_weight": weights, **books}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    user, found = dispatch(**arrays)
    gate(f"xpmeans.{function}", user)
    arrays = dict(zip(arrays, found, strict=True))
    shapes = {name: tuple(getattr(array, "shape", ())) for name, array in arrays.items()}
    shape = shapes["x"]
    if len(shape) not in (2, 3):
        hint = " Hint: x[:, None] makes a vector a table of one column." if len(shape) == 1 else ""
        raise ValueError(f"`x` must have shape (n, d) or (B, n, d), got {shape}.{hint}")
    for name, got in shapes.items():
        if name == "sample_weight":
            if got not in (shape[:-1], shape[-2:-1]):
                raise ValueError(f"`sample_weight` must have shape {shape[:-1]}, got {got}.")
        elif name != "x" and (len(got) < 2 or got[-1] != shape[-1] or got[:-2] not in ((), shape[:-2])):
            raise ValueError(f"`{name}` must have shape (k, {shape[-1]}), got {got}.")
        if 0 in got:
            raise ValueError(f"`{name}` must not be empty, got shape {got}.")
    tables = [arrays[name] for name in arrays if name != "sample_weight"]
    results = [precision(user.xp, table.dtype, user.device).result for table in tables]
    work, found = on_host(user, list(arrays.values()))
    arrays = dict(zip(arrays, found, strict=True))
    x, weights, book = arrays.pop("x"), arrays.pop("sample_weight", None), next(iter(books), "")
    return Inputs(user, work, x, weights, arrays.get(book), results[0], results[-1])


def problem_of(
    inputs: Inputs, x: Any, k: int, weights: Any, metric: str, book: Any = None, dtype: Any = None
) -> tuple[Problem, Any, float]:
    """One problem, the weights of its points, and what a weighted scaled square counts in the inertia."""
    xp, device = inputs.work.xp, inputs.work.device
    dtypes = precision(xp, dtype or x.dtype, device)
    mass = xp.ones(x.shape[0], dtype=dtypes.sums, device=device)
    if inputs.work.traced:
        problem = traced_problem(xp, x, k, dtypes)
    else:
        reach = _finite("x", xp, x)
        if book is not None:
            reach = reach.joined(measure(xp, book), dtypes.limit(xp))
        problem = make_problem(xp, device, x, k, dtypes, reach)
    unit = problem.scale**-2
    if metric == "cosine":
        problem = problem._replace(x=_directions("x", problem, x), scale=1.0)
        unit = 0.5  # the square of a chord is twice 1 - cos
    if weights is None:
        return problem, mass, unit
    mass = cast(xp, weights, dtypes.sums)
    if inputs.work.traced:
        return problem, mass, unit
    largest = _finite("sample_weight", xp, mass[:, None]).largest
    if largest == 0 or xp.any(mass < 0):
        raise ValueError(
            "`sample_weight` must not be negative, and not all zero, "
            f"got values from {float(xp.min(mass))} to {float(xp.max(mass))}."
        )
    size = 2.0 ** (math.frexp(largest)[1] - 1)  # so that neither tiny nor huge weights leave the range
    return problem, mass / size, unit * size


def centroids_of(problem: Problem, name: str, book: Any, metric: str) -> Any:
    """A code book as the iteration takes it."""
    if metric == "cosine":
        return _directions(name, problem, book)
    if problem.flow is EAGER:
        _finite(name, problem.xp, book)
    return cast(problem.xp, book, problem.dtypes.compute)


def _directions(name: str, problem: Problem, rows: Any) -> Any:
    """Rows brought to length 1."""
    xp, compute = problem.xp, problem.dtypes.compute
    if problem.flow is not EAGER:
        lengthwise = traced_problem(xp, rows, problem.plan.k, problem.dtypes)
    else:
        reach = _finite(name, xp, rows)
        lengthwise = make_problem(xp, problem.device, rows, problem.plan.k, problem.dtypes, reach)
    origin = xp.zeros((1, rows.shape[1]), dtype=compute, device=problem.device)
    norms = xp.sqrt(squared_distances(lengthwise, origin))
    if problem.flow is EAGER and not xp.all(norms > 0):
        row = int(xp.argmin(norms))
        raise ValueError(f"`{name}` must have no rows of length zero with metric='cosine', row {row} has.")
    return cast(xp, rows, compute) * lengthwise.scale / cast(xp, norms, compute)[:, None]


def _finite(name: str, xp: Any, table: Any) -> Reach:
    """How far a table reaches, after the one scan for NaN and infinity."""
    reach = measure(xp, table)
    if not reach.finite:
        raise ValueError(f"`{name}` must not contain NaN or infinity.")
    return reach


def draws(init: str, source: np.random.Generator, n_runs: int, k: int, trials: int | None = None) -> Any:
    """All uniform numbers that the runs need, a row for each run, from one place on the host."""
    greedy = (n_runs, k, trials or 2 + int(math.log(k)))
    if init == "random":
        return (source.random((n_runs, k)),)
    if init == "k-means++":
        return (source.random(greedy),)
    candidates = 1 + initial.ROUNDS * initial.OVERSAMPLING * k
    return source.random((n_runs, candidates)), source.random(greedy)


def uniforms(problem: Problem, draws: Any) -> Any:
    """Uniform numbers where the points are."""
    return problem.xp.asarray(draws, dtype=problem.dtypes.sums, device=problem.device)


def for_each(solve: Callable[..., Any], inputs: Inputs) -> tuple[Any, ...]:
    """Call `solve(x, weights, book)` for the problem, or for each problem of a batch."""
    x, weights, book = arrays = inputs.x, inputs.weights, inputs.book
    if x.ndim == 2:
        return tuple(solve(*arrays))
    batched = (True, weights is not None and weights.ndim == 2, book is not None and book.ndim == 3)
    return tuple(flow_for(inputs.work).for_each(inputs.work.xp, solve, arrays, batched))


def clusters(n_clusters: Any, inputs: Inputs) -> int:
    """The number of clusters asked for."""
    k, n = at_least("n_clusters", n_clusters, 1), inputs.x.shape[-2]
    if k > n:
        raise ValueError(f"`n_clusters` must be between 1 and the number of points ({n}), got {k}.")
    return k


def require_count(name: str, book: Any, k: int) -> None:
    """Require k centroids."""
    if book.shape[-2] != k:
        raise ValueError(f"`{name}` must hold `n_clusters` = {k} centroids, one a row, got {book.shape[-2]}.")


def at_least(name: str, value: Any, least: int) -> int:
    """An integer argument."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"`{name}` must be an integer, got {value!r}.") from None
    if number < least:
        raise ValueError(f"`{name}` must be at least {least}, got {number}.")
    return number


def one_of(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """An argument with a few possible values."""
    if value not in choices:
        hint = " Hint: the mean minimises the distances of no other metric." if callable(value) else ""
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, choices))}, got {value!r}.{hint}")


def raise_empty() -> None:
    raise ClusterError("A cluster is empty. Hint: empty='relocate' moves it to the farthest point.")
