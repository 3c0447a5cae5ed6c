"""What it costs to sum the points of each cluster, by library and by how it is done.

The kernels do what is fastest here under `jit`, and for NumPy, which reads PyTorch's and JAX's arrays in host
memory.

    python -m benchmarks.sums [--output benchmarks/results/sums.md]

Random labels, points in float32, sums in float64 or for JAX, which has none by default, in float32. Best of
several runs, everybody's in turn.
"""

import argparse
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import array_api_compat.numpy as np
import array_api_compat.torch as torch
import jax
import jax.numpy as jnp

from benchmarks.machine import best, destination, hardware

Way = Callable[[Any, Any], Any]

# Points, columns, clusters.
SHAPES = [
    *((65_536, 4, 16), (16_384, 16, 64), (8192, 8, 256), (2048, 4, 4096), (4096, 128, 256)),
    *((4096, 1024, 64),),
]
WAYS = ["product", "cumulative sum", "reduceat", "gather", "the library's own"]


def product(xp: Any, dtype: Any, k: int, x: Any, labels: Any) -> Any:
    """Points by a matrix of zeros and ones."""
    members = xp.arange(k, dtype=labels.dtype)[:, None] == labels[None, :]
    return xp.astype(members, dtype) @ xp.astype(x, dtype)


def cumulated(xp: Any, dtype: Any, k: int, x: Any, labels: Any) -> Any:
    """Differences of cumulative sums of the sorted points, which lose digits."""
    order = xp.argsort(labels)
    running = xp.cumulative_sum(xp.astype(x[order, :], dtype), axis=0, include_initial=True)
    edges = xp.searchsorted(labels[order], xp.arange(k + 1, dtype=labels.dtype))
    return running[edges[1:], :] - running[edges[:-1], :]


def reduced(k: int, x: Any, labels: Any) -> Any:
    """Sums of the runs of the sorted points."""
    order = np.argsort(labels.astype(np.int16), kind="stable")
    ordered = labels[order]
    starts = np.flatnonzero(np.concat([[True], ordered[1:] != ordered[:-1]]))
    totals = np.zeros((k, x.shape[1]))
    totals[ordered[starts]] = np.add.reduceat(x[order].astype(float), starts, axis=0)
    return totals


def gathered(k: int, x: Any, labels: Any) -> Any:
    """The rows of each cluster, one after the other."""
    order = np.argsort(labels.astype(np.int16), kind="stable")
    ends = np.cumulative_sum(np.bincount(labels, minlength=k), include_initial=True)
    rows = (x[order[start:end]] for start, end in pairwise(ends))
    return np.stack([np.add.reduce(some, axis=0, dtype=float) for some in rows])


def counted(k: int, x: Any, labels: Any) -> Any:
    """A weighted count for each column."""
    wide = labels.astype(np.intp)
    return np.stack([np.bincount(wide, column, k) for column in x.astype(float).T], axis=1)


def index_added(k: int, x: Any, labels: Any) -> Any:
    """PyTorch's."""
    return torch.zeros((k, x.shape[1]), dtype=torch.float64).index_add_(0, labels, x.double())


def segments(k: int, x: Any, labels: Any) -> Any:
    """JAX's."""
    return jax.ops.segment_sum(x, labels, k)


def libraries(x: Any, labels: Any, k: int) -> dict[str, tuple[list[Way | None], tuple[Any, Any]]]:
    """For each library how it may be done, in the order of `WAYS`, and the arrays."""
    tensors, arrays = (torch.asarray(x), torch.asarray(labels)), (jnp.asarray(x), jnp.asarray(labels))
    common = [
        [partial(way, xp, dtype, k) for way in (product, cumulated)]
        for xp, dtype in ((np, np.float64), (torch, torch.float64), (jnp, jnp.float32))
    ]
    of_jax: list[Way | None] = [*common[2], None, None, partial(segments, k)]
    return {
        "NumPy": ([*common[0], *(partial(way, k) for way in (reduced, gathered, counted))], (x, labels)),
        "PyTorch": ([*common[1], None, None, partial(index_added, k)], tensors),
        "JAX": (of_jax, arrays),
        "JAX, `jit`": ([way and jax.jit(way) for way in of_jax], arrays),
    }


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=destination)
    options = parser.parse_args()
    lines = [
        "# How sums are made",
        "",
        f"{hardware()}. Nanoseconds for each number added. Made by `python -m benchmarks.sums`.",
        "",
        f"| points x columns, clusters | library | {' | '.join(WAYS)} |",
        "|---|---|" + len(WAYS) * "---|",
    ]
    rng = np.random.default_rng(0)
    for n, d, k in SHAPES:
        x, labels = rng.standard_normal((n, d), np.float32), rng.integers(0, k, n).astype(np.int32)
        expected = counted(k, x, labels)
        for library, (ways, arrays) in libraries(x, labels, k).items():
            calls = [partial(done, way, arrays) for way in ways if way is not None]
            for call in calls:
                np.testing.assert_allclose(np.asarray(call()), expected, atol=1e-2)
            seconds = iter(best(calls, 7))
            cells = ["" if way is None else f"{1e9 * next(seconds) / n / d:.1f}" for way in ways]
            lines.append(f"| {n:,} x {d}, {k} | {library} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    if options.output:
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


def done(way: Way, arrays: tuple[Any, Any]) -> Any:
    """Sums that are there, not only on the way."""
    sums = way(*arrays)
    return jax.block_until_ready(sums) if isinstance(sums, jax.Array) else sums


if __name__ == "__main__":
    main()
