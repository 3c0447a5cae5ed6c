"""K-means and vector quantization for every Python array library."""

from typing import Any

from xpmeans._dispatch import array_api
from xpmeans.capabilities import Capabilities, UnsupportedBackendError, capabilities

_FUNCTIONS = ("KMeansResult", "assign", "kmeans", "kmeans_plusplus")
_ESTIMATORS = ("KMeans", "MiniBatchKMeans")
__all__ = [
    "Capabilities",
    "UnsupportedBackendError",
    "__version__",
    "array_api",
    "capabilities",
    "vq",
    *_FUNCTIONS,
    *_ESTIMATORS,
]


def __getattr__(name: str) -> Any:  # what follows is loaded when first used
    if name == "__version__":
        from importlib.metadata import version

        return globals().setdefault(name, version("xpmeans"))
    if name == "vq":
        import xpmeans.vq

        return xpmeans.vq
    if name in _FUNCTIONS:
        import xpmeans.functional

        return getattr(xpmeans.functional, name)
    if name in _ESTIMATORS:
        import xpmeans.estimators

        return getattr(xpmeans.estimators, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
