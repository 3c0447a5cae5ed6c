"""The reference kernel: nearest centroids and their sums, in standard array operations only.

Scores. The nearest centroid of x minimises |c|^2/2 - x.c, one matrix product for all pairs. Shifting
points and centroids by the points' mean first keeps the product small on data far from the origin.

Certificate. The product is still only accurate to `slack`, a bound on its rounding. Every centroid
whose score is within the slack of the best one is a candidate; the true nearest is among them. Nearly
always there is one candidate and the point is settled. The few others are settled by differences in
the widest dtype, so that labels do not depend on how the product rounds, on any data.

Sums. The candidates, as numbers, are also the matrix that sums each centroid's points: a second
matrix product, in float64 where the device has it. Two products and a minimum per chunk, no scatter.

Cost of a step: O(nkd) time, O(plan.rows * k) memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

from xpmeans._core.distances import pairs, squared_distances
from xpmeans._core.plan import Plan
from xpmeans._core.precision import Precision, cast, is_one, times
from xpmeans._core.problem import Problem
from xpmeans._core.stream import Column, PairwiseSum, chunks
from xpmeans._kernels import Step


class State(NamedTuple):
    """What a step needs of the points; `plan` is static, the others are arrays."""

    x: Any  # (n, d) as the caller gave them
    weights: Any | None  # (n,) in the dtype of sums
    shift: Any  # (d,) mean of the scaled points
    norms: Any  # (n,) distance of each point from `shift`
    plan: Plan


class Book(NamedTuple):
    """Centroids made ready for one pass: scaled, shifted."""

    plain: Any  # (k, d) in the dtype of sums, scaled only
    points: Any  # (k, d) shifted too
    half_squares: Any  # (k,) half the squared norms, in the dtype of sums


@dataclass(frozen=True)
class Reference:
    """The kernel that every other kernel is tested against. See the module's text.

    `scale` is the power of two that keeps squares from overflowing, `finite` says that points and
    centroids hold neither NaN nor infinities. If they may, a point with such a value gets label 0 and
    counts nowhere, and a centroid with one attracts no point.
    """

    xp: ModuleType
    device: Any
    dtypes: Precision
    scale: float = 1.0
    finite: bool = True

    def start(self, x: Any, weights: Any | None, plan: Plan) -> State:
        """Find the shift and each point's distance from it: two passes."""
        xp, sums = self.xp, self.dtypes.sums
        n, d = x.shape
        total = PairwiseSum()
        for rows in chunks(n, plan.rows):
            points = cast(xp, self._scaled(x[rows, ...]), sums)
            total.add(xp.ones(points.shape[0], dtype=sums, device=self.device) @ points)
        # Rounded to the dtype of scores, for points and centroids must be shifted by the same number.
        shift = cast(xp, total.value / n, self.dtypes.compute)
        ones = xp.ones(d, dtype=self.dtypes.compute, device=self.device)
        norms = Column(xp, n, self.dtypes.compute, self.device)
        for rows in chunks(n, plan.rows):
            points = self._scaled(x[rows, ...]) - shift
            points *= points
            norms.put(rows, xp.sqrt(points @ ones))
        if not self.finite:
            valid = cast(xp, self._valid(x, plan), sums)
            weights = valid if weights is None else weights * valid
        return State(x, weights, shift, norms.value, plan)

    def step(self, state: State, centroids: Any, room: int | None = None) -> tuple[State, Step]:
        """Label every point, and sum the points of each centroid."""
        sums, counts = PairwiseSum(), PairwiseSum()

        def collect(members: Any, points: Any, weights: Any, unit: bool) -> None:
            points = cast(self.xp, points, self.dtypes.sums)
            sums.add(members @ (points if unit else points * weights[:, None]))
            counts.add(members @ weights)

        labels, left = self._label(state, self._book(state.shift, centroids), room, collect)
        return state, Step(labels, sums.value, counts.value, left)

    def assign(self, state: State, centroids: Any) -> tuple[Any, Any]:
        """Labels, and squared distances by differences."""
        problem = Problem(self.xp, self.device, state.x, self.dtypes, state.plan, self.scale, self.finite)
        labels, _ = self._label(state, self._book(state.shift, centroids))
        return labels, squared_distances(problem, centroids, labels)

    def _label(
        self,
        state: State,
        book: Book,
        room: int | None = None,
        collect: Callable[..., None] | None = None,
    ) -> tuple[Any, Any]:
        """Labels of all points but those `left`; `collect` gets (k, m) members, m points, their weights."""
        xp, sums = self.xp, self.dtypes.sums
        n = state.x.shape[0]
        index = xp.arange(book.points.shape[0], dtype=sums, device=self.device)
        index_and_ones = xp.stack([index, xp.ones_like(index)])
        ones = xp.ones(state.plan.rows, dtype=sums, device=self.device)
        slack = self._slack(book, state.norms, self.dtypes.compute)
        narrow = cast(xp, -book.points, self.dtypes.compute)
        half_squares = xp.where(self._repeats(book), xp.inf, book.half_squares)
        half_squares = cast(xp, half_squares, self.dtypes.compute)[:, None]
        labels = Column(xp, n, xp.int32, self.device)
        settled = Column(xp, n, xp.bool, self.device)
        open_points, left = False, None
        for rows in chunks(n, state.plan.rows):
            points = self._scaled(state.x[rows, ...])
            scores = narrow @ (points - state.shift).T
            scores += half_squares
            members = cast(xp, scores <= xp.min(scores, axis=0) + slack[rows], sums)
            # How many candidates a point has and, where it is one, which.
            answers = index_and_ones @ members
            labels.put(rows, cast(xp, answers[0, :], xp.int32))
            single = answers[1, :] == 1
            settled.put(rows, single)
            if collect is None:
                continue
            weights = ones[: points.shape[0]] if state.weights is None else state.weights[rows]
            unit = state.weights is None
            if room is not None or not xp.all(single):
                weights = weights * cast(xp, single, sums)
                open_points, unit = True, False
            if not is_one(self.scale):
                points = self._scaled(state.x[rows, ...], sums)  # its small values may be gone
            collect(members, points, weights, unit)
        label = labels.value
        if open_points or (collect is None and not xp.all(settled.value)):
            label, left = self._settle(state, book, label, settled.value, room, collect)
        return label if self.finite else xp.where(self._valid(state.x, state.plan), label, 0), left

    def _settle(
        self,
        state: State,
        book: Book,
        labels: Any,
        settled: Any,
        room: int | None,
        collect: Callable[..., None] | None,
    ) -> tuple[Any, Any]:
        """Decide the points that are not settled, a block of fixed size at a time; how many are left.

        The i-th open point is where the running count of open points first reaches i, and the running
        count is also each point's place among the answers: neither compaction nor scatter is needed.
        """
        xp, sums, block = self.xp, self.dtypes.sums, state.plan.block
        rank = xp.cumulative_sum(cast(xp, ~settled, xp.int32), dtype=xp.int32)
        found = rank[-1]
        index = xp.arange(book.points.shape[0], dtype=xp.int32, device=self.device)
        answers = [labels[:1]]  # the place of the settled points before the first open one
        for first in range(1, (int(found) if room is None else room) + 1, block):
            order = xp.arange(first, first + block, dtype=xp.int32, device=self.device)
            place = xp.searchsorted(rank, xp.minimum(order, found))
            points = self._scaled(xp.take(state.x, place, axis=0), sums)
            answer = self._decide(points, book, state, asks=room is None)
            answers.append(answer)
            if collect is not None:
                members = cast(xp, index[:, None] == answer[None, :], sums)
                weights = cast(xp, order <= found, sums)  # the last block is filled up with repeats
                if state.weights is not None:
                    weights = weights * xp.take(state.weights, place, axis=0)
                collect(members, points, weights, False)
        found_here = xp.concat(answers)
        rank = xp.minimum(rank, found_here.shape[0] - 1)
        decided = xp.where(settled, labels, xp.take(found_here, rank, axis=0))
        return decided, None if room is None else found - room

    def _decide(self, points: Any, book: Book, state: State, asks: bool) -> Any:
        """Nearest centroid of a few points in the widest dtype: by scores if certain, else by differences."""
        xp = self.xp
        if asks and self.dtypes.sums != self.dtypes.compute:
            shifted = points - state.shift
            norms = xp.sqrt(xp.sum(shifted * shifted, axis=1))
            scores = book.half_squares[:, None] - book.points @ shifted.T
            slack = self._slack(book, norms, self.dtypes.sums)
            candidates = scores <= xp.min(scores, axis=0) + slack
            if xp.all(xp.sum(cast(xp, candidates, xp.int32), axis=0) == 1):
                return cast(xp, xp.argmin(scores, axis=0), xp.int32)
        squared, columns = is_one(self.scale), state.plan.columns
        distances = pairs(xp, points, book.plain, columns, self.device, squared)
        if not self.finite:
            distances = xp.where(xp.isfinite(book.half_squares), distances, xp.inf)
        return cast(xp, xp.argmin(distances, axis=1), xp.int32)

    def _slack(self, book: Book, norms: Any, dtype: Any) -> Any:
        """Twice the bound on a score's rounding, for points of these norms: (n,) in `dtype`.

        A product of length d rounds by at most d u |x||c| (Higham 2002, section 3.1; u = eps / 2), the
        shifts of x and c by u each, the half square and the difference by a few u more; the constant
        leaves room for this bound's own rounding, the last term for underflow. Centroids longer than
        2|x| + |c'|, c' being the shortest, are farther from x than c' and need no such bound; beyond 1.25
        times that, by more than rounding can hide. So one far centroid does not open all points.
        """
        xp, limits = self.xp, self.xp.finfo(dtype)
        d = book.points.shape[1]
        squares = book.half_squares
        if not self.finite:
            least = xp.min(squares)
            squares = xp.where(xp.isfinite(squares), squares, xp.where(xp.isfinite(least), least, 0.0))
        lengths = cast(xp, xp.sqrt(2 * squares), dtype)
        reach = xp.minimum(xp.max(lengths), 1.25 * (2 * norms + xp.min(lengths)))
        return (norms + reach) * ((d + 8) * float(limits.eps) * reach) + d * float(limits.smallest_normal)

    def _book(self, shift: Any, centroids: Any) -> Book:
        """Centroids scaled and shifted like the points; a centroid that is not finite at infinity."""
        xp = self.xp
        points = times(self.dtypes.held(xp, centroids, self.finite), self.scale)
        plain, points = points, points - shift
        half_squares = xp.sum(points * points, axis=1) * 0.5
        if not self.finite:
            valid = xp.isfinite(half_squares)
            points = xp.where(valid[:, None], points, 0.0)
            half_squares = xp.where(valid, half_squares, xp.inf)
        return Book(plain, points, half_squares)

    def _repeats(self, book: Book) -> Any:
        """Which centroids equal one of a lower index, which gets their points: ties would open them all.

        Those next to each other in the order of their lengths are found, any others are left to `_settle`.
        """
        xp = self.xp
        order = xp.argsort(book.half_squares)
        points = xp.take(book.plain, order, axis=0)
        same = xp.all(points[1:, :] == points[:-1, :], axis=1)
        first = xp.zeros(1, dtype=xp.bool, device=self.device)
        return xp.take(xp.concat([first, same]), xp.argsort(order))

    def _scaled(self, points: Any, dtype: Any = None) -> Any:
        """Points of one chunk, free of overflow; in the dtype of scores if not in another."""
        points = times(cast(self.xp, points, dtype or self.dtypes.compute), self.scale)
        if not self.finite:
            points = self.xp.where(self.xp.isfinite(points), points, 0.0)
        return points

    def _valid(self, x: Any, plan: Plan) -> Any:
        """Which points are finite."""
        xp, compute = self.xp, self.dtypes.compute
        valid = Column(xp, plan.n, xp.bool, self.device)
        for rows in chunks(plan.n, plan.rows):
            valid.put(rows, xp.all(xp.isfinite(cast(xp, x[rows, ...], compute)), axis=1))
        return valid.value
