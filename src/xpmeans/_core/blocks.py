"""Points that are never in one place: what is found out about some of them, and how that is put together.

Everything here is a value in NumPy, small whatever the number of points, with a method ``joined(others)``
that takes in what was found out about the points that follow. Joined in one order, they give the same bits.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np


class Sums(NamedTuple):
    """What a step adds up."""

    sums: Any  # (k, d) of weighted points, times the scale
    counts: Any  # (k,) of weights
    inertia: float  # of weighted scaled squares, where asked for

    def joined(self, others: Sequence[Self]) -> Self:
        """Add others."""
        sums, counts, inertia = self.sums.copy(), self.counts.copy(), self.inertia
        for other in others:
            sums += other.sums
            counts += other.counts
            inertia += other.inertia
        return self._replace(sums=sums, counts=counts, inertia=inertia)


class Quality(NamedTuple):
    """How well centroids serve."""

    inertia: float  # sum of weighted scaled squares
    sizes: Any  # (k,) points of each cluster, whatever their weights

    def joined(self, others: Sequence[Self]) -> Self:
        """Add others."""
        inertia, sizes = self.inertia, self.sizes.copy()
        for other in others:
            inertia += other.inertia
            sizes += other.sizes
        return self._replace(inertia=inertia, sizes=sizes)


class Moments(NamedTuple):
    """Mean and spread of weighted points, each times a power of two that keeps it in range."""

    total: float  # of weights, over `size`
    mean: Any  # (d,) of points, times `scale`
    spread: float  # of squared distances from the mean, times `scale` squared, over `size`
    scale: float
    size: float

    def at(self, scale: float, size: float) -> Self:
        """The same with other powers of two."""
        by, less = scale / self.scale, self.size / size
        spread = self.spread * by * by * less
        return self._replace(
            total=self.total * less, mean=self.mean * by, spread=spread, scale=scale, size=size
        )

    def joined(self, others: Sequence[Self]) -> Self:
        """Take in others (Chan, Golub and LeVeque, "Updating formulae", 1979)."""
        scale = min(part.scale for part in (self, *others))
        size = max(part.size for part in (self, *others))
        total, mean, spread, *_ = self.at(scale, size)
        for other in others:
            weight, center, other_spread, *_ = other.at(scale, size)
            if weight:
                share = weight / (total + weight)
                apart = center - mean
                mean = mean + apart * share
                spread += other_spread + float(apart @ apart) * total * share
                total += weight
        return self._replace(total=total, mean=mean, spread=spread, scale=scale, size=size)


class Drawn(NamedTuple):
    """Rows that were drawn, in the order in which they came up."""

    times: Any  # (m,) ascending
    rows: Any  # (m,) int64
    points: Any  # (m, d)
    size: int  # how many are to be drawn

    def joined(self, others: Sequence[Self]) -> Self:
        """The first `size` of all."""
        times, rows, points = (np.concatenate([part[i] for part in (self, *others)]) for i in range(3))
        order = np.lexsort((rows, times))[: self.size]
        return self._replace(times=times[order], rows=rows[order], points=points[order])


def draw(key: int, turn: int, first: int, mass: Any, points: Any, size: int) -> Drawn:
    """Draw up to `size` rows without putting any back, in proportion to `mass`.

    A race: each row comes up after a random time, exponential with rate `mass` (Efraimidis and Spirakis,
    "Weighted random sampling with a reservoir", 2006). The time comes from a generator that counts (Salmon
    et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), and its count is the number of the row in
    the whole table: the rows drawn do not depend on how the table is cut.
    """
    n, early = mass.shape[0], first % 4  # the generator makes four numbers at a count
    counter = (turn << 128) + first // 4
    uniforms = np.random.Generator(np.random.Philox(key=key, counter=counter)).random(n + early)[early:]
    drawn = np.flatnonzero(mass > 0)
    with np.errstate(over="ignore"):  # a time beyond all numbers for a tiny mass: last of all
        times = -np.log1p(-uniforms[drawn]) / mass[drawn]
    if drawn.shape[0] > size:
        some = np.flatnonzero(times <= np.partition(times, size - 1)[size - 1])
        drawn, times = drawn[some], times[some]
    order = np.argsort(times, kind="stable")[:size]
    rows = drawn[order]
    return Drawn(times[order], rows + first, points[rows], size)


class Look(NamedTuple):
    """What is to be known before the first iteration."""

    largest: float  # magnitude of points
    finite: bool
    zero_row: int  # the first of length zero, or -1
    least: float  # of weights
    most: float
    weights_finite: bool
    moments: Moments | None
    drawn: tuple[Drawn, ...]  # for each run

    @property
    def sound(self) -> bool:
        """Whether there is nothing to object to."""
        return self.finite and self.weights_finite and self.zero_row < 0 and self.least >= 0

    def joined(self, others: Sequence[Self]) -> Self:
        """Take in others."""
        parts = (self, *others)
        moments = [part.moments for part in parts if part.moments is not None]
        whole = all(part.sound for part in parts)
        return self._replace(
            largest=max(part.largest for part in parts),
            finite=all(part.finite for part in parts),
            zero_row=next((part.zero_row for part in parts if part.zero_row >= 0), -1),
            least=min(part.least for part in parts),
            most=max(part.most for part in parts),
            weights_finite=all(part.weights_finite for part in parts),
            moments=moments[0].joined(moments[1:]) if whole and moments else None,
            drawn=tuple(
                first.joined(rest) for first, *rest in zip(*(part.drawn for part in parts), strict=True)
            )
            if whole
            else (),
        )


class Far(NamedTuple):
    """The points farthest from their centroids, in the order of their rows; copies count as one."""

    squares: Any  # (m,) scaled
    rows: Any
    points: Any  # (m, d)
    mass: Any  # of all copies
    labels: Any
    floor: float  # no other point is farther
    size: int

    def joined(self, others: Sequence["Far"]) -> "Far":
        """The farthest of all; of equal ones the first."""
        parts = (self, *others)
        squares, rows, points, mass, labels = (np.concatenate([part[i] for part in parts]) for i in range(5))
        floor = max(part.floor for part in parts)
        return farthest(squares, rows, points, mass, labels, floor, self.size)


def farthest(squares: Any, rows: Any, points: Any, mass: Any, labels: Any, floor: float, size: int) -> Far:
    """Up to `size` of some points, which come in the order of their rows."""
    _, some, group = np.unique(points, axis=0, return_index=True, return_inverse=True)
    whole = np.zeros_like(mass)
    whole[some] = np.bincount(group.reshape(-1), mass, some.shape[0])
    some, mass = np.sort(some), whole
    if some.shape[0] > size:
        by_square = some[np.argsort(-squares[some], kind="stable")]
        floor = max(floor, float(squares[by_square[size]]))
        some = np.sort(by_square[:size])
    return Far(squares[some], rows[some], points[some], mass[some], labels[some], floor, size)
