"""What is imported where, and when."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import xpmeans

SOURCE = Path(xpmeans.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
BACKENDS = {"torch", "jax", "jaxlib", "cupy", "cupyx", "dask", "distributed", "numba", "triton"}
PEERS = {"scipy", "sklearn", "faiss"}


def imported(path: Path) -> Iterator[str]:
    """Modules that a file imports anywhere, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield node.module or ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_import_graph(path: Path) -> None:
    modules = set(imported(path))
    roots = {module.partition(".")[0] for module in modules}
    where = path.relative_to(SOURCE).parts[0]
    if where != "_kernels":
        assert not roots & BACKENDS
    assert not roots & (PEERS - {"sklearn"} if where == "_sklearn.py" else PEERS)
    ours = {module.partition(".")[2] for module in modules if module.startswith("xpmeans.")}
    rooms = {module.partition(".")[0] for module in ours}
    if where == "_core":
        assert rooms <= {"_core", "_kernels", "_rng"}
    if where == "_kernels":
        assert rooms <= {"_core", "_kernels", "_dispatch"}
    if where == "capabilities.py":
        assert rooms <= {"_dispatch"}  # for its annotations


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.strip()


def test_importing_loads_no_array_library_but_numpy() -> None:
    names = sorted(BACKENDS | PEERS | {"array_api_strict", "matplotlib", "PIL", "rich"})
    code = f"import sys, xpmeans, xpmeans.vq, xpmeans.cli; print([n for n in {names} if n in sys.modules])"
    assert run(code) == "[]"


def test_a_call_on_numpy_loads_no_other_library() -> None:
    names = sorted(BACKENDS | PEERS | {"array_api_compat.numpy"})  # which takes 0.1 s
    code = (
        "import sys, numpy, xpmeans; xpmeans.vq.kmeans2(numpy.arange(9.0), 2, rng=0);"
        "xpmeans.kmeans(numpy.zeros((9, 1)), 1, rng=0);"
        f"print([n for n in {names} if n in sys.modules])"
    )
    assert run(code) == "[]"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_sorts_say_whether_they_are_stable(path: Path) -> None:
    """NumPy's are not, unless they are told; those of the standard are."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("xp.sort", "xp.argsort")):
            assert "stable" in {keyword.arg for keyword in node.keywords}, f"{path}:{node.lineno}"
