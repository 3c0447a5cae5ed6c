"""Mini-batch k-means: each batch moves the centroids of its points, ever less.

Sculley, "Web-scale k-means clustering", WWW 2010: a centroid is the mean of all points that batches ever gave
it. With scikit-learn's refinements: clusters that get hardly any points start anew at a point of the batch,
and a smoothed inertia says when to stop.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from xpmeans._core.distances import squared_distances
from xpmeans._core.fit import on_sphere
from xpmeans._core.initial import interval, points_at
from xpmeans._core.precision import cast
from xpmeans._core.problem import Problem, plan_for
from xpmeans._kernels import select

# Batches' points, as a multiple of k, after which poor clusters are looked for again.
PATIENCE = 10


class Stream(NamedTuple):
    """What is kept from one batch to the next."""

    centroids: Any  # (k, d)
    counts: Any  # (k,) weights of the points that each centroid is the mean of
    since: int  # points seen since poor clusters were last looked for


class Pace(NamedTuple):
    """What a run over batches is asked to do."""

    batch_size: int
    max_steps: int
    tol: float  # squared shift of all centroids that ends a run
    max_no_improvement: int | None
    reassignment_ratio: float
    spherical: bool
    on_step: Callable[[int, float, float], None] | None  # step, mean inertia of the batch, smoothed one
    inertia: Callable[[Any], Any] = float  # from a sum of scaled squares


class Run(NamedTuple):
    """What a run over batches came to."""

    stream: Stream
    n_steps: int
    smoothed: float  # inertia of a point
    reason: str | None  # why it ended before `max_steps`


def subset(problem: Problem, rows: Any) -> Problem:
    """The problem of some of the points."""
    x = problem.xp.take(problem.x, rows, axis=0)
    plan = plan_for(problem.xp, x, problem.plan.k, problem.dtypes, problem.flow)
    return problem._replace(x=x, plan=plan)


def drawn(problem: Problem, ends: Any, size: int, rng: np.random.Generator) -> Any:
    """Row numbers of a batch, drawn with replacement by cumulated weights, or where these are None evenly."""
    xp, n, uniforms = problem.xp, problem.x.shape[0], rng.random(size)
    if ends is None:  # the same rows as for equal weights
        return xp.asarray((uniforms * n).astype(np.int64), device=problem.device)
    return interval(xp, ends, xp.asarray(uniforms, dtype=ends.dtype, device=problem.device) * ends[-1])


def update(
    batch: Problem, mass: Any, stream: Stream, pace: Pace, rng: np.random.Generator
) -> tuple[Stream, Any]:
    """Move the centroids by one batch; the batch's inertia before, times the scale squared."""
    xp, dtype, scale = batch.xp, batch.dtypes.sums, batch.scale
    kernel = select(batch)
    _, (labels, sums, counts, *_) = kernel.step(kernel.start(batch.x, mass, batch.plan), stream.centroids)
    inertia = xp.sum(squared_distances(batch, stream.centroids, labels) * mass)
    old, total = cast(xp, stream.centroids, dtype), stream.counts + counts
    means = (old * scale * stream.counts[:, None] + sums) / xp.where(total > 0, total, 1.0)[:, None]
    means = xp.where((counts > 0)[:, None], means / scale, old)
    if pace.spherical:
        means = on_sphere(xp, means, old)
    moved = Stream(cast(xp, means, batch.dtypes.compute), total, stream.since + batch.plan.n)
    due = moved.since >= PATIENCE * batch.plan.k or bool(xp.any(total == 0))
    if due and pace.reassignment_ratio > 0:
        moved = _reassigned(batch, moved, pace.reassignment_ratio, rng)
    return moved, inertia


def _reassigned(batch: Problem, stream: Stream, ratio: float, rng: np.random.Generator) -> Stream:
    """Clusters with less than `ratio` of the largest one's weight, at most half a batch, moved to its points.

    They take over the least weight of the others, so as not to be moved again at once.
    """
    xp, counts = batch.xp, stream.counts
    poor = counts < ratio * xp.max(counts)
    rank = xp.argsort(xp.argsort(counts, stable=True), stable=True)
    poor = poor & (rank < max(1, batch.plan.n // 2))
    number = int(xp.sum(cast(xp, poor, xp.int32)))
    if not number:
        return stream._replace(since=0)
    rows = xp.asarray(rng.choice(batch.plan.n, number, replace=False), device=batch.device)
    place = xp.clip(xp.cumulative_sum(cast(xp, poor, rows.dtype)) - 1, min=0)
    points = xp.take(points_at(batch, rows), place, axis=0)
    least = xp.min(xp.where(poor, xp.inf, counts))
    counts = xp.where(poor, xp.where(xp.isfinite(least), least, 0.0), counts)
    return Stream(xp.where(poor[:, None], points, stream.centroids), counts, 0)


def run(
    problem: Problem,
    mass: Any,
    first: Any,
    pace: Pace,
    rng: np.random.Generator,
    batches: Iterator[Problem] | None = None,
) -> Run:
    """Draw batches until the centroids hardly move, the smoothed inertia no longer falls, or `max_steps`.

    Or take `batches` that somebody else draws.
    """
    xp, n, size = problem.xp, problem.plan.n, pace.batch_size
    zeros = xp.zeros(problem.plan.k, dtype=problem.dtypes.sums, device=problem.device)
    ones = xp.ones(size, dtype=problem.dtypes.sums, device=problem.device)
    ends = None if mass is None else xp.cumulative_sum(mass)
    stream, smoothed, least, worse = Stream(first, zeros, 0), math.nan, math.inf, 0
    for step in range(1, pace.max_steps + 1):
        batch = subset(problem, drawn(problem, ends, size, rng)) if batches is None else next(batches)
        old = stream.centroids
        stream, inertia = update(batch, ones, stream, pace, rng)
        mean = float(pace.inertia(inertia)) / size
        if step == 1:  # that of the first centroids, which says nothing of the progress
            if pace.on_step is not None:
                pace.on_step(step, mean, mean)
            continue
        share = min(1.0, 2 * size / (n + 1))
        smoothed = mean if math.isnan(smoothed) else smoothed + (mean - smoothed) * share
        if pace.on_step is not None:
            pace.on_step(step, mean, smoothed)
        if pace.tol > 0:
            shift = cast(xp, stream.centroids - old, problem.dtypes.sums)
            if float(xp.sum(shift * shift)) <= pace.tol:
                return Run(stream, step, smoothed, "small centers change")
        worse = 0 if smoothed < least else worse + 1
        least = min(least, smoothed)
        if pace.max_no_improvement is not None and worse >= pace.max_no_improvement:
            return Run(stream, step, smoothed, "lack of improvement in inertia")
    return Run(stream, pace.max_steps, mean if math.isnan(smoothed) else smoothed, None)
