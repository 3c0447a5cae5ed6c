"""The matrix: what it says, what happens, and what people see."""

import inspect
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest
from conftest import CHOSEN, blobs

import xpmeans
import xpmeans.vq
from xpmeans.capabilities import LIBRARIES, Capabilities, gate, matrix, parse
from xpmeans.vq import kmeans2

KMEANS2 = """\
====================  ====================  ====================
Library               CPU                   GPU
====================  ====================  ====================
NumPy                 ✅                     n/a
CuPy                  n/a                   ⛔
PyTorch               ✅                     ⛔
JAX                   ⚠️ no JIT             ⛔
Dask                  ⚠️ computes graph     n/a
====================  ====================  ===================="""

WHITEN = """\
====================  ====================  ====================
Library               CPU                   GPU
====================  ====================  ====================
NumPy                 ✅                     n/a
CuPy                  n/a                   ✅
PyTorch               ✅                     ✅
JAX                   ✅                     ✅
Dask                  ✅                     n/a
====================  ====================  ===================="""


@pytest.mark.parametrize("function", ["kmeans2", "kmeans", "vq"])
def test_tables_are_scipys(function: str) -> None:
    assert repr(xpmeans.capabilities(function)) == f"{function}\n{KMEANS2}"


def test_whiten_runs_everywhere() -> None:
    assert repr(xpmeans.capabilities("whiten")) == f"whiten\n{WHITEN}"


def test_the_docstring_shows_the_table_below_the_switch() -> None:
    doc = inspect.getdoc(kmeans2)
    assert doc is not None
    assert KMEANS2 in doc
    assert doc.index("SCIPY_ARRAY_API=1") < doc.index(KMEANS2)
    assert "{support}" not in doc


def test_html() -> None:
    text = xpmeans.capabilities("kmeans2")._repr_html_()
    assert "<caption><code>kmeans2</code></caption>" in text
    assert "<tr><td>JAX</td><td>⚠️ no JIT</td><td>⛔</td></tr>" in text


def test_rows_are_plain_values() -> None:
    support = xpmeans.capabilities("kmeans2")
    assert isinstance(support, Capabilities)
    assert support.rows["dask"] == {"cpu": True, "lazy": False}


def test_unknown_function() -> None:
    with pytest.raises(ValueError, match=r"`function` must be one of whiten, vq, .*, got 'kmeans3'"):
        xpmeans.capabilities("kmeans3")


GOOD = "\n".join(
    f"[f.{name}]\n" + "\n".join(f"{path} = true" for path in paths) for name, (_, paths) in LIBRARIES.items()
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[f", r"is not TOML"),
        ("f = 3", r"\[f\] must be a table, got 3"),
        (
            GOOD.replace("[f.dask]\ncpu = true\nlazy = true", ""),
            r"\[f\] lacks the key `dask`",
        ),
        (GOOD.replace("jit = true", ""), r"\[f\.jax\] lacks the key `jit`"),
        (
            GOOD.replace("jit = true", 'jit = "no"'),
            r"\[f\.jax\] `jit` must be true or false, got 'no'",
        ),
        (
            GOOD.replace("jit = true", "jit = true\ntpu = true"),
            r"\[f\.jax\] has the unknown key `tpu`",
        ),
        (GOOD + "\n[f.mars]\ncpu = true", r"\[f\] has the unknown key `mars`"),
        (
            GOOD.replace("[f.numpy]\ncpu = true", "[f]\nnumpy = 1"),
            r"\[f\.numpy\] must be a table, got 1",
        ),
    ],
)
def test_a_malformed_matrix_says_where(text: str, message: str) -> None:
    assert parse(GOOD)["f"].rows["jax"] == {"cpu": True, "gpu": True, "jit": True}
    with pytest.raises(
        ValueError,
        match=r"backends_matrix\.toml: .*" + message if "TOML" not in message else message,
    ):
        parse(text)


def refused(data: Any, *mentions: str) -> None:
    """A call that the matrix forbids: the error says what came in, what is allowed and what to do."""
    with (
        xpmeans.array_api(True),
        pytest.raises(xpmeans.UnsupportedBackendError) as caught,
    ):
        kmeans2(data, 3, minit="points", rng=0)
    message = str(caught.value)
    assert isinstance(caught.value, TypeError)
    for text in (
        "`kmeans2` runs on NumPy (CPU), PyTorch (CPU), JAX (CPU, outside jit), Dask (CPU)",
        *mentions,
    ):
        assert text in message
    assert "Hint: " in message


def test_torch_off_the_cpu() -> None:
    torch = pytest.importorskip("torch")
    refused(
        torch.empty((9, 2), device="meta"),
        'got a PyTorch array on "meta"',
        "tensor.cpu()",
    )


@pytest.mark.parametrize("transform", ["jit", "vmap", "grad"])
def test_jax_transformations(transform: str) -> None:
    jax = pytest.importorskip("jax")

    def f(x: Any) -> Any:
        refused(x, "got a JAX tracer", "outside `jax.jit`")
        return x.sum()

    x = jax.numpy.asarray(blobs())
    getattr(jax, transform)(f)(x[None] if transform == "vmap" else x)


def test_strict_on_another_device() -> None:
    strict = pytest.importorskip("array_api_strict")
    x = strict.asarray(blobs(), device=strict.Device("device1"))
    refused(x, "got a array-api-strict array on", "device1")


def test_cuda() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    refused(torch.asarray(blobs(), device="cuda"), 'on "cuda:0"', "tensor.cpu()")


def test_cupy() -> None:
    cupy = pytest.importorskip("cupy")
    if cupy.cuda.runtime.getDeviceCount() == 0:
        pytest.skip("no CUDA device")
    refused(cupy.asarray(blobs()), "got a CuPy array", "cupy.asnumpy")


def test_a_library_without_a_row() -> None:
    """Something that follows the standard and has no row: here NumPy under another name."""
    import array_api_compat.numpy as xp

    from xpmeans._dispatch import Context

    context = Context(xp, "ndonnx", "cpu", on_gpu=False, traced=False, lazy=False)
    with pytest.raises(xpmeans.UnsupportedBackendError, match=r"got a ndonnx array\. Hint: convert it"):
        gate("kmeans2", context)


CELLS = [
    (library, path)
    for library in LIBRARIES
    if library in CHOSEN
    for path in LIBRARIES[library][1]
    if path != "lazy"
]


def array_for(library: str, path: str) -> Any:
    """An array that takes a path of the matrix, or None where this machine cannot make one."""
    x = blobs()
    if library == "numpy":
        return x
    if library == "torch":
        import torch

        other = "cuda" if torch.cuda.is_available() else "meta"
        return torch.asarray(x, device="cpu" if path == "cpu" else other)
    if library == "jax":
        import jax

        platforms = ("cpu",) if path in ("cpu", "jit") else ("gpu", "cuda", "rocm", "tpu")
        devices = [device for device in jax.devices() if device.platform in platforms]
        return jax.device_put(x, devices[0]) if devices else None
    if library == "cupy":
        import cupy

        return cupy.asarray(x) if cupy.cuda.runtime.getDeviceCount() else None
    if library == "dask":
        import dask.array as da

        return da.from_array(x)
    if library == "array_api_strict":
        import array_api_strict as strict

        return strict.asarray(x, device=strict.Device("CPU_DEVICE" if path == "cpu" else "device1"))
    return None


NATIVE = tuple(name for name in matrix() if name.startswith("xpmeans."))


def call(function: str, x: Any) -> tuple[Any, ...]:
    """The function's results, from a call that looks at no values where it need not."""
    if function in ("xpmeans.KMeans", "xpmeans.MiniBatchKMeans"):
        model = getattr(xpmeans, function.removeprefix("xpmeans."))(3, random_state=0).fit(x)
        return model.cluster_centers_, model.labels_, model.transform(x)
    if function in NATIVE:
        arguments = (x, x[:3, :]) if function == "xpmeans.assign" else (x, 3)
        options = {} if function == "xpmeans.assign" else {"rng": 0}
        return tuple(getattr(xpmeans, function.removeprefix("xpmeans."))(*arguments, **options))
    if function == "whiten":
        return (
            xpmeans.vq.whiten(x, check_finite=None if str(getattr(x, "device", "")) != "meta" else False),
        )
    if function == "vq":
        return xpmeans.vq.vq(x, x[:3, :])
    if function == "kmeans":
        return xpmeans.vq.kmeans(x, 3, rng=0)
    return xpmeans.vq.kmeans2(x, 3, minit="points", rng=0)


SHAPES: dict[str, list[Any]] = {
    "whiten": [(60, 2)],
    "vq": [(60,), (60,)],
    "kmeans": [(3, 2), ()],
    "kmeans2": [(3, 2), (60,)],
    "xpmeans.kmeans": [(3, 2), (60,), (), (3,), (), ()],
    "xpmeans.assign": [(60,), (60,)],
    "xpmeans.kmeans_plusplus": [(3, 2), (3,)],
    "xpmeans.KMeans": [(3, 2), (60,), (60, 3)],
    "xpmeans.MiniBatchKMeans": [(3, 2), (60,), (60, 3)],
}


def test_every_function_has_a_row() -> None:
    assert list(matrix()) == list(SHAPES)


@pytest.mark.parametrize("function", list(SHAPES))
@pytest.mark.parametrize(("library", "path"), CELLS)
def test_functions_do_what_their_rows_say(function: str, library: str, path: str) -> None:
    """Both directions: a cell that says yes works, a cell that says no raises."""
    data = array_for(library, path)
    if str(getattr(data, "device", "")) == "meta" and function in NATIVE:
        data = None  # which holds no values to cluster
    if data is None:
        pytest.skip(f"no {library} device off the CPU here")
    run = partial(call, function)
    if path == "jit":
        import jax

        run = jax.jit(run)
    with xpmeans.array_api(True):
        if matrix()[function].rows[library][path]:
            results = run(data)
            assert [tuple(getattr(result, "shape", ())) for result in results] == SHAPES[function]
            small = {np.ndarray} if library == "dask" and function in NATIVE else set()
            assert {type(result) for result in results} <= {type(data), np.float64, int, bool} | small
        else:
            with pytest.raises(xpmeans.UnsupportedBackendError, match=f"`{function}` runs on"):
                run(data)


@pytest.mark.parametrize("function", list(SHAPES))
def test_lazy_cells(function: str) -> None:
    """A Dask cell that says lazy computes nothing; one that says no computes, in `xpmeans.vq` once."""
    dask = pytest.importorskip("dask")
    computes = []

    def get(graph: Any, keys: Any, **options: Any) -> Any:
        computes.append(keys)
        return dask.get(graph, keys, **options)

    if not matrix()[function].rows["dask"]["cpu"]:
        return  # refused, see `test_functions_do_what_their_rows_say`
    with xpmeans.array_api(True), dask.config.set(scheduler=get):
        call(function, array_for("dask", "cpu"))
        if matrix()[function].rows["dask"]["lazy"]:
            assert not computes
        elif function in NATIVE:
            assert computes
        else:
            assert len(computes) == 1


def test_gate_reads_the_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that says no refuses, whatever the function could do."""
    rows = {**matrix()["kmeans2"].rows, "numpy": {"cpu": False}}
    # The attribute `xpmeans.capabilities` is the function; the module of that name is found here.
    module = sys.modules["xpmeans.capabilities"]
    changed = {**matrix(), "kmeans2": Capabilities("kmeans2", rows)}
    monkeypatch.setattr(module, "matrix", lambda: changed)
    with pytest.raises(xpmeans.UnsupportedBackendError, match="got a NumPy array"):
        kmeans2(np.zeros((3, 1)), 1)
