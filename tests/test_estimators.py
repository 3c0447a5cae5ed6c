"""`xpmeans.KMeans` and `MiniBatchKMeans` on every library, and with or without scikit-learn."""

import copy
import os
import pickle
import re
import subprocess
import sys
from typing import Any

import array_api_compat
import numpy as np
import pytest
from conftest import CHOSEN, Library, blobs, nearest

import xpmeans
from xpmeans import KMeans, MiniBatchKMeans

sklearn = pytest.importorskip("sklearn")
checks = pytest.importorskip("sklearn.utils.estimator_checks")

BOTH = [KMeans, MiniBatchKMeans]
X = blobs(300, 3, 4, spread=1.0)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", BOTH)
def test_invariants(native: Library, kind: Any, weighted: bool, metric: str) -> None:
    data = native(X + 3.0)
    weights = native(np.random.default_rng(0).random(300)) if weighted else None
    model = kind(4, random_state=0, metric=metric).fit(data, sample_weight=weights)
    for array in (model.cluster_centers_, model.labels_):
        assert type(array) is type(data)
        assert array_api_compat.device(array) == array_api_compat.device(data)
    assert model.cluster_centers_.dtype == data.dtype
    assert model.labels_.dtype == native.dtype("int32")
    np.testing.assert_array_equal(native.numpy(model.predict(data)), native.numpy(model.labels_))
    assert model.inertia_ == -model.score(data, sample_weight=weights)
    assert isinstance(model.inertia_, float)
    distances = native.numpy(model.transform(data)).astype(float)
    assert distances.shape == (300, 4)
    points, centers = native.numpy(data).astype(float), native.numpy(model.cluster_centers_).astype(float)
    if metric == "cosine":
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        expected = 1 - points @ (centers / np.linalg.norm(centers, axis=1, keepdims=True)).T
    else:
        expected = np.sqrt(((points[:, None] - centers) ** 2).sum(axis=2))
    np.testing.assert_allclose(distances, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(distances.argmin(axis=1), native.numpy(model.labels_))


@pytest.mark.parametrize("case", ["offset", "near", "huge"])
def test_distances_keep_their_digits(native: Library, case: str) -> None:
    x = blobs(200, 3, 4).astype("float32").astype("float64")
    if case == "offset":
        x = x + 2.0**20
    elif case == "near":  # points and centroids that nearly are the same
        x[100:] = x[:100] * (1 + 2.0**-20)
    else:
        x = x * 2.0**100
    data = native(x)
    model = KMeans(4, init=native(x[:4]), max_iter=1).fit(data)
    centers = native.numpy(model.cluster_centers_).astype("g")
    points = np.concatenate([native.numpy(data), native.numpy(model.cluster_centers_)]).astype("g")
    distances = native.numpy(model.transform(native(points.astype(native.numpy(data).dtype))))
    expected = np.sqrt(((points[:, None] - centers) ** 2).sum(axis=2))
    rtol = 1e-10 if native.has_float64 else 1e-6
    np.testing.assert_allclose(distances, expected.astype(float), rtol=rtol)
    assert (distances[-4:].diagonal() == 0).all()


@pytest.mark.parametrize("kind", BOTH)
def test_one_seed_gives_one_answer(native: Library, kind: Any) -> None:
    if not native.has_float64:
        pytest.skip("one answer up to rounding needs float64")
    expected, model = kind(5, random_state=3).fit(X), kind(5, random_state=3).fit(native(X))
    np.testing.assert_array_equal(native.numpy(model.labels_), expected.labels_)
    np.testing.assert_allclose(native.numpy(model.cluster_centers_), expected.cluster_centers_, rtol=1e-9)
    assert model.n_iter_ == expected.n_iter_


@pytest.mark.parametrize("init", ["array", "list", "callable", "random", "k-means||"])
@pytest.mark.parametrize("kind", BOTH)
def test_first_centroids(native: Library, kind: Any, init: Any) -> None:
    first = X[:4]
    if init == "array":
        init = native(first)
    elif init == "list":
        init = first.tolist()
    elif init == "callable":

        def init(X: Any, k: int, random_state: np.random.RandomState) -> Any:
            assert isinstance(random_state, np.random.RandomState)
            return X[:k, :]

    model = kind(4, init=init, random_state=0).fit(native(X))
    np.testing.assert_array_equal(
        native.numpy(model.labels_), nearest(native.numpy(native(X)), native.numpy(model.cluster_centers_))
    )


def test_batches_of_a_stream(native: Library) -> None:
    rng = np.random.default_rng(0)
    model = MiniBatchKMeans(4, random_state=0, compute_labels=False)
    for _ in range(40):
        batch = native(blobs(50, 2, 4, seed=5, spread=0.0) + 0.1 * rng.normal(size=(50, 2)))
        before = getattr(model, "cluster_centers_", None)
        kept = None if before is None else native.numpy(before).copy()
        model.partial_fit(batch)
        if kept is not None:  # fitted arrays are replaced, not written to
            np.testing.assert_array_equal(native.numpy(before), kept)
    assert model.n_steps_ == 40
    assert not hasattr(model, "labels_")
    assert -model.score(batch) < 50 * 2 * 0.1**2 * 2


def test_the_stream_is_a_mean_of_all_batches() -> None:
    """Sculley's rule: without reassignment a centroid is the mean of all points it was given."""
    rng = np.random.default_rng(0)
    batches = [rng.normal(loc=(10 * (i % 2), 0), size=(20, 2)) for i in range(6)]
    model = MiniBatchKMeans(2, init=[[0.0, 0.0], [10.0, 0.0]], reassignment_ratio=0)
    for batch in batches:
        model.partial_fit(batch)
    expected = [np.concatenate(batches[i::2]).mean(axis=0) for i in range(2)]
    np.testing.assert_allclose(model.cluster_centers_, expected)


def test_weights_of_a_stream_are_repetitions(native: Library) -> None:
    """Also weights of very different sizes in different batches, and of points in half precision."""
    rng = np.random.default_rng(0)
    options = {"init": [[0.0], [4.0]], "reassignment_ratio": 0}
    weighted, repeated = MiniBatchKMeans(2, **options), MiniBatchKMeans(2, **options)
    for largest in (1, 1000, 5):
        x, weights = rng.normal(size=(30, 1)) * 3, rng.integers(0, largest + 1, size=30)
        weighted.partial_fit(native(x), sample_weight=native(weights))
        repeated.partial_fit(native(np.repeat(x, weights, axis=0)))
    close = {"rtol": 1e-9 if native.has_float64 else 1e-4}
    np.testing.assert_allclose(
        native.numpy(weighted.cluster_centers_), native.numpy(repeated.cluster_centers_), **close
    )
    np.testing.assert_allclose(native.numpy(weighted._counts), native.numpy(repeated._counts), **close)


def test_a_long_stream_in_half_precision(native: Library) -> None:
    if native.name in ("array_api_strict", "numpy"):
        pytest.skip("the standard has no float16, and NumPy's becomes float64")
    model = MiniBatchKMeans(1, init=[[0.0]], reassignment_ratio=0)
    for value in [1.0] * 30 + [2.0] * 270:
        model.partial_fit(native(np.full((20, 1), value, dtype="float16")))
    assert model.cluster_centers_.dtype == native.dtype("float16")
    assert abs(float(model.cluster_centers_[0, 0]) - 1.9) < 1e-3
    assert float(copy.deepcopy(model)._precise[0, 0]) == float(model._precise[0, 0])


def test_a_stream_goes_on_with_the_clusters_it_has() -> None:
    model = MiniBatchKMeans(6, random_state=0).partial_fit(X)
    for k in (2, 9):
        assert model.set_params(n_clusters=k).partial_fit(X).cluster_centers_.shape == (6, 3)


def test_poor_clusters_start_anew() -> None:
    model = MiniBatchKMeans(3, init=[[0.0], [1.0], [1e6]], random_state=0, batch_size=20)
    x = np.random.default_rng(0).random((200, 1))
    assert abs(model.fit(x).cluster_centers_).max() < 1
    kept = MiniBatchKMeans(3, init=[[0.0], [1.0], [1e6]], reassignment_ratio=0, batch_size=20).fit(x)
    assert kept.cluster_centers_[2, 0] == 1e6


@pytest.mark.parametrize("kind", BOTH)
def test_arrays_from_elsewhere(native: Library, kind: Any) -> None:
    if native.name == "numpy":
        pytest.skip("NumPy is the other library here")
    data = native(X)
    model = kind(4, random_state=0).fit(data)
    for method in (model.predict, model.transform, model.score):
        with pytest.raises(ValueError, match=r"must use the same namespace .* Hint: model\.to\('numpy'\)"):
            method(X)
    host = model.to("numpy")
    assert type(host.cluster_centers_) is np.ndarray
    expected = nearest(native.numpy(data), host.cluster_centers_)
    np.testing.assert_array_equal(host.predict(native.numpy(data)), expected)
    with pytest.raises(ValueError, match=rf"model\.to\('{native.name}', device=X\.device\)"):
        host.predict(data)
    back = host.to(array_api_compat.array_namespace(data), device=data.device)
    np.testing.assert_array_equal(native.numpy(back.predict(data)), expected)
    assert (
        kind(4, init=X[:4]).fit(data).labels_.device == data.device
    )  # `init` follows the points, as weights
    assert kind(4, init=native(X[:4])).fit(X, sample_weight=native(np.ones(300))).labels_.shape == (300,)
    again = copy.deepcopy(model)
    assert again.cluster_centers_.device == data.device
    if kind is MiniBatchKMeans:
        assert model.to("numpy")._rng is not model._rng
    narrow = model.to(dtype="float32")
    assert narrow.cluster_centers_.dtype == native.dtype("float32")
    assert narrow.cluster_centers_.device == data.device
    for dtype in (np.float32, native.dtype("float32")):
        assert model.to(dtype=dtype).cluster_centers_.dtype == narrow.cluster_centers_.dtype
    with pytest.raises(ValueError, match="`dtype` must be a real dtype of the library, got 'float31'"):
        model.to(dtype="float31")
    with pytest.raises(ValueError, match="`dtype` must be a real dtype of the library, got 'int32'"):
        model.to(dtype="int32")
    with pytest.raises(ValueError, match=r"`library` must be a namespace or one of 'numpy', .* got 'dask'"):
        model.to("dask")
    assert model.cluster_centers_.dtype == data.dtype


@pytest.mark.parametrize("kind", BOTH)
def test_pickles(native: Library, kind: Any) -> None:
    if native.id in ("array_api_strict:device1", "jax:second"):
        pytest.skip("only torch's devices have names that mean something elsewhere")
    data = native(X)
    model = kind(4, random_state=0).fit(data)
    other = pickle.loads(pickle.dumps(model))
    assert type(other.cluster_centers_) is type(data)
    np.testing.assert_array_equal(native.numpy(other.predict(data)), native.numpy(model.labels_))
    assert other.get_params() == model.get_params()
    assert copy.deepcopy(model).score(data) == model.score(data)


@pytest.mark.skipif("torch" not in CHOSEN, reason="PyTorch is not under test")
def test_a_pickle_from_a_device_that_is_not_here() -> None:
    import torch

    from xpmeans._clusterer import _Pickled

    with pytest.warns(UserWarning, match=r"saved on device 'cuda:7', which is not here"):
        array = _Pickled("torch", "cuda:7", "bfloat16", np.ones(3, "float32")).array()
    assert (array.dtype, array.device.type) == (torch.bfloat16, "cpu")


@pytest.mark.skipif("torch" not in CHOSEN, reason="PyTorch is not under test")
def test_a_pickle_says_which_library_is_missing() -> None:
    import torch

    text = pickle.dumps(KMeans(2, random_state=0).fit(torch.asarray([[1.0], [2.0], [9.0]]))).hex()
    code = f"""
import sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import pickle
try:
    pickle.loads(bytes.fromhex("{text}"))
except ImportError as error:
    print(error)
"""
    assert "belong to torch, which cannot be imported here. Hint: install it" in run(code)


def run(code: str, **env: str) -> str:
    command = [sys.executable, "-W", "ignore", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, env=os.environ | env)
    assert result.returncode == 0, result.stderr
    return result.stdout


# scikit-learn's own two classes are exempt from it, too: rows are repeated there in another order, in which
# the same draws choose other first centroids.
REPEATED = "check_sample_weight_equivalence_on_dense_data"


@checks.parametrize_with_checks(
    [
        kind(**options)
        for kind in BOTH
        for options in ({}, {"init": "k-means||"}, {"init": "random", "n_init": 2})
    ],
    expected_failed_checks=lambda _: {REPEATED: "first centroids are drawn by the order of the rows"},
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def test_weights_are_repetitions_as_scikit_learn_checks_it() -> None:
    """From given centroids, of which some are empty at first."""
    for spread in (0.3, 1.0):
        init = np.linspace(0.5 - spread / 2, 0.5 + spread / 2, 8)[:, None] * np.ones(30)
        getattr(checks, REPEATED)("KMeans", KMeans(8, init=init, tol=0))


def test_scikit_learns_checks_of_other_libraries_arrays() -> None:
    """They ask for the switch that SciPy reads when it is imported."""
    code = """
from sklearn.utils.estimator_checks import check_estimator
import xpmeans
for kind in (xpmeans.KMeans, xpmeans.MiniBatchKMeans):
    results = [r for r in check_estimator(kind(), on_fail=None) if "array_api" in r["check_name"]]
    print(sum(r["status"] == "passed" for r in results) > 0, [r for r in results if r["status"] == "failed"])
"""
    assert run(code, SCIPY_ARRAY_API="1") == "True []\n" * 2


def test_without_scikit_learn() -> None:
    code = """
import sys
sys.modules["sklearn"] = None
import pickle
import numpy as np
import xpmeans
X = np.random.default_rng(0).normal(size=(90, 2)) + np.arange(90)[:, None] % 3 * 9
for kind in (xpmeans.KMeans, xpmeans.MiniBatchKMeans):
    model = kind(3, random_state=0)
    print(model)
    clone = kind(**model.get_params())
    assert (clone.fit(X).labels_ == model.fit_predict(X)).all()
    assert model.inertia_ == -model.score(X)
    assert (model.fit_transform(X) == model.transform(X)).all()
    assert list(model.get_feature_names_out())[0] == kind.__name__.lower() + "0"
    assert (pickle.loads(pickle.dumps(model)).predict(X) == model.labels_).all()
    assert model.set_params(n_clusters=2).fit(X.tolist()).cluster_centers_.shape == (2, 2)
    for call in (
        lambda: model.set_params(color=1),
        lambda: model.predict(X[:, :1]),
        lambda: kind().predict(X),
        lambda: model.fit(X[0]),
        lambda: model.fit(X[:0]),
        lambda: model.fit(np.where(X == X[0], np.nan, X)),
        lambda: model.fit(X.astype(complex)),
        lambda: model.fit(X.astype(str)),
    ):
        try:
            call()
        except ValueError as error:
            assert str(error)
        else:
            raise AssertionError
    xpmeans.KMeans(5, random_state=0).fit(np.zeros((9, 1)))  # warns
"""
    assert (
        run(code) == "KMeans(n_clusters=3, random_state=0)\nMiniBatchKMeans(n_clusters=3, random_state=0)\n"
    )


@pytest.mark.parametrize("kind", BOTH)
def test_scikit_learns_tools(kind: Any) -> None:
    from sklearn.base import clone
    from sklearn.compose import ColumnTransformer
    from sklearn.model_selection import GridSearchCV, cross_validate
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = kind(random_state=0)
    assert clone(model.set_params(n_clusters=3)).get_params() == model.get_params()
    pipeline = make_pipeline(StandardScaler(), kind(4, random_state=0)).fit(X)
    assert pipeline.predict(X).shape == (300,)
    search = GridSearchCV(kind(random_state=0), {"n_clusters": [2, 4]}, cv=3, n_jobs=2).fit(X)
    assert search.best_params_ == {"n_clusters": 4}
    scores = cross_validate(kind(4, random_state=0), X, cv=3, n_jobs=2)
    assert (scores["test_score"] < 0).all()
    columns = ColumnTransformer([("groups", kind(4, random_state=0), [0, 1])], remainder="passthrough")
    assert columns.fit_transform(X).shape == (300, 5)
    assert columns.get_feature_names_out()[0] == f"groups__{kind.__name__.lower()}0"


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames(kind: Any, library: str) -> None:
    frames = pytest.importorskip(library)
    frame = frames.DataFrame({name: X[:, i] for i, name in enumerate("abc")})
    model = kind(4, random_state=0).fit(frame)
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(model.labels_, kind(4, random_state=0).fit(X).labels_)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[["b", "a", "c"]])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(X)
    distances = model.set_output(transform=library).transform(frame)
    assert isinstance(distances, frames.DataFrame)
    assert list(distances.columns) == [f"{kind.__name__.lower()}{i}" for i in range(4)]


@pytest.mark.parametrize("kind", BOTH)
def test_memory_maps_and_joblib(kind: Any, tmp_path: Any) -> None:
    import joblib

    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    model = kind(4, random_state=0).fit(mapped)
    joblib.dump(model, tmp_path / "model")
    loaded = joblib.load(tmp_path / "model", mmap_mode="r")
    assert isinstance(loaded.cluster_centers_, np.memmap)
    np.testing.assert_array_equal(loaded.predict(mapped), model.labels_)
    assert loaded.score(mapped) == model.score(X)
    if kind is MiniBatchKMeans:
        loaded.partial_fit(mapped)
        np.testing.assert_array_equal(
            model.cluster_centers_, joblib.load(tmp_path / "model").cluster_centers_
        )


@pytest.mark.parametrize("kind", BOTH)
def test_refused(kind: Any) -> None:
    from scipy.sparse import csr_array

    model = kind(4)
    with pytest.raises(TypeError, match="Sparse data was passed"):
        model.fit(csr_array(X))
    with pytest.raises(ValueError, match="`metric` must be one of"):
        kind(4, metric="manhattan").fit(X)
    with pytest.raises(ValueError, match="`x` must not contain NaN"):
        model.fit(np.where(X[0] == X, np.nan, X))
    with pytest.raises(sklearn.exceptions.NotFittedError):
        kind(4).predict(X)
    with pytest.raises(ValueError, match="n_samples=3 should be >= n_clusters=4"):
        model.fit(X[:3])
    with pytest.raises(ValueError, match=r"X has 2 features, but \w+ is expecting 3 features"):
        model.fit(X).predict(X[:, :2])
    with pytest.raises(ValueError, match="1D array or scalar, got shape"):
        model.fit(X, sample_weight=X)


def test_other_parameters() -> None:
    with pytest.raises(ValueError, match="`algorithm` must be one of 'lloyd', 'elkan', got 'auto'"):
        KMeans(algorithm="auto").fit(X)
    with pytest.raises(ValueError, match="`reassignment_ratio` must be a number not below 0, got -1"):
        MiniBatchKMeans(reassignment_ratio=-1).fit(X)
    for kind in BOTH:
        with pytest.raises(ValueError, match=r"`init` must be one of 'k-means\+\+', .* got 'kmeans'"):
            kind(init="kmeans").fit(X)
        with pytest.raises(ValueError, match="`tol` must be a number not below 0, got -1"):
            kind(tol=-1).fit(X)
        with pytest.raises(TypeError, match="`tol` must be a number, got 'a'"):
            kind(tol="a").fit(X)
        with pytest.raises(TypeError, match=r"`random_state` must be a seed .*, got 'a'"):
            kind(random_state="a").fit(X)
        with pytest.raises(ValueError, match="`metric` must be one of"):
            kind(4).fit(X).set_params(metric="manhattan").predict(X)
    with pytest.raises(ValueError, match="`init_size` must be at least 1, got 0"):
        MiniBatchKMeans(init_size=0).fit(X)
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        MiniBatchKMeans(batch_size=0).fit(X)
    estimate = MiniBatchKMeans(4, random_state=0, compute_labels=False).fit(X)
    exact = MiniBatchKMeans(4, random_state=0).fit(X)
    assert not hasattr(estimate, "labels_")
    assert 0.5 < estimate.inertia_ / exact.inertia_ < 2


def test_a_bar_in_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    KMeans(4, random_state=0, verbose=1).fit(X)
    assert "Iteration 1, inertia" in capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    KMeans(4, random_state=0, verbose=1).fit(X)
    assert "\nIteration 1, inertia" not in capsys.readouterr().out
    KMeans(4, random_state=0).fit(X)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("tol", "how"), [(0, "strict convergence"), (1e-2, "center shift .* within tolerance")]
)
def test_how_it_converged(tol: float, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    # Enough points and iterations that the compiled kernel's running sums round apart from fresh ones.
    normal = np.random.RandomState(0).normal(size=(5000, 10))
    KMeans(3, init="random", n_init=1, random_state=42, tol=tol, verbose=1).fit(normal)
    assert re.search(rf"Converged at iteration \d+: {how}\.", capsys.readouterr().out)


@pytest.mark.skipif("jax" not in CHOSEN, reason="JAX is not under test")
def test_tracers_are_refused() -> None:
    import jax

    with pytest.raises(xpmeans.UnsupportedBackendError, match=r"`xpmeans.KMeans` runs on .* outside jit"):
        jax.jit(lambda x: KMeans(2).fit(x).cluster_centers_)(jax.numpy.asarray(X))
