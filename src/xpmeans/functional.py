"""K-means for the arrays of every library: what SciPy's signatures cannot say.

The same core as `xpmeans.vq`, with convergence, restarts, weights, cosine distance, rules for empty clusters
and batches. Arrays stay on their device.
"""

import copy
import os
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import array_api_compat as compat
import array_api_extra as xpx
import numpy as np

from xpmeans import _checkpoint, _inputs, _solve
from xpmeans._core.precision import promoted, widest
from xpmeans._core.restarts import Answer
from xpmeans._dispatch import alike, all_returned, being_compiled, returned, to_host
from xpmeans._inputs import Inputs
from xpmeans._kernels import require_name
from xpmeans._lazy import solve as lazily
from xpmeans._solve import Task, cluster, solve
from xpmeans.capabilities import documented

__all__ = ["KMeansResult", "assign", "kmeans", "kmeans_plusplus"]

METRICS = ("euclidean", "cosine")
EMPTY = ("relocate", "keep", "raise")
INIT = ("k-means++", "k-means||", "random")
PERSIST = ("auto", True, False)

_EMPTY = (
    "Some clusters are empty in the end: there may be fewer distinct points than `n_clusters`, or `max_iter` "
    "or `tol` ended the run before they were filled."
)


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

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result to one .npz file, at once and without pickles.

        Parameters
        ----------
        path : path
            The file; an old one is replaced. Labels that are not computed yet, on Dask, are left out.
        """
        kept = {name: value for name, value in self._asdict().items() if not compat.is_dask_array(value)}
        kept = {name: to_host(value) if hasattr(value, "dtype") else value for name, value in kept.items()}
        _checkpoint.write(path, {name: value for name, value in kept.items() if value is not None})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "KMeansResult":
        """Read what `save` wrote, as NumPy arrays.

        Parameters
        ----------
        path : path
            The file. Nothing in it is executed.

        Returns
        -------
        KMeansResult
            Whose labels are None if they were not computed. As ``init=`` it goes on where it ended,
            with points of every library.
        """
        found = _checkpoint.read(path)
        for name in cls._fields:
            if name not in found and name != "labels":
                raise ValueError(f"{str(path)!r} does not hold a result: it lacks {name}.")
        single = found["centroids"].ndim == 2
        return cls(
            found["centroids"],
            found.get("labels"),
            found["inertia"][()],
            found["counts"],
            int(found["n_iter"]) if single else found["n_iter"],
            bool(found["converged"]) if single else found["converged"],
        )


@documented
def kmeans(
    x: Any,
    n_clusters: int,
    *,
    init: Any = "auto",
    n_init: Any = "auto",
    max_iter: int = 300,
    tol: float = 1e-4,
    sample_weight: Any = None,
    metric: str = "euclidean",
    empty: str = "relocate",
    rng: Any = None,
    kernel: str | None = None,
    callback: Callable[[int, float, Any], Any] | None = None,
    persist: Any = "auto",
    checkpoint: Any = None,
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
    init : {'auto', 'k-means++', 'k-means||', 'random'}, array of shape (k, d) or (B, k, d), or callable
        How to choose the first centroids:

        * 'auto': 'k-means||' for Dask arrays, else 'k-means++';
        * 'k-means++': points far from each other, the best of a few candidates each [1]_;
        * 'k-means||': the same from far fewer passes over the data, for many clusters [2]_;
        * 'random': different points;
        * an array: these centroids; an earlier result, of any library, stands for its centroids;
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
    kernel : {None, 'reference', 'host'}, optional
        Which implementation does the work; None chooses the fastest one that serves the call. 'reference' is
        standard array operations, 'host' is compiled by Numba, for arrays in host memory. Labels are the
        same.
    callback : callable, optional
        Called in each iteration as ``callback(iteration, inertia, centroids)``, with centroids and the
        inertia of the points nearest to them. Returning True ends the run, not those that follow with
        `n_init` or for other problems of a batch.
    persist : {'auto', True, False}
        Whether the blocks of a Dask array are read once and held in the workers' memory for the time of the
        call, or read again in each pass. 'auto' holds them if points, weights and 24 bytes a point take up no
        more than half of that memory: all workers' limits, or what is free on this machine; not with the
        process scheduler. Other arrays are in memory, and it has no effect.
    checkpoint : path, optional
        A file in which a run on a Dask array notes after each iteration where it stands. If the file is there
        already, the call goes on from it, with the same result to the last bit and with the random numbers
        noted there, whatever `rng` is; it is removed in the end. It is never half written, and holds no
        pickles.

    Returns
    -------
    KMeansResult
        ``(centroids, labels, inertia, counts, n_iter, converged)``, arrays of the library of `x`, on its
        device. For Dask arrays the labels are a Dask array, chunked like the rows of `x` and not yet
        computed, and all else are values, in NumPy.

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
    point, with 'cosine' a copy of the points besides: n x k numbers are never held.

    Dask arrays are worked on block by block, where the blocks are, and never gathered. 'k-means++' and
    'random' choose from rows drawn at random in one pass: all k of them, or ``max(32 k, 4096)`` among which
    'k-means++' chooses. A seed draws the same rows whatever the blocks, the scheduler and the workers; these
    are other rows than for arrays in memory.

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
    array([1, 1, 0, 0, 2, 2], dtype=int32)
    >>> result.centroids
    array([[2. , 0.5],
           [0.5, 6.5],
           [6.5, 4. ]])
    >>> float(result.inertia), result.n_iter, result.converged
    (2.0, 2, True)
    """
    result, complete = clustered(
        *(x, n_clusters, init, n_init, max_iter, tol, sample_weight, metric, empty, rng, kernel, callback),
        persist,
        checkpoint,
    )
    if not complete:
        warnings.warn(_EMPTY, UserWarning, stacklevel=2)
    return result


def clustered(
    x: Any,
    n_clusters: int,
    init: Any,
    n_init: Any,
    max_iter: int,
    tol: float,
    sample_weight: Any,
    metric: str,
    empty: str,
    rng: Any,
    kernel: str | None,
    callback: Any,
    persist: Any = "auto",
    checkpoint: Any = None,
) -> tuple[KMeansResult, bool]:
    """The result of `kmeans`, and whether all clusters have points, or nobody can know."""
    _inputs.one_of("metric", metric, METRICS)
    _inputs.one_of("empty", empty, EMPTY)
    _inputs.one_of("persist", persist, PERSIST)
    max_iter = _inputs.at_least("max_iter", max_iter, 1)
    tol = _inputs.not_negative("tol", tol)
    if isinstance(init, KMeansResult):
        init = alike(x, init.centroids)
    named = isinstance(init, str)
    if named:
        _inputs.one_of("init", init, ("auto", *INIT))
        if init == "auto":
            init = "k-means||" if compat.is_dask_array(x) else "k-means++"
    given = not named and not callable(init)
    if isinstance(n_init, str):
        _inputs.one_of("n_init", n_init, ("auto",))
        n_init = 10 if callable(init) or (named and init == "random") else 1
    n_runs = _inputs.at_least("n_init", n_init, 1)
    if given:
        n_runs = 1
    if callback is not None and not callable(callback):
        raise TypeError(f"`callback` must be callable or None, got {callback!r}.")
    source = _inputs.generator("rng", rng)
    needs_values = callback is not None or empty == "raise" or not (named or given)
    books = {"init": init} if given else {}
    inputs = _inputs.inputs_of("kmeans", x, sample_weight, compiles=not needs_values, **books)
    k = _inputs.clusters(n_clusters, inputs)
    if inputs.user.traced and (empty == "raise" or callback is not None):
        what = "`callback`" if callback is not None else "`empty='raise'`"
        raise TypeError(
            f"{what} needs values, which a JAX tracer does not have. Hint: call it outside `jit`."
        )
    if given:
        _inputs.require_count("init", inputs.book, k)
    task = Task(
        *(inputs.user, inputs.work, inputs.dtype, metric, kernel, k),
        init=None if given else init,
        rng=None if named or given else lambda: source if inputs.x.ndim == 2 else copy.deepcopy(source),
        n_runs=n_runs,
        max_iter=max_iter,
        tol=tol,
        empty=empty,
        callback=callback,
    )
    if inputs.user.lazy:
        require_name(kernel)
        return _on_blocks(task._replace(init=None if given else init), inputs, source, persist, checkpoint)
    if checkpoint is not None:
        raise ValueError(
            f"`checkpoint` is for Dask arrays, got a {inputs.user.library} array. Hint: save the result, and "
            "go on from it with `init`."
        )
    draws = _inputs.draws(init, source, n_runs, k) if named else ()
    per_point = tuple(name == "labels" for name in Answer._fields)
    answer = Answer(*solve(cluster, task, inputs, per_point, draws))
    xp, user = inputs.work.xp, inputs.user
    if user.traced:
        return KMeansResult(*answer), True
    complete = not xp.any(answer.counts == 0)
    if empty == "raise" and not complete:
        _inputs.raise_empty()
    single = inputs.x.ndim == 2
    index = xpx.default_dtype(user.xp, "indexing", device=user.device)
    centroids, labels, inertia, counts = all_returned(
        user,
        (answer.centroids, inputs.dtype),
        (answer.labels, None),
        (answer.inertia[()] if single else answer.inertia, widest(user.xp, user.device)),
        (answer.counts, index),
    )
    result = KMeansResult(
        *(centroids, labels, inertia, counts),
        int(answer.n_iter) if single else returned(user, answer.n_iter),
        bool(answer.converged) if single else returned(user, answer.converged),
    )
    return result, complete


def _on_blocks(
    task: Task, inputs: Inputs, source: Any, persist: Any, checkpoint: Any = None
) -> tuple[KMeansResult, bool]:
    """`clustered` for Dask arrays: all but the labels are values."""
    if inputs.x.ndim == 3:
        if checkpoint is not None:
            raise ValueError("`checkpoint` is for one problem, got a batch. Hint: solve one after the other.")
        parts = [_on_blocks(task, one, copy.deepcopy(source), persist) for one in lazily.problems(inputs)]
        results, complete = zip(*parts, strict=True)
        stacked = [np.stack([result[i] for result in results]) for i in (0, 2, 3, 4, 5)]
        labels = inputs.user.xp.stack([result.labels for result in results])
        return KMeansResult(stacked[0], labels, *stacked[1:]), all(complete)
    answer = lazily.cluster(task, inputs, source, persist, checkpoint)
    complete = bool((answer.counts > 0).all())
    if task.empty == "raise" and not complete:
        _inputs.raise_empty()
    return KMeansResult(*answer), complete


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
    kernel : {None, 'reference', 'host'}, optional
        Which implementation does the work; None chooses the fastest one that serves the call. 'reference' is
        standard array operations, 'host' is compiled by Numba, for arrays in host memory. Labels are the
        same.

    Returns
    -------
    labels : int32 array of shape (n,) or (B, n)
        For each point the index of its centroid.
    distances : array of the shape of `labels`
        The distance between them, not squared, in the dtype that `x` and `centroids` promote to.

        Of Dask arrays nothing is computed: both are chunked like the rows of `x`, and share the work if they
        are computed together.

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
    The time is O(n k d), the extra memory a few MiB and up to 60 bytes a point, with 'cosine' a copy of the
    points besides.

    {support}

    Examples
    --------
    >>> import xpmeans
    >>> labels, distances = xpmeans.assign([[1.0, 1.0], [4.0, 8.0]], [[1.0, 0.0], [1.0, 4.0]])
    >>> labels, distances
    (array([0, 1], dtype=int32), array([1., 5.]))
    """
    if being_compiled():
        from xpmeans._kernels.torch import assign as operator

        return operator(x, centroids, metric, kernel)  # type: ignore[no-any-return]
    _inputs.one_of("metric", metric, METRICS)
    inputs = _inputs.inputs_of("assign", x, compiles=True, centroids=centroids)
    dtype = promoted(inputs.user.xp, inputs.dtype, inputs.book_dtype)

    task = Task(inputs.user, inputs.work, inputs.dtype, metric, kernel)
    if inputs.user.lazy:
        require_name(kernel)
        if inputs.x.ndim == 2:
            return lazily.assign(task, inputs, dtype)
        parts = [lazily.assign(task, one, dtype) for one in lazily.problems(inputs)]
        labels, lengths = map(inputs.user.xp.stack, zip(*parts, strict=True))
        return labels, lengths
    labels, lengths = solve(_solve.assign, task, inputs, per_point=(True, True))
    return returned(inputs.user, labels), returned(inputs.user, lengths, dtype)


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
        The points chosen, in the dtype of `x`; integers become the library's default real dtype. Values in
        NumPy for a Dask array, of which they are chosen by k-means||, in seven passes.
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
    array([2, 0])
    """
    trials = None if n_local_trials is None else _inputs.at_least("n_local_trials", n_local_trials, 1)
    source = _inputs.generator("rng", rng)
    inputs = _inputs.inputs_of("kmeans_plusplus", x, sample_weight, compiles=True)
    k = _inputs.clusters(n_clusters, inputs)
    task = Task(inputs.user, inputs.work, inputs.dtype, k=k)
    if inputs.user.lazy:
        if inputs.x.ndim == 2:
            return lazily.plus_plus(task, inputs, source, trials)
        parts = [
            lazily.plus_plus(task, one, copy.deepcopy(source), trials) for one in lazily.problems(inputs)
        ]
        centroids, rows = (np.stack(each) for each in zip(*parts, strict=True))
        return centroids, rows
    draws = _inputs.draws("k-means++", source, 1, k, trials)
    centroids, rows = solve(_solve.plus_plus, task, inputs, (False, False), draws)
    index = xpx.default_dtype(inputs.user.xp, "indexing", device=inputs.user.device)
    return returned(inputs.user, centroids, inputs.dtype), returned(inputs.user, rows, index)
