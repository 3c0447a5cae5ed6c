"""The example of the start page: three groups of points in the plane, found again by `kmeans2`."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from xpmeans.vq import kmeans2

# 100 points from three normal distributions, in random order.
rng = np.random.default_rng(8)
z = np.concatenate(
    [
        rng.multivariate_normal([0, 6], [[2, 1], [1, 1.5]], size=45),
        rng.multivariate_normal([2, 0], [[1, -1], [-1, 3]], size=30),
        rng.multivariate_normal([6, 4], [[5, 0], [0, 1.2]], size=25),
    ]
)
rng.shuffle(z)

centroid, label = kmeans2(z, 3, minit="points", rng=rng)
counts = np.bincount(label)

if __name__ == "__main__":
    figure, axes = plt.subplots(figsize=(6, 4.5), layout="constrained")
    for index, marker in enumerate("ods"):
        members = z[label == index]
        label_text = f"cluster {index}: {counts[index]} points"
        axes.plot(*members.T, marker, alpha=0.5, label=label_text)
    axes.plot(*centroid.T, "k*", markersize=12, label="centroids")
    axes.axis("equal")
    axes.legend(loc="upper right", fontsize="small")
    figure.savefig(Path(__file__).parent / "_static" / "example.png", dpi=150)
    plt.close(figure)
