"""A pytest plugin that runs SciPy's own tests of `scipy.cluster.vq` on xpmeans: see `nox -s scipy-suite`.

The installed test module stays as it is; only the functions that it imported are replaced once it is
collected. SciPy's fixtures run `whiten` under `jax.jit` and count Dask's computes for functions that carry a
mark, so the marks move along.
"""

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.cluster import vq as scipy_vq

import xpmeans.vq
from xpmeans import _arguments, _rng
from xpmeans._core import seeding
from xpmeans._core.precision import precision
from xpmeans._core.problem import make_problem


def krandinit(data: Any, k: int, rng: Any, xp: ModuleType) -> Any:
    """What `minit='random'` draws, by the arguments of SciPy's private function."""
    host = np.asarray(data)
    dtypes = precision(np, host.dtype, "cpu")
    problem = make_problem(np, "cpu", host, k, dtypes, _arguments.reach_of(np, host, True))
    return xp.asarray(seeding.gaussian(problem, k, _rng.draws(rng)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    replaced = {name: getattr(xpmeans.vq, name) for name in xpmeans.vq.__all__} | {"_krandinit": krandinit}
    for module in {item.module for item in items}:
        for name, ours in replaced.items():
            theirs = getattr(module, name)
            assert theirs is getattr(scipy_vq, name)
            for key, mark in vars(theirs).items():
                if "lazy_xp" in key:
                    setattr(ours, key, mark)
            setattr(module, name, ours)
