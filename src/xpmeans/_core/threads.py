"""Threads for compiled code that has let go of Python's lock.

Numba's own are not safe to use from several Python threads (workqueue) or after a fork (OpenMP), so these
are Python's. The calling thread works too, so a call ends also when all others are busy, or there are none.
"""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import cache

_pool: ThreadPoolExecutor | None = None


@cache
def count() -> int:
    """How many threads to use: what the environment says at first, or as many as this process has cores."""
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "").partition(",")[0]
        if value.isdecimal() and int(value) > 0:
            return int(value)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(work: Callable[[int], None], n_tasks: int) -> None:
    """Call ``work(i)`` for each i below `n_tasks`, each from whichever thread is free."""
    if n_tasks == 1:
        work(0)
        return
    tasks = deque(range(n_tasks))  # safe to take from, by several threads at once
    helpers: list[Future[None]] = []
    try:
        with suppress(RuntimeError):  # no thread can be started, or Python shuts down: this one does it all
            for _ in range(min(count(), n_tasks) - 1):
                helpers.append(_executor().submit(_work_off, work, tasks))  # noqa: PERF401 - kept if one fails
        _work_off(work, tasks)
    finally:
        tasks.clear()  # none is begun any more, should one have raised
        begun = [helper for helper in helpers if not helper.cancel()]
        wait(begun)  # they write to the caller's arrays
    for helper in begun:
        helper.result()


def _work_off(work: Callable[[int], None], tasks: deque[int]) -> None:
    while True:
        try:
            task = tasks.popleft()
        except IndexError:
            return
        work(task)


def _executor() -> ThreadPoolExecutor:
    """The threads of this process, started when first needed."""
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(max_workers=max(1, count() - 1), thread_name_prefix="xpmeans")
    return _pool


def _forget() -> None:
    """After a fork there are no threads but one."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
