"""Inputs of all kinds, the switch, and what must not change."""

import threading
from typing import Any

import numpy as np
import pytest
from conftest import ALL, Library, blobs

import xpmeans
from xpmeans._dispatch import array_api_enabled, dispatch, on_host
from xpmeans.vq import kmeans, kmeans2, py_vq, vq, whiten

X = blobs()

pytestmark = pytest.mark.filterwarnings("ignore:One of the clusters is empty")


@pytest.mark.parametrize("value", ["", "0", "false", "False", "no", "off", " OFF "])
def test_values_that_mean_off(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SCIPY_ARRAY_API", value)
    assert not array_api_enabled()


@pytest.mark.parametrize("value", ["1", "true", "on", "yes", '["torch"]'])
def test_values_that_mean_on(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SCIPY_ARRAY_API", value)
    assert array_api_enabled()


def test_unset_means_off_and_is_read_at_each_call(lib: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    data = lib(X)
    with xpmeans.array_api(False):
        assert isinstance(kmeans2(data, 3, rng=0)[0], np.ndarray)
        with xpmeans.array_api(True):
            assert type(kmeans2(data, 3, rng=0)[0]) is type(data)
        assert isinstance(kmeans2(data, 3, rng=0)[1], np.ndarray)


def test_the_environment_decides_outside_a_block(lib: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    data = lib(X)
    kinds = []

    def call() -> None:  # a new thread has no override
        kinds.append(type(kmeans2(data, 3, rng=0)[0]))

    for value in ("1", "0"):
        monkeypatch.setenv("SCIPY_ARRAY_API", value)
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    assert kinds == [type(data), np.ndarray]


def test_the_override_belongs_to_its_thread() -> None:
    inside, seen = threading.Barrier(2), {}

    def work(name: str, enabled: bool) -> None:
        with xpmeans.array_api(enabled):
            inside.wait(10)
            seen[name] = array_api_enabled()
            inside.wait(10)

    threads = [threading.Thread(target=work, args=(str(flag), flag)) for flag in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {"True": True, "False": False}
    assert not array_api_enabled()


def test_the_override_ends_with_an_error() -> None:
    with pytest.raises(KeyError), xpmeans.array_api(True):
        raise KeyError
    assert not array_api_enabled()


def test_results_keep_library_and_dtype(lib: Library) -> None:
    for dtype in ("float32", "float64"):
        data = lib(X.astype(dtype))
        for minit in ("random", "points", "++"):
            centroid, label = kmeans2(data, 3, minit=minit, rng=0)
            assert type(centroid) is type(label) is type(data)
            assert centroid.dtype == data.dtype
            assert lib.numpy(label).dtype == np.int32
            assert tuple(centroid.shape) == (3, 2)


def test_inputs_are_not_changed(lib: Library) -> None:
    x, book = X.copy(), X[:3].copy()
    data, k = lib(x), lib(book)
    centroid, _ = kmeans2(data, k, minit="matrix", iter=1)
    np.testing.assert_array_equal(lib.numpy(data), lib.numpy(lib(X)))
    np.testing.assert_array_equal(lib.numpy(k), lib.numpy(lib(X[:3])))
    if lib.id == "numpy":
        assert not np.shares_memory(centroid, k)
        assert centroid.flags.writeable
        assert centroid.flags.c_contiguous


@pytest.mark.parametrize("minit", ["matrix", "points"])
def test_an_empty_cluster_does_not_hand_back_the_callers_book(minit: str) -> None:
    book = np.array([[0.0, 0.0], [900.0, 900.0]])
    with pytest.warns(UserWarning, match="One of the clusters is empty"):
        centroid, _ = kmeans2(X, book, minit=minit, iter=1)
    assert not np.shares_memory(centroid, book)
    np.testing.assert_array_equal(centroid[1], book[1])


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "strided": lambda x: np.repeat(x, 2, axis=0)[::2],
    "negative": lambda x: x[::-1].copy()[::-1],
    "columns": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "unaligned": lambda x: np.frombuffer(b"0" + x.tobytes(), dtype="V1")[1:].view(x.dtype).reshape(x.shape),
    "big-endian": lambda x: x.astype(">f8"),
    "list": lambda x: x.tolist(),
    "tuple": lambda x: tuple(map(tuple, x)),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("n", [60, 9000])
@pytest.mark.parametrize("enabled", [True, False])
def test_layouts_give_the_same_answer(name: str, n: int, enabled: bool) -> None:
    x = blobs(n)
    expected, expected_label = kmeans2(x, 3, minit="++", rng=0)
    with xpmeans.array_api(enabled):
        centroid, label = kmeans2(LAYOUTS[name](x), 3, minit="++", rng=0)
    np.testing.assert_array_equal(label, expected_label)
    np.testing.assert_allclose(centroid, expected, rtol=1e-14)


def test_objects_with_an_array_method() -> None:
    class Frame:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return X

    with xpmeans.array_api(True):
        np.testing.assert_array_equal(kmeans2(Frame(), 3, rng=0)[1], kmeans2(X, 3, rng=0)[1])


def test_lists_adopt_the_library_of_the_arrays(lib: Library) -> None:
    context, (data, k) = dispatch(data=lib(X), k=[[0.0, 1.0], [2.0, 3.0]])
    assert context.library == lib.name
    if not lib.lazy:
        assert type(k) is type(data)


def test_mixed_libraries(lib: Library) -> None:
    if lib.name == "numpy":
        return
    with pytest.raises(TypeError, match=rf"`data` is a {lib.name} array and `k` is a numpy array.*Hint"):
        kmeans2(lib(X), X[:3])
    with pytest.raises(TypeError, match=rf"`data` is a numpy array and `k` is a {lib.name} array.*Hint"):
        kmeans2(X, lib(X[:3]))


def test_mixed_libraries_with_the_switch_off(lib: Library) -> None:
    with xpmeans.array_api(False):
        expected = kmeans2(lib.numpy(lib(X)), lib.numpy(lib(X[:3])), minit="matrix")
        centroid, label = kmeans2(lib(X), X[:3].astype(lib.numpy(lib(X)).dtype), minit="matrix")
    np.testing.assert_array_equal(centroid, expected[0])
    np.testing.assert_array_equal(label, expected[1])


@pytest.mark.parametrize("seed", range(4))
def test_what_is_kept_of_dtypes_belongs_to_their_library(seed: int) -> None:
    """Dtypes of array_api_strict have the hashes of NumPy's, and warn where they are compared with them."""
    names = ("float32", "float64", "int64", "int8")
    pairs = [(lib, name) for lib in ALL if lib.has_float64 and not lib.lazy for name in names]
    for i in np.random.default_rng(seed).permutation(len(pairs)):
        lib, name = pairs[i]
        x = lib(blobs().astype(name))
        assert xpmeans.kmeans(x, 3, rng=0).labels.shape == (60,)
        with xpmeans.array_api(False):  # all go to NumPy
            assert vq(x, lib(blobs()[:3].astype(name)))[0].shape == (60,)


def test_what_is_out_of_range_is_told_as_by_numpy() -> None:
    x = np.asarray([[3e38], [-3e38], [2.9e38], [1.0]], "float32")
    with pytest.warns(RuntimeWarning, match="overflow"):
        _, distances = xpmeans.assign(x, x[1:2])
    assert distances[0] == np.inf


def test_an_inertia_out_of_range_is_no_error(eager: Library) -> None:
    """It is a float64 on the host, and not everywhere for the caller."""
    for factor in (1e-30, 1e30):
        x = eager((blobs() * factor).astype("float32"))
        with np.errstate(all="raise"):
            assert xpmeans.kmeans(x, 3, rng=0).converged


def test_mixed_devices() -> None:
    strict = pytest.importorskip("array_api_strict")
    data = strict.asarray(X, device=strict.Device("device1"))
    with (
        xpmeans.array_api(True),
        pytest.raises(ValueError, match=r"`data` is on .*device1.* and `k` is on .*Hint"),
    ):
        kmeans2(data, strict.asarray(X[:3]))


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (
            X.astype(object),
            TypeError,
            r"dtype `dtype\('O'\)`; only boolean and numerical",
        ),
        (X.astype(str), TypeError, "only boolean and numerical dtypes are supported"),
        (
            np.zeros((3, 2), dtype="datetime64[D]"),
            TypeError,
            "only boolean and numerical dtypes",
        ),
        (None, TypeError, "only boolean and numerical dtypes"),
        (
            [[1.0], [1.0, 2.0]],
            TypeError,
            "`data` must be an array or convertible to one, got builtins.list",
        ),
        (X.astype(complex), ValueError, "Unsupported dtype complex128"),
        (
            X.astype(np.longdouble),
            TypeError,
            "type other than float or double not supported",
        ),
        (
            np.float64(3),
            ValueError,
            "Input of rank > 2 is not supported. `data` must be 1-D or 2-D, got 0-D",
        ),
        (
            np.zeros((2, 2, 2)),
            ValueError,
            "Input of rank > 2 is not supported. .*, got 3-D",
        ),
    ],
)
def test_what_is_no_array_of_points(enabled: bool, data: Any, error: type[Exception], message: str) -> None:
    with xpmeans.array_api(enabled), pytest.raises(error, match=message):
        kmeans2(data, 2, rng=0)


def test_np_matrix() -> None:
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix(X)
    with (
        xpmeans.array_api(True),
        pytest.raises(TypeError, match=r"Inputs of type `numpy\.matrix`"),
    ):
        kmeans2(matrix, 3)
    centroid, _ = kmeans2(matrix, 3, rng=0)
    assert type(centroid) is np.ndarray
    np.testing.assert_array_equal(centroid, kmeans2(X, 3, rng=0)[0])


def test_sparse() -> None:
    import scipy.sparse

    sparse = scipy.sparse.csr_array(X)
    for enabled, error in ((True, ValueError), (False, TypeError)):  # SciPy's classes
        with (
            xpmeans.array_api(enabled),
            pytest.raises(error, match="Sparse arrays/matrices are not supported"),
        ):
            kmeans2(sparse, 3)


def test_torch_sparse() -> None:
    torch = pytest.importorskip("torch")
    with (
        xpmeans.array_api(True),
        pytest.raises(ValueError, match="Sparse arrays/matrices are not supported"),
    ):
        kmeans2(torch.eye(4).to_sparse(), 2)


@pytest.mark.parametrize("enabled", [True, False])
def test_torch_tensors_that_require_gradients(enabled: bool) -> None:
    torch = pytest.importorskip("torch")
    data = torch.asarray(X).requires_grad_()
    k = torch.nn.Parameter(torch.asarray(X[:3]))
    with xpmeans.array_api(enabled):
        centroid, label = kmeans2(data, k, minit="matrix")
        expected, expected_label = kmeans2(torch.asarray(X), torch.asarray(X[:3]), minit="matrix")
    assert data.requires_grad
    assert k.requires_grad
    assert not getattr(centroid, "requires_grad", False)
    np.testing.assert_array_equal(np.asarray(centroid), np.asarray(expected))
    np.testing.assert_array_equal(np.asarray(label), np.asarray(expected_label))


def test_torch_defaults_change_nothing() -> None:
    torch = pytest.importorskip("torch")
    data = torch.asarray(X)
    with xpmeans.array_api(True):
        expected = kmeans2(data, 3, minit="++", rng=0)
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        try:
            centroid, label = kmeans2(data, 3, minit="++", rng=0)
        finally:
            torch.set_default_device(None)
            torch.set_default_dtype(torch.float32)
    assert centroid.device.type == "cpu"
    assert torch.equal(centroid, expected[0])
    assert torch.equal(label, expected[1])


def test_off_and_not_convertible() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(
        xpmeans.UnsupportedBackendError,
        match=r"`data` must be convertible to NumPy while .* is off",
    ):
        kmeans2(torch.empty((9, 2), device="meta"), 3)


def test_jax_tracers_with_the_switch_off() -> None:
    jax = pytest.importorskip("jax")
    with pytest.raises(xpmeans.UnsupportedBackendError, match="`data` must be convertible to NumPy"):
        jax.jit(lambda x: kmeans2(x, 3, rng=0))(X)


def test_a_traced_k_is_refused_too() -> None:
    jax = pytest.importorskip("jax")
    with (
        xpmeans.array_api(True),
        pytest.raises(xpmeans.UnsupportedBackendError, match="JAX tracer"),
    ):
        jax.jit(lambda k: kmeans2(jax.numpy.asarray(X), k, rng=0))(3)


def test_defect_12_jax_device_is_kept() -> None:
    jax = pytest.importorskip("jax")
    second = jax.devices("cpu")[1]
    with xpmeans.array_api(True):
        for n in (60, 9000):
            data = jax.device_put(blobs(n), second)
            for minit in ("random", "points", "++"):
                centroid, label = kmeans2(data, 3, minit=minit, rng=0)
                assert centroid.devices() == label.devices() == {second}
            book = jax.device_put(X[:3], second)
            centroid, label = kmeans2(data, book)
            assert centroid.devices() == label.devices() == {second}
        with pytest.raises(ValueError, match=r"All arrays must be on one device: `data` is on .*:1"):
            kmeans2(data, jax.device_put(X[:3], jax.devices("cpu")[0]))


@pytest.mark.parametrize("runs", [1, 20])
def test_dask_chunks_are_read_once(runs: int) -> None:
    """One computation a call, data and centroids together, and each chunk once, however many runs."""
    dask = pytest.importorskip("dask")
    import dask.array as da

    computes, chunks = [], []

    def get(graph: Any, keys: Any, **kwargs: Any) -> Any:
        computes.append(keys)
        return dask.get(graph, keys, **kwargs)

    def read(block: np.ndarray) -> np.ndarray:
        chunks.append(block.shape)
        return block

    with xpmeans.array_api(True), dask.config.set(scheduler=get):
        data = da.from_array(X, chunks=(7, 2)).map_blocks(read, meta=np.empty((0, 0)))
        book = da.from_array(X[:3]).map_blocks(read, meta=np.empty((0, 0)))
        for call in (
            lambda: kmeans2(data, 3, minit="points", rng=0),
            lambda: kmeans2(data, 3, minit="++", rng=0),
            lambda: kmeans2(data, 3, minit="random", rng=0),
            lambda: kmeans2(data, book, minit="matrix"),
            lambda: kmeans(data, 3, iter=runs, rng=0),
            lambda: kmeans(data, book),
            lambda: vq(data, book),
            lambda: py_vq(data, book),
        ):
            computes.clear()
            chunks.clear()
            call()
            assert len(computes) == 1
            assert len(chunks) in (9, 10)  # 60 rows in chunks of 7, and the book


def test_whiten_computes_nothing() -> None:
    dask = pytest.importorskip("dask")
    import dask.array as da

    def get(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("something was computed")

    x = da.from_array(X, chunks=(7, 1))
    with xpmeans.array_api(True), dask.config.set(scheduler=get):
        result = whiten(x)
        masked = whiten(x[x[:, 0] > 0])  # unknown chunk sizes
    assert result.chunks == x.chunks
    np.testing.assert_allclose(result.compute(), X / X.std(axis=0))
    assert masked.compute().shape[1] == 2


@pytest.mark.parametrize("layout", ["C", "F", "strided"])
def test_host_memory_is_shared(eager: Library, layout: str) -> None:
    """torch and JAX arrays on the CPU reach the host path without a copy; strict arrays stay theirs."""
    x = {"C": X, "F": np.asfortranarray(X), "strided": np.repeat(X, 2, axis=0)[::2]}[layout]
    if eager.name == "torch":
        import torch

        data = torch.from_numpy(x)
        address = data.data_ptr()
    elif eager.name == "jax":
        data = eager(x)  # JAX lays it out anew
        address = data.unsafe_buffer_pointer()
    else:
        data = eager(x) if eager.name == "array_api_strict" else x
        address = x.ctypes.data
    with xpmeans.array_api(True):
        user, values = dispatch(data=data)
        context, (host,) = on_host(user, values)
    if eager.name == "array_api_strict":
        assert host is data
    else:
        assert context.library == "numpy"
        assert host.ctypes.data == address


def test_dask_masked_chunks_are_refused() -> None:
    pytest.importorskip("dask")
    import dask.array as da

    masked = da.from_array(np.ma.masked_array(X, mask=X > 5))
    undeclared = da.from_array(X).map_blocks(
        lambda x: np.ma.masked_array(x, mask=x > 5), meta=np.empty((0, 0))
    )
    with xpmeans.array_api(True):
        with pytest.raises(TypeError, match=r"`numpy\.ma\.MaskedArray` are not supported"):
            kmeans2(masked, 3)
        with pytest.raises(TypeError, match=r"`dask\.array` with numpy\.MaskedArray chunks"):
            kmeans2(undeclared, 3)
    for data in (masked, undeclared):
        with pytest.raises(TypeError, match="MaskedArray"):
            kmeans2(data, 3)


def test_subclasses_become_plain_arrays() -> None:
    class Tagged(np.ndarray):
        pass

    for enabled in (True, False):
        with xpmeans.array_api(enabled):
            results = kmeans2(X.view(Tagged), 3, minit="points", rng=0)
        assert [type(result) for result in results] == [np.ndarray, np.ndarray]


@pytest.mark.parametrize(
    "k", [np.str_("3"), np.bytes_(b"3"), np.timedelta64(3), np.asarray("3"), np.asarray(3, dtype=object)]
)
@pytest.mark.parametrize("enabled", [True, False])
def test_text_is_no_number(k: Any, enabled: bool) -> None:
    with xpmeans.array_api(enabled), pytest.raises(TypeError, match="only boolean and numerical dtypes"):
        kmeans2(X, k, minit="points")


@pytest.mark.parametrize("computed", [True, False])
def test_dask_numbers(computed: bool) -> None:
    pytest.importorskip("dask")
    import dask.array as da

    k = da.from_array(np.arange(4)).max() if computed else da.from_array(np.asarray(3))
    for data in (da.from_array(X), X):
        with xpmeans.array_api(True):
            assert kmeans2(data, k, minit="points", rng=0)[0].shape == (3, 2)


def test_a_k_beyond_memory_fails_at_once() -> None:
    for minit in ("++", "random", "points"):
        for k in (2**45, 2**70):
            with pytest.raises((MemoryError, ValueError, OverflowError)):
                kmeans2(X, k, minit=minit, rng=0)


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64"])
def test_torch_unsigned(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    data = torch.from_numpy(np.abs(X * 10).astype(dtype))
    with xpmeans.array_api(True):
        centroid, _ = kmeans2(data, 3, minit="points", rng=0)
    assert centroid.dtype == torch.float32
