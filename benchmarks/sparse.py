"""Whether sparse input would be worth its code: scikit-learn on CSR beside xpmeans on the same points, dense.

    python -m benchmarks.sparse > benchmarks/results/sparse.md

10 iterations from the same first centroids, float64, k = 20; best of 3 taken in turn. Memory is what a call
takes at its peak beyond the CSR matrix, each in a process of its own: for xpmeans the dense points as well.
"""

import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
import sklearn
from sklearn.cluster import KMeans

import xpmeans
from benchmarks.machine import best, hardware, peak

K, CASES = 20, [(20_000, 1000, 0.01), (20_000, 1000, 0.1), (20_000, 200, 0.1), (50_000, 5000, 0.002)]


def calls(n: int, d: int, density: float) -> dict[str, Callable[[], Any]]:
    """The same work done by each."""
    x = sp.random_array((n, d), density=density, format="csr", random_state=np.random.default_rng(0))
    first, options = x[:K].toarray(), {"n_init": 1, "max_iter": 10, "tol": 0}
    return {
        name: lambda kind=kind, convert=convert: kind(K, init=first, **options).fit(convert(x))
        for name, kind, convert in (
            ("scikit-learn, CSR", KMeans, lambda x: x),
            ("xpmeans, dense", xpmeans.KMeans, lambda x: x.toarray()),
        )
    }


def taken(*case: Any) -> list[float]:
    """MiB at the peak of each call, in a process of its own."""
    names = calls(100, 100, 0.1)
    code = "import sys; from benchmarks.sparse import alone; print(alone(*sys.argv[1:]))"
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, case)]
    return [float(subprocess.check_output([*command, name], text=True)) for name in names]


def alone(n: str, d: str, density: str, name: str) -> float:
    """MiB at the peak of one call, after a small one that loads what is needed."""
    calls(2000, 100, 0.1)[name]()
    return peak(calls(int(n), int(d), float(density))[name])


def main() -> None:
    """Print a table."""
    warnings.simplefilter("ignore")  # 10 iterations leave some without convergence
    print(f"# Sparse points beside dense ones\n\nxpmeans {xpmeans.__version__}, scikit-learn", end=" ")
    print(f"{sklearn.__version__}, {hardware()}. Made by `python -m benchmarks.sparse`.\n")
    print("| n x d | values set | scikit-learn, CSR, s | xpmeans, dense, s | ratio | MiB | MiB |")
    print("|---|---|---|---|---|---|---|")
    for case in CASES:
        seconds = best(list(calls(*case).values()), 3)
        memory = taken(*case)
        n, d, density = case
        cells = [f"{n} x {d}", f"{density:.1%}", *(f"{s:.2f}" for s in seconds)]
        cells += [f"{seconds[1] / seconds[0]:.1f}", *(f"{m:.0f}" for m in memory)]
        print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
