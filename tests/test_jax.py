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

X64 = jax.config.jax_enable_x64


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


def test_vmap_batches_and_singles_agree() -> None:
    x = jnp.asarray(np.stack([blobs(60, 2, 4, seed=seed, spread=1.0) for seed in range(5)]))
    single = [kmeans(x[b], 4, rng=0) for b in range(5)]
    mapped = jax.vmap(lambda x: kmeans(x, 4, rng=0))(x)
    traced = jax.jit(lambda x: kmeans(x, 4, rng=0))(x)
    expected = type(single[0])(*(np.stack(field) for field in zip(*single, strict=True)))
    agree(mapped, expected)
    agree(traced, expected)
    agree(kmeans(x, 4, rng=0), expected)


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


def test_sharded() -> None:
    mesh = jax.make_mesh((8,), ("points",), axis_types=(jax.sharding.AxisType.Auto,))
    x = blobs(800, 3, 5)
    sharded = jax.device_put(x, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("points")))
    expected = kmeans(jnp.asarray(x), 5, rng=0)
    traced = jax.jit(lambda x: kmeans(x, 5, rng=0))(sharded)
    agree(traced, expected)
    assert len(traced.labels.sharding.device_set) == 8
    agree(kmeans(sharded, 5, rng=0), expected)


def test_gradients_stop() -> None:
    """Labels have no gradient, and the loop's number of steps is not known: JAX says so."""
    with pytest.raises(ValueError, match="Reverse-mode differentiation does not work"):
        jax.grad(lambda x: kmeans(x, 3, rng=0).inertia)(jnp.asarray(blobs()))


def test_kernels_are_named() -> None:
    assert xpmeans.kmeans(jnp.asarray(blobs()), 3, kernel="reference", rng=0).converged
