"""What greedy k-means++ asks of the points, to be compiled; see `seeding`."""

import numpy as np

from xpmeans._kernels.lanes import (
    BYTES,
    load,
    load_wide,
    minus,
    not_less,
    scratch,
    smaller,
    splat,
    store,
    times_plus,
)
from xpmeans._kernels.tile import square_of


def potentials(x, mass, nearest, labels, candidates, safe, spare, totals):
    """What is left of the inertia with each of some candidates beside the chosen centroids.

    Candidates lie in lanes, by eights as in `prepare`. A point that is nearer to its centroid than `safe` is
    nearer to it than to the candidate; see `safe_from`.
    """
    lanes = BYTES // 8
    d = x.shape[1]
    for group in range(totals.size // lanes):
        total = splat(0.0)
        for i in range(x.shape[0]):
            now = splat(nearest[i])
            if not_less(now, load_wide(safe, labels[i], group * lanes)):
                squares = splat(0.0)
                place = group * d * lanes
                for j in range(d):
                    difference = minus(splat(np.float64(x[i, j])), load(candidates, place))
                    squares = times_plus(difference, difference, squares)
                    place += lanes
                now = smaller(now, squares)
            total = times_plus(splat(mass[i]), now, total)
        store(spare, 0, total)
        for lane in range(lanes):
            totals[group * lanes + lane] = spare[lane]


def safe_from(book, centroids, safe):
    """A little less than a quarter of the squared distance of each centroid from each of a book of points.

    Infinite in the columns that are left over.
    """
    k, d = book.shape
    for i in range(safe.shape[0]):
        for t in range(safe.shape[1]):
            total = 0.0 if t < k else np.inf
            for j in range(d if t < k else 0):
                difference = centroids[i, j] - book[t, j]
                total += difference * difference
            safe[i, t] = total * (0.25 * (1 - 1e-12))


def lower(x, mass, centroids, label, safe, nearest, labels):
    """Let points go over to a new centroid, where it is nearer than `nearest`; what the inertia is then."""
    spare = scratch(nearest, 1)
    total = 0.0
    for i in range(x.shape[0]):
        if not nearest[i] < safe[labels[i]]:
            square = square_of(x, i, centroids, label, spare)
            if square < nearest[i]:
                nearest[i], labels[i] = square, label
        total += mass[i] * nearest[i]
    return total


def pick(mass, nearest, place):
    """The first row up to which weights times squares add up to more than `place`, or the last with any."""
    total, last = 0.0, 0
    for i in range(mass.size):
        part = mass[i] * nearest[i]
        if part > 0:
            total, last = total + part, i
            if total > place:
                break
    return last
