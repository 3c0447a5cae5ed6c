"""Which library the inputs come from: looked at once, here, and nowhere below.

Arrays are recognised through array-api-compat, which looks at what is already imported and imports
nothing itself.
"""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from types import ModuleType
from typing import Any

import array_api_compat as compat
import numpy as np

from xpmeans.capabilities import LIBRARIES, UnsupportedBackendError


@dataclass(frozen=True, slots=True)
class Context:
    """What the inputs of one call are made of."""

    xp: ModuleType  # NumPy, jax.numpy, or array-api-compat's namespace
    library: str  # "numpy", "cupy", "torch", "jax", "dask", "array_api_strict" or the package's name
    device: Any  # None for an array on several devices
    on_gpu: bool  # on any device but the library's CPU
    traced: bool  # inside a JAX transformation
    lazy: bool  # a Dask graph


# For work on checked values. Now and then a product in OpenBLAS reads past its operands (0.3.31, 1 of 180,000
# products of (k, d) and (d, 1) in float32), and a NaN that lies there sets the flag that NumPy warns of:
# "invalid value encountered in matmul".
without_false_alarms = np.errstate(invalid="ignore")

_override: ContextVar[bool | None] = ContextVar("xpmeans.array_api", default=None)


@contextmanager
def array_api(enabled: bool) -> Iterator[None]:
    """Let `xpmeans.vq` keep the library of its inputs, or coerce them to NumPy, in a ``with`` block.

    Overrides the environment variable ``SCIPY_ARRAY_API`` for the current thread (or asyncio task);
    threads started inside the block begin with the environment's setting.

    Parameters
    ----------
    enabled : bool
        True: arrays keep their library, as with ``SCIPY_ARRAY_API=1``. False: every input is coerced
        to NumPy and NumPy arrays come back.

    Examples
    --------
    >>> import dask.array as da
    >>> import xpmeans
    >>> from xpmeans.vq import kmeans2
    >>> points = da.asarray([1.0, 2.0, 9.0, 10.0])
    >>> with xpmeans.array_api(True):
    ...     centroid, label = kmeans2(points, 2, minit="++", rng=0)
    >>> type(centroid).__module__
    'dask.array.core'
    """
    token = _override.set(bool(enabled))
    try:
        yield
    finally:
        _override.reset(token)


def array_api_enabled() -> bool:
    """Read the switch: the innermost `array_api` block, else ``SCIPY_ARRAY_API``, at each call."""
    override = _override.get()
    if override is not None:
        return override
    value = os.environ.get("SCIPY_ARRAY_API", "")
    return value.strip().lower() not in {"", "0", "false", "no", "off"}


def dispatch_by_switch(**inputs: Any) -> tuple[Context, list[Any]]:
    """`dispatch` if the switch is on; else NumPy's context, and every input coerced to NumPy."""
    if array_api_enabled():
        return dispatch(**inputs)
    return _host(), [_to_numpy(name, value) for name, value in inputs.items()]


def dispatch(**inputs: Any) -> tuple[Context, list[Any]]:
    """Find the one library and device of the inputs, and bring lists over to it.

    Numbers stay as they are, 0-d arrays too: they go with arrays of every library.

    Raises
    ------
    TypeError
        For arrays of two libraries, and for what does not hold numbers.
    ValueError
        For sparse arrays, and for arrays on two devices.
    """
    values: dict[str, Any] = {}
    contexts: dict[str, Context] = {}
    for name, value in inputs.items():
        values[name] = value
        if _is_number(value):
            if isinstance(value, np.ndarray | np.generic):
                _numeric(value)  # refuses text and times
            continue
        _refuse_sparse(name, value, ValueError)
        if isinstance(value, np.ndarray):
            values[name] = value = _numeric(value)
            contexts[name] = _context(value)
        elif compat.is_array_api_obj(value):
            if compat.is_dask_array(value) and isinstance(value._meta, np.ndarray):
                _numeric(value._meta)  # refuses text, times and masks without computing anything
            contexts[name] = _context(value)
        else:
            values[name] = _numeric(_listed(name, value))
    context = _agreed(contexts, free={name for name in contexts if _goes_anywhere(values[name])})
    if context.library not in ("numpy", "dask"):  # Dask's work happens in NumPy, see `on_host`
        for name in values.keys() - contexts.keys():
            if not _is_number(values[name]):
                values[name] = context.xp.asarray(values[name], device=context.device)
    return context, list(values.values())


def on_host(context: Context, arrays: list[Any]) -> tuple[Context, list[Any]]:
    """Bring torch, JAX and Dask arrays to NumPy, to compute on them there.

    Host memory is shared where the layout allows; Dask graphs are computed, all in one go. Numbers, and
    arrays of libraries that NumPy does not know, pass.
    """
    lazy = [array for array in arrays if compat.is_dask_array(array)]
    if lazy:
        computed = iter(sys.modules["dask"].compute(*lazy))
        arrays = [_chunk(next(computed)) if compat.is_dask_array(array) else array for array in arrays]
    if context.lazy:
        return _host(), arrays
    if context.library in ("torch", "jax") and not (context.traced or context.on_gpu):
        return _host(), [_viewed(array) if compat.is_array_api_obj(array) else array for array in arrays]
    return context, arrays


def returned(context: Context, array: Any, dtype: Any = None) -> Any:
    """A result of work on the host as an array of the caller's library, on the caller's device."""
    return all_returned(context, (array, dtype))[0]


def all_returned(context: Context, *results: tuple[Any, Any]) -> list[Any]:
    """`returned` for several pairs of an array and a dtype; the arrays are all NumPy's, or none is."""
    if context.library == "numpy" or not isinstance(results[0][0], np.ndarray | np.generic):
        return [
            array if dtype is None or array.dtype == dtype else context.xp.astype(array, dtype)
            for array, dtype in results
        ]
    with np.errstate(over="ignore", under="ignore"):  # a float64 inertia may be out of float32's range
        if context.library == "jax":
            return _put(context, [np.asarray(array, dtype) for array, dtype in results])
        device = None if context.lazy else context.device
        return [context.xp.asarray(array, dtype=dtype, device=device) for array, dtype in results]


def there_and_back(context: Context, array: Any, dtype: Any) -> Any:
    """An array of the work after a stay in the caller's dtype, which NumPy may lack: bfloat16 rounds."""
    if _named(dtype) == _named(array.dtype):
        return array
    return on_host(context, [returned(context, array, dtype)])[1][0]


def _put(context: Context, arrays: list[Any]) -> list[Any]:
    """NumPy arrays as JAX's; nobody may write to them any more.

    `make_array_from_callback` takes 55 us for four arrays on one device, 130 to 240 within a call, and
    `device_put` 1.3 times as long. Both share memory that begins at a multiple of 64 bytes.
    """
    jax = sys.modules["jax"]
    if context.device is None:
        return list(jax.device_put(arrays))
    place = _place(context.device)
    try:
        return [jax.make_array_from_callback(array.shape, place, partial(_whole, array)) for array in arrays]
    except jax.errors.JaxRuntimeError:  # under a guard, to which this is no transfer that was asked for
        return list(jax.device_put(arrays, context.device))


@cache
def _place(device: Any) -> Any:
    """One device as JAX wants to be told of it."""
    return sys.modules["jax"].sharding.SingleDeviceSharding(device)


def _whole(array: Any, _index: Any) -> Any:
    """The part of an array that one device holds which holds all of it."""
    return array


def to_host(array: Any) -> Any:
    """An array's values as a NumPy array, from any device; dtypes that NumPy lacks become float32."""
    if isinstance(array, np.ndarray | np.generic):
        return array
    if compat.is_torch_array(array):
        return _viewed(array.cpu())
    if compat.is_jax_array(array):
        return _viewed(array)
    if compat.is_cupy_array(array):
        return array.get()
    return np.asarray(
        compat.to_device(array, compat.array_namespace(array).__array_namespace_info__().default_device())
    )


def converted(array: Any, xp: Any, device: Any, dtype: Any) -> Any:
    """A copy of an array in another namespace, on another device or of another real dtype; None keeps each.

    A dtype that is only kept becomes NumPy's choice where the namespace lacks it (bfloat16).
    """
    own = compat.array_namespace(array)
    target = xp or own
    if dtype is not None:
        dtype = _named_dtype(target, dtype)
    if target is own:
        moved = array if device is None else compat.to_device(array, device)
        return target.astype(moved, dtype or array.dtype, copy=True)
    values = np.array(to_host(array))  # torch warns of memory that it must not write to
    if dtype is None and "bfloat16" in str(array.dtype):
        dtype = getattr(target, "bfloat16", None)
    return target.asarray(values, dtype=dtype, device=device)


def alike(x: Any, array: Any) -> Any:
    """An array of any library in that of another, which NumPy's is beside Dask; a tracer stays as it is."""
    user, _ = dispatch(x=x)
    if is_tracer(array):
        return array
    if user.library in ("numpy", "dask"):
        return to_host(array)
    if compat.array_namespace(array) is user.xp:
        return array
    return converted(array, user.xp, user.device, None)


def _named_dtype(xp: Any, dtype: Any) -> Any:
    """A real dtype of a namespace by a name, or by another library's dtype."""
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype).rpartition(".")[2]
    found = getattr(xp, name, None)
    if found is None or not xp.isdtype(found, "real floating"):
        raise ValueError(f"`dtype` must be a real dtype of the library, got {dtype!r}.")
    return found


def named_namespace(library: Any) -> Any:
    """The namespace of a library by its name, or of a namespace or module."""
    if isinstance(library, str):
        if library not in LIBRARIES or library == "dask":
            known = ", ".join(repr(name) for name in LIBRARIES if name != "dask")
            raise ValueError(f"`library` must be a namespace or one of {known}, got {library!r}.")
        library = importlib.import_module("jax.numpy" if library == "jax" else library)
    library = getattr(library, "numpy", library)  # jax itself; NumPy has none
    if not hasattr(library, "empty"):
        raise ValueError(f"`library` must be a namespace or a name, got {library!r}.")
    return compat.array_namespace(library.empty(0))


def _chunk(array: Any) -> Any:
    """The values of a Dask array; other kinds than NumPy's would lose their mask or their device."""
    if not isinstance(array, np.ndarray | np.generic) or isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"Inputs of type `dask.array` with {_kind(array)} chunks are not supported.")
    return _numeric(array)


def _viewed(array: Any) -> Any:
    """A torch or JAX array as a NumPy array, outside autograd; dtypes that NumPy lacks become float32."""
    if _unknown_to_numpy(array.dtype):
        xp = compat.array_namespace(array)
        array = xp.astype(array, xp.float32)
    if compat.is_torch_array(array):  # detached first: `asarray` would strip the caller's flag
        return array.detach().resolve_conj().resolve_neg().numpy()  # github.com/pytorch/pytorch/issues/170819
    return np.asarray(array)


def _unknown_to_numpy(dtype: Any) -> bool:
    """Whether NumPy lacks a dtype; of those that are NumPy's own kind, what ml_dtypes has registered."""
    if isinstance(dtype, np.dtype):
        return dtype.isbuiltin == 2
    return _named(dtype).startswith(("bfloat16", "float8"))


@lru_cache(maxsize=None, typed=True)  # array-api-strict's dtypes warn if they are compared with NumPy's
def _named(dtype: Any) -> str:
    """What a dtype is called in any library; they take up to 10 us to say."""
    return str(dtype).rpartition(".")[2]


def _agreed(contexts: dict[str, Context], free: set[str]) -> Context:
    """The context that all arrays share, the `free` ones on any device; NumPy's when there is no array."""
    if not contexts:
        return _host()
    (first, context), *others = contexts.items()
    for name, other in others:
        if other.library != context.library:
            raise TypeError(
                f"Multiple namespaces for array inputs: `{first}` is a {context.library} array and "
                f"`{name}` is a {other.library} array. Hint: convert one of them first, for example with "
                f"{context.xp.__name__.removeprefix('array_api_compat.')}.asarray."
            )
        if other.traced or context.traced:  # a tracer is on no device, and goes with concrete arrays
            context = other if other.traced else context
        elif other.device != context.device and first in free:
            first, context = name, other
        elif other.device != context.device and name not in free:
            raise ValueError(
                f"All arrays must be on one device: `{first}` is on {context.device or 'several'} and "
                f"`{name}` is on {other.device or 'several'}. Hint: move one of them first, for example with "
                f"array_api_compat.to_device({name}, array_api_compat.device({first}))."
            )
    return context


@cache
def _host() -> Context:
    """NumPy's context, with NumPy itself for a namespace; array-api-compat's takes 100 ms to load.

    Its functions are those of the standard since 2.2. Of their defaults one differs: sorts are not stable.
    """
    return Context(np, "numpy", "cpu", on_gpu=False, traced=False, lazy=False)


def _context(array: Any) -> Context:
    """What one array is made of."""
    if isinstance(array, np.ndarray):
        return _host()
    if compat.is_jax_array(array) and not is_tracer(array):
        return _placed(frozenset(array.devices()))
    xp = compat.array_namespace(array)
    if compat.is_torch_array(array):
        return _tensors(xp, array.device)
    if is_tracer(array):
        return Context(xp, "jax", None, on_gpu=False, traced=True, lazy=False)
    if compat.is_dask_array(array):
        return Context(xp, "dask", "cpu", on_gpu=False, traced=False, lazy=True)
    device = compat.device(array)
    library = xp.__name__.removeprefix("array_api_compat.").partition(".")[0]
    off_cpu = library == "cupy" or (library == "array_api_strict" and device != xp.Device("CPU_DEVICE"))
    return Context(xp, library, device, on_gpu=off_cpu, traced=False, lazy=False)


@cache
def _placed(devices: frozenset[Any]) -> Context:
    """The context of JAX arrays on some devices; kept, for a short call notices the 10 us."""
    off_cpu = any(device.platform != "cpu" for device in devices)
    device = next(iter(devices)) if len(devices) == 1 else None
    return Context(sys.modules["jax"].numpy, "jax", device, on_gpu=off_cpu, traced=False, lazy=False)


@cache
def _tensors(xp: ModuleType, device: Any) -> Context:
    """The context of torch tensors on a device."""
    return Context(xp, "torch", device, on_gpu=device.type != "cpu", traced=False, lazy=False)


def _goes_anywhere(value: Any) -> bool:
    """Whether JAX counts an array as on any device: one that nobody has put anywhere."""
    return compat.is_jax_array(value) and not is_tracer(value) and not value.committed


def _is_number(value: Any) -> bool:
    """Whether a value belongs to no library: Python's numbers, NumPy's, and 0-d arrays."""
    if isinstance(value, int | float | complex | np.generic):
        return True
    return getattr(value, "ndim", None) == 0 and not is_tracer(value)


def being_compiled() -> bool:
    """Whether `torch.compile` is following this call; torch is looked up, not imported."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.compiler.is_compiling()


def is_tracer(value: Any) -> bool:
    """Whether JAX is tracing this value; JAX is looked up, not imported."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(value, jax.core.Tracer)


def _numeric(array: Any) -> Any:
    """A NumPy array of numbers in the machine's byte order, or SciPy's errors."""
    if type(array) is not np.ndarray and isinstance(array, np.ma.MaskedArray | np.matrix):
        kind = "numpy.matrix" if isinstance(array, np.matrix) else "numpy.ma.MaskedArray"
        raise TypeError(f"Inputs of type `{kind}` are not supported.")
    if array.dtype.kind not in "iufcb":
        raise TypeError(
            f"An argument has dtype `{array.dtype!r}`; only boolean and numerical dtypes are supported."
        )
    array = np.asarray(array)  # subclasses may have rules of their own, and SciPy returns plain arrays
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _refuse_sparse(name: str, value: Any, error: type[Exception]) -> None:
    """Raise for scipy.sparse and torch's sparse layouts, which would become 0-d objects or worse."""
    scipy_sparse = sys.modules.get("scipy.sparse")
    is_sparse = scipy_sparse is not None and scipy_sparse.issparse(value)
    if is_sparse or (compat.is_torch_array(value) and "strided" not in str(value.layout)):
        raise error(
            f"Sparse arrays/matrices are not supported by this function, got `{name}` of type "
            f"{_kind(value)}. Hint: convert it to a dense array first."
        )


def _listed(name: str, value: Any) -> Any:
    """A list, a tuple or anything else that NumPy can read."""
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"`{name}` must be an array or convertible to one, got {_kind(value)}.") from error


def _to_numpy(name: str, value: Any) -> Any:
    """Coerce an input to NumPy, for the switch turned off."""
    if isinstance(value, int | float | complex):
        return value
    _refuse_sparse(name, value, TypeError)  # SciPy's error class in this mode
    if isinstance(value, np.matrix):
        value = value.A
    if isinstance(value, np.ndarray) or not compat.is_array_api_obj(value):
        return _numeric(value if isinstance(value, np.ndarray) else _listed(name, value))
    if compat.is_dask_array(value):
        return on_host(_context(value), [value])[1][0]
    try:
        host = _viewed(value)
    except (TypeError, RuntimeError, NotImplementedError) as error:
        raise UnsupportedBackendError(
            f"`{name}` must be convertible to NumPy while SCIPY_ARRAY_API is off, got {_kind(value)}. "
            "Hint: copy it to the host first, outside of transformations."
        ) from error
    return _numeric(host)


def _kind(value: Any) -> str:
    """A value's type, as a user would name it."""
    return f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
