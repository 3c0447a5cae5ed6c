"""K-means on Dask: data larger than memory, a cluster of processes, many small blocks.

    python -m benchmarks.out_of_core [PART...] [--output benchmarks/results/dask.md]

with parts of: store, memory, slope, blocks, peer. Each prints one line of JSON a measurement, and holds what
it found against a limit; the exit status is 1 where one was missed. `store` and `slope` need zarr and 4 GB
of disk, under the folder that XPMEANS_SCALE names or a temporary one. Each comparison is made in one run.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import dask
import dask.array as da
import numpy as np

from benchmarks.machine import destination, hardware, status
from xpmeans import kmeans
from xpmeans._kernels.dask import Blocks

D, K = 16, 64
CHUNK = 1_000_000


class Figure(NamedTuple):
    """What was measured, and how much it may be."""

    what: str
    value: float
    limit: float


def say(**found: Any) -> None:
    print(json.dumps(found), flush=True)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and the result."""
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


def centres() -> np.ndarray:
    return 1.5 * np.random.default_rng(0).standard_normal((K, D), dtype="float32")


def some_points(number: int, n: int = CHUNK) -> np.ndarray:
    """One chunk of points around 64 centres that overlap."""
    rng = np.random.default_rng(number)
    x = centres()[rng.integers(K, size=n)]
    x += rng.standard_normal((n, D), dtype="float32")
    return x


def peak() -> float:
    """Most memory that this process has had, in MiB."""
    return status("VmHWM") / 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


@contextmanager
def cluster(memory: str = "1 GiB") -> Iterator[Any]:
    """Two workers, each a process with one thread."""
    from distributed import Client, LocalCluster

    settings = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": memory, "dashboard_address": None}
    with LocalCluster(processes=True, **settings) as workers, Client(workers) as client:
        yield client


@contextmanager
def passes() -> Iterator[list[tuple[str, float]]]:
    """Names and seconds of the passes made meanwhile."""
    found: list[tuple[str, float]] = []
    ways = {"total": Blocks.total, "fold": Blocks.fold}

    def timing(way: Callable[..., Any]) -> Callable[..., Any]:
        def work(self: Any, name: str, *arguments: Any) -> Any:
            seconds, result = timed(lambda: way(self, name, *arguments))
            found.append((name, round(seconds, 3)))
            return result

        return work

    for name, way in ways.items():
        setattr(Blocks, name, timing(way))
    try:
        yield found
    finally:
        for name, way in ways.items():
            setattr(Blocks, name, way)


def opened(folder: Path, n_chunks: int) -> Any:
    """A zarr store of that many chunks, made if it is not there."""
    import zarr

    path = folder / f"points-{n_chunks}.zarr"
    if not path.exists():
        store = zarr.create_array(
            *(str(path),), shape=(n_chunks * CHUNK, D), chunks=(CHUNK, D), dtype="float32", compressors=None
        )
        for i in range(n_chunks):
            store[i * CHUNK : (i + 1) * CHUNK] = some_points(i)
    return zarr.open_array(str(path), mode="r")


def read(store: Any) -> float:
    """The reading limit: every chunk once, one after the other, looked at by its first value."""
    return sum(float(store[i : i + CHUNK][0, 0]) for i in range(0, store.shape[0], CHUNK))


def store(folder: Path, n_chunks: int = 60) -> Iterator[Figure]:
    """60 million points on disk, two workers of 1 GiB."""
    array = opened(folder, n_chunks)
    read(array)  # so that all comparisons find the file in the same cache
    limit = min(timed(lambda: read(array))[0] for _ in range(3))
    say(part="store", rows=array.shape[0], bytes=array.nbytes, read_seconds=round(limit, 2))
    with cluster() as client:
        client.run(kmeans, some_points(0, 20_000), 8, max_iter=2)  # loads the compiled code
        before = set(client.run(os.getpid).values())
        forget_peak()
        client.run(forget_peak)
        data = da.from_zarr(array)
        for init in (some_points(0, K), "k-means||"):
            with passes() as found:
                seconds, result = timed(
                    lambda init=init: kmeans(data, K, init=init, rng=0, max_iter=5, tol=0)
                )
            name = init if isinstance(init, str) else "given centroids"
            ratio, restarts = seconds / limit / len(found), len(before - set(client.run(os.getpid).values()))
            workers = [round(mib) for mib in client.run(peak).values()]
            say(part="store", init=name, seconds=round(seconds, 2), passes=found, worker_mib=workers)
            case = f"60 million x 16 in zarr, 2 workers of 1 GiB, {result.n_iter} iterations, {name}"
            yield Figure(f"{case}: seconds of a pass over those of reading, {len(found)} passes", ratio, 2)
            yield Figure(f"{case}: most memory of the client, MiB", peak(), 500)
            yield Figure(f"{case}: workers restarted", restarts, 0)


def memory(_: Path) -> Iterator[Figure]:
    """8 million points in memory, two threads, against NumPy's path from the same start."""
    x = np.concatenate([some_points(i) for i in range(8)])
    start = some_points(9, K)
    kmeans(x[:200_000], K, init=start, max_iter=2)
    with dask.config.set(scheduler="threads", num_workers=2):
        data = da.from_array(x, chunks=(CHUNK // 2, D)).persist()
        kmeans(data[: 2 * CHUNK], K, init=start, max_iter=2)
        for max_iter in (5, 20):
            times: dict[str, list[float]] = {"numpy": [], "dask": [], "dask and labels": []}
            for _ in range(3):
                options = {"init": start, "tol": 0, "max_iter": max_iter}
                seconds, result = timed(lambda options=options: kmeans(data, K, **options))
                times["dask"].append(seconds)
                times["dask and labels"].append(seconds + timed(result.labels.compute)[0])
                times["numpy"].append(timed(lambda options=options: kmeans(x, K, **options))[0])
            best = {name: min(several) for name, several in times.items()}
            say(part="memory", rows=len(x), iterations=max_iter, best_of_3=best)
            for name in ("dask", "dask and labels"):
                what = f"8 million x 16 in memory, {max_iter} iterations: seconds of {name} over NumPy's"
                yield Figure(what, best[name] / best["numpy"], 1.3)


def slope(folder: Path) -> Iterator[Figure]:
    """Time of an iteration against the number of points, 1 to 60 million, read again in each pass."""
    sizes, seconds = (1, 2, 6, 20, 60), []
    array = opened(folder, 60)
    with cluster() as client:
        client.run(kmeans, some_points(0, 20_000), 8, max_iter=2)
        for n in sizes:
            data = da.from_zarr(array)[: n * CHUNK].rechunk((CHUNK // 4, D))
            with passes() as found:
                kmeans(data, K, init=some_points(0, K), tol=0, max_iter=4, persist=False)
            steps = [took for name, took in found if name == "step"]
            seconds.append(min(steps))
            say(part="slope", rows=n * CHUNK, iteration_seconds=steps)
    exponent = float(np.polyfit(np.log(np.asarray(sizes) * 1e6), np.log(seconds), 1)[0])
    yield Figure("seconds of an iteration, 1 to 60 million points: slope on log axes", exponent, 1.05)


def blocks(_: Path) -> Iterator[Figure]:
    """10,000 blocks of 100 points: what an iteration costs beside the work."""
    data = da.random.default_rng(0).normal(size=(1_000_000, 4), chunks=(100, 4))
    start = np.random.default_rng(0).normal(size=(8, 4))

    def measure(scheduler: str) -> Iterator[Figure]:
        for persist in (True, False):
            with passes() as found:
                kmeans(data, 8, init=start, tol=0, max_iter=5, persist=persist)
            steps = [took for name, took in found if name == "step"]
            per_block = float(np.median(steps)) * 1000 / 10_000
            held = "held in memory" if persist else "made in each pass"
            yield Figure(f"10,000 blocks {held}, {scheduler}: ms a block and iteration", per_block, 1)

    with dask.config.set(scheduler="threads", num_workers=2):
        yield from measure("threads")
    with cluster("2 GiB"):
        yield from measure("distributed")


def peer(_: Path) -> Iterator[Figure]:
    """dask-ml's KMeans on 8 million points in memory, from the same start, for as many iterations."""
    from dask_ml.cluster import KMeans

    data = da.concatenate([da.from_array(some_points(i), chunks=(CHUNK // 2, D)) for i in range(8)]).persist()
    start = some_points(9, K)
    with dask.config.set(scheduler="threads", num_workers=2):
        model = KMeans(K, init=start, max_iter=5, tol=0)
        ours = min(timed(lambda: kmeans(data, K, init=start, max_iter=5, tol=0))[0] for _ in range(3))
        theirs = min(timed(lambda: model.fit(data))[0] for _ in range(3))
    yield Figure("8 million x 16 in memory: our seconds over dask-ml's", ours / theirs, 1 / 3)


def _escaped(text: str) -> str:
    """For a cell of a Markdown table."""
    return text.replace("|", "\\|")


def main() -> int:
    """Measure, print, write."""
    parts = {part.__name__: part for part in (store, memory, slope, blocks, peer)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--output", type=destination)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(parts):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(os.environ.get("XPMEANS_SCALE", temporary))
        for name in options.parts or parts:
            for figure in parts[name](folder):
                say(**figure._asdict())
                figures.append(figure)
    lines = [
        "# Dask",
        "",
        f"{hardware()}. float32, k = 64 unless said otherwise. Made by `python -m benchmarks.out_of_core`.",
        "",
        "| what | measured | at most |",
        "|---|---|---|",
        *(f"| {_escaped(what)} | {value:.3g} | {limit:.3g} |" for what, value, limit in figures),
    ]
    if options.output:
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(not all(figure.value <= figure.limit for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
