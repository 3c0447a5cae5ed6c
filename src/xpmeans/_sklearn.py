"""What the estimators take from scikit-learn, or where it is missing, what stands in for it.

With scikit-learn they are real estimators: pipelines, searches, `set_output` and `clone` work. Without, they
keep their own methods and parameters.
"""

import inspect
from typing import Any

import numpy as np

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
    from sklearn.exceptions import ConvergenceWarning, NotFittedError
    from sklearn.utils.validation import validate_data
except ImportError:  # pragma: no cover - tested in a process of its own

    class ConvergenceWarning(UserWarning):  # type: ignore[no-redef]
        """A result that is not what was asked for."""

    class NotFittedError(ValueError, AttributeError):  # type: ignore[no-redef]
        """A model is used before it was fitted."""

    class ClusterMixin:  # type: ignore[no-redef]
        """Nothing."""

    class TransformerMixin:  # type: ignore[no-redef]
        """Nothing."""

    class ClassNamePrefixFeaturesOutMixin:  # type: ignore[no-redef]
        """Names of the columns that `transform` makes."""

        _n_features_out: int

        def get_feature_names_out(self, input_features: Any = None) -> Any:  # noqa: ARG002
            """One name for each cluster: the class's name and a number."""
            prefix = type(self).__name__.lower()
            return np.asarray([f"{prefix}{i}" for i in range(self._n_features_out)], dtype=object)

    class BaseEstimator:  # type: ignore[no-redef]
        """Parameters by their names."""

        def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002
            """The parameters of the constructor."""
            return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

        def set_params(self, **params: Any) -> Any:
            """Change parameters of the constructor."""
            for name, value in params.items():
                if name not in inspect.signature(type(self)).parameters:
                    raise ValueError(f"Invalid parameter {name!r} for estimator {self!r}.")
                setattr(self, name, value)
            return self

        def __repr__(self) -> str:
            parameters = inspect.signature(type(self)).parameters.values()
            changed = (p.name for p in parameters if repr(getattr(self, p.name)) != repr(p.default))
            return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in changed)})"

    def validate_data(estimator: Any, X: Any, *, reset: bool, dtype: Any, **_: Any) -> Any:
        """`X` as a table of numbers, with its width and the names of its columns noted, or checked."""
        names = getattr(X, "columns", None)
        names = None if names is None or not all(isinstance(name, str) for name in names) else list(names)
        if hasattr(X, "tocsr"):
            raise TypeError("Sparse data was passed, but dense data is required. Hint: use X.toarray().")
        table = np.asarray(X)
        if table.ndim != 2:
            raise ValueError(f"Expected 2D array, got an array of shape {table.shape} instead.")
        if 0 in table.shape:
            raise ValueError(f"Found array of shape {table.shape}: a minimum of 1 is required.")
        if table.dtype.kind not in "biufO":
            raise ValueError(f"Expected real numbers, got an array of dtype {table.dtype}.")
        if table.dtype not in dtype:
            table = table.astype(dtype[0])
        if reset:
            estimator.n_features_in_ = table.shape[1]
            estimator.__dict__.pop("feature_names_in_", None)
            if names is not None:
                estimator.feature_names_in_ = np.asarray(names, dtype=object)
        else:
            known = getattr(estimator, "feature_names_in_", None)
            if known is not None and names is not None and list(known) != names:
                raise ValueError(
                    "The feature names should match those that were passed during fit: "
                    f"{list(known)}, got {names}."
                )
        return table


__all__ = [
    "BaseEstimator",
    "ClassNamePrefixFeaturesOutMixin",
    "ClusterMixin",
    "ConvergenceWarning",
    "NotFittedError",
    "TransformerMixin",
    "validate_data",
]
