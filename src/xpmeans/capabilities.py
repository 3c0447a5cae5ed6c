"""The support matrix: what runs where, read once from ``backends_matrix.toml``.

The gate, the tables in the docstrings, the docs, the terminal and the tests all read it from here.
"""

import html
import inspect
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from xpmeans._dispatch import Context

F = TypeVar("F", bound=Callable[..., Any])

# Each library's name for people, and the paths that its row must answer.
LIBRARIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "numpy": ("NumPy", ("cpu",)),
    "cupy": ("CuPy", ("gpu",)),
    "torch": ("PyTorch", ("cpu", "gpu")),
    "jax": ("JAX", ("cpu", "gpu", "jit")),
    "dask": ("Dask", ("cpu", "lazy")),
    "array_api_strict": ("array-api-strict", ("cpu", "gpu")),
}
_HIDDEN = "array_api_strict"  # stands for any standard library in the tests; nobody's data are there
_WARNINGS = {"jit": "no JIT", "lazy": "computes graph"}
_HINTS = {
    ("torch", "gpu"): "move it first, `tensor.cpu()`.",
    ("cupy", "gpu"): "copy it to the host first, `cupy.asnumpy(array)`.",
    ("jax", "gpu"): 'move it first, `jax.device_put(array, jax.devices("cpu")[0])`.',
    (
        "jax",
        "jit",
    ): "call it outside `jax.jit`, `jax.vmap` and `jax.grad`, on concrete arrays.",
    ("array_api_strict", "gpu"): "move it first, `array.to_device(...)`.",
}


# Of our own functions the one that does the same.
_INSTEAD = {"kmeans": "xpmeans.kmeans", "kmeans2": "xpmeans.kmeans", "vq": "xpmeans.assign"}


class UnsupportedBackendError(TypeError):
    """The support matrix says no to this library, device or transformation."""


@dataclass(frozen=True)
class Capabilities:
    """Where one function runs.

    Attributes
    ----------
    function : str
        Name of the function.
    rows : Mapping[str, Mapping[str, bool]]
        For each library the paths it has (``cpu``, ``gpu``, ``jit``, ``lazy``) and whether the function
        runs there, as in ``backends_matrix.toml``.
    """

    function: str
    rows: Mapping[str, Mapping[str, bool]]

    def cells(self, library: str) -> tuple[str, str]:
        """What the table says of a library on the CPU and on the GPU."""
        row = self.rows[library]
        notes = [text for path, text in _WARNINGS.items() if row.get(path) is False]
        yes = f"⚠️ {'; '.join(notes)}" if notes else "✅"
        cpu, gpu = ("n/a" if path not in row else yes if row[path] else "⛔" for path in ("cpu", "gpu"))
        return cpu, gpu

    def table(self) -> list[tuple[str, str, str]]:
        """Rows of the table, as people see them: library, CPU, GPU."""
        return [(LIBRARIES[name][0], *self.cells(name)) for name in self.rows if name != _HIDDEN]

    def allowed(self) -> str:
        """Everything the function takes, as a phrase."""
        phrases = []
        for name, row in self.rows.items():
            places = [text for path, text in (("cpu", "CPU"), ("gpu", "GPU")) if row.get(path)]
            if places and name != _HIDDEN:
                outside = ", outside jit" if row.get("jit") is False else ""
                phrases.append(f"{LIBRARIES[name][0]} ({' and '.join(places)}{outside})")
        return ", ".join(phrases)

    def __repr__(self) -> str:
        return f"{self.function}\n{_rst(self.table())}"

    def _repr_html_(self) -> str:
        head, *body = [("Library", "CPU", "GPU"), *self.table()]
        lines = ["".join(f"<th>{cell}</th>" for cell in head)]
        lines += ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in body]
        rows = "".join(f"<tr>{line}</tr>" for line in lines)
        return f"<table><caption><code>{html.escape(self.function)}</code></caption>{rows}</table>"


def capabilities(function: str) -> Capabilities:
    """Look up where a function of xpmeans runs.

    Parameters
    ----------
    function : str
        Name of a public function: ``"kmeans2"`` and others of `xpmeans.vq` by their names there, those of
        the package itself as ``"xpmeans.kmeans"``.

    Returns
    -------
    Capabilities
        Its table; ``.rows`` holds the same as plain values.

    Raises
    ------
    ValueError
        If the matrix has no function of this name.

    Examples
    --------
    >>> import xpmeans
    >>> dict(xpmeans.capabilities("kmeans2").rows["jax"])
    {'cpu': True, 'gpu': False, 'jit': False}
    """
    try:
        return matrix()[function]
    except KeyError:
        known = ", ".join(matrix())
        raise ValueError(f"`function` must be one of {known}, got {function!r}.") from None


@cache
def matrix() -> dict[str, Capabilities]:
    """All functions of the matrix, in its order."""
    return parse(_path().read_text(encoding="utf-8"))


def parse(text: str) -> dict[str, Capabilities]:
    """Read a matrix, and raise a ValueError that names table and key where it is not complete."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"backends_matrix.toml is not TOML: {error}") from error
    for function, table in tables.items():
        _check_keys(f"[{function}]", table, LIBRARIES)
        for library, row in table.items():
            where = f"[{function}.{library}]"
            _check_keys(where, row, LIBRARIES[library][1])
            for path, value in row.items():
                if not isinstance(value, bool):
                    raise ValueError(
                        f"backends_matrix.toml: {where} `{path}` must be true or false, got {value!r}."
                    )
    return {
        function: Capabilities(
            function, MappingProxyType({library: MappingProxyType(row) for library, row in table.items()})
        )
        for function, table in tables.items()
    }


def _check_keys(where: str, table: Any, expected: Any) -> None:
    """Require a table with exactly the expected keys."""
    if not isinstance(table, dict):
        raise ValueError(f"backends_matrix.toml: {where} must be a table, got {table!r}.")
    for key in expected:
        if key not in table:
            raise ValueError(f"backends_matrix.toml: {where} lacks the key `{key}`.")
    for key in table:
        if key not in expected:
            known = ", ".join(expected)
            raise ValueError(f"backends_matrix.toml: {where} has the unknown key `{key}`, not of {known}.")


def _path() -> Path:
    """The matrix inside an installed package, else at the root of the source tree."""
    package = Path(__file__).parent
    installed = package / "backends_matrix.toml"
    return installed if installed.exists() else package.parents[1] / "backends_matrix.toml"


def gate(function: str, context: "Context") -> None:
    """Let a call pass if the matrix says that the function runs there.

    Raises
    ------
    UnsupportedBackendError
        If it says no, before any work.
    """
    path = "jit" if context.traced else "gpu" if context.on_gpu else "cpu"
    support = capabilities(function)
    if support.rows.get(context.library, {}).get(path, False):
        return
    label = LIBRARIES.get(context.library, (context.library, ()))[0]
    got = f"{label} tracer" if context.traced else f"{label} array"
    place = f' on "{context.device}"' if context.on_gpu and not context.traced else ""
    hint = _HINTS.get((context.library, path), "convert it to an array of one of these libraries.")
    instead = _INSTEAD.get(function)
    if instead is not None and capabilities(instead).rows.get(context.library, {}).get(path, False):
        hint = f"{hint[:-1]}, or call {instead}, which runs there."
    raise UnsupportedBackendError(
        f"`{function}` runs on {support.allowed()} "
        f'(see xpmeans.capabilities("{function}")), got a {got}{place}. Hint: {hint}'
    )


def documented(function: F) -> F:
    """Write the function's table into its docstring, in place of the line ``{support}``."""
    if function.__doc__:  # python -OO strips docstrings
        name = function.__name__
        if function.__module__ == "xpmeans.vq":
            row = name
            note = (
                f"`{name}` takes arrays of other libraries than NumPy, and returns arrays of the\n"
                "same library, when the environment variable ``SCIPY_ARRAY_API=1`` is set or inside\n"
                "``with xpmeans.array_api(True):``. Without, every input is coerced to NumPy. It runs on:"
            )
        else:
            row = f"xpmeans.{name}"
            note = f"`{name}` takes the arrays of these libraries, and returns arrays of the same:"
        note += f"\n\n{_rst(capabilities(row).table())}"
        function.__doc__ = inspect.cleandoc(function.__doc__).replace("{support}", note)
    return function


def _rst(rows: list[tuple[str, str, str]]) -> str:
    """A table in reStructuredText."""
    rule = "  ".join(["=" * 20] * 3)
    lines = [("Library", "CPU", "GPU"), *rows]
    head, *body = ["  ".join(f"{cell:20}" for cell in row).rstrip() for row in lines]
    return "\n".join([rule, head, rule, *body, rule])
