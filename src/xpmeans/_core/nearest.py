"""The reference kernel: nearest centroids and their sums, in standard array operations only.

Scores. The nearest centroid of x minimises |c|^2/2 - x.c, one matrix product for all pairs. On data far
from the origin, points and centroids are shifted by the points' mean first, which keeps the product small.

Certificate. The product is still only accurate to `slack`, a bound on its rounding. Every centroid
whose score is within the slack of the best one is a candidate; the true nearest is among them. Nearly
always there is one candidate, and a product of the candidates, as numbers, with k to 2 k - 1, one for each
centroid, says which: two of these add up to 2 k or more. The few points that have several are settled by
differences in the widest dtype, so that labels do not depend on how the product rounds, on any data.

Sums. A second pass, by labels, in float64 where the device has it; how, depends on the library (`flow`).

Cost of a step: O(nkd) time, O(plan.rows * k) memory.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

from array_api_compat import is_writeable_array

from xpmeans._core.distances import pairs, squared_distances
from xpmeans._core.loop import EAGER, Flow
from xpmeans._core.plan import Plan
from xpmeans._core.precision import Precision, cast, is_one, times
from xpmeans._core.problem import Problem
from xpmeans._core.stream import Column, PairwiseSum, chunks
from xpmeans._kernels import Step

# Length of the points' mean, as a share of their mean length, up to which they are left where they are.
# Products then round five times as much, and each pass over the points is one array shorter.
NEAR = 0.9

# Bytes of a point up to which shifted points are kept from step to step, each column a row, and a row of ones
# for half squares: NumPy takes several times as long along short rows.
FEW = 40
# Centroids from which half squares are added by the product also of other points.
AUGMENTED = 128


class State(NamedTuple):
    """What a step needs of the points; `plan` is static, the others are arrays."""

    x: Any  # (n, d) as the caller gave them
    weights: Any | None  # (n,) in the dtype of sums
    shift: Any | None  # (d,) mean of the scaled points, if they lie far from the origin
    norms: Any  # (n,) length of each point, shifted
    plan: Plan
    columns: Any | None = None  # (d + 1, n) shifted points and ones, from the first step on, if they are few


class Book(NamedTuple):
    """Centroids made ready for one pass: scaled, shifted."""

    plain: Any  # (k, d) in the dtype of sums, scaled only
    points: Any  # (k, d) shifted too
    half_squares: Any  # (k,) half the squared norms, in the dtype of sums
    shortest: Any  # of the lengths of `points`
    longest: Any


@dataclass(frozen=True)
class Reference:
    """The kernel that every other kernel is tested against. See the module's text.

    `scale` is the power of two that keeps squares from overflowing, `finite` says that points and
    centroids hold neither NaN nor infinities. If they may, a point with such a value gets label 0 and
    counts nowhere, and a centroid with one attracts no point. `flow` says how sums are made, and whether
    values may be asked for.
    """

    xp: ModuleType
    device: Any
    dtypes: Precision
    scale: float = 1.0
    finite: bool = True
    flow: Flow = EAGER

    def start(self, x: Any, weights: Any | None, plan: Plan) -> State:
        """Find each point's length, and the shift if there is to be one."""
        xp, (_, compute, sums) = self.xp, self.dtypes
        total, length = PairwiseSum(), PairwiseSum()
        ones = xp.ones(plan.d, dtype=compute, device=self.device)
        norms = Column(xp, plan.n, compute, self.device)
        for rows in chunks(plan.n, plan.rows):
            points = self._scaled(x[rows, ...])
            total.add(xp.ones(points.shape[0], dtype=sums, device=self.device) @ cast(xp, points, sums))
            if self.flow.asks:
                part = xp.sqrt((points * points) @ ones)
                length.add(xp.sum(part, dtype=sums))
                norms.put(rows, part)
        mean = total.value / plan.n
        # Rounded to the dtype of scores, for points and centroids must be shifted by the same number.
        shift, lengths = cast(xp, mean, compute), norms.value
        if self.flow.asks and xp.sqrt(xp.sum(mean * mean)) <= NEAR / plan.n * length.value:
            shift = None
        else:
            norms = Column(xp, plan.n, compute, self.device)
            for rows in chunks(plan.n, plan.rows):
                points = self._scaled(x[rows, ...]) - shift
                norms.put(rows, xp.sqrt((points * points) @ ones))
            lengths = norms.value
        if not self.finite:
            valid = cast(xp, self._valid(x, plan), sums)
            weights = valid if weights is None else weights * valid
        return State(x, weights, shift, lengths, plan)

    def step(self, state: State, centroids: Any, room: int | None = None) -> tuple[State, Step]:
        """Label every point, and sum the points of each centroid."""
        if state.columns is None:
            state = state._replace(columns=self._all_columns(state))
        labels, left = self._label(state, self._book(state.shift, centroids), room)
        wide = self.dtypes.sums

        def points(rows: Any, dtype: Any = wide) -> Any:
            # Scaled in the dtype of scores, what is small beside the largest would lose digits.
            return self._scaled(state.x[rows, ...], dtype if is_one(self.scale) else wide)

        plan = state.plan._replace(k=centroids.shape[0])  # `kmeans` drops centroids on the way
        sums, counts = self.flow.sums(self.xp, plan, points, labels, state.weights)
        return state, Step(labels, sums, counts, left)

    def assign(self, state: State, centroids: Any) -> tuple[Any, Any]:
        """Labels, and squared distances by differences."""
        problem = Problem(self.xp, self.device, state.x, self.dtypes, state.plan, self.scale, self.finite)
        labels, _ = self._label(state, self._book(state.shift, centroids))
        return labels, squared_distances(problem, centroids, labels)

    def _label(self, state: State, book: Book, room: int | None = None) -> tuple[Any, Any]:
        """The labels; with a `room` also how many points found none."""
        xp, (_, compute, sums) = self.xp, self.dtypes
        (n, d), k = state.x.shape, book.points.shape[0]
        narrow = cast(xp, -book.points, compute)
        # Beyond the reach of any other, and yet finite: a product fills its tiles up with zeros.
        beyond = float(xp.finfo(compute).max) / 4
        half_squares = xp.where(self._repeats(book), beyond, xp.minimum(book.half_squares, beyond))
        half_squares = cast(xp, half_squares, compute)[:, None]
        # The half squares are added by the product if that is less than to write the points once more.
        augmented = state.columns is not None or (d < k and k >= AUGMENTED)
        if augmented:
            narrow = xp.concat([narrow, half_squares], axis=1)
        # Exact also as products; accelerators may have been told to round those of float32.
        dtype = compute if self.flow.asks and k <= 1 << 23 else sums
        numbers = xp.arange(k, 2 * k, dtype=dtype, device=self.device)
        ones = xp.ones((state.plan.rows, 1), dtype=compute, device=self.device)
        labels = Column(xp, n, xp.int32, self.device)
        asks = room is None and self.flow.asks
        doubts = False
        for rows in chunks(n, state.plan.rows):
            scores = narrow @ self._columns(state, rows, ones if augmented else None)
            if not augmented:
                scores += half_squares
            candidates = scores <= xp.min(scores, axis=0) + self._slack(book, state.norms[rows], compute)
            label = numbers @ cast(xp, candidates, dtype) - k
            certain = (label >= 0) & (label < k)
            if not asks or not xp.all(certain):
                label = xp.where(certain, label, -1.0)
                doubts = True
            labels.put(rows, cast(xp, label, xp.int32))
        label, left = labels.value, None
        if doubts:
            label, left = self._settle(state, book, label, room)
        return label if self.finite else xp.where(self._valid(state.x, state.plan), label, 0), left

    def _all_columns(self, state: State) -> Any | None:
        """All shifted points as columns, if these are short and the library lets them be written to."""
        (n, d), xp, dtype = state.x.shape, self.xp, self.dtypes.compute
        if not self.flow.asks or (d + 1) * xp.finfo(dtype).bits > 8 * FEW:
            return None
        columns = xp.ones((d + 1, n), dtype=dtype, device=self.device)
        if not is_writeable_array(columns):
            return None
        for rows in chunks(n, state.plan.rows):
            columns[:-1, rows] = self._columns(state, rows, None)
        return columns

    def _columns(self, state: State, rows: slice, ones: Any | None) -> Any:
        """Some shifted points as columns, with a row of `ones` if there are any."""
        if state.columns is not None:
            return state.columns[:, rows]
        points = self._moved(self._scaled(state.x[rows, ...]), state.shift)
        if ones is not None:
            points = self.xp.concat([points, ones[: points.shape[0], :]], axis=1)
        return points.T

    def _settle(self, state: State, book: Book, labels: Any, room: int | None) -> tuple[Any, Any]:
        """Decide the points that have no label; how many are left."""

        def decide(rows: Any) -> Any:
            points = self._scaled(self.xp.take(state.x, rows, axis=0), self.dtypes.sums)
            return self._decide(points, book, state, asks=room is None)

        return self.flow.settle(self.xp, labels, decide, state.plan.block, room)  # type: ignore[no-any-return]

    def _decide(self, points: Any, book: Book, state: State, asks: bool) -> Any:
        """Nearest centroid of a few points in the widest dtype: by scores if certain, else by differences."""
        xp = self.xp
        if asks and self.dtypes.sums != self.dtypes.compute:
            shifted = self._moved(points, state.shift)
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

        A product of length d rounds by at most d u |x||c| (Higham 2002, section 3.1; u = eps / 2), or one
        that adds the half square too by (d + 1) u (|x||c| + |c|^2 / 2); the shifts of x and c round by u
        each, the half square and the difference by a few u more; the constant leaves room for this bound's
        own rounding, the last term for underflow. Centroids longer than 2|x| + |c'|, c' being the shortest,
        are farther from x than c' and need no such bound; beyond 1.25 times that, by more than rounding can
        hide. So one far centroid does not open all points.
        """
        xp, limits, d = self.xp, self.xp.finfo(dtype), book.points.shape[1]
        shortest, longest = cast(xp, book.shortest, dtype), cast(xp, book.longest, dtype)
        reach = xp.minimum(longest, 1.25 * (2 * norms + shortest))
        return (norms + reach) * ((d + 8) * float(limits.eps) * reach) + d * float(limits.smallest_normal)

    def _book(self, shift: Any, centroids: Any) -> Book:
        """Centroids scaled and shifted like the points; a centroid that is not finite at infinity."""
        xp = self.xp
        points = times(self.dtypes.held(xp, centroids, self.finite), self.scale)
        plain, points = points, self._moved(points, shift)
        half_squares = xp.sum(points * points, axis=1) * 0.5
        finite_squares = half_squares
        if not self.finite:
            valid = xp.isfinite(half_squares)
            points = xp.where(valid[:, None], points, 0.0)
            half_squares = xp.where(valid, half_squares, xp.inf)
            least = xp.min(half_squares)
            finite_squares = xp.where(valid, half_squares, xp.where(xp.isfinite(least), least, 0.0))
        lengths = xp.sqrt(2 * finite_squares)
        return Book(plain, points, half_squares, xp.min(lengths), xp.max(lengths))

    def _repeats(self, book: Book) -> Any:
        """Which centroids equal one of a lower index, which gets their points: ties would open them all.

        Those next to each other in the order of their lengths are found, any others are left to `_settle`.
        """
        xp = self.xp
        order = xp.argsort(book.half_squares, stable=True)
        points = xp.take(book.plain, order, axis=0)
        same = xp.all(points[1:, :] == points[:-1, :], axis=1)
        first = xp.zeros(1, dtype=xp.bool, device=self.device)
        return xp.take(xp.concat([first, same]), xp.argsort(order, stable=True))

    def _moved(self, points: Any, shift: Any | None) -> Any:
        """Points shifted, or themselves."""
        return points if shift is None else points - shift

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
