"""What the tests do on a real cluster, in a process of their own: ``python cluster.py SCENARIO DIRECTORY``.

Each scenario prints one line of JSON. Whoever starts it sets a limit to its time.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np

from xpmeans import kmeans
from xpmeans._kernels import dask as kernel

N_BLOCKS, ROWS, D, K = 24, 4000, 6, 12
OPTIONS: dict[str, Any] = {"tol": 0, "max_iter": 10}


def block(number: int, folder: str) -> np.ndarray:
    """A block of points; a mark in the folder ends the process that makes it, or lets it fail."""
    mark = Path(folder, f"die-{number}")
    if mark.exists():
        mark.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    if Path(folder, f"fail-{number}").exists():
        raise OSError("This block cannot be read.")
    rng = np.random.default_rng(number)
    return rng.normal(size=(ROWS, D)) + 2 * rng.integers(3, size=(ROWS, 1))


def points(folder: str) -> Any:
    made = [dask.delayed(block, pure=False)(i, folder) for i in range(N_BLOCKS)]
    return da.concatenate([da.from_delayed(one, (ROWS, D), dtype=float) for one in made])


def start(folder: str) -> np.ndarray:
    return block(0, folder)[:K]


def bits(result: Any) -> list[Any]:
    """A result as text, to the last bit."""
    return [result.centroids.tobytes().hex(), float(result.inertia).hex(), result.n_iter, result.converged]


def left(client: Any) -> list[int]:
    """Futures of the client, tasks of the scheduler and what lies beside blocks, once all has settled."""
    count = "len(__import__('xpmeans._kernels.dask', fromlist=['_beside'])._beside)"
    for _ in range(100):
        tasks = client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))
        beside = sum(client.run(eval, count).values())
        found = [len(client.futures), tasks, beside]
        if not any(found):
            break
        time.sleep(0.1)
    return found


def bits_on_a_cluster(client: Any, folder: str) -> Any:
    """The same call in several ways, and what it leaves behind."""
    names: set[str] = set()

    def look(*_: Any) -> None:
        names.update(client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.task_prefixes)))

    runs = {
        f"persist={persist}": bits(kmeans(points(folder), K, init=start(folder), persist=persist, **OPTIONS))
        for persist in (True, False, "auto")
    }
    kernel.MANY = 1  # so that a task serves several blocks
    assert kernel.Blocks(points(folder))._together == kernel.FAN
    for persist in (True, False):
        result = kmeans(points(folder), K, init=start(folder), persist=persist, **OPTIONS)
        runs[f"packed, persist={persist}"] = bits(result)
    options = {"rng": 3, "callback": look, **OPTIONS}
    seeded = [bits(kmeans(points(folder), K, persist=persist, **options)) for persist in (True, False)]
    kernel.MANY = 256
    for data in (points(folder), points(folder).rechunk((ROWS // 2, D)).rechunk((ROWS, D))):
        seeded += [bits(kmeans(data, K, persist=persist, **options)) for persist in (True, False)]
    return {"runs": runs, "seeded": seeded, "left": left(client), "names": sorted(names)}


def killed_worker(client: Any, folder: str) -> Any:
    """A worker ends in the middle of an iteration: while it makes a block, and while it holds some."""
    found = {}
    for persist in (False, True):
        ended: list[int] = []

        def callback(n_iter: int, *_: Any, persist: bool = persist, ended: list[int] = ended) -> None:
            if n_iter == 4 and not ended:
                workers = client.run(os.getpid)
                ended.append(len(workers))
                if persist:
                    process = next(iter(workers.values()))
                    threading.Timer(0.02, os.kill, (process, signal.SIGKILL)).start()
                else:
                    Path(folder, "die-13").touch()

        before = set(client.run(os.getpid).values())
        data = points(folder)
        result = kmeans(data, K, init=start(folder), persist=persist, callback=callback, **OPTIONS)
        whole(client)
        gone = before - set(client.run(os.getpid).values())
        found[f"persist={persist}"] = {"bits": bits(result), "gone": len(gone)}
    return {"runs": found, "left": left(client)}


def whole(client: Any) -> None:
    """Wait for two workers, which are started again if killed: one whose start has not ended yet is not."""
    client.wait_for_workers(2)
    nannies = client.cluster.workers.values()
    while not all(nanny.is_alive() and nanny.status.name == "running" for nanny in nannies):
        time.sleep(0.1)


@contextmanager
def before_round(number: int, act: Callable[[], Any]) -> Iterator[None]:
    """Do something before a pass of k-means||, of which the sixth weighs."""
    fold, begun = kernel.Blocks.fold, []

    def acting(*arguments: Any) -> Any:
        begun.append(1)
        if len(begun) == number:
            act()
        return fold(*arguments)

    kernel.Blocks.fold = acting  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        kernel.Blocks.fold = fold  # type: ignore[method-assign]


def killed_while_seeding(client: Any, folder: str) -> Any:
    """A worker ends in a round of k-means||, or before, with what it kept of the rounds so far."""
    found = []

    def kill() -> None:
        os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

    for number, act in ((3, Path(folder, "die-13").touch), (4, kill), (6, kill)):
        before = set(client.run(os.getpid).values())
        with before_round(number, act):
            result = kmeans(points(folder), K, rng=3, persist=False, **OPTIONS)
        whole(client)
        gone = before - set(client.run(os.getpid).values())
        found.append({"bits": bits(result), "gone": len(gone)})
    return {"runs": found, "left": left(client)}


def failed_while_seeding(client: Any, folder: str) -> Any:
    """A block cannot be read any more, or Ctrl-C is pressed, in a round of k-means||."""
    found = {}

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    ways = {
        "failed": Path(folder, "fail-13").touch,
        "interrupted": lambda: signal.setitimer(signal.ITIMER_REAL, 0.05),
    }
    for name, act in ways.items():
        data = points(folder)
        if name == "interrupted":
            Path(folder, "fail-13").unlink()
            data = data.map_blocks(slowly, dtype=float)
        try:
            with before_round(3, act):
                kmeans(data, K, rng=3, persist=False, **OPTIONS)
        except (OSError, KeyboardInterrupt) as error:
            found[name] = [type(error).__name__, *left(client)]  # while its frames are still there
    return found


def slowly(x: np.ndarray) -> np.ndarray:
    """The same after a while."""
    time.sleep(0.02)
    return x


def cancelled(client: Any, folder: str) -> Any:
    """Ctrl-C in the middle of a call."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)

    def callback(n_iter: int, *_: Any) -> None:
        if n_iter == 2:
            signal.setitimer(signal.ITIMER_REAL, 0.05)

    options: dict[str, Any] = {"init": start(folder), "persist": True, "tol": 0, "max_iter": 10_000}
    try:
        kmeans(points(folder), K, callback=callback, **options)
    except KeyboardInterrupt as error:
        return {"left": left(client), "at": error.__traceback__ is not None}  # whose frames are still there
    return {"left": None}


def noted(client: Any, folder: str) -> Any:
    """A call that notes where it stands, and whose process is killed the first time."""
    first = not Path(folder, "state.npz").exists()
    seen: list[int] = []

    def callback(n_iter: int, *_: Any) -> None:
        seen.append(n_iter)
        if n_iter == 5 and first:
            os.kill(os.getpid(), signal.SIGKILL)

    path = Path(folder, "state.npz")
    options = {"init": start(folder), "checkpoint": path, "callback": callback, **OPTIONS}
    result = kmeans(points(folder), K, **options)
    return {"bits": bits(result), "seen": seen, "file": path.exists()}


def main() -> None:
    from distributed import Client, LocalCluster

    scenario, folder = sys.argv[1:]
    settings = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": "1 GiB", "dashboard_address": None}
    if scenario == "noted":
        with dask.config.set(scheduler="threads"):
            print(json.dumps(noted(None, folder)))
        return
    # A cluster gives up whom it misses 15 s after a kill, though it be for another kill.
    dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"})
    with LocalCluster(processes=True, **settings) as cluster, Client(cluster) as client:
        print(json.dumps(globals()[scenario](client, folder)))


if __name__ == "__main__":
    main()
