"""K-means for the arrays of every library: what SciPy's signatures cannot say.

The same core as `xpmeans.vq`, with convergence, restarts, weights, cosine distance, rules for empty clusters
and batches. Arrays stay on their device.
"""

import copy
import math
import operator
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import array_api_extra as xpx
import numpy as np

from xpmeans._core import initial
from xpmeans._core.distances import squared_distances
from xpmeans._core.fit import Rules
from xpmeans._core.lloyd import ClusterError
from xpmeans._core.loop import EAGER
from xpmeans._core.precision import Reach, cast, measure, precision, promoted, widest
from xpmeans._core.problem import Problem, make_problem
from xpmeans._core.restarts import Answer, best_of
from xpmeans._dispatch import Context, dispatch, on_host, returned
from xpmeans._kernels import select
from xpmeans.capabilities import documented, gate

__all__ = ["KMeansResult", "assign", "kmeans", "kmeans_plusplus"]

METRICS = ("euclidean", "cosine")
EMPTY = ("relocate", "keep", "raise")
INIT = ("k-means++", "k-means||", "random")

_EMPTY = "Some clusters are empty in the end: there may be fewer distinct points than `n_clusters`."


class KMeansResult(NamedTuple):
    """What `kmeans` found; all of it belongs to one iteration.

    With a batch every field has the batch's length in front. A tuple, so it unpacks, and passes through JAX's
    transformations.

    Attributes
    ----------
    centroids : array of shape (k, d)
        In the dtype of the points; integers become the library's default real dtype.
    labels : int32 array of shape (n,)
        For each point the index of its nearest centroid.
    inertia : scalar, or array of shape ()
        Sum over the points of the weight times the squared Euclidean distance, or the cosine distance, from
        the own centroid; in float64 where the device has it.
    counts : array of shape (k,), integer
        Points of each cluster, whatever their weights.
    n_iter : int
        Iterations of the best run.
    converged : bool
        Whether it ended before `max_iter` of its own accord.
    """

    centroids: Any
    labels: Any
    inertia: Any
    counts: Any
    n_iter: Any
    converged: Any


@documented
def kmeans(
    x: Any,
    n_clusters: int,
    *,
    init: Any = "k-means++",
    n_init: Any = "auto",
    max_iter: int = 300,
    tol: float = 1e-4,
    sample_weight: Any = None,
    metric: str = "euclidean",
    empty: str = "relocate",
    rng: Any = None,
    kernel: str | None = None,
    callback: Callable[[int, float, Any], Any] | None = None,
) -> KMeansResult:
    """Cluster points into k groups by k-means.

    Each iteration labels every point by its nearest centroid (the lowest index wins a tie) and moves each
    centroid to the weighted mean of its points, until the centroids hardly move or no label changes.

    Parameters
    ----------
    x : array of shape (n, d) or (B, n, d)
        The n points, or B problems that are each solved as if alone. Real numbers of any dtype: integers and
        booleans are computed in the library's default real dtype, float16 and bfloat16 in float32.
    n_clusters : int
        How many clusters to form: k, from 1 to n.
    init : {'k-means++', 'k-means||', 'random'}, array of shape (k, d) or (B, k, d), or callable
        How to choose the first centroids:

        * 'k-means++': points far from each other, the best of a few candidates each [1]_;
        * 'k-means||': the same from far fewer passes over the data, for many clusters [2]_;
        * 'random': different points;
        * an array: these centroids;
        * a callable: what ``init(x, n_clusters, rng)`` returns, with a `numpy.random.Generator`.
    n_init : int or 'auto', default 'auto'
        Number of runs with different first centroids; the result with the least inertia is returned. 'auto'
        is 10 with 'random' and with a callable, else 1.
    max_iter : int, default 300
        Most iterations of a run.
    tol : float, default 1e-4
        A run ends when the squared distances that the centroids moved add up to `tol` times the mean variance
        of the columns at most, as in scikit-learn. With 0 it ends when no label changes.
    sample_weight : array of shape (n,) or (B, n), optional
        A weight for each point, not negative. An integer weight counts like as many copies of the point.
        Points of weight zero are labelled, and have no other effect.
    metric : {'euclidean', 'cosine'}, default 'euclidean'
        'cosine' is spherical k-means: points and centroids are brought to length 1, and the distance of two
        is 1 minus the cosine of the angle between them.
    empty : {'relocate', 'keep', 'raise'}, default 'relocate'
        What to do with a cluster that loses its last point: move it to the point farthest from all
        centroids, leave its centroid where it is, or raise `ClusterError`.
    rng : {None, int, array_like of ints, SeedSequence, BitGenerator, Generator}, optional
        Source of random numbers, passed to `numpy.random.default_rng`; None is fresh entropy. The numbers
        are drawn by NumPy on the host for every library, so that one seed gives one answer.
    kernel : {None, 'reference'}, optional
        Which implementation does the work; None chooses the fastest one that serves the call.
    callback : callable, optional
        Called in each iteration as ``callback(iteration, inertia, centroids)``, with centroids and the
        inertia of the points nearest to them. Returning True ends the run.

    Returns
    -------
    KMeansResult
        ``(centroids, labels, inertia, counts, n_iter, converged)``, arrays of the library of `x`, on its
        device.

    Raises
    ------
    UnsupportedBackendError
        If the table below says no; a TypeError.
    TypeError
        For arrays of two libraries, masked and sparse arrays, arrays of objects or strings.
    ValueError
        For empty or not finite input, arrays on two devices, arguments that are out of range or do not fit
        together, a point of length zero with ``metric='cosine'``.
    ClusterError
        With ``empty='raise'``.

    Warns
    -----
    UserWarning
        If clusters are empty in the end, as when there are fewer distinct points than `n_clusters`.

    See Also
    --------
    assign : label other points.
    xpmeans.vq.kmeans2 : SciPy's signature.

    Notes
    -----
    The time is O(n k d) for an iteration and for k-means++, the extra memory a few MiB and some 60 bytes a
    point: n x k numbers are never held.

    {support}

    References
    ----------
    .. [1] D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
    .. [2] B. Bahmani et al., "Scalable k-means++", VLDB 2012.

    Examples
    --------
    >>> import numpy as np
    >>> import xpmeans
    >>> x = np.array([[0.0, 6.0], [1.0, 7.0], [2.0, 0.0], [2.0, 1.0], [6.0, 4.0], [7.0, 4.0]])
    >>> result = xpmeans.kmeans(x, 3, rng=0)
    >>> result.labels
    array([2, 2, 0, 0, 1, 1], dtype=int32)
    >>> result.centroids
    array([[2. , 0.5],
           [6.5, 4. ],
           [0.5, 6.5]])
    >>> float(result.inertia), result.n_iter, result.converged
    (2.0, 2, True)
    """
    _one_of("metric", metric, METRICS)
    _one_of("empty", empty, EMPTY)
    max_iter = _at_least("max_iter", max_iter, 1)
    if not tol >= 0:
        raise ValueError(f"`tol` must be a number not below 0, got {tol!r}.")
    named = isinstance(init, str)
    if named:
        _one_of("init", init, INIT)
    given = not named and not callable(init)
    if isinstance(n_init, str):
        _one_of("n_init", n_init, ("auto",))
        n_init = 10 if callable(init) or (named and init == "random") else 1
    n_runs = 1 if given else _at_least("n_init", n_init, 1)
    source = np.random.default_rng(rng)
    inputs = _inputs("kmeans", x, sample_weight, init=init if given else None)
    k = _clusters(n_clusters, inputs)
    if given:
        _check_count("init", inputs.book, k)
    draws = _draws(init, source, n_runs, k) if named else ()

    def on_step(n_iter: Any, inertia: Any, centroids: Any) -> bool:
        assert callback is not None
        return callback(int(n_iter), float(inertia), returned(inputs.user, centroids, inputs.dtype)) is True

    def solve(x: Any, book: Any, weights: Any) -> Answer:
        problem, mass, unit = _problem(inputs, x, k, weights, metric, book)
        chosen = select(problem, kernel)
        generator = source if inputs.x.ndim == 2 else copy.deepcopy(source)

        def first(i: Any) -> Any:
            if callable(init):
                data = returned(inputs.user, x)
                made = _inputs("kmeans", data, None, init=init(data, k, generator)).book
                _check_count("init", made, k)
                return _book(problem, "init", made, metric)
            if given:
                return _book(problem, "init", book, metric)
            uniforms = [_uniforms(problem, draw[int(i)]) for draw in draws]
            return initial.points_at(problem, initial.ROWS[init](problem, chosen, EAGER, mass, *uniforms))

        rules = Rules(
            max_iter,
            tol,
            relocate=empty == "relocate",
            spherical=metric == "cosine",
            unit=unit,
            on_empty=_raise_empty if empty == "raise" else None,
            on_step=on_step if callback is not None else None,
        )
        return best_of(problem, chosen, EAGER, mass, n_runs, first, rules)

    answer = Answer(*_for_each(solve, inputs))
    xp, user = inputs.work.xp, inputs.user
    if xp.any(answer.counts == 0):
        warnings.warn(_EMPTY, UserWarning, stacklevel=2)
    single = inputs.x.ndim == 2
    index = xpx.default_dtype(user.xp, "indexing", device=user.device)
    inertia = returned(user, answer.inertia, widest(user.xp, user.device))
    return KMeansResult(
        returned(user, answer.centroids, inputs.dtype),
        returned(user, answer.labels),
        inertia[()] if single else inertia,
        returned(user, answer.counts, index),
        int(answer.n_iter) if single else returned(user, answer.n_iter),
        bool(answer.converged) if single else returned(user, answer.converged),
    )


@documented
def assign(
    x: Any, centroids: Any, *, metric: str = "euclidean", kernel: str | None = None
) -> tuple[Any, Any]:
    """Find the nearest centroid of each point.

    Parameters
    ----------
    x : array of shape (n, d) or (B, n, d)
        The n points, or B sets of them. Real numbers of any dtype.
    centroids : array of shape (k, d) or (B, k, d)
        The k centroids, the same for all sets or each set's own. The lowest index wins a tie.
    metric : {'euclidean', 'cosine'}, default 'euclidean'
        Which distance; 'cosine' is 1 minus the cosine of the angle between point and centroid.
    kernel : {None, 'reference'}, optional
        Which implementation does the work; None chooses the fastest one that serves the call.

    Returns
    -------
    labels : int32 array of shape (n,) or (B, n)
        For each point the index of its centroid.
    distances : array of the shape of `labels`
        The distance between them, not squared, in the dtype that `x` and `centroids` promote to.

    Raises
    ------
    UnsupportedBackendError
        If the table below says no; a TypeError.
    TypeError
        For arrays of two libraries, masked and sparse arrays, arrays of objects or strings.
    ValueError
        For empty or not finite input, arrays on two devices, shapes that do not fit together, points or
        centroids of length zero with ``metric='cosine'``.

    See Also
    --------
    kmeans : find the centroids.
    xpmeans.vq.vq : SciPy's signature.

    Notes
    -----
    The time is O(n k d), the extra memory a few MiB and some 30 bytes a point.

    {support}

    Examples
    --------
    >>> import xpmeans
    >>> labels, distances = xpmeans.assign([[1.0, 1.0], [4.0, 8.0]], [[1.0, 0.0], [1.0, 4.0]])
    >>> labels, distances
    (array([0, 1], dtype=int32), array([1., 5.]))
    """
    _one_of("metric", metric, METRICS)
    inputs = _inputs("assign", x, None, centroids=centroids)
    dtype = promoted(inputs.user.xp, inputs.dtype, inputs.book_dtype)

    def solve(x: Any, book: Any, weights: Any) -> tuple[Any, Any]:
        wide = promoted(inputs.work.xp, x.dtype, book.dtype)
        problem, *_ = _problem(inputs, x, book.shape[0], None, metric, book, wide)
        chosen = select(problem, kernel)
        state = chosen.start(problem.x, None, problem.plan)
        labels, squares = chosen.assign(state, _book(problem, "centroids", book, metric))
        distances = squares / 2 if metric == "cosine" else inputs.work.xp.sqrt(squares) / problem.scale
        return labels, distances

    labels, distances = _for_each(solve, inputs)
    return returned(inputs.user, labels), returned(inputs.user, distances, dtype)


@documented
def kmeans_plusplus(
    x: Any,
    n_clusters: int,
    *,
    sample_weight: Any = None,
    n_local_trials: int | None = None,
    rng: Any = None,
) -> tuple[Any, Any]:
    """Choose k points that lie far from each other, by greedy k-means++.

    The first point is drawn in proportion to its weight. For each of the others a few candidates are drawn
    in proportion to weight times squared distance from the points chosen before, and the one is taken that
    leaves the least sum of these.

    Parameters
    ----------
    x : array of shape (n, d) or (B, n, d)
        The n points, or B problems that are each solved as if alone. Real numbers of any dtype.
    n_clusters : int
        How many points to choose: k, from 1 to n. If fewer are distinct, some are chosen again.
    sample_weight : array of shape (n,) or (B, n), optional
        A weight for each point, not negative. Points of weight zero are not chosen.
    n_local_trials : int, optional
        Candidates for each choice; by default 2 + log(k), rounded down.
    rng : {None, int, array_like of ints, SeedSequence, BitGenerator, Generator}, optional
        Source of random numbers, passed to `numpy.random.default_rng`.

    Returns
    -------
    centroids : array of shape (k, d) or (B, k, d)
        The points chosen, in the dtype of `x`; integers become the library's default real dtype.
    indices : integer array of shape (k,) or (B, k)
        Their row numbers in `x`.

    Raises
    ------
    UnsupportedBackendError
        If the table below says no; a TypeError.
    TypeError
        For arrays of two libraries, masked and sparse arrays, arrays of objects or strings.
    ValueError
        For empty or not finite input, arrays on two devices, arguments that are out of range or do not fit
        together.

    Notes
    -----
    The time is O(n k d) for each candidate, the extra memory a few MiB and some 40 bytes a point.

    {support}

    References
    ----------
    D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.

    Examples
    --------
    >>> import xpmeans
    >>> centroids, indices = xpmeans.kmeans_plusplus([[1.0], [2.0], [50.0], [52.0]], 2, rng=0)
    >>> indices
    array([2, 1])
    """
    trials = None if n_local_trials is None else _at_least("n_local_trials", n_local_trials, 1)
    source = np.random.default_rng(rng)
    inputs = _inputs("kmeans_plusplus", x, sample_weight)
    k = _clusters(n_clusters, inputs)
    (draws,) = _draws("k-means++", source, 1, k, trials)

    def solve(x: Any, book: Any, weights: Any) -> tuple[Any, Any]:
        problem, mass, _ = _problem(inputs, x, k, weights, "euclidean")
        rows = initial.plus_plus(problem, None, EAGER, mass, _uniforms(problem, draws[0]))
        return initial.points_at(problem, rows), rows

    centroids, rows = _for_each(solve, inputs)
    index = xpx.default_dtype(inputs.user.xp, "indexing", device=inputs.user.device)
    return returned(inputs.user, centroids, inputs.dtype), returned(inputs.user, rows, index)


class _Inputs(NamedTuple):
    """The arrays of one call, where they are worked on."""

    user: Context  # what came in
    work: Context  # where the work happens
    x: Any  # (n, d) or (B, n, d)
    weights: Any | None
    book: Any | None
    dtype: Any  # of the results, in the user's library
    book_dtype: Any  # what that of the given centroids becomes


def _inputs(function: str, x: Any, weights: Any, **book: Any) -> _Inputs:
    """Dispatch, gate and check the shapes of points, their weights and given centroids."""
    arrays = {"x": x, "sample_weight": weights, **book}
    user, found = dispatch(**{name: array for name, array in arrays.items() if array is not None})
    gate(function, user)
    named = dict(zip((name for name, array in arrays.items() if array is not None), found, strict=True))
    x = named["x"]
    ndim = getattr(x, "ndim", 0)
    if ndim not in (2, 3):
        hint = " Hint: x[:, None] makes a vector a table of one column." if ndim == 1 else ""
        raise ValueError(f"`x` must have shape (n, d) or (B, n, d), got {ndim} dimensions.{hint}")
    if 0 in x.shape:
        raise ValueError(f"`x` must not be empty, got shape {tuple(x.shape)}.")
    dtype = book_dtype = precision(user.xp, x.dtype, user.device).result
    for name, array in named.items():
        shape = tuple(getattr(array, "shape", ()))
        if name == "sample_weight" and shape not in (tuple(x.shape[-2:-1]), tuple(x.shape[:-1])):
            raise ValueError(f"`sample_weight` must have shape {tuple(x.shape[:-1])}, got {shape}.")
        if name in book:
            if len(shape) < 2 or shape[-1] != x.shape[-1] or shape[:-2] not in ((), tuple(x.shape[:-2])):
                wanted = (*x.shape[:-2], "k", x.shape[-1])
                raise ValueError(f"`{name}` must have shape ({', '.join(map(str, wanted))}), got {shape}.")
            if 0 in shape:
                raise ValueError(f"`{name}` must not be empty, got shape {shape}.")
            book_dtype = precision(user.xp, array.dtype, user.device).result
    work, found = on_host(user, list(named.values()))
    named = dict(zip(named, found, strict=True))
    x, weights = named.pop("x"), named.pop("sample_weight", None)
    return _Inputs(user, work, x, weights, *(named.values() or [None]), dtype, book_dtype)


def _problem(
    inputs: _Inputs, x: Any, k: int, weights: Any, metric: str, book: Any = None, dtype: Any = None
) -> tuple[Problem, Any, float]:
    """One problem, the weights of its points, and what a weighted scaled square counts in the inertia."""
    xp, device = inputs.work.xp, inputs.work.device
    dtypes = precision(xp, dtype or x.dtype, device)
    reach = _finite("x", xp, x)
    if book is not None:
        reach = reach.joined(measure(xp, book))
    problem = make_problem(xp, device, x, k, dtypes, reach)
    unit = problem.scale**-2
    if metric == "cosine":
        problem = problem._replace(x=_directions("x", problem, x), scale=1.0)
        unit = 0.5  # the square of a chord is twice 1 - cos
    if weights is None:
        return problem, xp.ones(x.shape[0], dtype=dtypes.sums, device=device), unit
    mass = cast(xp, weights, dtypes.sums)
    largest = _finite("sample_weight", xp, mass[:, None]).largest
    if largest == 0 or xp.any(mass < 0):
        raise ValueError(
            "`sample_weight` must not be negative, and not all zero, "
            f"got values from {float(xp.min(mass))} to {float(xp.max(mass))}."
        )
    size = 2.0 ** (math.frexp(largest)[1] - 1)  # so that neither tiny nor huge weights leave the range
    return problem, mass / size, unit * size


def _book(problem: Problem, name: str, book: Any, metric: str) -> Any:
    """Given centroids as the iteration takes them."""
    if metric == "cosine":
        return _directions(name, problem, book)
    _finite(name, problem.xp, book)
    return cast(problem.xp, book, problem.dtypes.compute)


def _directions(name: str, problem: Problem, rows: Any) -> Any:
    """Rows brought to length 1."""
    xp, compute = problem.xp, problem.dtypes.compute
    reach = _finite(name, xp, rows)
    lengthwise = make_problem(xp, problem.device, rows, problem.plan.k, problem.dtypes, reach)
    origin = xp.zeros((1, rows.shape[1]), dtype=compute, device=problem.device)
    norms = xp.sqrt(squared_distances(lengthwise, origin))
    if not xp.all(norms > 0):
        row = int(xp.argmin(norms))
        raise ValueError(f"`{name}` must have no rows of length zero with metric='cosine', row {row} has.")
    return cast(xp, rows, compute) * lengthwise.scale / cast(xp, norms, compute)[:, None]


def _finite(name: str, xp: Any, table: Any) -> Reach:
    """How far a table reaches, after the one scan for NaN and infinity."""
    reach = measure(xp, table)
    if not reach.finite:
        raise ValueError(f"`{name}` must not contain NaN or infinity.")
    return reach


def _draws(init: str, source: np.random.Generator, n_runs: int, k: int, trials: int | None = None) -> Any:
    """All uniform numbers that the runs need, a row for each run, from one place on the host."""
    greedy = (n_runs, k, trials or 2 + int(math.log(k)))
    if init == "random":
        return (source.random((n_runs, k)),)
    if init == "k-means++":
        return (source.random(greedy),)
    candidates = 1 + initial.ROUNDS * initial.OVERSAMPLING * k
    return source.random((n_runs, candidates)), source.random(greedy)


def _uniforms(problem: Problem, draws: Any) -> Any:
    """Uniform numbers where the points are."""
    return problem.xp.asarray(draws, dtype=problem.dtypes.sums, device=problem.device)


def _for_each(solve: Callable[..., Any], inputs: _Inputs) -> tuple[Any, ...]:
    """Solve the problem, or each problem of a batch."""
    x, book, weights = inputs.x, inputs.book, inputs.weights
    if x.ndim == 2:
        return tuple(solve(x, book, weights))

    def part(array: Any, whole: int, b: int) -> Any:
        return array if array is None or array.ndim < whole else array[b, ...]

    answers = [solve(x[b, ...], part(book, 3, b), part(weights, 2, b)) for b in range(x.shape[0])]
    return tuple(inputs.work.xp.stack(parts) for parts in zip(*answers, strict=True))


def _clusters(n_clusters: Any, inputs: _Inputs) -> int:
    """The number of clusters asked for."""
    k, n = _at_least("n_clusters", n_clusters, 1), inputs.x.shape[-2]
    if k > n:
        raise ValueError(f"`n_clusters` must be between 1 and the number of points ({n}), got {k}.")
    return k


def _check_count(name: str, book: Any, k: int) -> None:
    """Require k centroids."""
    if book.shape[-2] != k:
        raise ValueError(f"`{name}` must hold `n_clusters` = {k} centroids, one a row, got {book.shape[-2]}.")


def _at_least(name: str, value: Any, least: int) -> int:
    """An integer argument."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"`{name}` must be an integer, got {value!r}.") from None
    if number < least:
        raise ValueError(f"`{name}` must be at least {least}, got {number}.")
    return number


def _one_of(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """An argument with a few possible values."""
    if value not in choices:
        hint = " Hint: the mean minimises the distances of no other metric." if callable(value) else ""
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, choices))}, got {value!r}.{hint}")


def _raise_empty() -> None:
    raise ClusterError("A cluster is empty. Hint: empty='relocate' moves it to the farthest point.")
