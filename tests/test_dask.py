"""Dask arrays, block by block: agreement with NumPy, reads, schedulers."""

import contextlib
import io
import json
import pickle
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CHOSEN, blobs

import xpmeans
from xpmeans import KMeans, MiniBatchKMeans, assign, kmeans, kmeans_plusplus
from xpmeans._kernels import tally
from xpmeans._lazy import blocks, solve, table

if "dask" not in CHOSEN:
    pytest.skip("Dask is not under test", allow_module_level=True)

import cluster
import dask
import dask.array as da


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


def cut(n: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Random sizes of blocks, some of them empty or of one row."""
    edges = np.sort(rng.integers(0, n + 1, size=rng.integers(0, 9)))
    return tuple(np.diff(edges, prepend=0, append=n).tolist())


def same(result: Any, expected: Any, scale: float = 1.0) -> None:
    """Two results of one start: all that is decided is equal, all that is added up equal but for rounding."""
    assert (result.n_iter, result.converged) == (expected.n_iter, expected.converged)
    np.testing.assert_array_equal(np.asarray(result.labels), expected.labels)
    np.testing.assert_array_equal(result.counts, expected.counts)
    tolerance = 1e-5 if expected.centroids.dtype == np.float32 else 1e-10
    np.testing.assert_allclose(result.centroids, expected.centroids, rtol=tolerance, atol=tolerance * scale)
    np.testing.assert_allclose(result.inertia, expected.inertia, rtol=tolerance)


def problem(seed: int) -> tuple[np.ndarray, dict[str, Any], np.random.Generator]:
    """Points and arguments of a random problem."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(1, 400)), int(rng.integers(1, 7))
    k = int(rng.integers(1, min(n, 12) + 1))
    x = rng.normal(size=(n, d))
    kind = rng.integers(4)
    if kind == 1:
        x = np.round(x)  # ties, copies, and clusters that lose all points
    if kind == 2:
        x = x + 1000 * rng.normal(size=d)
    if kind == 3:
        x = x.astype(np.float32)
    options: dict[str, Any] = {
        "max_iter": int(rng.integers(1, 30)),
        "tol": float(rng.choice([0.0, 1e-4, 1e-2])),
        "empty": str(rng.choice(["relocate", "keep"])),
    }
    if rng.integers(3) == 0:
        options["sample_weight"] = rng.integers(0, 4, size=n) + (np.arange(n) == 0)
    if rng.integers(4) == 0 and not (x == 0).all(axis=1).any():
        options["metric"] = "cosine"
    options["init"] = x[rng.choice(n, k)] if rng.integers(2) else x[rng.choice(n, k)] + 3.0
    return x, options, rng


@pytest.mark.filterwarnings("ignore:Some clusters are empty")
@pytest.mark.parametrize("seed", range(200))
def test_it_agrees_with_numpy(seed: int) -> None:
    """200 random problems over random chunks: the same iterations from the same start."""
    x, options, rng = problem(seed)
    k = len(options["init"])
    expected = kmeans(x, k, **options)
    chunks = cut(len(x), rng)
    data = da.from_array(x, chunks=(chunks, -1))
    result = kmeans(data, k, **options)
    assert result.labels.chunks == (chunks,)
    same(result, expected, scale=np.abs(x).max())


CHUNKS = {
    "one block": (60,),
    "even": (20, 20, 20),
    "uneven": (1, 40, 2, 17),
    "empty blocks": (0, 25, 0, 0, 35, 0),
    "one-row blocks": (1,) * 60,
}


def made(x: np.ndarray, chunks: tuple[int, ...]) -> Any:
    return da.from_array(x, chunks=(chunks, *((m,) for m in x.shape[1:])))


@pytest.mark.parametrize("name", CHUNKS)
@pytest.mark.parametrize("init", ["auto", "k-means++", "random"])
def test_a_seed_gives_one_answer_whatever_the_chunks(name: str, init: str) -> None:
    """Draws belong to row numbers. What is added up differs by rounding, as block by block it must."""
    x = blobs(spread=2.0)
    expected = kmeans(made(x, (60,)), 4, init=init, rng=7)
    result = kmeans(made(x, CHUNKS[name]), 4, init=init, rng=7)
    np.testing.assert_allclose(result.centroids, expected.centroids, rtol=1e-12)
    np.testing.assert_array_equal(np.asarray(result.labels), np.asarray(expected.labels))
    centroids, rows = kmeans_plusplus(made(x, CHUNKS[name]), 4, rng=7)
    expected_centroids, expected_rows = kmeans_plusplus(made(x, (60,)), 4, rng=7)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(centroids, expected_centroids)
    np.testing.assert_array_equal(centroids, x[rows])


@pytest.mark.parametrize("weighted", [False, True])
def test_unknown_chunks(weighted: bool) -> None:
    x = blobs(spread=2.0)
    mask = np.arange(60) % 3 > 0
    mask[:20] = False  # a block that is left empty
    weights = np.arange(60.0) if weighted else None
    start = x[mask][:4]
    data, chosen = made(x, CHUNKS["even"]), made(mask, CHUNKS["even"])
    mass = None if weights is None else made(weights, CHUNKS["even"])[chosen]
    expected = kmeans(x[mask], 4, init=start, sample_weight=None if weights is None else weights[mask])
    result = kmeans(data[chosen], 4, init=start, sample_weight=mass)
    same(result, expected)
    if weights is not None:  # weights that lie in memory
        same(kmeans(data[chosen], 4, init=start, sample_weight=weights[mask]), expected)
    labels, distances = assign(data[chosen], start)
    assert np.isnan(labels.shape[0])
    np.testing.assert_array_equal(np.asarray(labels), assign(x[mask], start)[0])
    np.testing.assert_array_equal(np.asarray(distances), assign(x[mask], start)[1])
    assert kmeans_plusplus(data[chosen], 4, sample_weight=mass, rng=0)[1].max() < mask.sum()


def test_weights_that_do_not_fit_the_points() -> None:
    x = blobs()
    data = made(x, CHUNKS["even"])[made(np.ones(60, bool), CHUNKS["even"])]
    with pytest.raises(ValueError, match="`sample_weight` must have the chunks of `x`, or known ones"):
        kmeans(data, 3, sample_weight=made(np.ones(60), (30, 30))[made(np.ones(60, bool), (30, 30))])
    with pytest.raises(ValueError, match=r"`sample_weight` must have a weight for each point \(60\), got 55"):
        kmeans(data, 3, sample_weight=np.ones(55))
    with pytest.raises(
        ValueError, match="`sample_weight` must have a weight for each point, got 25 for the 20"
    ):
        kmeans(data, 3, sample_weight=made(np.ones(65), (25, 20, 20))[made(np.ones(65, bool), (25, 20, 20))])


def test_columns_in_several_blocks_are_put_together_and_that_is_said() -> None:
    x = blobs(d=6)
    data = da.from_array(x, chunks=((20, 40), (2, 4)))
    start = x[:3]
    with pytest.warns(
        UserWarning, match="`x` is cut into 2 blocks of columns.* all its pieces but one are sent"
    ) as seen:
        result = kmeans(data, 3, init=start)
    assert [warning.filename for warning in seen] == [__file__]
    assert result.labels.chunks == ((20, 40),)
    same(result, kmeans(x, 3, init=start))
    with pytest.warns(UserWarning, match="2 blocks of columns"):
        labels, _ = assign(data, start)
    np.testing.assert_array_equal(np.asarray(labels), assign(x, start)[0])
    with pytest.warns(UserWarning, match="2 blocks of columns"):
        kmeans_plusplus(data, 3)


def test_results_are_small_values_and_lazy_columns() -> None:
    x = blobs(n=60).astype(np.float32)
    result = kmeans(made(x, CHUNKS["uneven"]), 3, rng=0)
    assert isinstance(result.centroids, np.ndarray)
    assert result.centroids.dtype == np.float32
    assert isinstance(result.inertia, np.float64)
    assert isinstance(result.counts, np.ndarray)
    assert result.counts.dtype == np.int64
    assert (type(result.n_iter), type(result.converged)) == (int, bool)
    assert isinstance(result.labels, da.Array)
    assert result.labels.dtype == np.int32
    assert result.labels.chunks == (CHUNKS["uneven"],)
    labels, distances = assign(made(x, CHUNKS["uneven"]), result.centroids)
    assert (labels.dtype, distances.dtype) == (np.int32, np.float32)
    assert labels.chunks == distances.chunks == (CHUNKS["uneven"],)
    for lazy, expected in zip((labels, distances), assign(x, result.centroids), strict=True):
        found = np.asarray(lazy)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_batches() -> None:
    x = np.stack([blobs(seed=s) for s in range(3)])
    data = da.from_array(x, chunks=(2, 25, 2))
    start = x[:, :3]
    result, expected = kmeans(data, 3, init=start), kmeans(x, 3, init=start)
    for found, wanted in zip(result, expected, strict=True):
        np.testing.assert_allclose(np.asarray(found), np.asarray(wanted))
    labels, _ = assign(data, start[0])
    np.testing.assert_array_equal(np.asarray(labels), assign(x, start[0])[0])
    centroids, rows = kmeans_plusplus(data, 3, rng=0)
    np.testing.assert_array_equal(centroids, np.take_along_axis(x, rows[..., None], axis=1))


def test_callables_get_the_dask_array_and_a_generator() -> None:
    x = blobs()

    def init(points: Any, k: int, rng: np.random.Generator) -> Any:
        assert isinstance(points, da.Array)
        return points[: k + rng.integers(1)]

    same(kmeans(made(x, CHUNKS["even"]), 3, init=init, n_init=1), kmeans(x, 3, init=x[:3]))


def test_the_best_of_several_runs() -> None:
    x = blobs(n=60, k=6, spread=0.1)
    data = made(x, CHUNKS["even"])
    alone = min(kmeans(data, 6, init="random", n_init=1, rng=seed).inertia for seed in range(9))
    assert kmeans(data, 6, init="random", n_init=30, rng=0).inertia <= alone


@pytest.mark.parametrize(("less", "wins"), [(1e-15, 0), (1e-6, 2)])
def test_of_runs_that_differ_by_rounding_the_first_is_returned(
    less: float, wins: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, runs = blobs(spread=2.0), []
    assess = solve.quality

    def quality(*arguments: Any) -> Any:
        found = assess(*arguments)
        runs.append(1)
        return found._replace(inertia=found.inertia * (1 - less * len(runs)))

    starts = [x[[0, 1, 2]], x[[1, 2, 0]], x[[2, 0, 1]]]
    monkeypatch.setattr(solve, "quality", quality)
    result = kmeans(made(x, (60,)), 3, init=lambda *_: starts[len(runs)], n_init=3)
    np.testing.assert_allclose(result.centroids, kmeans(x, 3, init=starts[wins]).centroids)
    assert not np.allclose(result.centroids, kmeans(x, 3, init=starts[2 - wins]).centroids)


def test_callback_sees_each_iteration_and_can_end_the_run() -> None:
    x = blobs(spread=2.0)
    seen: list[Any] = []
    wanted: list[Any] = []
    kmeans(made(x, CHUNKS["even"]), 4, init=x[:4], callback=lambda *all: seen.append(all))
    kmeans(x, 4, init=x[:4], callback=lambda *all: wanted.append(all))
    assert [n_iter for n_iter, *_ in seen] == [n_iter for n_iter, *_ in wanted]
    for found, expected in zip(seen, wanted, strict=True):
        np.testing.assert_allclose(found[1], expected[1])
        np.testing.assert_allclose(found[2], expected[2])
    result = kmeans(made(x, CHUNKS["even"]), 4, init=x[:4], callback=lambda n_iter, *_: n_iter == 2)
    assert (result.n_iter, result.converged) == (2, False)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(value: float) -> None:
    x, weights = blobs(), np.ones(60)
    weights[50], bad = value, x.copy()
    bad[50, 1] = value
    data = made(x, CHUNKS["uneven"])
    for call in (
        lambda: kmeans(made(bad, CHUNKS["uneven"]), 3),
        lambda: kmeans_plusplus(made(bad, CHUNKS["uneven"]), 3),
        lambda: assign(made(bad, CHUNKS["uneven"]), x[:3])[0].compute(),
    ):
        with pytest.raises(ValueError, match="`x` must not contain NaN or infinity"):
            call()
    with pytest.raises(ValueError, match="`sample_weight` must not contain NaN or infinity"):
        kmeans(data, 3, sample_weight=weights)
    with pytest.raises(ValueError, match="`init` must not contain NaN or infinity"):
        kmeans(data, 3, init=bad[50:53])


def test_errors_are_those_of_numpy() -> None:
    x = blobs()
    data = made(x, CHUNKS["uneven"])
    with pytest.raises(
        ValueError, match=r"`sample_weight` must not be negative, and not all zero, got .* -1.0 to"
    ):
        kmeans(data, 3, sample_weight=np.where(np.arange(60) == 50, -1.0, 1.0))
    with pytest.raises(ValueError, match="`sample_weight` must not be negative, and not all zero"):
        kmeans(data, 3, sample_weight=np.zeros(60))
    with pytest.raises(
        ValueError, match=r"`n_clusters` must be between 1 and the number of points \(60\), got 61"
    ):
        kmeans(data, 61)
    with pytest.raises(
        ValueError, match=r"`n_clusters` must be between 1 and the number of points \(60\), got 61"
    ):
        kmeans(data[made(np.ones(60, bool), CHUNKS["uneven"])], 61)
    with pytest.raises(ValueError, match="`x` must not be empty, all its blocks are"):
        kmeans(data[made(np.zeros(60, bool), CHUNKS["uneven"])], 3)
    with pytest.raises(ValueError, match="`persist` must be one of 'auto', True, False, got 'maybe'"):
        kmeans(data, 3, persist="maybe")
    with pytest.raises(ValueError, match=r"`init` must have shape \(k, 2\), got \(3, 5\)"):
        kmeans(data, 3, init=np.zeros((3, 5)))
    with pytest.raises(ValueError, match=r"got nan\. Hint: init\.compute_chunk_sizes\(\) finds out"):
        kmeans(data, 3, init=data[data[:, 0] > 0])
    reads = Reads(x, CHUNKS["uneven"])
    for call in (
        lambda: kmeans(reads.array, 3, kernel="nope"),
        lambda: assign(reads.array, x[:3], kernel="nope"),
    ):
        with pytest.raises(ValueError, match="`kernel` must be one of None, 'reference', 'host', got 'nope'"):
            call()
    assert not reads.counts
    x[50] = 0
    with pytest.raises(ValueError, match="rows of length zero with metric='cosine', row 50"):
        kmeans(made(x, CHUNKS["uneven"]), 3, metric="cosine")
    with pytest.raises(xpmeans.vq.ClusterError, match="A cluster is empty"):
        kmeans(data, 3, init=x[:3] + np.asarray([[0], [0], [1e4]]), empty="raise")
    with pytest.raises(TypeError, match=r"Inputs of type `numpy\.ma\.MaskedArray` are not supported"):
        kmeans(data.map_blocks(np.ma.masked_array), 3)


@pytest.mark.filterwarnings("ignore:Some clusters are empty")
@pytest.mark.parametrize("n_distinct", [1, 3])
@pytest.mark.parametrize("init", ["auto", "k-means++", "random"])
def test_fewer_distinct_points_than_clusters(n_distinct: int, init: str) -> None:
    x = np.repeat(np.arange(float(n_distinct))[:, None], 20, axis=0)
    result = kmeans(made(x, (7, len(x) - 7)), 5, init=init, rng=0)
    assert result.inertia == 0
    assert np.count_nonzero(result.counts) == n_distinct


@pytest.mark.parametrize("scale", [1e300, 1e-300])
def test_values_whose_squares_leave_the_range(scale: float) -> None:
    x = blobs(spread=2.0)
    result = kmeans(made(x * scale, CHUNKS["uneven"]), 4, rng=0, tol=1e-3)
    expected = kmeans(made(x, CHUNKS["uneven"]), 4, rng=0, tol=1e-3)
    assert result.n_iter == expected.n_iter
    np.testing.assert_allclose(result.centroids / scale, expected.centroids)


@pytest.mark.filterwarnings("ignore:Some clusters are empty")
@pytest.mark.parametrize("n", [40, 4000])
def test_many_clusters_that_lose_their_points(n: int) -> None:
    """All start far away: relocation takes many points, whole groups of which lie equally far."""
    rng = np.random.default_rng(n)
    x = rng.integers(0, 4, size=(n, 3)).astype(float)
    start = np.concatenate([x[:1], np.full((19, 3), 1e3) + np.arange(19)[:, None]])
    for weights in (None, rng.integers(0, 3, size=n) + (np.arange(n) == 0)):
        expected = kmeans(x, 20, init=start, sample_weight=weights)
        same(kmeans(made(x, cut(n, rng)), 20, init=start, sample_weight=weights), expected)


def test_drawing_is_in_proportion_to_weight() -> None:
    """The rows that `init="random"` starts from, over many seeds: three points of weight 1, 2 and 5."""
    x, weights = np.asarray([[0.0], [1.0], [2.0], [9.0]]), np.asarray([1.0, 2.0, 5.0, 0.0])
    data, first = made(x, (1, 2, 1)), Counter()
    for seed in range(300):
        options: dict[str, Any] = {"init": "random", "n_init": 1, "max_iter": 1, "rng": seed}
        kmeans(data, 1, sample_weight=weights, callback=lambda *all: first.update([all[2][0, 0]]), **options)
    assert set(first) == {0.0, 1.0, 2.0}
    expected = 300 * weights[:3] / 8
    chi = sum((first[float(i)] - expected[i]) ** 2 / expected[i] for i in range(3))
    assert chi < 13.8  # exceeded once in a thousand by two degrees of freedom


@pytest.mark.parametrize("init", ["k-means||", "k-means++"])
def test_starts_are_as_good_as_numpys(init: str) -> None:
    """Inertia before the first iteration, over 20 seeds."""
    x = blobs(n=600, d=3, k=12, spread=0.2)
    potentials: dict[str, list[float]] = {"numpy": [], "dask": []}
    for seed in range(20):
        for name, data in (("numpy", x), ("dask", made(x, (100, 300, 200)))):

            def note(n_iter: int, inertia: float, _: Any, name: str = name) -> bool:
                potentials[name].append(inertia)
                return True

            kmeans(data, 12, init=init, n_init=1, rng=seed, callback=note)
    assert np.median(potentials["dask"]) <= 1.15 * np.median(potentials["numpy"])


class Reads:
    """A Dask array whose blocks note when they are made."""

    def __init__(self, x: np.ndarray, chunks: tuple[int, ...]) -> None:
        self.counts: Counter[int] = Counter()
        edges = np.concatenate([[0], np.cumsum(chunks)])

        def read(i: int) -> np.ndarray:
            self.counts[i] += 1
            return x[edges[i] : edges[i + 1]]

        blocks = [
            da.from_delayed(dask.delayed(read, pure=False)(i), (m, x.shape[1]), dtype=x.dtype)
            for i, m in enumerate(chunks)
        ]
        self.array = da.concatenate(blocks)
        self.n = len(chunks)

    def each(self) -> int:
        """How often every block was read: all the same."""
        (count,) = {self.counts[i] for i in range(self.n)}
        self.counts.clear()
        return count


def test_how_often_data_are_read() -> None:
    """One pass for checks and first draws, one an iteration, one for the inertia; k-means|| makes six."""
    x = blobs(spread=2.0)
    reads = Reads(x, CHUNKS["even"])
    passes = {"random": 0, "k-means++": 0, "k-means||": 6}
    for init, n_passes in passes.items():
        result = kmeans(reads.array, 4, init=init, n_init=1, rng=0, persist=False)
        assert reads.each() == 1 + n_passes + result.n_iter + 1
        result = kmeans(reads.array, 4, init=init, n_init=1, rng=0, persist=True)
        assert reads.each() == 1
        kmeans(reads.array, 4, init=init, n_init=1, rng=0)
        assert reads.each() == 1  # for they fit
        result.labels.compute()
        assert reads.each() == 1
    result = kmeans(reads.array, 4, init=x[:4], persist=False)
    assert reads.each() == 2 + result.n_iter
    kmeans_plusplus(reads.array, 4)
    assert reads.each() == 1
    labels, distances = assign(reads.array, x[:4])
    assert not reads.counts
    dask.compute(labels, distances)
    assert reads.each() == 1
    mask = made(np.ones(60, bool), CHUNKS["even"])
    result = kmeans(reads.array[mask], 4, init=x[:4], persist=False)
    assert reads.each() == 3 + result.n_iter
    kmeans(reads.array[mask], 4, init=x[:4], persist=True)
    assert reads.each() == 1


@pytest.mark.parametrize(("together", "times"), [(1, 1), (3, 3)])
def test_how_often_a_batch_is_read(together: int, times: int) -> None:
    """Each problem reads the blocks that hold some of its rows."""
    counts: Counter[float] = Counter()

    def read(block: Any) -> Any:
        counts[block[0, 0, 0]] += 1
        return block

    x = np.stack([blobs(seed=s) for s in range(3)])
    batch = da.from_array(x, chunks=(together, 20, 2)).map_blocks(read, meta=np.empty((0, 0, 0)))
    kmeans(batch, 3, rng=0)
    assert len(counts) == 9 // together
    assert set(counts.values()) == {times}


def test_what_is_held_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the blocks nor what is left beside them outlive the call."""
    from xpmeans._kernels import dask as kernel

    x = blobs(n=30_000, d=4, spread=2.0)
    data = made(x, (10_000, 20_000)).map_blocks(np.copy)
    left: list[int] = []
    options: dict[str, Any] = {"init": x[:8], "persist": True}
    kmeans(data, 8, callback=lambda *_: left.append(len(kernel._beside)), **options)
    assert max(left) == 2
    assert not kernel._beside
    with pytest.raises(ZeroDivisionError):
        kmeans(data, 8, callback=lambda n_iter, *_: n_iter // (2 - n_iter) > 9, **options)
    assert not kernel._beside
    held = data.persist()
    kmeans(held, 8, **options)
    assert not kernel._beside
    with pytest.raises(ZeroDivisionError):
        kmeans(held, 8, callback=lambda n_iter, *_: n_iter // (2 - n_iter) > 9, **options)
    assert not kernel._beside
    kmeans_plusplus(held, 8)
    assert not kernel._beside


def test_what_a_cancelled_call_left_goes_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a worker, where nobody clears away what lies beside blocks that the caller has persisted."""
    from xpmeans._kernels import dask as kernel

    monkeypatch.setattr(kernel, "forget", lambda _: None)
    x = blobs(n=30_000, d=4, spread=2.0)
    held = made(x, (10_000, 20_000)).map_blocks(np.copy).persist()
    with pytest.raises(ZeroDivisionError):
        kmeans(held, 8, init=x[:8], callback=lambda n_iter, *_: n_iter // (2 - n_iter) > 9)
    assert len(kernel._beside) == 2
    kmeans(held, 8, init=x[:8], max_iter=2)
    assert not kernel._beside


def test_auto_looks_at_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from xpmeans._kernels import dask as kernel

    reads = Reads(blobs(), CHUNKS["even"])
    for mass, width in ((None, 0), (np.ones(60), 8)):
        needed = 60 * (2 * 8 + width + 24) * 2
        for free, held in ((needed, True), (needed - 1, False)):
            monkeypatch.setattr(kernel, "_memory", lambda client, free=free: float(free))
            result = kmeans(reads.array, 3, rng=0, sample_weight=mass)
            assert reads.each() == (1 if held else 8 + result.n_iter)


@pytest.mark.parametrize("persist", [True, False])
def test_what_is_left_beside_blocks_changes_no_bit(persist: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from xpmeans._kernels import dask as kernel

    x = blobs(n=40_000, d=8, k=12, spread=2.0, seed=3).astype(np.float32)
    options: dict[str, Any] = {"init": x[:12], "tol": 0, "max_iter": 25}
    data = made(x, (15_000, 5000, 20_000))
    expected = kmeans(data, 12, persist=persist, **options)
    monkeypatch.setattr(kernel, "left_beside", lambda *_: None)
    result = kmeans(data, 12, persist=True, **options)
    np.testing.assert_array_equal(result.centroids, expected.centroids)
    assert result.inertia == expected.inertia


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_what_a_seeding_keeps_changes_no_bit(scheduler: str, dtype: Any) -> None:
    """Of blocks that are held or read again, which need others or not, many small ones or few."""
    from xpmeans._kernels import dask as kernel

    x = np.round(blobs(n=4000, d=3, k=9, spread=1.0, seed=3), 1).astype(dtype)  # with copies, and ties
    data = made(x, (1500, 0, 500, 2000))
    options: dict[str, Any] = {"sample_weight": np.arange(4000) % 5, "rng": 5, "max_iter": 2}
    results = []
    for free, many in ((1e9, 256), (0.0, 256), (1e9, 1)):
        with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler=scheduler, num_workers=2):
            patch.setattr(kernel, "_memory", lambda _, free=free: free)
            patch.setattr(kernel, "MANY", many)
            for source in (data, da.from_array(x, chunks=(1000, 3)).rechunk(data.chunks)):
                for persist in (True, False):
                    result = kmeans(source, 9, persist=persist, **options)
                    results.append(cluster.bits(result))
    assert results == results[:1] * 12
    with dask.config.set(scheduler="processes", num_workers=2):
        assert dtype == np.float64 or cluster.bits(kmeans(data, 9, **options)) == results[0]


def test_how_many_candidates_points_are_compared_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the last round, if what was found before is kept; else all."""
    from xpmeans._kernels import dask as kernel

    x, compared = blobs(n=300, k=6, spread=1.0), []
    nearest = blocks._nearest

    def counting(part: Any, found: Any, books: Any, kinds: Any) -> Any:
        compared.append(sum(map(len, books[0 if found is None else found.n_books :])))
        return nearest(part, found, books, kinds)

    monkeypatch.setattr(blocks, "_nearest", counting)
    needed = 2 * 300 * (8 + 1) * 2  # a float64 and a number up to 60, twice, in half the memory
    for free, counts in ((needed, [1, *[12] * 5]), (needed - 1, [1, 13, 25, 37, 49, 61])):
        monkeypatch.setattr(kernel, "_memory", lambda _, free=free: float(free))
        compared.clear()
        kmeans(made(x, (100, 200)), 6, rng=0, n_init=1, persist=False, max_iter=1)
        assert compared == [count for count in counts for _ in range(2)]


def test_a_block_that_occurs_twice_with_other_weights() -> None:
    x = blobs(n=6000, d=4, k=8, spread=2.0)
    weights = np.concatenate([np.ones(6000), np.arange(6000.0)])
    block = made(x, (6000,)).persist()
    result = kmeans(da.concatenate([block, block]), 8, init=x[:8], sample_weight=weights, tol=0)
    same(result, kmeans(np.concatenate([x, x]), 8, init=x[:8], sample_weight=weights, tol=0))


posix = pytest.mark.skipif(sys.platform == "win32", reason="processes are killed by signals")


def on_cluster(scenario: str, folder: Path, limit: int = 240) -> Any:
    """What a scenario of `cluster.py` prints; a hang fails."""
    command = [sys.executable, cluster.__file__, scenario, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The result of the scenarios' call in one thread."""
    folder = str(tmp_path_factory.mktemp("blocks"))
    with dask.config.set(scheduler="synchronous"):
        options = {"init": cluster.start(folder), **cluster.OPTIONS}
        return cluster.bits(kmeans(cluster.points(folder), cluster.K, **options))


@pytest.mark.parametrize(
    ("scheduler", "persist"), [("threads", True), ("threads", False), ("processes", False)]
)
def test_schedulers_change_no_bit(
    scheduler: str, persist: bool, undisturbed: list[Any], tmp_path: Path
) -> None:
    options = {"init": cluster.start(str(tmp_path)), **cluster.OPTIONS}
    if scheduler == "processes":
        options["max_iter"] = 3  # which are started anew for each pass
    with dask.config.set(scheduler=scheduler, num_workers=2):
        result = kmeans(cluster.points(str(tmp_path)), cluster.K, persist=persist, **options)
    if scheduler == "processes":
        undisturbed = cluster.bits(kmeans(cluster.points(str(tmp_path)), cluster.K, **options))
    assert cluster.bits(result) == undisturbed


@posix
def test_a_cluster_changes_no_bit_and_keeps_nothing(undisturbed: list[Any], tmp_path: Path) -> None:
    found = on_cluster("bits_on_a_cluster", tmp_path)
    ways = ("persist=True", "persist=False", "persist=auto", "packed, persist=True", "packed, persist=False")
    assert found["runs"] == dict.fromkeys(ways, undisturbed)
    seeded = kmeans(cluster.points(str(tmp_path)), cluster.K, rng=3, **cluster.OPTIONS)
    assert found["seeded"] == [cluster.bits(seeded)] * 6
    assert found["left"] == [0, 0, 0]
    assert {"kmeans-check", "kmeans-seed", "kmeans-weigh", "kmeans-step", "kmeans-step-sum"} <= set(
        found["names"]
    )


@posix
def test_a_worker_killed_in_an_iteration_changes_no_bit(undisturbed: list[Any], tmp_path: Path) -> None:
    found = on_cluster("killed_worker", tmp_path)
    for persist in (True, False):
        assert found["runs"][f"persist={persist}"] == {"bits": undisturbed, "gone": 1}
    assert found["left"] == [0, 0, 0]


@posix
def test_a_worker_killed_while_seeding_changes_no_bit(tmp_path: Path) -> None:
    found = on_cluster("killed_while_seeding", tmp_path)
    expected = cluster.bits(kmeans(cluster.points(str(tmp_path)), cluster.K, rng=3, **cluster.OPTIONS))
    assert found == {"runs": [{"bits": expected, "gone": 1}] * 3, "left": [0, 0, 0]}


@posix
def test_a_seeding_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    found = on_cluster("failed_while_seeding", tmp_path)
    assert found == {"failed": ["OSError", 0, 0, 0], "interrupted": ["KeyboardInterrupt", 0, 0, 0]}


@posix
def test_an_interrupted_call_leaves_nothing_behind(tmp_path: Path) -> None:
    assert on_cluster("cancelled", tmp_path) == {"left": [0, 0, 0], "at": True}


def test_many_small_blocks_are_served_together() -> None:
    """One task for sixteen of them, with the same bits as one for each."""
    from xpmeans._kernels import dask as kernel

    x, weights = blobs(n=1200, spread=2.0), np.arange(1200.0)
    data = made(x, (4,) * 300).map_blocks(np.copy)
    tasks: list[int] = []

    def get(graph: Any, keys: Any, **options: Any) -> Any:
        if isinstance(graph, dict):
            tasks.append(sum("kmeans-step" in str(key) for key in graph))
        return dask.get(graph, keys, **options)

    results = []
    for many in (kernel.MANY, 301):
        for persist in (True, False):
            with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler=get):
                patch.setattr(kernel, "MANY", many)
                options: dict[str, Any] = {"init": x[:4], "sample_weight": weights, "persist": persist}
                results.append(cluster.bits(kmeans(data, 4, **options)))
        assert max(tasks) == (23 if many == kernel.MANY else 323)
    assert results == results[:1] * 4


@posix
def test_a_killed_client_goes_on_from_its_checkpoint(undisturbed: list[Any], tmp_path: Path) -> None:
    command = [sys.executable, cluster.__file__, "noted", str(tmp_path)]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (tmp_path / "state.npz").exists()
    found = on_cluster("noted", tmp_path)
    assert found == {"bits": undisturbed, "seen": [5, 6, 7, 8, 9, 10], "file": False}


def some_rows(x: Any, k: int, rng: np.random.Generator) -> Any:
    """First centroids by a function of the caller."""
    return x[np.sort(rng.choice(x.shape[0], k, replace=False))]


@pytest.mark.parametrize("init", ["auto", "k-means++", "random", some_rows])
@pytest.mark.parametrize("at", [1, 2, 4, 5, 8])
def test_every_interruption_can_be_taken_up(init: Any, at: int, tmp_path: Path) -> None:
    """Also between runs, and without a seed for the draws still to come."""
    data, path = made(blobs(spread=2.0), CHUNKS["uneven"]), tmp_path / "state.npz"
    options: dict[str, Any] = {"init": init, "n_init": 3, "tol": 0, "max_iter": 4}
    expected = kmeans(data, 4, rng=2, **options)
    calls: list[int] = []

    def callback(*_: Any) -> None:
        calls.append(1)
        if len(calls) == at:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        kmeans(data, 4, rng=2, callback=callback, checkpoint=path, **options)
    result = kmeans(data, 4, checkpoint=str(path), **options)
    assert cluster.bits(result) == cluster.bits(expected)
    np.testing.assert_array_equal(result.counts, expected.counts)
    assert list(tmp_path.iterdir()) == []


def saved(array: Any) -> bytes:
    """An .npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_a_checkpoint_of_another_call_is_refused(tmp_path: Path) -> None:
    x, path = blobs(spread=2.0), tmp_path / "state.npz"
    data = made(x, CHUNKS["uneven"])

    def stop(*_: Any) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        kmeans(data, 4, callback=stop, checkpoint=path)
    for options, what in (({"metric": "cosine"}, "metric"), ({"tol": 0.5}, "tol"), ({"init": x[:4]}, "init")):
        with pytest.raises(ValueError, match=f"same call on the same points, but {what} is not what it is"):
            kmeans(data, 4, checkpoint=path, **options)
    with pytest.raises(ValueError, match="but points is not what it is"):
        kmeans(data * 2, 4, checkpoint=path)
    reads = Reads(x, CHUNKS["uneven"])
    with pytest.raises(ValueError, match="but n_clusters is not what it is"):
        kmeans(reads.array, 5, checkpoint=path)
    assert not reads.counts  # what needs no points is compared before a pass
    whole = path.read_bytes()
    for content in (b"no archive", whole[: len(whole) // 2], b"", saved(x)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"state.npz' is not a file that xpmeans has written"):
            kmeans(reads.array, 4, checkpoint=path)
        with pytest.raises(ValueError, match=r"state.npz' is not a file that xpmeans has written"):
            xpmeans.KMeansResult.load(path)
    with pytest.raises(TypeError, match="`checkpoint` must be a path or None, got 5"):
        kmeans(reads.array, 4, checkpoint=5)
    for place, what in ((tmp_path / "none" / "state.npz", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(ValueError, match=f"`checkpoint` must be a file that can be written.*{what}"):
            kmeans(reads.array, 4, checkpoint=place)
    assert not reads.counts
    with pytest.raises(ValueError, match=r"`checkpoint` is for Dask arrays, got a numpy array"):
        kmeans(x, 4, checkpoint=path)


@pytest.mark.parametrize("n_distinct", [1, 60])
def test_a_checkpoint_may_be_taken_up_with_other_blocks(n_distinct: int, tmp_path: Path) -> None:
    """Points whose mean is nothing but rounding, and points that are all equal."""
    path, x = tmp_path / "state.npz", blobs(spread=2.0)
    x = (x - x.mean(axis=0)) / x.std(axis=0) if n_distinct > 1 else np.full((60, 2), 0.1)

    def stop(*_: Any) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        kmeans(made(x, CHUNKS["uneven"]), 4, init=x[:4], callback=stop, checkpoint=path)
    with pytest.raises(ValueError, match="but points is not what it is"):
        kmeans(made(x + 1e-3, CHUNKS["even"]), 4, init=x[:4], checkpoint=path)
    with pytest.warns(UserWarning, match="empty") if n_distinct == 1 else contextlib.nullcontext():
        result = kmeans(made(x, CHUNKS["even"]), 4, init=x[:4], checkpoint=path)
        same(result, kmeans(made(x, CHUNKS["even"]), 4, init=x[:4]))


def test_results_are_saved_and_loaded(tmp_path: Path) -> None:
    x, path = blobs(spread=2.0), tmp_path / "result.npz"
    expected = kmeans(x, 4, rng=0)
    expected.save(path)
    loaded = xpmeans.KMeansResult.load(path)
    for found, wanted in zip(loaded, expected, strict=True):
        assert type(found) is type(wanted)
        np.testing.assert_array_equal(found, wanted)
    with np.load(path, allow_pickle=False) as arrays:
        assert set(arrays) == set(xpmeans.KMeansResult._fields)
    result = kmeans(made(x, CHUNKS["even"]), 4, rng=0)
    result.save(path)
    again = xpmeans.KMeansResult.load(path)
    assert again.labels is None
    np.testing.assert_array_equal(again.centroids, result.centroids)
    for data in (x, made(x, CHUNKS["even"])):
        assert kmeans(data, 4, init=again).n_iter == 1
    np.savez(path, centroids=x)
    with pytest.raises(ValueError, match="does not hold a result: it lacks inertia"):
        xpmeans.KMeansResult.load(path)
    np.savez(path, centroids=np.asarray([object()]))
    with pytest.raises(ValueError, match="is not a file that xpmeans has written"):
        xpmeans.KMeansResult.load(path)
    assert [file.name for file in tmp_path.iterdir()] == ["result.npz"]


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_a_result_goes_on_in_every_library(name: str, tmp_path: Path) -> None:
    xp = pytest.importorskip({"torch": "torch", "jax": "jax.numpy"}[name])
    x, path = blobs(spread=2.0).astype(np.float32), tmp_path / "result.npz"
    kmeans(made(x, CHUNKS["even"]), 4, rng=0).save(path)
    loaded = xpmeans.KMeansResult.load(path)
    there = kmeans(xp.asarray(x), 4, init=loaded)
    assert there.n_iter <= 2
    assert name in type(there.centroids).__module__
    for data in (x, made(x, CHUNKS["even"]), xp.asarray(x), x.tolist()):
        assert kmeans(data, 4, init=there).n_iter <= 2


def test_the_estimator() -> None:
    x = blobs(n=300, spread=1.0)
    data = made(x, (100, 0, 150, 50))
    weights = np.arange(300.0)
    for mass in (None, weights, 2.0, made(weights, (300,))):
        options: dict[str, Any] = {"sample_weight": mass}
        eager = {"sample_weight": weights if isinstance(mass, da.Array) else mass}
        model = KMeans(3, init=x[:3]).fit(data, **options)
        expected = KMeans(3, init=x[:3]).fit(x, **eager)
        np.testing.assert_allclose(model.cluster_centers_, expected.cluster_centers_)
        np.testing.assert_array_equal(np.asarray(model.labels_), expected.labels_)
        np.testing.assert_allclose(model.inertia_, expected.inertia_)
        assert model.n_iter_ == expected.n_iter_
        np.testing.assert_allclose(model.score(data, **options), expected.score(x, **eager))
    assert isinstance(model.cluster_centers_, np.ndarray)
    np.testing.assert_array_equal(model.predict(x), expected.predict(x))  # NumPy's arrays too
    lazy = {"predict": model.predict(data), "transform": model.transform(data), "labels_": model.labels_}
    for name, found in lazy.items():
        assert isinstance(found, da.Array), name
        assert found.chunks[0] == data.chunks[0], name
    np.testing.assert_allclose(np.asarray(lazy["transform"]), expected.transform(x))
    assert lazy["transform"].shape == (300, 3)
    np.testing.assert_array_equal(np.asarray(model.fit_predict(data)), model.predict(x))
    pickled = pickle.dumps(model)
    assert len(pickled) < x.nbytes
    again = pickle.loads(pickled)
    assert not hasattr(again, "labels_")  # whose graph holds the points
    np.testing.assert_array_equal(np.asarray(again.predict(data)), np.asarray(model.labels_))
    np.testing.assert_array_equal(again.to(dtype="float32").predict(x), model.predict(x))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_warm_start(metric: str) -> None:
    x = blobs(n=300, spread=1.0)
    data = made(x, (100, 200))
    model = KMeans(4, random_state=0, metric=metric).fit(data)
    for previous in (model, kmeans(data, 4, init=model.cluster_centers_, metric=metric)):
        again = KMeans(4, init=previous, metric=metric).fit(data)
        assert again.n_iter_ <= 2
        np.testing.assert_allclose(again.inertia_, model.inertia_, rtol=1e-3)


def test_minibatches_of_data_that_are_seen_once() -> None:
    x = blobs(n=300, spread=0.3)
    reads = Reads(x, (100, 50, 150))
    model = MiniBatchKMeans(3, random_state=0, compute_labels=False).partial_fit(reads.array)
    assert reads.each() == 1
    assert not hasattr(model, "inertia_")
    expected = MiniBatchKMeans(3, random_state=0)
    for rows in (slice(0, 100), slice(100, 150), slice(150, 300)):
        expected.partial_fit(x[rows])
    np.testing.assert_array_equal(model.cluster_centers_, expected.cluster_centers_)
    assert model.n_steps_ == 3
    weights = np.arange(300.0)
    model.set_params(compute_labels=True).partial_fit(reads.array, sample_weight=weights)
    assert reads.each() == 1
    for rows in (slice(0, 100), slice(100, 150), slice(150, 300)):
        expected.partial_fit(x[rows], sample_weight=weights[rows])
    np.testing.assert_array_equal(model.cluster_centers_, expected.cluster_centers_)
    np.testing.assert_array_equal(np.asarray(model.labels_), expected.predict(x))
    before, bad = dict(model.__dict__), x.copy()
    bad[280] = np.nan
    with pytest.raises(ValueError, match="must not contain NaN"):
        model.partial_fit(made(bad, (100, 200)))
    assert model.__dict__ == before  # which a batch that fails leaves alone


@pytest.mark.parametrize("init", ["k-means++", "random", "given"])
@pytest.mark.parametrize("chunks", [(60, 0, 140, 400), (600,), (1,) * 20 + (580,)])
def test_minibatches_of_all_blocks(init: str, chunks: tuple[int, ...]) -> None:
    """Drawn from the whole, by row number: the blocks change nothing."""
    x = blobs(n=600, spread=0.3)
    start = x[:3] if init == "given" else init
    options: dict[str, Any] = {
        "random_state": 1,
        "batch_size": 50,
        "tol": 1e-4,
        "n_init": 1 if init == "given" else 3,
    }
    weights = np.arange(600) % 4
    for mass in (None, weights):
        model = MiniBatchKMeans(3, init=start, **options).fit(made(x, chunks), sample_weight=mass)
        whole = MiniBatchKMeans(3, init=start, **options).fit(made(x, (600,)), sample_weight=mass)
        np.testing.assert_allclose(model.cluster_centers_, whole.cluster_centers_)
        best = KMeans(3, random_state=0, n_init=5).fit(x, sample_weight=mass)
        assert init != "k-means++" or model.inertia_ < 1.2 * best.inertia_
        np.testing.assert_allclose(model.inertia_, -whole.score(x, sample_weight=mass))
        assert isinstance(model.labels_, da.Array)
    lean = MiniBatchKMeans(3, compute_labels=False, init=start, **options)
    masked = made(x, chunks)[made(np.ones(600, bool), chunks)]
    assert lean.fit(masked, sample_weight=weights).inertia_ > 0


@pytest.mark.filterwarnings("ignore:Some clusters are empty")
@pytest.mark.parametrize("seed", range(8))
def test_relocation_by_few_points_at_a_time(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One point a pass, of many that are equally far: it takes more passes and finds the same."""
    monkeypatch.setattr(table, "FARTHEST_LEAST", 1)
    monkeypatch.setattr(table, "FARTHEST", 1)
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.integers(-2, 3, size=(200, 2)), np.zeros((20, 2))]).astype(float)
    start = np.concatenate([np.zeros((1, 2)), np.full((9, 2), 50.0) + np.arange(9)[:, None]])
    weights = rng.integers(0, 3, size=220) + (np.arange(220) == 0)
    expected = kmeans(x, 10, init=start, sample_weight=weights)
    same(kmeans(made(x, cut(220, rng)), 10, init=start, sample_weight=weights), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_ways_to_add_up_agree(dtype: str, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled, without a compiler, and for arrays that are not in host memory."""
    rng = np.random.default_rng(0)
    x = (10 * rng.normal(size=(200_000, 3))).astype(dtype)
    labels = rng.integers(5, size=len(x)).astype(np.int32)
    mass = rng.random(len(x)) if weighted else None
    wide, weights = x.astype(float), np.ones(len(x)) if mass is None else mass
    expected = np.stack([(wide * weights[:, None])[labels == c].sum(axis=0) for c in range(5)])
    problem = blocks.part_of(blocks.Frame(5, "euclidean", None), x, None).problem
    results = [tally.tally(problem, mass, labels), tally._products(problem, mass, labels)]
    monkeypatch.setattr(tally, "compiler_found", lambda: False)
    results.append(tally.tally(problem, mass, labels))
    for sums, counts in results:
        np.testing.assert_allclose(sums, expected, rtol=1e-9, atol=1e-7)
        np.testing.assert_allclose(counts, np.bincount(labels, weights), rtol=1e-12)


def other_library(name: str, x: Any, chunks: tuple[int, ...]) -> Any:
    """A Dask array whose blocks are arrays of torch or JAX."""
    xp = pytest.importorskip({"torch": "torch", "jax": "jax.numpy"}[name])
    return made(x, chunks).map_blocks(xp.asarray, meta=np.empty((0, 0), x.dtype), dtype=x.dtype)


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_blocks_of_another_library(name: str) -> None:
    x = blobs(n=300, spread=2.0).astype(np.float32)
    data = other_library(name, x, (100, 0, 200))
    weights = np.arange(300.0)
    for mass in (None, weights):
        expected = kmeans(x, 4, init=x[:4], sample_weight=mass)
        for persist in (True, False):
            result = kmeans(data, 4, init=x[:4], sample_weight=mass, persist=persist)
            np.testing.assert_allclose(result.centroids, expected.centroids, rtol=1e-5)
            same_blocks(name, result.labels, expected.labels)
    for found, wanted in zip(assign(data, x[:4]), assign(x, x[:4]), strict=True):
        same_blocks(name, found, wanted)
    model = KMeans(4, init=x[:4]).fit(x)
    same_blocks(name, model.predict(data), model.predict(x))
    same_blocks(name, model.transform(data), model.transform(x))
    np.testing.assert_allclose(model.score(data), model.score(x), rtol=1e-5)
    stream, eager = MiniBatchKMeans(4, random_state=0), MiniBatchKMeans(4, random_state=0)
    for _ in range(2):
        stream.partial_fit(data, sample_weight=weights)
        for rows in (slice(0, 100), slice(100, 300)):
            eager.partial_fit(x[rows], sample_weight=weights[rows])
        assert isinstance(stream.cluster_centers_, np.ndarray)
        np.testing.assert_allclose(stream.cluster_centers_, eager.cluster_centers_, rtol=1e-4)
        same_blocks(name, stream.labels_, eager.predict(x))


def same_blocks(name: str, found: Any, expected: Any) -> None:
    """Blocks of that library which hold these numbers."""
    parts = dask.compute(*found.to_delayed().ravel())
    assert all(name in type(part).__module__ for part in parts)
    np.testing.assert_allclose(np.concatenate([np.asarray(part) for part in parts]), expected, rtol=1e-5)
