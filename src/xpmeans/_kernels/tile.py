"""A tile of points meets all centroids: the innermost part of the compiled kernel.

Points lie in lanes: a tile holds two vectors of points, column by column, and meets four centroids at a time,
whose scores stay in registers. Nothing of size n x k, or of the size of a chunk x k, is ever written.

The scores are those of the reference kernel (`_core/nearest.py`), and so is the bound on their rounding:
where the best two are closer than that, the point is decided by differences in float64, as the reference does
it. So labels are the same, but where float64 cannot tell which of two distances is the shorter.
"""

import numpy as np

from xpmeans._kernels.lanes import (
    BYTES,
    jitted,
    larger,
    load,
    load_columns,
    load_wide,
    minus,
    not_less,
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
    turn,
    where_less,
)

# Vectors of points in a tile, and centroids that meet it at once: eight sums keep two units busy that
# multiply and add, with results four cycles later, and they leave registers free on AVX2.
BLOCK_VECTORS = 2
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
    size = BLOCK_VECTORS * lanes
    if x.strides[1] == x.itemsize:
        for vector in range(BLOCK_VECTORS):
            row, place = first + vector * lanes, vector * lanes
            if end - begin >= lanes:
                column = begin
                while column < end:
                    column = min(column, end - lanes)  # the last ones, some of them again
                    place = (column - begin) * size + vector * lanes
                    turn(x, rows, row, column, shift, tile, place, size)
                    column += lanes
            elif end - begin == 1:
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


@jitted()
def is_certain(best, second, square, reach, d, terms):
    """Whether all lanes pass a cheaper and wider test than that of `certify`, without a square root."""
    dtype = reach.dtype.type
    epsilon = dtype(terms + 8) * np.finfo(reach.dtype).eps
    longest, half = reach[0], dtype(dtype(0.5) / reach[0]) if reach[0] > 0 else dtype(0)
    # |x| + r <= (|x|^2 / r + r) / 2 + r
    length = times_plus(square, splat(half), splat(dtype(dtype(1.5) * longest)))
    tiny = dtype(dtype(d) * np.finfo(reach.dtype).tiny)
    slack = times_plus(length, splat(dtype(epsilon * longest)), splat(tiny))
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
    epsilon = dtype(terms + 8) * np.finfo(reach.dtype).eps
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


@jitted()
def look_into(tile, start, book, half_squares, names, quads, places, second):
    """The name of each point's nearest centroid, of its best four, and the second best score of all."""
    lanes, d = BYTES // tile.itemsize, book.shape[0] // half_squares.shape[0]
    s0, s1, s2, s3 = load_columns(half_squares, quads, start, 0, 4)
    for j in range(d):
        for i in range(start, start + lanes):
            places[i] = quads[i] * d + j
        x = load(tile, 2 * lanes * j + start)
        c0, c1, c2, c3 = load_columns(book, places, start, 0, 4)
        s0, s1, s2, s3 = (
            times_plus(x, c0, s0),
            times_plus(x, c1, s1),
            times_plus(x, c2, s2),
            times_plus(x, c3, s3),
        )
    low, high = smaller(s0, s1), smaller(s2, s3)
    name0, name1, name2, name3 = load_columns(names, quads, start, 0, 4)
    left, right = where_less(s1, s0, name1, name0), where_less(s3, s2, name3, name2)
    other = smaller(larger(low, high), smaller(larger(s0, s1), larger(s2, s3)))
    return where_less(high, low, right, left), smaller(second, other)


@jitted()
def met(score, name, best, second, index):
    """The best two scores so far, and whose the best is, once points have met one more centroid."""
    return smaller(score, best), smaller(second, larger(best, score)), where_less(score, best, name, index)


@jitted(inline="always")
def scan(
    x, rows, first, shift, book, half_squares, names, from_quad, to_quad, reach, bounded, tile, filled,
    partial, numbers, places, found,
):  # fmt: skip
    """Find the centroid with the least score for each point of a tile; whether it is certainly the nearest.

    A `filled` tile holds the points, and their squared lengths behind them, from an earlier scan. `book`
    holds the negative shifted centroids by fours, column by column, of which some are looked at; `numbers`
    get the names of the nearest. If something is not certain, or bounds are asked for, `found`
    gets: how much nearer a centroid is than any other, as a difference of scores, or a number not above zero;
    an upper bound on its distance; and a lower one on the distances of the others.
    """
    dtype = tile.dtype.type
    lanes = BYTES // tile.itemsize
    d, quads = x.shape[1], half_squares.size // QUAD
    in_quads = QUAD * (to_quad - from_quad) > IN_QUADS * (d + 3) and d < COLUMNS
    zero = splat(dtype(0))
    square0, square1 = zero, zero
    best0, best1 = splat(dtype(np.inf)), splat(dtype(np.inf))
    second0, second1, index0, index1 = best0, best1, zero, zero
    begin = end = 0
    while end < d:
        # Four columns at least, if there are.
        begin, end = end, d if d - end < COLUMNS + 4 else end + COLUMNS
        if filled:
            square0, square1 = load(tile, 2 * lanes * d), load(tile, (2 * d + 1) * lanes)
        else:
            fill(x, rows, first, shift, begin, end, tile)
            if d >= COLUMNS:  # rows come from many pages then, more than the hardware looks ahead in
                ahead, column = (first, end) if end < d else (first + 2 * lanes, 0)
                for t in range(ahead, ahead + 2 * lanes):
                    for j in range(column, min(column + COLUMNS, d), LINE // x.itemsize):
                        prefetch(x, rows[t], j)
            even0, even1, odd0, odd1 = zero, zero, zero, zero  # each waits four cycles for its last term
            place, size = 0, 2 * lanes * (end - begin)
            while place + 4 * lanes <= size:
                x0, x1 = load(tile, place), load(tile, place + lanes)
                even0, even1 = times_plus(x0, x0, even0), times_plus(x1, x1, even1)
                x0, x1 = load(tile, place + 2 * lanes), load(tile, place + 3 * lanes)
                odd0, odd1 = times_plus(x0, x0, odd0), times_plus(x1, x1, odd1)
                place += 4 * lanes
            if place < size:
                x0, x1 = load(tile, place), load(tile, place + lanes)
                even0, even1 = times_plus(x0, x0, even0), times_plus(x1, x1, even1)
            square0, square1 = plus(square0, plus(even0, odd0)), plus(square1, plus(even1, odd1))
            store(tile, size, square0)
            store(tile, size + lanes, square1)
        for quad in range(from_quad, to_quad):
            if begin == 0:
                s00 = s01 = splat(half_squares[4 * quad])
                s10 = s11 = splat(half_squares[4 * quad + 1])
                s20 = s21 = splat(half_squares[4 * quad + 2])
                s30 = s31 = splat(half_squares[4 * quad + 3])
            else:
                s00 = s01 = s10 = s11 = s20 = s21 = s30 = s31 = zero
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
            if begin > 0:
                place = 8 * lanes * quad
                s00, s01 = plus(s00, load(partial, place)), plus(s01, load(partial, place + lanes))
                place += 2 * lanes
                s10, s11 = plus(s10, load(partial, place)), plus(s11, load(partial, place + lanes))
                place += 2 * lanes
                s20, s21 = plus(s20, load(partial, place)), plus(s21, load(partial, place + lanes))
                place += 2 * lanes
                s30, s31 = plus(s30, load(partial, place)), plus(s31, load(partial, place + lanes))
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
            if in_quads:
                number = splat(dtype(quad))
                least0 = smaller(smaller(s00, s10), smaller(s20, s30))
                least1 = smaller(smaller(s01, s11), smaller(s21, s31))
                best0, second0, index0 = met(least0, number, best0, second0, index0)
                best1, second1, index1 = met(least1, number, best1, second1, index1)
                continue
            name = splat(names[4 * quad])
            best0, second0, index0 = met(s00, name, best0, second0, index0)
            best1, second1, index1 = met(s01, name, best1, second1, index1)
            name = splat(names[4 * quad + 1])
            best0, second0, index0 = met(s10, name, best0, second0, index0)
            best1, second1, index1 = met(s11, name, best1, second1, index1)
            name = splat(names[4 * quad + 2])
            best0, second0, index0 = met(s20, name, best0, second0, index0)
            best1, second1, index1 = met(s21, name, best1, second1, index1)
            name = splat(names[4 * quad + 3])
            best0, second0, index0 = met(s30, name, best0, second0, index0)
            best1, second1, index1 = met(s31, name, best1, second1, index1)
    if in_quads:
        store_integers(numbers, 0, index0)
        store_integers(numbers, lanes, index1)
        fours, halves = book.reshape((quads * d, QUAD)), half_squares.reshape((quads, QUAD))
        name_fours = names.reshape((quads, QUAD))
        index0, second0 = look_into(tile, 0, fours, halves, name_fours, numbers, places, second0)
        index1, second1 = look_into(tile, lanes, fours, halves, name_fours, numbers, places, second1)
    store_integers(numbers, 0, index0)
    store_integers(numbers, lanes, index1)
    # The sum of a piece of the columns and then of the pieces rounds like one of as many terms as both have.
    terms = d if d < COLUMNS + 4 else COLUMNS + 4 + d // COLUMNS
    certain = is_certain(best0, second0, square0, reach, d, terms)
    certain = certain and is_certain(best1, second1, square1, reach, d, terms)
    if bounded or not certain:
        gap0, upper0, lower0 = certify(best0, second0, square0, reach, d, terms)
        gap1, upper1, lower1 = certify(best1, second1, square1, reach, d, terms)
        store(found, 0, gap0)
        store(found, lanes, gap1)
        store(found, 2 * lanes, upper0)
        store(found, 3 * lanes, upper1)
        store(found, 4 * lanes, lower0)
        store(found, 5 * lanes, lower1)
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
        total += (x[row, j] - centroids[label, j]) ** 2
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
