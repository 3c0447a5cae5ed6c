"""What the arguments of `xpmeans.vq` mean, and SciPy's errors for those that mean nothing."""

import math
import operator
import warnings
from types import ModuleType
from typing import Any

from xpmeans._core.precision import Reach, measure


def reach_of(xp: ModuleType, array: Any, check_finite: bool) -> Reach:
    """How far a table reaches, after the one scan for NaN and infinity."""
    reach = measure(xp, array)
    if check_finite and not reach.finite:
        raise ValueError("array must not contain infs or NaNs")
    return reach


def columns(array: Any) -> Any:
    """A vector as a table of one column."""
    return array[:, None] if array.ndim == 1 else array


def check_filled(**arrays: Any) -> None:
    """Require that no array is empty."""
    for name, array in arrays.items():
        if 0 in getattr(array, "shape", ()):
            raise ValueError(f"Empty input is not supported. `{name}` has shape {tuple(array.shape)}.")


def check_book(obs: Any, book: Any, name: str) -> None:
    """Require observations and a code book that fit together; the texts are those of SciPy's `vq`."""
    ndims = [getattr(array, "ndim", 0) for array in (obs, book)]
    if ndims[0] != ndims[1]:
        raise ValueError(
            "observation and code should have same number of dimensions: "
            f"`obs` is {ndims[0]}-D, `{name}` is {ndims[1]}-D."
        )
    if ndims[0] not in (1, 2):
        raise ValueError(f"ndim different than 1 or 2 are not supported: `obs` is {ndims[0]}-D.")
    if ndims[0] == 2 and obs.shape[1] != book.shape[1]:
        raise ValueError(
            "obs and code should have same number of features (columns): "
            f"`obs` has {obs.shape[1]}, `{name}` {book.shape[1]}."
        )


def whole_count(k: Any, check_finite: bool) -> int:
    """The number of clusters that `kmeans` is asked for."""
    if check_finite and not math.isfinite(k):
        raise ValueError("array must not contain infs or NaNs")
    count = int(k)
    if count != k:
        raise ValueError(f"If k_or_guess is a scalar, it must be an integer. `k_or_guess` is {k}.")
    if count < 1:
        raise ValueError(f"Asked for {count} clusters.")
    return count


def check_points(data: Any) -> None:
    """Require `kmeans2` data to be a table or a vector."""
    ndim = getattr(data, "ndim", 0)
    if ndim not in (1, 2):
        raise ValueError(f"Input of rank > 2 is not supported. `data` must be 1-D or 2-D, got {ndim}-D.")


def positive_iterations(n_iter: Any) -> int:
    """How often `kmeans2` shall iterate."""
    if int(n_iter) < 1:
        raise ValueError(f"Invalid iter ({n_iter}), must be a positive integer.")
    return operator.index(n_iter)


def first_centroids(k: Any, data: Any) -> Any:
    """The centroids that `kmeans2` is given, as a table."""
    if getattr(k, "ndim", 0) != data.ndim:
        raise ValueError(
            f"k array doesn't match data rank: `k` is {getattr(k, 'ndim', 0)}-D, `data` is {data.ndim}-D."
        )
    if data.ndim == 2 and k.shape[1] != data.shape[1]:
        raise ValueError(
            f"k array doesn't match data dimension: `k` has {k.shape[1]} columns, `data` {data.shape[1]}."
        )
    return columns(k)


def count_of(k: Any) -> int:
    """The number of clusters that `kmeans2` is asked for; one that is not whole is cut, with a warning."""
    if getattr(k, "ndim", 0) > 0:
        raise TypeError(
            f"`k` must be a number or several centroids, got an array of shape {tuple(k.shape)}. "
            "Hint: minit='matrix' takes a single centroid."
        )
    count = int(k)
    if count < 1:
        raise ValueError(f"Cannot ask kmeans2 for {count} clusters (k was {k})")
    if count != k:
        warnings.warn("k was not an integer, was converted.", UserWarning, stacklevel=3)
    return count
