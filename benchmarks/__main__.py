"""Exact k-means by xpmeans and by its peers, in one process, on the same points, centroids and iterations.

    python -m benchmarks [--output benchmarks/results/NAME.md] [--only WORD]

Times are the best of several runs; a run that takes long is made once. The inertia is that of the centroids
that come back, computed the same way for all. To convergence FAISS gets as many iterations as we needed: it
ends by its objective, not by labels. Memory is what a process gains at its peak in one run.
"""

import argparse
import platform
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version

import numpy as np

from benchmarks.cases import CONVERGENCE, Case, cases
from benchmarks.machine import best, destination, hardware, peak, product_rate
from benchmarks.peers import EXACT, MODULES, Run, inertia, missing, xpmeans

# Seconds of a run beyond which it is not repeated, and those that its repeats may take, four at least.
LONG = 2.0
ENOUGH = 1.0
# Multiplications beyond which the slowest sit out.
MUCH = 3e9
# Points of a run that loads and compiles what is needed.
FIRST = 20_000
# Points below which Python's share of the time is measured rather than the kernel's.
SMALL = 10_000


def runners(case: Case) -> dict[str, Run]:
    """Who takes part; those that cannot, or would take minutes, do not."""
    absent = set(missing())
    found = {"xpmeans": xpmeans, **{name: run for name, run in EXACT.items() if name not in absent}}
    if case.x.dtype != np.float32:
        found.pop("FAISS", None)
    if case.n_iter == CONVERGENCE:
        found.pop("SciPy", None)  # it has no rule to end early, and takes longest
    if case.x.size * len(case.init) > MUCH:
        found.pop("SciPy", None)
        found.pop("scikit-learn elkan", None)
    return found


def measured(case: Case, rates: dict[str, float]) -> tuple[list[str], float]:
    """A row for everybody who takes part, and how many times as long as ours the fastest peer's takes."""
    n_iter = case.n_iter
    if n_iter == CONVERGENCE:
        import xpmeans as ours

        result = ours.kmeans(case.x, len(case.init), init=case.init, max_iter=n_iter, tol=0)
        n_iter = result.n_iter
    names = list(runners(case))
    counts = [n_iter if name == "FAISS" else case.n_iter for name in names]
    found: dict[str, np.ndarray] = {}
    calls = [
        partial(kept, found, name, partial(run, case.x, case.init, count))
        for (name, run), count in zip(runners(case).items(), counts, strict=True)
    ]
    for run in runners(case).values():
        run(case.x[: max(FIRST, 50 * len(case.init))].copy(), case.init, 3)
    seconds = best(calls, 1)
    for i, first in enumerate(seconds):  # repeats in a row, for threads of others stay awake a while
        if first <= LONG:
            seconds[i] = min(first, *best([calls[i]], max(4, int(ENOUGH / first))))
    least = [inertia(case.x, found[name]) for name in names]
    memory = []
    for name, count in zip(names, counts, strict=True):
        command = [sys.executable, "-m", "benchmarks", "--memory-of", case.title, name, str(count)]
        memory.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    work = case.x.size * len(case.init) * n_iter
    rows = []
    for name, taken, reached, held in zip(names, seconds, least, memory, strict=True):
        share = work / taken / rates[case.x.dtype.name]
        rows.append(
            f"| {case.title if name == 'xpmeans' else ''} | {name} | {taken * 1e3:.1f} | "
            f"{taken / seconds[0]:.2f} | {reached / least[0]:.4f} | {held} | {share:.0%} |"
        )
    return rows, min(seconds[1:]) / seconds[0]


def kept(found: dict[str, np.ndarray], name: str, run: Callable[[], np.ndarray]) -> None:
    """Run, and note the centroids."""
    found[name] = run()


def memory_of(title: str, name: str, n_iter: int) -> None:
    """In a process of its own: print how far one run raises the peak."""
    case = next(case for case in cases() if case.title == title)
    run = runners(case)[name]
    run(case.x[: max(FIRST, 50 * len(case.init))].copy(), case.init, 3)
    print(f"{peak(lambda: run(case.x, case.init, min(n_iter, 3))):.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=destination, help="write the table there as well")
    parser.add_argument("--only", default="", help="cases whose title has this in it")
    parser.add_argument("--memory-of", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.memory_of:
        title, name, n_iter = options.memory_of
        memory_of(title, name, int(n_iter))
        return
    packages = ["xpmeans", "numpy", "numba", "scikit-learn", "scipy", "faiss-cpu"]
    absent = missing()
    if absent:
        packages = [
            name
            for name in packages
            if name.split("-")[0].replace("scikit", "sklearn") not in {MODULES[peer] for peer in absent}
        ]
    rates = {dtype: product_rate(dtype) for dtype in ("float32", "float64")}
    lines = [
        "# Exact k-means beside its peers",
        "",
        f"{', '.join(f'{name} {version(name)}' for name in packages)}, Python {platform.python_version()}, "
        f"{hardware()}. A large matrix product makes {rates['float32'] / 1e9:.0f} billion multiplications "
        f"and additions a second in float32, and {rates['float64'] / 1e9:.0f} in float64. The last column "
        "is the share of that which n k d an iteration come to; more than all where bounds save work.",
        *([f"Not installed here: {', '.join(absent)}."] if absent else []),
        "",
        "| case | library | time, ms | times ours | inertia / ours | memory, MiB | of product |",
        "|---|---|---|---|---|---|---|",
    ]
    ratios: dict[bool, list[float]] = {True: [], False: []}
    for case in cases():
        if options.only in case.title:
            rows, ratio = measured(case, rates)
            lines += rows
            ratios[len(case.x) >= SMALL].append(ratio)
            print("\n".join(rows), flush=True)
    for large, some in ratios.items():
        if some:
            mean = np.exp(np.mean(np.log(some)))
            size = f"{SMALL:,} points or more" if large else f"less than {SMALL:,} points"
            summary = (
                f"{len(some)} cases of {size}: the fastest peer of each takes {mean:.2f} times as long, in "
                f"the geometric mean; the least is {min(some):.2f}."
            )
            lines += ["", summary]
            print(summary)
    if options.output:
        options.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
