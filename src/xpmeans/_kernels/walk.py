"""One thread's walk over its share of the points, to be compiled."""

import numpy as np

from xpmeans._kernels.columns import load_columns
from xpmeans._kernels.lanes import (
    BYTES,
    REGISTERS,
    copy,
    differ,
    epsilon_of,
    jitted,
    larger,
    load,
    lowest_bit,
    minus,
    not_less,
    plus,
    scratch,
    smaller,
    splat,
    store,
    times,
    where_less,
)
from xpmeans._kernels.tile import COLUMNS, QUAD, add, decide, scan, square_of

# Rows looked at together, so that those whose bounds leave them open can be packed into full tiles; and
# numbers that these may have: half a MiB is still in the second-level cache when the sums are made.
ROWS = 2048
NUMBERS = 1 << 17
# Vectors on the stack: a tile and its squares, what is found out about its points, rows, and counts of them.
TILE_VECTORS = REGISTERS * (COLUMNS + 5)
FOUND_VECTORS = 3 * REGISTERS
ROW_VECTORS = 4 * ROWS // BYTES + 4 * REGISTERS
COUNT_VECTORS = 1024 // BYTES
# How many times as far as a point's own centroid the window into the others reaches.
MARGIN = 1.5
# Range whose reciprocal is far from overflow.
SMALLEST = 1e-300


@jitted(inline="always")
def lowered(lower, high, farthest, nearby, outside, inward):
    """A lower bound on the distances from other centroids, once these have moved; `high` is the upper one.

    Either no other centroid has come nearer than the farthest moved. Or a neighbour of the own one has, by no
    more than these moved, or else the nearest is no neighbour, and as far away as that leaves it.
    """
    near = smaller(minus(lower, nearby), minus(outside, high))
    return times(larger(minus(lower, farthest), near), inward)


@jitted()
def keep(upper, lower, before, drift, farthest, first, last, rows):
    """Move the bounds along with the centroids; the rows that they leave open, and how many.

    The bounds of these stay as they are.
    """
    dtype, lanes = upper.dtype.type, BYTES // upper.itemsize
    rounding = dtype(2) * epsilon_of(upper)
    outward, inward = splat(dtype(dtype(1) + rounding)), splat(dtype(dtype(1) - rounding))
    most = splat(farthest)
    n_open = 0
    for i in range(first, last - lanes + 1, lanes):
        moved, half_gap, nearby, outside = load_columns(drift, before, i, 0)
        old_high, old_low = load(upper, i), load(lower, i)
        high = times(plus(old_high, moved), outward)
        low = lowered(old_low, high, most, nearby, outside, inward)
        limit = larger(low, half_gap)
        store(upper, i, where_less(high, limit, high, old_high))
        store(lower, i, where_less(high, limit, low, old_low))
        is_open = not_less(high, limit)
        if is_open:
            for lane in range(lanes):
                rows[n_open] = i + lane
                n_open += is_open >> lane & 1
    for i in range(last - (last - first) % lanes, last):
        rows[n_open] = i
        n_open += 1
    return n_open


@jitted()
def tighten(x, upper, lower, before, drift, farthest, centroids, n_kept, rows, spare):
    """Measure the distances from the own centroids; the rows that are still open, and how many."""
    dtype = upper.dtype.type
    rounding = dtype(2) * epsilon_of(upper)
    n_open = 0
    for t in range(n_kept):
        i = rows[t]
        label = before[i]
        own = drift[label]
        square = square_of(x, i, centroids, label, spare)
        high = dtype(np.sqrt(square)) * (dtype(1) + dtype(2) * rounding)
        near = min(lower[i] - own[2], own[3] - high)
        low = max(lower[i] - farthest, near) * (dtype(1) - rounding)
        rows[n_open] = i
        n_open += high >= max(low, own[1])
        upper[i], lower[i] = high, low
    return n_open


@jitted()
def move(x, weights, before, labels, first, last, rows, sums):
    """Take points from the sums of the clusters that they leave, if any, and add them to their new ones.

    Sums are of columns, weights, and points with weight; without room for them nothing is added. How many
    points changed their cluster; `rows` is room for these.
    """
    n_changed, lanes = 0, BYTES // 4
    for i in range(first, last - lanes + 1, lanes):
        changed = differ(before, labels, i)
        while changed:
            rows[n_changed] = i + lowest_bit(changed)
            n_changed += 1
            changed &= changed - 1
    for i in range(last - (last - first) % lanes, last):
        rows[n_changed] = i
        n_changed += before[i] != labels[i]
    if sums.size == 0:
        return n_changed
    for t in range(n_changed):
        i = rows[t]
        weight = weights[i] if weights.size > 0 else 1.0
        count = 1.0 if weight > 0 else 0.0
        # In a loop, so that `add` is compiled once.
        for label, signed, counted in ((labels[i], weight, count), (before[i], -weight, -count)):
            if label >= 0:
                add(sums, label, x, i, signed, counted)
    return n_changed


@jitted()
def line_up(x, axis, rows, n_rows, lined, counts):
    """Put rows in the order of one coordinate, up to a fraction of its range, by counting."""
    low = high = x[rows[0], axis]
    for t in range(n_rows):
        low, high = min(low, x[rows[t], axis]), max(high, x[rows[t], axis])
    width = np.float64(high - low)
    scale = (counts.size - 2) / width if width > SMALLEST else 0.0
    for bucket in range(counts.size):
        counts[bucket] = 0
    for t in range(n_rows):
        counts[int((x[rows[t], axis] - low) * scale) + 1] += 1
    for bucket in range(1, counts.size):
        counts[bucket] += counts[bucket - 1]
    for t in range(n_rows):
        bucket = int((x[rows[t], axis] - low) * scale)
        lined[counts[bucket]] = rows[t]
        counts[bucket] += 1
    for t in range(n_rows):
        rows[t] = lined[t]


@jitted()
def place_of(keys, key):
    """How many of some numbers in their order are less than one; NumPy's takes half a second to compile."""
    low, high = 0, keys.size
    while low < high:
        middle = (low + high) // 2
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low


@jitted()
def window(x, axis, upper, keys, rows, first, last):
    """Which fours of centroids may hold the nearest to some points, by one coordinate; how far others are.

    These are farther away in that coordinate than a point's own centroid is, and some more, so that the
    bounds of the points last.
    """
    low = high = np.float64(x[rows[first], axis])
    width = 0.0
    for t in range(first, last):
        key = np.float64(x[rows[t], axis])
        low, high, width = min(low, key), max(high, key), max(width, np.float64(upper[rows[t]]))
    width *= MARGIN
    beyond = width + 4 * epsilon_of(keys) * max(abs(low), abs(high))  # these edges are rounded
    begin, end = place_of(keys, low - beyond), place_of(keys, high + beyond)
    while end < keys.size and keys[end] == high + beyond:  # those just as far count as well
        end += 1
    return begin // QUAD, (end + QUAD - 1) // QUAD, width


def walk(
    x, weights, first_time, before, labels, upper, lower, edges, book, half_squares, names, keys, axis, reach,
    exact, centroids, shift, drift, farthest, tiles, filled, partial, sums, n_changed,
):  # fmt: skip
    """Label points, strand by strand; how many changed their cluster, and what that adds to the sums.

    A strand lies between two `edges`, and has a table of `sums` to itself, if there is room in them. The
    `first_time` the labels `before` become -1. For `drift` and `farthest` see `books.drifts`; without rows
    of it every point is looked at: in one strand, `tiles` may have room then for all of them as they are
    scanned, and `filled` says that they are there.

    There must be room in `partial` for the scores of a tile if there are `COLUMNS` and four columns or more.

    One function, for one that it called would be compiled twice, by itself and as a part of it.
    """
    if first_time:
        for i in range(before.size):
            before[i] = -1
    k, d = centroids.shape
    dtype = reach.dtype.type
    rounding = dtype(4) * epsilon_of(reach)
    block = REGISTERS * BYTES // reach.itemsize
    tile, found = scratch(reach, TILE_VECTORS), scratch(reach, FOUND_VECTORS)
    numbers = scratch(labels, REGISTERS)
    best, second, index = scratch(centroids, 1), scratch(centroids, 1), scratch(centroids, 1)
    rows, lined = scratch(labels, ROW_VECTORS), scratch(labels, ROW_VECTORS)
    counts = scratch(edges, COUNT_VECTORS)
    together = max(1, min(ROWS, NUMBERS // d) // block) * block
    bounded = upper.size > 0
    for strand in range(n_changed.size):
        begin, end = edges[strand], edges[strand + 1]
        n_changed[strand] = 0
        for start in range(begin, end, together):
            stop = min(start + together, end)
            n_open = stop - start
            if drift.size > 0:
                copy(before, start, labels, start, n_open)
                n_open = keep(upper, lower, before, drift, farthest, start, stop, rows)
                n_open = tighten(x, upper, lower, before, drift, farthest, centroids, n_open, rows, best)
            else:
                for t in range(n_open):
                    rows[t] = start + t
            for t in range(n_open, n_open + 2 * block):  # fills up the last tile, and one to look ahead to
                rows[t] = rows[max(n_open - 1, 0)]
            if axis >= 0 and n_open > block:
                line_up(x, axis, rows, n_open, lined, counts)
            for first in range(0, n_open, block):
                last = min(first + block, n_open)
                from_quad, to_quad, width = 0, half_squares.size // QUAD, np.inf
                if axis >= 0:
                    from_quad, to_quad, width = window(x, axis, upper, keys, rows, first, last)
                certain = scan(
                    x, rows, first, shift, book, half_squares, names, from_quad, to_quad, reach, bounded,
                    tiles[(start + first) // block] if tiles.size > 0 else tile, filled, partial, numbers,
                    found,
                )  # fmt: skip
                if drift.size == 0 and last - first == block:
                    copy(numbers, 0, labels, start + first, block)
                else:
                    for t in range(first, last):
                        labels[rows[t]] = numbers[t - first]
                if bounded:
                    beyond = dtype(width) * (dtype(1) - rounding)
                    for t in range(first, last):
                        upper[rows[t]] = found[block + t - first]
                        lower[rows[t]] = min(found[2 * block + t - first], beyond)
                if certain:
                    continue
                for t in range(first, last):
                    if found[t - first] > 0:
                        continue
                    i = rows[t]
                    labels[i], least, runner_up = decide(x, i, exact, k, best, second, index)
                    if bounded:
                        upper[i] = dtype(np.sqrt(least)) * (dtype(1) + rounding)
                        lower[i] = dtype(np.sqrt(runner_up)) * (dtype(1) - rounding)
            n_changed[strand] += move(x, weights, before, labels, start, stop, rows, sums[strand])


def add_up(parts, totals, lacks, first, last):
    """Add the sums of all strands, one after the other, to the totals of some clusters, and leave zeros.

    Their rounding goes to `lacks` (Knuth's two-sum). Clusters without points sum to zero.
    """
    columns = parts.shape[2]
    for i in range(first, last):
        for part in range(1, parts.shape[0]):
            for j in range(columns):
                parts[0, i, j] += parts[part, i, j]
                parts[part, i, j] = 0.0
        for j in range(columns):
            old = totals[i, j]
            new = old + parts[0, i, j]
            rest = new - old
            totals[i, j] = new
            lacks[i, j] += (old - (new - rest)) + (parts[0, i, j] - rest)
            parts[0, i, j] = 0.0
        if totals[i, columns - 1] == 0:
            for j in range(columns):
                totals[i, j] = lacks[i, j] = 0.0


def sum_up(x, weights, before, labels, sums):
    """What the sums change by when points move from the clusters `before`, if any, to those of `labels`."""
    rows = scratch(labels, ROW_VECTORS)
    for start in range(0, x.shape[0], ROWS):
        move(x, weights, before, labels, start, min(start + ROWS, x.shape[0]), rows, sums)


def judge(x, weights, labels, centroids, sizes):
    """The weighted sum of the squared distances from their centroids; how many points each of these has."""
    spare, inertia = scratch(centroids, 1), 0.0
    for start in range(0, x.shape[0], ROWS):  # what the sum rounds to grows with the longest row of terms
        part = 0.0
        for i in range(start, min(start + ROWS, x.shape[0])):
            label = np.uint64(labels[i])
            square = square_of(x, i, centroids, label, spare)
            part += square * weights[i] if weights.size > 0 else square
            sizes[label] += 1
        inertia += part
    return inertia


def squares(x, labels, centroids, found):
    """Squared distances of points from their centroids, by differences."""
    spare = scratch(centroids, 1)
    for i in range(x.shape[0]):
        found[i] = square_of(x, i, centroids, labels[i], spare)
