"""What is in the package, and that it is found."""

import importlib.metadata
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import xpmeans
from xpmeans.capabilities import matrix

PACKAGE = Path(xpmeans.__file__).parent
ROOT = Path(__file__).parents[1]


def test_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert xpmeans.__version__ == importlib.metadata.version("xpmeans") == project["version"]


def test_typed() -> None:
    assert (PACKAGE / "py.typed").exists()


def test_runtime_dependencies() -> None:
    requires = importlib.metadata.requires("xpmeans") or []
    plain = {line.partition(">")[0]: ";" in line for line in requires if "extra ==" not in line}
    assert plain == {"numpy": False, "array-api-compat": False, "array-api-extra": False, "numba": True}


def test_extras() -> None:
    extras = importlib.metadata.metadata("xpmeans").get_all("Provides-Extra")
    assert set(extras or []) == {"torch", "jax", "dask", "cupy", "plot", "cli", "test", "docs", "all"}


@pytest.mark.parametrize("layout", ["installed", "source tree"])
def test_the_matrix_is_found(tmp_path: Path, layout: str) -> None:
    """Inside an installed package, and at the root of a source tree; `nox -s wheel` installs for real."""
    package = tmp_path / ("xpmeans" if layout == "installed" else "src/xpmeans")
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("*.toml", "__pycache__"))
    shutil.copy(ROOT / "backends_matrix.toml", package if layout == "installed" else tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(package.parent)!r}); from xpmeans.capabilities import matrix\n"
    )
    code += "import xpmeans; print(xpmeans.__file__, *matrix())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == [str(package / "__init__.py"), *matrix()]
