"""One thread's walk over its share of the points, to be compiled."""

import numpy as np

from xpmeans._kernels.lanes import (
    BYTES,
    copy,
    jitted,
    larger,
    load,
    load_columns,
    minus,
    not_less,
    plus,
    smaller,
    splat,
    store,
    times,
    where_less,
)
from xpmeans._kernels.tile import BLOCK_VECTORS, COLUMNS, QUAD, add, decide, scan, square_of

# Rows looked at together, so that those whose bounds leave them open can be packed into full tiles; and
# numbers that these may have: half a MiB is still in the second-level cache when the sums are made.
ROWS = 2048
NUMBERS = 1 << 17
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
    rounding = dtype(2) * np.finfo(upper.dtype).eps
    outward, inward = splat(dtype(dtype(1) + rounding)), splat(dtype(dtype(1) - rounding))
    most = splat(farthest)
    n_open = 0
    for i in range(first, last - lanes + 1, lanes):
        moved, half_gap, nearby, outside = load_columns(drift, before, i, 0, 4)
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
    rounding = dtype(2) * np.finfo(upper.dtype).eps
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
def move(x, weights, before, labels, rows, n_rows, sums):
    """Take points from the sums of the clusters that they leave, if any, and add them to their new ones.

    Sums are of columns, weights, and points with weight; without room for them nothing is added. How many
    points changed their cluster.
    """
    n_changed = 0
    for t in range(n_rows):
        i = rows[t]
        rows[n_changed] = i
        n_changed += before[i] != labels[i]
    if sums.size == 0:
        return n_changed
    for t in range(n_changed):
        i = rows[t]
        weight = weights[i] if weights.size > 0 else 1.0
        for label, signed in ((labels[i], weight), (before[i], -weight)):  # `add` is compiled once
            if label >= 0:
                add(sums, label, x, i, signed)
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
    beyond = width + 4 * np.finfo(np.float64).eps * max(abs(low), abs(high))  # these edges are rounded
    begin, end = place_of(keys, low - beyond), place_of(keys, high + beyond)
    while end < keys.size and keys[end] == high + beyond:  # those just as far count as well
        end += 1
    return begin // QUAD, (end + QUAD - 1) // QUAD, width


def walk(
    x, weights, first_time, before, labels, upper, lower, edges, book, half_squares, order, keys, axis, reach,
    exact, centroids, shift, drift, farthest, tiles, filled, sums, n_changed,
):  # fmt: skip
    """Label points, strand by strand; how many changed their cluster, and what that adds to the sums.

    A strand lies between two `edges`, and has a table of `sums` to itself, if there is room in them. The
    `first_time` the labels `before` become -1. For `drift` and `farthest` see `books.drifts`; without rows
    of it every point is looked at: in one strand, `tiles` may have room then for all of them as they are
    scanned, and `filled` says that they are there.

    One function, for one that it called would be compiled twice, by itself and as a part of it.
    """
    if first_time:
        for i in range(before.size):
            before[i] = -1
    k, d = centroids.shape
    dtype = reach.dtype.type
    rounding = dtype(4) * np.finfo(reach.dtype).eps
    block = BLOCK_VECTORS * (BYTES // reach.itemsize)
    kept = tiles.size > 0
    if not kept:
        tiles = np.empty((1, block * (min(d, COLUMNS + 4) + 1)), reach.dtype)
    partial = np.empty(block * half_squares.size if d >= COLUMNS + 4 else 0, reach.dtype)
    found, numbers = np.empty(3 * block, reach.dtype), np.empty(block, np.int32)
    places = np.empty_like(numbers)
    lanes = np.empty((3, BYTES // 8), np.float64)
    together = max(1, min(ROWS, NUMBERS // d) // block) * block
    rows = np.empty(together + 2 * block, np.int32)
    lined, counts = np.empty(together, np.int32), np.empty(130, np.int64)
    bounded = upper.size > 0
    for strand in range(n_changed.size):
        begin, end = edges[strand], edges[strand + 1]
        n_changed[strand] = 0
        for start in range(begin, end, together):
            stop = min(start + together, end)
            n_open = stop - start
            if drift.size > 0:
                copy(before, labels, start, n_open)
                n_open = keep(upper, lower, before, drift, farthest, start, stop, rows)
                n_open = tighten(x, upper, lower, before, drift, farthest, centroids, n_open, rows, lanes[0])
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
                    x, rows, first, shift, book, half_squares, from_quad, to_quad, reach, bounded,
                    tiles[(start + first) // block if kept else 0], filled, partial, numbers, places, found,
                )  # fmt: skip
                for t in range(first, last):
                    labels[rows[t]] = order[numbers[t - first]]
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
                    labels[i], least, runner_up = decide(x, i, exact, k, lanes[0], lanes[1], lanes[2])
                    if bounded:
                        upper[i] = dtype(np.sqrt(least)) * (dtype(1) + rounding)
                        lower[i] = dtype(np.sqrt(runner_up)) * (dtype(1) - rounding)
            n_changed[strand] += move(x, weights, before, labels, rows, n_open, sums[strand])


def add_up(parts, totals, lacks, first, last):
    """Add the sums of all strands, one after the other, to the totals of some clusters.

    Their rounding goes to `lacks` (Knuth's two-sum). Clusters without points sum to zero.
    """
    columns = parts.shape[2]
    delta = np.empty(columns)
    for i in range(first, last):
        for j in range(columns):
            delta[j] = parts[0, i, j]
        for part in range(1, parts.shape[0]):
            for j in range(columns):
                delta[j] += parts[part, i, j]
        for j in range(columns):
            old = totals[i, j]
            new = old + delta[j]
            rest = new - old
            totals[i, j] = new
            lacks[i, j] += (old - (new - rest)) + (delta[j] - rest)
        if totals[i, columns - 1] == 0:
            for j in range(columns):
                totals[i, j] = lacks[i, j] = 0.0


def sum_up(x, weights, before, labels, sums):
    """What the sums change by when points move from the clusters `before`, if any, to those of `labels`."""
    rows = np.empty(min(x.shape[0], ROWS), np.int32)
    for start in range(0, x.shape[0], ROWS):
        n_rows = min(ROWS, x.shape[0] - start)
        for t in range(n_rows):
            rows[t] = start + t
        move(x, weights, before, labels, rows, n_rows, sums)


def squares(x, labels, centroids, found):
    """Squared distances of points from their centroids, by differences."""
    spare = np.empty(BYTES // 8)
    for i in range(x.shape[0]):
        found[i] = square_of(x, i, centroids, labels[i], spare)
