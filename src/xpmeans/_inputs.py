"""What the arguments of the native functions mean, and the errors for those that mean nothing."""

import math
import operator
from dataclasses import replace
from typing import Any, NamedTuple

import array_api_compat as compat
import numpy as np

from xpmeans._core import initial
from xpmeans._core.lloyd import ClusterError
from xpmeans._core.precision import Reach, measure, precision
from xpmeans._dispatch import Context, dispatch, is_tracer, on_host
from xpmeans._kernels import lazy, traced
from xpmeans.capabilities import gate


class Inputs(NamedTuple):
    """The arrays of one call, where they are worked on."""

    user: Context  # what came in
    work: Context  # where the work happens
    x: Any  # (n, d) or (B, n, d)
    weights: Any | None
    book_name: str
    book: Any | None  # (k, d) or (B, k, d)
    dtype: Any  # of the results, in the user's library
    book_dtype: Any  # the same for results that belong to the code book


def inputs_of(function: str, x: Any, weights: Any = None, *, compiles: bool = False, **books: Any) -> Inputs:
    """Dispatch, gate and check the shapes of points, their weights and, by its name, a code book.

    What `compiles` is left to JAX as a whole where the arrays lie, on accelerators or several devices.
    """
    for name, array in {"x": x, **books}.items():
        if array is None:
            raise TypeError(f"`{name}` must be an array, got None.")
    arrays = {"x": x, **({} if weights is None else {"sample_weight": weights}), **books}
    arrays = alongside(x, arrays)
    user, found = dispatch(**arrays)
    gate(f"xpmeans.{function}", user)
    arrays = dict(zip(arrays, found, strict=True))
    shapes = {name: tuple(getattr(array, "shape", ())) for name, array in arrays.items()}
    shape = shapes["x"]
    if len(shape) not in (2, 3):
        hint = " Hint: x[:, None] makes a vector a table of one column." if len(shape) == 1 else ""
        raise ValueError(f"`x` must have shape (n, d) or (B, n, d), got {shape}.{hint}")
    for name, got in shapes.items():
        if name == "sample_weight":
            if not (_fits(got, shape[:-1]) or _fits(got, shape[-2:-1])):
                raise ValueError(f"`sample_weight` must have shape {shape[:-1]}, got {got}.")
        elif name != "x" and (len(got) < 2 or got[-1] != shape[-1] or got[:-2] not in ((), shape[:-2])):
            raise ValueError(f"`{name}` must have shape (k, {shape[-1]}), got {got}.")
        if 0 in got:
            raise ValueError(f"`{name}` must not be empty, got shape {got}.")
    dtypes = [arrays[name].dtype for name in arrays if name != "sample_weight"]
    if weights is not None and user.xp.isdtype(arrays["sample_weight"].dtype, "complex floating"):
        raise ValueError("`sample_weight` must be real, got complex numbers.")
    results = {dtype: precision(user.xp, dtype, user.device).result for dtype in dict.fromkeys(dtypes)}
    if user.lazy:
        arrays["x"] = lazy().whole_rows(arrays["x"])
        work, found = user, list(arrays.values())
    elif compiles and user.library == "jax" and (user.on_gpu or user.device is None):
        work, found = replace(user, traced=True), list(arrays.values())
    else:
        work, found = on_host(user, list(arrays.values()))
    arrays = dict(zip(arrays, found, strict=True))
    x, weights, book = arrays.pop("x"), arrays.pop("sample_weight", None), next(iter(books), "")
    return Inputs(user, work, x, weights, book, arrays.get(book), results[dtypes[0]], results[dtypes[-1]])


def _fits(got: tuple[Any, ...], wanted: tuple[Any, ...]) -> bool:
    """Whether two shapes are equal, as far as they are known: Dask's NaN is not equal to itself."""
    return len(got) == len(wanted) and all(
        a == b or a != a or b != b for a, b in zip(got, wanted, strict=True)
    )


def alongside(x: Any, arrays: dict[str, Any]) -> dict[str, Any]:
    """The arrays of a call; beside points on Dask, NumPy's and lists go as Dask's."""
    if not compat.is_dask_array(x):
        return arrays
    xp = compat.array_namespace(x)
    return {
        name: xp.asarray(array) if isinstance(array, np.ndarray | list | tuple) else array
        for name, array in arrays.items()
    }


def require_values(inputs: Inputs, metric: str) -> None:
    """Check the values of arrays that one compiled program will work on, where nothing can be raised."""
    for name, table in (("x", inputs.x), (inputs.book_name, inputs.book)):
        if table is not None:
            facts = traced().facts_of(table)
            require_finite(name, facts.finite)
            if metric == "cosine":
                require_directions(name, facts.zero_row)
    if inputs.weights is not None:
        facts = traced().facts_of(inputs.weights)
        require_finite("sample_weight", facts.finite)
        require_weights(facts.least, facts.largest)


def finite(name: str, xp: Any, table: Any) -> Reach:
    """How far a table reaches, after the one scan for NaN and infinity."""
    reach = measure(xp, table)
    require_finite(name, reach.finite)
    return reach


def require_finite(name: str, finite: bool) -> None:
    """Require numbers."""
    if not finite:
        raise ValueError(f"`{name}` must not contain NaN or infinity.")


def require_weights(least: float, largest: float) -> None:
    """Require weights that can be weights."""
    if largest <= 0 or least < 0:
        raise ValueError(
            f"`sample_weight` must not be negative, and not all zero, got values from {least} to {largest}."
        )


def require_directions(name: str, zero_row: int) -> None:
    """Require that no row has length zero; `zero_row` is one that has, or -1."""
    if zero_row >= 0:
        raise ValueError(
            f"`{name}` must have no rows of length zero with metric='cosine', row {zero_row} has."
        )


def draws(init: str, source: np.random.Generator, n_runs: int, k: int, trials: int | None = None) -> Any:
    """All uniform numbers that the runs need, a row for each run, from one place on the host."""
    greedy = (n_runs, k, trials or 2 + int(math.log(k)))
    if init == "random":
        return (source.random((n_runs, k)),)
    if init == "k-means++":
        return (source.random(greedy),)
    candidates = 1 + initial.ROUNDS * initial.OVERSAMPLING * k
    return source.random((n_runs, candidates)), source.random(greedy)


def clusters(n_clusters: Any, inputs: Inputs) -> int:
    """The number of clusters asked for."""
    k, n = at_least("n_clusters", n_clusters, 1), inputs.x.shape[-2]
    if k > n:
        raise ValueError(f"`n_clusters` must be between 1 and the number of points ({n}), got {k}.")
    return k


def require_count(name: str, book: Any, k: int) -> None:
    """Require k centroids."""
    got = book.shape[-2]
    if got != k:
        hint = f" Hint: {name}.compute_chunk_sizes() finds out how many there are." if got != got else ""
        raise ValueError(f"`{name}` must hold `n_clusters` = {k} centroids, one a row, got {got}.{hint}")


def at_least(name: str, value: Any, least: int) -> int:
    """An integer argument."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"`{name}` must be an integer, got {_shown(value)}") from None
    if number < least:
        raise ValueError(f"`{name}` must be at least {least}, got {number}.")
    return number


def not_negative(name: str, value: Any) -> float:
    """A number of zero or more."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"`{name}` must be a number, got {_shown(value)}") from None
    if isinstance(value, str):
        raise TypeError(f"`{name}` must be a number, got {value!r}.")
    if not number >= 0:
        raise ValueError(f"`{name}` must be a number not below 0, got {value!r}.")
    return number


def generator(name: str, value: Any) -> np.random.Generator:
    """A source of random numbers."""
    try:
        return np.random.default_rng(value)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"`{name}` must be a seed that is not negative or a generator of NumPy, got {_shown(value)}"
        ) from None


def _shown(value: Any) -> str:
    """A wrong value for an error, with a hint where JAX traces what must be known."""
    hint = " Hint: of JAX's transformations it must be a static argument." if is_tracer(value) else ""
    return f"{value!r}.{hint}"


def one_of(name: str, value: Any, choices: tuple[str | bool, ...]) -> None:
    """An argument with a few possible values, text or truth values."""
    if not (isinstance(value, str | bool) and value in choices):  # an array is in nothing
        hint = " Hint: the mean minimises the distances of no other metric." if callable(value) else ""
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, choices))}, got {value!r}.{hint}")


def raise_empty() -> None:
    raise ClusterError("A cluster is empty. Hint: empty='relocate' moves it to the farthest point.")
