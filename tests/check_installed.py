"""Run in an environment that holds xpmeans and nothing it does not need: does it work there?"""

import importlib.metadata
import importlib.util

import numpy as np

import xpmeans
from xpmeans.vq import kmeans2

for name in ("torch", "jax", "dask", "cupy", "scipy", "array_api_strict"):
    assert importlib.util.find_spec(name) is None, f"{name} is installed here"

centroid, label = kmeans2(np.array([[0.0, 0.0], [0.1, 0.0], [9.0, 9.0]]), 2, minit="++", rng=0)
assert sorted(centroid.sum(axis=1).round(2)) == [0.05, 18.0]
assert label.tolist() in ([0, 0, 1], [1, 1, 0])
assert xpmeans.capabilities("kmeans2").rows["jax"] == {"cpu": True, "gpu": False, "jit": False}
assert importlib.metadata.version("xpmeans") == xpmeans.__version__
points = np.random.default_rng(0).normal(size=(10_000, 4))
compiled, reference = (xpmeans.kmeans(points, 5, rng=0, kernel=name) for name in ("host", "reference"))
assert (compiled.labels == reference.labels).all()
assert "SCIPY_ARRAY_API=1" in (kmeans2.__doc__ or "")
print(f"xpmeans {xpmeans.__version__} works from {xpmeans.__file__}")
