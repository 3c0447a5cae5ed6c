"""What machine this is, what it can do at most, and how much memory a process takes."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def destination(value: str) -> Path:
    """A file to write in the end, the folder of which is made before any work."""
    path = Path(value)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def hardware() -> str:
    """The processor and how many of its cores there are (Linux)."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{os.cpu_count()} cores of {name}"


def best(functions: list[Callable[[], object]], repeats: int, number: int = 1) -> list[float]:
    """Seconds of each function, best of `repeats`, taken in turn."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, taken in zip(functions, times, strict=True):
            start = time.perf_counter()
            for _ in range(number):
                function()
            taken.append((time.perf_counter() - start) / number)
    return [min(taken) for taken in times]


def product_rate(dtype: str) -> float:
    """Multiplications and additions a second in NumPy's product of two large square matrices."""
    a = np.ones((2048, 2048), dtype)
    (seconds,) = best([lambda: a @ a], 40)  # some seconds, to find a moment when the machine is not busy
    return 2048**3 / seconds


def status(key: str) -> int:
    """A figure of this process in KiB, as Linux tells it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def peak(function: Callable[[], object]) -> float:
    """MiB that a call adds to the memory of this process at its peak (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status("VmRSS")
    function()
    return (status("VmHWM") - before) / 1024
