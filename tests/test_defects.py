"""Where SciPy 1.17.1 is wrong, `kmeans2` is right. The numbers are those of the defects' list in the docs."""

import warnings
from typing import Any

import numpy as np
import pytest
from conftest import Library, blobs, nearest

import xpmeans
import xpmeans._core.precision
from xpmeans._core import brute
from xpmeans.vq import ClusterError, kmeans, kmeans2, vq, whiten

pytestmark = pytest.mark.filterwarnings("ignore:One of the clusters is empty:UserWarning")


def run(lib: Library, x: np.ndarray, k: Any, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """`kmeans2` on a library's arrays, answered in NumPy's."""
    k = lib(k) if isinstance(k, np.ndarray) else k
    centroid, label = kmeans2(lib(x), k, **options)
    return lib.numpy(centroid), lib.numpy(label)


def one_pass(lib: Library, x: np.ndarray, book: np.ndarray, **options: Any) -> np.ndarray:
    """Labels of the points for these centroids."""
    return run(lib, x, book, iter=1, minit="matrix", **options)[1]


@pytest.mark.parametrize("n", [24, 40_000])  # brute force, reference kernel
@pytest.mark.parametrize(("dtype", "size"), [("float32", 2e30), ("float64", 1e200), ("float32", 2e-30)])
def test_defect_01_squares_that_overflow(lib: Library, n: int, dtype: str, size: float) -> None:
    if dtype == "float64" and not lib.has_float64:
        return
    mass = np.random.default_rng(0).lognormal(size=(n, 2)).astype(dtype) * np.asarray(size, dtype)
    label = one_pass(lib, mass, mass[:3])
    np.testing.assert_array_equal(label, nearest(mass / size, mass[:3] / size))
    for minit in ("random", "points", "++"):
        centroid, label = run(lib, mass, 3, minit=minit, rng=0)
        assert np.isfinite(centroid).all()
        assert set(label) <= {0, 1, 2}


def test_defect_01_a_centroid_far_away(lib: Library) -> None:
    size = 1e200 if lib.has_float64 else 1e30
    x = blobs().astype("float64" if lib.has_float64 else "float32")
    book = np.asarray([[size, size], [size / 2, size / 2]], dtype=x.dtype)
    with pytest.warns(UserWarning, match="One of the clusters is empty"):
        assert set(one_pass(lib, x, book)) == {1}


def test_defect_02_random_draws_have_the_covariance_of_the_data(lib: Library) -> None:
    if not lib.has_float64:
        return
    mixing = np.array([[2.0, 0.0], [1.5, 0.5]])
    x = np.random.default_rng(0).normal(size=(300, 2)) @ mixing.T
    expected, expected_label = kmeans2(x, 5, rng=3)
    centroid, label = run(lib, x, 5, rng=3)
    np.testing.assert_allclose(centroid, expected, rtol=1e-12)
    np.testing.assert_array_equal(label, expected_label)


@pytest.mark.parametrize("minit", ["random", "points", "++"])
@pytest.mark.parametrize("shape", [(60, 2), (60,), (4, 9)])
def test_defect_03_float32_works_with_every_minit(lib: Library, minit: str, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    centroid, label = run(lib, x, 3, minit=minit, rng=1)
    assert centroid.dtype == np.float32
    assert label.dtype == np.int32


def test_defect_04_plus_plus_keeps_dtype_and_digits(lib: Library) -> None:
    if not lib.has_float64:
        return
    times = 1.7e9 + 30.0 * np.repeat(np.arange(4), 50) + np.random.default_rng(0).random(200)
    centroid, _ = run(lib, times, 4, minit="++", rng=0)
    assert centroid.dtype == np.float64
    np.testing.assert_allclose(np.sort(centroid) - 1.7e9, [0.5, 30.5, 60.5, 90.5], atol=0.2)


@pytest.mark.parametrize("d", [1, 4, 5, 40])
@pytest.mark.parametrize("n", [90, 3000])
@pytest.mark.parametrize(("dtype", "offset"), [("float64", 1.7e9), ("float32", 1e4)])
def test_defect_05_offsets(lib: Library, n: int, d: int, dtype: str, offset: float) -> None:
    if dtype == "float64" and not lib.has_float64:
        return
    x = (blobs(n, d, spread=0.1) + offset).astype(dtype)
    np.testing.assert_array_equal(one_pass(lib, x, x[:9]), nearest(x, x[:9]))


def test_defect_05_an_outlier_far_from_all_others(lib: Library) -> None:
    x = blobs(3000, 8).astype("float32")
    x[7] = 1e8
    np.testing.assert_array_equal(one_pass(lib, x, x[:9]), nearest(x, x[:9]))


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("n", [60, 6000])
def test_defect_06_integers_and_booleans(lib: Library, dtype: str, n: int) -> None:
    if dtype == "int64" and not lib.has_float64:
        return
    x = np.round(blobs(n, 3, spread=2) * 4) % 100
    number = 2 if dtype == "bool" else 4
    x = (x > 10 if dtype == "bool" else np.abs(x)).astype(dtype)
    data = lib(x)
    for minit in ("points", "++", "random"):
        centroid, label = kmeans2(data, number, minit=minit, rng=0)
        expected, expected_label = kmeans2(x.astype(float), number, minit=minit, rng=0)
        real = lib.numpy(centroid).dtype
        assert real == (np.float32 if lib.name == "torch" or not lib.has_float64 else np.float64)
        if not (minit == "random" and not lib.has_float64):
            np.testing.assert_array_equal(lib.numpy(label), expected_label)
            np.testing.assert_allclose(lib.numpy(centroid), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("n", [60, 6000])
def test_defect_06_half_precision(lib: Library, name: str, n: int) -> None:
    if lib.name == "array_api_strict" or (name == "bfloat16" and lib.name not in ("torch", "jax")):
        return  # which have no such dtype
    single = (blobs(n, 3, seed=1) * 100).astype("float32")
    if lib.name == "torch":
        import torch

        data = torch.asarray(single).to(getattr(torch, name))
        exact = data.float().numpy()
    else:
        data = lib(single).astype(name)
        exact = lib.numpy(data).astype("float32")
    centroid, label = kmeans2(data, 3, minit="points", rng=0)
    expected, expected_label = kmeans2(exact, 3, minit="points", rng=0)
    assert centroid.dtype == data.dtype
    np.testing.assert_array_equal(lib.numpy(label), expected_label)
    centroid = centroid.float() if lib.name == "torch" else lib.numpy(centroid)
    np.testing.assert_allclose(np.asarray(centroid, "float32"), expected, rtol=1e-2)


def test_defect_07_one_warning_at_the_callers_line(lib: Library) -> None:
    x, book = lib(blobs()), lib(np.array([[0.0, 0.0], [900.0, 900.0]]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kmeans2(x, book, minit="matrix", iter=25)
        kmeans2(x, 2.5, minit="points", rng=0)
    assert [str(w.message)[:20] for w in caught] == [
        "One of the clusters ",
        "k was not an integer",
    ]
    assert [w.filename for w in caught] == [__file__, __file__]


def test_defect_08_kept_labels_are_of_the_centroids_before_the_last_update(
    lib: Library,
) -> None:
    x = blobs(200, 2, spread=3).astype("float32")
    before, _ = run(lib, x, x[:8], minit="matrix", iter=2)
    _, label = run(lib, x, x[:8], minit="matrix", iter=3)
    np.testing.assert_array_equal(label, nearest(x, before))


@pytest.mark.parametrize("minit", ["random", "points", "++", "matrix"])
@pytest.mark.parametrize("n", [60, 20_000])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_defect_09_not_finite_unchecked(lib: Library, minit: str, n: int, bad: float) -> None:
    x = blobs(n)
    x[5, 1] = bad
    k = x[:3] if minit == "matrix" else 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        _, label = run(lib, x, k, minit=minit, rng=0, check_finite=False)
    assert label.shape == (n,)
    assert set(label) <= {0, 1, 2}
    if minit == "matrix":
        good = np.delete(np.arange(n), 5)
        centroid, label = run(lib, x, k, minit=minit, check_finite=False)
        expected, expected_label = run(lib, x[good], k, minit=minit)
        np.testing.assert_allclose(centroid, expected, rtol=1e-5)
        np.testing.assert_array_equal(label[good], expected_label)
        assert label[5] == 0


@pytest.mark.parametrize("n", [60, 20_000])
def test_defect_09_a_centroid_that_is_not_finite_attracts_nothing(lib: Library, n: int) -> None:
    x = blobs(n)
    book = np.array([[np.nan, 0.0], x[0], [np.inf, 0.0], x[1]])
    with pytest.warns(UserWarning, match="One of the clusters is empty"):
        label = one_pass(lib, x, book, check_finite=False)
    np.testing.assert_array_equal(label, 2 * nearest(x, x[:2]) + 1)


@pytest.mark.parametrize("k", [np.int64(3), np.float64(3), np.array(3), np.int8(3)], ids=repr)
def test_defect_10_a_numpy_number_for_k(lib: Library, k: Any) -> None:
    x = blobs()
    for minit in ("points", "++", "random"):
        expected, expected_label = run(lib, x, 3, minit=minit, rng=0)
        centroid, label = run(lib, x, k[()], minit=minit, rng=0)
        np.testing.assert_array_equal(centroid, expected)
        np.testing.assert_array_equal(label, expected_label)


def test_defect_10_a_zero_dimensional_array_and_a_list_for_k(lib: Library) -> None:
    x = blobs()
    expected, _ = run(lib, x, 3, minit="points", rng=0)
    for k in (np.array(3), lib(np.array(3))):
        centroid, _ = kmeans2(lib(x), k, minit="points", rng=0)
        np.testing.assert_array_equal(lib.numpy(centroid), expected)
    book = x[:3].tolist()
    centroid, _ = kmeans2(lib(x), book)
    np.testing.assert_array_equal(lib.numpy(centroid), run(lib, x, np.asarray(book), minit="matrix")[0])


DEGENERATE = {
    "constant column": np.column_stack([np.arange(12.0), np.full(12, 0.3)]),
    "constant columns": np.full((12, 3), 0.1),
    "identical rows": np.tile([0.1, 0.2, 0.7], (12, 1)),
    "one row": np.array([[0.1, 0.2]]),
    "one value": np.array([0.1]),
    "one cell": np.array([[0.1]]),
    "as many columns as rows": np.random.default_rng(0).normal(size=(3, 3)),
    "dependent columns": np.random.default_rng(0).normal(size=(12, 2)) @ np.ones((2, 3)),
    "more columns, identical rows": np.tile(np.arange(9.0), (4, 1)),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_defect_13_random_on_data_without_full_rank(lib: Library, name: str) -> None:
    x = DEGENERATE[name]
    centroid, label = run(lib, x, 3, minit="random", rng=0)
    assert np.isfinite(centroid).all()
    assert set(label) <= {0, 1, 2}
    eps = 1e-5 if not lib.has_float64 else 1e-7
    flat = np.ptp(x.reshape(len(x), -1), axis=0) == 0  # draws lie in the data's span
    spread = np.ptp(centroid.reshape(3, -1), axis=0)
    assert (spread[flat] <= eps * max(1, np.abs(x).max())).all()


@pytest.mark.parametrize("k", [2, 4, 12])
def test_defect_14_plus_plus_with_few_distinct_points(lib: Library, k: int) -> None:
    x = np.repeat([0.0, 1.0], 5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        centroid, label = run(lib, x, k, minit="++", rng=0)
    assert {str(w.message)[:27] for w in caught} == ({"One of the clusters is empt"} if k > 2 else set())
    assert set(centroid) == {0.0, 1.0}
    np.testing.assert_array_equal(centroid[label], x)


def test_defect_14_a_draw_beyond_the_rounded_sum(lib: Library) -> None:
    class Largest(np.random.RandomState):
        def uniform(self, *args: Any, **kwargs: Any) -> float:
            return float(np.nextafter(1.0, 0.0))

    for seed in range(5):
        x = np.append(np.random.default_rng(seed).random(37), [0.0, 0.0])
        centroid, _ = run(lib, x, 5, minit="++", seed=Largest(seed), iter=1)
        assert np.isfinite(centroid).all()


def test_defect_15_means_of_many_float32_values(lib: Library) -> None:
    x = (1000 + np.random.default_rng(0).random(400_000)).astype("float32")
    centroid, _ = run(lib, x, np.array([1000.0], dtype="float32"), iter=1, minit="matrix")
    exact = x.astype("float64").mean()
    ulp = np.spacing(np.float32(1000))
    assert abs(centroid[0] - exact) <= (0.5 if lib.has_float64 else 4) * ulp


def test_defect_18_masked_arrays_are_refused_in_both_modes() -> None:
    masked = np.ma.masked_array(blobs(), mask=False)
    for enabled in (False, True):
        with (
            xpmeans.array_api(enabled),
            pytest.raises(TypeError, match=r"`numpy\.ma\.MaskedArray`"),
        ):
            kmeans2(masked, 3)


def test_defect_19_one_finite_scan(lib: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = []
    measure = xpmeans._arguments.measure
    monkeypatch.setattr(xpmeans._arguments, "measure", lambda xp, x: scans.append(x.shape) or measure(xp, x))
    x = blobs()
    run(lib, x, x[:3], minit="matrix", iter=10)
    assert scans == [(60, 2), (3, 2)]
    with pytest.raises(ValueError, match="array must not contain infs or NaNs"):
        run(lib, np.where(x == x[5, 1], np.nan, x), 3)


def test_missing_raise_stops_at_once(lib: Library) -> None:
    x, book = blobs(), np.array([[0.0, 0.0], [900.0, 900.0]])
    with pytest.raises(ClusterError, match="One of the clusters is empty"):
        run(lib, x, book, minit="matrix", missing="raise")


@pytest.mark.parametrize(
    ("dtype", "fill"), [("float32", 1e20), ("float32", 1e36), ("float64", 1e160), ("float64", 1e300)]
)
@pytest.mark.parametrize("n", [200, 20_000])
def test_a_fill_value_leaves_the_others_alone(lib: Library, dtype: str, fill: float, n: int) -> None:
    """A huge number beside ordinary ones, as netCDF files have it: no label is lost to scaling."""
    if not lib.has_float64 and dtype == "float64":
        pytest.skip("no such numbers without float64")
    x = np.random.default_rng(0).random((n, 2)).astype(dtype)
    x[7] = fill
    book = np.concatenate([x[:5], x[7:8]])
    _, label = kmeans2(lib(x), lib(book), iter=1, minit="matrix")
    np.testing.assert_array_equal(lib.numpy(label), nearest(x, book))


@pytest.mark.parametrize("n", [4, 20_000])
def test_values_next_to_the_largest(n: int) -> None:
    x = np.resize([1e308, 1.1e308, 1.7e308, 1.6e308], (n, 1))
    centroid, label = kmeans2(x, x[[0, 2]], iter=2, minit="matrix")
    np.testing.assert_array_equal(label, np.resize([0, 0, 1, 1], n))
    np.testing.assert_allclose(centroid[:, 0], [1.05e308, 1.65e308])


def test_a_nan_beside_huge_values() -> None:
    x = np.array([1, 1.1, 9, 9.1, np.nan]) * 1e200
    centroid, label = kmeans2(x, x[[0, 2]], iter=1, minit="matrix", check_finite=False)
    np.testing.assert_array_equal(label, [0, 0, 1, 1, 0])
    np.testing.assert_allclose(centroid, [1.05e200, 9.05e200])


@pytest.mark.parametrize("shape", [(40, 2), (3, 9)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_random_draws_from_the_finite_points(lib: Library, shape: tuple[int, int], value: float) -> None:
    x = np.random.default_rng(0).normal(size=shape)
    with_bad = np.concatenate([x, np.full((2, shape[1]), value)])
    options = {"minit": "random", "rng": 0, "check_finite": False}
    expected, _ = run(lib, x, 2, **options)
    centroid, label = run(lib, with_bad, 2, **options)
    np.testing.assert_allclose(centroid, expected, rtol=1e-5)
    np.testing.assert_array_equal(label[-2:], 0)


@pytest.mark.parametrize("limit", [0, 1 << 14])
def test_small_values_beside_the_largest_number(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """`numpy.finfo(float).max` is a common fill value; SciPy keeps the others since its square overflows."""
    monkeypatch.setattr(brute, "LIMIT", limit)
    fill = np.finfo(float).max
    code, dist = vq(np.array([[1e-8], [9e-8], [fill]]), np.array([[0.0], [1e-7], [fill]]))
    np.testing.assert_array_equal(code, [0, 1, 2])
    np.testing.assert_allclose(dist, [1e-8, 1e-8, 0], rtol=1e-9)
    y = np.array([[0.0, 0], [1e-8, 0], [1e-6, 0], [1.01e-6, 0], [fill, fill]])
    np.testing.assert_allclose(kmeans(y, y[[0, 2, 4]], thresh=1e-20)[1], 4e-9, rtol=1e-9)
    x = np.zeros((2000, 1), "float32")
    x[:4, 0] = np.finfo("float32").max, 1e-20, 3e-20, 1.1e-19
    centroid, _ = kmeans2(x, np.array([[0.0], [1e-19], [x[0, 0]]], "float32"), 1, minit="matrix")
    np.testing.assert_allclose(centroid[1], np.float32(1.1e-19), rtol=1e-6)


@pytest.mark.parametrize("limit", [0, 1 << 14])
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_centroids_that_float32_cannot_hold_attract_nothing(
    monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(brute, "LIMIT", limit)
    x = np.array([[0.0], [0.1], [1.0], [1.1]], np.float32)
    book = np.array([[0.0], [1.0], [1e300]])
    with pytest.warns(UserWarning, match="empty"):
        centroid, label = kmeans2(x, book, iter=3, minit="matrix")
    np.testing.assert_allclose(centroid[:2], [[0.05], [1.05]], rtol=1e-6)
    np.testing.assert_array_equal(label, [0, 0, 1, 1])
    codebook, distortion = kmeans(x, book)
    np.testing.assert_allclose(codebook, [[0.05], [1.05]], rtol=1e-6)
    np.testing.assert_allclose(distortion, 0.05, rtol=1e-6)


def test_random_draws_beyond_the_largest_number() -> None:
    x = np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]] * 8) * 1.7e308
    for seed in range(20):
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # empty clusters
            centroid, label = kmeans2(x, 3, rng=seed, iter=1)
        assert np.isfinite(centroid).all()
        assert len(set(label.tolist())) > 1


def test_results_are_not_the_callers_arrays() -> None:
    guess, nothing = np.ones((2, 3)), np.empty((0, 3))
    book, _ = kmeans(np.full((5, 3), np.nan), guess, check_finite=False)
    assert not np.shares_memory(book, guess)
    assert whiten(nothing) is not nothing


@pytest.mark.parametrize("kind", ["masked", "times", "text"])
def test_dask_arrays_of_what_is_no_number(kind: str) -> None:
    da = pytest.importorskip("dask.array")
    array = {
        "masked": lambda: da.ma.masked_greater(da.ones((3, 2)), 0),
        "times": lambda: da.from_array(np.array([1, 2, 3], "M8[s]")),
        "text": lambda: da.from_array(np.array(["a", "b"])),
    }[kind]()
    with xpmeans.array_api(True), pytest.raises(TypeError, match="supported"):
        whiten(array)


def test_whiten_keeps_long_doubles() -> None:
    if np.finfo(np.longdouble).maxexp <= 1024:
        pytest.skip("a long double is a double here")
    scaled = whiten(np.array([1, 2, 3], np.longdouble) * np.longdouble("1e400"))
    assert scaled.dtype == np.longdouble
    np.testing.assert_allclose(scaled, np.array([1, 2, 3]) / np.sqrt(2 / 3), rtol=1e-15)
