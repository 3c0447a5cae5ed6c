"""scikit-learn's `KMeans` and `MiniBatchKMeans` for the arrays of every library.

Thin skins over the functions: parameters, attributes and methods have scikit-learn's names and meanings, and
no array takes a detour through NumPy.
"""

import copy
import math
import warnings
from typing import Any

import array_api_compat as compat
import numpy as np

from xpmeans import _inputs, _solve
from xpmeans._clusterer import Clusterer
from xpmeans._core.minibatch import Pace, Stream
from xpmeans._dispatch import dispatch, returned
from xpmeans._kernels import lazy
from xpmeans._lazy import batches
from xpmeans._progress import Progress
from xpmeans._sklearn import ConvergenceWarning
from xpmeans._solve import Task
from xpmeans.capabilities import documented
from xpmeans.functional import METRICS, clustered

__all__ = ["KMeans", "MiniBatchKMeans"]


@documented
class KMeans(Clusterer):
    """K-means clustering, with scikit-learn's interface, on arrays of every library.

    Parameters
    ----------
    n_clusters : int, default 8
        How many clusters to form: k.
    init : {'k-means++', 'k-means||', 'random'}, array of shape (k, d) or callable, default 'k-means++'
        First centroids; a callable is called as ``init(X, n_clusters, random_state=...)``. A fitted model or
        an earlier `KMeansResult` stands for its centroids.
    n_init : int or 'auto', default 'auto'
        Number of runs, of which the one with the least inertia is kept; 'auto' is 10 with 'random' and with
        a callable, else 1.
    max_iter : int, default 300
        Most iterations of a run.
    tol : float, default 1e-4
        Squared shift of all centroids that ends a run, relative to the mean variance of the columns.
    verbose : int, default 0
        Whether to show the progress: as a bar in a terminal where rich is installed, else in lines.
    random_state : {None, int, numpy.random.RandomState, numpy.random.Generator}
        Source of random numbers, passed to `numpy.random.default_rng`; None is fresh entropy.
    copy_x : bool, default True
        Accepted and not needed: input is never modified.
    algorithm : {'lloyd', 'elkan'}, default 'lloyd'
        Accepted and not needed: both give the same result, and how distances are saved is chosen
        automatically.
    metric : {'euclidean', 'cosine'}, default 'euclidean'
        'cosine' is spherical k-means.

    Attributes
    ----------
    cluster_centers_ : array of shape (k, d)
        The centroids, in the library, on the device and in the dtype of the points; integers become the
        library's default real dtype, NumPy's float16 becomes float64, as in scikit-learn.
    labels_ : array of shape (n,), int32
        For each point the index of its nearest centroid.
    inertia_ : float
        Sum of weight times squared distance from the own centroid; with 'cosine' of cosine distances.
    n_iter_ : int
        Iterations of the run that was kept.
    n_features_in_ : int
        The width d.
    feature_names_in_ : array of shape (d,)
        Names of the columns, where a data frame with text for names was fitted.

    See Also
    --------
    xpmeans.kmeans : the function.
    MiniBatchKMeans : from a few points at a time.

    Notes
    -----
    Data frames, lists and everything else that NumPy can read count as NumPy arrays. A model that was fitted
    on one library or device predicts there; `to` converts it. Fitted on a Dask array it has centroids in
    NumPy, predicts on both, and leaves labels, predictions and distances to be computed; a pickle of it is
    without `labels_`, which would bring the points along: ``predict`` finds them again.

    {support}

    Examples
    --------
    >>> import numpy as np
    >>> import xpmeans
    >>> X = np.array([[1.0, 2.0], [1.0, 4.0], [1.0, 0.0], [10.0, 2.0], [10.0, 4.0], [10.0, 0.0]])
    >>> model = xpmeans.KMeans(2, random_state=0).fit(X)
    >>> model.labels_
    array([1, 1, 1, 0, 0, 0], dtype=int32)
    >>> model.predict([[0.0, 0.0], [12.0, 3.0]])
    array([1, 0], dtype=int32)
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        n_init: Any = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        verbose: int = 0,
        random_state: Any = None,
        copy_x: bool = True,
        algorithm: str = "lloyd",
        metric: str = "euclidean",
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.random_state = random_state
        self.copy_x = copy_x
        self.algorithm = algorithm
        self.metric = metric

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "KMeans":
        """Find the centroids of points.

        Parameters
        ----------
        X : array of shape (n, d)
            The points: an array of any library of the table above, a data frame, a list.
        y : None
            Ignored.
        sample_weight : array of shape (n,), optional
            A weight for each point, not negative.

        Returns
        -------
        KMeans
            This model.

        Warns
        -----
        ConvergenceWarning
            If there are fewer distinct points than `n_clusters`.
        """
        _inputs.one_of("algorithm", self.algorithm, ("lloyd", "elkan"))
        X, _ = self._checked(X, reset=True)
        init, n_init = self._starts(X)
        if self.algorithm == "elkan" and self.n_clusters == 1:
            warnings.warn(
                "algorithm='elkan' doesn't make sense for a single cluster. It has no effect.",
                RuntimeWarning,
                stacklevel=2,
            )
        weights = self._weights(X, sample_weight)
        rng = _inputs.generator("random_state", self.random_state)
        with Progress(bool(self.verbose), self.max_iter) as progress:
            last: list[Any] = []

            def callback(n_iter: int, inertia: float, centroids: Any) -> None:
                if n_iter == 1:
                    progress.say("Initialization complete")
                progress.step(n_iter, f"Iteration {n_iter}, inertia {inertia}.")
                last[:] = [centroids]

            options = (init, n_init, self.max_iter, self.tol, weights, self.metric, "relocate", rng, None)
            shown = callback if self.verbose else None
            result, complete = clustered(X, self.n_clusters, *options, shown)
            if self.verbose and n_init > 1:
                progress.say(f"Best of {n_init} runs: {result.n_iter} iterations, inertia {result.inertia}.")
            elif self.verbose and result.converged:
                xp = compat.array_namespace(result.centroids)
                shift = math.sqrt(float(xp.sum((result.centroids - last[0]) ** 2)))
                strict = shift == 0 or self.tol == 0  # where sums of the same points may round apart
                how = "strict convergence" if strict else f"center shift {shift} within tolerance"
                progress.say(f"Converged at iteration {result.n_iter}: {how}.")
        self._fitted(result.centroids)
        self.labels_, self.inertia_, self.n_iter_ = result.labels, float(result.inertia), result.n_iter
        if not complete:
            distinct = int(compat.array_namespace(result.counts).sum(result.counts > 0))
            warnings.warn(
                f"Number of distinct clusters ({distinct}) found smaller than n_clusters "
                f"({self.n_clusters}). Possibly due to duplicate points in X.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self


@documented
class MiniBatchKMeans(Clusterer):
    """K-means from a few points at a time, with scikit-learn's interface, on arrays of every library.

    Each step takes a batch, labels it, and moves each centroid to the mean of all points that batches ever
    gave it [1]_. It reaches a somewhat higher inertia than `KMeans` after fewer passes over the points.

    Parameters
    ----------
    n_clusters : int, default 8
        How many clusters to form: k.
    init : {'k-means++', 'k-means||', 'random'}, array of shape (k, d) or callable, default 'k-means++'
        First centroids; a callable is called as ``init(X, n_clusters, random_state=...)``. A fitted model or
        an earlier `KMeansResult` stands for its centroids.
    max_iter : int, default 100
        Most passes over the points.
    batch_size : int, default 1024
        Points of a batch.
    verbose : int, default 0
        Whether to show the progress: as a bar in a terminal where rich is installed, else in lines.
    compute_labels : bool, default True
        Whether to label all points in the end, and take their inertia.
    random_state : {None, int, numpy.random.RandomState, numpy.random.Generator}
        Source of random numbers, passed to `numpy.random.default_rng`; None is fresh entropy.
    tol : float, default 0.0
        Squared shift of all centroids in a step that ends the run, relative to the mean variance of the
        columns; 0 never does.
    max_no_improvement : int or None, default 10
        Steps without a lower smoothed inertia that end the run.
    init_size : int, optional
        Points that first centroids are chosen from; by default 3 batches, at least ``3 * n_clusters``.
    n_init : int or 'auto', default 'auto'
        Number of starts, of which the best on a sample is taken; 'auto' is 3 with 'random' and with a
        callable, else 1.
    reassignment_ratio : float, default 0.01
        Clusters with less than this share of the largest one's weight start anew at a point of a batch.
    metric : {'euclidean', 'cosine'}, default 'euclidean'
        'cosine' is spherical k-means.

    Attributes
    ----------
    cluster_centers_ : array of shape (k, d)
        The centroids, in the library, on the device and in the dtype of the points.
    labels_ : array of shape (n,), int32
        For each point the index of its nearest centroid; with `compute_labels`.
    inertia_ : float
        Sum of weight times squared distance from the own centroid; without `compute_labels` estimated from
        the batches.
    n_iter_ : int
        Passes over the points that were begun.
    n_steps_ : int
        Batches.
    n_features_in_ : int
        The width d.
    feature_names_in_ : array of shape (d,)
        Names of the columns, where a data frame with text for names was fitted.

    See Also
    --------
    KMeans : from all points at once.

    Notes
    -----
    {support}

    References
    ----------
    .. [1] D. Sculley, "Web-scale k-means clustering", WWW 2010.

    Examples
    --------
    >>> import numpy as np
    >>> import xpmeans
    >>> model = xpmeans.MiniBatchKMeans(2, random_state=0)
    >>> for batch in np.random.default_rng(0).normal(size=(20, 100, 2)) + [[[5.0, 0.0]], [[-5.0, 0.0]]] * 10:
    ...     model = model.partial_fit(batch)
    >>> sorted(model.cluster_centers_[:, 0].round().tolist())
    [-5.0, 5.0]
    """

    _runs = 3

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        max_iter: int = 100,
        batch_size: int = 1024,
        verbose: int = 0,
        compute_labels: bool = True,
        random_state: Any = None,
        tol: float = 0.0,
        max_no_improvement: int | None = 10,
        init_size: int | None = None,
        n_init: Any = "auto",
        reassignment_ratio: float = 0.01,
        metric: str = "euclidean",
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.verbose = verbose
        self.compute_labels = compute_labels
        self.random_state = random_state
        self.tol = tol
        self.max_no_improvement = max_no_improvement
        self.init_size = init_size
        self.n_init = n_init
        self.reassignment_ratio = reassignment_ratio
        self.metric = metric

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "MiniBatchKMeans":
        """Find the centroids of points by batches that are drawn from them.

        Parameters
        ----------
        X : array of shape (n, d)
            The points: an array of any library of the table above, a data frame, a list.
        y : None
            Ignored.
        sample_weight : array of shape (n,), optional
            A weight for each point, not negative; points are drawn in proportion to it.

        Returns
        -------
        MiniBatchKMeans
            This model.
        """
        X, _ = self._checked(X, reset=True)
        if compat.is_dask_array(X):
            X = lazy().known(X)
        weights = self._weights(X, sample_weight)
        self.__dict__.pop("labels_", None)  # which `compute_labels=False` would leave from another fit
        n = X.shape[0]
        rng = self._rng = _inputs.generator("random_state", self.random_state)
        task, pace, inputs = self._task(X, weights)
        max_steps = _inputs.at_least("max_iter", self.max_iter, 1) * n // pace.batch_size
        with Progress(bool(self.verbose), max_steps) as progress:

            def on_step(step: int, mean: float, smoothed: float) -> None:
                line = f"Minibatch step {step}/{max_steps}: mean batch inertia {mean}, smoothed {smoothed}"
                progress.step(step, line)

            pace = pace._replace(max_steps=max_steps, on_step=on_step if self.verbose else None)
            minibatch = batches.minibatch if inputs.user.lazy else _solve.minibatch
            run = minibatch(task, pace, self._init_size, rng, inputs)
            if run.reason is not None:
                progress.say(f"Converged ({run.reason}) at step {run.n_steps}/{max_steps}")
        self._keep(inputs, run.stream)
        self.n_steps_ = run.n_steps
        self.n_iter_ = math.ceil(run.n_steps * pace.batch_size / n)
        if self.compute_labels:
            self.labels_, self.inertia_ = self._scored(X, weights)
        else:
            whole = n if weights is None else float(inputs.user.xp.sum(weights))
            self.inertia_ = run.smoothed * whole
        return self

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "MiniBatchKMeans":
        """Move the centroids by one batch; the first batch also chooses them.

        Parameters
        ----------
        X : array of shape (n, d)
            The points of the batch. Of a Dask array each block is a batch, in turn, worked on where it is and
            read once; there is no inertia then.
        y : None
            Ignored.
        sample_weight : array of shape (n,), optional
            A weight for each point, not negative.

        Returns
        -------
        MiniBatchKMeans
            This model.
        """
        if compat.is_dask_array(X):
            return self._partial_fit_blocks(X, sample_weight)
        begun = "cluster_centers_" in self.__dict__
        X = self._again(X, "partial_fit") if begun else self._checked(X, reset=True)[0]
        weights = self._weights(X, sample_weight)
        if not begun:
            self._rng = _inputs.generator("random_state", self.random_state)
        stream = Stream(None, self._counts, self._since) if begun else None
        centers = getattr(self, "_precise", self.cluster_centers_) if begun else None
        task, pace, inputs = self._task(X, weights, centers)
        stream = _solve.one_batch(task, pace, stream, self._init_size, self._rng, inputs)
        self._keep(inputs, stream)
        self.n_steps_ = getattr(self, "n_steps_", 0) + 1
        if self.compute_labels:
            self.labels_, self.inertia_ = self._scored(X, weights)
        return self

    def _partial_fit_blocks(self, X: Any, sample_weight: Any) -> "MiniBatchKMeans":
        """`partial_fit` of each block of a Dask array in turn, where the block is."""
        begun = "cluster_centers_" in self.__dict__
        X = self._again(X, "partial_fit") if begun else self._checked(X, reset=True)[0]
        inputs = _inputs.inputs_of(type(self).__name__, X, self._weights(X, sample_weight))
        model = copy.deepcopy(self)
        for name in ("labels_", "inertia_"):  # of other points
            model.__dict__.pop(name, None)
        moved = lazy().chain("partial-fit", inputs.x, inputs.weights, _fitted_on, model)
        if moved.compute_labels:
            moved.labels_ = moved.predict(X)
        self.__dict__.clear()  # once nothing can fail any more
        self.__dict__.update(moved.__dict__)
        return self

    def _task(self, X: Any, weights: Any, centers: Any = None) -> tuple[Task, Pace, _inputs.Inputs]:
        """What a run is asked to do, from the parameters, and the arrays where the work happens."""
        _inputs.one_of("metric", self.metric, METRICS)
        _inputs.not_negative("tol", self.tol)
        _inputs.not_negative("reassignment_ratio", self.reassignment_ratio)
        if self.max_no_improvement is not None:
            _inputs.at_least("max_no_improvement", self.max_no_improvement, 0)
        k = self.n_clusters if centers is None else centers.shape[0]
        init, n_init = (None, 1) if centers is not None else self._starts(X, stacklevel=4)
        given = centers if centers is not None else None if isinstance(init, str) or callable(init) else init
        batch_size = min(_inputs.at_least("batch_size", self.batch_size, 1), X.shape[0])
        if centers is None:
            self._batch_size, self._init_size = batch_size, self._sample_size(batch_size, X.shape[0])
        books = {} if given is None else {"init": given}
        inputs = _inputs.inputs_of(type(self).__name__, X, weights, **books)
        task = Task(
            *(inputs.user, inputs.work, inputs.dtype, self.metric, None, k),
            init=None if given is not None else init,
            n_runs=n_init,
        )
        pace = Pace(
            *(batch_size, 0, self.tol, self.max_no_improvement, self.reassignment_ratio),
            spherical=self.metric == "cosine",
            on_step=None,
        )
        return task, pace, inputs

    def _sample_size(self, batch_size: int, n: int) -> int:
        """Points that first centroids are chosen from."""
        k, size = self.n_clusters, self.init_size
        if size is not None:
            _inputs.at_least("init_size", size, 1)
        if size is None:
            size = 3 * batch_size if 3 * batch_size >= k else 3 * k
        elif size < k:
            warnings.warn(
                f"init_size={size} should be larger than n_clusters={k}. "
                "Setting it to min(3*n_clusters, n_samples)",
                RuntimeWarning,
                stacklevel=4,
            )
            size = 3 * k
        return min(size, n)

    def _keep(self, inputs: _inputs.Inputs, stream: Stream) -> None:
        """Note where a stream stands; on Dask in NumPy."""
        user = inputs.user
        book, precise, counts = stream.centroids, stream.centroids, stream.counts
        if user.lazy:
            book = book.astype(inputs.dtype)
        else:
            book, precise = returned(user, book, inputs.dtype), returned(user, precise)
            counts = returned(user, counts)
        self._fitted(book)
        self.__dict__.pop("_precise", None)
        if self.cluster_centers_.dtype != precise.dtype:
            self._precise = precise  # half precision would swallow the small steps of a long stream
        self._counts, self._since = counts, stream.since


def _fitted_on(block: Any, weights: Any, model: MiniBatchKMeans) -> MiniBatchKMeans:
    """A copy of a model after one more batch: a task may be run again, and must find the model as it was.

    Its arrays are NumPy's before and after, whatever the block is made of.
    """
    model = copy.deepcopy(model)
    user, _ = dispatch(X=block)
    asked, model.compute_labels = model.compute_labels, False
    model._bring(user.xp, user.device)
    model.partial_fit(block, sample_weight=weights)
    model._bring(np)
    model.compute_labels = asked
    return model
