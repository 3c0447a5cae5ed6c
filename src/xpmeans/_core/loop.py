"""The one loop that drives every algorithm, and the control flow that a trace needs instead of Python's."""

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

from array_api_compat import device

from xpmeans._core.plan import Plan
from xpmeans._core.precision import cast
from xpmeans._core.stream import PairwiseSum, chunks, column, total

S = TypeVar("S")


def iterate(step: Callable[[S], S], state: S, finished: Callable[[S], Any]) -> S:
    """Apply `step` to `state` until it is `finished`; a state is never changed, only replaced."""
    while not finished(state):
        state = step(state)
    return state


def repeat(first: int, end: Any, step: Callable[[Any, S], S], state: S) -> S:
    """Apply ``step(i, state)`` for each number from `first` to `end`, which is not included."""
    for i in range(first, end):
        state = step(i, state)
    return state


def branch(condition: Any, then: Callable[..., S], otherwise: Callable[..., S], *operands: Any) -> S:
    """Call one of two functions."""
    return then(*operands) if condition else otherwise(*operands)


def row_sums(xp: ModuleType, table: Any, device: Any) -> Any:
    """Sums of the rows, as a product: NumPy's sum along short rows takes several times as long."""
    return table @ xp.ones(table.shape[1], dtype=table.dtype, device=device)


def sizes(xp: ModuleType, labels: Any, k: int, device: Any) -> Any:
    """Points of each cluster, as integers: sums of floats stop at 2^24 where there is no float64."""
    edges = xp.arange(k + 1, dtype=xp.int32, device=device)
    return xp.diff(xp.searchsorted(xp.sort(labels, stable=False), edges))


def product(xp: ModuleType, some: Any, labels: Any, k: int) -> Any:
    """Sums (k, d) of the rows that have the same label, or (k,) of numbers, by a matrix of zeros and ones."""
    index = xp.arange(k, dtype=labels.dtype, device=device(labels))
    return cast(xp, index[:, None] == labels[None, :], some.dtype) @ some


def cluster_sums(
    xp: ModuleType,
    plan: Plan,
    points: Callable[[Any], Any],
    labels: Any,
    weights: Any | None,
) -> tuple[Any, Any]:
    """Weighted sums (k, d) and counts (k,) of each cluster's points, which ``points(rows)`` gives."""
    sums, counts = PairwiseSum(), PairwiseSum()
    for rows in chunks(plan.n, plan.rows):
        some, label = points(rows), labels[rows]
        if weights is None:
            mass = xp.ones(some.shape[0], dtype=some.dtype, device=device(some))
        else:
            mass = weights[rows]
            some = some * mass[:, None]
        sums.add(product(xp, some, label, plan.k))
        counts.add(product(xp, mass, label, plan.k))
    return sums.value, counts.value


def settle(
    xp: ModuleType, labels: Any, decide: Callable[[Any], Any], block: int, room: int | None
) -> tuple[Any, Any]:
    """Let ``decide(rows)`` label the points whose label is negative, a block of fixed size at a time.

    With a `room` no more than so many, and how many are left. The i-th open point is where the running count
    of open points first reaches i, and the running count is also each point's place among the answers:
    neither compaction nor scatter is needed.
    """
    rank = xp.cumulative_sum(cast(xp, labels < 0, xp.int32), dtype=xp.int32)
    found = rank[-1]
    answers = [labels[:1]]  # the place of the settled points before the first open one
    for first in range(1, (int(found) if room is None else room) + 1, block):
        order = xp.arange(first, first + block, dtype=xp.int32, device=device(labels))
        answers.append(decide(xp.searchsorted(rank, xp.minimum(order, found))))
    found_here = xp.concat(answers)
    rank = xp.minimum(rank, found_here.shape[0] - 1)
    decided = xp.where(labels < 0, xp.take(found_here, rank, axis=0), labels)
    return decided, None if room is None else found - room


def for_each(
    xp: ModuleType, solve: Callable[..., Any], arrays: tuple[Any, ...], batched: tuple[bool, ...]
) -> tuple[Any, ...]:
    """Solve each problem of a batch, and stack what they yield; what is not batched, they share."""

    def part(b: int) -> list[Any]:
        return [array[b, ...] if own else array for array, own in zip(arrays, batched, strict=True)]

    answers = [solve(*part(b)) for b in range(arrays[0].shape[0])]
    return tuple(xp.stack(parts) for parts in zip(*answers, strict=True))


class Flow(NamedTuple):
    """What looks different under a trace, where no value is known and a state keeps its shapes and dtypes."""

    iterate: Callable[..., Any]
    repeat: Callable[..., Any]
    branch: Callable[..., Any]
    known: Callable[[Any], Any]  # an integer array as a number, where there are numbers
    column: Callable[..., Any]
    total: Callable[..., Any]
    row_sums: Callable[..., Any]
    for_each: Callable[..., Any]
    sizes: Callable[..., Any] = sizes
    sums: Callable[..., Any] = cluster_sums
    settle: Callable[..., Any] = settle
    traced: bool = False
    asks: bool = True  # whether to look at values as often as it saves work


EAGER = Flow(iterate, repeat, branch, int, column, total, row_sums, for_each)

# On an accelerator the host enqueues work ahead, and waits for all of it when it asks for a value.
ACCELERATOR = EAGER._replace(asks=False)
