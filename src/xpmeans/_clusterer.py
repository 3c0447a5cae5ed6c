"""What both estimators have in common: checks of arrays, labels, distances, scores, conversions, pickles."""

import copy
import warnings
from typing import Any

import array_api_compat as compat
import numpy as np

from xpmeans import _inputs, _solve
from xpmeans._core.precision import promoted, widest
from xpmeans._dispatch import Context, converted, dispatch, named_namespace, returned, to_host
from xpmeans._lazy import solve as lazily
from xpmeans._sklearn import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    NotFittedError,
    TransformerMixin,
    validate_data,
)
from xpmeans._solve import Task
from xpmeans.capabilities import gate
from xpmeans.functional import INIT, METRICS, assign

_ARRAYS = ("cluster_centers_", "labels_", "_counts", "_precise")


class Clusterer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """A model with centroids; `fit` is the subclasses'."""

    _runs = 10  # of "auto" where a single start may be bad
    n_clusters: int
    init: Any
    n_init: Any
    metric: str
    random_state: Any
    verbose: int

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fit, and return the labels of the points.

        Parameters
        ----------
        X : array of shape (n, d)
            The points.
        y : None
            Ignored.
        sample_weight : array of shape (n,), optional
            A weight for each point.

        Returns
        -------
        array of shape (n,), int32
            For each point the index of its centroid.
        """
        return self.fit(X, sample_weight=sample_weight).labels_

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fit, and return the distances of the points from the centroids.

        Parameters
        ----------
        X : array of shape (n, d)
            The points.
        y : None
            Ignored.
        sample_weight : array of shape (n,), optional
            A weight for each point.

        Returns
        -------
        array of shape (n, k)
            As from `transform`.
        """
        return self.fit(X, sample_weight=sample_weight).transform(X)

    def predict(self, X: Any) -> Any:
        """Find the nearest centroid of each point.

        Parameters
        ----------
        X : array of shape (n, d)
            The points, of the library and on the device that the model was fitted on.

        Returns
        -------
        array of shape (n,), int32
            Indices of centroids; the lowest wins a tie.
        """
        X = self._again(X, "predict")
        if compat.is_dask_array(X):
            return assign(X, self.cluster_centers_, metric=self.metric)[0]
        return self._scored(X, None)[0]

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return minus the inertia of points: the higher, the nearer they lie to the centroids.

        Parameters
        ----------
        X : array of shape (n, d)
            The points.
        y : None
            Ignored.
        sample_weight : array of shape (n,), optional
            A weight for each point.

        Returns
        -------
        float
            Minus the sum of weight times squared distance, or cosine distance.
        """
        X = self._again(X, "score")
        return -self._scored(X, self._weights(X, sample_weight))[1]

    def transform(self, X: Any) -> Any:
        """Compute the distances of points from all centroids.

        Parameters
        ----------
        X : array of shape (n, d)
            The points.

        Returns
        -------
        array of shape (n, k)
            Distances, not squared, to ten digits in float64; with ``metric='cosine'`` 1 minus the cosine.
        """
        X = self._again(X, "transform")
        inputs = _inputs.inputs_of("assign", X, cluster_centers_=self.cluster_centers_)
        task = Task(inputs.user, inputs.work, inputs.dtype, self.metric)
        dtype = promoted(inputs.user.xp, inputs.dtype, inputs.book_dtype)
        if inputs.user.lazy:
            return lazily.transform(task, inputs, dtype)
        (found,) = _solve.solve(_solve.transform, task, inputs, (True,))
        return returned(inputs.user, found, dtype)

    def to(self, library: Any = None, *, device: Any = None, dtype: Any = None) -> Any:
        """Convert a fitted model to another library, device or dtype.

        Parameters
        ----------
        library : {'numpy', 'torch', 'jax', 'cupy'}, namespace or None
            Where the arrays go; None keeps the library.
        device : object, optional
            A device of that library; by default its own default device, or with `library` None the device
            of the model.
        dtype : str or dtype, optional
            Of the centroids, such as ``'float32'``; by default the one they have.

        Returns
        -------
        KMeans or MiniBatchKMeans
            A copy; this model stays as it is.

        Examples
        --------
        >>> import numpy as np
        >>> import xpmeans
        >>> model = xpmeans.KMeans(2, random_state=0).fit(np.asarray([[1.0], [2.0], [9.0]]))
        >>> model.to(dtype="float32").cluster_centers_.dtype
        dtype('float32')
        """
        self._require_fitted()
        other = copy.deepcopy(self)
        other.__dict__.pop("_precise", None)
        other._bring(None if library is None else named_namespace(library), device, dtype)
        return other

    def _bring(self, xp: Any, device: Any = None, dtype: Any = None) -> None:
        """Convert what arrays there are, but for Dask's."""
        for name in _ARRAYS:
            if name in self.__dict__ and not compat.is_dask_array(self.__dict__[name]):
                kind = dtype if name == "cluster_centers_" else None
                setattr(self, name, converted(getattr(self, name), xp, device, kind))

    def _require_fitted(self) -> None:
        """Require centroids."""
        if "cluster_centers_" not in self.__dict__:
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' with appropriate "
                "arguments before using this estimator."
            )

    def _checked(self, X: Any, reset: bool) -> tuple[Any, Context]:
        """The points as an array, with width and column names noted, or checked, and where they are."""
        if compat.is_array_api_obj(X) and not isinstance(X, np.ndarray | np.generic):
            context, (X,) = dispatch(X=X)
            gate(f"xpmeans.{type(self).__name__}", context)
            if X.ndim != 2:
                raise ValueError(f"`X` must have shape (n, d), got {tuple(X.shape)}.")
            if reset:
                self.__dict__.pop("feature_names_in_", None)
                self.n_features_in_ = X.shape[1]
        else:
            # Finite values are checked where they are looked at anyway.
            options: Any = {"dtype": [np.float64, np.float32], "ensure_all_finite": False}
            X = validate_data(self, X, reset=reset, **options)
            context, (X,) = dispatch(X=X)
        if not reset and X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input."
            )
        return X, context

    def _again(self, X: Any, method: str) -> Any:
        """Points for a fitted model, which must be where its centroids are."""
        self._require_fitted()
        X, context = self._checked(X, reset=False)
        try:
            dispatch(**_inputs.alongside(X, {"X": X, "cluster_centers_": self.cluster_centers_}))
        except (TypeError, ValueError):
            mine, _ = dispatch(cluster_centers_=self.cluster_centers_)
            where = "" if context.library == "numpy" else ", device=X.device"
            raise ValueError(
                f"`X` in {type(self).__name__}.{method}() must use the same namespace and device as in fit: "
                f"it is a {context.library} array on {context.device}, and the model was fitted on "
                f"{mine.library} arrays on {mine.device}. "
                f"Hint: model.to({context.library!r}{where}) converts it."
            ) from None
        return X

    def _weights(self, X: Any, sample_weight: Any) -> Any:
        """Weights as `kmeans` takes them, an array where the points are, or None."""
        if sample_weight is None:
            return None
        weights = _alongside(X, sample_weight)
        if weights.ndim == 0:
            xp = compat.array_namespace(X)
            if compat.is_dask_array(X):
                return xp.full_like(X[:, 0], float(weights), dtype=xp.float64)
            return xp.full(X.shape[0], float(weights), device=compat.device(X))
        if weights.ndim > 1:
            raise ValueError(f"Sample weights must be 1D array or scalar, got shape {tuple(weights.shape)}.")
        return weights

    def _starts(self, X: Any, stacklevel: int = 3) -> tuple[Any, int]:
        """`init` as `kmeans` takes it, and the number of runs; scikit-learn keeps the latter as `_n_init`."""
        k, init = self.n_clusters, self.init
        _inputs.at_least("n_clusters", k, 1)
        if X.shape[0] < k:
            raise ValueError(f"n_samples={X.shape[0]} should be >= n_clusters={k}.")
        if isinstance(init, str):
            _inputs.one_of("init", init, INIT)
            self._n_init = self._runs if init == "random" else 1
            init = str(init)
        elif callable(init):
            self._n_init, init = self._runs, self._called
        else:
            self._n_init = 1
            init = self._shaped(X, getattr(init, "cluster_centers_", getattr(init, "centroids", init)))
        if not (isinstance(self.n_init, str) and self.n_init == "auto"):
            n_init = _inputs.at_least("n_init", self.n_init, 1)
            if n_init > 1 and not isinstance(init, str) and not callable(init):
                warnings.warn(
                    "Explicit initial center position passed: performing only one init in "
                    f"{type(self).__name__} instead of n_init={n_init}.",
                    RuntimeWarning,
                    stacklevel=stacklevel,
                )
                n_init = 1
            self._n_init = n_init
        return init, self._n_init

    def _called(self, X: Any, k: int, rng: np.random.Generator) -> Any:
        """What the callable `init` makes; it gets a `RandomState`, as from scikit-learn."""
        return self._shaped(X, self.init(X, k, random_state=np.random.RandomState(rng.bit_generator)))

    def _shaped(self, X: Any, centers: Any) -> Any:
        """First centroids as an array where the points are, if their shape fits."""
        centers = _alongside(X, centers)
        if isinstance(X, np.ndarray):
            centers = np.array(centers, dtype=X.dtype)
        shape = tuple(centers.shape)
        for place, what, number in (
            (0, "number of clusters", self.n_clusters),
            (1, "number of features of the data", X.shape[1]),
        ):
            if len(shape) != 2 or shape[place] != number:
                raise ValueError(
                    f"The shape of the initial centers {shape} does not match the {what} {number}."
                )
        return centers

    def _scored(self, X: Any, weights: Any) -> tuple[Any, float]:
        """Labels of points, and their inertia."""
        _inputs.one_of("metric", self.metric, METRICS)
        inputs = _inputs.inputs_of(
            "assign", X, weights, compiles=True, cluster_centers_=self.cluster_centers_
        )
        task = Task(inputs.user, inputs.work, inputs.dtype, self.metric)
        if inputs.user.lazy:
            labels, _ = assign(X, self.cluster_centers_, metric=self.metric)
            return labels, lazily.inertia(task, inputs)
        labels, inertia = _solve.solve(_solve.score, task, inputs, (True, False))
        wide = widest(inputs.user.xp, inputs.user.device)
        return returned(inputs.user, labels), float(returned(inputs.user, inertia, wide))

    def _fitted(self, centers: Any) -> None:
        """Note the centroids."""
        self.cluster_centers_ = centers
        self._n_features_out = centers.shape[0]

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        other = object.__new__(type(self))  # not by way of a pickle, which would move arrays to the host
        other.__dict__.update({name: copy.deepcopy(value, memo) for name, value in self.__dict__.items()})
        return other

    def __copy__(self) -> Any:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        for name in _ARRAYS:
            if compat.is_dask_array(state.get(name)):
                del state[name]  # whose graph may hold all the points
            elif name in state and not isinstance(state[name], np.ndarray):
                state[name] = _Pickled.of(state[name])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = {
            name: value.array() if isinstance(value, _Pickled) else value for name, value in state.items()
        }
        if hasattr(BaseEstimator, "__setstate__"):
            super().__setstate__(state)
        else:
            self.__dict__.update(state)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.array_api_support = True
        return tags


class _Pickled:
    """An array of another library than NumPy, in a pickle that any machine can read up to here."""

    def __init__(self, library: str, device: str, dtype: str, values: Any) -> None:
        self._parts = (library, device, dtype, values)

    @classmethod
    def of(cls, array: Any) -> "_Pickled":
        """Take an array to pieces."""
        context, _ = dispatch(array=array)
        dtype = str(array.dtype).rpartition(".")[2]
        return cls(context.library, str(context.device), dtype, to_host(array))

    def array(self) -> Any:
        """Put it together again: on torch's device by name if it is there, else on the library's first."""
        library, device, name, values = self._parts
        dtype = name if "float" in name else None  # integers are what they are in NumPy
        try:
            xp = named_namespace(library)
        except ImportError as error:
            raise ImportError(
                f"The model's arrays belong to {library}, which cannot be imported here. Hint: install it, "
                "or convert the model where it is installed: model.to('numpy')."
            ) from error
        if library != "torch":
            return converted(values, xp, None, dtype)
        try:
            return converted(values, xp, device, dtype)
        except (RuntimeError, NotImplementedError, AssertionError):
            warnings.warn(
                f"The model was saved on device {device!r}, which is not here: it is loaded to host memory.",
                UserWarning,
                stacklevel=4,
            )
            return converted(values, xp, "cpu", dtype)


def _alongside(X: Any, values: Any) -> Any:
    """Anything like an array as one of the points' library, on their device, as scikit-learn has it."""
    if not compat.is_array_api_obj(values):
        values = np.asarray(values)
        if values.dtype.kind in "OUS":
            values = values.astype(np.float64)
        if isinstance(X, np.ndarray):
            return values
    xp = compat.array_namespace(X)
    if compat.array_namespace(values) is xp:
        return values
    if compat.is_dask_array(X) and isinstance(values, np.ndarray):
        return values  # which go along
    return converted(values, xp, None if isinstance(X, np.ndarray) else compat.device(X), None)
