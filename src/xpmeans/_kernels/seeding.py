"""Greedy k-means++ for eager arrays in host memory, compiled, on all cores.

A point is looked at only if a new centroid may be nearer to it than its own: not if these two are twice as
far from each other as the point is from its own (Elkan, "Using the triangle inequality to accelerate
k-means", ICML 2003, lemma 1). After a few centroids that is true of nearly all.
"""

from typing import Any

import numpy as np

from xpmeans._core import threads
from xpmeans._core.plan import strands
from xpmeans._kernels import draws
from xpmeans._kernels.compiled import compiled
from xpmeans._kernels.host import converted, dtype_of
from xpmeans._kernels.lanes import BYTES


class _Points:
    """Points, their chosen centroids, and what these leave of the inertia in each strand."""

    def __init__(self, x: Any, mass: Any, k: int, parts: tuple[slice, ...]) -> None:
        n, d = x.shape
        self.x, self.mass, self.parts = x, np.ascontiguousarray(mass), parts
        self.dtype = dtype_of(x)
        self.nearest, self.labels = np.full(n, np.inf), np.zeros(n, np.int32)
        self.centroids = np.zeros((k, d))
        self.left = np.empty(len(parts))

    def take(self, i: int, row: int) -> None:
        """Make a point the i-th centroid."""
        self.centroids[i] = self.x[row]
        safe = np.zeros((max(i, 1), 1))
        if i:
            compiled(draws.safe_from, "d")(self.centroids[i : i + 1], self.centroids, safe)
        lower = compiled(draws.lower, self.dtype.char)

        def work(t: int) -> None:
            rows = self.parts[t]
            self.left[t] = lower(
                *(converted(self.x[rows], self.dtype), self.mass[rows], self.centroids, i, safe[:, 0]),
                *(self.nearest[rows], self.labels[rows]),
            )

        threads.run(work, len(self.parts))

    def draw(self, uniforms: Any) -> Any:
        """Rows in proportion to mass times squared distance, or to mass where all distances are zero."""
        nearest, shares = self.nearest, self.left
        if not np.isfinite(shares).all() or not shares.any():  # before the first centroid, and after the last
            nearest = np.ones_like(nearest)
            shares = np.array([self.mass[rows].sum() for rows in self.parts])
        ends, pick, found = np.cumsum(shares), compiled(draws.pick, "d"), []
        last = int(np.searchsorted(ends, ends[-1]))
        for place in uniforms * ends[-1]:
            t = min(int(np.searchsorted(ends, place, side="right")), last)
            rows = self.parts[t]
            found.append(rows.start + pick(self.mass[rows], nearest[rows], place - (ends[t - 1] if t else 0)))
        return np.array(found)

    def potentials(self, i: int, candidates: Any) -> Any:
        """The inertia that each candidate would leave beside the first i centroids."""
        book, lanes = self.x[candidates].astype(np.float64), BYTES // 8
        k, d = book.shape
        padded = np.full((k + -k % lanes, d), np.inf)
        padded[:k] = book
        packed = padded.reshape(-1, lanes, d).transpose(0, 2, 1).reshape(-1)
        safe = np.empty((i, padded.shape[0]))
        compiled(draws.safe_from, "d")(book, self.centroids, safe)
        totals = np.empty((len(self.parts), padded.shape[0]))
        potentials = compiled(draws.potentials, self.dtype.char)

        def work(t: int) -> None:
            rows = self.parts[t]
            potentials(
                *(converted(self.x[rows], self.dtype), self.mass[rows], self.nearest[rows]),
                *(self.labels[rows], packed, safe, np.empty(lanes), totals[t]),
            )

        threads.run(work, len(self.parts))
        return totals.sum(axis=0)[:k]


def plus_plus(x: Any, mass: Any, uniforms: Any, tie: float) -> Any:
    """Row numbers (k,), chosen as `initial.plus_plus` chooses them; `mass` is not all zero."""
    k, n_candidates = uniforms.shape
    points = _Points(x, mass, k, strands(*x.shape, n_candidates, 4))  # in float64, whatever the points are
    points.left[:] = np.inf
    chosen = np.empty(k, np.int64)
    chosen[0] = points.draw(uniforms[0, :1])[0]
    points.take(0, chosen[0])
    for i in range(1, k):
        candidates = points.draw(uniforms[i])
        left = points.potentials(i, candidates)
        chosen[i] = candidates[np.argmax(left <= left.min() * (1 + tie))]
        points.take(i, chosen[i])
    return chosen
