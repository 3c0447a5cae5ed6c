"""The command line: ``xpmeans backends`` and ``xpmeans quantize``.

What a user can get wrong ends in one line on stderr and exit code 2.
"""

import argparse
import importlib
import os
import platform
import shutil
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import numpy as np

import xpmeans
from xpmeans._kernels import compiler_found
from xpmeans.capabilities import LIBRARIES, matrix
from xpmeans.vq import kmeans2

if TYPE_CHECKING:
    from PIL.Image import Image

# Where each library's `asarray` and `__array_namespace_info__` live.
_NAMESPACES = {
    "numpy": "numpy",
    "cupy": "array_api_compat.cupy",
    "torch": "array_api_compat.torch",
    "jax": "jax.numpy",
    "dask": "array_api_compat.dask.array",
}
_BACKENDS = (
    "numpy",
    "torch",
    "jax",
    "dask",
)  # `kmeans2` runs on the CPU, where CuPy has no arrays
_INSTALL = {"dask": '"dask[array]"'}
_NO_PLACE = {
    "None",
    "meta",
    "DASK_DEVICE",
}  # what the libraries list among their devices
_ASCII = str.maketrans({"✅": "yes", "⛔": "no", "⚠": "yes,", "\ufe0f": None})  # without Unicode

# Pixels times colours times iterations from which on progress is shown: a few seconds on NumPy.
_LONG = 5e8


class CommandError(Exception):
    """What went wrong, in one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CommandError(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the program's name; those of the process when left out.

    Returns
    -------
    int
        Exit code: 0, 2 for what the user can mend (one line on stderr says it) and when nobody reads what is
        printed, or 130 when stopped from the keyboard.
    """
    if sys.stdout is None:  # closed by the caller
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    try:
        arguments = _parser().parse_args(argv)
        arguments.run(arguments)
        sys.stdout.flush()
    except OSError as error:  # of the terminal; those of files are mended where they arise
        with open(os.devnull, "w") as nowhere:  # or Python tries once more when it ends
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # a reader may have seen enough: `xpmeans backends | head`
            print(f"xpmeans: error: cannot print: {_line(error)}", file=sys.stderr)
        return 2
    except CommandError as error:
        print(f"xpmeans: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("xpmeans: stopped", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="xpmeans",
        description="K-means and vector quantization for every array library.",
    )
    parser.add_argument("--version", action="version", version=f"xpmeans {xpmeans.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    text = "show what runs where, and which array libraries are installed here"
    backends = commands.add_parser("backends", help=text, description=text)
    backends.set_defaults(run=_backends)

    text = "reduce a picture to a few colours: kmeans2 finds them, every pixel gets the nearest"
    quantize = commands.add_parser("quantize", help=text, description=text)
    quantize.set_defaults(run=_quantize)
    quantize.add_argument(
        "input",
        metavar="IN",
        type=Path,
        help="a picture; what is transparent becomes white",
    )
    quantize.add_argument("output", metavar="OUT.png", type=Path, help="the palette PNG to write")
    quantize.add_argument("--backend", choices=_BACKENDS, default="numpy", help="default: numpy")
    for option, letter, rule, default, text in (
        ("--colors", "K", _whole(1, 256), 16, "1 to 256 (default: 16)"),
        ("--iterations", "N", _whole(1), 10, "of kmeans2 (default: 10)"),
        (
            "--seed",
            "S",
            _whole(0),
            0,
            "for the choice of the first colours (default: 0)",
        ),
    ):
        quantize.add_argument(option, metavar=letter, type=rule, default=default, help=text)
    return parser


def _whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """Make a parser of whole numbers in a range."""
    rule = f"at least {low}" if high is None else f"between {low} and {high}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"must be a whole number {rule}, got {text!r}")
        return value

    return parse


def _backends(_: argparse.Namespace) -> None:
    """Print the support matrix, functions with the same table together, and what is installed."""
    tables: dict[tuple[tuple[str, str, str], ...], list[str]] = {}
    for function, support in matrix().items():
        tables.setdefault(tuple(support.table()), []).append(function)
    for rows, functions in tables.items():
        print(f"{', '.join(functions)}\n")
        _print_table([("Library", "CPU", "GPU"), *rows])
    print(f"Installed here (xpmeans {xpmeans.__version__}, Python {platform.python_version()})\n")
    _print_table([("Library", "Version", "Devices"), *map(_installed, _NAMESPACES)])
    if compiler_found():
        print(f"\nArrays in host memory: compiled kernel, by Numba {metadata.version('numba')}")
    else:
        print(
            "\nArrays in host memory: reference kernel, since Numba is not installed. "
            "Hint: python -m pip install numba makes it several times faster."
        )


def _installed(library: str) -> tuple[str, str, str]:
    """A library's name, version and devices, or why there are none."""
    label = LIBRARIES[library][0]
    try:
        xp = _namespace(library)
        version = str(importlib.import_module(library).__version__)
    except CommandError as error:
        return label, str(error).removeprefix(f"{label} is ").partition(". Hint")[0], ""
    try:
        with warnings.catch_warnings(action="ignore"):  # torch deprecates devices while they are tried
            devices = map(str, xp.__array_namespace_info__().devices())
        return (
            label,
            version,
            ", ".join(device for device in devices if device not in _NO_PLACE),
        )
    except Exception as error:  # noqa: BLE001  a driver can raise anything
        return label, version, f"none: {_line(error)}"


def _namespace(library: str) -> Any:
    """A library, imported when it is asked for."""
    label = LIBRARIES[library][0]
    try:
        return importlib.import_module(_NAMESPACES[library])
    except Exception as error:  # a broken installation can raise anything
        if isinstance(error, ModuleNotFoundError) and error.name == library:
            hint = f"python -m pip install {_INSTALL.get(library, library)}"
            raise CommandError(f"{label} is not installed. Hint: {hint}") from error
        raise CommandError(f"{label} is broken: {_line(error)}") from error


def _print_table(rows: list[tuple[str, str, str]]) -> None:
    """Print columns of equal width, and an empty line."""
    signs = {} if (sys.stdout.encoding or "").lower().startswith("utf") else _ASCII
    cells = [[cell.translate(signs) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        line = "  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True))
        print(f"  {line}".rstrip())
    print()


def _width(text: str) -> int:
    """How many cells of a terminal a text takes; a variation selector makes the sign before it an emoji."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def _line(error: BaseException) -> str:
    """An exception in one line."""
    text = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0]
    return text or type(error).__name__


def _quantize(arguments: argparse.Namespace) -> None:
    """Read, cluster, write; everything that can be refused is refused before the long work."""
    xp = _namespace(arguments.backend)
    pillow = _pillow("PIL.Image")
    output: Path = arguments.output
    if output.suffix.lower() != ".png":
        raise CommandError(f"OUT.png must end in .png, got '{output}'")
    if output.is_dir():
        raise CommandError(f"cannot write '{output}': it is a folder")
    picture = np.asarray(_read(arguments.input))
    with _replacing(output) as file:
        palette, labels = _code_book(xp, picture, arguments)
        result = pillow.fromarray(labels)
        result.putpalette(palette.tobytes())
        result.save(file, "PNG", optimize=True)
    height, width = labels.shape
    print(f"{output}: {width} x {height} pixels, colours: {len(palette)}")


def _pillow(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise CommandError("Pillow is not installed. Hint: python -m pip install pillow") from error


def _read(path: Path) -> "Image":
    """A picture in 8-bit RGB."""
    pillow = _pillow("PIL.Image")
    try:
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"):
            try:
                return _rgb(pillow.open(file))
            except pillow.UnidentifiedImageError as error:
                raise CommandError(f"'{path}' is not a picture that Pillow can read") from error
            except Exception as error:  # a damaged file can raise anything
                raise CommandError(f"cannot use '{path}': {_line(error)}") from error
    except OSError as error:
        raise CommandError(f"cannot read '{path}': {_line(error)}") from error


def _rgb(picture: "Image") -> "Image":
    """A picture the right way up, 16-bit greys scaled to 8 bits, and what is transparent on white."""
    pillow = _pillow("PIL.Image")
    upright: Image = _pillow("PIL.ImageOps").exif_transpose(picture)
    if upright.mode == "F":
        raise ValueError("its pixels are floating-point. Hint: convert it to 8 or 16 bits first")
    if upright.mode.startswith("I"):  # `convert` would clip at 255
        upright = pillow.fromarray((np.asarray(upright).clip(0, 65535) // 257).astype("uint8"))
    elif upright.has_transparency_data:
        layer = upright.convert("RGBA")
        upright = pillow.alpha_composite(pillow.new("RGBA", layer.size, "white"), layer)
    return upright.convert("RGB")


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block is done, and leaves nothing if it fails."""
    try:
        target = path.resolve()  # the file that a link names, not the link
        part = target.with_name(f".{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                if target.exists():
                    shutil.copymode(target, part)  # who may read it stays as it was
                yield file
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # a link that leads to itself is a RuntimeError
        raise CommandError(f"cannot write '{path}': {_line(error)}") from error


def _code_book(xp: Any, picture: Any, arguments: argparse.Namespace) -> tuple[Any, Any]:
    """The palette, (k, 3) uint8, and the place in it of each pixel, (height, width) uint8."""
    pixels = picture.reshape(-1, 3)
    # JAX would put them on a GPU where it finds one, and has no device called "cpu".
    cpu = importlib.import_module("jax").devices("cpu")[0] if arguments.backend == "jax" else "cpu"
    data = xp.asarray(pixels.astype("float32"), device=cpu)
    colors, firsts = np.unique(pixels.astype("uint32") @ [65536, 256, 1], return_index=True)
    # An empty cluster is no news here: its colour leaves the palette.
    with (
        xpmeans.array_api(True),
        warnings.catch_warnings(action="ignore", category=UserWarning),
    ):
        palette = pixels[firsts] if len(colors) <= arguments.colors else _cluster(data, arguments)
        # The labels of one iteration are nearest to the colours it starts from: the rounded ones.
        start = xp.asarray(palette.astype("float32"), device=cpu)
        _, labels = kmeans2(data, start, iter=1, minit="matrix")
    used, places = np.unique(np.asarray(labels), return_inverse=True)
    return palette[used], places.astype("uint8").reshape(picture.shape[:2])


def _cluster(data: Any, arguments: argparse.Namespace) -> Any:
    """Colours found by `kmeans2`, in one call or, for long work, in one call per iteration."""
    n_iter = arguments.iterations
    is_long = data.shape[0] * arguments.colors * n_iter > _LONG
    step = 1 if is_long else n_iter
    with _progress(n_iter) if is_long else nullcontext(lambda _: None) as report:
        book, _ = kmeans2(data, arguments.colors, iter=step, minit="++", rng=arguments.seed)
        report(step)
        for done in range(step, n_iter, step):
            book, _ = kmeans2(data, book, iter=step, minit="matrix")
            report(done + step)
    return np.unique(np.rint(np.asarray(book)).astype("uint8"), axis=0)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show finished iterations on stderr: a bar in a terminal if Rich is installed, else lines."""
    rich = None
    if sys.stderr.isatty():
        with suppress(ImportError):
            rich = importlib.import_module("rich.progress")
    if rich is None:
        yield lambda done: print(f"xpmeans: iteration {done} of {total}", file=sys.stderr)
        return
    console = importlib.import_module("rich.console").Console(stderr=True)
    with rich.Progress(console=console, transient=True) as bar:
        task = bar.add_task("iterations", total=total)
        yield lambda done: bar.update(task, completed=done)
