"""The compiled part of the host kernel: one thread's walk over its share of the points.

Points lie in lanes: a tile holds `BLOCK_VECTORS` vectors of points, column by column, and meets four centroids
at a time, whose scores stay in registers. Nothing of size n x k or of the size of a chunk x k is ever written.

The scores are those of the reference kernel (`_core/nearest.py`), and so is the bound on their rounding: where
the best two are closer than that, the point is decided by differences in float64, the way the reference does.
So labels are the same.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import njit, types
from numba.np.numpy_support import from_dtype

from xpmeans._kernels.lanes import (
    BYTES,
    all_less,
    larger,
    load,
    load_columns,
    load_wide,
    minus,
    plus,
    prefetch,
    root,
    smaller,
    splat,
    store,
    store_integers,
    store_wide,
    times,
    times_plus,
    where_less,
)

# Vectors of points in a tile, and centroids that meet it at once: eight sums are what two units that multiply
# and add, with results four cycles later, need to be busy, and they leave registers free on AVX2.
BLOCK_VECTORS = 2
QUAD = 4
# Columns of a tile. 16 KiB stay in the first-level cache, beside the centroids' columns.
COLUMNS = 128
# Rows looked at together, so that those whose bounds leave them open can be packed into full tiles, and numbers
# that these may have: half a MiB is still in the second-level cache when the sums are made.
ROWS = 2048
NUMBERS = 1 << 17


@njit(nogil=True, cache=True, inline="always")
def fill(x, rows, first, shift, begin, end, tile):
    """Put columns of one tile of points, moved by `shift`, one after the other."""
    lanes = BYTES // tile.itemsize
    size = BLOCK_VECTORS * lanes
    if x.strides[1] == x.itemsize:
        for vector in range(BLOCK_VECTORS):
            row, place = first + vector * lanes, vector * lanes
            if end - begin == 1:
                a, b, c, d = load_columns(x, rows, row, begin, 1)
                store(tile, place, minus(a, splat(shift[begin])))
            elif end - begin == 2:
                a, b, c, d = load_columns(x, rows, row, begin, 2)
                store(tile, place, minus(a, splat(shift[begin])))
                store(tile, place + size, minus(b, splat(shift[begin + 1])))
            elif end - begin == 3:
                a, b, c, d = load_columns(x, rows, row, begin, 3)
                store(tile, place, minus(a, splat(shift[begin])))
                store(tile, place + size, minus(b, splat(shift[begin + 1])))
                store(tile, place + 2 * size, minus(c, splat(shift[begin + 2])))
            else:
                column = begin
                while column < end:
                    column = min(column, end - 4)  # the last four, some of them again
                    a, b, c, d = load_columns(x, rows, row, column, 4)
                    place = (column - begin) * size + vector * lanes
                    store(tile, place, minus(a, splat(shift[column])))
                    store(tile, place + size, minus(b, splat(shift[column + 1])))
                    store(tile, place + 2 * size, minus(c, splat(shift[column + 2])))
                    store(tile, place + 3 * size, minus(d, splat(shift[column + 3])))
                    column += 4
    else:
        for i in range(size):
            row, place = rows[first + i], i
            for j in range(begin, end):
                tile[place] = x[row, j] - shift[j]
                place += size


@njit(nogil=True, cache=True)
def is_certain(best, second, square, reach, d):
    """Whether all lanes pass a cheaper and wider test than that of `certify`, without a square root."""
    dtype = reach.dtype.type
    epsilon = dtype(d + 8) * np.finfo(reach.dtype).eps
    longest, half = reach[0], dtype(dtype(0.5) / reach[0]) if reach[0] > 0 else dtype(0)
    # |x| + r <= (|x|^2 / r + r) / 2 + r
    length = times_plus(square, splat(half), splat(dtype(dtype(1.5) * longest)))
    slack = times_plus(length, splat(dtype(epsilon * longest)), splat(dtype(dtype(d) * np.finfo(reach.dtype).tiny)))
    return longest > 0 and all_less(slack, minus(second, best))


@njit(nogil=True, cache=True)
def certify(best, second, square, reach, d):
    """What two scores and |x|^2 say for certain: the gap between them, and bounds on the two distances.

    `reach` are the lengths of the longest and the shortest centroid; for the bound on a score's rounding see
    `Reference._slack`. It bounds twice the error of a score, and so the error of a square
    |x - c|^2 = |x|^2 + 2 score but for that of |x|^2; for centroids too long for it a share of the square.
    """
    dtype = reach.dtype.type
    epsilon = dtype(d + 8) * np.finfo(reach.dtype).eps
    tiny = dtype(dtype(d) * np.finfo(reach.dtype).tiny)
    rounding = dtype(dtype(4) * np.finfo(reach.dtype).eps)
    two, zero = splat(dtype(2)), splat(dtype(0))
    norm = root(square)
    length = times(splat(dtype(1.25)), times_plus(two, norm, splat(reach[1])))
    length = smaller(splat(reach[0]), length)
    slack = times_plus(plus(norm, length), times(length, splat(epsilon)), splat(tiny))
    margin = times_plus(splat(epsilon), square, slack)
    nearest = plus(times_plus(two, best, square), margin)
    other = times_plus(times_plus(two, second, square), splat(dtype(dtype(1) - dtype(4) * epsilon)), zero)
    other = minus(other, margin)
    upper = times(root(larger(nearest, zero)), splat(dtype(dtype(1) + rounding)))
    lower = times(root(larger(other, zero)), splat(dtype(dtype(1) - rounding)))
    return minus(minus(second, best), slack), upper, lower


@njit(nogil=True, cache=True, inline="always")
def scan(x, rows, first, shift, book, half_squares, reach, bounded, tile, partial, numbers, found):
    """Find the centroid with the least score for each point of a tile; whether it is certainly the nearest.

    `book` holds the negative shifted centroids by fours, column by column; `numbers` get the centroids'. If
    something is not certain, or bounds are asked for, `found` gets: how much nearer a centroid is than any
    other, as a difference of scores, or a number not above zero; an upper bound on its distance; and a lower
    one on the distances of the others.
    """
    dtype = tile.dtype.type
    lanes = BYTES // tile.itemsize
    d, quads = x.shape[1], half_squares.size // QUAD
    zero = splat(dtype(0))
    square0, square1 = zero, zero
    best0, best1 = splat(dtype(np.inf)), splat(dtype(np.inf))
    second0, second1, index0, index1 = best0, best1, zero, zero
    begin = end = 0
    while end < d:
        begin, end = end, d if d - end < COLUMNS + 4 else end + COLUMNS  # never less than four columns but for all
        fill(x, rows, first, shift, begin, end, tile)
        if d >= COLUMNS:  # rows come from many pages then, more than the hardware looks ahead in
            ahead, column = (first, end) if end < d else (first + 2 * lanes, 0)
            for t in range(ahead, ahead + 2 * lanes):
                for j in range(column, min(column + COLUMNS, d), lanes):
                    prefetch(x, rows[t], j)
        for j in range(end - begin):
            x0, x1 = load(tile, 2 * lanes * j), load(tile, (2 * j + 1) * lanes)
            square0, square1 = times_plus(x0, x0, square0), times_plus(x1, x1, square1)
        for quad in range(quads):
            if begin == 0:
                s00 = s01 = splat(half_squares[4 * quad])
                s10 = s11 = splat(half_squares[4 * quad + 1])
                s20 = s21 = splat(half_squares[4 * quad + 2])
                s30 = s31 = splat(half_squares[4 * quad + 3])
            else:
                place = 8 * lanes * quad
                s00, s01 = load(partial, place), load(partial, place + lanes)
                s10, s11 = load(partial, place + 2 * lanes), load(partial, place + 3 * lanes)
                s20, s21 = load(partial, place + 4 * lanes), load(partial, place + 5 * lanes)
                s30, s31 = load(partial, place + 6 * lanes), load(partial, place + 7 * lanes)
            place = (quad * d + begin) * QUAD
            for j in range(end - begin):
                x0, x1 = load(tile, 2 * lanes * j), load(tile, (2 * j + 1) * lanes)
                c = splat(book[place])
                s00, s01 = times_plus(x0, c, s00), times_plus(x1, c, s01)
                c = splat(book[place + 1])
                s10, s11 = times_plus(x0, c, s10), times_plus(x1, c, s11)
                c = splat(book[place + 2])
                s20, s21 = times_plus(x0, c, s20), times_plus(x1, c, s21)
                c = splat(book[place + 3])
                s30, s31 = times_plus(x0, c, s30), times_plus(x1, c, s31)
                place += QUAD
            if end < d:
                place = 8 * lanes * quad
                store(partial, place, s00)
                store(partial, place + lanes, s01)
                store(partial, place + 2 * lanes, s10)
                store(partial, place + 3 * lanes, s11)
                store(partial, place + 4 * lanes, s20)
                store(partial, place + 5 * lanes, s21)
                store(partial, place + 6 * lanes, s30)
                store(partial, place + 7 * lanes, s31)
                continue
            number = splat(dtype(4 * quad))
            second0, second1 = smaller(second0, larger(best0, s00)), smaller(second1, larger(best1, s01))
            index0, index1 = where_less(s00, best0, number, index0), where_less(s01, best1, number, index1)
            best0, best1 = smaller(s00, best0), smaller(s01, best1)
            number = splat(dtype(4 * quad + 1))
            second0, second1 = smaller(second0, larger(best0, s10)), smaller(second1, larger(best1, s11))
            index0, index1 = where_less(s10, best0, number, index0), where_less(s11, best1, number, index1)
            best0, best1 = smaller(s10, best0), smaller(s11, best1)
            number = splat(dtype(4 * quad + 2))
            second0, second1 = smaller(second0, larger(best0, s20)), smaller(second1, larger(best1, s21))
            index0, index1 = where_less(s20, best0, number, index0), where_less(s21, best1, number, index1)
            best0, best1 = smaller(s20, best0), smaller(s21, best1)
            number = splat(dtype(4 * quad + 3))
            second0, second1 = smaller(second0, larger(best0, s30)), smaller(second1, larger(best1, s31))
            index0, index1 = where_less(s30, best0, number, index0), where_less(s31, best1, number, index1)
            best0, best1 = smaller(s30, best0), smaller(s31, best1)
    store_integers(numbers, 0, index0)
    store_integers(numbers, lanes, index1)
    certain = is_certain(best0, second0, square0, reach, d) and is_certain(best1, second1, square1, reach, d)
    if bounded or not certain:
        gap0, upper0, lower0 = certify(best0, second0, square0, reach, d)
        gap1, upper1, lower1 = certify(best1, second1, square1, reach, d)
        store(found, 0, gap0)
        store(found, lanes, gap1)
        store(found, 2 * lanes, upper0)
        store(found, 3 * lanes, upper1)
        store(found, 4 * lanes, lower0)
        store(found, 5 * lanes, lower1)
    return certain


@njit(nogil=True, cache=True)
def decide(x, row, exact, k, best, second, index):
    """The nearest centroid by differences in float64, and the squares of the least two distances.

    Centroids lie in lanes, `exact` holds them by eights. Products are rounded before they are added, as NumPy
    does it: two equal distances then stay equal. The lowest index wins.
    """
    lanes = BYTES // 8
    zero = splat(0.0)
    best0, second0, index0 = splat(np.inf), splat(np.inf), zero
    d = x.shape[1]
    for group in range((k + lanes - 1) // lanes):
        squares = zero
        place = group * d * lanes
        for j in range(d):
            difference = minus(splat(np.float64(x[row, j])), load(exact, place))
            squares = plus(squares, times(difference, difference))
            place += lanes
        second0 = smaller(second0, larger(best0, squares))
        index0 = where_less(squares, best0, splat(np.float64(group * lanes)), index0)
        best0 = smaller(squares, best0)
    store(best, 0, best0)
    store(second, 0, second0)
    store(index, 0, index0)
    winner, least = 0, best[0]
    label = np.int64(index[0])
    for lane in range(1, lanes):
        other = np.int64(index[lane]) + lane
        if best[lane] < least or (best[lane] == least and other < label):
            winner, least, label = lane, best[lane], other
    runner_up = second[winner]
    for lane in range(lanes):
        if lane != winner:
            runner_up = min(runner_up, best[lane])
    return label, least, runner_up


@njit(nogil=True, cache=True, inline="always")
def square_of(x, row, centroids, label, spare):
    """Squared distance of a point from a centroid, in float64."""
    total, lanes, done = 0.0, BYTES // 8, 0
    if x.shape[1] >= lanes and x.strides[1] == x.itemsize:
        parts = splat(0.0)
        while done <= x.shape[1] - lanes:
            difference = minus(load_wide(x, row, done), load_wide(centroids, label, done))
            parts = times_plus(difference, difference, parts)
            done += lanes
        store(spare, 0, parts)
        for lane in range(lanes):
            total += spare[lane]
    for j in range(done, x.shape[1]):
        total += (x[row, j] - centroids[label, j]) ** 2
    return total


@njit(nogil=True, cache=True, inline="always")
def add(sums, label, x, row, weight):
    """Add a point to the sums of a cluster: columns, weight, and how many points have weight."""
    d, lanes, done = x.shape[1], BYTES // 8, 0
    if d >= lanes and x.strides[1] == x.itemsize:
        factor = splat(weight)
        while done <= d - lanes:
            total = times_plus(factor, load_wide(x, row, done), load_wide(sums, label, done))
            store_wide(sums, label, done, total)
            done += lanes
    for j in range(done, d):
        sums[label, j] += weight * x[row, j]
    sums[label, d] += weight
    sums[label, d + 1] += (weight > 0) - (weight < 0)


@njit(nogil=True, cache=True)
def keep(upper, lower, before, drift, first, last, rows):
    """Move the bounds along with the centroids; the rows that they leave open, and how many."""
    dtype = upper.dtype.type
    rounding = dtype(2) * np.finfo(upper.dtype).eps
    n_open = 0
    for i in range(first, last):
        label = before[i]
        upper[i] = (upper[i] + drift[label, 0]) * (dtype(1) + rounding)
        lower[i] = (lower[i] - drift[label, 1]) * (dtype(1) - rounding)
        rows[n_open] = i
        n_open += upper[i] >= max(lower[i], drift[label, 2])
    return n_open


@njit(nogil=True, cache=True)
def tighten(x, upper, lower, before, drift, centroids, n_kept, rows, spare):
    """Measure the distances from the own centroids; the rows that are still open, and how many."""
    dtype = upper.dtype.type
    n_open = 0
    for t in range(n_kept):
        i = rows[t]
        label = before[i]
        square = square_of(x, i, centroids, label, spare)
        upper[i] = dtype(np.sqrt(square)) * (dtype(1) + dtype(4) * np.finfo(upper.dtype).eps)
        rows[n_open] = i
        n_open += upper[i] >= max(lower[i], drift[label, 2])
    return n_open


@njit(nogil=True, cache=True)
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
        add(sums, labels[i], x, i, weight)
        if before[i] >= 0:
            add(sums, before[i], x, i, -weight)
    return n_changed


def walk(
    x, weights, before, labels, upper, lower, book, half_squares, reach, exact, centroids, shift, drift, sums
):
    """Label points; how many changed their cluster, and if there is room in `sums`, what that adds to these.

    `before` are labels, or -1; `drift` tells for each cluster how far its centroid has moved, how far any
    other one has, and half its distance from the nearest other. Without rows of it every point is looked at.
    """
    m, d = x.shape
    k = centroids.shape[0]
    dtype = reach.dtype.type
    rounding = dtype(4) * np.finfo(reach.dtype).eps
    block = BLOCK_VECTORS * (BYTES // reach.itemsize)
    tile = np.empty(block * min(d, COLUMNS + 4), reach.dtype)
    partial = np.empty(block * half_squares.size if d >= COLUMNS + 4 else 0, reach.dtype)
    found, numbers = np.empty(3 * block, reach.dtype), np.empty(block, np.int32)
    lanes = np.empty((3, BYTES // 8), np.float64)
    together = max(block, min(ROWS, NUMBERS // d))
    rows = np.empty(together + 2 * block, np.int32)
    bounded = upper.size > 0
    n_changed = 0
    for start in range(0, m, together):
        stop = min(start + together, m)
        n_open = stop - start
        if drift.size > 0:
            labels[start:stop] = before[start:stop]
            n_open = keep(upper, lower, before, drift, start, stop, rows)
            n_open = tighten(x, upper, lower, before, drift, centroids, n_open, rows, lanes[0])
        else:
            for t in range(n_open):
                rows[t] = start + t
        for t in range(n_open, n_open + 2 * block):  # the last tile is filled up, and another looked ahead to
            rows[t] = rows[max(n_open - 1, 0)]
        for first in range(0, n_open, block):
            last = min(first + block, n_open)
            certain = scan(
                x, rows, first, shift, book, half_squares, reach, bounded, tile, partial, numbers, found
            )
            for t in range(first, last):
                labels[rows[t]] = numbers[t - first]
            if bounded:
                for t in range(first, last):
                    upper[rows[t]] = found[block + t - first]
                    lower[rows[t]] = found[2 * block + t - first]
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
        n_changed += move(x, weights, before, labels, rows, n_open, sums)
    return n_changed


def prepare(centroids, shift, quads, half_squares, exact, reach):
    """Write centroids in the orders that `scan` and `decide` read them in; half their squared lengths.

    The last four of `quads` and eight of `exact` are filled up with centroids that are never the nearest.
    """
    k, d = centroids.shape
    lanes = BYTES // 8
    longest, shortest = 0.0, np.inf
    halves = np.empty(k)
    for i in range(half_squares.size):
        place = (i // QUAD) * QUAD * d + i % QUAD
        total = 0.0
        for j in range(d):
            shifted = centroids[i, j] - shift[j] if i < k else 0.0
            total += shifted * shifted
            quads[place + j * QUAD] = -shifted
        if i < k:
            halves[i] = total / 2
            longest, shortest = max(longest, total), min(shortest, total)
        half_squares[i] = total / 2 if i < k else np.inf
    for i in range(exact.size // d):
        place = (i // lanes) * lanes * d + i % lanes
        for j in range(d):
            exact[place + j * lanes] = centroids[i, j] if i < k else np.inf
    reach[0], reach[1] = np.sqrt(longest), np.sqrt(shortest)
    return halves


def repeat(centroids, order, half_squares):
    """Let centroids that equal the one before them in some order get no points; whether there are any."""
    found = False
    for t in range(1, order.size):
        same = True
        for j in range(centroids.shape[1]):
            same = same and centroids[order[t], j] == centroids[order[t - 1], j]
        if same:
            half_squares[order[t]] = np.inf
            found = True
    return found


def drifts(new, old, gaps, upper, lower, labels, step, drift):
    """How far centroids moved, the farthest of the others, half the gap; rounded outwards.

    The share of every `step`-th point that bounds moved by that would leave open.
    """
    dtype = drift.dtype.type
    outward = 1 + 4 * np.float64(np.finfo(drift.dtype).eps)
    k, d = new.shape
    first, second, farthest = 0.0, 0.0, 0
    moved = np.empty(k)
    for i in range(k):
        total = 0.0
        for j in range(d):
            total += (new[i, j] - old[i, j]) ** 2
        moved[i] = np.sqrt(total) * outward
        if moved[i] > first:
            first, second, farthest = moved[i], first, i
        else:
            second = max(second, moved[i])
    for i in range(k):
        drift[i, 0] = moved[i] * outward
        drift[i, 1] = (second if i == farthest else first) * outward
        drift[i, 2] = gaps[i] / dtype(2)
    n_looked_at = n_open = 0
    for i in range(0, labels.size, step):
        own = drift[labels[i]]
        n_looked_at += 1
        n_open += upper[i] + own[0] >= max(lower[i] - own[1], own[2])
    return n_open / n_looked_at


def add_up(parts, totals, lacks):
    """Add the sums of all strands, one after the other, to the totals, and their rounding to `lacks`.

    Knuth's two-sum. Clusters without points sum to zero.
    """
    _, k, columns = parts.shape
    delta = np.empty(columns)
    for i in range(k):
        delta[:] = parts[0, i]
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
            totals[i] = 0.0
            lacks[i] = 0.0


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


@cache
def compiled(name: str, dtype: str) -> Any:
    """A function of this module, compiled for points of a dtype ("f" or "d"), in any layout."""
    number = from_dtype(np.dtype(dtype))
    points = types.Array(number, 2, "A", readonly=True)
    vector, bounds = types.Array(number, 1, "C"), types.Array(number, 2, "C")
    wide, column = types.Array(types.float64, 1, "C", readonly=True), types.Array(types.float64, 1, "C")
    table, tables = types.Array(types.float64, 2, "C"), types.Array(types.float64, 3, "C")
    labels, order = types.Array(types.int32, 1, "C"), types.Array(types.int64, 1, "C")
    signature = {
        "walk": types.int64(
            *(points, wide, labels, labels, vector, vector, vector, vector, vector, column, table, vector),
            *(bounds, table),
        ),
        "sum_up": types.void(points, wide, labels, labels, table),
        "squares": types.void(points, labels, table, column),
        "prepare": column(table, vector, vector, vector, column, vector),
        "repeat": types.boolean(table, order, vector),
        "drifts": types.float64(table, table, vector, vector, vector, labels, types.int64, bounds),
        "add_up": types.void(tables, table, table),
    }[name]
    return njit([signature], nogil=True, cache=True)(globals()[name])
