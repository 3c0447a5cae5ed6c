"""Sizes at which counters, indices and memory would give out."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from conftest import CHOSEN, Library

from xpmeans import assign, kmeans

MEMORY = """
import ctypes
import sys
from pathlib import Path

import numpy as np

from xpmeans import assign, kmeans, kmeans_plusplus

library, transformed = sys.argv[1:]
rng = np.random.default_rng(0)
make, wrap = np.asarray, lambda function: function
if library == "torch":
    import torch
    make = torch.asarray
if library == "jax":
    import jax
    make = jax.numpy.asarray
    if transformed == "jit":
        wrap = jax.jit
calls = {
    "kmeans": wrap(lambda x, book: kmeans(x, book.shape[0], init=book, max_iter=3)),
    "cosine": wrap(lambda x, book: kmeans(x, book.shape[0], init=book, max_iter=1, metric="cosine")),
    "assign": wrap(assign),
    "kmeans_plusplus": wrap(lambda x, book: kmeans_plusplus(x, 20, rng=0)),
}


def memory(kind):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith(kind))


x = rng.standard_normal((400_000, 32), dtype="float32")
x, book = make(x), make(x[:2000])
for name, call in calls.items():
    if transformed == "jit":  # the compiler's own memory is not counted
        call = call.lower(x, book).compile()
    else:
        call(x[:3000], book[:20])  # nor what libraries load
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # what earlier calls have freed must not hide what this one takes
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    np.asarray(call(x, book)[0])
    print(name, memory("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("where", ["numpy eager", "torch eager", "jax eager", "jax jit"])
def test_memory_beyond_the_data(where: str) -> None:
    """200 MiB for 400,000 x 32 points and 2000 centroids, where n x k numbers are 3 GiB."""
    if where.split()[0] not in CHOSEN:
        pytest.skip(f"{where} is not under test")
    command = [sys.executable, "-c", MEMORY, *where.split()]
    output = subprocess.run(command, capture_output=True, text=True, timeout=600, env=os.environ)
    assert output.returncode == 0, output.stderr
    peaks = {name: int(mib) for name, mib in map(str.split, output.stdout.splitlines())}
    assert set(peaks) == {"kmeans", "cosine", "assign", "kmeans_plusplus"}
    assert max(peaks.values()) <= 200, peaks


def runs(native: Library) -> dict[str, Any]:
    """The call as it is, and under `jax.jit`."""
    if native.id != "jax":
        return {"eager": lambda function: function}
    import jax

    return {"eager": lambda function: function, "jit": jax.jit}


def test_more_points_in_a_cluster_than_float32_counts(eager: Library) -> None:
    n = (1 << 24) + 1001
    x = np.zeros((n, 1), dtype="float32")
    x[-1000:] = 1
    data, start = eager(x), eager(np.asarray([[0.1], [0.9]], dtype="float32"))
    for name, wrap in runs(eager).items():
        result = wrap(lambda x, start: kmeans(x, 2, init=start))(data, start)
        assert eager.numpy(result.counts).tolist() == [n - 1000, 1000], name
        np.testing.assert_array_equal(eager.numpy(result.centroids), [[0], [1]])
        labels = eager.numpy(result.labels)
        assert (int(labels.sum()), labels[-1]) == (1000, 1)


def test_more_pairs_than_int32_counts(eager: Library) -> None:
    n, k = 1 << 22, 600
    assert n * k > 1 << 31
    expected = np.arange(n) % k
    data, book = eager(expected[:, None].astype("float32")), eager(np.arange(k, dtype="float32")[:, None])
    for name, wrap in runs(eager).items():
        labels, distances = wrap(assign)(data, book)
        np.testing.assert_array_equal(eager.numpy(labels), expected, err_msg=name)
        assert not eager.numpy(distances).any()
