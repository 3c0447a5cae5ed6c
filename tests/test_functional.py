"""`xpmeans.kmeans`, `assign` and `kmeans_plusplus` on eager arrays of every library."""

import inspect
import warnings
from itertools import pairwise
from typing import Any

import array_api_compat
import numpy as np
import pytest
from conftest import Library, blobs, nearest

from xpmeans import KMeansResult, assign, kmeans, kmeans_plusplus
from xpmeans._core import brute, problem
from xpmeans._kernels import compiler_found
from xpmeans.vq import ClusterError

INITS = ["k-means++", "k-means||", "random"]


@pytest.fixture(params=["chosen", "reference", "host"])
def kernel(request: pytest.FixtureRequest, native: Library) -> str | None:
    """The kernel that is chosen by itself, which for small problems is brute force, and those with a name."""
    elsewhere = native.name == "array_api_strict" or native.id.endswith(":gpu")
    if request.param == "host" and (elsewhere or not compiler_found()):
        pytest.skip("serves arrays in host memory, and needs Numba")
    return None if request.param == "chosen" else str(request.param)


def check(result: KMeansResult, native: Library, x: np.ndarray, weights: Any = 1.0) -> None:
    """Everything belongs to one iteration."""
    centroids, labels = native.numpy(result.centroids), native.numpy(result.labels)
    np.testing.assert_array_equal(labels, nearest(x, centroids))
    squares = ((x.astype(float) - centroids.astype(float)[labels]) ** 2).sum(axis=1)
    np.testing.assert_allclose(float(result.inertia), (squares * weights).sum(), rtol=1e-5)
    np.testing.assert_array_equal(native.numpy(result.counts), np.bincount(labels, minlength=len(centroids)))


@pytest.mark.parametrize("init", INITS)
def test_groups_are_found(native: Library, kernel: str | None, init: str) -> None:
    x = blobs(200, 3, 4, spread=0.1)
    data = native(x)
    result = kmeans(data, 4, init=init, n_init=3, rng=0, kernel=kernel)
    assert type(result.centroids) is type(data)
    assert result.centroids.dtype == data.dtype
    assert result.labels.dtype == native.dtype("int32")
    for array in (result.centroids, result.labels, result.counts):
        assert array_api_compat.device(array) == array_api_compat.device(data)
    assert result.centroids.shape == (4, 3)
    assert isinstance(result.n_iter, int)
    assert result.converged is True
    check(result, native, native.numpy(data))
    assert float(result.inertia) < 200 * 3 * 0.1**2 * 1.3


@pytest.mark.parametrize("init", INITS)
def test_one_seed_gives_one_answer(native: Library, init: str) -> None:
    if not native.has_float64:
        pytest.skip("one answer up to rounding needs float64")
    for seed in range(20):
        x = np.random.default_rng(seed).normal(size=(80, 2))
        expected = kmeans(x, 7, init=init, n_init=2, rng=seed)
        result = kmeans(native(x), 7, init=init, n_init=2, rng=seed)
        np.testing.assert_array_equal(native.numpy(result.labels), expected.labels)
        np.testing.assert_allclose(native.numpy(result.centroids), expected.centroids, rtol=1e-12)
        assert result.n_iter == expected.n_iter


@pytest.mark.parametrize("init", ["k-means++", "k-means||", "array", "far array"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_an_integer_weight_is_a_repetition(
    native: Library, kernel: str | None, init: str, metric: str
) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(120, 2))
    weights = rng.integers(0, 4, size=120)
    repeated = np.repeat(x, weights, axis=0)
    start: Any = init
    if init == "array":
        start = x[:6]
    elif init == "far array":  # three clusters are empty at first, and moved to points with their copies
        start = np.concatenate([x[:3], x[:3] * 90 + 50])
    options: dict[str, Any] = {"metric": metric, "kernel": kernel, "rng": 3, "tol": 0}
    weighted = kmeans(
        native(x),
        6,
        init=start if isinstance(start, str) else native(start),
        sample_weight=native(weights),
        **options,
    )
    plain = kmeans(native(repeated), 6, init=start if isinstance(start, str) else native(start), **options)
    close = {"rtol": 1e-9} if native.has_float64 else {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(native.numpy(weighted.centroids), native.numpy(plain.centroids), **close)
    np.testing.assert_array_equal(
        np.repeat(native.numpy(weighted.labels), weights), native.numpy(plain.labels)
    )
    np.testing.assert_allclose(float(weighted.inertia), float(plain.inertia), rtol=1e-5)


@pytest.mark.parametrize("factor", [1e-30, 0.3, 1e30])
def test_the_scale_of_the_weights_is_the_scale_of_the_inertia(native: Library, factor: float) -> None:
    x = blobs(90, 2, 4)
    weights = np.random.default_rng(0).random(90)
    one = kmeans(native(x), 4, sample_weight=native(weights), rng=0)
    other = kmeans(native(x), 4, sample_weight=native(weights * factor), rng=0)
    np.testing.assert_array_equal(native.numpy(one.labels), native.numpy(other.labels))
    np.testing.assert_allclose(float(other.inertia), float(one.inertia) * factor, rtol=1e-5)


@pytest.mark.parametrize("init", INITS)
def test_weight_zero_is_never_a_seed(native: Library, init: str) -> None:
    x = blobs(60, 2, 3)
    weights = np.zeros(60)
    weights[5::7] = 1
    for seed in range(30):
        first: list[Any] = []
        kmeans(
            *(native(x), 4),
            init=init,
            n_init=1,
            rng=seed,
            sample_weight=native(weights),
            callback=lambda _, __, centroids: first.append(native.numpy(centroids)) or True,  # noqa: B023
        )
        for centroid in first[0]:
            assert (native.numpy(native(x[weights > 0])) == centroid).all(axis=1).any()


def test_no_weights_are_equal_weights(native: Library) -> None:
    x = native(blobs(90, 2, 4))
    for init in INITS:
        one = kmeans(x, 4, init=init, rng=5)
        other = kmeans(x, 4, init=init, rng=5, sample_weight=native(np.ones(90)))
        np.testing.assert_array_equal(native.numpy(one.labels), native.numpy(other.labels))


def test_permuted_rows_permute_the_labels(native: Library, kernel: str | None) -> None:
    x = np.random.default_rng(0).normal(size=(300, 3))
    order = np.random.default_rng(1).permutation(300)
    start = native(x[:9])
    one = kmeans(native(x), 9, init=start, kernel=kernel)
    other = kmeans(native(x[order]), 9, init=start, kernel=kernel)
    np.testing.assert_array_equal(native.numpy(one.labels)[order], native.numpy(other.labels))


@pytest.mark.parametrize("budget", [1, 3000, 1 << 24])
@pytest.mark.parametrize("init", INITS)
def test_chunk_sizes_change_nothing(
    native: Library, monkeypatch: pytest.MonkeyPatch, budget: int, init: str
) -> None:
    x = native(np.random.default_rng(0).normal(size=(150, 3)))
    expected = kmeans(x, 5, init=init, n_init=1, rng=0, kernel="reference")
    for name in ("BUDGET", "ACCELERATOR_BUDGET"):
        monkeypatch.setattr(problem, name, budget)
    result = kmeans(x, 5, init=init, n_init=1, rng=0, kernel="reference")
    np.testing.assert_array_equal(native.numpy(result.labels), native.numpy(expected.labels))


@pytest.mark.parametrize("empty", ["relocate", "keep"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_inertia_never_rises(native: Library, kernel: str | None, empty: str, metric: str) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(100, 2))
        start = np.concatenate([x[:6], x[:1] + 50, x[:1] * 80])  # two that are empty at first
        seen: list[float] = []
        with warnings.catch_warnings(action="ignore" if empty == "keep" else "error"):
            result = kmeans(
                *(native(x), 8),
                init=native(start),
                empty=empty,
                metric=metric,
                tol=0,
                kernel=kernel,
                callback=lambda _, inertia, __: seen.append(inertia),  # noqa: B023
            )
        seen.append(float(result.inertia))
        assert (np.diff(seen) <= 1e-6 * seen[0]).all()
        assert len(seen) == result.n_iter + 1
        if empty == "relocate":
            assert (native.numpy(result.counts) > 0).all()


def test_relocation_goes_to_the_farthest_points(native: Library) -> None:
    x = np.asarray([[0.0], [1.0], [10.0], [10.0], [30.0]])
    start = native([[0.0], [100.0], [200.0]])
    books: list[np.ndarray] = []
    kmeans(native(x), 3, init=start, callback=lambda _, __, book: books.append(native.numpy(book)))
    np.testing.assert_allclose(books[1], [[0.5], [30.0], [10.0]], rtol=1e-6)


def test_nothing_to_relocate_ends_at_once(native: Library, kernel: str | None) -> None:
    x = native(np.asarray([[0.0, 0.0], [1.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]))
    with pytest.warns(UserWarning, match="Some clusters are empty in the end"):
        result = kmeans(x, 5, init=x, kernel=kernel)
    assert (result.n_iter, result.converged) == (1, True)
    assert native.numpy(result.counts).tolist() == [1, 2, 0, 1, 1]


def test_a_light_neighbour_keeps_its_digits(native: Library) -> None:
    """A heavy point that is moved away must not leave rounding for a mean where it was."""
    x, weights = np.asarray([[3.0], [1e4], [7.0]]), np.asarray([1.0, 1.0, 1e-13])
    result = kmeans(native(x), 3, init=native([[3.0], [1e6], [7.0]]), sample_weight=native(weights), tol=0)
    np.testing.assert_allclose(np.sort(native.numpy(result.centroids)[:, 0]), [3, 7, 1e4])


def test_empty_keep_and_raise(native: Library) -> None:
    x, start = native([[0.0], [1.0]]), native([[0.5], [100.0]])
    with pytest.warns(UserWarning, match="clusters are empty in the end") as caught:
        result = kmeans(x, 2, init=start, empty="keep")
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(native.numpy(result.centroids), [[0.5], [100.0]])
    with pytest.raises(ClusterError, match="empty='relocate'"):
        kmeans(x, 2, init=start, empty="raise")


@pytest.mark.parametrize("init", INITS)
def test_fewer_distinct_points_than_clusters(native: Library, kernel: str | None, init: str) -> None:
    x = np.repeat([[1.0, 2.0], [3.0, 4.0], [7.0, 0.0]], 8, axis=0)
    with pytest.warns(UserWarning, match="fewer distinct points") as caught:
        result = kmeans(native(x), 5, init=init, rng=0, kernel=kernel, tol=0)
    assert len(caught) == 1
    assert float(result.inertia) == 0
    assert result.n_iter < 10
    check(result, native, x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rounded_means_of_copies_are_no_reason_to_relocate(native: Library, dtype: str) -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(6, 2)).astype(dtype)
        with pytest.warns(UserWarning, match="fewer distinct points"):
            result = kmeans(
                *(native(np.concatenate([x, x])), 9),
                init=native(np.concatenate([x, x[:3]])),
                sample_weight=native(rng.integers(1, 4, size=12)),
                tol=0,
            )
        assert result.converged
        assert result.n_iter < 10


def test_tol_is_scikit_learns(native: Library) -> None:
    x = np.random.default_rng(0).normal(size=(500, 2)) * 7
    shifts: list[np.ndarray] = []
    result = kmeans(
        *(native(x), 6),
        init=native(x[:6]),
        tol=1e-2,
        callback=lambda _, __, centroids: shifts.append(native.numpy(centroids)),
    )
    shifts.append(native.numpy(result.centroids))
    limit = 1e-2 * x.var(axis=0).mean()
    moved = [float(((b - a) ** 2).sum()) for a, b in pairwise(shifts)]
    assert all(shift > limit for shift in moved[:-1])
    assert moved[-1] <= limit
    assert kmeans(native(x), 6, init=native(x[:6]), tol=np.inf).n_iter == 1
    assert kmeans(native(x), 6, init=native(x[:6]), tol=0).n_iter > result.n_iter


def test_max_iter(native: Library) -> None:
    x = np.random.default_rng(0).normal(size=(500, 2))
    result = kmeans(native(x), 20, init=native(x[:20]), max_iter=2)
    assert (result.n_iter, result.converged) == (2, False)
    check(result, native, native.numpy(native(x)))


def test_restarts_keep_the_best(native: Library) -> None:
    x = np.random.default_rng(4).normal(size=(150, 2))
    books = [x[:8] + 0, x[20:28], x[50:58]]
    single = [float(kmeans(native(x), 8, init=native(book)).inertia) for book in books]
    calls = iter(books)
    result = kmeans(native(x), 8, init=lambda x, k, rng: native(next(calls)), n_init=3)
    np.testing.assert_allclose(float(result.inertia), min(single), rtol=1e-6)


def test_init_callable_gets_what_it_needs(native: Library) -> None:
    data = native(blobs())

    def init(x: Any, n_clusters: int, rng: np.random.Generator) -> Any:
        assert type(x) is type(data)
        assert isinstance(rng, np.random.Generator)
        return native(blobs()[:n_clusters])

    assert kmeans(data, 3, init=init).centroids.shape == (3, 2)


def test_the_callback_stops(native: Library) -> None:
    seen = []

    def callback(iteration: int, inertia: float, centroids: Any) -> bool:
        assert isinstance(inertia, float)
        assert centroids.shape == (9, 2)
        seen.append(iteration)
        return iteration == 2

    result = kmeans(native(blobs(300, 2, 9, spread=2)), 9, init="random", n_init=1, rng=0, callback=callback)
    assert seen == [1, 2]
    assert (result.n_iter, result.converged) == (2, False)


def test_interrupts_pass_and_touch_nothing(native: Library) -> None:
    x = blobs()
    data = native(x)

    def callback(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kmeans(data, 3, callback=callback)
    np.testing.assert_array_equal(native.numpy(data), native.numpy(native(x)))


@pytest.mark.parametrize(("n", "d", "k"), [(120, 2, 6), (6000, 8, 12)], ids=["small", "compiled"])
def test_plus_plus_takes_weights_for_repetitions(native: Library, n: int, d: int, k: int) -> None:
    rng = np.random.default_rng(1)
    x, weights = rng.normal(size=(n, d)), rng.integers(0, 4, size=n)
    rows = np.repeat(np.arange(n), weights)
    for seed in range(5):
        weighted = kmeans_plusplus(native(x), k, sample_weight=native(weights), rng=seed)
        scaled = kmeans_plusplus(native(x), k, sample_weight=native(weights * 0.125), rng=seed)
        plain = kmeans_plusplus(native(x[rows]), k, rng=seed)
        np.testing.assert_array_equal(native.numpy(weighted[1]), rows[native.numpy(plain[1])])
        np.testing.assert_array_equal(native.numpy(scaled[1]), native.numpy(weighted[1]))
        np.testing.assert_array_equal(native.numpy(weighted[0]), native.numpy(plain[0]))


def test_assign_looks_at_each_point_alone(
    native: Library, kernel: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the order of the points, and however many are looked at in one go."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 9, size=(500, 3)).astype("float32")  # with many ties
    book, order = native(x[:30]), rng.permutation(500)
    labels, distances = (native.numpy(part) for part in assign(native(x), book, kernel=kernel))
    np.testing.assert_array_equal(labels, nearest(x, x[:30]))
    for name in ("BUDGET", "ACCELERATOR_BUDGET"):
        monkeypatch.setattr(problem, name, 3000)
    other = [native.numpy(part) for part in assign(native(x[order]), book, kernel=kernel)]
    np.testing.assert_array_equal(other[0], labels[order])
    np.testing.assert_array_equal(other[1], distances[order])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32"])
def test_dtypes_and_devices_of_results(native: Library, dtype: str) -> None:
    if dtype == "float16" and native.name == "array_api_strict":
        pytest.skip("the standard has no float16")
    x = native((blobs(60, 2, 3) * 4).round().astype(dtype))
    real = x.dtype
    if dtype == "int32":
        real = native.dtype("float32" if native.id == "torch" else "float64")
    labels, distances = assign(x, x[:5, ...])
    centroids, indices = kmeans_plusplus(x, 4, rng=0)
    assert labels.dtype == native.dtype("int32")
    assert "int" in str(indices.dtype)
    assert (distances.dtype, centroids.dtype) == (real, real)
    for array in (labels, distances, centroids, indices):
        assert array_api_compat.device(array) == array_api_compat.device(x)
    np.testing.assert_array_equal(native.numpy(labels), nearest(native.numpy(x), native.numpy(x)[:5]))


BATCH = np.stack([blobs(40, 2, 3, seed=seed) for seed in range(4)])


@pytest.mark.parametrize(
    "options",
    [
        {"init": "random", "n_init": 3},
        {"init": "k-means||"},
        {"init": BATCH[0, :3]},  # the same for all
        {"init": BATCH[:, 5:8], "tol": 0},
        {"init": lambda x, k, rng: x[int(rng.integers(9)) :, ...][:k, ...], "n_init": 2},
        {"metric": "cosine", "sample_weight": np.arange(40.0)},
        {"empty": "keep", "max_iter": 1},
    ],
    ids=["random", "k-means||", "array", "arrays", "callable", "cosine", "keep"],
)
def test_problems_of_a_batch_know_nothing_of_each_other(native: Library, options: dict[str, Any]) -> None:
    def clustered(x: np.ndarray, b: int | None) -> KMeansResult:
        own = {n: v[b] if b is not None and np.ndim(v) == 3 else v for n, v in options.items()}
        own = {n: native(v) if isinstance(v, np.ndarray) else v for n, v in own.items()}
        return kmeans(native(x), 3, rng=1, **own)

    whole, alone = clustered(BATCH, None), [clustered(BATCH[b], b) for b in range(4)]
    for field, parts in zip(whole, zip(*alone, strict=True), strict=True):
        values = [part if isinstance(part, int | bool) else native.numpy(part) for part in parts]
        np.testing.assert_array_equal(native.numpy(field), np.stack(values))


@pytest.mark.parametrize("function", ["kmeans", "assign", "kmeans_plusplus"])
def test_batches_are_as_if_alone(native: Library, function: str) -> None:
    x = np.stack([blobs(40, 2, 3, seed=seed) for seed in range(4)])
    weights = np.random.default_rng(0).random((4, 40))
    if function == "kmeans":
        whole: Any = kmeans(native(x), 3, rng=1, sample_weight=native(weights))
        alone: Any = [kmeans(native(x[b]), 3, rng=1, sample_weight=native(weights[b])) for b in range(4)]
    elif function == "assign":
        whole = assign(native(x), native(x[:, :5]))
        alone = [assign(native(x[b]), native(x[b, :5])) for b in range(4)]
    else:
        whole = kmeans_plusplus(native(x), 3, rng=1)
        alone = [kmeans_plusplus(native(x[b]), 3, rng=1) for b in range(4)]
    for field, parts in zip(whole, zip(*alone, strict=True), strict=True):
        np.testing.assert_array_equal(
            native.numpy(field),
            np.stack([native.numpy(native(part) if np.isscalar(part) else part) for part in parts]),
        )


def test_cosine_is_k_means_on_the_sphere(native: Library, kernel: str | None) -> None:
    rng = np.random.default_rng(0)
    x = blobs(100, 3, 4, spread=0.2) + 1e-3
    x *= rng.uniform(0.1, 50, size=(100, 1))
    result = kmeans(native(x), 4, metric="cosine", rng=0, kernel=kernel)
    centroids = native.numpy(result.centroids)
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, rtol=1e-6)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosines = unit @ centroids.T
    np.testing.assert_array_equal(native.numpy(result.labels), cosines.argmax(axis=1))
    np.testing.assert_allclose(float(result.inertia), (1 - cosines.max(axis=1)).sum(), rtol=1e-4)
    labels, distances = assign(native(x), result.centroids * 3, metric="cosine")
    np.testing.assert_array_equal(native.numpy(labels), native.numpy(result.labels))
    np.testing.assert_allclose(native.numpy(distances), 1 - cosines.max(axis=1), atol=1e-6)


@pytest.mark.parametrize(("dtype", "offset"), [("float32", 1e6), ("float64", 1e9)])
def test_offset_data(native: Library, kernel: str | None, dtype: str, offset: float) -> None:
    if dtype == "float64" and not native.has_float64:
        pytest.skip("no float64 here")
    x = (blobs(400, 3, 5, spread=1.0) * 20 + offset).astype(dtype)
    result = kmeans(native(x), 5, rng=0, kernel=kernel)
    np.testing.assert_array_equal(native.numpy(result.labels), nearest(x, native.numpy(result.centroids)))
    labels, distances = assign(native(x), native(x[:7]), kernel=kernel)
    np.testing.assert_array_equal(native.numpy(labels), nearest(x, x[:7]))
    exact = np.sqrt(((x.astype("g")[:, None] - x[:7].astype("g")) ** 2).sum(axis=2).min(axis=1))
    np.testing.assert_allclose(native.numpy(distances), exact.astype(float), rtol=1e-6)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_squares_out_of_range(native: Library, kernel: str | None, size: float) -> None:
    if kernel == "host":
        pytest.skip("leaves these to the reference kernel, and says so")
    x = (blobs(100, 2, 3) * size).astype("float32")
    result = kmeans(native(x), 3, rng=0, kernel=kernel)
    expected = kmeans(native(blobs(100, 2, 3)), 3, rng=0)
    np.testing.assert_array_equal(native.numpy(result.labels), native.numpy(expected.labels))
    labels, distances = assign(native(x), result.centroids)
    np.testing.assert_array_equal(native.numpy(labels), native.numpy(result.labels))
    assert np.isfinite(native.numpy(distances)).all()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "bool"])
def test_integers(native: Library, dtype: str) -> None:
    x = (
        (blobs(60, 3, 3) > 1).astype(dtype)
        if dtype == "bool"
        else np.abs(blobs(60, 3, 3)).round().astype(dtype)
    )
    result = kmeans(native(x), 2, rng=0)
    expected = kmeans(x.astype(float), 2, rng=0)
    np.testing.assert_array_equal(native.numpy(result.labels), expected.labels)
    real = np.float32 if native.id == "torch" or not native.has_float64 else np.float64
    assert native.numpy(result.centroids).dtype == real


def test_half_precision(native: Library) -> None:
    if native.name == "array_api_strict":
        pytest.skip("the standard has no float16")
    x = blobs(3000, 2, 3).astype("float16")
    result = kmeans(native(x), 3, rng=0)
    assert result.centroids.dtype == native.dtype("float16")
    check(result, native, x)


def test_plus_plus(native: Library) -> None:
    x = blobs(100, 2, 4)
    centroids, indices = kmeans_plusplus(native(x), 6, rng=0)
    np.testing.assert_array_equal(native.numpy(centroids), native.numpy(native(x))[native.numpy(indices)])
    assert len(set(native.numpy(indices).tolist())) == 6
    more = [
        float(assign(native(x), kmeans_plusplus(native(x), 6, n_local_trials=trials, rng=seed)[0])[1].sum())
        if native.name != "array_api_strict"
        else 0.0
        for trials in (1, 20)
        for seed in range(15)
    ]
    assert sum(more[15:]) <= sum(more[:15])


def test_plus_plus_draws_by_squared_distance() -> None:
    """Without a choice of candidates the frequencies are those of the paper."""
    x = np.asarray([[0.0], [1.0], [3.0]])
    rng = np.random.default_rng(0)
    pairs = np.zeros((3, 3))
    for _ in range(6000):
        pairs[tuple(kmeans_plusplus(x, 2, n_local_trials=1, rng=rng)[1])] += 1
    squares = (x - x.T) ** 2
    np.testing.assert_allclose(pairs / 6000, squares / squares.sum(axis=1, keepdims=True) / 3, atol=0.02)


def test_random_draws_by_weight() -> None:
    x = np.arange(4.0)[:, None]
    weights = np.asarray([1.0, 2.0, 0.0, 5.0])
    pairs = np.zeros((4, 4))
    rng = np.random.default_rng(0)
    for _ in range(6000):
        first: list[Any] = []
        kmeans(
            *(x, 2),
            init="random",
            n_init=1,
            sample_weight=weights,
            rng=rng,
            callback=lambda _, __, book: first.append(book[:, 0].astype(int)) or True,  # noqa: B023
        )
        pairs[tuple(first[0])] += 1
    p = weights / weights.sum()
    expected = p[:, None] * p / (1 - p[:, None])
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(pairs / 6000, expected, atol=0.02)


def test_given_generators_move_on() -> None:
    rng = np.random.default_rng(0)
    one, other = (kmeans_plusplus(blobs(200), 5, rng=rng)[1].tolist() for _ in range(2))
    assert one != other


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_clusters": 0}, ValueError, r"`n_clusters` must be at least 1, got 0"),
        (
            {"n_clusters": 61},
            ValueError,
            r"`n_clusters` must be between 1 and the number of points \(60\), got 61",
        ),
        ({"n_clusters": 2.5}, TypeError, r"`n_clusters` must be an integer, got 2\.5"),
        ({"init": "best"}, ValueError, r"`init` must be one of 'auto', 'k-means\+\+', .*, got 'best'"),
        ({"init": np.zeros((2, 2))}, ValueError, r"`init` must hold `n_clusters` = 3 centroids, .*, got 2"),
        ({"init": np.zeros((3, 5))}, ValueError, r"`init` must have shape \(k, 2\), got \(3, 5\)"),
        ({"init": np.full((3, 2), np.nan)}, ValueError, r"`init` must not contain NaN or infinity"),
        ({"init": lambda x, k, rng: x[:2, :]}, ValueError, r"`init` must hold `n_clusters` = 3 centroids"),
        ({"n_init": 0}, ValueError, r"`n_init` must be at least 1, got 0"),
        ({"n_init": "many"}, ValueError, r"`n_init` must be one of 'auto', got 'many'"),
        ({"max_iter": 0}, ValueError, r"`max_iter` must be at least 1, got 0"),
        ({"tol": -1}, ValueError, r"`tol` must be a number not below 0, got -1"),
        ({"tol": np.nan}, ValueError, r"`tol` must be a number not below 0, got nan"),
        ({"sample_weight": [1.0]}, ValueError, r"`sample_weight` must have shape \(60,\), got \(1,\)"),
        (
            {"sample_weight": [-2.0] + [-1.0] * 59},
            ValueError,
            r"`sample_weight` must not be negative, and not all zero, got values from -2\.0 to -1\.0",
        ),
        ({"sample_weight": [0.0] * 60}, ValueError, r"`sample_weight` must .* not all zero"),
        ({"sample_weight": [np.nan] * 60}, ValueError, r"`sample_weight` must not contain NaN"),
        (
            {"metric": "manhattan"},
            ValueError,
            r"`metric` must be one of 'euclidean', 'cosine', got 'manhattan'",
        ),
        (
            {"metric": max},
            ValueError,
            r"`metric` must .* the mean minimises the distances of no other metric",
        ),
        (
            {"metric": [1, 2]},
            ValueError,
            r"`metric` must be one of 'euclidean', 'cosine', got \[1, 2\]",
        ),
        ({"rng": "seven"}, TypeError, r"`rng` must be a seed .* or a generator of NumPy, got 'seven'"),
        ({"rng": -7}, ValueError, r"`rng` must be a seed that is not negative .*, got -7"),
        ({"callback": 5}, TypeError, r"`callback` must be callable or None, got 5"),
        ({"empty": "drop"}, ValueError, r"`empty` must be one of 'relocate', 'keep', 'raise', got 'drop'"),
        ({"kernel": "fast"}, ValueError, r"`kernel` must be one of None, 'reference', 'host', got 'fast'"),
    ],
)
def test_errors(native: Library, options: dict[str, Any], error: type[Exception], message: str) -> None:
    options = {name: native(v) if isinstance(v, np.ndarray) else v for name, v in options.items()}
    with pytest.raises(error, match=message):
        kmeans(**{"x": native(blobs()), "n_clusters": 3, **options})


@pytest.mark.parametrize(
    "function", [lambda x: kmeans(x, 2), lambda x: kmeans_plusplus(x, 2), lambda x: assign(x, x)]
)
@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([1.0, 2.0], r"`x` must have shape \(n, d\) or \(B, n, d\), got \(2,\). Hint: x\[:, None\]"),
        (np.zeros((0, 2)), r"`x` must not be empty, got shape \(0, 2\)"),
        ([[1.0, np.nan], [3.0, 4.0]], r"must not contain NaN or infinity"),
        ([[1.0, 2.0], [3.0, np.inf]], r"must not contain NaN or infinity"),
        ([[1j, 2.0], [3.0, 4.0]], r"must be real"),
    ],
)
def test_bad_points(native: Library, function: Any, x: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(native(x))


def test_zero_rows_have_no_direction(native: Library) -> None:
    x = blobs()
    x[7] = 0
    with pytest.raises(ValueError, match=r"`x` must have no rows of length zero with metric='cosine', row 7"):
        kmeans(native(x), 3, metric="cosine")


def test_results_unpack() -> None:
    centroids, labels, *_ = kmeans(blobs(), 3)
    assert centroids.shape == (3, 2)
    assert labels.shape == (60,)


def test_nothing_is_modified_and_nothing_shared(native: Library) -> None:
    x, start, weights = blobs(), blobs()[:3], np.ones(60)
    data, book, mass = native(x), native(start), native(weights)
    result = kmeans(data, 3, init=book, sample_weight=mass)
    for array, before in ((data, x), (book, start), (mass, weights)):
        np.testing.assert_array_equal(native.numpy(array), native.numpy(native(before)))
    if native.name == "torch":
        result.centroids.zero_()
        assert (native.numpy(book) != 0).any()


def test_docstrings_show_the_table() -> None:
    doc = inspect.getdoc(kmeans)
    assert doc is not None
    assert "SCIPY_ARRAY_API" not in doc
    assert "PyTorch               ✅                     ✅" in doc


def test_small_and_reference_kernels_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(size=(200, 3))
    with warnings.catch_warnings():
        one = kmeans(x, 5, rng=0)
        monkeypatch.setattr(brute, "LIMIT", 0)
        other = kmeans(x, 5, rng=0)
    np.testing.assert_array_equal(one.labels, other.labels)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The values asked for of arrays on strict's `device1`, which passes for an accelerator here."""
    strict = pytest.importorskip("array_api_strict")
    kind, names = type(strict.asarray(0)), []

    def counted(name: str) -> Any:
        method = getattr(kind, name)

        def count(self: Any, *args: Any, **options: Any) -> Any:
            names.append(name)
            return method(self, *args, **options)

        return count

    for name in ("__bool__", "__int__", "__float__", "__index__", "__complex__", "__iter__", "__array__"):
        if hasattr(kind, name):
            monkeypatch.setattr(kind, name, counted(name))
    return names


def accelerated(data: str) -> Any:
    """Points on `device1`."""
    import array_api_strict as strict

    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 3)) if data == "in general position" else rng.integers(0, 30, size=(3000, 2))
    return strict.asarray(x.astype("float32"), device=strict.Device("device1"))


@pytest.mark.parametrize("data", ["in general position", "many ties"])
def test_an_iteration_asks_for_one_number(asked: list[str], data: str) -> None:
    """On an accelerator the host waits for each value it asks for."""
    points = accelerated(data)

    def questions(max_iter: int) -> tuple[int, int]:
        asked.clear()
        result = kmeans(points, 40, init=points[:40, :], max_iter=max_iter, tol=0, kernel="reference")
        return result.n_iter, len(asked)

    few, many = questions(2), questions(12)
    assert many[0] - few[0] > 5
    assert many[1] - few[1] <= many[0] - few[0]


@pytest.mark.parametrize("function", ["assign", "kmeans_plusplus"])
def test_chunks_ask_for_nothing(asked: list[str], function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points, numbers = accelerated("in general position"), []
    for budget in (1 << 26, 1 << 15):
        monkeypatch.setattr(problem, "ACCELERATOR_BUDGET", budget)
        asked.clear()
        if function == "assign":
            assign(points, points[:40, :], kernel="reference")
        else:
            kmeans_plusplus(points, 40, rng=0)
        numbers.append(len(asked))
    assert numbers[0] == numbers[1] < 20


def test_ties_beyond_the_room_for_them(native: Library) -> None:
    """On an accelerator doubtful points are decided unasked, as far as there is room; then there is more."""
    x = np.random.default_rng(0).integers(0, 4, size=(4000, 2)).astype("float32")
    start = x[:12] + np.float32(0.5)
    seen: list[int] = []
    options = {"kernel": "reference", "tol": 0, "callback": lambda n_iter, *_: seen.append(n_iter)}
    result = kmeans(native(x), 12, init=native(start), **options)
    expected = kmeans(x.astype(float), 12, init=start.astype(float), kernel="reference", tol=0)
    np.testing.assert_array_equal(native.numpy(result.labels), expected.labels)
    assert seen == list(range(1, expected.n_iter + 1))
    check(result, native, x)


def test_no_cluster_stays_empty_with_enough_points(native: Library, kernel: str | None) -> None:
    """Also where the farthest point is alone in its cluster, which keeps it."""
    start = native([[19.0], [0.0], [30.0]])
    result = kmeans(native([[0.0], [1.0], [10.0]]), 3, init=start, kernel=kernel)
    assert (float(result.inertia), native.numpy(result.counts).tolist()) == (0, [1, 1, 1])
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x = rng.integers(0, 30, size=(12, 2)).astype(float)
        k = min(5, len(np.unique(x, axis=0)))
        result = kmeans(native(x), k, init=native(rng.uniform(-40, 70, size=(k, 2))), tol=0, kernel=kernel)
        assert native.numpy(result.counts).all()


@pytest.mark.parametrize("size", [1e-200, 1e200, 1.7e308])
def test_the_best_run_is_found_out_of_range(native: Library, size: float) -> None:
    if not native.has_float64:
        pytest.skip("no float64 here")
    x = np.random.default_rng(0).uniform(-1, 1, size=(200, 2))
    options = {"init": "random", "n_init": 8, "rng": 0}
    expected = kmeans(native(x), 12, **options)
    result = kmeans(native(x * size), 12, **options)
    np.testing.assert_array_equal(native.numpy(result.labels), native.numpy(expected.labels))
    assert float(result.inertia) == (0 if size < 1 else np.inf)
    indices = kmeans_plusplus(native(x * size), 5, rng=0)[1]
    np.testing.assert_array_equal(
        native.numpy(indices), native.numpy(kmeans_plusplus(native(x), 5, rng=0)[1])
    )


@pytest.mark.parametrize("size", [1e-11, 3e17])
def test_an_inertia_that_a_scale_would_lose(native: Library, size: float) -> None:
    x = blobs(100, 2, 3).astype("float32")
    expected = float(kmeans(native(x), 3, rng=0).inertia)
    result = kmeans(native((x * size).astype("float32")), 3, rng=0)
    np.testing.assert_allclose(float(result.inertia), expected * size**2, rtol=1e-4)


def test_raise_also_after_the_last_iteration(native: Library) -> None:
    x = native([[7.0, 7.0], [10.0, 2.0], [2.0, 0.0], [4.0, 2.0], [8.0, 6.0], [6.0, 8.0]])
    start = native([[10.0, 2.0], [8.0, 6.0], [7.0, 7.0]])
    with pytest.raises(ClusterError, match="A cluster is empty"):
        kmeans(x, 3, init=start, empty="raise", max_iter=1)


def test_tiny_rows_have_a_direction(native: Library) -> None:
    x = np.asarray([[1.0, 0.0], [0.0, 1e-30], [1e-30, 1e-31], [0.1, 3.0]])
    result = kmeans(native(x), 2, metric="cosine", init=native(x[:2]))
    assert native.numpy(result.labels).tolist() == [0, 1, 0, 1]
    assert float(result.inertia) < 0.01


def test_callbacks_cannot_write_to_the_start() -> None:
    x = blobs()
    start = x[:3].copy()

    def callback(_: int, __: float, centroids: np.ndarray) -> None:
        centroids[:] = 0

    kmeans(x, 3, init=start, callback=callback)
    np.testing.assert_array_equal(start, x[:3])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: kmeans(None, 2), "`x` must be an array, got None"),
        (lambda x: kmeans(x, 2, init=None), "`init` must be an array, got None"),
        (lambda x: kmeans(x, 2, init=lambda *_: None), "`init` must be an array, got None"),
        (lambda x: assign(x, None), "`centroids` must be an array, got None"),
        (lambda x: kmeans(x, 2, tol=None), "`tol` must be a number, got None"),
        (lambda x: kmeans(x, 2, tol="1e-3"), "`tol` must be a number, got '1e-3'"),
        (lambda x: kmeans(x, 2, init=x[:2, :], n_init=2.5), "`n_init` must be an integer, got 2.5"),
    ],
)
def test_what_is_no_array_or_number(native: Library, call: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call(native(blobs()))


def test_complex_weights_are_refused(native: Library) -> None:
    with pytest.raises(ValueError, match="`sample_weight` must be real"):
        kmeans(native(blobs()), 2, sample_weight=native(np.ones(60, dtype="complex64")))
