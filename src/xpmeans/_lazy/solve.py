"""The work of one call on Dask arrays, from checked arguments to its answer: passes, one after the other."""

import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np

from xpmeans import _inputs
from xpmeans._checkpoint import Checkpoint
from xpmeans._core.fit import moved_by
from xpmeans._core.precision import cast
from xpmeans._core.restarts import Answer, clearly_less
from xpmeans._dispatch import without_false_alarms
from xpmeans._inputs import Inputs
from xpmeans._kernels import lazy
from xpmeans._lazy.blocks import (
    assigned,
    labelled,
    quality,
    step,
    transformed,
)
from xpmeans._lazy.table import Numbers, Table
from xpmeans._solve import Task


class Standing(NamedTuple):
    """Where a run stands."""

    centroids: Any
    n_iter: int = 0
    converged: bool = False
    ended: bool = False


def fit(table: Table, standing: Standing, tol: float, note: Callable[[Standing], None]) -> Standing:
    """Iterate until the centroids hardly move, or `max_iter` is reached, as `_core.fit` does.

    Where no label changes the sums are the same to the last bit, and the centroids do not move at all.
    """
    task, few = table.task, table.few
    while not (standing.ended or standing.converged or standing.n_iter == task.max_iter):
        old, n_iter = standing.centroids, standing.n_iter + 1
        sums, counts, inertia = table.total("step", step, old, task.callback is not None)
        moved, shift = moved_by(few, old, sums, counts, task.metric == "cosine")
        n_empty = int(np.sum(counts == 0))
        relocate = task.empty == "relocate"
        converged = bool(shift <= tol) and not (relocate and n_empty)
        ends = converged and not (task.empty == "raise" and n_empty)
        if task.callback is not None and task.callback(
            n_iter, float(table.inertia(inertia)), table.rounded(old)
        ):
            return Standing(moved, n_iter, standing.converged, True)
        if task.empty == "raise" and n_empty and not ends:
            _inputs.raise_empty()
        if relocate and n_empty:
            table.relocated(old, sums, counts, n_empty)
            moved, shift = moved_by(few, old, sums, counts, task.metric == "cosine")
            converged = bool(shift <= tol)
        standing = Standing(moved, n_iter, converged)
        note(standing)
    return standing


@without_false_alarms
def cluster(
    task: Task, inputs: Inputs, source: np.random.Generator, persist: Any, checkpoint: Any = None
) -> Answer:
    """K-means, `n_runs` times; labels are left to be computed."""
    book = None if inputs.book is None else lazy().computed(inputs.book)
    if book is not None:
        _inputs.finite("init", np, book)
    named = task.init if isinstance(task.init, str) else None
    before, mark, call = Checkpoint(checkpoint), uuid4().hex, _call(task, inputs, named, book)
    before.require(call)
    blocks = lazy().Blocks(inputs.x, inputs.weights).ready(persist)
    numbers = [Numbers.drawn(source, task.k) for _ in range(task.n_runs)] if named else []
    if "keys" in before.before:
        numbers = Numbers.unpacked(before.before)[: len(numbers)]
    try:
        table = Table(task, blocks, numbers, book, task.tol > 0 or checkpoint is not None, mark)
        before.require({**call, "n_points": blocks.n, "points": table.digest})
        best = _best(table, inputs, source, book, before)
    finally:
        blocks.let_go()
        lazy().forget(mark)
    (labels,) = lazy().columns("label", inputs.x, best.labels, labelled, (table.frame,), ((np.int32, None),))
    return best._replace(labels=labels)


def _call(task: Task, inputs: Inputs, init: str | None, book: Any) -> dict[str, Any]:
    """What tells a call from others, the points left out."""
    named = "centroids" if book is not None else str(init)
    given = {} if book is None else {"centroids": book}
    return {
        "n_clusters": task.k,
        "n_columns": inputs.x.shape[1],
        "dtype": str(inputs.x.dtype).rpartition(".")[2],
        "metric": task.metric,
        "empty": task.empty,
        "init": named,
        "max_iter": task.max_iter,
        "tol": task.tol,
        "n_init": task.n_runs,
        **given,
    }


def _best(
    table: Table, inputs: Inputs, source: np.random.Generator, book: Any, checkpoint: Checkpoint
) -> Answer:
    """The best of all runs, as `best_of` has it, with the labels' centroids in place of the labels."""
    task, before = table.task, checkpoint.before
    best: Answer | None = None
    least, begun = math.inf, int(before.get("run", 0))
    if "best_centroids" in before:
        best, least = Answer(*(before[f"best_{name}"] for name in Answer._fields)), float(before["least"])
    if "source" in before:
        source.bit_generator.state = json.loads(str(before["source"]))
    for run in range(begun, task.n_runs):
        if run == begun and before:
            standing = Standing(before["centroids"], int(before["n_iter"]), bool(before["converged"]))
        elif table.numbers:
            standing = Standing(cast(table.few.xp, table.first(run).points, table.few.dtypes.compute))
        else:
            standing = Standing(table.book("init", _called(task, inputs, source) if book is None else book))
        kept = {} if best is None else {f"best_{name}": value for name, value in best._asdict().items()}
        kept.update(Numbers.packed(table.numbers), least=least, run=run)
        if callable(task.init):  # which draws for the later runs as well
            kept["source"] = json.dumps(source.bit_generator.state, default=np.ndarray.tolist)

        def note(standing: Standing, kept: dict[str, Any] = kept) -> None:
            checkpoint.note({**kept, **standing._asdict()})

        note(standing)
        standing = fit(table, standing, task.tol * table.variance, note)
        centroids = table.rounded(standing.centroids)
        own = table.book("centroids", centroids)
        found = table.total("assess", quality, own, run + 1 < task.n_runs)
        if best is None or found.inertia < least * clearly_less(table.few):
            least = found.inertia
            inertia = table.inertia(found.inertia)
            best = Answer(centroids, own, inertia, found.sizes, standing.n_iter, standing.converged)
    assert best is not None
    checkpoint.done()
    return best._replace(
        inertia=np.float64(best.inertia), n_iter=int(best.n_iter), converged=bool(best.converged)
    )


def _called(task: Task, inputs: Inputs, source: np.random.Generator) -> Any:
    """First centroids from the caller's function."""
    found = _inputs.inputs_of("kmeans", inputs.x, init=task.init(inputs.x, task.k, source))
    _inputs.require_count("init", found.book, task.k)
    return lazy().computed(found.book)


@without_false_alarms
def plus_plus(task: Task, inputs: Inputs, source: np.random.Generator, trials: int | None) -> tuple[Any, Any]:
    """Points far from each other by k-means||, and their row numbers."""
    task = task._replace(init="k-means||")
    numbers = Numbers.drawn(source, task.k, trials)
    blocks = lazy().Blocks(inputs.x, inputs.weights).ready("auto")
    try:
        table = Table(task, blocks, [numbers])
        chosen = table.first(0)
    finally:
        blocks.let_go()
    return chosen.points.astype(table.few.dtypes.result), chosen.rows


def problems(inputs: Inputs) -> list[Inputs]:
    """Each problem of a batch by itself."""

    def part(array: Any, b: int, ndim: int) -> Any:
        return array if array is None or array.ndim < ndim else array[b]

    return [
        inputs._replace(x=inputs.x[b], weights=part(inputs.weights, b, 2), book=part(inputs.book, b, 3))
        for b in range(inputs.x.shape[0])
    ]


def assign(task: Task, inputs: Inputs, dtype: Any) -> tuple[Any, Any]:
    """Labels and distances, to be computed."""
    kinds = ((np.int32, None), (dtype, None))
    shared = (task.metric, task.kernel, dtype)
    labels, lengths = lazy().columns("assign", inputs.x, inputs.book, assigned, shared, kinds)
    return labels, lengths


def transform(task: Task, inputs: Inputs, dtype: Any) -> Any:
    """Distances of all points from all centroids, to be computed."""
    book: Any = inputs.book
    kinds = ((dtype, int(book.shape[0])),)
    (found,) = lazy().columns("transform", inputs.x, book, transformed, (task.metric, dtype), kinds)
    return found


@without_false_alarms
def inertia(task: Task, inputs: Inputs) -> float:
    """The inertia of centroids; two passes."""
    book = lazy().computed(inputs.book)
    blocks = lazy().Blocks(inputs.x, inputs.weights).ready(False)
    task = task._replace(k=1)  # any number of points will do
    table = Table(task, blocks, [], book)
    table.frame = table.frame._replace(k=len(book))
    return float(table.inertia(table.total("assess", quality, table.book("centroids", book), False).inertia))
