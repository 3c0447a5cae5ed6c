"""What each way to our own code costs beside another, in one run.

    python -m benchmarks.paths [--output benchmarks/results/paths.md]

Ten iterations from given centroids in float32, each time the best of several runs: tensors and JAX arrays in
turn with NumPy's, and then in turn the reference kernel against scikit-learn's lloyd, `jax.jit` against the
reference kernel, and `kmeans2` against SciPy's.
"""

import argparse
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.cases import cases
from benchmarks.machine import best, destination, hardware
from benchmarks.peers import reference, scipy, sklearn_lloyd, xpmeans, xpmeans_kmeans2

# n k d of a case above which the slowest would take minutes.
MUCH = 3e9


def jitted(k: int) -> Callable[..., Any]:
    """The same under `jax.jit`."""
    import jax

    import xpmeans as ours

    options = {"max_iter": 10, "tol": 0}
    function = jax.jit(lambda x, init: ours.kmeans(x, k, init=init, **options).centroids)
    return lambda x, init: function(x, init).block_until_ready()


def row(x: np.ndarray, init: np.ndarray) -> list[float]:
    """Seconds by everybody."""
    import jax.numpy as jnp
    import torch

    tensors = torch.asarray(x), torch.asarray(init)
    arrays = jnp.asarray(x), jnp.asarray(init)
    inputs: list[Callable[[], Any]] = [
        partial(xpmeans, x, init, 10),
        partial(xpmeans, *tensors, 10),
        partial(xpmeans, *arrays, 10),
    ]
    others: list[Callable[[], Any]] = [
        partial(reference, x, init, 10),
        partial(sklearn_lloyd, x, init, 10),
        partial(jitted(len(init)), *arrays),
        partial(xpmeans_kmeans2, x, init, 10),
        partial(scipy, x, init, 10),
    ]
    best(inputs + others, 1)  # loads and compiles what is needed
    once, *_ = best(inputs, 1)
    # Inputs differ by some per cent only: twenty runs of each, or two seconds, some of them undisturbed.
    return best(inputs, max(20, int(2 / once))) + best(others, 5)


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=destination)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    heads = ("torch / NumPy", "JAX / NumPy", "lloyd / reference", "reference / jit", "SciPy / kmeans2")
    lines = [
        "# Our own paths",
        "",
        f"{hardware()}. Ten iterations in float32. Made by `python -m benchmarks.paths`.",
        "",
        f"| case | NumPy, ms | {' | '.join(heads)} |",
        "|---|---|---|---|---|---|---|",
    ]
    ratios = []
    for case in cases():
        if case.x.dtype != np.float32 or case.n_iter != 10 or case.x.size * len(case.init) > MUCH:
            continue
        ours, torch, jax, plain, lloyd, jit, kmeans2, theirs = row(case.x, case.init)
        ratios.append((torch / ours, jax / ours, lloyd / plain, plain / jit, theirs / kmeans2))
        cells = " | ".join(f"{ratio:.2f}" for ratio in ratios[-1])
        lines.append(
            f"| {case.title.removesuffix(', float32, 10 iterations')} | {1e3 * ours:.1f} | {cells} |"
        )
        print(lines[-1], flush=True)
    for name, of in (
        ("geometric mean", lambda column: np.exp(np.mean(np.log(column)))),
        ("least", min),
        ("most", max),
    ):
        cells = " | ".join(f"{of(column):.2f}" for column in zip(*ratios, strict=True))
        lines.append(f"| {name} | | {cells} |")
    print("\n".join(lines[-3:]))
    if options.output:
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
