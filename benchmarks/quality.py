"""Inertia beside scikit-learn's on 30 data sets, for the same number of runs.

    python benchmarks/quality.py --output docs/quality.rst

Both start from greedy k-means++ and stop by their default rules; batches are small, so that the sets have
several. A row holds means over the seeds, divided by the least inertia that anybody found on the set, and how
often each found the least up to 0.01 %.
"""

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from sklearn import cluster, datasets

import xpmeans

SEEDS = 40


def problems() -> Iterator[tuple[str, np.ndarray, int]]:
    """Names, points and numbers of clusters."""
    for name in ("iris", "wine", "breast_cancer", "digits", "diabetes"):
        x = getattr(datasets, f"load_{name}")().data
        for k in (3, 10, 30):
            yield f"{name}", (x - x.mean(axis=0)) / np.where(x.std(axis=0) > 0, x.std(axis=0), 1), k
    rng = np.random.default_rng(0)
    for centres, d in ((5, 2), (20, 2), (20, 16), (100, 8)):
        x, _ = datasets.make_blobs(2000, d, centers=centres, random_state=0)
        yield f"{centres} blobs", x, centres
    for name, sizes in (("sizes 1 to 100", (1, 3, 10, 30, 100)), ("sizes 1 to 1000", (1, 10, 100, 1000))):
        parts = [rng.normal(size=(10 * m, 3)) + rng.uniform(-20, 20, size=3) for m in sizes]
        yield f"blobs of {name}", np.concatenate(parts), len(sizes)
    parts = [rng.normal(size=(300, 2)) * spread + rng.uniform(-9, 9, size=2) for spread in (0.1, 0.5, 1, 3)]
    yield "blobs of spread 0.1 to 3", np.concatenate(parts), 4
    x, _ = datasets.make_blobs(1500, 2, centers=6, random_state=1)
    yield "stretched blobs", x @ np.array([[0.6, -0.6], [-0.4, 0.85]]), 6
    yield "outliers", np.concatenate([x, rng.uniform(-60, 60, size=(40, 2))]), 10
    yield "duplicates", np.repeat(x[:200], 8, axis=0), 12
    yield "one cluster far away", np.concatenate([x, x[:50] + 1e4]), 7
    yield "integer grid", rng.integers(0, 8, size=(2000, 2)).astype(float), 16
    yield "uniform", rng.uniform(size=(3000, 2)), 50
    yield "two moons", datasets.make_moons(1000, noise=0.05, random_state=0)[0], 8
    yield "two circles", datasets.make_circles(1000, noise=0.05, factor=0.5, random_state=0)[0], 8


def row(name: str, x: np.ndarray, k: int, kind: str, options: dict[str, Any]) -> tuple[str, ...]:
    """Cells of one line."""
    found = []
    with warnings.catch_warnings(action="ignore"):
        for library in (xpmeans, cluster):
            models = (getattr(library, kind)(k, random_state=seed, **options) for seed in range(SEEDS))
            found.append([model.fit(x).inertia_ for model in models])
    least = min(map(min, found))
    means = [f"{np.mean(inertias) / least:.4f}" for inertias in found]
    hits = [str(sum(inertia <= least * 1.0001 for inertia in inertias)) for inertias in found]
    return name, str(len(x)), str(x.shape[1]), str(k), *means, *hits


def section(kind: str, options: dict[str, Any]) -> list[str]:
    """Lines of the page about one class."""
    head = ("data", "n", "d", "k", "xpmeans", "scikit-learn", "least found", "by scikit-learn")
    rows = []
    for problem in problems():
        rows.append(row(*problem, kind, options))
        print(kind, "  ".join(rows[-1]), flush=True)
    ratios = [float(cells[4]) / float(cells[5]) for cells in rows]
    given = ", ".join(f"{name}={value!r}" for name, value in options.items())
    summary = (
        f"``{kind}(k, {given})``: {len(rows)} data sets, {SEEDS} seeds each. xpmeans' mean inertia is "
        f"{np.exp(np.mean(np.log(ratios))):.4f} times that of scikit-learn {sklearn.__version__} on average "
        f"(geometric mean), from {min(ratios):.4f} to {max(ratios):.4f}."
    )
    print(summary)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    heading, *lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in (head, *rows)
    )
    return [kind, "-" * len(kind), "", summary, "", rule, heading, rule, *lines, rule, ""]


def main() -> None:
    """Print the tables, or write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--n-init", type=int, default=1)
    arguments = parser.parse_args()
    text = Path(__file__).read_text(encoding="utf-8").split('"""')[1].split("\n\n")[2].strip()
    page = ["Quality", "=======", "", text, ""]
    page += section("KMeans", {"n_init": arguments.n_init})
    page += section("MiniBatchKMeans", {"n_init": arguments.n_init, "batch_size": 128})
    if arguments.output is not None:
        arguments.output.write_text("\n".join(page), encoding="utf-8")


if __name__ == "__main__":
    main()
