"""Distances by differences: they keep their digits far from the origin, where products lose them."""

from collections.abc import Callable, Iterator
from typing import Any

from xpmeans._core.plan import BUDGET
from xpmeans._core.precision import cast, is_one, times
from xpmeans._core.problem import Problem
from xpmeans._core.stream import Column, Window, chunks


def squared_distances(problem: Problem, centroids: Any, labels: Any | None = None) -> Any:
    """(n,) from each point to its own centroid, or to the only one; times the scale squared.

    NaN where the point or its centroid is not finite.
    """
    difference_of = _differences(problem, centroids, labels)

    def part(window: Window) -> Any:
        difference = difference_of(window)
        difference *= difference
        return problem.flow.row_sums(problem.xp, difference, problem.device)

    return _column(problem, part)


def distances(problem: Problem, centroids: Any, labels: Any, squares: Any) -> Any:
    """(n,) the same not squared, times the scale; `squares` are what `squared_distances` found.

    Where there is a scale, each row is taken in units of its largest difference: next to a value that is
    brought down so that its square stays in range, the squares of others would vanish (1e-8 beside 1e308).
    """
    xp = problem.xp
    if is_one(problem.scale):
        return xp.sqrt(squares)
    difference_of = _differences(problem, centroids, labels)

    def part(window: Window) -> Any:
        difference = difference_of(window)
        largest = xp.max(xp.abs(difference), axis=1)
        difference /= xp.where(largest > 0, largest, 1.0)[:, None]
        difference *= difference
        return largest * xp.sqrt(problem.flow.row_sums(xp, difference, problem.device))

    return _column(problem, part)


def inertia_of(problem: Problem, squares: Any, mass: Any) -> Any:
    """Sum of the weighted squares; by chunks, for another array of n numbers costs more than to fill it."""

    def part(window: Window) -> Any:
        return problem.xp.sum(window(squares) * window.weights(mass))

    return problem.flow.total(problem.x.shape[0], problem.plan.rows, part)


# Relative error that `all_distances` may have.
ACCURACY = 1e-10


def all_distances(problem: Problem, centroids: Any, finished: Callable[[Any], Any], dtype: Any) -> Any:
    """(n, k) of `dtype`: what `finished` makes of distances times the scale; on eager arrays.

    By products, 20 times as fast as by differences. Pairs that lie so near to each other that a product would
    lose digits, or all where there is a scale, are taken by differences.
    """
    xp, wide = problem.xp, problem.dtypes.sums
    n, k = problem.x.shape[0], centroids.shape[0]
    book = cast(xp, centroids, wide) * problem.scale
    shift = xp.mean(book, axis=0)
    moved = book - shift
    squares, twice = xp.sum(moved * moved, axis=1), 2 * moved
    loss = (book.shape[1] + 8) * float(xp.finfo(wide).eps) / ACCURACY
    found = Column(xp, (n, k), dtype, problem.device)
    for rows in chunks(n, problem.plan.rows):
        points = times(cast(xp, problem.x[rows, ...], wide), problem.scale)
        if not is_one(problem.scale) or loss >= 1:
            part = pairs(xp, points, book, problem.plan.columns, problem.device, squared=False)
            found.put(rows, finished(part))
            continue
        apart = points - shift
        reach = problem.flow.row_sums(xp, apart * apart, problem.device)[:, None] + squares[None, :]
        part = reach - apart @ twice.T
        near = part <= loss * reach  # which all are that rounding made negative
        part = xp.sqrt(part)
        if xp.any(near):
            part = _exact_where(xp, near, points, book, part)
        found.put(rows, finished(part))
    return found.value


def _exact_where(xp: Any, near: Any, points: Any, book: Any, part: Any) -> Any:
    """Distances (m, k) with those `near` put right."""
    row, column = xp.nonzero(near)
    exact = []
    for some in chunks(row.shape[0], max(1, BUDGET // (16 * points.shape[1]))):
        difference = xp.take(points, row[some], axis=0) - xp.take(book, column[some], axis=0)
        exact.append(xp.sqrt(xp.sum(difference * difference, axis=1)))
    flat = xp.reshape(near, (-1,))
    place = xp.clip(xp.cumulative_sum(cast(xp, flat, xp.int32)) - 1, min=0)
    put = xp.where(flat, xp.take(xp.concat(exact), place), xp.reshape(part, (-1,)))
    return xp.reshape(put, part.shape)


def pairs(xp: Any, points: Any, book: Any, columns: int, device: Any, squared: bool) -> Any:
    """Distances (m, k) of a few points from all centroids, from that many columns at a time.

    Not `squared` each pair is taken in units of its largest difference, for see `distances`.
    """

    def differences() -> Iterator[Any]:
        for some in chunks(points.shape[1], columns):
            yield points.T[some, :, None] - book.T[some, None, :]

    largest = xp.zeros((points.shape[0], book.shape[0]), dtype=points.dtype, device=device)
    if not squared:
        for part in differences():
            largest = xp.maximum(largest, xp.max(xp.abs(part), axis=0))
    unit = xp.where(largest > 0, largest, 1.0)
    squares = xp.zeros_like(largest)
    for part in differences():
        if not squared:
            part /= unit[None, ...]
        part *= part
        squares += xp.sum(part, axis=0)
    return squares if squared else largest * xp.sqrt(squares)


def _differences(problem: Problem, centroids: Any, labels: Any | None) -> Callable[[Window], Any]:
    """What gives chunks of scaled points less their centroids."""
    xp, dtype = problem.xp, problem.dtypes.sums
    centroids = problem.dtypes.held(xp, centroids, problem.finite) * problem.scale

    def difference(window: Window) -> Any:
        points = cast(xp, window(problem.x), dtype)
        own = centroids if labels is None else xp.take(centroids, window(labels), axis=0)
        if not problem.finite:  # infinities less infinities would warn
            points = xp.where(xp.isfinite(points), points, xp.nan)
        return times(points, problem.scale) - own

    return difference


def _column(problem: Problem, part: Callable[[Window], Any]) -> Any:
    """A value for each point, NaN instead of infinity where not all values are finite."""
    xp, plan = problem.xp, problem.plan
    found = problem.flow.column(xp, problem.x.shape[0], plan.rows, problem.dtypes.sums, problem.device, part)
    return found if problem.finite else xp.where(xp.isfinite(found), found, xp.nan)
