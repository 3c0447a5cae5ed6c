"""How much is held at once, decided from shapes alone: plain Python, no arrays."""

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

# Temporary arrays of one chunk at most.
BUDGET = 4 << 20

# The same but for 256 points. Arrays on the host are read as NumPy's, which writes and reads scores and
# candidates five times: they stay in the second-level cache. With 4 MiB, 256 clusters take a fifth longer;
# with fewer points a product does.
CACHED = 1 << 20
FEWEST = 256

# The same on an accelerator, where a chunk costs a dozen launches of some 5 us each.
ACCELERATOR_BUDGET = 64 << 20

# Points settled at once when rounding leaves their nearest centroid open. A fixed number, since a
# library that compiles per shape (JAX) would otherwise compile for every count that turns up. Settling
# all of 200,000 points, k = 16, takes a third of the time that blocks of 64 take.
BLOCK = 1024


class Plan(NamedTuple):
    """Sizes of one problem of n points in d dimensions and k centroids."""

    n: int
    d: int
    k: int
    rows: int  # points of a chunk
    block: int  # unsettled points decided at a time
    columns: int = 1  # of differences from them


@lru_cache(maxsize=256)
def make_plan(
    n: int, d: int, k: int, itemsize: int, budget: int = BUDGET, member: int = 0, cached: int = CACHED
) -> Plan:
    """Choose chunk sizes so that no temporary array exceeds `budget` bytes by more than one row.

    All of a chunk take up no more than `cached`, but for `FEWEST` points, if there is room for so many.

    A point costs a score, a boolean and the same as a number (of `member` bytes, if not as many as a score)
    per centroid, and its coordinates shifted and in float64.
    """
    per_point = k * (itemsize + 1 + (member or itemsize)) + d * (2 * itemsize + 8)
    block = min(n, BLOCK, max(64, budget // (16 * k)))
    columns = max(1, budget // (8 * block * k))
    rows = min(n, max(1, budget // per_point), max(FEWEST, cached // per_point))
    return Plan(n, d, k, rows, block, columns)


# Multiplications and additions of a strand in float32, 50 to 100 us: what it takes to wake a thread for it.
STRAND = 1 << 22
# The same below which all is one strand: 200 to 300 us, which is what it takes Python to hand out the strands
# of a step, put together what they yield and see to the bounds; see `_kernels/ahead.py`. Cores that are alone
# pay for it: 1797 x 64 points, k = 100, in float64 take 7 % longer on one, and 20 % less on two.
ALONE = 3 << 22
# Strands at most, whatever the number of threads, which must not change a result.
STRANDS = 64
# Shares of the strands for each thread; and where most points may stay where they are.
SHARES = 8
SHORT = 4
# Strands that are enough.
ENOUGH = 16
# Many strands come in multiples of this, so that no thread of two or four gets one more than others: with 19
# of them for two, 20,000 points in 1024 columns take 250 ms, with 16 they take 236.
EQUAL = 4
# What the sums of all strands may take.
STRAND_BUDGET = 32 << 20


@lru_cache(maxsize=256)
def strands(n: int, d: int, k: int, itemsize: int, sums: bool = False) -> tuple[slice, ...]:
    """Cut n points, in numbers of `itemsize` bytes, into shares that are worked on side by side.

    For `sums` each has a table of (k, d + 2) to itself, and all of them are added up in the end: no more than
    fit into the budget, and for which that is little beside adding up the points. Unless that leaves too few
    to keep all cores busy, there are no more for labels either, so that both are done in one go.
    """
    work = n * (k * (d + 4) + 64) * itemsize // 4
    count = max(1, min(STRANDS, n, work // STRAND)) if work > ALONE else 1
    tables = max(1, min(count, STRAND_BUDGET // (8 * k * (d + 2)), n // (16 * k)))
    if sums or tables >= ENOUGH:
        count = tables
    if count >= ENOUGH:
        count -= count % EQUAL
    edges = [n * i // count for i in range(count + 1)]
    return tuple(slice(*edge) for edge in pairwise(edges))


def shares(n_strands: int, n_threads: int, short: bool) -> list[slice]:
    """Neighbouring strands that a thread takes at once: several shares for each, in case one is held up.

    To hand one over takes 5 us, which a `short` strand of points that all stay where they are does not.
    """
    count = min(n_strands, (SHORT if short else SHARES) * n_threads)
    edges = [n_strands * i // count for i in range(count + 1)]
    return [slice(*edge) for edge in pairwise(edges)]


# Neighbours of a centroid; with 31 bounds leave hardly fewer points open.
NEIGHBOURS = 16


def neighbours(n: int, k: int) -> int:
    """How many neighbours of each centroid to know: none if finding them takes more than 5 % of a scan."""
    return min(NEIGHBOURS, k - 1) if n >= 256 * k else 0


def pruning_pays(n: int, d: int, k: int, itemsize: int, share: float, inside: float = 1.0) -> bool:
    """Whether bounds save work in a step that still looks at a share of the points, and centroids `inside`.

    In cycles, of which float64 takes twice as many for what depends on d. To scan a point takes (d + 5) / 32
    of them for each centroid, and some to bring it there; 16 to move its bounds; d / 2 to measure how far its
    own centroid is, where these leave it open; and about 100,000 for all to see how the centroids moved. What
    is one strand alone is scanned sooner than that.
    """
    if len(strands(n, d, k, itemsize)) == 1:
        return False
    scan, measure = itemsize / 4 * (k * (d + 5) / 32 + d / 4), itemsize / 4 * d / 2
    return n * (scan * (1 - share * inside) - 16 - measure * share) > 100_000 + k * scan


def windows_pay(k: int, share: float) -> bool:
    """Whether to look at this share of the centroids only, by one coordinate, if points are lined up for it.

    That takes some 3 ns a point, what 32 centroids in 3 columns do.
    """
    return k * (1 - share) > 32 and share < 0.7
