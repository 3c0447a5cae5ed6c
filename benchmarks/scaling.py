"""Time against points, columns, clusters and threads, ours and scikit-learn's in one run.

    python -m benchmarks.scaling [--output benchmarks/results/scaling.md]

Ten iterations of Lloyd's algorithm on normal noise in float32, each time the best of several runs. A slope is
that of a straight line through the times on logarithmic axes: 1 where twice as much takes twice as long.
"""

import argparse
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import noise
from benchmarks.machine import best, destination, hardware
from benchmarks.peers import Run, sklearn_lloyd, xpmeans

RUNS: dict[str, Run] = {"xpmeans": xpmeans, "scikit-learn lloyd": sklearn_lloyd}
# What grows, its values, and the n, d, k of each.
AXES: dict[str, tuple[list[int], Any]] = {
    "points": ([100_000, 300_000, 1_000_000, 3_000_000, 10_000_000], lambda n: (n, 4, 16)),
    "columns": ([2, 4, 8, 16, 32, 64, 128, 256, 512, 1024], lambda d: (20_000, d, 64)),
    "clusters": ([8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096], lambda k: (50_000, 8, k)),
}
THREADED = (1_000_000, 8, 64)


def seconds(n: int, d: int, k: int) -> dict[str, float]:
    """Of ten iterations, by everybody."""
    x = noise(n, d).astype("float32")
    first = x[:: n // k][:k].copy()
    calls = [lambda run=run: run(x, first, 10) for run in RUNS.values()]
    best(calls, 1)  # loads and compiles what is needed
    return dict(zip(RUNS, best(calls, 3), strict=True))


def with_threads(count: int) -> dict[str, float]:
    """The same in a process of its own that has so many threads."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--threads-of", *map(str, THREADED)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(count)}
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    return dict(zip(RUNS, map(float, printed.split()), strict=True))


def slope(values: list[int], times: list[float]) -> float:
    """Of the line through the times on logarithmic axes."""
    return float(np.polyfit(np.log(values), np.log(times), 1)[0])


def draw(found: dict[str, tuple[list[int], list[dict[str, float]]]], path: Path) -> None:
    """A panel for each axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    for panel, (axis, (values, rows)) in zip(figure.subplots(1, len(found)), found.items(), strict=True):
        for name in RUNS:
            panel.loglog(values, [row[name] for row in rows], "o-", label=name)
        panel.set(xlabel=axis, ylabel="seconds" if axis == "points" else None)
        panel.grid(alpha=0.3)
    figure.axes[0].legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print the table, or write it and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=destination)
    parser.add_argument("--threads-of", nargs=3, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.threads_of:
        print(*seconds(*options.threads_of).values())
        return
    found = {axis: (values, [seconds(*shape(v)) for v in values]) for axis, (values, shape) in AXES.items()}
    counts = list(range(1, (os.cpu_count() or 1) + 1))
    found["threads"] = counts, [with_threads(count) for count in counts]
    names = list(RUNS)
    lines = [
        "# Scaling",
        "",
        f"{hardware()}. Made by `python -m benchmarks.scaling`.",
        "",
        f"| what grows | {' | '.join(f'{name}, ms' for name in names)} | slope | slope |",
        "|---|---|---|---|---|",
    ]
    for axis, (values, rows) in found.items():
        times = [[row[name] for row in rows] for name in names]
        slopes = [f"{slope(values, each):.2f}" if len(values) > 1 else "" for each in times]
        spans = [", ".join(f"{1e3 * t:.1f}" for t in each) for each in times]
        lines.append(f"| {axis}: {', '.join(f'{v:,}' for v in values)} | {' | '.join([*spans, *slopes])} |")
    print("\n".join(lines))
    if options.output:
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
        draw(found, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
