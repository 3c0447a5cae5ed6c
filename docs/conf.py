"""Sphinx configuration. Everything that the pages show is made here, from the package itself."""

import os
import runpy
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
# Before JAX starts: the pages compare libraries in float64.
os.environ["JAX_ENABLE_X64"] = "1"
os.environ.pop("SCIPY_ARRAY_API", None)

import xpmeans  # noqa: E402

project = "xpmeans"
author = "the xpmeans developers"
copyright = "2026, the xpmeans developers"
release = version = xpmeans.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.doctest", "numpydoc", "myst_parser", "support_matrix"]
exclude_patterns = ["_build"]
nitpicky = False
numpydoc_show_class_members = False
autodoc_typehints = "none"  # the numpydoc sections say more than `Any`
html_theme = "furo"
html_title = "xpmeans"
html_static_path = ["_static"]
doctest_test_doctest_blocks = "default"
trim_doctest_flags = True


def draw_examples(_: Any) -> None:
    """Run the examples that write the pages' pictures."""
    for name in ("example.py", "elbow.py"):
        runpy.run_path(str(HERE / name), run_name="__main__")


def setup(app: Any) -> None:
    app.connect("builder-inited", draw_examples)
