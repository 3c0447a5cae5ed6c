"""What PyTorch needs of us: `assign` as an operator that `torch.compile` takes as it is.

The compiler cannot follow the dispatch into NumPy, nor decisions by values. To an operator it only asks the
shapes and dtypes of the results; the work happens when the compiled function runs.
"""

import torch
from torch import Tensor


@torch.library.custom_op("xpmeans::assign", mutates_args=())
def assign(x: Tensor, centroids: Tensor, metric: str, kernel: str | None) -> tuple[Tensor, Tensor]:
    """`xpmeans.assign`, called with values."""
    from xpmeans import functional

    labels, distances = functional.assign(x, centroids, metric=metric, kernel=kernel)
    return labels, distances


@assign.register_fake
def _(x: Tensor, centroids: Tensor, metric: str, kernel: str | None) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    dtype = torch.promote_types(x.dtype, centroids.dtype)
    if not dtype.is_floating_point:
        dtype = torch.get_default_dtype()
    return x.new_empty(x.shape[:-1], dtype=torch.int32), x.new_empty(x.shape[:-1], dtype=dtype)
