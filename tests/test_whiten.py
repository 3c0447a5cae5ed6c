"""`whiten` everywhere: values, dtypes, laziness, transformations, gradients."""

import warnings
from typing import Any

import numpy as np
import pytest
from conftest import Library, blobs
from scipy.cluster import vq as scipy_vq

import xpmeans
from xpmeans.vq import whiten

X = blobs()
CONSTANT = "Some columns have standard deviation zero"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(60, 2), (120,), (20, 3, 2), (1, 120)])
def test_values(lib: Library, dtype: str, shape: tuple[int, ...]) -> None:
    x = X.reshape(shape).astype(dtype)
    data = lib(x)
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # one row is constant
        expected, result = scipy_vq.whiten(x), whiten(data)
    assert type(result) is type(data)
    assert result.dtype == data.dtype
    single = dtype == "float32" or not lib.has_float64
    np.testing.assert_allclose(lib.numpy(result), expected, rtol=1e-5 if single else 1e-13)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
def test_integers(lib: Library, dtype: str) -> None:
    x = np.abs(X * 10).astype(dtype)
    x[0] = 0
    result = whiten(lib(x))
    assert result.dtype == lib([1.5]).dtype if lib.name != "torch" else "float32" in str(result.dtype)
    np.testing.assert_allclose(lib.numpy(result), scipy_vq.whiten(x), rtol=1e-5)


def test_float16(lib: Library) -> None:
    if lib.name == "array_api_strict":
        pytest.skip("the standard has no float16")
    result = whiten(lib((X * 300).astype("float16")))  # the variance overflows float16
    assert "float16" in str(result.dtype)
    np.testing.assert_allclose(lib.numpy(result).astype(float), scipy_vq.whiten(X), rtol=5e-3)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_deviations_that_a_narrow_dtype_rounds_to_zero(lib: Library, dtype: str) -> None:
    if dtype == "float16" and lib.name == "array_api_strict":
        pytest.skip("the standard has no float16")
    if dtype == "float32" and lib.name == "jax":
        pytest.skip("XLA takes numbers below 1e-38 for zero")
    x = np.zeros((1000, 1), dtype)
    x[0] = 1e-6 if dtype == "float16" else 1e-44
    scaled = lib.numpy(whiten(lib(x)))
    assert scaled.dtype == dtype
    np.testing.assert_allclose(scaled[0], np.sqrt(1000.0), rtol=0.002)
    assert not scaled[1:].any()


def test_complex(lib: Library) -> None:
    if lib.name == "array_api_strict":
        pytest.skip("the standard takes the variance of real numbers only")
    z = X + 1j * X[::-1]
    result = whiten(lib(z))
    np.testing.assert_allclose(lib.numpy(result), scipy_vq.whiten(z), rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 0.3, 1e9 + 0.3])
def test_defect_16_constant_columns_that_round(lib: Library, value: float) -> None:
    x = np.concatenate([X[:10], np.full((10, 1), value)], axis=1)
    quiet = lib.name in ("jax", "dask")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = lib.numpy(whiten(lib(x)))
    assert [str(w.message).startswith(CONSTANT) for w in caught] == ([] if quiet else [True])
    assert quiet or caught[0].filename == __file__
    np.testing.assert_array_equal(result[:, 2], lib.numpy(lib(x))[:, 2])
    np.testing.assert_allclose(result[:, :2], scipy_vq.whiten(X[:10]), rtol=1e-5)
    if not lib.lazy:
        with pytest.warns(RuntimeWarning, match=CONSTANT):
            whiten(lib(x), check_finite=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(lib: Library, value: float) -> None:
    x = X.copy()
    x[3, 1] = value
    data = lib(x)
    with pytest.raises(ValueError, match="array must not contain infs or NaNs"):
        whiten(data, check_finite=True)
    if lib.name not in ("jax", "dask"):
        with pytest.raises(ValueError, match="array must not contain infs or NaNs"):
            whiten(data)
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # inf - inf
        result = lib.numpy(whiten(data, check_finite=False))
    assert np.isnan(result[:, 1]).all()
    np.testing.assert_allclose(result[:, 0], X[:, 0] / X[:, 0].std(), rtol=1e-5)


def test_sums_are_wide(lib: Library) -> None:
    """float32 sums of these are off by 0.47, which SciPy's result is by a third."""
    x = (1000 + np.random.default_rng(0).normal(size=(400_000, 1))).astype("float32")
    expected = x / x.astype(float).std(axis=0)
    rtol = 1e-6 if lib.has_float64 else 1e-3
    np.testing.assert_allclose(lib.numpy(whiten(lib(x))), expected, rtol=rtol)


def test_empty(lib: Library) -> None:
    if lib.id == "dask:unknown":
        pytest.skip("nobody knows that it is empty")
    for shape in ((0, 2), (3, 0)):
        assert whiten(lib(np.zeros(shape))).shape == shape


def test_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`obs` must have at least one dimension, got 3\.0"):
        whiten(3.0)


def test_the_input_stays(lib: Library) -> None:
    x = X.copy()
    data = lib(x)
    whiten(data)
    np.testing.assert_array_equal(lib.numpy(data), lib.numpy(lib(X)))


def test_strict_keeps_its_device() -> None:
    strict = pytest.importorskip("array_api_strict")
    device = strict.Device("device1")
    for dtype in (strict.float32, strict.float64, strict.int64):
        x = strict.asarray((X * 10).astype(int), dtype=dtype, device=device)
        with xpmeans.array_api(True):
            assert whiten(x).device == device


def test_torch_gradient() -> None:
    torch = pytest.importorskip("torch")
    x = torch.asarray(X).requires_grad_()
    with xpmeans.array_api(True):
        whiten(x).square().sum().backward()
    assert x.requires_grad
    # The sum is scale-free but for the offset: compare with differences.
    step = 1e-6 * (np.arange(X.size).reshape(X.shape) == 7)
    slope = (np.square(scipy_vq.whiten(X + step)).sum() - np.square(scipy_vq.whiten(X - step)).sum()) / 2e-6
    assert x.grad[3, 1].item() == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("constant", [False, True])
def test_jax_transformations(constant: bool) -> None:
    jax = pytest.importorskip("jax")
    x = X.copy()
    if constant:
        x[:, 1] = 0.3
    data = jax.numpy.asarray(x)
    with xpmeans.array_api(True):
        expected = np.asarray(whiten(data))
        np.testing.assert_allclose(jax.jit(whiten)(data), expected, rtol=1e-6)
        batch = jax.vmap(whiten)(jax.numpy.stack([data, 2 * data]))
        np.testing.assert_allclose(batch[0], expected, rtol=1e-6)
        if not constant:
            np.testing.assert_allclose(batch[1], expected, rtol=1e-6)
        gradient = jax.grad(lambda x: whiten(x).sum())(data)
    assert np.isfinite(gradient).all()


def test_check_finite_under_a_trace_is_refused() -> None:
    jax = pytest.importorskip("jax")

    def f(x: Any) -> Any:
        return whiten(x, check_finite=True)

    with xpmeans.array_api(True), pytest.raises(TypeError, match="`check_finite=True` looks at values"):
        jax.jit(f)(jax.numpy.asarray(X))
