"""The types of what the host kernel compiles; a function is compiled when first used, and kept on disk."""

import gc
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from xpmeans._kernels import ahead, books, draws, walk
from xpmeans._kernels.lanes import jitted


@cache
def _stamp() -> str:
    """A digest of all that is compiled in: Numba looks at the file of the outermost function alone."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]


@cache
def compiled(function: Callable[..., Any], dtype: str) -> Any:
    """A function of the host kernel, compiled for points of a dtype ("f" or "d"), in any layout."""
    number = from_dtype(np.dtype(dtype))
    points = types.Array(number, 2, "A", readonly=True)
    vector, bounds = types.Array(number, 1, "C"), types.Array(number, 2, "C")
    wide, column = types.Array(types.float64, 1, "C", readonly=True), types.Array(types.float64, 1, "C")
    table, tables = types.Array(types.float64, 2, "C"), types.Array(types.float64, 3, "C")
    labels, order = types.Array(types.int32, 1, "C"), types.Array(types.int64, 1, "C")
    numbers, pairs = types.Array(types.int32, 2, "C"), types.Array(types.float64, 4, "C")
    signature = {
        walk.walk: types.void(
            *(points, wide, types.boolean, labels, labels, vector, vector, order, vector, vector, vector),
            *(column, types.int64, vector, column, table, vector, bounds, number, bounds, types.boolean),
            *(vector, tables, order),
        ),
        books.neighbours: types.void(column, table, types.int64, types.int64, numbers, *[column] * 4),
        walk.sum_up: types.void(points, wide, labels, labels, table),
        walk.squares: types.void(points, labels, table, column),
        walk.judge: types.float64(points, wide, labels, table, order),
        books.prepare: types.void(table, vector, order, vector, vector, vector, column, vector, column),
        books.repeat: types.boolean(table, order, order, vector),
        books.drifts: types.Tuple((number, types.float64, types.float64))(
            *(table, table, numbers, column, column, column, column),
            *(vector, vector, labels, types.int64, bounds, column),
        ),
        draws.potentials: types.void(points, wide, wide, labels, column, table, column, column),
        draws.safe_from: types.void(table, table, table),
        draws.lower: types.float64(points, wide, table, types.int64, column, column, labels),
        draws.pick: types.int64(wide, wide, types.float64),
        walk.add_up: types.void(tables, table, table, types.int64, types.int64),
        ahead.ahead: types.Tuple((types.int64, types.int64, types.boolean))(
            *[types.int64] * 4,
            *(points, wide, numbers, vector, order, vector, vector, order, vector, column),
            *(vector, column, tables, vector, column, bounds, bounds, vector, tables, order, labels),
            *(pairs, types.int64, types.int64, types.boolean, types.float64, types.boolean, types.int64),
        ),
    }[function]
    function.__qualname__ = f"{function.__name__}-{_stamp()}"  # which names the file on disk
    collects = gc.isenabled()
    gc.disable()  # the collector would take a tenth of the time, and find nothing
    try:
        return jitted([signature])(function)
    finally:
        if collects:
            gc.enable()


@cache
def address(function: Callable[..., Any], dtype: str) -> int:
    """Where the same lies in memory, to be called by compiled code."""
    (result,) = compiled(function, dtype).overloads.values()
    return int(result.library.get_pointer_to_function(result.fndesc.llvm_func_name))
