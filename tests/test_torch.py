"""What is PyTorch's own: `torch.compile`, half precision, gradients, devices without values."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import CHOSEN, blobs, nearest

if "torch" not in CHOSEN:
    pytest.skip("PyTorch is not under test", allow_module_level=True)

import array_api_compat
import torch

from xpmeans import _dispatch, _inputs, assign, kmeans
from xpmeans._core import initial, loop
from xpmeans._core.brute import BruteForce
from xpmeans._core.nearest import Reference
from xpmeans._core.precision import Reach, precision
from xpmeans._core.problem import make_problem


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_assign_compiles_in_one_piece(metric: str, dtype: torch.dtype) -> None:
    def distortion(x: torch.Tensor, centroids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        labels, distances = assign(x + 9, centroids + 9, metric=metric)
        return labels * 2, distances.mean()

    x = torch.asarray(blobs(100, 3, 4) * 10).to(dtype)
    compiled = torch.compile(distortion, fullgraph=True, backend="aot_eager")
    for one, other in zip(compiled(x, x[:5]), distortion(x, x[:5]), strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other)


def test_the_operator_keeps_its_promises() -> None:
    """Torch's own checks: shapes, dtypes and strides as announced, nothing aliased, nothing modified."""
    from xpmeans._kernels import torch as operators

    x = torch.asarray(blobs())
    for points, book in ((x, x[:3]), (x.reshape(2, 30, 2), x[:3]), (x.float(), x[:3])):
        torch.library.opcheck(
            operators.assign, (points, book, "euclidean", None), test_utils=("test_schema", "test_faketensor")
        )


def test_bfloat16() -> None:
    x = torch.asarray(blobs(500, 2, 3, spread=3.0)).bfloat16()
    result = kmeans(x, 3, rng=0)
    assert result.centroids.dtype == torch.bfloat16
    expected = nearest(x.float().numpy(), result.centroids.float().numpy())
    np.testing.assert_array_equal(result.labels.numpy(), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_centroids_are_rounded_where_the_work_stays_in_torch(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, which the CPU is taken for here: labels are nearest to what the caller gets."""
    x = torch.asarray(blobs(500, 2, 3, spread=3.0)).to(dtype)
    user, _ = _dispatch.dispatch(x=x)
    monkeypatch.setattr(_dispatch, "_tensors", lambda *_: replace(user, on_gpu=True))
    seen: list[torch.dtype] = []
    result = kmeans(x, 3, rng=0, callback=lambda _, __, centroids: seen.append(centroids.dtype))
    assert {*seen, result.centroids.dtype} == {dtype}
    expected = nearest(x.float().numpy(), result.centroids.float().numpy())
    np.testing.assert_array_equal(result.labels.numpy(), expected)


def test_gradients_are_left_alone() -> None:
    x = torch.asarray(blobs()).requires_grad_()
    result = kmeans(x, 3, rng=0)
    assert x.requires_grad
    assert not result.centroids.requires_grad
    loss = (x - result.centroids[result.labels]).square().sum()
    loss.backward()
    assert x.grad is not None


@pytest.mark.parametrize("kernel", [BruteForce, Reference])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int16])
def test_a_step_makes_everything_where_the_points_are(kernel: Any, dtype: torch.dtype) -> None:
    """On `meta` there are no values, and whatever is made elsewhere cannot be mixed with what is there."""
    x = torch.empty((5000, 7), dtype=dtype, device="meta")
    xp = array_api_compat.array_namespace(x)
    problem = make_problem(
        xp, x.device, x, 30, precision(xp, dtype, x.device), Reach(1.0, True), loop.ACCELERATOR
    )
    options = {"flow": problem.flow} if kernel is Reference else {}
    bound = kernel(xp, x.device, problem.dtypes, **options)
    weights = torch.empty(5000, dtype=problem.dtypes.sums, device="meta")
    state = bound.start(x, weights, problem.plan)
    book = torch.empty((30, 7), dtype=problem.dtypes.compute, device="meta")
    _, (labels, sums, counts, left, _) = bound.step(state, book, room=1024)
    assert {array.device.type for array in (labels, sums, counts)} == {"meta"}
    assert (labels.shape, sums.shape, counts.shape) == ((5000,), (30, 7), (30,))
    assert (labels.dtype, sums.dtype, counts.dtype) == (torch.int32, torch.float64, torch.float64)
    assert (left is None) == (kernel is BruteForce)


@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_first_centroids_are_chosen_without_asking_for_a_value(init: str) -> None:
    """On an accelerator the host would wait for each; on `meta` there are none."""
    x = torch.empty((5000, 7), dtype=torch.float32, device="meta")
    xp = array_api_compat.array_namespace(x)
    dtypes = precision(xp, x.dtype, x.device)
    problem = make_problem(xp, x.device, x, 30, dtypes, Reach(1.0, True), loop.ACCELERATOR)
    mass = torch.empty(5000, dtype=dtypes.sums, device="meta")
    draws = _inputs.draws(init, np.random.default_rng(0), 1, 30)
    uniforms = [torch.asarray(draw[0], dtype=dtypes.sums, device="meta") for draw in draws]
    rows = initial.ROWS[init](problem, mass, *uniforms)
    assert (rows.shape, rows.dtype, rows.device.type) == ((30,), torch.int64, "meta")
