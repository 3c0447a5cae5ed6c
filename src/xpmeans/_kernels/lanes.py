"""Vectors of numbers that Numba keeps in SIMD registers.

LLVM turns a loop into vector instructions only if it is the innermost one, and then keeps its sums in memory.
The scan needs a loop inside (over columns) and its sums in registers, so it says which vectors it means.

The operations work on values of one type, for use in compiled code only.
"""

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import njit, types
from numba.core import cgutils
from numba.core.options import DefaultOptions
from numba.extending import intrinsic, models, register_model
from numba.np.arrayobj import populate_array
from numba.np.numpy_support import as_dtype

# Size of a vector: that of AVX-512's registers where they are, else of AVX2's, or two of NEON's or SSE's.
BYTES = 64 if get_host_cpu_features().get("avx512f") else 32

# How many times that a vector takes with a lane for each point of a tile. Sums for four centroids, eight
# registers, keep two units busy that multiply and add, with results four cycles later, and leave some of the
# sixteen that AVX2 has.
REGISTERS = 2

# An option of Numba's own, without which the code would be right, and slow.
UNCOUNTED = {"_nrt": False} if hasattr(DefaultOptions, "_nrt") else {}


def jitted(*signatures, **options):
    """Numba's compiler, for code that lets go of Python's lock, and is kept on disk if there is a place.

    No way in is made from C, nor, without a signature, from Python, where a call would end the process: that
    takes a second to compile. Tests call such a function from one of their own that they compile.

    Nothing is allocated: Numba counts references to arrays that it might have to free, and in `walk` that
    took two thirds of the time of points in two columns. Room is on the stack, or comes from the caller.
    """
    options |= {"no_cfunc_wrapper": True, "no_cpython_wrapper": not signatures, "error_model": "numpy"}
    options |= UNCOUNTED

    def decorate(function):
        try:
            return njit(*signatures, nogil=True, cache=True, **options)(function)
        except RuntimeError:  # neither beside the code nor at home
            return njit(*signatures, nogil=True, **options)(function)

    return decorate


class Vector(types.Type):
    """Numba's type of a vector of float32 or float64, in one register or several."""

    def __init__(self, dtype, registers=1):
        self.dtype = dtype
        self.lanes = registers * BYTES * 8 // dtype.bitwidth
        super().__init__(name=f"Vector({dtype}, {registers})")


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager, kind):
        element = manager.lookup(kind.dtype).get_data_type()
        super().__init__(manager, kind, ir.VectorType(element, kind.lanes))


@intrinsic(prefer_literal=True)
def scratch(_, like, count):
    """Room on the stack for so many vectors of an array's dtype, none of which crosses a cache line."""
    kind, size = types.Array(like.dtype, 1, "C"), count.literal_value * (BYTES * 8 // like.dtype.bitwidth)

    def generate(context, builder, _signature, _arguments):
        whole, itemsize = ir.IntType(64), like.dtype.bitwidth // 8
        data = cgutils.alloca_once(builder, context.get_value_type(like.dtype), whole(size))
        data.align = BYTES
        array = context.make_array(kind)(context, builder)
        populate_array(array, data, [whole(size)], [whole(itemsize)], itemsize, meminfo=None)
        return array._getvalue()

    return kind(like, count), generate


@intrinsic
def epsilon_of(_, array):
    """The epsilon of an array's dtype; `np.finfo` takes 0.3 s to compile."""
    return _constant(array, "eps")


@intrinsic
def tiny_of(_, array):
    """The least normal number of an array's dtype."""
    return _constant(array, "tiny")


def _constant(array, name):
    """What `intrinsic` asks for, of a number that NumPy knows of a dtype."""
    number = float(getattr(np.finfo(as_dtype(array.dtype)), name))

    def generate(context, _builder, _signature, _arguments):
        return context.get_constant(array.dtype, number)

    return array.dtype(array), generate


@intrinsic
def load(_, array, start):
    """Numbers from a one-dimensional contiguous array."""
    return _loading(Vector(array.dtype), array)


@intrinsic
def load_tile(_, array, start):
    """The same for all points of a tile."""
    return _loading(Vector(array.dtype, REGISTERS), array)


def _loading(kind, array):
    """What `intrinsic` asks for, of a vector from an array."""

    def generate(context, builder, signature, arguments):
        place = _place(context, builder, signature, arguments, context.get_value_type(kind))
        return builder.load(place, align=array.dtype.bitwidth // 8)

    return kind(array, types.intp), generate


@intrinsic
def store(_, array, start, vector):
    """Write a vector to a one-dimensional contiguous array."""

    def generate(context, builder, signature, arguments):
        place = _place(context, builder, signature, arguments, arguments[2].type)
        builder.store(arguments[2], place, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@intrinsic
def splat(_, number):
    """One number in every lane."""
    kind = Vector(number)

    def generate(_context, builder, _signature, arguments):
        return spread_over(builder, arguments[0], kind.lanes)

    return kind(number), generate


@intrinsic
def splat_tile(_, number):
    """The same for all points of a tile."""
    kind = Vector(number, REGISTERS)

    def generate(_context, builder, _signature, arguments):
        return spread_over(builder, arguments[0], kind.lanes)

    return kind(number), generate


@intrinsic
def spread(_, array, place):
    """A number from a one-dimensional contiguous array, for all points of a tile."""
    kind = Vector(array.dtype, REGISTERS)

    def generate(context, builder, signature, arguments):
        data = context.make_array(array)(context, builder, arguments[0]).data
        return spread_over(builder, builder.load(builder.gep(data, [arguments[1]])), kind.lanes)

    return kind(array, types.intp), generate


@intrinsic
def store_integers(_, array, start, vector):
    """Write a vector of whole numbers to a one-dimensional contiguous array of int32."""

    def generate(context, builder, signature, arguments):
        whole = builder.fptosi(arguments[2], ir.VectorType(ir.IntType(32), vector.lanes))
        builder.store(whole, _place(context, builder, signature, arguments, whole.type), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@intrinsic
def copy(_, source, start, target, place, count):
    """Copy a piece of a one-dimensional contiguous array to a place in another of its dtype.

    An assignment to a slice takes two seconds to compile, and a loop several times as long to run.
    """

    def generate(context, builder, signature, arguments):
        places = []
        for i in (0, 2):
            array = context.make_array(signature.args[i])(context, builder, arguments[i])
            places.append(builder.gep(array.data, [arguments[i + 1]]))
        cgutils.raw_memcpy(builder, places[1], places[0], arguments[4], source.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(source, types.intp, target, types.intp, types.intp), generate


@intrinsic
def not_less(_, a, b):
    """The lanes where `a` is not less than `b`, as the bits of an integer."""

    def generate(_context, builder, _signature, arguments):
        less = builder.not_(builder.fcmp_ordered("<", *arguments))
        return builder.zext(builder.bitcast(less, ir.IntType(a.lanes)), ir.IntType(64))

    return types.int64(a, b), generate


@intrinsic
def differ(_, a, b, start):
    """Where two arrays of int32 differ, from `start` on: the lanes as the bits of an integer."""
    lanes = BYTES // 4

    def generate(context, builder, signature, arguments):
        kind = ir.VectorType(ir.IntType(32), lanes)
        pair = []
        for i in (0, 1):
            array = context.make_array(signature.args[i])(context, builder, arguments[i])
            place = builder.bitcast(builder.gep(array.data, [arguments[2]]), kind.as_pointer())
            pair.append(builder.load(place, align=4))
        unequal = builder.icmp_unsigned("!=", *pair)
        return builder.zext(builder.bitcast(unequal, ir.IntType(lanes)), ir.IntType(64))

    return types.int64(a, b, types.intp), generate


@intrinsic
def lowest_bit(_, bits):
    """The place of the lowest bit that is set, of some."""

    def generate(_context, builder, _signature, arguments):
        return builder.cttz(arguments[0], ir.IntType(1)(1))

    return types.int64(types.int64), generate


@intrinsic
def load_wide(_, table, row, column):
    """Neighbouring numbers of a row, as many as a vector of float64 has, in float64."""
    kind = Vector(types.float64)

    def generate(context, builder, signature, arguments):
        element = context.get_value_type(table.dtype)
        place = _cell(context, builder, signature, arguments, ir.VectorType(element, kind.lanes))
        vector = builder.load(place, align=table.dtype.bitwidth // 8)
        return vector if table.dtype == types.float64 else builder.fpext(vector, context.get_value_type(kind))

    return kind(table, types.intp, types.intp), generate


@intrinsic
def store_wide(_, table, row, column, vector):
    """Write a vector to neighbouring numbers of a row in a table of float64."""

    def generate(context, builder, signature, arguments):
        place = _cell(context, builder, signature, arguments, arguments[3].type)
        builder.store(arguments[3], place, align=8)
        return context.get_dummy_value()

    return types.void(table, types.intp, types.intp, vector), generate


@intrinsic
def prefetch(_, table, row, column):
    """Ask for the cache line of a number in a table, to the second level; any place is allowed."""

    def generate(context, builder, signature, arguments):
        bytes_ = ir.IntType(8)
        address = _cell(context, builder, signature, arguments, bytes_)
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [bytes_.as_pointer(), flag, flag, flag])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [address, flag(0), flag(2), flag(1)])
        return context.get_dummy_value()

    return types.void(table, types.intp, types.intp), generate


def spread_over(builder, number, lanes):
    """A vector of one number."""
    first = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
    first = builder.insert_element(first, number, ir.IntType(32)(0))
    return shuffled(builder, first, first, [0] * lanes)


def shuffled(builder, a, b, picks):
    """Numbers of two vectors, by their places when these lie side by side."""
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(picks)), picks)
    return builder.shuffle_vector(a, b, mask)


def _lanewise(kind, count, build):
    """What `intrinsic` asks for, of an operation on each lane of `count` vectors."""

    def generate(_context, builder, _signature, arguments):
        return build(builder, *arguments)

    return kind(*(kind,) * count), generate


@intrinsic
def plus(_, a, b):
    """Sum."""
    return _lanewise(a, 2, lambda builder, a, b: builder.fadd(a, b))


@intrinsic
def minus(_, a, b):
    """Difference."""
    return _lanewise(a, 2, lambda builder, a, b: builder.fsub(a, b))


@intrinsic
def times(_, a, b):
    """Product, rounded before it is added to anything."""
    return _lanewise(a, 2, lambda builder, a, b: builder.fmul(a, b))


@intrinsic
def times_plus(_, a, b, c):
    """The product of `a` and `b`, plus `c`, in one instruction where there is one."""
    return _lanewise(a, 3, lambda builder, *abc: _call(builder, "llvm.fmuladd", *abc))


@intrinsic
def root(_, a):
    """Square root."""
    return _lanewise(a, 1, lambda builder, a: _call(builder, "llvm.sqrt", a))


@intrinsic
def smaller(_, a, b):
    """Minimum of two vectors, lane by lane."""
    return _lanewise(a, 2, lambda builder, a, b: builder.select(builder.fcmp_ordered("<", a, b), a, b))


@intrinsic
def larger(_, a, b):
    """Maximum of two vectors, lane by lane."""
    return _lanewise(a, 2, lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))


@intrinsic
def where_less(_, a, b, then, otherwise):
    """`then` in the lanes where `a` is less than `b`, and `otherwise` in the others."""

    def build(builder, a, b, then, otherwise):
        return builder.select(builder.fcmp_ordered("<", a, b), then, otherwise)

    return _lanewise(a, 4, build)


def _call(builder, name: str, *vectors):
    """Call one of LLVM's functions for this type of vector."""
    kind = vectors[0].type
    suffix = f"v{kind.count}f{64 if kind.element == ir.DoubleType() else 32}"
    signature = ir.FunctionType(kind, [kind] * len(vectors))
    return builder.call(
        cgutils.get_or_insert_function(builder.module, signature, f"{name}.{suffix}"), vectors
    )


def _place(context, builder, signature, arguments, vector):
    """Pointer to a vector in an array."""
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    return builder.bitcast(builder.gep(array.data, [arguments[1]]), vector.as_pointer())


def _cell(context, builder, signature, arguments, element):
    """Pointer to a number in a table, whatever its strides."""
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    offsets = [
        builder.mul(arguments[1 + axis], builder.extract_value(array.strides, axis)) for axis in (0, 1)
    ]
    start = builder.bitcast(array.data, ir.IntType(8).as_pointer())
    return builder.bitcast(builder.gep(start, [builder.add(*offsets)]), element.as_pointer())
