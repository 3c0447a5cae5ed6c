"""`kmeans`: SciPy's contract, argument by argument, and how runs end."""

import inspect
from typing import Any

import numpy as np
import pytest
from conftest import ALL, Library, blobs
from scipy.cluster import vq as scipy_vq

import xpmeans
import xpmeans.vq
from xpmeans._core.lloyd import LIMIT
from xpmeans._kernels import Step
from xpmeans.vq import kmeans, kmeans2

X = blobs(200, 3, 4)


def equal(lib: Library, ours: Any, theirs: Any, rtol: float = 1e-12) -> None:
    rtol = rtol if lib.has_float64 else 1e-5
    np.testing.assert_allclose(lib.numpy(ours[0]), theirs[0], rtol=rtol, atol=rtol)
    np.testing.assert_allclose(lib.numpy(ours[1]), theirs[1], rtol=rtol)


def test_signature() -> None:
    ours = {p.name: (p.kind, p.default) for p in inspect.signature(kmeans).parameters.values()}
    theirs = {p.name: (p.kind, p.default) for p in inspect.signature(scipy_vq.kmeans).parameters.values()}
    assert ours == theirs


@pytest.mark.parametrize("shape", [(200, 3), (600,), (60, 10)])
@pytest.mark.parametrize("k", [1, 4, 9])
def test_values(lib: Library, shape: tuple[int, ...], k: int) -> None:
    obs = X.reshape(shape)
    result = kmeans(lib(obs), k, rng=3)
    assert type(result[0]) is type(lib(obs))
    equal(lib, result, scipy_vq.kmeans(obs, k, rng=3))
    if k > 1:  # else see below
        equal(lib, kmeans(lib(obs), lib(obs[:k])), scipy_vq.kmeans(obs, obs[:k]))


def test_a_guess_of_integers(lib: Library) -> None:
    book, distortion = kmeans(lib([[1.0, 2.0], [3.0, 2.0], [9.0, 9.0]]), lib([[1, 2], [9, 9]]))
    np.testing.assert_allclose(lib.numpy(book), [[2, 2], [9, 9]])
    np.testing.assert_allclose(float(distortion), 2 / 3, rtol=1e-6)


def test_values_of_a_one_code_guess(lib: Library) -> None:
    """Defect 11: a guess on every library, for SciPy a count on torch and Dask and a TypeError on NumPy."""
    equal(
        lib, kmeans(lib(X[:, 0]), lib(X[5:6, 0])), ([X[:, 0].mean()], np.abs(X[:, 0] - X[:, 0].mean()).mean())
    )
    equal(lib, kmeans(lib(X[:, :1]), lib([[5.0]])), kmeans(lib(X[:, :1]), 1, rng=0))


def test_legacy_seeds(lib: Library) -> None:
    for options in ({"seed": 5}, {"seed": np.random.RandomState(5)}, {"rng": np.random.default_rng(5)}):
        again = {"rng": np.random.default_rng(5)} if "rng" in options else {"seed": 5}
        equal(lib, kmeans(lib(X), 4, **options), scipy_vq.kmeans(X, 4, **again))
    np.random.seed(7)
    ours = kmeans(lib(X), 4)
    np.random.seed(7)
    equal(lib, ours, scipy_vq.kmeans(X, 4))


def test_iter_is_the_number_of_runs(lib: Library) -> None:
    results = [float(kmeans(lib(X), 9, iter=n, rng=1)[1]) for n in (1, 5, 40)]
    assert results == sorted(results, reverse=True)
    assert results[0] > results[2]
    equal(lib, kmeans(lib(X), 9, iter=np.int64(3), rng=1), scipy_vq.kmeans(X, 9, iter=3, rng=1))


def test_draws_follow_one_another() -> None:
    """A run draws once, and the runs share the generator."""
    rng, again = np.random.default_rng(0), np.random.default_rng(0)
    kmeans(X, 4, iter=3, rng=rng)
    for _ in range(3):
        again.choice(200, size=4, replace=False)
    assert rng.integers(1 << 60) == again.integers(1 << 60)


def test_empty_codes_are_dropped(lib: Library) -> None:
    guess = np.concatenate([X[:2], X[:1] + 1e4, X[2:3], X[:1] - 1e4])
    book, distortion = kmeans(lib(X), lib(guess))
    assert book.shape == (3, 3)
    equal(lib, (book, distortion), scipy_vq.kmeans(X, guess))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes_and_types(lib: Library, dtype: str) -> None:
    data = lib(X.astype(dtype))
    book, distortion = kmeans(data, lib(X[:3]), thresh=0.1)
    assert book.dtype == distortion.dtype == data.dtype
    assert distortion.shape == ()
    if lib.name == "numpy":
        assert type(distortion) is np.dtype(dtype).type
    else:
        assert type(distortion) is type(data)


@pytest.mark.parametrize("dtype", ["int64", "int16", "uint8", "bool", "float16"])
def test_defect_6_other_dtypes(lib: Library, dtype: str) -> None:
    if lib.name == "array_api_strict" and dtype == "float16":
        pytest.skip("the standard has no float16")
    obs = (np.abs(X) * 10 if dtype != "bool" else X > 5).astype(dtype)
    book, distortion = kmeans(lib(obs), 2, rng=0)
    expected = scipy_vq.kmeans(obs.astype(float), 2, rng=0)
    np.testing.assert_allclose(lib.numpy(book), expected[0], rtol=2e-3)
    assert float(distortion) == pytest.approx(expected[1], rel=2e-3)


def test_bfloat16() -> None:
    torch = pytest.importorskip("torch")
    with xpmeans.array_api(True):
        book, distortion = kmeans(torch.asarray(X).bfloat16(), 4, rng=0)
    assert book.dtype == distortion.dtype == torch.bfloat16


def test_defect_1_overflow(lib: Library) -> None:
    obs = X.astype("float32") * np.float32(1e30)
    book, distortion = kmeans(lib(obs), 4, rng=0, thresh=1e24)
    equal(lib, (lib(lib.numpy(book) / np.float32(1e30)), distortion / 1e30), kmeans(X, 4, rng=0), 1e-5)


def test_defect_9_not_finite(lib: Library) -> None:
    obs = np.concatenate([X, np.full((3, 3), np.nan)])
    for values in ((obs, X[:4]), (X, obs[-4:])):
        with pytest.raises(ValueError, match="array must not contain infs or NaNs"):
            kmeans(lib(values[0]), lib(values[1]))
    equal(lib, kmeans(lib(obs), lib(X[:4]), check_finite=False), kmeans(X, X[:4]), 1e-9)
    book, distortion = kmeans(lib(obs[-3:]), lib(X[:4]), check_finite=False)
    assert book.shape == (4, 3)
    assert np.isnan(float(distortion))


def test_thresh(lib: Library) -> None:
    """Defect 17: SciPy fails for infinity and NaN, and never ends for a negative number."""
    one = kmeans(lib(X), lib(X[:9]), thresh=float("inf"))
    code, dist = scipy_vq.vq(X, X[:9])
    means = np.stack([X[code == index].mean(axis=0) for index in range(9)])
    equal(lib, one, (means, dist.mean()))
    equal(lib, kmeans(lib(X), lib(X[:9]), thresh=0.05), scipy_vq.kmeans(X, X[:9], thresh=0.05))
    last = kmeans(lib(X), lib(X[:9]), thresh=-1)
    equal(lib, last, scipy_vq.kmeans(X, X[:9], thresh=0), 1e-9)
    assert float(one[1]) > float(kmeans(lib(X), lib(X[:9]), thresh=0.05)[1]) > float(last[1])
    with pytest.raises(ValueError, match="`thresh` must be a number, got nan"):
        kmeans(lib(X), 3, thresh=float("nan"))
    for thresh in ("a", None):
        with pytest.raises(TypeError, match="must be real number"):
            kmeans(lib(X), 3, thresh=thresh)  # type: ignore[arg-type]


# Shapes of float32 data on which SciPy 1.17.1 was seen not to return. From five columns on its distances
# come from a product in float32: a point that is its own code is up to |x| sqrt(d eps) away from it instead
# of 0, by how the product rounds, and that may change from one pass to the next by far more than `thresh`.
ENDLESS = [((154, 8), 2), ((77, 38), 7), ((85, 7), 8), ((152, 6), 5)]


@pytest.mark.parametrize(("shape", "k"), ENDLESS)
@pytest.mark.parametrize("size", [100, 1000, 1e6])
def test_defect_20_ends_in_float32(lib: Library, shape: tuple[int, int], k: int, size: float) -> None:
    """And not at the cap, which would warn; the distortion is that of the differences."""
    for seed in range(5):
        obs = (np.random.default_rng(seed).normal(size=shape) * size).astype("float32")
        book, distortion = kmeans(lib(obs), k, rng=seed)
        differences = obs[:, None].astype(float) - lib.numpy(book).astype(float)
        exact = np.sqrt((differences**2).sum(axis=2)).min(axis=1).mean()
        assert float(distortion) == pytest.approx(exact, rel=1e-5)


class Restless:
    """A kernel whose labels never come to rest: each point changes sides with every pass."""

    def __init__(self, drift: float) -> None:
        self.drift = drift

    def start(self, x: Any, weights: Any, plan: Any) -> Any:
        self.x, self.passes = x, 0
        return ()

    def step(self, state: Any, centroids: Any) -> Any:
        self.passes += 1
        labels = (np.arange(len(self.x)) % 2 + self.passes) % 2
        members = (labels == np.arange(2)[:, None]).astype(float)
        sums = members @ self.x + self.drift * self.passes
        return (), Step(labels.astype(np.int32), sums, members.sum(axis=1))


def test_a_book_that_comes_again_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    restless = Restless(drift=0.0)
    monkeypatch.setattr(xpmeans.vq, "select", lambda problem: restless)
    kmeans(X, X[:2], thresh=0)
    assert restless.passes <= 4


def test_the_cap_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    restless = Restless(drift=1.0)
    monkeypatch.setattr(xpmeans.vq, "select", lambda problem: restless)
    with pytest.warns(RuntimeWarning, match="kmeans did not settle in 10000 iterations") as caught:
        kmeans(X, X[:2], thresh=0)
    assert restless.passes == LIMIT
    assert caught[0].filename == __file__


ERRORS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"iter": 0}, ValueError, "iter must be at least 1, got 0"),
    ({"iter": "3"}, TypeError, "'<' not supported"),
    ({"iter": 2.5}, TypeError, "cannot be interpreted as an integer"),
    ({"k_or_guess": 0}, ValueError, "Asked for 0 clusters"),
    ({"k_or_guess": -1}, ValueError, "Asked for -1 clusters"),
    ({"k_or_guess": 2.5}, ValueError, "If k_or_guess is a scalar, it must be an integer"),
    ({"k_or_guess": np.nan}, ValueError, "array must not contain infs or NaNs"),
    ({"k_or_guess": np.inf}, ValueError, "array must not contain infs or NaNs"),
    ({"k_or_guess": np.nan, "check_finite": False}, ValueError, "cannot convert float NaN to integer"),
    ({"k_or_guess": 201}, ValueError, "Cannot take a larger sample than population"),
    ({"k_or_guess": []}, ValueError, r"Asked for 0 clusters\. `k_or_guess` has shape \(0,\)"),
    ({"k_or_guess": None}, TypeError, "only boolean and numerical dtypes"),
    ({"k_or_guess": "3"}, TypeError, "only boolean and numerical dtypes"),
    ({"k_or_guess": X[:2, 0]}, ValueError, "observation and code should have same number of dimensions"),
    ({"k_or_guess": X[:2, :1]}, ValueError, "obs and code should have same number of features"),
    ({"k_or_guess": X[:2] + 0j}, ValueError, "Unsupported dtype complex128"),
    ({"obs": X + 0j}, ValueError, "Unsupported dtype complex128: points must be real"),
    ({"obs": np.zeros((0, 2))}, ValueError, r"Empty input is not supported\. `obs` has shape \(0, 2\)"),
    ({"obs": np.zeros((4, 2, 2))}, ValueError, "ndim different than 1 or 2 are not supported: `obs` is 3-D"),
    ({"obs": 1.0}, ValueError, "ndim different than 1 or 2 are not supported: `obs` is 0-D"),
    ({"obs": np.ma.masked_array(X)}, TypeError, r"`numpy\.ma\.MaskedArray`"),
    ({"rng": 0, "seed": 0}, TypeError, r"kmeans\(\) got multiple values for argument now known as `rng`"),
    ({"rng": "0"}, TypeError, "SeedSequence expects int"),
    ({"seed": "0"}, ValueError, "cannot be used to seed"),
]


@pytest.mark.parametrize(("changes", "error", "message"), ERRORS)
def test_errors(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        kmeans(**{"obs": X, "k_or_guess": 3} | changes)


def test_numbers_of_all_kinds_for_k(lib: Library) -> None:
    expected = kmeans(X, 3, rng=0)
    for k in (np.int64(3), np.asarray(3), 3.0, lib(3)):
        equal(lib, kmeans(lib(X), k, rng=0), expected)


def test_the_inputs_stay(lib: Library) -> None:
    x, book = X.copy(), X[:3].copy()
    data, guess = lib(x), lib(book)
    result = kmeans(data, guess)
    np.testing.assert_array_equal(lib.numpy(data), lib.numpy(lib(X)))
    np.testing.assert_array_equal(lib.numpy(guess), lib.numpy(lib(X[:3])))
    assert lib.name != "numpy" or not np.shares_memory(result[0], guess)


def test_device_is_kept() -> None:
    jax = pytest.importorskip("jax")
    device = jax.devices("cpu")[1]
    with xpmeans.array_api(True):
        results = kmeans(jax.device_put(X, device), 3, rng=0)
    assert [result.devices() for result in results] == [{device}, {device}]


def test_torch_gradients_stay_out() -> None:
    torch = pytest.importorskip("torch")
    x = torch.asarray(X).requires_grad_()
    with xpmeans.array_api(True):
        book, _ = kmeans(x, 3, rng=0)
    assert x.requires_grad
    assert not book.requires_grad


@pytest.mark.filterwarnings("ignore:One of the clusters is empty")
def test_one_seed_one_answer() -> None:
    """200 random problems: the same labels and codes on every library."""
    libraries = [lib for lib in ALL if lib.has_float64 and lib.id not in ("numpy", "dask:one")]
    for seed in range(200):
        rng = np.random.default_rng(seed)
        n, d = int(rng.integers(5, 150)), int(rng.integers(1, 12))
        x = rng.normal(size=(n, d)) + 3.0 * rng.integers(3, size=(n, 1))
        k = int(rng.integers(1, min(n, 9)))
        minit = ("random", "points", "++")[seed % 3]
        expected = [*kmeans2(x, k, minit=minit, rng=seed), *kmeans(x, k, iter=3, rng=seed)]
        for lib in libraries:
            with xpmeans.array_api(True):
                results = [*kmeans2(lib(x), k, minit=minit, rng=seed), *kmeans(lib(x), k, iter=3, rng=seed)]
            np.testing.assert_array_equal(lib.numpy(results[1]), expected[1])
            for ours, theirs in zip(results, expected, strict=True):
                np.testing.assert_allclose(lib.numpy(ours), theirs, rtol=1e-12, atol=1e-12)
