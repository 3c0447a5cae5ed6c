"""A pytest plugin that runs scikit-learn's own tests of k-means on ours: see `nox -s sklearn-suite`.

The installed test module stays as it is; only the two classes that it imported are replaced once it is
collected, also where they are parameters. What cannot apply is named in `sklearn_not_applicable.txt`, each
line with its reason, and is not run; a line that names no test is an error.
"""

from fnmatch import fnmatch
from pathlib import Path

import pytest
import sklearn.cluster

import xpmeans

OURS = {getattr(sklearn.cluster, name): getattr(xpmeans, name) for name in ("KMeans", "MiniBatchKMeans")}


def not_applicable() -> list[str]:
    """Names of tests, with `*` for any characters, without the reasons behind them."""
    text = Path(__file__).with_name("sklearn_not_applicable.txt").read_text(encoding="utf-8")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    return [name for name, _reason in lines]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for module in {item.module for item in items}:  # type: ignore[attr-defined]
        for theirs, ours in OURS.items():
            assert getattr(module, theirs.__name__) is theirs
            setattr(module, theirs.__name__, ours)
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is not None:
            for name, value in callspec.params.items():
                callspec.params[name] = OURS.get(value, value) if isinstance(value, type) else value
    dropped: list[pytest.Item] = []
    for pattern in not_applicable():
        found = [item for item in items if fnmatch(item.name, pattern.replace("[", "[[]"))]
        if not found:
            raise pytest.UsageError(f"sklearn_not_applicable.txt names no test: {pattern}")
        dropped += found
    items[:] = [item for item in items if item not in dropped]
    config.hook.pytest_deselected(items=dropped)
