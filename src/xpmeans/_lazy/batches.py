"""Mini-batch k-means on Dask arrays: batches of points that are fetched from where they lie."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from xpmeans import _solve
from xpmeans._core import initial
from xpmeans._core.minibatch import Pace, Run
from xpmeans._core.minibatch import run as run_batches
from xpmeans._core.problem import Problem, plan_for
from xpmeans._dispatch import without_false_alarms
from xpmeans._inputs import Inputs
from xpmeans._kernels import lazy
from xpmeans._lazy.blocks import Totals, fetch, total_of
from xpmeans._lazy.table import Table
from xpmeans._solve import Task


def _places(table: Table, totals: Totals, uniforms: Any) -> Any:
    """Points by uniform numbers, in proportion to weight; one pass."""
    ends = np.cumsum(totals.weights)
    places = uniforms.reshape(-1) * ends[-1]
    block = initial.interval(np, ends, places)
    wanted = {}
    for i in np.unique(block):
        order = np.flatnonzero(block == i)
        wanted[totals.firsts[i]] = order, places[order] - (ends[i - 1] if i else 0.0)
    found = table.total("fetch", fetch, wanted)
    return found.points[np.argsort(found.order)]


# Bytes of batches that are fetched in one pass.
AHEAD = 32 << 20


@without_false_alarms
def minibatch(task: Task, pace: Pace, init_size: int, rng: np.random.Generator, inputs: Inputs) -> Run:
    """K-means by batches that are drawn from the points, many of them in one pass."""
    blocks = lazy().Blocks(inputs.x, inputs.weights).ready("auto")
    try:
        given = None if inputs.book is None else lazy().computed(inputs.book)
        # The first centroids come from a sample, which is in memory.
        table = Table(task._replace(init=None), blocks, [], given, pace.tol > 0)
        totals = table.total("weigh", total_of)
        size, d = pace.batch_size, table.few.plan.d

        def drawn(number: int) -> Problem:
            points = _places(table, totals, rng.random(number))
            plan = plan_for(table.few.xp, points, task.k, table.few.dtypes, table.few.flow)
            return table.few._replace(x=points, plan=plan)

        def batches() -> Iterator[Problem]:
            while True:
                many = max(1, min(pace.max_steps, AHEAD // (size * d * 8)))
                whole = drawn(many * size)
                for i in range(many):
                    points = whole.x[i * size : (i + 1) * size]
                    plan = plan_for(whole.xp, points, task.k, whole.dtypes, whole.flow)
                    yield whole._replace(x=points, plan=plan)

        if given is None:
            first = _solve._best_of_samples(task, drawn, init_size, rng)
        else:
            first = table.book("init", given)
        if pace.tol:
            pace = pace._replace(tol=pace.tol * table.variance / table.few.scale / table.few.scale)
        pace = pace._replace(inertia=lambda total: _solve._inertia(task, table.few, 1.0, total))
        few = table.few._replace(plan=table.few.plan._replace(n=blocks.n))
        return run_batches(few, None, first, pace, rng, batches())
    finally:
        blocks.let_go()
