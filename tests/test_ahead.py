"""Steps that the compiled kernel takes in one go have the bits of single steps, which a callback asks for."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import LAYOUTS, blobs

import xpmeans
from xpmeans import _kernels
from xpmeans.vq import kmeans2

pytest.importorskip("numba")

from xpmeans._kernels import host
from xpmeans._kernels.host import Host


@pytest.mark.parametrize("empty", ["keep", "relocate"])
@pytest.mark.parametrize("start", ["points", "repeated", "far"])
@pytest.mark.parametrize("max_iter", [1, 2, 3, 200])
@pytest.mark.parametrize(
    ("n", "d", "k", "dtype", "layout", "weighted"),
    [
        (800, 3, 9, "float32", "C", False),
        (800, 3, 9, "float64", "Fortran", True),
        (300, 20, 3, "float16", "strided", False),
        (500, 5, 12, "uint8", "C", True),
        (200, 140, 4, "float32", "negative", True),
        (33, 1, 3, "float64", "unaligned", False),
    ],
)
def test_steps_taken_ahead_are_the_same_bits(
    n: int,
    d: int,
    k: int,
    dtype: str,
    layout: str,
    weighted: bool,
    max_iter: int,
    start: str,
    empty: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A callback looks at each step, so that none is taken ahead."""
    taken: list[int] = []
    ahead = Host.ahead

    def spy(*arguments: Any, **options: Any) -> Any:
        found = ahead(*arguments, **options)
        taken.append(0 if found is None else found.n_steps)
        return found

    monkeypatch.setattr(Host, "ahead", spy)
    monkeypatch.setattr(host, "pruning_pays", lambda *_: False)
    monkeypatch.setattr(host, "AGE", 4)
    monkeypatch.setattr(host, "AT_ONCE", 7)
    rng = np.random.default_rng(n + d)
    x = LAYOUTS[layout]((10 * np.abs(blobs(n, d, 3))).astype(dtype))
    first = x[rng.choice(n, k, replace=False)].astype(float)
    if start == "repeated":
        first[-1] = first[0]
    elif start == "far":
        first[1] = 200.0
    options = {"init": first, "max_iter": max_iter, "tol": 0, "empty": empty, "kernel": "host"}
    if weighted:
        options["sample_weight"] = rng.integers(1, 4, size=n) * 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = xpmeans.kmeans(x, k, **options)
        assert taken
        taken_in_all, taken[:] = sum(taken), []
        single = xpmeans.kmeans(x, k, callback=lambda *_: None, **options)
    assert not taken
    assert taken_in_all <= found.n_iter
    if start == "points":
        assert taken_in_all == found.n_iter > max_iter // 100
    for field, ours, theirs in zip(found._fields, found, single, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=field)


@pytest.mark.parametrize("dtype", ["f", "d"])
def test_functions_called_by_address_get_the_types_that_they_take(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing checks that when they are called. What is loaded from disk does not know its types any more."""
    from numba.core import types

    from xpmeans._kernels import ahead, books, walk
    from xpmeans._kernels.compiled import compiled

    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    (found,) = compiled.__wrapped__(ahead.ahead, dtype).overloads.values()
    passed = {
        signature.args[1].types
        for signature in found.type_annotation.calltypes.values()
        if signature is not None
        and len(signature.args) == 2
        and isinstance(signature.args[1], types.BaseTuple)
    }
    functions = (walk.walk, dtype), (books.prepare, dtype), (walk.sum_up, dtype), (walk.add_up, "d")
    taken = {compiled(*function).nopython_signatures[0].args for function in functions}
    assert {arguments for arguments in passed if len(arguments) > 4} == taken


@pytest.mark.parametrize("seed", [*range(30), 2571, 8018])
def test_kmeans2_goes_on_where_sums_made_afresh_move_a_tie(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tenths have no exact means, and many points in the middle of two of these."""
    monkeypatch.setattr(_kernels, "HOST_LIMIT", 0)
    monkeypatch.setattr("xpmeans._core.brute.LIMIT", 0)
    monkeypatch.setattr(host, "pruning_pays", lambda *_: False)
    rng = np.random.default_rng(seed)
    k = int(rng.choice([8, 12, 25]))
    n, m = (100_001 // k if seed > 30 else 300) + int(rng.integers(1, 400)), int(rng.choice([30, 60]))
    p = rng.random(m) ** 3
    x = rng.choice(m, (n, 1), p=p / p.sum()) / 10
    values = np.unique(x)
    k = min(k, len(values) - 2)
    first = values[rng.choice(len(values), k, replace=False)][:, None]
    taken = []
    ahead = Host.ahead

    def spy(*arguments: Any, **options: Any) -> Any:
        taken.append(ahead(*arguments, **options))
        return taken[-1]

    monkeypatch.setattr(Host, "ahead", spy)
    found = kmeans2(x, first, 100, minit="matrix")
    assert any(taken)
    monkeypatch.setattr(Host, "ahead", lambda *_, **__: None)
    for ours, single in zip(found, kmeans2(x, first, 100, minit="matrix"), strict=True):
        np.testing.assert_array_equal(ours, single)


def test_steps_ahead_end_by_the_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "pruning_pays", lambda *_: False)
    x, options = blobs(2000, 4, 3), {"tol": 1e-3, "rng": 0, "n_init": 3, "kernel": "host"}
    found = xpmeans.kmeans(x, 9, **options)
    exact = xpmeans.kmeans(x, 9, **options | {"tol": 0})
    single = xpmeans.kmeans(x, 9, callback=lambda *_: None, **options)
    assert found.converged
    assert found.n_iter < exact.n_iter
    for ours, theirs in zip(found, single, strict=True):
        np.testing.assert_array_equal(ours, theirs)
