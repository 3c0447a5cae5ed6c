"""Threads for compiled code that has let go of Python's lock.

Numba's own are not safe to use from several Python threads (workqueue) or after a fork (OpenMP), so these
are Python's. The calling thread works too, so a call ends also when all others are busy.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
    tasks = iter(range(n_tasks))  # `next` is atomic, for it never leaves C
    helpers = [_executor().submit(_work_off, work, tasks) for _ in range(min(count(), n_tasks) - 1)]
    try:
        _work_off(work, tasks)
    finally:
        for _ in tasks:  # none is begun any more, should one have raised
            pass
        for helper in helpers:
            if not helper.cancel():
                helper.result()


def _work_off(work: Callable[[int], None], tasks: Iterator[int]) -> None:
    for task in tasks:
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
