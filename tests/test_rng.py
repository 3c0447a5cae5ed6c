"""SPEC 7: `rng`, `seed`, neither."""

from typing import Any

import numpy as np
import pytest
from conftest import blobs
from scipy.cluster import vq as scipy_vq

from xpmeans.vq import kmeans2

X = blobs()

pytestmark = pytest.mark.filterwarnings("ignore:One of the clusters is empty")


def kinds() -> dict[str, dict[str, Any]]:
    return {
        "rng=int": {"rng": 7},
        "rng=Generator": {"rng": np.random.default_rng(7)},
        "rng=SeedSequence": {"rng": np.random.SeedSequence(7)},
        "rng=BitGenerator": {"rng": np.random.MT19937(7)},
        "rng=list": {"rng": [1, 2]},
        "rng=RandomState": {"rng": np.random.RandomState(7)},
        "seed=int": {"seed": 7},
        "seed=True": {"seed": True},
        "seed=np.int64": {"seed": np.int64(7)},
        "seed=RandomState": {"seed": np.random.RandomState(7)},
        "seed=Generator": {"seed": np.random.default_rng(7)},
        "seed=None": {"seed": None},
        "seed=np.random": {"seed": np.random},
        "neither": {},
    }


@pytest.mark.parametrize("minit", ["random", "points", "++"])
@pytest.mark.parametrize("kind", kinds())
def test_draws_are_scipys(kind: str, minit: str) -> None:
    np.random.seed(11)
    expected, expected_label = scipy_vq.kmeans2(X, 4, minit=minit, **kinds()[kind])
    np.random.seed(11)
    centroid, label = kmeans2(X, 4, minit=minit, **kinds()[kind])
    np.testing.assert_array_equal(label, expected_label)
    np.testing.assert_allclose(centroid, expected, rtol=1e-13)


@pytest.mark.parametrize("minit", ["random", "points", "++"])
@pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState])
def test_a_generator_is_left_where_scipy_leaves_it(minit: str, make: Any) -> None:
    ours, theirs = make(3), make(3)
    kmeans2(X, 4, minit=minit, seed=ours)
    scipy_vq.kmeans2(X, 4, minit=minit, seed=theirs)
    assert ours.uniform() == theirs.uniform()


def test_the_global_state_is_touched_only_where_seed_asks_for_it() -> None:
    before = np.random.get_state()[1].copy(), np.random.get_state()[2]
    kmeans2(X, 4, rng=0)
    kmeans2(X, 4, rng=None)
    kmeans2(X, 4, seed=0)
    kmeans2(X, X[:4])
    after = np.random.get_state()[1], np.random.get_state()[2]
    np.testing.assert_array_equal(before[0], after[0])
    assert before[1] == after[1]
    kmeans2(X, 4, minit="points")
    assert not (np.array_equal(np.random.get_state()[1], before[0]) and np.random.get_state()[2] == before[1])


def test_rng_none_is_fresh_entropy() -> None:
    results = set()
    for _ in range(20):
        np.random.seed(0)
        results.add(float(kmeans2(np.arange(1000.0), 3, minit="points", rng=None, iter=1)[0][0]))
    assert len(results) > 1
