"""What the first call of a process waits for: Numba, the compiler, or code that is kept on disk.

    python -m benchmarks.first_call [--output benchmarks/results/first_call.md]

Each time in a fresh process, with an empty folder for what Numba keeps, and then with that folder filled. The
call is `kmeans` with its defaults on 60,000 x 3 points in float32, k = 64: it seeds, iterates and assigns.

Numba loads half of itself when it is imported, and the rest, with SciPy's linear algebra if that is there,
when it first compiles something or finds it on disk. Both are counted as loading Numba.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

from benchmarks.machine import destination, hardware

REPEATS = 3
NOTE = (
    f"Of {REPEATS} processes each, the one with the shortest first call. Loading Numba is its import, and "
    "what else it loads to compile or find code, which the first call would do. The second call is the work "
    "alone."
)

CALL = """
import json, sys, time
import numpy as np
import xpmeans
x = np.random.default_rng(0).random(({n}, 3)).astype("float32")
begun = time.perf_counter()
if {n} > 1000:
    from numba.core.registry import cpu_target
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()
loaded = time.perf_counter()
xpmeans.kmeans(x, {k}, rng=0)
first = time.perf_counter()
xpmeans.kmeans(x, {k}, rng=0)
second = time.perf_counter()
print(json.dumps([loaded - begun, first - loaded, second - first, "numba" in sys.modules]))
"""


def measured(n: int, k: int, folder: str) -> list[float]:
    """Seconds to load Numba, of the first call and of the second, and whether Numba was loaded."""
    code = CALL.format(n=n, k=k)
    environment = {**os.environ, "NUMBA_CACHE_DIR": folder, "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    found: list[float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=destination)
    options = parser.parse_args()
    lines = [
        "# The first call of a process",
        "",
        f"{hardware()}. Made by `python -m benchmarks.first_call`.",
        "",
        "| points | code on disk | loading Numba, s | first call, s | second call, s |",
        "|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        measured(60_000, 64, f"{folder}/bytecode")  # which is on disk from now on, as pip leaves it
        for n, k, kept in ((60_000, 64, "no"), (60_000, 64, "yes"), (100, 3, "not needed")):
            numba, first, second, loaded = min(
                (measured(n, k, f"{folder}/{i if kept == 'no' else 0}") for i in range(REPEATS)),
                key=lambda found: found[1],
            )
            shown = f"{numba:.2f}" if loaded else "not loaded"
            lines.append(f"| {n:,} x 3, k = {k} | {kept} | {shown} | {first:.3f} | {second:.4f} |")
    lines += ["", NOTE]
    print("\n".join(lines))
    if options.output:
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
