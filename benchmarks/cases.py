"""The problems that everybody has to solve."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

# Until no label changes any more, or as many iterations.
CONVERGENCE = 300


class Case(NamedTuple):
    """One problem: everybody gets these points and starts from these centroids."""

    name: str
    x: np.ndarray
    init: np.ndarray
    n_iter: int

    @property
    def title(self) -> str:
        """Shape, dtype and end in words."""
        n, d = self.x.shape
        until = "to convergence" if self.n_iter == CONVERGENCE else f"{self.n_iter} iterations"
        return f"{self.name}, {n:,} x {d}, k = {len(self.init)}, {self.x.dtype}, {until}"


def photograph() -> np.ndarray:
    """Colours of a photograph's pixels, which scikit-learn ships: 273,280 x 3."""
    from sklearn.datasets import load_sample_image

    return load_sample_image("china.jpg").reshape(-1, 3) / np.float64(255)


def digits() -> np.ndarray:
    """Handwritten digits, which scikit-learn ships: 1797 x 64."""
    from sklearn.datasets import load_digits

    return load_digits().data


def blobs(n: int, d: int, k: int) -> np.ndarray:
    """Groups that overlap a little."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(k, d)) * 3
    return centres[rng.integers(k, size=n)] + rng.normal(size=(n, d))


def noise(n: int, d: int) -> np.ndarray:
    """No groups at all."""
    return np.random.default_rng(0).normal(size=(n, d))


def distinct(x: np.ndarray, k: int) -> np.ndarray:
    """First centroids that differ, for libraries do not agree on what to do with empty clusters."""
    rng = np.random.default_rng(1)
    some = np.unique(x[rng.choice(len(x), min(len(x), 8 * k), replace=False)], axis=0)
    return rng.permutation(some)[:k].copy()


def cases() -> Iterator[Case]:
    """The grid; made one after the other, since some are large."""
    for name, make, k, dtype, n_iter in (
        ("photograph", photograph, 16, "float32", 10),
        ("photograph", photograph, 256, "float32", 10),
        ("photograph", photograph, 256, "float32", CONVERGENCE),
        ("photograph", photograph, 64, "float64", CONVERGENCE),
        ("digits", digits, 10, "float32", CONVERGENCE),
        ("digits", digits, 100, "float64", CONVERGENCE),
        ("blobs", lambda: blobs(1_000_000, 2, 8), 8, "float32", 10),
        ("blobs", lambda: blobs(200_000, 8, 256), 256, "float32", 10),
        ("blobs", lambda: blobs(200_000, 16, 64), 64, "float32", 10),
        ("blobs", lambda: blobs(200_000, 16, 64), 64, "float64", CONVERGENCE),
        ("blobs", lambda: blobs(100_000, 50, 100), 100, "float32", CONVERGENCE),
        ("noise", lambda: noise(10_000, 8), 32, "float32", 10),
        ("noise", lambda: noise(100_000, 32), 1000, "float32", 10),
        ("noise", lambda: noise(100_000, 64), 64, "float64", 10),
        ("noise", lambda: noise(50_000, 4), 4096, "float32", 10),
        ("noise", lambda: noise(50_000, 128), 256, "float32", 10),
        ("noise", lambda: noise(20_000, 1024), 64, "float32", 10),
        ("noise", lambda: noise(10_000_000, 4), 16, "float32", 10),
    ):
        x = make().astype(dtype)
        yield Case(name, x, distinct(x, k), n_iter)
