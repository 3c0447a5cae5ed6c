"""The points of one call, and what is asked of them in passes over all blocks.

What is decided from what comes back is decided here, in NumPy.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np

from xpmeans import _inputs, _solve
from xpmeans._core import initial
from xpmeans._core.blocks import Drawn, Far
from xpmeans._core.distances import squared_distances
from xpmeans._core.initial import OVERSAMPLING, ROUNDS
from xpmeans._core.precision import Reach, cast, measure, precision, scale_for
from xpmeans._core.problem import Problem, plan_for
from xpmeans._dispatch import dispatch
from xpmeans._kernels import flow_for
from xpmeans._lazy.blocks import (
    Frame,
    copies,
    far,
    look,
    spread_out,
    weigh,
)
from xpmeans._solve import Task

# Points that "k-means++" chooses from, as a multiple of k, and at least.
SAMPLE = 32
SAMPLE_LEAST = 4096
# Farthest points that a pass brings, for each cluster that lost its points, and at least.
FARTHEST = 4
FARTHEST_LEAST = 64


class Numbers(NamedTuple):
    """All random numbers of a run, drawn on the host before the work."""

    key: int  # of the generator that numbers rows
    thinning: Any  # (k, trials) for the greedy choice among few

    @classmethod
    def drawn(cls, source: np.random.Generator, k: int, trials: int | None = None) -> "Numbers":
        """Take them from the caller's generator."""
        low, high = source.integers(0, 1 << 64, size=2, dtype=np.uint64)
        return cls(int(low) | int(high) << 64, source.random((k, trials or 2 + int(math.log(k)))))

    @classmethod
    def packed(cls, numbers: "list[Numbers]") -> dict[str, Any]:
        """Those of all runs as arrays."""
        keys = [[each.key & (1 << 64) - 1, each.key >> 64] for each in numbers]
        return {
            "keys": np.asarray(keys, np.uint64),
            "thinning": np.asarray([each.thinning for each in numbers]),
        }

    @classmethod
    def unpacked(cls, arrays: dict[str, Any]) -> "list[Numbers]":
        """And back."""
        pairs = zip(arrays["keys"].tolist(), arrays["thinning"], strict=True)
        return [cls(low | high << 64, thinning) for (low, high), thinning in pairs]


def _digest(mean: Any, deviation: float, total: float, scale: float, size: float) -> Any:
    """What is the same for the same points in other blocks, and hardly for others: rounding is cut off.

    Means count in units of the standard deviation: those of standardised points are nothing but rounding.
    """
    largest = float(np.abs(mean).max())
    if deviation <= 1e-9 * largest:
        deviation = 0.0
    means = np.round(mean / (deviation or largest or 1.0), 6)
    numbers = (*means, (deviation or largest) / scale, total * size)
    return np.asarray([float(f"{number:.7g}") for number in numbers]) + 0.0  # which makes -0.0 0.0


class Table:
    """The points of one call, once their values are checked."""

    def __init__(
        self,
        task: Task,
        blocks: Any,
        numbers: list[Numbers],
        book: Any = None,
        moments: bool = False,
        mark: str = "",
    ) -> None:
        n, k = blocks.n, task.k
        if not n:
            raise ValueError("`x` must not be empty, all its blocks are.")
        if k > n:
            raise ValueError(f"`n_clusters` must be between 1 and the number of points ({n}), got {k}.")
        frame = Frame(k, task.metric, task.kernel, mark=mark or uuid4().hex)
        sizes = {"random": k, "k-means++": min(n, max(SAMPLE * k, SAMPLE_LEAST)), "k-means||": 1}
        races = tuple((each.key, sizes[task.init]) for each in numbers) if task.init in sizes else ()
        seen = blocks.total("check", look, (frame, races, moments))
        _inputs.require_finite("x", seen.finite)
        weighted = blocks.weights is not None
        if weighted:
            _inputs.require_finite("sample_weight", seen.weights_finite)
            _inputs.require_weights(seen.least, seen.most)
        if task.metric == "cosine":
            _inputs.require_directions("x", seen.zero_row)
        context, _ = dispatch(x=np.zeros(0))
        dtype = np.dtype(str(blocks.x.dtype).rpartition(".")[2])
        dtypes = precision(context.xp, dtype, "cpu")
        reach = Reach(seen.largest, finite=True)
        if book is not None:
            reach = reach.joined(measure(context.xp, book), dtypes.limit(context.xp))
        d = int(blocks.x.shape[1])
        limit = float(context.xp.finfo(dtypes.compute).max)
        scale = 1.0 if task.metric == "cosine" else scale_for(reach.largest, limit, n * d)
        size = 2.0 ** (math.frexp(seen.most)[1] - 1) if weighted else 1.0
        points = np.zeros((1, d), dtype)
        plan = plan_for(context.xp, points, k, dtypes, flow_for(context))
        self.task, self.blocks, self.drawn, self.numbers = task, blocks, seen.drawn, numbers
        self.frame = frame._replace(scale=scale, size=size)
        self.few = Problem(context.xp, "cpu", points, dtypes, plan, scale, True, flow_for(context))
        self.variance, self.digest = 0.0, np.zeros(0)
        if seen.moments is not None:
            whole = seen.moments.at(scale, size)
            self.variance = whole.spread / whole.total / d
            self.digest = _digest(whole.mean, self.variance**0.5, whole.total, scale, size)

    def total(self, name: str, work: Callable[..., Any], *shared: Any) -> Any:
        """One pass, see `Blocks.total`."""
        return self.blocks.total(name, work, (self.frame, *shared))

    def first(self, run: int) -> Drawn:
        """First centroids of a run by the method asked for."""
        drawn: Drawn = self.drawn[run]
        numbers = self.numbers[run]
        k = self.task.k
        if self.task.init == "k-means||":
            return self._parallel(drawn, numbers)
        if self.task.init == "k-means++":
            return self._thinned(drawn, np.ones(len(drawn.rows)), numbers)
        order = np.resize(np.arange(len(drawn.rows)), k)  # again from the start where too few have a weight
        return drawn._replace(rows=drawn.rows[order], points=drawn.points[order])

    def _parallel(self, drawn: Drawn, numbers: Numbers) -> Drawn:
        """K-means||: rounds of many candidates at once, thinned out in the end."""
        size, found = OVERSAMPLING * self.task.k, [drawn]
        kinds = np.dtype(self.few.dtypes.compute), np.min_scalar_type(ROUNDS * size)
        each = sum(kind.itemsize for kind in kinds)
        for _ in range(ROUNDS):
            books = tuple(part.points for part in found)
            more = self.blocks.fold("seed", spread_out, (self.frame, books, kinds, numbers.key, size), each)
            if not len(more.rows):
                break
            found.append(more)
        books = tuple(part.points for part in found)
        weights = self.blocks.fold("weigh", weigh, (self.frame, books, kinds), 0).counts
        rows, points = np.concatenate([part.rows for part in found]), np.concatenate(books)
        return self._thinned(drawn._replace(rows=rows, points=points), weights, numbers)

    def _thinned(self, drawn: Drawn, weights: Any, numbers: Numbers) -> Drawn:
        """As many of some rows as clusters are asked for, by greedy k-means++."""
        plan = plan_for(self.few.xp, drawn.points, self.task.k, self.few.dtypes, self.few.flow)
        few = self.few._replace(x=drawn.points, plan=plan)
        order = initial.plus_plus(few, weights, numbers.thinning)
        return drawn._replace(rows=drawn.rows[order], points=drawn.points[order])

    def book(self, name: str, book: Any) -> Any:
        """A code book as the iteration takes it."""
        return _solve._book(self.task, self.few, name, book)

    def rounded(self, centroids: Any) -> Any:
        """Centroids as the caller gets them."""
        with np.errstate(over="ignore"):
            return centroids.astype(self.few.dtypes.result)

    def inertia(self, total: float) -> Any:
        """The inertia that a sum of weighted scaled squares stands for."""
        return _solve._inertia(self.task, self.few, self.frame.size, np.float64(total))

    def relocated(self, old: Any, sums: Any, counts: Any, to_do: int) -> None:
        """Give each empty cluster the point that is then farthest, in place, as `fit._relocated` does.

        A pass brings the farthest points, each with its copies; those beyond all that it left out are taken.
        """
        taken: list[Any] = []
        least = float(np.finfo(counts.dtype).eps) ** 0.5
        while to_do:
            size = max(FARTHEST_LEAST, FARTHEST * to_do)
            found: Far = self.total("relocate", far, old, tuple(taken), size)
            if not len(found.rows):
                return
            plan = plan_for(self.few.xp, found.points, self.task.k, self.few.dtypes, self.few.flow)
            few = self.few._replace(x=found.points, plan=plan)
            left, begun = found.squares.copy(), False
            while to_do and left.any() and (left.max() > found.floor or not begun):
                i = int(left.argmax())
                point = cast(few.xp, found.points[i], few.dtypes.compute)
                squares = squared_distances(few, point[None, :])
                weight = float(found.mass[squares == 0].sum())
                if left[i] <= found.floor:  # some of its copies may have been left out
                    weight = float(self.total("copies", copies, point).counts[0])
                wide = point.astype(sums.dtype) * few.scale
                here, giver = int((counts == 0).argmax()), int(found.labels[i])
                if counts[giver] - weight > least * counts[giver]:
                    sums[giver] -= weight * wide
                    counts[giver] -= weight
                sums[here] += weight * wide
                counts[here] += weight
                left = np.minimum(left, squares)
                taken.append(point)
                to_do, begun = to_do - 1, True
