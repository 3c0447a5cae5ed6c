"""K-means and vector quantization with the names, arguments and seeds of `scipy.cluster.vq`.

Replace ``from scipy.cluster.vq import kmeans2`` by ``from xpmeans.vq import kmeans2``: the same call
gives the same answer, on the arrays of every library that the support matrix names.
"""

import math
import operator
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

from xpmeans import _rng
from xpmeans._core import seeding
from xpmeans._core.lloyd import lloyd
from xpmeans._core.precision import cast, peak, precision
from xpmeans._core.problem import make_problem
from xpmeans._dispatch import concrete, dispatch, returned
from xpmeans._kernels import select
from xpmeans.capabilities import documented, gate

__all__ = ["ClusterError", "kmeans2"]

_EMPTY = "One of the clusters is empty. Re-run kmeans with a different initialization."


class ClusterError(Exception):
    """A cluster is empty, and ``missing='raise'`` was asked for."""


def _raise_empty() -> None:
    raise ClusterError(_EMPTY)


_MISSING = {"warn": None, "raise": _raise_empty}
_SEEDING = {
    "random": seeding.gaussian,
    "points": seeding.points,
    "++": seeding.plus_plus,
}


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
        Number of iterations, at least 1. All of them are made.
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

    Both are arrays of the library of `data`, on its device. A Dask array is computed once, and the
    results are Dask arrays over finished values.

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
    Labels belong to the centroids before the last update, as SciPy's do, so that a point may be nearer
    to another of the returned centroids.

    The time is O(n k d) for an iteration, the extra memory a few MiB whatever n and k are. Distances are
    compared exactly enough that labels do not depend on an offset of the data or on overflow, and the
    means are summed in float64 where the device has it.

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
    if int(iter) < 1:
        raise ValueError(f"Invalid iter ({iter}), must be a positive integer.")
    n_iter = operator.index(iter)
    try:
        on_empty = _MISSING[missing]
    except KeyError:
        raise ValueError(f"Unknown missing method {missing!r}") from None
    user, arrays = dispatch(data=data, k=k)
    gate("kmeans2", user)
    context, (data, k) = concrete(user, arrays)
    xp, device = context.xp, context.device

    _check_shapes(data, k)
    x = data[:, None] if data.ndim == 1 else data
    dtypes = precision(xp, x.dtype, device)
    reach = _reach(xp, x, check_finite)
    given = minit == "matrix" or math.prod(getattr(k, "shape", ())) > 1
    if given:
        centroids = _as_centroids(k, data)
        if centroids.dtype != x.dtype:
            precision(xp, centroids.dtype, device)  # refuses what cannot be a centroid
        reach += _reach(xp, centroids, check_finite)
        n_clusters = centroids.shape[0]
    else:
        n_clusters, seed_centroids = _as_count(k, minit)
        draws = _rng.draws(source)
    problem = make_problem(xp, device, x, n_clusters, dtypes, reach)
    if not given:
        centroids = seed_centroids(problem, n_clusters, draws)

    result = lloyd(problem, select(problem), centroids, n_iter, on_empty)
    if result.empty:
        warnings.warn(_EMPTY, UserWarning, stacklevel=2)
    centroid = cast(xp, result.centroids, dtypes.result)
    return returned(user, [centroid[:, 0] if data.ndim == 1 else centroid, result.labels])


def _check_shapes(data: Any, k: Any) -> None:
    """Require points, and no empty array."""
    ndim = getattr(data, "ndim", 0)
    if ndim not in (1, 2):
        raise ValueError(f"Input of rank > 2 is not supported. `data` must be 1-D or 2-D, got {ndim}-D.")
    for name, array in (("data", data), ("k", k)):
        if 0 in getattr(array, "shape", ()):
            raise ValueError(f"Empty input is not supported. `{name}` has shape {tuple(array.shape)}.")


def _reach(xp: ModuleType, array: Any, check_finite: bool) -> float:
    """Largest magnitude of an array, after the one scan for NaN and infinity."""
    reach = peak(xp, array)
    if check_finite and not math.isfinite(reach):
        raise ValueError("array must not contain infs or NaNs")
    return reach


def _as_centroids(k: Any, data: Any) -> Any:
    """The first centroids that `k` holds, as a 2-D array."""
    if getattr(k, "ndim", 0) != data.ndim:
        raise ValueError(
            f"k array doesn't match data rank: `k` is {getattr(k, 'ndim', 0)}-D, `data` is {data.ndim}-D."
        )
    if data.ndim == 1:
        return k[:, None]
    if k.shape[1] != data.shape[1]:
        raise ValueError(
            f"k array doesn't match data dimension: `k` has {k.shape[1]} columns, `data` {data.shape[1]}."
        )
    return k


def _as_count(k: Any, minit: str) -> tuple[int, Callable[..., Any]]:
    """The number of clusters that `k` is, and how to seed them."""
    if getattr(k, "ndim", 0) > 0:
        raise TypeError(
            f"`k` must be a number or several centroids, got an array of shape {tuple(k.shape)}. "
            "Hint: minit='matrix' takes a single centroid."
        )
    count = int(k)
    if count < 1:
        raise ValueError(f"Cannot ask kmeans2 for {count} clusters (k was {k})")
    whole = bool(count == k)
    if not whole:
        warnings.warn("k was not an integer, was converted.", UserWarning, stacklevel=3)
    try:
        seed_centroids = _SEEDING[minit]
    except KeyError:
        raise ValueError(f"Unknown init method {minit!r}") from None
    if not whole and minit != "points":  # which SciPy alone converts
        raise TypeError(f"`k` must be a whole number with minit={minit!r}, got {k}.")
    return count, seed_centroids
