"""`kmeans2` beside SciPy's in one run: time, memory, import time and the cost of a small call.

    python -m benchmarks.against_scipy [--output benchmarks/results/NAME.md]

Times are the best of several runs, ours and SciPy's in turn. A busy machine slows the many small products
of ours more than SciPy's few large ones: run it on an idle one. Memory is what the process gains at its peak
over what it holds before the call.
"""

import argparse
import platform
import subprocess
import sys
import warnings
from typing import Any
from unittest.mock import patch

import numpy as np
from scipy.cluster.vq import kmeans2 as scipy_kmeans2

from benchmarks.machine import best, destination, hardware, peak
from xpmeans.vq import kmeans2

SIZES = [(270_000, 3, 16), (200_000, 16, 64), (100_000, 128, 256)]


def without_numba(*arguments: Any, **options: Any) -> Any:
    """Ours as it is where there is no compiler."""
    with patch("xpmeans._kernels.compiler_found", lambda: False):
        return kmeans2(*arguments, **options)


# Who takes part where the compiler matters.
EVERYBODY = (scipy_kmeans2, kmeans2, without_numba)
HEADS = "SciPy, s | xpmeans, s | ratio | without Numba, s | ratio |", "---|---|---|---|---|"


def cells(theirs: float, ours: float, plain: float) -> str:
    """Seconds, and ours over theirs."""
    return f"{theirs:.3f} | {ours:.3f} | {ours / theirs:.2f} | {plain:.3f} | {plain / theirs:.2f}"


def large() -> list[str]:
    """Ten iterations on three sizes."""
    lines = [f"| n x d, k | {HEADS[0]}", f"|---|{HEADS[1]}"]
    for n, d, k in SIZES:
        x = np.random.default_rng(0).standard_normal((n, d)).astype("float32")
        book = x[:k].copy()
        calls = [lambda f=f, x=x, b=book: f(x, b, minit="matrix") for f in EVERYBODY]
        lines.append(f"| {n} x {d}, {k} | {cells(*best(calls, 5))} |")
    return lines


def hard() -> list[str]:
    """Data that leave many points between two centroids, up to rounding; and very wide data."""
    lines = [f"| 2 iterations, float32 | {HEADS[0]}", f"|---|{HEADS[1]}"]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200_000, 8), dtype="float32")
    far, twins = x[:16].copy(), x[:16].copy()
    far[0], twins[8:] = 1e4, twins[:8]
    binary = (x > 0).astype("float32")
    sparse = np.where(rng.random(x.shape) < 0.05, x, 0).astype("float32")
    wide = rng.standard_normal((2000, 5000), dtype="float32")
    for name, data, book in (
        ("one far centroid", x, far),
        ("each centroid twice", x, twins),
        ("binary data", binary, binary[:16].copy()),
        ("mostly zeros", sparse, sparse[:16].copy()),
        ("2000 x 5000, k = 50", wide, wide[:50].copy()),
    ):
        calls = [lambda f=f, x=data, b=book: f(x, b, 2, minit="matrix") for f in EVERYBODY]
        with warnings.catch_warnings(action="ignore"):  # of empty clusters
            lines.append(f"| {name} | {cells(*best(calls, 5))} |")
    return lines


def small() -> list[str]:
    """A call so small that only its overhead counts."""
    lines = ["| minit | SciPy, us | xpmeans, us | ratio |", "|---|---|---|---|"]
    x = np.random.default_rng(0).standard_normal((100, 2))
    for minit, k in [("random", 3), ("points", 3), ("++", 3), ("matrix", x[:3].copy())]:
        calls = [lambda f=f, m=minit, k=k: f(x, k, minit=m, rng=0) for f in (scipy_kmeans2, kmeans2)]
        theirs, ours = (1e6 * t for t in best(calls, 15, number=100))
        lines.append(f"| {minit} | {theirs:.0f} | {ours:.0f} | {ours / theirs:.2f} |")
    return lines


def memory() -> list[str]:
    """Peak memory of one iteration on 400,000 x 32 float32 points with 2000 centroids, by library."""
    lines = ["| library | extra memory, MiB |", "|---|---|"]
    for library in ("numpy", "torch", "jax.numpy", "dask.array"):
        command = [sys.executable, "-m", "benchmarks.against_scipy", "--memory-of", library]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        value = result.stdout.strip() or result.stderr.strip().splitlines()[-1]
        lines.append(f"| {library} | {value} |")
    return lines


def memory_of(name: str) -> None:
    """In a process of its own: print how far one call raises the peak."""
    import importlib

    import xpmeans

    library = importlib.import_module(name)
    make = getattr(library, "from_numpy", library.asarray)
    points = np.random.default_rng(0).standard_normal((400_000, 32), dtype="float32")
    with xpmeans.array_api(True):
        kmeans2(make(points[:20_000]), make(points[:100].copy()), iter=1)  # load and compile what is needed
        data, book = make(points), make(points[:2000].copy())
        print(f"{peak(lambda: kmeans2(data, book, iter=1)):.0f}")


def imports() -> list[str]:
    """What `import xpmeans` adds to `import numpy`."""
    code = "import numpy, time; t = time.perf_counter(); import {}; print(1e3 * (time.perf_counter() - t))"
    lines = ["| import | added to NumPy, ms |", "|---|---|"]
    for name in ("xpmeans", "xpmeans.vq", "scipy.cluster.vq"):
        command = [sys.executable, "-c", code.format(name)]
        times = [float(subprocess.check_output(command, text=True)) for _ in range(9)]
        lines.append(f"| {name} | {min(times):.0f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=destination, help="write the tables there as well")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        memory_of(options.memory_of)
        return
    import scipy

    import xpmeans

    lines = [
        "# kmeans2 beside SciPy",
        "",
        f"xpmeans {xpmeans.__version__}, SciPy {scipy.__version__}, NumPy {np.__version__}, "
        f"Python {platform.python_version()}, {hardware()}. Made by `python -m benchmarks.against_scipy`.",
    ]
    for title, part in [
        ("10 iterations, float32, minit='matrix'", large),
        ("Hard data: 200,000 x 8, k = 16", hard),
        ("100 x 2 points, k = 3", small),
        ("400,000 x 32 float32 points, k = 2000 (n x k would be 3 GB)", memory),
        ("Import time", imports),
    ]:
        lines += ["", f"## {title}", "", *part()]
        print(f"{title}: done", file=sys.stderr)
    print("\n".join(lines))
    if options.output:
        options.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
