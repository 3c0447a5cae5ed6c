"""Each kernel against brute force in long double, and against the others."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from conftest import Library, blobs, nearest

import xpmeans
from xpmeans._core import loop
from xpmeans._core import precision as precisions
from xpmeans._core.brute import BruteForce
from xpmeans._core.nearest import Reference
from xpmeans._core.plan import BUDGET, make_plan
from xpmeans._core.precision import Reach, precision
from xpmeans._core.problem import make_problem
from xpmeans._core.stream import PairwiseSum
from xpmeans._dispatch import dispatch
from xpmeans._kernels import flow_for, numpy, select
from xpmeans._kernels.small import Small
from xpmeans.vq import kmeans2, vq

KERNELS = [BruteForce, Reference]


def kernel_for(kernel: Any, x: Any, **options: Any) -> Any:
    context, _ = dispatch(x=x)
    xp, device = context.xp, context.device
    return kernel(xp, device, precision(xp, x.dtype, device), **options)


def step(
    kernel: Any,
    lib: Library,
    x: np.ndarray,
    book: np.ndarray,
    weights: Any = None,
    budget: int = 1 << 22,
) -> tuple[np.ndarray, ...]:
    data, centroids = lib(x), lib(book)
    bound = kernel_for(kernel, data)
    plan = make_plan(*x.shape, len(book), 8, budget)
    state = bound.start(data, None if weights is None else lib(weights), plan)
    return tuple(lib.numpy(part) for part in bound.step(state, centroids)[1][:3])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("n", "d", "k"),
    [(1, 1, 1), (50, 1, 3), (200, 2, 7), (500, 6, 20), (300, 40, 9), (20, 3, 20)],
)
def test_step(eager: Library, kernel: Any, dtype: str, n: int, d: int, k: int) -> None:
    x = np.random.default_rng(0).normal(size=(n, d)).astype(dtype)
    book = x[:k] + np.asarray(0.01, dtype)
    labels, sums, counts = step(kernel, eager, x, book)
    expected = nearest(x, book)
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == np.int32
    members = expected[None, :] == np.arange(k)[:, None]
    np.testing.assert_array_equal(counts, members.sum(axis=1))
    np.testing.assert_allclose(sums, members @ x.astype(float), atol=1e-4 if not eager.has_float64 else 1e-10)


@pytest.mark.parametrize("budget", [1, 1000, 20_000, 1 << 24])
@pytest.mark.parametrize("grid", [True, False])
def test_chunk_sizes_change_nothing(eager: Library, budget: int, grid: bool) -> None:
    rng = np.random.default_rng(0)
    x = (rng.integers(0, 4, size=(300, 3)) if grid else rng.normal(size=(300, 3))).astype("float32")
    book = x[:20]  # on the grid many points are ties
    labels, sums, counts = step(Reference, eager, x, book, budget=budget)
    np.testing.assert_array_equal(labels, nearest(x, book))
    expected = step(BruteForce, eager, x, book)
    np.testing.assert_allclose(sums, expected[1], atol=1e-4)
    np.testing.assert_array_equal(counts, expected[2])


@pytest.mark.parametrize("kernel", KERNELS)
def test_weights_are_repetitions(eager: Library, kernel: Any) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, size=(80, 2)).astype("float32")
    weights = rng.integers(0, 4, size=80)
    real = "float64" if eager.has_float64 else "float32"
    labels, sums, counts = step(kernel, eager, x, x[:9], weights.astype(real))
    repeated = step(kernel, eager, np.repeat(x, weights, axis=0), x[:9])
    np.testing.assert_array_equal(np.repeat(labels, weights), repeated[0])
    np.testing.assert_allclose(sums, repeated[1])
    np.testing.assert_array_equal(counts, repeated[2])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", ["twins", "far twins", "all equal", "two scales"])
def test_near_ties_are_settled_by_differences(eager: Library, kernel: Any, dtype: str, case: str) -> None:
    if dtype == "float64" and not eager.has_float64:
        return
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 7))
    book = x[:12].copy()
    if case == "twins":
        book = np.repeat(x[:6], 2, axis=0)
        book[1::2] = np.nextafter(book[1::2].astype(dtype), np.asarray(9, dtype))
    elif case == "far twins":
        x += np.where(np.arange(400)[:, None] % 2, 3e3, -3e3)
        book = x[:12] + 1e-3
    elif case == "all equal":
        book = np.tile(x[:1], (12, 1))
    elif case == "two scales":
        x[::2] *= 1e-5
        book = x[:12]
    x, book = x.astype(dtype), book.astype(dtype)
    labels, *_ = step(kernel, eager, x, book)
    expected = nearest(x, book)
    squares = ((x[:, None].astype(np.longdouble) - book.astype(np.longdouble)) ** 2).sum(axis=2)
    chosen, best = squares[np.arange(400), labels], squares[np.arange(400), expected]
    # Differences round by a few units each, in the dtype of sums; nothing else may be lost.
    eps = np.finfo("float64" if eager.has_float64 else "float32").eps
    assert (chosen <= best * (1 + 20 * eps)).all()
    if case == "all equal":
        assert not labels.any()


@pytest.mark.parametrize("kernel", KERNELS)
def test_assign(eager: Library, kernel: Any) -> None:
    x = (blobs(300, 5) + 1000).astype("float32")
    data = eager(x)
    bound = kernel_for(kernel, data)
    state = bound.start(data, None, make_plan(*x.shape, 7, 4))
    labels, squares = bound.assign(state, eager(x[:7]))
    np.testing.assert_array_equal(eager.numpy(labels), nearest(x, x[:7]))
    exact = ((x.astype(float)[:, None] - x[:7].astype(float)) ** 2).sum(axis=2).min(axis=1)
    np.testing.assert_allclose(eager.numpy(squares), exact, rtol=1e-5)


def test_the_first_of_many_equal_centroids_gets_the_points(eager: Library) -> None:
    """As many as a sort does not keep in their order by chance."""
    rng = np.random.default_rng(0)
    for k in (20, 100, 400):
        book = rng.integers(0, 3, size=(k, 3)).astype("float32")
        x = book[rng.integers(0, k, size=500)] + rng.normal(size=(500, 3)).astype("float32") / 8
        expected = nearest(x, book)
        np.testing.assert_array_equal(step(Reference, eager, x, book)[0], expected)
        labels = xpmeans.assign(eager(x), eager(book), kernel="reference")[0]
        np.testing.assert_array_equal(eager.numpy(labels), expected)
        far = eager(x * np.float32(1e25)), eager(book * np.float32(1e25))
        np.testing.assert_array_equal(eager.numpy(vq(*far)[0]), expected)


@pytest.mark.parametrize("start", ["points", "repeated", "far", "zeros"])
@pytest.mark.parametrize("iterations", [1, 2, 100])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int8"])
@pytest.mark.parametrize(("n", "d", "k"), [(100, 2, 3), (60, 1, 2), (300, 7, 11), (5, 3, 5)])
@pytest.mark.filterwarnings("ignore:.*clusters? (are|is) empty:UserWarning")
def test_steps_in_one_go_are_single_steps(
    n: int, d: int, k: int, dtype: str, iterations: int, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a callback, which looks at each step, none is taken ahead, nor is one without the method."""
    rng = np.random.default_rng(n + d)
    x = (10 * rng.normal(size=(n, d))).astype(dtype)
    first = x[rng.choice(n, k, replace=False)].astype(float)
    if start == "repeated":
        first[-1] = first[0]
    elif start == "far":
        first[-1] = 1e4
    elif start == "zeros":
        first[0] = -0.0
    weights = None if dtype == "int8" else rng.integers(1, 4, size=n) * 0.5
    options: Any = {"init": first, "max_iter": iterations, "tol": 0, "sample_weight": weights}
    taken = []
    ahead = Small.ahead

    def spy(*arguments: Any, **options: Any) -> Any:
        found = ahead(*arguments, **options)
        taken.append(0 if found is None else found.n_steps)
        return found

    def nothing(*_: Any, **__: Any) -> None:
        taken.append(-1)

    monkeypatch.setattr(Small, "ahead", spy)
    close = options | {"tol": 0.01}
    results: list[Any] = [
        xpmeans.kmeans(x, k, **options),
        xpmeans.kmeans(x, k, **close),
        kmeans2(x, first, iterations, minit="matrix"),
    ]
    assert len(taken) >= 3
    assert sum(taken) > 0 or start in ("repeated", "far", "zeros")
    monkeypatch.setattr(Small, "ahead", nothing)
    single = [
        xpmeans.kmeans(x, k, callback=lambda *_: None, **options),
        xpmeans.kmeans(x, k, callback=lambda *_: None, **close),
        kmeans2(x, first, iterations, minit="matrix"),
    ]
    for ours, theirs in zip(results, single, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
            assert np.asarray(a).dtype == np.asarray(b).dtype


def test_small_values_beside_huge_ones_keep_their_digits_in_sums() -> None:
    """Scaled in float32, which squares of 1e38 need, they would have none left."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 64))
    x[::2] *= 1e-20
    x[1::2] = (x[1::2] + 8) * 1e37
    x = x.astype("float32")
    centroids, labels = kmeans2(x, x[:2], 2, minit="matrix")
    for i in (0, 1):
        np.testing.assert_allclose(centroids[i], x[labels == i].astype(float).mean(axis=0), rtol=1e-6, atol=0)


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 1])
@pytest.mark.parametrize("block", [1, 7, 1000])
def test_open_points_are_settled_in_place_or_not(share: float, block: int) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 50, size=500).astype(np.int32)
    labels[rng.random(500) < share] = -1
    expected = np.where(labels < 0, np.arange(500) % 90, labels)
    for settle in (loop.settle, numpy.settle):
        settled, left = settle(np, labels.copy(), lambda rows: (rows % 90).astype(np.int32), block, None)
        np.testing.assert_array_equal(settled, expected)
        assert settled.dtype == np.int32
        assert left is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_among_many_is_seen(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whichever thread looks at it."""
    monkeypatch.setattr(precisions, "NUMBERS", 1000)
    monkeypatch.setattr(precisions, "MANY", 5000)
    for size in (400, 2000, 20_000):
        x = np.linspace(-3.0, 2.0, size).reshape(-1, 4)
        assert precisions.measure(np, x) == (3.0, True)
        for row in (0, len(x) // 2, len(x) - 1):
            bad = x.copy()
            bad[row, 2] = value
            assert precisions.measure(np, bad) == (3.0, False)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("d", "k"), [(3, 5), (3, 300), (100, 4), (100, 300)])
def test_sums(eager: Library, d: int, k: int, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each library's way of adding up, by several chunks; there are clusters without points."""
    monkeypatch.setattr(numpy, "BUDGET", 1 << 14)
    rng, real = np.random.default_rng(0), "float64" if eager.has_float64 else "float32"
    x, labels = rng.normal(size=(500, d)).astype(real), rng.integers(1, k, size=500).astype("int32")
    weights = rng.integers(0, 3, size=500).astype(real)
    context, (data,) = dispatch(x=eager(x))
    sums, counts = flow_for(context).sums(
        context.xp,
        make_plan(500, d, k, 8, 1 << 14),
        lambda rows, dtype=None: data[rows, ...],
        eager(labels),
        eager(weights) if weighted else None,
    )
    members = (labels == np.arange(k)[:, None]) * (weights if weighted else 1.0)
    np.testing.assert_array_equal(eager.numpy(counts), members.sum(axis=1))
    np.testing.assert_allclose(eager.numpy(sums), members @ x, atol=1e-10 if eager.has_float64 else 1e-4)


@pytest.mark.parametrize("minit", ["matrix", "++", "random", "points"])
def test_memory_is_bounded(minit: str) -> None:
    """n x k is 64 MB here; allowed are the chunks' budget and 40 bytes a point."""
    n, k = 40_000, 400
    x = np.random.default_rng(0).standard_normal((n, 16), dtype="float32")
    start = x[:k] if minit == "matrix" else 10
    kmeans2(x[:1000], start, 1, minit=minit, rng=0)  # what is loaded once is not counted
    tracemalloc.start()
    try:
        kmeans2(x, start, 1, minit=minit, rng=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * BUDGET + 40 * n


def test_small_problems_are_served_by_brute_force() -> None:
    dtypes = precision(np, np.dtype("float32"), "cpu")
    small = make_problem(np, "cpu", np.zeros((100, 2), "float32"), 3, dtypes, Reach(1.0, True))
    large = make_problem(np, "cpu", np.zeros((11_000, 2), "float32"), 3, dtypes, Reach(1.0, True))
    assert isinstance(select(small), BruteForce)
    assert isinstance(select(large), Reference)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: xpmeans.kmeans(x, 3, rng=0),
        lambda x: xpmeans.assign(x, x[:3]),
        lambda x: xpmeans.MiniBatchKMeans(3, random_state=0).fit(x),
        lambda x: xpmeans.MiniBatchKMeans(3, random_state=0).partial_fit(x),
        lambda x: xpmeans.vq.vq(x, x[:3]),
        lambda x: xpmeans.vq.kmeans(x, x[:3]),
        lambda x: xpmeans.vq.kmeans2(x, 3, minit="++", rng=0),
    ],
)
def test_false_alarms_of_a_product_stay_silent(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    start = BruteForce.start

    def alarming(*args: Any) -> Any:
        np.subtract(np.float32(np.inf), np.float32(np.inf))
        return start(*args)

    monkeypatch.setattr(BruteForce, "start", alarming)
    call(blobs())


def test_pairwise_sum() -> None:
    total, plain = PairwiseSum(), np.float32(0)
    for _ in range(100_000):
        total.add(np.float32(0.1))
        plain += np.float32(0.1)
    assert abs(total.value - 10_000) < 0.01 < abs(plain - 10_000)


@pytest.mark.parametrize(
    ("n", "d", "k"),
    [(10, 2, 3), (400_000, 32, 2000), (1, 1, 1), (10**9, 3, 16), (1000, 10, 10**6)],
)
@pytest.mark.parametrize("budget", [1 << 16, 1 << 22])
def test_plan_keeps_to_its_budget(n: int, d: int, k: int, budget: int) -> None:
    plan = make_plan(n, d, k, 4, budget)
    assert 1 <= plan.rows <= n
    assert 1 <= plan.block <= n
    assert plan.rows == 1 or plan.rows * (k * 9 + d * 16) <= budget
    rows = make_plan(n, d, k, 4, budget, 8).rows  # an accelerator's, which tells candidates apart in float64
    assert rows == 1 or rows * (k * 13 + d * 16) <= budget


@pytest.mark.parametrize("library", ["torch", "jax.numpy"])
def test_host_arrays_of_other_libraries_are_served(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    xp = pytest.importorskip(library)
    x = blobs(20_000, 3, 5).astype("float32")
    expected = xpmeans.kmeans(x, 5, rng=0)
    monkeypatch.setattr(Reference, "step", None)
    monkeypatch.setattr(BruteForce, "step", None)
    data = xp.asarray(x)
    result = xpmeans.kmeans(data, 5, rng=0)
    assert type(result.centroids) is type(data)
    np.testing.assert_array_equal(np.asarray(result.labels), expected.labels)
    np.testing.assert_array_equal(np.asarray(result.centroids), expected.centroids)
