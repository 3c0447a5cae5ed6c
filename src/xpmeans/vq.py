"""K-means and vector quantization with the names, arguments and seeds of `scipy.cluster.vq`.

Replace ``from scipy.cluster.vq import kmeans2`` by ``from xpmeans.vq import kmeans2``, and likewise for
`whiten`, `vq`, `kmeans`, `py_vq` and `ClusterError`: the same call gives the same answer, on the arrays of
every library that the support matrix names.
"""

import math
import operator
import warnings
from collections.abc import Callable
from typing import Any

import array_api_extra as xpx

from xpmeans import _arguments, _rng
from xpmeans._core import seeding
from xpmeans._core.distances import distances
from xpmeans._core.lloyd import LIMIT, ClusterError, Refinement, lloyd, refine
from xpmeans._core.precision import precision, promoted, widest
from xpmeans._core.problem import Problem, make_problem
from xpmeans._core.whitening import deviations
from xpmeans._dispatch import Context, dispatch_by_switch, on_host, returned, without_false_alarms
from xpmeans._kernels import flow_for, select
from xpmeans.capabilities import documented, gate

__all__ = ["ClusterError", "kmeans", "kmeans2", "py_vq", "vq", "whiten"]

_EMPTY = "One of the clusters is empty. Re-run kmeans with a different initialization."
_CONSTANT = "Some columns have standard deviation zero. The values of these columns will not change."


def _raise_empty() -> None:
    raise ClusterError(_EMPTY)


_MISSING = {"warn": None, "raise": _raise_empty}
_lloyd = without_false_alarms(lloyd)
_SEEDING = {
    "random": without_false_alarms(seeding.gaussian),
    "points": seeding.points,
    "++": without_false_alarms(seeding.plus_plus),
}


@documented
def whiten(obs: Any, check_finite: bool | None = None) -> Any:
    """Divide each column by its standard deviation.

    Columns of unlike units then count alike in the distances that k-means compares.

    Parameters
    ----------
    obs : array of shape (n, ...)
        The n observations, one a row; a vector is one column. Any real dtype, and complex numbers where
        the library takes their variance.
    check_finite : bool, optional
        Whether NaN and infinity are an error. By default they are, except on JAX and Dask arrays, whose
        values are not looked at.

    Returns
    -------
    array of the shape of `obs`
        In the library and on the device of `obs`, and in its dtype; integers and booleans become the
        library's default real dtype. A Dask array stays lazy, and gradients pass through. Constant columns
        are returned as they are.

    Raises
    ------
    TypeError
        For masked and sparse arrays, arrays of objects or strings, and for ``check_finite=True`` inside a
        JAX transformation.
    ValueError
        For a number instead of an array, and for NaN or infinity if they are checked.

    Warns
    -----
    RuntimeWarning
        For constant columns, where `check_finite` holds.

    See Also
    --------
    kmeans, kmeans2 : find a code book.

    Notes
    -----
    This is `scipy.cluster.vq.whiten`. The standard deviation is that of the population (n in the
    denominator), summed in float64 where the device has it. Time and memory are O(nd).

    {support}

    Examples
    --------
    >>> import numpy as np
    >>> from xpmeans.vq import whiten
    >>> features = np.array([[1.0, 100.0], [2.0, 300.0], [3.0, 200.0]])
    >>> whiten(features)
    array([[1.22474487, 1.22474487],
           [2.44948974, 3.67423461],
           [3.67423461, 2.44948974]])
    """
    user, (obs,) = dispatch_by_switch(obs=obs)
    gate("whiten", user)
    xp = user.xp
    if getattr(obs, "ndim", 0) == 0:
        raise ValueError(f"`obs` must have at least one dimension, got {obs}.")
    if check_finite and user.traced:
        raise TypeError(
            "`check_finite=True` looks at values, which a JAX tracer does not have. Hint: leave it out."
        )
    if check_finite is None:
        check_finite = user.library not in ("jax", "dask")
    if not xp.isdtype(obs.dtype, ("real floating", "complex floating")):
        obs = xp.astype(obs, precision(xp, obs.dtype, user.device).result)
    if 0 in obs.shape:
        return xp.asarray(obs, copy=True)
    if check_finite and not xp.all(xp.isfinite(obs)):
        raise ValueError("array must not contain infs or NaNs")
    deviation, constant = deviations(xp, obs, user.device)
    if check_finite and xp.any(constant):
        warnings.warn(_CONSTANT, RuntimeWarning, stacklevel=2)
    if not xp.isdtype(obs.dtype, "real floating"):
        return obs / deviation
    # Divided in the dtype of the deviation, which a narrower one may round to zero.
    return xp.astype(xp.astype(obs, deviation.dtype, copy=False) / deviation, obs.dtype, copy=False)


@documented
def vq(obs: Any, code_book: Any, check_finite: bool = True) -> tuple[Any, Any]:
    """Find the nearest code of each observation.

    Parameters
    ----------
    obs : array of shape (n, d) or (n,)
        The n observations. Real numbers of any dtype.
    code_book : array of shape (k, d) or (k,)
        The k codes; the lowest index wins a tie (Euclidean distance).
    check_finite : bool, default True
        Whether NaN and infinity are an error. If not, an observation with such a value gets code 0 at
        distance NaN, and a code with one attracts no observation.

    Returns
    -------
    code : int32 array of shape (n,)
        For each observation the index of its code.
    dist : array of shape (n,)
        The distance between them, in the dtype that `obs` and `code_book` promote to.

    Raises
    ------
    UnsupportedBackendError
        If the table below says no; a TypeError.
    TypeError
        For arrays of two libraries, masked and sparse arrays, arrays of objects or strings.
    ValueError
        For values that are not finite, shapes that do not fit together, an empty code book, complex
        numbers, arrays on two devices.

    See Also
    --------
    kmeans, kmeans2 : find a code book.

    Notes
    -----
    This is `scipy.cluster.vq.vq`. The results are arrays of the library of `obs`, on its device; a Dask array
    is computed once. If `obs` and `code_book` both hold integers or booleans, the dtypes are those that
    SciPy has then: the library's default index dtype, and float64.

    The time is O(n k d), the extra memory up to 60 bytes an observation and a few MiB: n x k numbers are
    never held. Distances are taken from differences, so that they keep their digits far from the origin,
    and do not overflow before their result does.

    {support}

    Examples
    --------
    >>> import numpy as np
    >>> from xpmeans.vq import vq
    >>> code_book = np.array([[1.0, 1.0], [2.0, 2.0]])
    >>> vq(np.array([[1.9, 2.3], [1.5, 2.5], [0.8, 0.6]]), code_book)
    (array([1, 1, 0], dtype=int32), array([0.31622777, 0.70710678, 0.4472136 ]))
    """
    user, (obs, code_book) = dispatch_by_switch(obs=obs, code_book=code_book)
    gate("vq", user)
    _arguments.check_book(obs, code_book, "code_book")
    dtype = promoted(user.xp, obs.dtype, code_book.dtype)
    if not user.xp.isdtype(dtype, "real floating"):
        return _exact_vq(user, obs, code_book, check_finite)
    code, dist = _nearest(user, obs, code_book, check_finite)
    return returned(user, code), returned(user, dist, dtype)


def py_vq(obs: Any, code_book: Any, check_finite: bool = True) -> tuple[Any, Any]:
    """`vq` with codes in the library's default index dtype and distances in float64, as in SciPy.

    Parameters, errors and supported libraries are those of `vq`.

    Returns
    -------
    code : array of shape (n,)
        For each observation the index of its code.
    dist : array of shape (n,)
        The distance between them; float32 where the device has no float64.

    Examples
    --------
    >>> from xpmeans.vq import py_vq
    >>> py_vq([1, 2, 9], [1, 9])
    (array([0, 0, 1]), array([0., 1., 0.]))
    """
    user, (obs, code_book) = dispatch_by_switch(obs=obs, code_book=code_book)
    gate("vq", user)
    _arguments.check_book(obs, code_book, "code_book")
    return _exact_vq(user, obs, code_book, check_finite)


@documented
@_rng.spec7
def kmeans(
    obs: Any,
    k_or_guess: Any,
    iter: int = 20,
    thresh: float = 1e-5,
    check_finite: bool = True,
    *,
    rng: Any = _rng.UNSET,
    seed: Any = _rng.UNSET,
) -> tuple[Any, Any]:
    """Find a code book by k-means, as the best of several runs.

    A run labels every observation by its nearest code (Euclidean distance; the lowest index wins a tie)
    and moves each code to the mean of its observations, until the mean distance settles.

    Parameters
    ----------
    obs : array of shape (n, d) or (n,)
        The n observations. Real numbers of any dtype: integers and booleans are computed and returned in
        the library's default real dtype, float16 and bfloat16 are computed in float32.
    k_or_guess : int or array of shape (k, d) or (k,)
        How many codes to start from, drawn from the observations, or the codes themselves.
    iter : int, default 20
        Number of runs, at least 1. There is one run if the codes are given.
    thresh : float, default 1e-05
        A run ends when the mean distance changes by this much at most. With infinity it ends after one
        iteration; with a negative number when the code book repeats.
    check_finite : bool, default True
        Whether NaN and infinity are an error. If not, an observation with such a value counts nowhere, and
        a code with one attracts no observation.
    rng : {None, int, array_like of ints, SeedSequence, BitGenerator, Generator}, optional
        Source of random numbers, passed to `numpy.random.default_rng`; None is fresh entropy. The
        numbers are drawn by NumPy on the host for every library, so one seed gives one answer.
    seed : {None, int, RandomState, Generator}, optional
        The older way: an int seeds a `numpy.random.RandomState`. Leaving out both `rng` and `seed`, and
        ``seed=None``, use NumPy's global random state.

    Returns
    -------
    codebook : array of shape (m, d) or (m,)
        The codes of the run with the least distortion, in the dtype of `obs`. Codes that lose all their
        observations are dropped on the way, so m may be less than k.
    distortion : scalar, or array of shape ()
        The mean distance (not squared) of the observations from their codes before the last update, in the
        dtype of `obs`.

    Raises
    ------
    UnsupportedBackendError
        If the table below says no; a TypeError.
    TypeError
        For arrays of two libraries, masked and sparse arrays, arrays of objects or strings, both `rng`
        and `seed`, an `iter` that is no integer, a `thresh` that is no number.
    ValueError
        For empty or not finite input, arrays on two devices, a `k_or_guess` that does not fit `obs`, more
        codes than observations, an `iter` below 1, a `thresh` that is NaN.

    Warns
    -----
    RuntimeWarning
        If a run is stopped after 10,000 iterations.

    See Also
    --------
    kmeans2 : keeps empty clusters, and has other ways to choose the first centroids.
    whiten : brings the columns to one scale.

    Notes
    -----
    This is `scipy.cluster.vq.kmeans`. The results are of the library of `obs`, on its device. A Dask array is
    computed once, however many runs there are, and the results are Dask arrays over finished values.

    Rounding in float32 can lead a run round in circles whose distortions
    differ by more than `thresh`, for which SciPy does not end; here a run ends when its code book repeats.
    Two runs whose distortions differ by rounding only count as equal, and the first one is returned.

    The time is O(n k d) for an iteration, the extra memory some 40 bytes an observation and a few arrays of
    the size of the code book.

    {support}

    Examples
    --------
    >>> import numpy as np
    >>> from xpmeans.vq import kmeans
    >>> obs = np.array([[1.0, 1.0], [1.0, 2.0], [8.0, 8.0], [8.0, 9.0]])
    >>> codebook, distortion = kmeans(obs, 2, rng=0)
    >>> codebook
    array([[1. , 1.5],
           [8. , 8.5]])
    >>> distortion
    np.float64(0.5)
    """
    source = _rng.resolve("kmeans", rng, seed)
    user, (obs, k_or_guess) = dispatch_by_switch(obs=obs, k_or_guess=k_or_guess)
    gate("kmeans", user)
    if math.isnan(thresh):
        raise ValueError("`thresh` must be a number, got nan.")
    given = getattr(k_or_guess, "ndim", 0) > 0
    if given:
        if 0 in k_or_guess.shape:
            raise ValueError(f"Asked for 0 clusters. `k_or_guess` has shape {tuple(k_or_guess.shape)}.")
        _arguments.check_book(obs, k_or_guess, "k_or_guess")
    elif getattr(obs, "ndim", 0) not in (1, 2):
        raise ValueError(
            f"ndim different than 1 or 2 are not supported: `obs` is {getattr(obs, 'ndim', 0)}-D."
        )
    if iter < 1:
        raise ValueError(f"iter must be at least 1, got {iter}")
    dtype = precision(user.xp, obs.dtype, user.device).result
    context, (obs, k_or_guess) = on_host(user, [obs, k_or_guess])
    xp, device = context.xp, context.device

    _arguments.check_filled(obs=obs)
    x = _arguments.columns(obs)
    dtypes = precision(xp, x.dtype, device)
    reach = _arguments.reach_of(xp, x, check_finite)
    if given:
        guess = _arguments.columns(k_or_guess)
        n_clusters, n_runs = guess.shape[0], 1
        precision(xp, guess.dtype, device)  # refuses what cannot be a code
        reach = reach.joined(_arguments.reach_of(xp, guess, check_finite), dtypes.limit(xp))
    else:
        n_clusters, n_runs = _arguments.whole_count(k_or_guess, check_finite), operator.index(iter)
        draws = _rng.draws(source)
    problem = make_problem(xp, device, x, n_clusters, dtypes, reach, flow_for(context))

    def first() -> Any:
        return guess if given else seeding.points(problem, n_clusters, draws)

    best = _best_of(problem, n_runs, first, thresh)
    if not best.settled:
        warnings.warn(f"kmeans did not settle in {LIMIT} iterations.", RuntimeWarning, stacklevel=2)
    book = best.book[:, 0] if obs.ndim == 1 else best.book
    distortion = xp.asarray(best.distortion, dtype=dtypes.sums, device=device)
    return returned(user, book, dtype), returned(user, distortion, dtype)[()]


@documented
@_rng.spec7
def kmeans2(
    data: Any,
    k: Any,
    iter: int = 10,
    thresh: float = 1e-05,
    minit: str = "random",
    missing: str = "warn",
    check_finite: bool = True,
    *,
    rng: Any = _rng.UNSET,
    seed: Any = _rng.UNSET,
) -> tuple[Any, Any]:
    """Cluster points into k groups by a fixed number of k-means iterations.

    Each iteration labels every point by its nearest centroid (Euclidean distance; the lowest index wins
    a tie) and moves each centroid to the mean of its points.

    Parameters
    ----------
    data : array of shape (n, d) or (n,)
        The n points; in one dimension a vector will do. Real numbers of any dtype: integers and
        booleans are computed and returned in the library's default real dtype, float16 and bfloat16
        are computed in float32.
    k : int or array of shape (k, d) or (k,)
        How many clusters to form, or the centroids to start from. As with SciPy, an array is taken for
        centroids whatever `minit` says, but an array of one element only with ``minit='matrix'``.
    iter : int, default 10
        Number of iterations, at least 1. Those that would change nothing are not made.
    thresh : float, default 1e-05
        Not used, here for SciPy's signature.
    minit : {'random', 'points', '++', 'matrix'}, default 'random'
        How to choose the first centroids when `k` is a number:

        * 'random': draws from the normal distribution with the mean and covariance of the data. On
          data without full rank (a constant column, identical rows) the draws lie in the data's span.
        * 'points': k different points, all equally likely.
        * '++': points far from each other, by k-means++ [1]_. With fewer distinct points than `k`,
          centroids repeat and their clusters are empty.
        * 'matrix': none, `k` holds them.
    missing : {'warn', 'raise'}, default 'warn'
        What to do when a cluster loses its last point. 'warn': its centroid stays where it is, and one
        UserWarning is issued when the call is done. 'raise': raise `ClusterError` at once.
    check_finite : bool, default True
        Whether NaN and infinity in `data` and `k` are an error. If not, a point with such a value gets
        label 0 and counts nowhere, and a centroid with one attracts no point.
    rng : {None, int, array_like of ints, SeedSequence, BitGenerator, Generator}, optional
        Source of random numbers, passed to `numpy.random.default_rng`; None is fresh entropy. The
        numbers are drawn by NumPy on the host for every library, so one seed gives one answer.
    seed : {None, int, RandomState, Generator}, optional
        The older way: an int seeds a `numpy.random.RandomState`. Leaving out both `rng` and `seed`, and
        ``seed=None``, use NumPy's global random state.

    Returns
    -------
    centroid : array of shape (k, d) or (k,)
        The centroids after the last iteration, in the dtype of `data`.
    label : int32 array of shape (n,)
        For each point the index of its centroid.

    Raises
    ------
    UnsupportedBackendError
        If the table below says no; a TypeError.
    TypeError
        For arrays of two libraries, masked and sparse arrays, arrays of objects or strings, both `rng`
        and `seed`, an `iter` that is no integer.
    ValueError
        For empty or not finite input, arrays on two devices, a `k` that does not fit `data`, an unknown
        `minit` or `missing`, an `iter` or `k` below 1.
    ClusterError
        With ``missing='raise'``.

    Warns
    -----
    UserWarning
        For an empty cluster, and for a `k` that is not whole.

    Notes
    -----
    The results are arrays of the library of `data`, on its device. A Dask array is computed once, and the
    results are Dask arrays over finished values.

    Labels belong to the centroids before the last update, as SciPy's do, so that a point may be nearer
    to another of the returned centroids.

    The time is O(n k d) for an iteration, the extra memory some 40 bytes a point and a few arrays of the size
    of the centroids: n x k numbers are never held. Distances are compared exactly enough that labels do not
    depend on an offset of the data or on squares that overflow, and the means are summed in float64 where
    the device has it.

    {support}

    References
    ----------
    .. [1] D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", Proceedings of
       the Eighteenth Annual ACM-SIAM Symposium on Discrete Algorithms, 2007.

    Examples
    --------
    Three groups of points in the plane, and centroids to start from:

    >>> import numpy as np
    >>> from xpmeans.vq import kmeans2
    >>> points = np.array([[0.0, 6.0], [1.0, 7.0], [2.0, 0.0], [2.0, 1.0], [6.0, 4.0], [7.0, 4.0]])
    >>> centroid, label = kmeans2(points, points[::2], minit="matrix")
    >>> centroid
    array([[0.5, 6.5],
           [2. , 0.5],
           [6.5, 4. ]])
    >>> label
    array([0, 0, 1, 1, 2, 2], dtype=int32)

    The same on arrays of another library:

    >>> import dask.array as da
    >>> import xpmeans
    >>> with xpmeans.array_api(True):
    ...     centroid, label = kmeans2(da.asarray(points), 3, minit="++", rng=1)
    >>> label.compute()
    array([2, 2, 0, 0, 1, 1], dtype=int32)
    """
    source = _rng.resolve("kmeans2", rng, seed)
    n_iter = _arguments.positive_iterations(iter)
    try:
        on_empty = _MISSING[missing]
    except KeyError:
        raise ValueError(f"Unknown missing method {missing!r}") from None
    user, (data, k) = dispatch_by_switch(data=data, k=k)
    gate("kmeans2", user)
    _arguments.check_points(data)
    dtypes = precision(user.xp, data.dtype, user.device)
    dtype = dtypes.result
    context, (data, k) = on_host(user, [data, k])
    xp, device = context.xp, context.device

    _arguments.check_filled(data=data, k=k)
    x = _arguments.columns(data)
    if context is not user:  # NumPy may have other dtypes, and its own names for them
        dtypes = precision(xp, x.dtype, device)
    reach = _arguments.reach_of(xp, x, check_finite)
    given = minit == "matrix" or math.prod(getattr(k, "shape", ())) > 1
    if given:
        centroids = _arguments.first_centroids(k, data)
        precision(xp, centroids.dtype, device)  # refuses what cannot be a centroid
        reach = reach.joined(_arguments.reach_of(xp, centroids, check_finite), dtypes.limit(xp))
        n_clusters = centroids.shape[0]
    else:
        n_clusters = _arguments.count_of(k)
        try:
            seed_centroids = _SEEDING[minit]
        except KeyError:
            raise ValueError(f"Unknown init method {minit!r}") from None
        if n_clusters != k and minit != "points":  # which SciPy alone converts
            raise TypeError(f"`k` must be a whole number with minit={minit!r}, got {k}.")
        draws = _rng.draws(source)
    problem = make_problem(xp, device, x, n_clusters, dtypes, reach, flow_for(context))
    if not given:
        centroids = seed_centroids(problem, n_clusters, draws)

    result = _lloyd(problem, select(problem), centroids, n_iter, on_empty)
    if result.empty:
        warnings.warn(_EMPTY, UserWarning, stacklevel=2)
    centroid = result.centroids[:, 0] if data.ndim == 1 else result.centroids
    return returned(user, centroid, dtype), returned(user, result.labels)


@without_false_alarms
def _best_of(problem: Problem, n_runs: int, first: Callable[[], Any], thresh: float) -> Refinement:
    """The run of the least distortion."""
    kernel = select(problem)
    state = kernel.start(problem.x, None, problem.plan)
    best = refine(problem, kernel, state, first(), thresh)
    # Runs that find the same codes in another order differ by rounding; SciPy keeps the first.
    less = 1 - 4096 * float(problem.xp.finfo(problem.dtypes.sums).eps)
    for _ in range(1, n_runs):
        other = refine(problem, kernel, state, first(), thresh)
        if other.distortion < best.distortion * less:
            best = other
    return best


def _exact_vq(user: Context, obs: Any, code_book: Any, check_finite: bool) -> tuple[Any, Any]:
    """Codes in the index dtype and distances in the widest: what SciPy gives for integers."""
    index = xpx.default_dtype(user.xp, "indexing", device=user.device)
    code, dist = _nearest(user, obs, code_book, check_finite)
    return returned(user, code, index), returned(user, dist, widest(user.xp, user.device))


@without_false_alarms
def _nearest(user: Context, obs: Any, code_book: Any, check_finite: bool) -> tuple[Any, Any]:
    """Codes and distances, on the host."""
    context, (obs, code_book) = on_host(user, [obs, code_book])
    xp, device = context.xp, context.device
    _arguments.check_filled(code_book=code_book)
    x, codes = _arguments.columns(obs), _arguments.columns(code_book)
    dtypes = precision(xp, promoted(xp, x.dtype, codes.dtype), device)
    if 0 in x.shape:
        nothing = xp.zeros(x.shape[0], dtype=dtypes.sums, device=device)
        return xp.astype(nothing, xp.int32), nothing
    reach = _arguments.reach_of(xp, x, check_finite)
    reach = reach.joined(_arguments.reach_of(xp, codes, check_finite), dtypes.limit(xp))
    problem = make_problem(xp, device, x, codes.shape[0], dtypes, reach, flow_for(context))
    kernel = select(problem)
    code, squares = kernel.assign(kernel.start(x, None, problem.plan), codes)
    return code, distances(problem, codes, code, squares) / problem.scale
