"""SciPy code on other arrays: change the import, keep the call.

Three groups of points in the plane, clustered by `scipy.cluster.vq.kmeans2` and by
`xpmeans.vq.kmeans2` on the arrays of every library installed here, with the same seed.
"""

import importlib
from typing import Any

import numpy as np
import scipy.cluster.vq

import xpmeans.vq

LIBRARIES = {"numpy": "numpy", "torch": "torch", "jax": "jax.numpy", "dask": "dask.array"}


def mixture(rng: np.random.Generator) -> Any:
    """Draw 100 points from three Gaussians, in float32."""
    groups = [
        rng.multivariate_normal([0, 0], [[1.0, 0.4], [0.4, 0.6]], size=45),
        rng.multivariate_normal([6, 1], [[0.5, -0.3], [-0.3, 1.2]], size=30),
        rng.multivariate_normal([2, 7], [[1.5, 0.0], [0.0, 0.4]], size=25),
    ]
    return np.concatenate(groups).astype("float32")


def main() -> None:
    """Cluster with SciPy, then with every library, and compare."""
    points = mixture(np.random.default_rng(7))
    expected, expected_label = scipy.cluster.vq.kmeans2(points, 3, minit="points", rng=1)
    print(f"SciPy\n{expected}\n{np.bincount(expected_label)} points each\n")
    for library, module in LIBRARIES.items():
        try:
            data = importlib.import_module(module).asarray(points)
        except ImportError:
            print(f"{library}: not installed\n")
            continue
        with xpmeans.array_api(True):
            centroid, label = xpmeans.vq.kmeans2(data, 3, minit="points", rng=1)
        print(f"{library}: {type(centroid).__module__}.{type(centroid).__name__}\n{np.asarray(centroid)}")
        np.testing.assert_allclose(np.asarray(centroid), expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(np.asarray(label), expected_label)
        print("same labels and centroids as SciPy's\n")


if __name__ == "__main__":
    main()
