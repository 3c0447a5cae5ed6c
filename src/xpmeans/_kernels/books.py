"""What one pass needs to know of the centroids, to be compiled."""

import numpy as np

from xpmeans._kernels.lanes import (
    BYTES,
    epsilon_of,
    jitted,
    load,
    minus,
    plus,
    scratch,
    smaller,
    splat,
    store,
    times_plus,
)
from xpmeans._kernels.tile import QUAD
from xpmeans._kernels.walk import MARGIN, place_of


def prepare(centroids, shift, order, quads, half_squares, names, exact, reach, halves):
    """Write centroids in the orders that `scan` and `decide` read them in, their names, half squared lengths.

    The last four of `quads` and eight of `exact` are filled up with centroids that are never the nearest.
    """
    k, d = centroids.shape
    lanes = BYTES // 8
    longest, shortest = 0.0, np.inf
    for i in range(half_squares.size):
        place = (i // QUAD) * QUAD * d + i % QUAD
        total = 0.0
        label = order[i] if i < k else 0
        for j in range(d):
            shifted = centroids[label, j] - shift[j] if i < k else 0.0
            total += shifted * shifted
            quads[place + j * QUAD] = -shifted
        if i < k:
            halves[label] = total / 2
            longest, shortest = max(longest, total), min(shortest, total)
        half_squares[i], names[i] = total / 2 if i < k else np.inf, label
    for i in range(exact.size // d):
        place = (i // lanes) * lanes * d + i % lanes
        for j in range(d):
            exact[place + j * lanes] = centroids[i, j] if i < k else np.inf
    reach[0], reach[1] = np.sqrt(longest), np.sqrt(shortest)


def repeat(centroids, order, places, half_squares):
    """Let centroids that equal the one before them in some order get no points; whether there are any."""
    found = False
    for t in range(1, order.size):
        same = True
        for j in range(centroids.shape[1]):
            same = same and centroids[order[t], j] == centroids[order[t - 1], j]
        if same:
            half_squares[places[order[t]]] = np.inf
            found = True
    return found


@jitted()
def least(values, spare):
    """The least of some numbers, as many as fill up vectors; there is room for one vector more."""
    low = load(values, 0)
    for i in range(BYTES // 8, values.size, BYTES // 8):
        low = smaller(low, load(values, i))
    store(spare, 0, low)
    found = spare[0]
    for lane in range(1, BYTES // 8):
        found = min(found, spare[lane])
    return found


@jitted()
def highest(values):
    """The place of the greatest of some numbers."""
    place = 0
    for i in range(1, values.size):
        if values[i] > values[place]:
            place = i
    return place


def neighbours(exact, centroids, first, last, near, gaps, outside, squares, inside):
    """Bring the neighbours of some centroids up to date: no more than all of them are exchanged.

    How far the nearest other centroid is away, and the nearest that is no neighbour; rounded inwards.
    Centroids lie in lanes, `exact` holds them by eights. There is room for the squares of all distances from
    one, and of those that lie inside its neighbourhood.
    """
    lanes = BYTES // 8
    d, n_near = centroids.shape[1], near.shape[1]
    spare = scratch(squares, 1)
    inward = 1 - (d + 8) * epsilon_of(squares)
    for i in range(first, last):
        for group in range(squares.size // lanes):
            even, odd = splat(0.0), splat(0.0)  # two sums, for each waits four cycles for its last term
            place = group * d * lanes
            for j in range(0, d - 1, 2):
                difference = minus(splat(centroids[i, j]), load(exact, place))
                even = times_plus(difference, difference, even)
                difference = minus(splat(centroids[i, j + 1]), load(exact, place + lanes))
                odd = times_plus(difference, difference, odd)
                place += 2 * lanes
            if d % 2:
                difference = minus(splat(centroids[i, d - 1]), load(exact, place))
                even = times_plus(difference, difference, even)
            store(squares, group * lanes, plus(even, odd))
        squares[i] = np.inf
        for s in range(n_near):
            inside[s] = squares[near[i, s]]
            squares[near[i, s]] = np.inf
        rest, farthest, n_left = least(squares, spare), highest(inside), n_near
        while rest < inside[farthest] and n_left > 0:
            nearest = 0
            while squares[nearest] != rest:
                nearest += 1
            squares[near[i, farthest]] = inside[farthest]
            inside[farthest] = rest
            squares[nearest] = np.inf
            near[i, farthest] = nearest
            rest, farthest, n_left = least(squares, spare), highest(inside), n_left - 1
        outside[i] = np.sqrt(rest) * inward
        gap = rest
        for s in range(n_near):
            gap = min(gap, inside[s])
        gaps[i] = np.sqrt(gap) * inward


def drifts(new, old, near, gaps, outside, sample, keys, upper, lower, labels, step, drift, moved):
    """What moving centroids do to bounds, rounded outwards.

    For each cluster: how far its centroid has moved, half the gap to the nearest other, how far any neighbour
    has moved, and how far the nearest that is no neighbour is away. How far any centroid has moved, of every
    `step`-th point the share that all this leaves open, and the share of centroids in their windows. There
    is room in `moved` for a number for each.
    """
    dtype = drift.dtype.type
    outward = 1 + 4 * np.float64(epsilon_of(drift))
    inward = 1 - 4 * np.float64(epsilon_of(drift))
    k, d = new.shape
    for i in range(k):
        total = 0.0
        for j in range(d):
            difference = new[i, j] - old[i, j]
            total += difference * difference
        moved[i] = np.sqrt(total) * outward
    farthest = dtype(moved[highest(moved)] * outward)
    for i in range(k):
        nearby = 0.0
        for s in range(near.shape[1]):
            nearby = max(nearby, moved[near[i, s]])
        drift[i, 0] = moved[i] * outward
        drift[i, 1] = gaps[i] / 2 * inward
        drift[i, 2] = nearby * outward
        drift[i, 3] = outside[i] * inward
    n_looked_at = n_open = n_inside = 0
    for i in range(0, labels.size, step):
        own = drift[labels[i]]
        high = upper[i] + own[0]
        n_looked_at += 1
        if high >= max(lower[i] - farthest, min(lower[i] - own[2], own[3] - high), own[1]):
            n_open += 1
            key, width = sample[i // step], MARGIN * np.float64(high)
            n_inside += place_of(keys, key + width) - place_of(keys, key - width)
    return farthest, n_open / n_looked_at, n_inside / max(n_open, 1) / k
