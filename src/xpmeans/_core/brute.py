"""The kernel by definition: all differences at once, for problems too small for anything cleverer.

Below `LIMIT` numbers a call into the array library costs more than the arithmetic, and a step here is a
third of the calls of the reference kernel's. It is also what the reference kernel is tested against.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

from xpmeans._core.plan import Plan
from xpmeans._core.precision import Precision, cast, times
from xpmeans._kernels import Step

# Largest n k d served: on NumPy a step of 58,000 takes 92 us, and 126 with the reference kernel; of 90,000 it
# takes 155 to 250 us, and 150 to 200.
LIMIT = 1 << 16
# Columns up to which additions take less time than to call a sum: 1.3 us against 2.6 for two.
FEW = 4


class State(NamedTuple):
    """Points ready for every step."""

    columns: Any  # (d, 1, n) scaled, in the dtype of sums; a point that is not finite is NaN
    weighted: Any  # (n, d + 1) scaled points times weights, and the weights
    index: Any  # (k, 1) the labels there are


@dataclass(frozen=True)
class BruteForce:
    """Nearest centroids by differences in the dtype of sums; parameters as for `Reference`."""

    xp: ModuleType
    device: Any
    dtypes: Precision
    scale: float = 1.0
    finite: bool = True

    def start(self, x: Any, weights: Any | None, plan: Plan) -> State:
        """Convert the points once."""
        xp = self.xp
        points = times(cast(xp, x, self.dtypes.sums), self.scale)
        weighted = points if weights is None else points * weights[:, None]
        if weights is None:
            weights = xp.ones(plan.n, dtype=points.dtype, device=self.device)
        if not self.finite:
            valid = xp.all(xp.isfinite(points), axis=1)
            weights = xp.where(valid, weights, 0.0)
            points = xp.where(valid[:, None], points, xp.nan)
            weighted = xp.where(valid[:, None], weighted, 0.0)
        index = xp.arange(plan.k, dtype=xp.int32, device=self.device)
        # Flattened on the way, which makes it contiguous: NumPy takes 6 us less of 20 a step.
        columns = xp.reshape(xp.reshape(points.T, (-1,)), (plan.d, 1, plan.n))
        weighted = xp.concat([weighted, weights[:, None]], axis=1)
        return State(columns, weighted, index[:, None])

    def step(self, state: State, centroids: Any, room: int | None = None) -> tuple[State, Step]:  # noqa: ARG002
        """Label every point, and sum the points of each centroid."""
        labels, _ = self._nearest(state.columns, centroids)
        index = state.index[: centroids.shape[0], :]  # `kmeans` drops centroids on the way
        totals = cast(self.xp, index == labels, self.dtypes.sums) @ state.weighted
        return state, Step(labels, totals[:, :-1], totals[:, -1])

    def assign(self, state: State, centroids: Any) -> tuple[Any, Any]:
        """Labels and squared distances."""
        labels, squares = self._nearest(state.columns, centroids)
        found = self.xp.min(squares, axis=0)
        return labels, found if self.finite else self.xp.where(self.xp.isfinite(found), found, self.xp.nan)

    def _nearest(self, columns: Any, centroids: Any) -> tuple[Any, Any]:
        """Labels, and scaled squared distances (k, n).

        The sum runs along the outermost axis, one column after the other, as SciPy's does: two points'
        squares then round alike, and a tie stays one.
        """
        xp = self.xp
        centroids = times(self.dtypes.held(xp, centroids, self.finite), self.scale)
        difference = columns - centroids.T[:, :, None]
        difference *= difference
        if difference.shape[0] > FEW:
            squares = xp.sum(difference, axis=0)
        else:
            squares = difference[0, ...]
            for column in range(1, difference.shape[0]):
                squares = squares + difference[column, ...]
        if not self.finite:
            squares = xp.where(xp.isfinite(squares), squares, xp.inf)
        return cast(xp, xp.argmin(squares, axis=0), xp.int32), squares
