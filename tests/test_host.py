"""The compiled kernel: its labels are the reference kernel's, whatever it skips and whoever does the work."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, current_thread
from time import sleep
from typing import Any

import numpy as np
import pytest
from conftest import LAYOUTS, blobs, nearest

import xpmeans
from xpmeans import _kernels
from xpmeans._core import plan, threads
from xpmeans._core.nearest import Reference
from xpmeans._core.plan import make_plan
from xpmeans._core.precision import precision

pytest.importorskip("numba")

from xpmeans._kernels import host
from xpmeans._kernels.host import Host
from xpmeans._kernels.lanes import BYTES


def bound(kernel: Any, x: np.ndarray) -> Any:
    return kernel(np, "cpu", precision(np, x.dtype, None))


def side_by_side(
    kernels: Any, x: np.ndarray, book: np.ndarray, n_iter: int, weights: Any = None
) -> Iterator[tuple[Any, Any, np.ndarray]]:
    """Steps of two kernels for the same centroids, until no label changes; empty clusters stay in place."""
    states = [kernel.start(x, weights, make_plan(*x.shape, len(book), 8)) for kernel in kernels]
    before = None
    for _ in range(n_iter):
        steps = [None, None]
        for i, kernel in enumerate(kernels):
            states[i], steps[i] = kernel.step(states[i], book)
        assert not states[0].last.parts.any()  # tables are kept for the next step
        yield *steps, book
        ours = steps[0]
        if before is not None and np.array_equal(before, ours.labels):
            return
        before, counts = ours.labels.copy(), ours.counts[:, None]
        book = np.where(counts > 0, ours.sums / np.where(counts > 0, counts, 1), book).astype(book.dtype)


@pytest.fixture
def small_strands(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Many strands also for small problems, and bounds for all of them."""
    monkeypatch.setattr(plan, "STRAND", 1 << 10)
    monkeypatch.setattr(plan, "ALONE", 0)
    monkeypatch.setattr(host, "MANY", 1 << 8)
    monkeypatch.setattr(host, "PAIRS", 1 << 8)
    monkeypatch.setattr(host, "pruning_pays", lambda *_: True)
    monkeypatch.setattr(host, "windows_pay", lambda *_: True)
    monkeypatch.setattr(host, "neighbours", lambda _, k: min(4, k - 1))
    plan.strands.cache_clear()
    yield
    plan.strands.cache_clear()


@pytest.mark.usefixtures("small_strands")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "uint8", "bool"])
@pytest.mark.parametrize(
    ("n", "d", "k"),
    [
        (1, 1, 1),
        (33, 1, 2),
        (500, 2, 7),
        (300, 7, 300),
        (900, 3, 700),
        (400, 64, 9),
        (257, 130, 33),
        (200, 300, 5),
        # Whole vectors of columns, one less and one more; the fullest tile.
        *((90, d, 6) for d in (8, 15, 16, 17, 33, 128, 131, 132)),
    ],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_steps_are_the_reference_kernels(
    layout: str, dtype: str, n: int, d: int, k: int, weighted: bool
) -> None:
    rng = np.random.default_rng(n + d)
    x = LAYOUTS[layout]((10 * np.abs(blobs(n, d, 5))).astype(dtype))
    weights = rng.integers(0, 4, size=n) * 0.5 if weighted else None
    kind = "float32" if dtype in ("float16", "float32") else "float64"
    first = x[rng.choice(n, k, replace=False)].astype(kind)
    for ours, theirs, book in side_by_side((bound(Host, x), bound(Reference, x)), x, first, 8, weights):
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        np.testing.assert_array_equal(ours.labels, nearest(x, book))
        np.testing.assert_allclose(ours.sums, theirs.sums, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(ours.counts, theirs.counts, rtol=1e-14)


@pytest.mark.parametrize("case", ["grid", "near ties", "offset", "one far", "twins", "tiny", "huge"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.usefixtures("small_strands")
def test_hard_data(case: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 3))
    if case == "grid":
        x = rng.integers(0, 6, size=x.shape).astype(float)
    elif case == "near ties":  # in the middle of two centroids, but for the last digits
        x = np.repeat(rng.integers(0, 4, size=(1000, 3)) + 0.5, 3, axis=0)
        x += rng.integers(-2, 3, size=x.shape) * float(np.finfo(dtype).eps)
    elif case == "offset":
        x += 1e6 if dtype == "float32" else 1e9
    elif case == "one far":
        x[0] = 1e5
    elif case == "twins":
        x = np.repeat(x[:300], 10, axis=0)
    elif case == "tiny":
        x *= 1e-15
    elif case == "huge":
        x *= 1e15
    x = x.astype(dtype)
    first = np.concatenate([x[:20], x[:4]])
    for ours, theirs, book in side_by_side((bound(Host, x), bound(Reference, x)), x, first, 25):
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        if dtype == "float32":  # decided in float64, like the oracle, which has no more digits than that
            np.testing.assert_array_equal(ours.labels, nearest(x, book))
        reach = np.abs(x).max() * len(x)
        np.testing.assert_allclose(ours.sums, theirs.sums, rtol=1e-12, atol=1e-15 * reach)
        np.testing.assert_array_equal(ours.counts, theirs.counts)


@pytest.mark.parametrize("x", [blobs(5000, 8, 6), blobs(5000, 8, 6).astype("float32")])
def test_the_centroids_of_the_last_step_are_assigned_without_another_look(
    x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel, fresh = bound(Host, x), bound(Host, x)
    state = kernel.start(x, None, make_plan(*x.shape, 6, 8))
    state, step = kernel.step(state, x[:6])
    with monkeypatch.context() as patch:
        patch.setattr(host, "_pass", None)
        labels, squares = kernel.assign(state, x[:6])
    again = fresh.assign(fresh.start(x, None, make_plan(*x.shape, 6, 8)), x[:6])
    np.testing.assert_array_equal(labels, again[0])
    np.testing.assert_array_equal(squares, again[1])
    assert not np.shares_memory(labels, step.labels)
    others, _ = kernel.assign(state, x[6:12])
    np.testing.assert_array_equal(others, nearest(x, x[6:12]))


@pytest.mark.parametrize("n", range(5000, 5004))
def test_labels_lie_where_jax_shares_them(n: int) -> None:
    x = blobs(n, 8, 6)
    kernel = bound(Host, x)
    state = kernel.start(x, None, make_plan(n, 8, 6, 8))
    for book in (x[:6], x[6:12]):
        state, step = kernel.step(state, book)
        assert step.labels.ctypes.data % 64 == 0
    for book in (x[6:12], x[:6], x[:5]):  # those of the last step, others, and fewer
        labels, _ = kernel.assign(state, book)
        assert labels.ctypes.data % 64 == 0


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "d", "k"), [(1, 1, 1), (5000, 3, 7), (3000, 20, 40), (700, 4, 600)])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int8"])
@pytest.mark.usefixtures("small_strands")
def test_quality_is_that_of_what_is_assigned(dtype: str, n: int, d: int, k: int, weighted: bool) -> None:
    rng = np.random.default_rng(n)
    x = (10 * blobs(n, d, 3)).astype(dtype)
    weights = rng.integers(0, 4, size=n) * 0.5 if weighted else None
    book = x[rng.choice(n, k, replace=False)].astype(float)
    kernel = bound(Host, x)
    state = kernel.start(x, weights, make_plan(n, d, k, 8))
    for _ in range(2):  # without a step before, and with one
        labels, inertia, sizes = kernel.quality(state, book)
        expected, squares = kernel.assign(state, book)
        np.testing.assert_array_equal(labels, expected)
        np.testing.assert_array_equal(sizes, np.bincount(labels, minlength=k))
        np.testing.assert_allclose(inertia, np.sum(squares * (1 if weights is None else weights)), rtol=1e-13)
        state, _ = kernel.step(state, book)
        book = book + 0.1


def test_what_takes_one_thread_as_long_as_python_is_one_strand() -> None:
    for n, itemsize, alone in ((1797, 4, True), (3000, 4, False), (900, 8, True), (1797, 8, False)):
        assert (len(plan.strands(n, 64, 100, itemsize)) == 1) == alone
        assert plan.pruning_pays(n, 64, 100, itemsize, 0.0) != alone


def test_bounds_that_leave_most_open_are_not_moved() -> None:
    """To measure a point's own centroid is an eighth of its scan here, and more than a fiftieth saves."""
    for share, pays in ((0.0, True), (0.75, True), (0.9, False), (0.98, False)):
        assert plan.pruning_pays(20_000, 1024, 64, 4, share) == pays
    assert plan.pruning_pays(100_000, 3, 256, 4, 0.9, inside=0.2)
    assert not plan.pruning_pays(100_000, 3, 256, 4, 0.9)


@pytest.mark.parametrize("d", [131, 132, 260, 1024])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_near_ties_in_many_columns(dtype: str, d: int) -> None:
    """Scores are added up by pieces of the columns, and certain by a bound on the rounding of that."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(200, d)).astype(dtype)
        apart = float(np.finfo(dtype).eps) * 10 ** rng.uniform(0, 5)
        book = rng.normal(size=(4, d))
        book = np.concatenate([book, book + apart * rng.normal(size=book.shape)]).astype(dtype)
        labels, _ = xpmeans.assign(x, book, kernel="host")
        squares = ((x[:, None].astype(np.longdouble) - book.astype(np.longdouble)) ** 2).sum(axis=2)
        found = np.take_along_axis(squares, labels[:, None].astype(int), axis=1)[:, 0]
        assert (found <= squares.min(axis=1) * (1 + 64 * np.finfo(float).eps)).all()


WIDTHS = """
import sys
import numpy as np
from xpmeans._kernels import lanes
lanes.BYTES = int(sys.argv[1])
import xpmeans

rng = np.random.default_rng(0)
shapes = (30_000, 3, 40), (3000, 4, 20), (9000, 9, 50), (8000, 16, 40), (4000, 20, 60), (700, 131, 50)
for dtype in ("float32", "float64"):
    for n, d, k in (*shapes, (700, 128, 50), (700, 140, 50)):
        x = (rng.normal(size=(n, d)) + 3 * rng.integers(4, size=(n, 1))).astype(dtype)
        options = {"init": x[:k], "max_iter": 20, "tol": 0}
        host, reference = (xpmeans.kmeans(x, k, kernel=kernel, **options) for kernel in ("host", "reference"))
        np.testing.assert_array_equal(host.labels, reference.labels)
        np.testing.assert_allclose(host.inertia, reference.inertia, rtol=1e-12)
"""


def test_with_vectors_of_other_machines(tmp_path: Path) -> None:
    """64 bytes are those of AVX-512, which other machines have two registers for; 32 are all others'."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", WIDTHS, str(96 - BYTES)]
    subprocess.run(command, env=environment, check=True, timeout=300)


def test_places_are_numpys() -> None:
    import numba

    from xpmeans._kernels.walk import place_of

    place = numba.njit(lambda keys, key: place_of(keys, key))
    for keys in (np.array([1.0]), np.array([0.0, 1, 1, 1, 2, 5]), np.sort(blobs(500, 1, 3)[:, 0])):
        for key in (*keys, *(keys + 0.1), -np.inf, np.inf):
            assert place(keys, key) == np.searchsorted(keys, key)


@pytest.mark.parametrize("n", [1, 100, 20_000, 1_000_000])
@pytest.mark.parametrize("d", [2, 1024])
@pytest.mark.parametrize("itemsize", [4, 8])
@pytest.mark.parametrize("sums", [False, True])
def test_strands_are_all_points_in_equal_shares(n: int, d: int, itemsize: int, sums: bool) -> None:
    parts = plan.strands(n, d, 64, itemsize, sums=sums)
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop == n
    assert len(parts) < plan.ENOUGH or len(parts) % plan.EQUAL == 0
    for short in (False, True):
        for n_threads in (1, 2, 7):
            tasks = plan.shares(len(parts), n_threads, short)
            assert [i for task in tasks for i in range(task.start, task.stop)] == list(range(len(parts)))


@pytest.mark.parametrize("least", [5e-324, 1e-310, 5e-307])
@pytest.mark.usefixtures("small_strands")
def test_points_lined_up_over_next_to_no_range(least: float) -> None:
    """Points that are nearly equal in the coordinate in which the others are far apart."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 3))
    x[:, 0] *= 1000
    x[:2000, 0] = 0.0
    x[np.arange(0, 2000, 16), 0] = least
    first = x[rng.choice(3000, 40, replace=False)]
    for ours, theirs, _ in side_by_side((bound(Host, x), bound(Reference, x)), x, first, 8):
        np.testing.assert_array_equal(ours.labels, theirs.labels)


@pytest.mark.parametrize("d", [1, 2, 3, 8, 16, 20])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_near_ties_among_many(d: int, dtype: str) -> None:
    """The best of each four centroids are compared first, and the second best may be beside the best.

    Differences round in float64, in which sums of several columns can tie.
    """
    rng = np.random.default_rng(d)
    book = rng.integers(0, 9, size=(701, d)).astype(dtype)
    book[1::2] = book[:-1:2] + 2.0 ** -rng.integers(1, 60, size=(350, 1))
    x = np.repeat(book, 3, axis=0) + rng.integers(-1, 2, size=(2103, d)) * np.finfo(dtype).eps
    x = np.concatenate([x, (x[rng.permutation(2103)] + x) / 2]).astype(dtype)
    _, step = bound(Host, x).step(bound(Host, x).start(x, None, make_plan(*x.shape, 701, 8)), book)
    wide = np.longdouble
    for i, point in enumerate(x.astype(wide)):
        squares = ((point - book.astype(wide)) ** 2).sum(axis=1)
        least = squares.min()
        assert squares[step.labels[i]] <= least * (1 + (d + 4) * np.finfo(float).eps)
        if d == 1:
            assert step.labels[i] == np.argmin(squares.astype(float))


@pytest.mark.parametrize("part", range(10))
def test_pruning_changes_nothing(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty problems a part, to convergence; every label of every step."""

    class Unpruned(Host):
        def step(self, *args: Any) -> Any:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(host, "pruning_pays", lambda *_: False)
                return super().step(*args)

    monkeypatch.setattr(host, "pruning_pays", lambda *_: True)
    n_steps = 0
    for seed in range(50 * part, 50 * part + 50):
        rng = np.random.default_rng(seed)
        n, d, k = int(rng.integers(50, 2000)), int(rng.choice([1, 2, 3, 5, 10, 40])), int(rng.integers(2, 50))
        x = blobs(n, d, int(rng.integers(1, 30)), seed=seed, spread=float(rng.choice([0.1, 1, 5])))
        if rng.random() < 0.3:
            x = np.round(x)
        x = x.astype(rng.choice(["float32", "float64"]))
        first = x[rng.choice(n, min(n, k), replace=False)]
        monkeypatch.setattr(host, "neighbours", lambda _, k, m=seed % 10: min(m, k - 1))
        monkeypatch.setattr(host, "windows_pay", lambda *_, even=seed % 2 == 0: even)
        for pruned, full, _ in side_by_side((bound(Host, x), bound(Unpruned, x)), x, first, 300):
            np.testing.assert_array_equal(pruned.labels, full.labels)
            np.testing.assert_allclose(pruned.sums, full.sums, rtol=1e-13, atol=1e-11)
            np.testing.assert_array_equal(pruned.counts, full.counts)
            n_steps += 1
    assert n_steps > 300


@pytest.mark.parametrize("m", [0, 1, 5, 19])
@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bounds_hold(dtype: str, windows: bool, m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each step, against distances in long double; whatever number of neighbours is known."""
    monkeypatch.setattr(host, "pruning_pays", lambda *_: True)
    monkeypatch.setattr(host, "windows_pay", lambda *_: windows)
    monkeypatch.setattr(host, "neighbours", lambda *_: m)
    x = (blobs(3000, 3, 8, spread=2.0) + 50).astype(dtype)
    kernel = bound(Host, x)
    state, book, skipped = kernel.start(x, None, make_plan(*x.shape, 20, 8)), x[:20], 0
    for _ in range(30):
        tight = None if state.last is None else state.last.upper.copy()
        state, step = kernel.step(state, book)
        squares = ((x[:, None].astype(np.longdouble) - book[None].astype(np.longdouble)) ** 2).sum(axis=2)
        own = np.sqrt(np.take_along_axis(squares, step.labels[:, None].astype(int), axis=1)[:, 0])
        np.put_along_axis(squares, step.labels[:, None].astype(int), np.inf, axis=1)
        assert (state.last.upper >= own).all()
        assert (state.last.lower <= np.sqrt(squares.min(axis=1))).all()
        skipped += 0 if tight is None else int((state.last.upper > tight).sum())
        book = (step.sums / step.counts[:, None]).astype(dtype)
    assert skipped > 3000  # bounds that were only widened


@pytest.mark.usefixtures("small_strands")
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64"])
@pytest.mark.parametrize("weighted", [False, True])
def test_seeding_chooses_what_the_reference_does(
    dtype: str, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        n, d, k = int(rng.integers(5000, 9000)), int(rng.choice([1, 2, 3, 8, 40])), int(rng.integers(8, 40))
        x = blobs(n, d, 12, seed=seed)
        x = LAYOUTS[sorted(LAYOUTS)[seed % 5]]((np.round(x) if seed % 3 == 0 else x).astype(dtype))
        weights = rng.integers(0, 3, n).astype(float) if weighted else None
        chosen = []
        for found in (True, False):
            monkeypatch.setattr(_kernels, "compiler_found", lambda found=found: found)
            chosen.append(xpmeans.kmeans_plusplus(x, k, sample_weight=weights, rng=seed)[1])
        np.testing.assert_array_equal(*chosen)


@pytest.mark.usefixtures("small_strands")
def test_any_number_of_threads_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    x = blobs(5000, 5, 10, spread=2.0)
    weights = np.random.default_rng(0).random(5000)
    results = []
    for count in (1, 2, 3, 8):
        monkeypatch.setattr(threads, "count", lambda count=count: count)
        monkeypatch.setattr(threads, "_pool", None)
        results.append(xpmeans.kmeans(x, 30, rng=0, sample_weight=weights, kernel="host"))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("numba", "openmp", "expected"),
    [("", "3,2", 3), ("5", "3,2", 5), ("all", "", len(os.sched_getaffinity(0)))],
)
def test_the_environment_says_how_many_threads(
    numba: str, openmp: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_NUM_THREADS", numba)
    monkeypatch.setenv("OMP_NUM_THREADS", openmp)
    assert threads.count.__wrapped__() == expected


@pytest.mark.usefixtures("small_strands")
def test_from_many_threads_at_once() -> None:
    problems = [blobs(2000, 4, 6, seed=seed) for seed in range(16)]

    def solve(x: np.ndarray) -> np.ndarray:
        return xpmeans.kmeans(x, 6, rng=0, kernel="host").labels

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(solve, problems))
    for labels, x in zip(together, problems, strict=True):
        np.testing.assert_array_equal(labels, solve(x))


def test_errors_of_a_strand_reach_the_caller() -> None:
    done = []

    def work(i: int) -> None:
        if i == 3:
            raise ValueError("three")
        done.append(i)

    with pytest.raises(ValueError, match="three"):
        threads.run(work, 10)
    threads.run(done.append, 1000)
    assert max(done) == 999


def test_a_failed_call_leaves_no_thread_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of two helpers raises while the other still writes."""
    monkeypatch.setattr(threads, "count", lambda: 3)
    monkeypatch.setattr(threads, "_pool", None)
    together, done = Barrier(3), []

    def work(i: int) -> None:
        together.wait(60)  # each thread has one of the tasks
        if current_thread().name == "xpmeans_0":
            raise MemoryError
        sleep(0.1)
        done.append(i)

    with pytest.raises(MemoryError):
        threads.run(work, 3)
    assert len(done) == 2


def test_without_threads_the_caller_does_all(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    monkeypatch.setattr(threads, "count", lambda: 3)
    monkeypatch.setattr(threads, "_pool", pool)
    done: list[int] = []
    threads.run(done.append, 5)
    assert done == [0, 1, 2, 3, 4]


FORK = """
import multiprocessing
import numpy as np
import xpmeans

x = np.random.default_rng(0).normal(size=(20_000, 4))
labels = xpmeans.kmeans(x, 8, rng=0).labels

def again(_):
    return bool((xpmeans.kmeans(x, 8, rng=0).labels == labels).all())

with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map_async(again, range(4)).get(timeout=100))
"""


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_after_a_fork() -> None:
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK], capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.split() == ["[True,", "True,", "True,", "True]"]


def test_forced_where_it_cannot_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    x = blobs(200)
    for size in (1e200, 1e-200):
        with pytest.raises(ValueError, match=r"`kernel` 'host' serves arrays in host memory"):
            xpmeans.kmeans(x * size, 3, kernel="host")
    monkeypatch.setattr(_kernels, "compiler_found", lambda: False)
    with pytest.raises(ValueError, match="needs Numba"):
        xpmeans.kmeans(x, 3, kernel="host")


def test_without_a_place_to_keep_compiled_code() -> None:
    code = """
import numpy as np
from numba.core import caching
caching.CacheImpl._locator_classes = []
import xpmeans
from xpmeans._kernels import walk
from xpmeans._kernels.compiled import compiled
labels = xpmeans.kmeans(np.arange(40_000.0).reshape(-1, 2), 4, rng=0).labels
print(len(labels), compiled(walk.walk, "d")._cache)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split()[:1] == ["20000"]
    assert "NullCache" in result.stdout


def test_small_problems_wait_for_no_compiler() -> None:
    code = "import sys, numpy as np, xpmeans; xpmeans.kmeans(np.eye(40), 9); print('numba' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["False"]


def test_without_the_compiler_the_reference_kernel_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    x = blobs(20_000, 3, 5)
    expected = xpmeans.kmeans(x, 5, rng=0)
    monkeypatch.setattr(host, "_book", None)
    with pytest.raises(TypeError):
        xpmeans.kmeans(x, 5, rng=0)
    monkeypatch.setattr(_kernels, "compiler_found", lambda: False)
    result = xpmeans.kmeans(x, 5, rng=0)
    np.testing.assert_array_equal(result.labels, expected.labels)
    np.testing.assert_allclose(result.centroids, expected.centroids, rtol=1e-14)
