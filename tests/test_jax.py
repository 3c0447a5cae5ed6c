"""The native functions inside JAX transformations: the eager answer, traced once."""

from typing import Any

import numpy as np
import pytest
from conftest import CHOSEN, blobs, nearest

if "jax" not in CHOSEN:
    pytest.skip("JAX is not under test", allow_module_level=True)

import jax
import jax.numpy as jnp

import xpmeans
from xpmeans import assign, kmeans, kmeans_plusplus
from xpmeans._core import fit

X64 = jax.config.jax_enable_x64


def test_dtypes_follow_the_mode() -> None:
    x = blobs(60, 2, 3).astype("float32")
    for mode in (True, False, True):
        with jax.enable_x64(mode):
            result = xpmeans.kmeans(jnp.asarray(x), 3, rng=0)
            assert result.inertia.dtype == (jnp.float64 if mode else jnp.float32)
            assert result.centroids.dtype == jnp.float32
            assert result.counts.dtype == (jnp.int64 if mode else jnp.int32)


def test_no_transfer_that_nobody_asked_for() -> None:
    x = jnp.asarray(blobs(60, 2, 3))
    book = x[:3]
    with jax.transfer_guard("disallow"):
        result = kmeans(x, 3, init=book)
        labels, _ = assign(x, result.centroids)
    np.testing.assert_array_equal(labels, result.labels)


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "int4"])
def test_dtypes_that_numpy_lacks(name: str) -> None:
    x = blobs(60, 2, 3).round().clip(-7, 7)
    expected = kmeans(x, 3, init=x[:3])
    with jax.enable_x64(False):
        data = jnp.asarray(x.astype("float32")).astype(name)
        result = kmeans(data, 3, init=data[:3])
    assert result.centroids.dtype == ("float32" if name == "int4" else name)
    np.testing.assert_array_equal(result.labels, expected.labels)


def agree(traced: Any, eager: Any) -> None:
    """The same labels and, up to rounding, numbers."""
    for name, one, other in zip(traced._fields, traced, eager, strict=True):
        if np.asarray(other).dtype.kind == "f":
            np.testing.assert_allclose(one, other, rtol=1e-9 if X64 else 2e-4, err_msg=name)
        else:
            np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"init": "random", "n_init": 3},
        {"init": "k-means||"},
        {"init": "array", "tol": 0},
        {"init": "callable", "n_init": 2},
        {"metric": "cosine", "sample_weight": "array"},
        {"empty": "keep", "max_iter": 2},
    ],
    ids=str,
)
def test_jit_gives_the_eager_answer(options: dict[str, Any]) -> None:
    x = jnp.asarray(blobs(300, 3, 6, spread=1.0))
    special = {
        ("init", "array"): x[:6],
        ("init", "callable"): lambda x, k, rng: x[rng.choice(x.shape[0], k, replace=False)],
        ("sample_weight", "array"): jnp.asarray(np.random.default_rng(0).random(300)),
    }
    options = {name: special.get((name, str(value)), value) for name, value in options.items()}
    traced = jax.jit(lambda x: kmeans(x, 6, rng=3, **options))(x)
    agree(traced, kmeans(x, 6, rng=3, **options))
    assert traced.labels.dtype == jnp.int32


@pytest.mark.parametrize("case", ["offset", "huge", "tiny", "float16", "twins", "integers", "one point"])
def test_numbers(case: str) -> None:
    x: np.ndarray = blobs(400, 3, 5, spread=1.0).astype("float32")
    if case == "offset":
        x = (x * 20 + 1e6).astype("float32")
    elif case in ("huge", "tiny"):
        x = x * np.float32(1e30 if case == "huge" else 1e-30)
    elif case == "float16":
        x = x.astype("float16")
    elif case == "twins":
        x = np.concatenate([x[:200], np.nextafter(x[:200], np.float32(9))])
    elif case == "integers":
        x = x.astype("int32")
    elif case == "one point":
        x = x[:1]
    k = min(5, len(x))
    result = jax.jit(lambda x: kmeans(x, k, rng=0))(jnp.asarray(x))
    np.testing.assert_array_equal(result.labels, nearest(x, np.asarray(result.centroids)))
    np.testing.assert_array_equal(result.counts, np.bincount(result.labels, minlength=k))
    labels, distances = jax.jit(assign)(jnp.asarray(x), result.centroids)
    np.testing.assert_array_equal(labels, result.labels)
    assert np.isfinite(distances).all()


def test_relocation() -> None:
    x = jnp.asarray([[0.0], [1.0], [10.0], [10.0], [30.0]])
    start = jnp.asarray([[0.0], [100.0], [200.0]])
    agree(jax.jit(lambda x: kmeans(x, 3, init=start))(x), kmeans(x, 3, init=start))


def test_fewer_distinct_points_than_clusters() -> None:
    x = jnp.asarray(np.repeat([[1.0, 2.0], [3.0, 4.0]], 5, axis=0))
    result = jax.jit(lambda x: kmeans(x, 4, rng=0))(x)
    assert float(result.inertia) == 0
    assert int((result.counts == 0).sum()) == 2
    assert int(result.n_iter) < 10


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"init": "random", "n_init": 3, "metric": "cosine"},
        {"init": "k-means||", "sample_weight": jnp.arange(60.0) % 4},
        {"init": jnp.asarray(blobs(60, 2, 4)[:4]), "empty": "keep", "tol": 0},
    ],
    ids=["default", "random", "k-means||", "array"],
)
def test_vmap_batches_and_singles_agree(options: dict[str, Any]) -> None:
    x = jnp.asarray(np.stack([blobs(60, 2, 4, seed=seed, spread=1.0) for seed in range(5)]))

    def clustered(x: Any) -> Any:
        return kmeans(x, 4, rng=0, **options)

    single = [clustered(x[b]) for b in range(5)]
    expected = type(single[0])(*(np.stack(field) for field in zip(*single, strict=True)))
    agree(jax.jit(jax.vmap(clustered))(x), expected)
    agree(jax.jit(clustered)(x), expected)
    agree(clustered(x), expected)


def test_plus_plus() -> None:
    x = jnp.asarray(blobs(200, 2, 4))
    weights = jnp.asarray(np.random.default_rng(0).integers(0, 3, size=200))
    centroids, indices = jax.jit(lambda x, w: kmeans_plusplus(x, 7, sample_weight=w, rng=1))(x, weights)
    expected = kmeans_plusplus(x, 7, sample_weight=weights, rng=1)
    np.testing.assert_array_equal(indices, expected[1])
    np.testing.assert_array_equal(centroids, expected[0])


def test_one_trace_for_a_shape() -> None:
    traces = []

    @jax.jit
    def f(x: Any) -> Any:
        traces.append(x.shape)
        return kmeans(x, 3, rng=0)

    for seed in range(4):
        f(jnp.asarray(blobs(50, 2, seed=seed)))
    f(jnp.asarray(blobs(60, 2)))
    assert traces == [(50, 2), (60, 2)]


@pytest.mark.parametrize("init", ["k-means++", "k-means||", "random"])
def test_runs_iterations_and_chunks_are_loops(init: str) -> None:
    """The program is as long for many of them as for few, but for some arithmetic of where a chunk begins."""

    def length(n: int, n_init: int, max_iter: int, k: int) -> int:
        options: dict[str, Any] = {"init": init, "n_init": n_init, "max_iter": max_iter, "rng": 0}
        program = jax.make_jaxpr(lambda x: kmeans(x, k, **options))(jax.ShapeDtypeStruct((n, 3), "float32"))
        return str(program).count(" = ")

    assert length(50, 2, 2, 6) == length(50, 20, 300, 12)
    assert length(3_000_000, 2, 2, 6) < 1.02 * length(50, 2, 2, 6)


def test_nothing_calls_back_to_the_host() -> None:
    program = str(jax.make_jaxpr(lambda x: kmeans(x, 3, n_init=2, rng=0))(jnp.asarray(blobs())))
    assert "callback" not in program
    assert "while" in program


def test_what_needs_values_is_refused() -> None:
    x = jnp.asarray(blobs())
    with pytest.raises(TypeError, match=r"`empty='raise'` needs values, .* Hint: call it outside"):
        jax.jit(lambda x: kmeans(x, 3, empty="raise"))(x)
    with pytest.raises(TypeError, match=r"`callback` needs values"):
        jax.jit(lambda x: kmeans(x, 3, callback=print))(x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_clusters": 3}, r"`n_clusters` must be an integer, got .* Hint: .* a static argument"),
        ({"tol": 0.1}, r"`tol` must be a number, got .* Hint: .* a static argument"),
        ({"rng": 0}, r"`rng` must be a seed .*, got .* Hint: .* a static argument"),
    ],
)
def test_what_must_be_static(options: dict[str, Any], message: str) -> None:
    static = {"n_clusters", "n_init", "max_iter", "init", "tol", "rng"}
    arguments = {"n_clusters": 3, "rng": 0, **options}
    with pytest.raises(TypeError, match=message):
        jax.jit(kmeans, static_argnames=static - options.keys())(jnp.asarray(blobs()), **arguments)


def test_kmeans_itself_can_be_transformed() -> None:
    x = jnp.asarray(blobs(80, 2, 3))
    options = {"n_clusters": 3, "n_init": 2, "max_iter": 20, "init": "random", "rng": 5}
    agree(jax.jit(kmeans, static_argnames=tuple(options))(x, **options), kmeans(x, **options))


def test_not_a_number_ends() -> None:
    x = blobs()
    x[3] = np.nan
    result = jax.jit(lambda x: kmeans(x, 3, rng=0, max_iter=20))(jnp.asarray(x))
    assert int(result.n_iter) <= 20
    with pytest.raises(ValueError, match="`x` must not contain NaN"):
        kmeans(jnp.asarray(x), 3)


def test_results_stay_on_their_device() -> None:
    other = jax.devices()[1]
    x = jax.device_put(jnp.asarray(blobs()), other)
    for result in (kmeans(x, 3, rng=0), jax.jit(lambda x: kmeans(x, 3, rng=0))(x)):
        assert {array.device for array in result if hasattr(array, "device")} == {other}


@pytest.fixture(params=["Explicit", "Auto"])
def spread(request: pytest.FixtureRequest) -> Any:
    """Spread an array over all simulated devices along an axis; `make_mesh` makes explicit axes by itself."""
    mesh = jax.make_mesh((8,), ("devices",), axis_types=(jax.sharding.AxisType[request.param],))

    def put(array: Any, axis: int = 0) -> Any:
        spec = jax.sharding.PartitionSpec(*[None] * axis, "devices")
        return jax.device_put(array, jax.sharding.NamedSharding(mesh, spec))

    return put


POINTS = blobs(800, 3, 5)
BOOK = jnp.asarray(POINTS[:5])  # on one device, but not put there by anybody


@pytest.mark.parametrize("transformed", [True, False], ids=["jit", "eager"])
@pytest.mark.parametrize(
    "call",
    [
        lambda x, _: kmeans(x, 5, rng=0),
        lambda x, _: kmeans(x, 5, rng=0, init="random", n_init=3, metric="cosine"),
        lambda x, w: kmeans(x, 5, rng=0, init="k-means||", sample_weight=w),
        lambda x, w: kmeans(x, 5, rng=0, init=BOOK, sample_weight=w),
        lambda x, _: assign(x, BOOK),
        lambda x, w: kmeans_plusplus(x, 5, rng=0, sample_weight=w),
    ],
)
def test_sharded(spread: Any, transformed: bool, call: Any) -> None:
    weights = np.arange(800.0) % 3
    expected = call(jnp.asarray(POINTS), jnp.asarray(weights))
    result = (jax.jit(call) if transformed else call)(spread(POINTS), spread(weights))
    for one, other in zip(result, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9 if X64 else 2e-4)
        if np.shape(one) == (800,):
            assert {shard.data.shape for shard in one.addressable_shards} == {(100,)}


@pytest.mark.parametrize("kind", [xpmeans.KMeans, xpmeans.MiniBatchKMeans])
def test_sharded_estimators(spread: Any, kind: Any) -> None:
    x = spread(POINTS)
    model, expected = kind(5, random_state=0).fit(x), kind(5, random_state=0).fit(POINTS)
    np.testing.assert_array_equal(model.labels_, expected.labels_)
    np.testing.assert_array_equal(model.predict(x), model.labels_)
    np.testing.assert_allclose(model.transform(x), expected.transform(POINTS), rtol=1e-5, atol=1e-5)
    assert {shard.data.shape for shard in model.predict(x).addressable_shards} == {(100,)}


@pytest.mark.parametrize("axis", [0, 1])
def test_sharded_batches(spread: Any, axis: int) -> None:
    x = POINTS[:768].reshape(8, 96, 3)
    result = kmeans(spread(x, axis), 4, rng=0)
    agree(result, kmeans(jnp.asarray(x), 4, rng=0))
    assert {shard.data.shape[axis] for shard in result.labels.addressable_shards} == {(1, 12)[axis]}


def test_sharded_values_are_checked(spread: Any) -> None:
    x, weights = spread(POINTS), spread(np.ones(800))
    with pytest.raises(ValueError, match="`x` must not contain NaN"):
        kmeans(spread(np.where(POINTS[7] == POINTS, np.nan, POINTS)), 3)
    with pytest.raises(ValueError, match="`init` must not contain NaN"):
        kmeans(x, 3, init=BOOK[:3] * np.inf)
    with pytest.raises(ValueError, match=r"`sample_weight` must not be negative, .* from -1.0 to -1.0"):
        kmeans(x, 3, sample_weight=-weights)
    with pytest.raises(ValueError, match=r"`x` must have no rows of length zero .* row 7 has"):
        kmeans(spread(np.where(POINTS[7] == POINTS, 0, POINTS)), 3, metric="cosine")


def test_what_needs_values_gathers_the_shards(spread: Any) -> None:
    x = spread(POINTS)
    seen: list[int] = []
    expected = kmeans(jnp.asarray(POINTS), 5, rng=0)
    agree(kmeans(x, 5, rng=0, callback=lambda n_iter, *_: seen.append(n_iter)), expected)
    agree(kmeans(x, 5, rng=0, empty="raise"), expected)
    assert seen == list(range(1, expected.n_iter + 1))


def test_sharded_calls_compile_once(spread: Any) -> None:
    from xpmeans._kernels import jax as traced

    x = spread(POINTS)
    kmeans(x, 6, rng=0)
    compiled = traced.compiled._cache_size()
    kmeans(x, 6, rng=1)
    kmeans(spread(POINTS * 2), 6, rng=2)
    assert traced.compiled._cache_size() == compiled


def test_arrays_that_nobody_has_put_anywhere_go_along() -> None:
    other = jax.devices()[1]
    x, book = jax.device_put(POINTS, other), jnp.asarray(POINTS[:3])
    assert assign(x, book)[0].device == other
    with pytest.raises(ValueError, match="All arrays must be on one device"):
        assign(x, jax.device_put(book, jax.devices()[2]))


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_the_scale_of_the_weights_does_not_matter(factor: float) -> None:
    weights = jnp.asarray(np.random.default_rng(0).random(800))
    traced = jax.jit(lambda x, w: kmeans(x, 5, rng=0, sample_weight=w))
    expected = traced(jnp.asarray(POINTS), weights)
    result = traced(jnp.asarray(POINTS), weights * factor)
    agree(result._replace(inertia=result.inertia / factor), expected)


def test_gradients_stop() -> None:
    """Labels have no gradient, and the loop's number of steps is not known: JAX says so."""
    with pytest.raises(ValueError, match="Reverse-mode differentiation does not work"):
        jax.grad(lambda x: kmeans(x, 3, rng=0).inertia)(jnp.asarray(blobs()))


def test_kernels_are_named() -> None:
    assert xpmeans.kmeans(jnp.asarray(blobs()), 3, kernel="reference", rng=0).converged


def test_a_batch_relocates_no_more_than_its_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under `vmap` both branches of a condition run: for a problem that has ended, too."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3000, 2)))
    steps = []

    def count(squares: Any) -> None:
        steps.append(1)

    original = fit.squared_distances

    def counted(problem: Any, centroids: Any, labels: Any = None) -> Any:
        if labels is None and centroids.shape[0] == 1 and problem.flow.traced:
            jax.debug.callback(count, centroids)
        return original(problem, centroids, labels)

    monkeypatch.setattr(fit, "squared_distances", counted)
    n_iter = jax.vmap(lambda x: kmeans(x, 8, rng=0).n_iter)(x)
    jax.effects_barrier()
    # The origin once, and one point at most, for each problem and iteration.
    assert len(steps) <= 2 * 4 * int(n_iter.max())


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_one_large_value(weight: float) -> None:
    x = np.random.default_rng(0).normal(size=(300, 2)).astype("float32")
    x[0] = 1e20
    weights = jnp.ones(300).at[0].set(weight)
    traced = jax.jit(lambda x, w: kmeans(x, 5, rng=0, sample_weight=w))(jnp.asarray(x), weights)
    eager = kmeans(jnp.asarray(x), 5, rng=0, sample_weight=weights)
    np.testing.assert_array_equal(traced.labels, eager.labels)
    np.testing.assert_allclose(traced.inertia, eager.inertia, rtol=1e-3)


@pytest.mark.parametrize("size", [1e-11, 3e17])
def test_an_inertia_that_a_scale_would_lose(size: float) -> None:
    x = (blobs(100, 2, 3) * size).astype("float32")
    traced = jax.jit(lambda x: kmeans(x, 3, rng=0).inertia)(jnp.asarray(x))
    np.testing.assert_allclose(traced, kmeans(jnp.asarray(x), 3, rng=0).inertia, rtol=1e-3)


def test_tiny_rows_have_a_direction() -> None:
    x = np.random.default_rng(0).normal(size=(200, 3)).astype("float32")
    x[::2] *= np.float32(1e-25)
    traced = jax.jit(lambda x: kmeans(x, 4, metric="cosine", rng=0))(jnp.asarray(x))
    expected = kmeans(jnp.asarray(x), 4, metric="cosine", rng=0)
    np.testing.assert_array_equal(traced.labels, expected.labels)


@pytest.mark.parametrize("transformed", [True, False], ids=["jit", "eager"])
def test_only_weights_or_centroids_are_sharded(spread: Any, transformed: bool) -> None:
    wrap = jax.jit if transformed else lambda function: function
    points, book = jnp.asarray(POINTS), jnp.asarray(POINTS[:8])
    labels, _ = wrap(assign)(points, spread(book))
    np.testing.assert_array_equal(labels, assign(points, book)[0])
    weights = np.arange(800.0) % 3
    result = wrap(lambda x, w: kmeans(x, 4, rng=0, sample_weight=w))(points, spread(weights))
    agree(result, kmeans(points, 4, rng=0, sample_weight=jnp.asarray(weights)))
