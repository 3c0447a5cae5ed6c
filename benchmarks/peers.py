"""Exact k-means by other libraries, and by this one: ``run(x, init, n_iter)`` returns centroids.

Everybody makes `n_iter` iterations at most, and those that can end earlier when no label changes any more.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

Run = Callable[[Any, Any, int], Any]


def xpmeans(x: Any, init: Any, n_iter: int, kernel: str | None = None) -> Any:
    import xpmeans

    return xpmeans.kmeans(x, len(init), init=init, max_iter=n_iter, tol=0, kernel=kernel).centroids


def reference(x: Any, init: Any, n_iter: int) -> Any:
    return xpmeans(x, init, n_iter, kernel="reference")


def xpmeans_kmeans2(x: Any, init: Any, n_iter: int) -> Any:
    from xpmeans.vq import kmeans2

    return kmeans2(x, init, n_iter, minit="matrix")[0]


def scipy(x: Any, init: Any, n_iter: int) -> Any:
    from scipy.cluster.vq import kmeans2

    return kmeans2(x, init, n_iter, minit="matrix")[0]


def sklearn_lloyd(x: Any, init: Any, n_iter: int, algorithm: str = "lloyd") -> Any:
    from sklearn.cluster import KMeans

    model = KMeans(len(init), init=init, n_init=1, max_iter=n_iter, tol=0, algorithm=algorithm)
    return model.fit(x).cluster_centers_


def sklearn_elkan(x: Any, init: Any, n_iter: int) -> Any:
    return sklearn_lloyd(x, init, n_iter, "elkan")


def faiss(x: Any, init: Any, n_iter: int) -> Any:
    """All points, no subsampling; float32 only."""
    import faiss

    k, most = len(init), len(x)
    limits = {"min_points_per_centroid": 1, "max_points_per_centroid": most}
    model = faiss.Kmeans(x.shape[1], k, niter=n_iter, **limits)
    model.train(x, init_centroids=init)
    return model.centroids


EXACT: dict[str, Run] = {
    "scikit-learn lloyd": sklearn_lloyd,
    "scikit-learn elkan": sklearn_elkan,
    "FAISS": faiss,
    "SciPy": scipy,
}
MODULES = {
    "scikit-learn lloyd": "sklearn",
    "scikit-learn elkan": "sklearn",
    "FAISS": "faiss",
    "SciPy": "scipy",
}


def missing() -> list[str]:
    """Peers that are not installed here."""
    return [name for name, module in MODULES.items() if find_spec(module) is None]


def inertia(x: Any, centroids: Any) -> float:
    """Sum of squared distances from the nearest centroid, the same way for everybody."""
    import xpmeans

    _, distances = xpmeans.assign(x, np.asarray(centroids, dtype=x.dtype))
    return float((distances.astype(float) ** 2).sum())
