"""Columns of a table, of rows that lie anywhere in it, as vectors: small matrices are turned in registers.

A processor can gather numbers from many places itself, one by one, which takes several times as long.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from xpmeans._kernels.lanes import Vector, shuffled, spread_over


@intrinsic
def load_columns(_, table, rows, first, column):
    """Four neighbouring columns of as many rows as there are lanes, each column a vector.

    `table` has two dimensions, and the numbers of a row lie side by side; `rows` are int32, from `first` on.
    Each row is read at once, no number beyond it, and the vectors come about by shuffles, in registers.
    """
    kind = Vector(table.dtype)

    def generate(context, builder, signature, arguments):
        columns = _columns(context, builder, signature, arguments, kind.lanes, 4)
        return context.make_tuple(builder, signature.return_type, columns)

    return types.UniTuple(kind, 4)(table, rows, types.intp, types.intp), generate


@intrinsic(prefer_literal=True)
def turn_few(_, table, rows, first, column, count, shift, tile, start, step):
    """Write one to four columns, as `count` says, less `shift` to `tile`, as vectors `step` numbers apart.

    `count` is written out in the call; for the others see `load_columns`.
    """
    lanes, width = Vector(table.dtype).lanes, count.literal_value

    def generate(context, builder, signature, arguments):
        columns = _columns(context, builder, signature, arguments, lanes, width)
        moved = context.make_array(signature.args[5])(context, builder, arguments[5]).data
        data = context.make_array(signature.args[6])(context, builder, arguments[6]).data
        for j in range(width):
            number = builder.load(builder.gep(moved, [builder.add(arguments[3], ir.IntType(64)(j))]))
            difference = builder.fsub(columns[j], spread_over(builder, number, lanes))
            place = builder.add(arguments[7], builder.mul(arguments[8], ir.IntType(64)(j)))
            target = builder.bitcast(builder.gep(data, [place]), difference.type.as_pointer())
            builder.store(difference, target, align=table.dtype.bitwidth // 8)
        return context.get_dummy_value()

    index = types.intp
    return types.void(table, rows, index, index, count, shift, tile, index, index), generate


def _columns(context, builder, signature, arguments, lanes, width):
    """Four columns, of which the last repeat the one before if there are fewer; see `load_columns`."""
    table = signature.args[0]
    bases = _rows(context, builder, signature, arguments, lanes)
    narrow = ir.VectorType(context.get_value_type(table.dtype), width)
    parts = []
    for base in bases:
        part = builder.load(builder.bitcast(base, narrow.as_pointer()), align=table.dtype.bitwidth // 8)
        parts.append(shuffled(builder, part, part, [min(j, width - 1) for j in range(4)]))
    parts = _joined(builder, parts, 4)
    half = lanes // 2
    columns = []
    for j in (0, 2):
        picks = [4 * row + j for row in range(half)] + [4 * row + j + 1 for row in range(half)]
        low, high = (shuffled(builder, parts[i], parts[i + 1], picks) for i in (0, 2))
        columns += [
            shuffled(builder, low, high, [*range(at, at + half), *range(2 * half + at, 3 * half + at)])
            for at in (0, half)
        ]
    return columns


def _rows(context, builder, signature, arguments, lanes):
    """Pointers to a column of some rows.

    The first four arguments are the table, numbers of rows, the place of the first of these, and the column.
    """
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    stride = builder.extract_value(array.strides, 0)
    numbers = context.make_array(signature.args[1])(context, builder, arguments[1]).data
    offset = builder.mul(arguments[3], ir.IntType(64)(signature.args[0].dtype.bitwidth // 8))
    base = builder.gep(builder.bitcast(array.data, ir.IntType(8).as_pointer()), [offset])
    bases = []
    for lane in range(lanes):
        place = builder.add(arguments[2], ir.IntType(64)(lane))
        row = builder.sext(builder.load(builder.gep(numbers, [place])), ir.IntType(64))
        bases.append(builder.gep(base, [builder.mul(row, stride)]))
    return bases


@intrinsic
def turn(_, table, rows, first, column, shift, tile, start, step):
    """Write as many columns as there are lanes, of as many rows and less `shift`, each as a vector to `tile`.

    `rows` are int32, from `first` on; vectors lie `step` numbers apart, from `start` on. The numbers of a row
    lie side by side, with as many as there are lanes from `column` on. They are read by 16 bytes, which go to
    their part of a register on the way, so that only small squares are left to be turned over there.
    """
    kind = Vector(table.dtype)

    def generate(context, builder, signature, arguments):
        itemsize = table.dtype.bitwidth // 8
        width, element = 16 // itemsize, context.get_value_type(table.dtype)

        def read(base, number):
            """Numbers of a row, or of the shift, as many as 16 bytes hold."""
            place = builder.gep(base, [ir.IntType(64)(number * itemsize)])
            narrow = ir.VectorType(element, width)
            return builder.load(builder.bitcast(place, narrow.as_pointer()), align=itemsize)

        offset = builder.mul(arguments[3], ir.IntType(64)(itemsize))
        moved = context.make_array(signature.args[4])(context, builder, arguments[4]).data
        moved = builder.gep(builder.bitcast(moved, ir.IntType(8).as_pointer()), [offset])
        bases = _rows(context, builder, signature, arguments, kind.lanes)
        starts = range(0, kind.lanes, width)
        columns = []
        for number in starts:
            part = read(moved, number)
            shifts = shuffled(builder, part, part, [*range(width)] * len(starts))
            square = []
            for i in range(width):
                (part,) = _joined(builder, [read(bases[at + i], number) for at in starts], 1)
                square.append(builder.fsub(part, shifts))
            columns += _turned(builder, square)
        data = context.make_array(signature.args[5])(context, builder, arguments[5]).data
        for lane, column in enumerate(columns):
            place = builder.add(arguments[6], builder.mul(arguments[7], ir.IntType(64)(lane)))
            target = builder.bitcast(builder.gep(data, [place]), column.type.as_pointer())
            builder.store(column, target, align=itemsize)
        return context.get_dummy_value()

    return types.void(table, rows, types.intp, types.intp, shift, tile, types.intp, types.intp), generate


def _joined(builder, vectors, count):
    """Neighbouring vectors side by side, until there are so many left."""
    while len(vectors) > count:
        mask = list(range(2 * vectors[0].type.count))
        vectors = [shuffled(builder, *pair, mask) for pair in zip(vectors[::2], vectors[1::2], strict=True)]
    return vectors


def _turned(builder, square):
    """Squares side by side, each as high as there are vectors, turned over by perfect shuffles.

    The first half of the vectors is dealt with the second, as often as it takes.
    """
    size, lanes = len(square), square[0].type.count
    for _ in range(size.bit_length() - 1):
        dealt = []
        for pair in zip(square[: size // 2], square[size // 2 :], strict=True):
            for half in (0, size // 2):
                picks = [
                    at + half + i // 2 + i % 2 * lanes for at in range(0, lanes, size) for i in range(size)
                ]
                dealt.append(shuffled(builder, *pair, picks))
        square = dealt
    return square
