"""A tile of points meets all centroids: the innermost part of the compiled kernel.

Points lie in lanes: each column of a tile is a vector, and meets four centroids at a time, whose scores
stay in registers. Nothing of size n x k, or of the size of a chunk x k, is ever written.

The scores are those of the reference kernel (`_core/nearest.py`), and so is the bound on their rounding:
where the best two are closer than that, the point is decided by differences in float64, as the reference does
it. So labels are the same, but where float64 cannot tell which of two distances is the shorter.
"""

import numpy as np

from xpmeans._kernels.columns import load_columns, turn, turn_few
from xpmeans._kernels.lanes import (
    BYTES,
    REGISTERS,
    epsilon_of,
    jitted,
    larger,
    load,
    load_tile,
    load_wide,
    minus,
    not_less,
    plus,
    prefetch,
    root,
    smaller,
    splat,
    splat_tile,
    spread,
    store,
    store_integers,
    store_wide,
    times,
    times_plus,
    tiny_of,
    where_less,
)

# Centroids that meet a tile at once; see `lanes.REGISTERS`.
QUAD = 4
# Centroids, times columns and three, from which on only the best of each four is kept at first: a score then
# costs two operations beside its product, not five, and a point a few ns a column in the end.
IN_QUADS = 12
# Columns of a tile. 16 KiB stay in the first-level cache, beside the centroids' columns.
COLUMNS = 128
# Bytes of a cache line.
LINE = 64


@jitted(inline="always")
def fill(x, rows, first, shift, begin, end, tile):
    """Put columns of one tile of points, moved by `shift`, one after the other."""
    lanes = BYTES // tile.itemsize
    size = REGISTERS * lanes
    if x.strides[1] == x.itemsize:
        for vector in range(REGISTERS):
            row, place = first + vector * lanes, vector * lanes
            if end - begin >= lanes:
                column = begin
                while column < end:
                    column = min(column, end - lanes)  # the last ones, some of them again
                    place = (column - begin) * size + vector * lanes
                    turn(x, rows, row, column, shift, tile, place, size)
                    column += lanes
            elif end - begin == 1:
                turn_few(x, rows, row, begin, 1, shift, tile, place, size)
            elif end - begin == 2:
                turn_few(x, rows, row, begin, 2, shift, tile, place, size)
            elif end - begin == 3:
                turn_few(x, rows, row, begin, 3, shift, tile, place, size)
            else:
                column = begin
                while column < end:
                    column = min(column, end - 4)  # the last four, some of them again
                    place = (column - begin) * size + vector * lanes
                    turn_few(x, rows, row, column, 4, shift, tile, place, size)
                    column += 4
    else:
        for i in range(size):
            row, place = rows[first + i], i
            for j in range(begin, end):
                tile[place] = x[row, j] - shift[j]
                place += size


@jitted()
def is_certain(best, second, square, reach, d, terms):
    """Whether all lanes pass a cheaper and wider test than that of `certify`, without a square root."""
    dtype = reach.dtype.type
    epsilon = dtype(terms + 8) * epsilon_of(reach)
    longest, half = reach[0], dtype(dtype(0.5) / reach[0]) if reach[0] > 0 else dtype(0)
    # |x| + r <= (|x|^2 / r + r) / 2 + r
    length = times_plus(square, splat_tile(half), splat_tile(dtype(dtype(1.5) * longest)))
    tiny = dtype(dtype(d) * tiny_of(reach))
    slack = times_plus(length, splat_tile(dtype(epsilon * longest)), splat_tile(tiny))
    return longest > 0 and not_less(slack, minus(second, best)) == 0


@jitted()
def certify(best, second, square, reach, d, terms):
    """What two scores and |x|^2 say for certain: the gap between them, and bounds on the two distances.

    `reach` are the lengths of the longest and the shortest centroid; for the bound on a score's rounding see
    `Reference._slack`, where d terms are added up, here as many as `terms` says. It bounds twice the error of
    a score, and so the error of a square |x - c|^2 = |x|^2 + 2 score but for that of |x|^2; for centroids too
    long for it a share of the square.
    """
    dtype = reach.dtype.type
    epsilon = dtype(terms + 8) * epsilon_of(reach)
    tiny = dtype(dtype(d) * tiny_of(reach))
    rounding = dtype(dtype(4) * epsilon_of(reach))
    two, zero = splat_tile(dtype(2)), splat_tile(dtype(0))
    norm = root(square)
    length = times(splat_tile(dtype(1.25)), times_plus(two, norm, spread(reach, 1)))
    length = smaller(spread(reach, 0), length)
    slack = times_plus(plus(norm, length), times(length, splat_tile(epsilon)), splat_tile(tiny))
    margin = times_plus(splat_tile(epsilon), square, slack)
    nearest = plus(times_plus(two, best, square), margin)
    inward = splat_tile(dtype(dtype(1) - dtype(4) * epsilon))
    other = minus(times(times_plus(two, second, square), inward), margin)
    upper = times(root(larger(nearest, zero)), splat_tile(dtype(dtype(1) + rounding)))
    lower = times(root(larger(other, zero)), splat_tile(dtype(dtype(1) - rounding)))
    return minus(minus(second, best), slack), upper, lower


@jitted()
def look_into(tile, book, half_squares, names, numbers, second):
    """Make the `numbers` of the best fours names of the nearest centroids in them.

    And let the other three of each four lower the `second` best scores.
    """
    lanes, d = BYTES // tile.itemsize, book.shape[1] // QUAD
    for start in range(0, REGISTERS * lanes, lanes):
        s0, s1, s2, s3 = load_columns(half_squares, numbers, start, 0)
        for j in range(d):
            x = load(tile, REGISTERS * lanes * j + start)
            c0, c1, c2, c3 = load_columns(book, numbers, start, QUAD * j)
            s0, s1 = times_plus(x, c0, s0), times_plus(x, c1, s1)
            s2, s3 = times_plus(x, c2, s2), times_plus(x, c3, s3)
        low, high = smaller(s0, s1), smaller(s2, s3)
        name0, name1, name2, name3 = load_columns(names, numbers, start, 0)
        left, right = where_less(s1, s0, name1, name0), where_less(s3, s2, name3, name2)
        other = smaller(larger(low, high), smaller(larger(s0, s1), larger(s2, s3)))
        store_integers(numbers, start, where_less(high, low, right, left))
        store(second, start, smaller(load(second, start), other))


@jitted()
def met(score, name, best, second, index):
    """The best two scores so far, and whose the best is, once points have met one more centroid."""
    return smaller(score, best), smaller(second, larger(best, score)), where_less(score, best, name, index)


@jitted(inline="always")
def scan(
    x, rows, first, shift, book, half_squares, names, from_quad, to_quad, reach, bounded, tile, filled,
    partial, numbers, found,
):  # fmt: skip
    """Find the centroid with the least score for each point of a tile; whether it is certainly the nearest.

    A `filled` tile holds the points, and their squared lengths behind them, from an earlier scan. `book`
    holds the negative shifted centroids by fours, column by column, of which some are looked at; `numbers`
    get the names of the nearest. If something is not certain, or bounds are asked for, `found`
    gets: how much nearer a centroid is than any other, as a difference of scores, or a number not above zero;
    an upper bound on its distance; and a lower one on the distances of the others. Until then both are room.
    """
    dtype = tile.dtype.type
    size = REGISTERS * BYTES // tile.itemsize
    d, quads = x.shape[1], half_squares.size // QUAD
    in_quads = QUAD * (to_quad - from_quad) > IN_QUADS * (d + 3) and d < COLUMNS
    zero, best = splat_tile(dtype(0)), splat_tile(dtype(np.inf))
    square, second, index = zero, best, zero
    begin = end = 0
    while end < d:
        # Four columns at least, if there are.
        begin, end = end, d if d - end < COLUMNS + 4 else end + COLUMNS
        if filled:
            square = load_tile(tile, size * d)
        else:
            fill(x, rows, first, shift, begin, end, tile)
            if d >= COLUMNS:  # rows come from many pages then, more than the hardware looks ahead in
                ahead, column = (first, end) if end < d else (first + size, 0)
                for t in range(ahead, ahead + size):
                    for j in range(column, min(column + COLUMNS, d), LINE // x.itemsize):
                        prefetch(x, rows[t], j)
            even, odd = zero, zero  # each waits four cycles for its last term
            for j in range(0, end - begin - 1, 2):
                one, other = load_tile(tile, size * j), load_tile(tile, size * (j + 1))
                even, odd = times_plus(one, one, even), times_plus(other, other, odd)
            if (end - begin) % 2:
                one = load_tile(tile, size * (end - begin - 1))
                even = times_plus(one, one, even)
            square = plus(square, plus(even, odd))
            store(tile, size * (end - begin), square)
        for quad in range(from_quad, to_quad):
            s0 = s1 = s2 = s3 = zero
            if begin == 0:
                s0, s1 = spread(half_squares, 4 * quad), spread(half_squares, 4 * quad + 1)
                s2, s3 = spread(half_squares, 4 * quad + 2), spread(half_squares, 4 * quad + 3)
            place = (quad * d + begin) * QUAD
            for j in range(end - begin):
                column = load_tile(tile, size * j)
                s0 = times_plus(column, spread(book, place), s0)
                s1 = times_plus(column, spread(book, place + 1), s1)
                s2 = times_plus(column, spread(book, place + 2), s2)
                s3 = times_plus(column, spread(book, place + 3), s3)
                place += QUAD
            place = QUAD * size * quad
            if begin > 0:
                s0, s1 = plus(s0, load_tile(partial, place)), plus(s1, load_tile(partial, place + size))
                s2 = plus(s2, load_tile(partial, place + 2 * size))
                s3 = plus(s3, load_tile(partial, place + 3 * size))
            if end < d:
                store(partial, place, s0)
                store(partial, place + size, s1)
                store(partial, place + 2 * size, s2)
                store(partial, place + 3 * size, s3)
            elif in_quads:
                least = smaller(smaller(s0, s1), smaller(s2, s3))
                best, second, index = met(least, splat_tile(dtype(quad)), best, second, index)
            else:
                best, second, index = met(s0, spread(names, 4 * quad), best, second, index)
                best, second, index = met(s1, spread(names, 4 * quad + 1), best, second, index)
                best, second, index = met(s2, spread(names, 4 * quad + 2), best, second, index)
                best, second, index = met(s3, spread(names, 4 * quad + 3), best, second, index)
    store_integers(numbers, 0, index)
    if in_quads:
        store(found, 0, second)
        fours, halves = book.reshape((quads, d * QUAD)), half_squares.reshape((quads, QUAD))
        look_into(tile, fours, halves, names.reshape((quads, QUAD)), numbers, found)
        second = load_tile(found, 0)
    # The sum of a piece of the columns and then of the pieces rounds like one of as many terms as both have.
    terms = d if d < COLUMNS + 4 else COLUMNS + 4 + d // COLUMNS
    certain = is_certain(best, second, square, reach, d, terms)
    if bounded or not certain:
        gap, upper, lower = certify(best, second, square, reach, d, terms)
        store(found, 0, gap)
        store(found, size, upper)
        store(found, 2 * size, lower)
    return certain


@jitted()
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


@jitted(inline="always")
def square_of(x, place, centroids, cluster, spare):
    """Squared distance of a point from a centroid, in float64; for the types of indices see `add`."""
    total, lanes, done = 0.0, np.uint64(BYTES // 8), np.uint64(0)
    row, label, d = np.uint64(place), np.uint64(cluster), np.uint64(x.shape[1])
    if d >= lanes and x.strides[1] == x.itemsize:
        parts = splat(0.0)
        while done + lanes <= d:
            difference = minus(load_wide(x, row, done), load_wide(centroids, label, done))
            parts = times_plus(difference, difference, parts)
            done += lanes
        store(spare, 0, parts)
        for lane in range(lanes):
            total += spare[lane]
    for j in range(done, d):
        rest = x[row, j] - centroids[label, j]
        total += rest * rest
    return total


@jitted(inline="always")
def add(sums, cluster, x, place, weight, count):
    """Add a point to the sums of a cluster: columns, weight, and how many points have weight.

    Of indices that are not negative by their type Numba does not ask whether they count from the end.
    """
    d, lanes, done = np.uint64(x.shape[1]), np.uint64(BYTES // 8), np.uint64(0)
    label, row = np.uint64(cluster), np.uint64(place)
    if d >= lanes and x.strides[1] == x.itemsize:
        factor = splat(weight)
        while done + lanes <= d:
            total = times_plus(factor, load_wide(x, row, done), load_wide(sums, label, done))
            store_wide(sums, label, done, total)
            done += lanes
    for j in range(done, d):
        sums[label, j] += weight * x[row, j]
    sums[label, d] += weight
    sums[label, d + np.uint64(1)] += count
