"""Several steps in one call, where a step is over sooner than Python is with what comes between two of them.

The functions that do a step's work are called by their addresses: what a compiled function calls by name is
compiled once more as a part of it, which for `walk` takes six seconds.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from xpmeans._kernels.lanes import jitted


@intrinsic
def call(_, address, arguments):
    """Call a compiled function that returns nothing, with a tuple of what it takes, just of these types."""

    def generate(context, builder, _signature, values):
        kinds, convention = arguments.types, context.call_conv
        function = convention.get_function_type(types.none, kinds)
        callee = builder.inttoptr(values[0], ir.PointerType(function))
        passed = cgutils.unpack_tuple(builder, values[1])
        status, _ = convention.call_function(builder, callee, types.none, kinds, passed)
        with cgutils.if_unlikely(builder, status.is_error):
            convention.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.void(address, arguments), generate


@jitted()
def clear(parts):
    """Set what strands found to zero; an assignment to a slice takes seconds to compile."""
    for part in range(parts.shape[0]):
        for i in range(parts.shape[1]):
            for j in range(parts.shape[2]):
                parts[part, i, j] = 0.0


@jitted()
def means(totals, lacks, single, centroids, moved):
    """Write the means of all clusters; the square of what they moved, or -1 if one is empty."""
    k, d = centroids.shape
    total = 0.0
    for i in range(k):
        count = totals[i, d] + lacks[i, d]
        if count == 0:
            return -1.0
        for j in range(d):
            mean = (totals[i, j] + lacks[i, j]) / count
            moved[i, j] = np.float64(np.float32(mean)) if single else mean
            difference = moved[i, j] - centroids[i, j]
            total += difference * difference
    return total


@jitted()
def repeated(centroids, halves):
    """Whether two centroids are equal; those of other lengths are not.

    All pairs are looked at, which for k near n takes as long as Python would; to sort takes more to compile.
    """
    for i in range(halves.size):
        for j in range(i):
            same = halves[i] == halves[j]
            column = 0
            while same and column < centroids.shape[1]:
                same = centroids[i, column] == centroids[j, column]
                column += 1
            if same:
                return True
    return False


def ahead(
    walk, prepare, add_up, sum_up, x, weights, labels, none, edges, quads, half_squares, order, names, keys,
    reach, exact, tables, shift, halves, drift, tiles, partial, parts, n_changed, unlabelled, sums, age,
    oldest, single, tol, by_labels, most,
):  # fmt: skip
    """Take up to `most` steps; how many there were, how old the sums are, whether the centroids converged.

    A step that leaves a cluster empty is not taken, nor is one from centroids that repeat. After step i the
    labels and sums are in place i modulo 2, those before in the other; of three `tables` of centroids the one
    in place i modulo 3 holds those it moved them to, the one before those it began with. The book must be
    that of the first. Sums are made afresh when no label changes, or at the `oldest` age there may be; their
    `age` is -1 if there are none yet. `parts` are zeros, before and after. `single` centroids are rounded to
    float32.
    """
    at, zero, k = np.int64(-1), np.int64(0), np.int64(halves.size)
    farthest = shift.dtype.type(0)
    for done in range(most):
        before, now = labels[done % 2], labels[1 - done % 2]
        old, new = sums[done % 2], sums[1 - done % 2]
        centroids, moved = tables[done % 3], tables[(done + 1) % 3]
        if done > 0:
            call(prepare, (centroids, shift, order, quads, half_squares, names, exact, reach, halves))
            if repeated(centroids, halves):
                return done, age, False
        call(
            walk,
            (
                x, weights, age < 0, before, now, none, none, edges, quads, half_squares, names, keys, at,
                reach, exact, centroids, shift, drift, farthest, tiles, done > 0 and tiles.size > 0, partial,
                parts, n_changed,
            ),
        )  # fmt: skip
        ends = n_changed[0] == 0
        afresh = age < 0 or ends or age == oldest
        for part in range(2):
            for i in range(k):
                for j in range(old.shape[2]):
                    new[part, i, j] = 0.0 if afresh and age != 0 else old[part, i, j]
        if afresh and age > 0:
            clear(parts)
            call(sum_up, (x, weights, unlabelled, now, parts[0]))
        call(add_up, (parts, new[0], new[1], zero, k))
        square = means(new[0], new[1], single, centroids, moved)
        if square < 0:
            return done, age, False
        age = 0 if afresh else age + 1
        if (ends and by_labels) or square <= tol:
            return done + 1, age, True
    return most, age, False
