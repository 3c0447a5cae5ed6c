"""`vq` and `py_vq`: codes and distances."""

from typing import Any

import numpy as np
import pytest
from conftest import Library, blobs, nearest
from scipy.cluster import vq as scipy_vq

import xpmeans
from xpmeans.vq import py_vq, vq

X = blobs()
BOTH = pytest.mark.parametrize("function", [vq, py_vq])


@BOTH
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(60, 2), (120,), (24, 5), (5, 24), (1, 120)])
def test_values(lib: Library, function: Any, dtype: str, shape: tuple[int, ...]) -> None:
    obs = X.reshape(shape).astype(dtype)
    book = (obs[:4] + np.asarray(0.1, dtype)).copy()
    code, dist = function(lib(obs), lib(book))
    expected = getattr(scipy_vq, function.__name__)(obs, book)
    assert type(code) is type(dist) is type(lib(obs))
    np.testing.assert_array_equal(lib.numpy(code), expected[0])
    # By differences: SciPy's product form loses digits from five columns on.
    columns, codes = (np.longdouble(part).reshape(part.shape[0], -1) for part in (obs, book))
    exact = np.sqrt(((columns - codes[expected[0]]) ** 2).sum(axis=1)).astype(float)
    single = dtype == "float32" or not lib.has_float64
    np.testing.assert_allclose(lib.numpy(dist), exact, rtol=2e-5 if single else 1e-12)
    if lib.has_float64:
        assert [lib.numpy(part).dtype for part in (code, dist)] == [part.dtype for part in expected]
    elif function is vq:
        assert lib.numpy(code).dtype == np.int32
    assert code.shape == dist.shape == (shape[0],)


DTYPES = ["float64", "float32", "float16", "int64", "int32", "uint8", "bool"]


@pytest.mark.parametrize("obs_dtype", DTYPES)
@pytest.mark.parametrize("book_dtype", DTYPES)
def test_dtypes(lib: Library, obs_dtype: str, book_dtype: str) -> None:
    if lib.name == "array_api_strict" and "float16" in (obs_dtype, book_dtype):
        pytest.skip("the standard has no float16")
    obs, book = (np.abs(X[:20]) > 3).astype(obs_dtype), np.eye(2).astype(book_dtype)
    data, codes = lib(obs), lib(book)
    code, dist = vq(data, codes)
    np.testing.assert_array_equal(lib.numpy(code), nearest(obs, book))
    exact = np.sqrt(((obs[:, None].astype(float) - book.astype(float)) ** 2).sum(axis=2)).min(axis=1)
    np.testing.assert_allclose(lib.numpy(dist).astype(float), exact, atol=1e-3)
    if "float" in obs_dtype + book_dtype:
        floats = {str(dtype).rpartition(".")[2] for dtype in (data.dtype, codes.dtype)} & set(DTYPES[:3])
        promoted = str(dist.dtype).rpartition(".")[2]
        assert promoted in floats or (lib.name in ("numpy", "dask") and promoted.startswith("float"))
        assert lib.numpy(code).dtype == np.int32
    else:  # the library's index dtype, and its widest float
        assert lib.numpy(code).dtype == (np.int64 if lib.has_float64 else np.int32)
        assert lib.numpy(dist).dtype == (np.float64 if lib.has_float64 else np.float32)
    if lib.name == "numpy" and "float16" not in (obs_dtype, book_dtype):
        expected = scipy_vq.vq(obs, book)
        assert [part.dtype for part in (code, dist)] == [part.dtype for part in expected]


def test_bfloat16() -> None:
    torch = pytest.importorskip("torch")
    with xpmeans.array_api(True):
        code, dist = vq(torch.asarray(X).bfloat16(), torch.asarray(X[:3]).bfloat16())
    assert code.dtype == torch.int32
    assert dist.dtype == torch.bfloat16
    with xpmeans.array_api(False):
        assert vq(torch.asarray(X).bfloat16(), X[:3])[1].dtype == np.float64


@BOTH
def test_ties_go_to_the_lowest_index(lib: Library, function: Any) -> None:
    grid = np.stack(np.meshgrid(np.arange(9.0), np.arange(9.0)), axis=-1).reshape(-1, 2)
    book = grid[::2]
    code, dist = function(lib(grid), lib(book))
    np.testing.assert_array_equal(lib.numpy(code), nearest(grid, book))
    assert set(lib.numpy(dist)) == {0.0, 1.0}


@pytest.mark.parametrize("d", [1, 2, 4, 5, 30])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_defect_5_offset(lib: Library, d: int, dtype: str) -> None:
    obs = (blobs(300, d, spread=0.1) * (1 if dtype == "float64" else 4)).astype(dtype)
    offset = np.asarray(1.7e9 if dtype == "float64" else 1e4, dtype)
    moved = obs + offset
    if not lib.has_float64:
        moved = moved.astype("float32")
    book = moved[:3]
    code, dist = vq(lib(moved), lib(book))
    np.testing.assert_array_equal(lib.numpy(code), nearest(moved, book))
    own = np.longdouble(book)[nearest(moved, book)]
    exact = np.sqrt(((np.longdouble(moved) - own) ** 2).sum(axis=1))
    np.testing.assert_allclose(lib.numpy(dist), exact.astype(float), rtol=1e-6)


@pytest.mark.parametrize(("dtype", "size"), [("float32", 2e30), ("float64", 1e200), ("float64", 1e-200)])
@pytest.mark.parametrize("d", [2, 6])
@pytest.mark.parametrize("n", [60, 9000])
def test_defect_1_overflow(lib: Library, dtype: str, size: float, d: int, n: int) -> None:
    if not lib.has_float64 and dtype == "float64":
        pytest.skip("no such numbers without float64")
    plain = blobs(n, d).astype(dtype)
    scaled = plain * np.asarray(size, dtype)
    expected = vq(plain, plain[:3])
    code, dist = vq(lib(scaled), lib(scaled[:3]))
    np.testing.assert_array_equal(lib.numpy(code), expected[0])
    np.testing.assert_allclose(lib.numpy(dist) / np.asarray(size, dtype), expected[1], rtol=1e-5)


@BOTH
def test_defect_9_not_finite(lib: Library, function: Any) -> None:
    obs, book = X.copy(), X[:4].copy()
    obs[5, 1], obs[6, 0], book[1, 0], book[2, 1] = np.nan, np.inf, np.nan, -np.inf
    for values in ((obs, X[:4]), (X, book)):
        with pytest.raises(ValueError, match="array must not contain infs or NaNs"):
            function(lib(values[0]), lib(values[1]))
    code, dist = function(lib(obs), lib(book), check_finite=False)
    finite = np.isfinite(obs).all(axis=1)
    expected = nearest(obs[finite], book[[0, 3]]) * 3
    np.testing.assert_array_equal(lib.numpy(code)[finite], expected)
    np.testing.assert_array_equal(lib.numpy(code)[~finite], 0)
    assert np.isfinite(lib.numpy(dist)).tolist() == finite.tolist()


@pytest.mark.parametrize("n", [60, 9000])
def test_not_finite_in_both_kernels(n: int) -> None:
    obs = blobs(n, 3)
    obs[::7, 1] = np.nan
    obs[1::7] = np.inf
    book = blobs(5, 3)
    book[2] = np.inf
    code, dist = vq(obs, book, check_finite=False)
    finite = np.isfinite(obs).all(axis=1)
    keep = [0, 1, 3, 4]
    np.testing.assert_array_equal(code[finite], np.asarray(keep)[nearest(obs[finite], book[keep])])
    np.testing.assert_array_equal(np.isnan(dist), ~finite)


def test_memory_of_nothing(lib: Library) -> None:
    code, dist = vq(lib(np.zeros((0, 2))), lib(X[:3]))
    assert code.shape == dist.shape == (0,)
    assert lib.numpy(code).dtype == np.int32


ERRORS: list[tuple[Any, Any, str]] = [
    (np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), "ndim different than 1 or 2 are not supported: `obs` is 3-D"),
    (1.0, 2.0, "ndim different than 1 or 2 are not supported: `obs` is 0-D"),
    (
        X[:, 0],
        X,
        "observation and code should have same number of dimensions: `obs` is 1-D, `code_book` is 2",
    ),
    (
        X,
        X[:, :1],
        r"obs and code should have same number of features \(columns\): `obs` has 2, `code_book` 1",
    ),
    (X, np.zeros((0, 2)), r"Empty input is not supported\. `code_book` has shape \(0, 2\)"),
    (X + 0j, X, "Unsupported dtype complex128: values must be real"),
    (X, X + 0j, "Unsupported dtype complex128"),
]


@BOTH
@pytest.mark.parametrize(("obs", "book", "message"), ERRORS)
def test_errors(function: Any, obs: Any, book: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(obs, book)


def test_long_double_is_refused() -> None:
    with pytest.raises(TypeError, match="type other than float or double not supported, got"):
        vq(X.astype("longdouble"), X)


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_kinds_of_input() -> None:
    code, dist = vq([[0, 0], [5, 5]], ((0.0, 1.0), (5.0, 5.0)))
    np.testing.assert_array_equal(code, [0, 1])
    np.testing.assert_array_equal(dist, [1, 0])
    with pytest.raises(TypeError, match="MaskedArray"):
        vq(np.ma.masked_array(X), X)
    matrix = np.matrix(X)
    np.testing.assert_array_equal(vq(matrix, matrix[:3])[0], vq(X, X[:3])[0])


def test_device_is_kept() -> None:
    jax = pytest.importorskip("jax")
    device = jax.devices("cpu")[1]
    with xpmeans.array_api(True):
        results = vq(jax.device_put(X, device), jax.device_put(X[:3], device))
    assert [result.devices() for result in results] == [{device}, {device}]
