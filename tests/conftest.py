"""The libraries under test, as one fixture.

``XPMEANS_TEST_LIBRARIES=numpy,torch`` names the libraries that must be tested: one that cannot be
imported is then an error. Without it, every library that is installed is tested.
"""

import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import xpmeans

# Eight simulated devices: whether results stay on the device of the data, and arrays spread over all of
# them. They must be asked for before JAX starts.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

# Tests that put the package elsewhere find compiled code there too.
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(tempfile.gettempdir(), "xpmeans-numba")))

LIBRARIES = ("numpy", "torch", "jax", "dask", "array_api_strict", "cupy")

for name, examples in (("default", 150), ("wide", 2_000), ("long", 20_000)):
    settings.register_profile(
        name,
        max_examples=examples,
        deadline=None,
        derandomize=name == "default",
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile("default")


def _chosen() -> list[str]:
    asked = [name for name in os.environ.get("XPMEANS_TEST_LIBRARIES", "").split(",") if name]
    for name in asked:
        if name not in LIBRARIES:
            raise pytest.UsageError(f"XPMEANS_TEST_LIBRARIES: {name!r} is not one of {LIBRARIES}.")
        if importlib.util.find_spec(name) is None:
            raise pytest.UsageError(f"XPMEANS_TEST_LIBRARIES asks for {name}, which is not installed.")
    return asked or [name for name in LIBRARIES if importlib.util.find_spec(name) is not None]


CHOSEN = _chosen()

# What is the same whatever library is there runs where NumPy is asked for.
collect_ignore = (
    [] if "numpy" in CHOSEN else ["test_ahead.py", "test_host.py", "test_packaging.py", "test_rng.py"]
)


@dataclass(frozen=True)
class Library:
    """One way to hand arrays to xpmeans."""

    id: str  # "dask:uneven"
    make: Callable[[Any], Any]

    @property
    def name(self) -> str:
        """The matrix's name of the library."""
        return self.id.partition(":")[0]

    @property
    def lazy(self) -> bool:
        return self.name == "dask"

    @property
    def has_float64(self) -> bool:
        return self(np.zeros(1)).dtype.itemsize == 8 if self.name != "array_api_strict" else True

    def __call__(self, array: Any) -> Any:
        """A NumPy array or nested list as an array of this library."""
        return self.make(np.asarray(array))

    def dtype(self, name: str) -> Any:
        """A dtype of this library by name."""
        if name == "bfloat16" and self.name == "torch":
            import torch

            return torch.bfloat16
        return self(np.zeros(1, dtype=name)).dtype

    def numpy(self, array: Any) -> np.ndarray:
        """An array of this library as a NumPy array."""
        if self.name == "cupy" and hasattr(array, "get"):
            return array.get()
        if self.id == "torch:gpu" and hasattr(array, "cpu"):
            return array.cpu().numpy()
        if self.id == "array_api_strict:device1":
            import array_api_strict as strict

            array = array.to_device(strict.Device("CPU_DEVICE")) if hasattr(array, "to_device") else array
        return np.asarray(array)


def readonly(array: np.ndarray) -> np.ndarray:
    """A copy that nobody can write to."""
    array = array.copy()
    array.flags.writeable = False
    return array


def _dask(chunking: str) -> Callable[[Any], Any]:
    def make(array: np.ndarray) -> Any:
        import dask.array as da

        if array.ndim == 0:
            return da.from_array(array)
        n = array.shape[0]
        if chunking == "one":
            return da.from_array(array, chunks=-1)
        uneven = da.from_array(
            array,
            chunks=((1, n - 1) if n > 1 else (n,), *((m,) for m in array.shape[1:])),
        )
        if chunking == "uneven":
            return uneven
        return uneven[da.from_array(np.ones(n, dtype=bool), chunks=uneven.chunks[0])]

    return make


def _libraries() -> Iterator[Library]:
    if "numpy" in CHOSEN:
        yield Library("numpy", lambda array: array.copy())
        yield Library("numpy:readonly", readonly)
    if "torch" in CHOSEN:
        import torch

        yield Library("torch", lambda array: torch.asarray(array.copy()))
    if "jax" in CHOSEN:
        import jax.numpy as jnp

        yield Library("jax", jnp.asarray)
    if "dask" in CHOSEN:
        for chunking in ("one", "uneven", "unknown"):
            yield Library(f"dask:{chunking}", _dask(chunking))
    if "array_api_strict" in CHOSEN:
        import array_api_strict

        yield Library("array_api_strict", array_api_strict.asarray)


ALL = list(_libraries())


def pytest_report_header() -> str:
    return f"libraries under test: {', '.join(CHOSEN)}"


@pytest.fixture(params=ALL, ids=lambda library: library.id)
def lib(request: pytest.FixtureRequest) -> Iterator[Library]:
    """Each library in turn, inside `xpmeans.array_api(True)`."""
    with xpmeans.array_api(True):
        yield request.param


@pytest.fixture(params=[lib for lib in ALL if not lib.lazy], ids=lambda library: library.id)
def eager(request: pytest.FixtureRequest) -> Library:
    """The libraries that kernels see: Dask arrays are computed before."""
    library: Library = request.param
    return library


def _elsewhere() -> Iterator[Library]:
    """Devices that are not the library's first, defaults that are not its own, and GPUs where there are."""
    if "array_api_strict" in CHOSEN:
        import array_api_strict as strict

        device = strict.Device("device1")
        yield Library("array_api_strict:device1", lambda array: strict.asarray(array, device=device))
    if "jax" in CHOSEN:
        import jax

        yield Library("jax:second", lambda array: jax.device_put(array, jax.devices("cpu")[1]))
        if jax.default_backend() != "cpu":
            yield Library("jax:gpu", lambda array: jax.device_put(array, jax.devices()[0]))
    if "torch" in CHOSEN:
        import torch

        yield Library("torch:defaults", lambda array: torch.asarray(array.copy(), device="cpu"))
        if torch.cuda.is_available():
            yield Library("torch:gpu", lambda array: torch.asarray(array.copy(), device="cuda"))
    if "cupy" in CHOSEN:
        import cupy

        if cupy.cuda.is_available():
            yield Library("cupy:gpu", cupy.asarray)


@pytest.fixture(params=[*(lib for lib in ALL if not lib.lazy), *_elsewhere()], ids=lambda library: library.id)
def native(request: pytest.FixtureRequest) -> Iterator[Library]:
    """Where the package's own functions run on concrete values: results must stay there."""
    library: Library = request.param
    if library.id == "torch:defaults":  # whatever is made without a device would have no values
        import torch

        torch.set_default_device("meta")
        torch.set_default_dtype(torch.float64)
    yield library
    if library.id == "torch:defaults":
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)


@pytest.fixture(autouse=True)
def _switch_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCIPY_ARRAY_API", raising=False)


# How the same numbers may lie in memory.
LAYOUTS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "strided": lambda x: np.repeat(np.repeat(x, 2, axis=0), 3, axis=1)[::2, ::3],
    "negative": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "unaligned": lambda x: np.frombuffer(b"." + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
}


def blobs(n: int = 60, d: int = 2, k: int = 3, *, seed: int = 0, spread: float = 0.3) -> np.ndarray:
    """Points around k centres five apart."""
    rng = np.random.default_rng(seed)
    centres = rng.permutation(k)[:, None] * 5.0 + rng.normal(size=(k, d))
    return centres[rng.integers(k, size=n)] + spread * rng.normal(size=(n, d))


def nearest(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Labels by brute force in float64 or wider, the oracle for labels."""
    points, centroids = (
        np.asarray(points, np.longdouble),
        np.asarray(centroids, np.longdouble),
    )
    squares = ((points[:, None, :] - centroids[None, :, :]) ** 2).sum(axis=2)
    return squares.argmin(axis=1)
