"""Distances by differences: they keep their digits far from the origin, where products lose them."""

from collections.abc import Iterator
from typing import Any

from xpmeans._core.precision import cast, is_one, times
from xpmeans._core.problem import Problem
from xpmeans._core.stream import Column, chunks


def squared_distances(problem: Problem, centroids: Any, labels: Any | None = None) -> Any:
    """(n,) from each point to its own centroid, or to the only one; times the scale squared.

    NaN where the point or its centroid is not finite.
    """
    squares = Column(problem.xp, problem.x.shape[0], problem.dtypes.sums, problem.device)
    for rows, difference in _differences(problem, centroids, labels):
        difference *= difference
        squares.put(rows, problem.flow.row_sums(problem.xp, difference, problem.device))
    return _finite_or_nan(problem, squares.value)


def distances(problem: Problem, centroids: Any, labels: Any, squares: Any) -> Any:
    """(n,) the same not squared, times the scale; `squares` are what `squared_distances` found.

    Where there is a scale, each row is taken in units of its largest difference: next to a value that is
    brought down so that its square stays in range, the squares of others would vanish (1e-8 beside 1e308).
    """
    xp = problem.xp
    if is_one(problem.scale):
        return xp.sqrt(squares)
    lengths = Column(xp, problem.x.shape[0], problem.dtypes.sums, problem.device)
    for rows, difference in _differences(problem, centroids, labels):
        largest = xp.max(xp.abs(difference), axis=1)
        difference /= xp.where(largest > 0, largest, 1.0)[:, None]
        difference *= difference
        lengths.put(rows, largest * xp.sqrt(problem.flow.row_sums(xp, difference, problem.device)))
    return _finite_or_nan(problem, lengths.value)


def all_distances(problem: Problem, centroids: Any) -> Any:
    """(n, k) from each point to each centroid, times the scale."""
    xp, dtype = problem.xp, problem.dtypes.sums
    n, k = problem.x.shape[0], centroids.shape[0]
    book = cast(xp, centroids, dtype) * problem.scale
    found = Column(xp, (n, k), dtype, problem.device)
    for rows in chunks(n, problem.plan.rows):
        points = times(cast(xp, problem.x[rows, ...], dtype), problem.scale)
        found.put(rows, pairs(xp, points, book, 1, problem.device, squared=False))
    return found.value


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


def _differences(problem: Problem, centroids: Any, labels: Any | None) -> Iterator[tuple[slice, Any]]:
    """Chunks of scaled points less their centroids."""
    xp, dtype = problem.xp, problem.dtypes.sums
    centroids = problem.dtypes.held(xp, centroids, problem.finite) * problem.scale
    for rows in chunks(problem.x.shape[0], problem.plan.rows):
        points = cast(xp, problem.x[rows, ...], dtype)
        own = centroids if labels is None else xp.take(centroids, labels[rows], axis=0)
        if not problem.finite:  # infinities less infinities would warn
            points = xp.where(xp.isfinite(points), points, xp.nan)
        yield rows, times(points, problem.scale) - own


def _finite_or_nan(problem: Problem, found: Any) -> Any:
    """NaN instead of infinity, where not all values are finite."""
    return found if problem.finite else problem.xp.where(problem.xp.isfinite(found), found, problem.xp.nan)
