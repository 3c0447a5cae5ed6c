"""Dask: passes over the blocks of an array, each block worked on where it lies.

A pass gives every block of rows to a task, and adds up what the tasks yield in a tree by the blocks'
numbers. So the order of the sums is that of the blocks, whatever the scheduler, the number of workers and
whether tasks had to be run again. What a task yields is small: blocks are never sent, joined or cut.

Tasks are functions of their arguments alone. What a task finds out that helps the next one on the same
block, such as bounds on distances, is left beside the block in the worker's memory, and lives as long as the
block. It saves work and never changes a bit, so it may be lost with its worker, or when a block was spilled
or moved. What is to outlive blocks that are read again in each pass is a result of the pass, which Dask keeps
where it was made, and makes again from the blocks if it is lost, see `Blocks.fold`.
"""

import inspect
import os
import sys
import warnings
import weakref
from collections.abc import Callable
from itertools import accumulate
from typing import Any
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
from dask._task_spec import Alias, DataNode, GraphNode, Task, TaskRef, convert_legacy_graph
from dask.base import get_scheduler
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph
from dask.sizeof import sizeof

# Parts that are put together in one task.
FAN = 16
# Blocks of so few bytes are served together, if there are so many.
SMALL = 2 << 20
MANY = 256
# Share of the workers' memory up to which data are held there.
SHARE = 0.5
# What is left beside a block, for each of its points.
BYTES_BESIDE = 24
# No warning that the graph is large, as it is with many blocks.
QUIET = {"distributed.admin.large-graph-warning-threshold": "1 GiB"}

_beside: dict[int, tuple[Any, str, Any]] = {}


def left_beside(block: Any, mark: str) -> Any:
    """Take away what was left beside a block, and return it if that was under this mark, else None."""
    owner, found, value = _beside.pop(id(block), (None, "", None))
    return value if owner is not None and owner() is block and found == mark else None


def forget(mark: str) -> None:
    """Clear away what a call left beside blocks of this process that live on."""
    for number, (_, found, _) in list(_beside.items()):
        if found.startswith(mark):
            _beside.pop(number, None)


def leave_beside(block: Any, mark: str, value: tuple[Any, ...]) -> None:
    """Leave a tuple beside a block, which it must not hold, or neither would ever go."""
    number = id(block)
    try:
        owner = weakref.ref(block, lambda _: _beside.pop(number, None))
    except TypeError:
        return
    _beside[number] = owner, mark, value


class Blocks:
    """The rows of a Dask array, block by block, with a weight for each.

    Rows are not numbered before their number in each block is known, see `sized`.
    """

    def __init__(self, x: Any, weights: Any | None = None) -> None:
        if weights is not None:
            weights = _aligned(weights, x)
        self.x, self.weights = x, weights
        self._held: Any = None
        self._found: Any = None
        self._sizes = None if np.isnan(x.chunks[0]).any() else x.chunks[0]
        self._prepare()

    def _prepare(self) -> None:
        """Make the graphs ready once, for all passes."""
        arrays = [self.x] if self.weights is None else [self.x, self.weights]
        (*arrays,) = dask.optimize(*arrays)
        self._graph: dict[Any, Any] = {}
        for array in arrays:
            self._graph.update(convert_legacy_graph(dict(array.__dask_graph__())))
        self._keys = [row[0] for row in arrays[0].__dask_keys__()]
        self._weights = arrays[1].__dask_keys__() if self.weights is not None else []
        self._packs: list[Any] = []
        own = {key: _own_nodes(self._graph, key) for key in (*self._keys, *self._weights)}
        alone = None not in own.values()
        self._together = FAN if alone and self._small() else 1
        # The tasks that make blocks, done in one with the work: then a block is made where it is needed.
        self._inner = [
            [node for key in (*self._keys[some], *self._weights[some]) for node in own[key] or []]
            for some in self._units()
            if alone
        ]

    def _small(self) -> bool:
        """Whether blocks are many, and so small that to hand over a task takes longer than the work."""
        size = 0 if self._sizes is None else max(self._sizes) * self.x.dtype.itemsize * self.x.shape[1]
        return len(self._keys) >= MANY and 0 < size <= SMALL

    def _units(self) -> list[slice]:
        """Blocks that one task serves: one, or some that are small and need nothing but themselves."""
        return [slice(i, i + self._together) for i in range(0, len(self._keys), self._together)]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of rows of each block."""
        assert self._sizes is not None
        return tuple(map(int, self._sizes))

    @property
    def n(self) -> int:
        """Number of rows."""
        return sum(self.sizes)

    def ready(self, persist: bool | str) -> "Blocks":
        """Held in memory if asked for, and with the number of rows known."""
        return self.held(True).sized() if persist is True else self.sized().held(persist)

    def sized(self) -> "Blocks":
        """Look how many rows each block has, if that is not known: one pass."""
        if self._sizes is None:
            self._sizes = self._counted()
            if self.weights is not None and not np.isnan(self.weights.shape[0]):
                if self.weights.shape[0] != self.n:
                    raise ValueError(
                        f"`sample_weight` must have a weight for each point ({self.n}), got "
                        f"{self.weights.shape[0]}."
                    )
                self.weights = self.weights.rechunk((self._sizes,))
                self._prepare()
        return self

    def _counted(self) -> tuple[int, ...]:
        """Rows of each block."""
        token = uuid4().hex
        keys = [(f"kmeans-count-{token}", i) for i in range(len(self._keys))]
        tasks = {key: Task(key, len, TaskRef(block)) for key, block in zip(keys, self._keys, strict=True)}
        return tuple(get_scheduler(cls=da.Array)({**self._graph, **tasks}, keys))

    def held(self, persist: bool | str) -> "Blocks":
        """The same with the data in the workers' memory, if they are to be, or "auto" and they fit."""
        if persist == "auto":
            weight = 0 if self.weights is None else self.weights.dtype.itemsize
            persist = self._fits(self.x.dtype.itemsize * self.x.shape[1] + weight + BYTES_BESIDE)
        if not persist:
            return self
        other = object.__new__(Blocks)
        other.__dict__.update(self.__dict__)
        if self._together == 1:
            other.x, *weights = dask.persist(self.x, *([] if self.weights is None else [self.weights]))
            other.weights = weights[0] if weights else None
            other._prepare()
            return other
        name = f"kmeans-hold-{uuid4().hex}"
        graph, other._packs = dict(self._graph), []
        for i, group in enumerate(self._units()):
            key = (name, i)
            blocks = map(TaskRef, (*self._keys[group], *self._weights[group]))
            graph[key] = Task.fuse(*self._inner[i], Task(key, Pack, *blocks), key=key)
            other._packs.append(key)
        packs = da.Array(graph, name, ((1,) * len(other._packs),), dtype=object)
        (other._held,) = dask.persist(packs)  # whose futures go with this array
        other._graph = convert_legacy_graph(dict(other._held.__dask_graph__()))
        return other

    def let_go(self) -> None:
        """Forget the blocks, so that those held are freed even where a traceback holds on to this."""
        self._graph, self._inner = {}, []
        self.x = self.weights = self._held = self._found = None

    def _fits(self, each: int) -> bool:
        """Whether so many bytes for each point take up no more than `SHARE` of the memory."""
        get = get_scheduler(cls=da.Array)
        if get is get_scheduler(scheduler="processes"):
            return False  # whose workers live for one pass
        return float(self.n * each) <= SHARE * _memory(getattr(get, "__self__", None))

    def total(self, name: str, work: Callable[..., Any], shared: tuple[Any, ...]) -> Any:
        """What ``work(block, weights, first row, *shared)`` yields for all blocks, put together; one pass.

        `work` yields values with a method ``joined(others)``. Empty blocks are left out.
        """
        graph, leaves = self._tasks(name, work, shared)
        last = _summed(name, graph, leaves)
        return self._get(graph, last)

    def fold(self, name: str, work: Callable[..., Any], shared: tuple[Any, ...], each: int) -> Any:
        """The same for work that goes on from what it found out in the pass before.

        ``work(block, weights, first row, found, *shared)`` yields a pair: what is put together, and what it
        found out about the block, which takes up so many bytes for `each` point. This is what the next pass
        gets as `found` if there is room for two of them, as one is made of the other; else it gets None.
        """
        keep = each > 0 and self._fits(2 * each)
        graph, wholes = self._tasks(name, work, shared, keep)
        graph.update(self._kept())
        parts = [(f"kmeans-{name}-part-{own}", i) for own, i in wholes]
        for part, whole in zip(parts, wholes, strict=True):
            graph[part] = Task(part, _part, TaskRef(whole))
        last = _summed(name, graph, parts)
        if not keep:
            found, self._found = self._get(graph, last), None
            return found
        top = (wholes[0][0], len(wholes))
        graph[top] = Task(top, Found, TaskRef(last))
        self._found = self._begun(graph, top)  # so that what was found before goes as it is used
        return self._get(self._kept(), top).part

    def _begun(self, graph: dict[Any, Any], top: Any) -> Any:
        """An array that holds what tasks yield, as long as it lives: all those named like the one on top."""
        name, number = top
        with dask.config.set(QUIET):
            array = da.Array(graph, name, ((1,) * (number + 1),), dtype=object)
            return dask.persist(array, optimize_graph=False)[0]

    def _kept(self) -> dict[Any, Any]:
        """What was found in the last pass; nothing where the scheduler knows it."""
        return {} if self._found is None else convert_legacy_graph(dict(self._found.__dask_graph__()))

    def _get(self, graph: dict[Any, Any], key: Any) -> Any:
        """The result of a task."""
        with dask.config.set(QUIET):
            return get_scheduler(cls=da.Array)(graph, [key])[0]

    def _tasks(
        self, name: str, work: Callable[..., Any], shared: tuple[Any, ...], keep: bool | None = None
    ) -> tuple[dict[Any, Any], list[Any]]:
        """A graph, and in it the keys of tasks that put together the parts of each unit of blocks."""
        token = uuid4().hex
        whole, given = f"kmeans-{name}-{token}", f"kmeans-{name}-given-{token}"
        fused = self._inner and not self._packs
        graph = {key: node for key, node in self._graph.items() if isinstance(node, DataNode) or not fused}
        graph[given] = DataNode(given, shared)
        sizes = (0,) * len(self._keys) if self._sizes is None else self._sizes
        firsts = tuple(accumulate(sizes, initial=0))[:-1]
        leaves = []
        for i, some in enumerate(self._units()):
            key = (whole, i)
            arrays = [self._packs[i]] if self._packs else [*self._keys[some], *self._weights[some]]
            call = (work, TaskRef(given), firsts[some], *map(TaskRef, arrays))
            if keep is None:
                task = Task(key, _parts, *call)
            else:
                before = None if self._found is None else TaskRef((self._found.name, i))
                task = Task(key, _folded, keep, before, *call)
            graph[key] = Task.fuse(*self._inner[i], task, key=key) if fused else task
            leaves.append(key)
        return graph, leaves


class Found:
    """What a pass yields for some blocks: a part, and by the number of its first row what to keep of each."""

    def __init__(self, part: Any, kept: dict[int, Any] | None = None) -> None:
        self.part, self.kept = part, kept or {}

    def __sizeof__(self) -> int:
        return int(sizeof(self.kept))


class Pack:
    """Some small blocks held together, and their weights."""

    def __init__(self, *arrays: Any) -> None:
        self.arrays = arrays

    def __sizeof__(self) -> int:
        return sum(int(array.nbytes) for array in self.arrays)


def _summed(name: str, graph: dict[Any, Any], leaves: list[Any]) -> Any:
    """The key of a task that puts together what others yield, which is added to the graph."""
    token, level = uuid4().hex, 0
    while len(leaves) > 1:
        level += 1
        keys = []
        for i in range(0, len(leaves), FAN):
            key = (f"kmeans-{name}-sum-{token}", level, i // FAN)
            graph[key] = Task(key, _joined, *map(TaskRef, leaves[i : i + FAN]))
            keys.append(key)
        leaves = keys
    return leaves[0]


def _own_nodes(graph: dict[Any, Any], key: Any) -> list[Any] | None:
    """The tasks that make a block and nothing else, or None if they need more than common data."""
    nodes = [graph.get(key)]
    while isinstance(nodes[-1], Alias):
        nodes.append(graph.get(nodes[-1].target))
    last = nodes[-1]
    alone = isinstance(last, GraphNode) and all(isinstance(graph.get(d), DataNode) for d in last.dependencies)
    return nodes if alone else None


def columns(
    name: str, x: Any, book: Any, work: Callable[..., Any], shared: tuple[Any, ...], kinds: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Lazy arrays chunked like the rows of `x`: the items of what ``work(block, book, *shared)`` yields.

    For each a dtype, and a number of columns or None. Computed together they share one pass.
    """
    token = uuid4().hex
    given, whole = f"kmeans-{name}-given-{token}", f"kmeans-{name}-{token}"
    layer: dict[Any, Any] = {given: DataNode(given, shared)}
    if isinstance(book, da.Array):
        book = book.rechunk(-1)
        own, sources = next(flatten(book.__dask_keys__())), [x, book]
    else:
        own, sources = f"kmeans-{name}-book-{token}", [x]
        layer[own] = DataNode(own, book)
    for i, row in enumerate(x.__dask_keys__()):
        layer[whole, i] = Task((whole, i), _row, work, TaskRef(row[0]), TaskRef(own), TaskRef(given))
    graph = HighLevelGraph.from_collections(whole, layer, dependencies=sources)
    found = []
    for j, (dtype, width) in enumerate(kinds):
        out, tail = f"kmeans-{name}-{j}-{token}", () if width is None else (0,)
        keys = [(out, i, *tail) for i in range(x.numblocks[0])]
        part = {key: Task(key, _item, TaskRef((whole, key[1])), j) for key in keys}
        layers = HighLevelGraph({**graph.layers, out: part}, {**graph.dependencies, out: {whole}})
        chunks = (x.chunks[0],) if width is None else (x.chunks[0], (width,))
        meta = da.utils.meta_from_array(x._meta, ndim=len(chunks), dtype=dtype)
        found.append(da.Array(layers, out, chunks, meta=meta))
    return tuple(found)


def chain(name: str, x: Any, weights: Any | None, work: Callable[..., Any], value: Any) -> Any:
    """What becomes of a value by ``value = work(block, weights, value)`` for one block after the other.

    Each block is made when its turn comes, worked on where it is, and forgotten. Empty ones are left out.
    """
    blocks, token = Blocks(x, weights), uuid4().hex
    get = get_scheduler(cls=da.Array)
    for i, key in enumerate(blocks._keys):
        given, own = (f"kmeans-{name}-given-{token}", i), (f"kmeans-{name}-{token}", i)
        mass = TaskRef(blocks._weights[i]) if blocks._weights else None
        task = Task(own, _next, work, TaskRef(key), mass, TaskRef(given))
        graph = {**blocks._graph, given: DataNode(given, value), own: task}
        (value,) = get(HighLevelGraph.from_collections(name, graph).cull({own}).to_dict(), [own])
    return value


def known(x: Any) -> Any:
    """The same with the sizes of its blocks known; one pass if they are not."""
    sizes = Blocks(x).sized().sizes
    return da.Array(x.dask, x.name, (sizes, x.chunks[1]), meta=x._meta)


def computed(array: Any) -> Any:
    """A small Dask array, or any other value, as what it is made of."""
    return dask.compute(array)[0]


def whole_rows(x: Any) -> Any:
    """The same with all columns of a row in one block."""
    if x.numblocks[-1] == 1:
        return x
    warnings.warn(
        f"`x` is cut into {x.numblocks[-1]} blocks of columns, and k-means needs all columns of a point at "
        "once. Each block of rows is put together on one worker, to which all its pieces but one are sent, "
        "in every pass over data that are not held in memory. Hint: store the data in blocks of whole rows, "
        "or persist x.rechunk({1: -1}).",
        UserWarning,
        stacklevel=_outside(),
    )
    return x.rechunk({x.ndim - 1: -1})


def _outside() -> int:
    """How many frames lie between a warning's caller and the code that called this package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("xpmeans"):
        frame, level = frame.f_back, level + 1
    return level


def _aligned(weights: Any, x: Any) -> Any:
    """Weights in the blocks of the points, as far as their sizes are known."""
    known = not np.isnan(x.chunks[0]).any()
    if known and not np.isnan(weights.chunks[0]).any():
        return weights.rechunk((x.chunks[0],))
    if len(weights.chunks[0]) != len(x.chunks[0]) and (known or np.isnan(weights.chunks[0]).any()):
        raise ValueError(
            f"`sample_weight` must have the chunks of `x`, or known ones, got {len(weights.chunks[0])} of "
            f"unknown size beside {len(x.chunks[0])}. "
            "Hint: sample_weight.compute_chunk_sizes() finds them out."
        )
    return weights


def _memory(client: Any) -> float:
    """What the workers of a client may hold, or what is free on this machine."""
    if hasattr(client, "scheduler_info"):
        takes = inspect.signature(client.scheduler_info).parameters
        everyone = {"n_workers": -1} if "n_workers" in takes else {}  # some versions look at five
        limits = [worker["memory_limit"] for worker in client.scheduler_info(**everyone)["workers"].values()]
        if limits and all(limits):
            return float(sum(limits))
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
        return float(pages * os.sysconf("SC_PAGE_SIZE")) / 2 if pages else 0.0


def _parts(work: Callable[..., Any], shared: tuple[Any, ...], firsts: tuple[int, ...], *arrays: Any) -> Any:
    """What blocks, given with the numbers of their first rows, yield in a pass; None if all are empty."""
    n = len(firsts)
    if isinstance(arrays[0], Pack):
        arrays = arrays[0].arrays
    blocks, weights = arrays[:n], arrays[n:] or (None,) * n
    found = []
    for block, mass, first in zip(blocks, weights, firsts, strict=True):
        if mass is not None and mass.shape[0] != block.shape[0]:
            raise ValueError(
                f"`sample_weight` must have a weight for each point, got {mass.shape[0]} for the "
                f"{block.shape[0]} of a block."
            )
        if block.shape[0]:
            found.append(work(block, mass, first, *shared))
    return _joined(*found)


def _folded(
    keep: bool,
    before: Found | None,
    work: Callable[..., Any],
    shared: Any,
    firsts: tuple[int, ...],
    *arrays: Any,
) -> Found:
    """The same for work that goes on from what was found `before`."""
    kept = {} if before is None else before.kept
    found = {}

    def on(block: Any, mass: Any, first: int, *shared: Any) -> Any:
        part, found[first] = work(block, mass, first, kept.get(first), *shared)
        return part

    return Found(_parts(on, shared, firsts, *arrays), found if keep else None)


def _part(found: Found) -> Any:
    return found.part


def _joined(*parts: Any) -> Any:
    """The parts of some blocks, in their order, put together."""
    found = [part for part in parts if part is not None]
    return found[0].joined(found[1:]) if found else None


def _next(work: Callable[..., Any], block: Any, weights: Any | None, value: Any) -> Any:
    return work(block, weights, value) if block.shape[0] else value


def _row(work: Callable[..., Any], block: Any, book: Any, shared: tuple[Any, ...]) -> Any:
    return work(block, book, *shared)


def _item(parts: tuple[Any, ...], j: int) -> Any:
    return parts[j]
