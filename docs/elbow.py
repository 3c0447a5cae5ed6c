"""How many clusters? The inertia and the silhouette of 300 points in four groups, for k from 2 to 9."""

from pathlib import Path

import matplotlib.pyplot as plt
from sklearn.datasets import make_blobs
from sklearn.metrics import silhouette_score

import xpmeans

X, _ = make_blobs(300, centers=4, cluster_std=0.8, random_state=8)
numbers = range(2, 10)
models = [xpmeans.KMeans(k, n_init=5, random_state=0).fit(X) for k in numbers]

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.plot(numbers, [model.inertia_ for model in models], "o-")
left.set(xlabel="k", ylabel="inertia", title="Elbow")
right.plot(numbers, [silhouette_score(X, model.labels_) for model in models], "o-")
right.set(xlabel="k", ylabel="mean silhouette", title="Silhouette")
figure.savefig(Path(__file__).parent / "_static" / "elbow.png", dpi=150)
