"""SciPy's contract, argument by argument."""

import inspect
import warnings
from typing import Any

import numpy as np
import pytest
from conftest import Library, blobs
from scipy.cluster import vq as scipy_vq

from xpmeans.vq import ClusterError, kmeans2

X = blobs()

pytestmark = pytest.mark.filterwarnings("ignore:One of the clusters is empty")


def test_signature() -> None:
    assert str(inspect.signature(kmeans2)).partition(" ->")[0].replace(": Any", "") == (
        "(data, k, iter: int = 10, thresh: float = 1e-05, minit: str = 'random', missing: str = 'warn', "
        "check_finite: bool = True, *, rng = None, seed = None)"
    )
    ours = {p.name: (p.kind, p.default) for p in inspect.signature(kmeans2).parameters.values()}
    theirs = {p.name: (p.kind, p.default) for p in inspect.signature(scipy_vq.kmeans2).parameters.values()}
    assert ours == theirs


def test_cluster_error() -> None:
    assert ClusterError.__mro__ == (ClusterError, Exception, BaseException, object)


ERRORS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"iter": 0}, ValueError, r"Invalid iter \(0\), must be a positive integer\."),
    ({"iter": -1}, ValueError, r"Invalid iter \(-1\)"),
    ({"iter": "3"}, TypeError, "cannot be interpreted as an integer"),
    ({"iter": 2.7}, TypeError, "cannot be interpreted as an integer"),
    ({"iter": None}, TypeError, "NoneType"),
    ({"iter": float("nan")}, ValueError, "cannot convert float NaN to integer"),
    ({"missing": "bogus"}, ValueError, "Unknown missing method 'bogus'"),
    ({"missing": []}, TypeError, "unhashable"),
    ({"minit": "bogus"}, ValueError, "Unknown init method 'bogus'"),
    ({"minit": None}, ValueError, "Unknown init method None"),
    ({"minit": []}, TypeError, "unhashable"),
    ({"k": 0}, ValueError, r"Cannot ask kmeans2 for 0 clusters \(k was 0\)"),
    ({"k": -1}, ValueError, r"Cannot ask kmeans2 for -1 clusters \(k was -1\)"),
    ({"k": 0.5}, ValueError, r"Cannot ask kmeans2 for 0 clusters \(k was 0\.5\)"),
    ({"k": float("nan")}, ValueError, "cannot convert float NaN to integer"),
    ({"k": float("inf")}, OverflowError, "cannot convert float infinity to integer"),
    ({"k": 2**70, "minit": "points"}, OverflowError, "too large"),
    ({"k": "3"}, TypeError, "only boolean and numerical dtypes"),
    ({"k": None}, TypeError, "only boolean and numerical dtypes"),
    (
        {"k": 100, "minit": "points"},
        ValueError,
        "Cannot take a larger sample than population",
    ),
    (
        {"k": [3]},
        TypeError,
        r"`k` must be a number or several centroids, got an array of shape \(1,\)",
    ),
    ({"k": 3, "minit": "matrix"}, ValueError, "k array doesn't match data rank"),
    (
        {"k": X[:3, 0]},
        ValueError,
        "k array doesn't match data rank: `k` is 1-D, `data` is 2-D",
    ),
    ({"k": X[:3, None]}, ValueError, "k array doesn't match data rank"),
    (
        {"k": np.zeros((3, 5))},
        ValueError,
        "k array doesn't match data dimension: `k` has 5 columns, `data` 2",
    ),
    (
        {"k": np.zeros((0, 2))},
        ValueError,
        r"Empty input is not supported\. `k` has shape \(0, 2\)",
    ),
    ({"k": np.full((3, 2), np.nan)}, ValueError, "array must not contain infs or NaNs"),
    ({"k": X[:3].astype(complex)}, ValueError, "Unsupported dtype complex128"),
    ({"k": X[:3].astype(object)}, TypeError, "only boolean and numerical dtypes"),
    (
        {"data": X[:0]},
        ValueError,
        r"Empty input is not supported\. `data` has shape \(0, 2\)",
    ),
    ({"data": X[:, :0]}, ValueError, "Empty input is not supported"),
    (
        {"data": np.where(X[3] == X, np.inf, X)},
        ValueError,
        "array must not contain infs or NaNs",
    ),
    ({"rng": "0"}, TypeError, "SeedSequence expects int"),
    ({"rng": 0.5}, TypeError, "SeedSequence expects int"),
    ({"rng": np.random}, TypeError, "SeedSequence expects int"),
    ({"rng": -1}, ValueError, "non-negative"),
    (
        {"seed": "0"},
        ValueError,
        r"'0' cannot be used to seed a numpy\.random\.RandomState instance",
    ),
    ({"seed": -1}, ValueError, "Seed must be between 0 and"),
    (
        {"rng": 0, "seed": 0},
        TypeError,
        "got multiple values for argument now known as `rng`",
    ),
    ({"rng": 0, "seed": None}, TypeError, r"kmeans2\(\) got multiple values"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), ERRORS)
def test_errors_are_scipys(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"data": X, "k": 3, **arguments}
    with pytest.raises(error, match=message):
        kmeans2(**arguments)
    with warnings.catch_warnings(action="ignore"), pytest.raises(error):
        scipy_vq.kmeans2(**arguments)


def test_too_many_positional_arguments() -> None:
    with pytest.raises(
        TypeError,
        match="kmeans2\\(\\) takes from 2 to 7 positional arguments but 8 were given",
    ):
        kmeans2(X, 3, 10, 1e-5, "random", "warn", True, 0)  # type: ignore[misc]


@pytest.mark.parametrize("minit", ["random", "++"])
def test_k_that_is_not_whole(minit: str) -> None:
    with pytest.warns(UserWarning, match="k was not an integer, was converted"):
        centroid, _ = kmeans2(X, 2.5, minit="points", rng=0)
    np.testing.assert_array_equal(centroid, kmeans2(X, 2, minit="points", rng=0)[0])
    with (
        pytest.warns(UserWarning, match="k was not"),
        pytest.raises(TypeError, match="whole number with minit"),
    ):
        kmeans2(X, 2.5, minit=minit, rng=0)


@pytest.mark.parametrize(
    "arguments",
    [{"iter": True}, {"iter": np.int64(3)}, {"k": True}, {"k": 3.0}, {"thresh": "x"}],
)
def test_arguments_that_work(arguments: dict[str, Any]) -> None:
    centroid, label = kmeans2(**{"data": X, "k": 3, "rng": 0, **arguments})
    assert centroid.shape[1] == 2
    assert label.shape == (60,)


def test_iter_is_the_number_of_iterations() -> None:
    once, _ = kmeans2(X, X[:3], iter=1)
    twice, label = kmeans2(X, once, iter=1, minit="matrix")
    expected, expected_label = kmeans2(X, X[:3], iter=2)
    np.testing.assert_array_equal(twice, expected)
    np.testing.assert_array_equal(label, expected_label)


def test_thresh_and_minit_are_ignored_where_scipy_ignores_them() -> None:
    expected, _ = kmeans2(X, X[:3], minit="matrix")
    for options in ({"thresh": np.inf}, {"minit": "bogus"}, {"minit": "points"}):
        np.testing.assert_array_equal(kmeans2(X, X[:3], **options)[0], expected)


def test_one_centroid() -> None:
    centroid, label = kmeans2(X, X[:1], minit="matrix")
    np.testing.assert_allclose(centroid, X.mean(axis=0)[None], rtol=1e-14)
    assert not label.any()
    centroid, _ = kmeans2(X[:, 0], [5.0], minit="matrix")
    np.testing.assert_allclose(centroid, X[:, 0].mean()[None], rtol=1e-14)


def test_one_dimension(lib: Library) -> None:
    x = X[:, 0]
    for minit in ("random", "points", "++"):
        centroid, label = kmeans2(lib(x), 3, minit=minit, rng=0)
        assert tuple(centroid.shape) == (3,)
        assert tuple(label.shape) == (60,)
        column, column_label = kmeans2(lib(x[:, None]), 3, minit=minit, rng=0)
        np.testing.assert_allclose(lib.numpy(column)[:, 0], lib.numpy(centroid), rtol=1e-6)
        np.testing.assert_array_equal(lib.numpy(column_label), lib.numpy(label))
    centroid, _ = kmeans2(lib(x), lib(x[:4]))
    assert tuple(centroid.shape) == (4,)


def test_ties_go_to_the_lowest_index(lib: Library) -> None:
    for n in (1, 7000):
        x = np.tile([[0.0, 0.5]], (n, 1))
        book = np.array([[9.0, 9.0], [1.0, 0.5], [-1.0, 0.5], [0.0, 1.5]])
        with pytest.warns(UserWarning, match="One of the clusters is empty"):
            _, label = kmeans2(lib(x), lib(book), iter=1)
        assert set(lib.numpy(label)) == {1}


def test_the_same_seed_gives_the_same_answer_on_every_library(lib: Library) -> None:
    if not lib.has_float64:
        return
    for seed in range(20):
        x = blobs(80, 3, seed=seed)
        for minit in ("random", "points", "++"):
            expected, expected_label = scipy_vq.kmeans2(x, 4, minit=minit, rng=seed, missing="warn")
            centroid, label = kmeans2(lib(x), 4, minit=minit, rng=seed)
            np.testing.assert_allclose(lib.numpy(centroid), expected, rtol=1e-12, atol=1e-12)
            np.testing.assert_array_equal(lib.numpy(label), expected_label)


def test_whole_numbers_as_first_centroids(lib: Library) -> None:
    points = np.round(4 * X).astype("int32")
    centroid, label = kmeans2(lib(points), lib(points[:3]), iter=3, minit="matrix")
    wide = points.astype(float)  # SciPy takes no integers
    expected, labels = scipy_vq.kmeans2(wide, wide[:3], iter=3, minit="matrix")
    found = lib.numpy(centroid)  # in the library's default dtype
    np.testing.assert_allclose(found, expected, rtol=1e-12 if found.dtype == np.float64 else 1e-6)
    np.testing.assert_array_equal(lib.numpy(label), labels)
