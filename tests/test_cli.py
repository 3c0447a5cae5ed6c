"""The command line: what it prints, what it writes, and one line for whatever goes wrong."""

import doctest
import importlib
import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import xpmeans
from xpmeans import cli
from xpmeans.capabilities import LIBRARIES, matrix

Image = pytest.importorskip("PIL.Image")

ROOT = Path(__file__).parents[1]
HERE = [library for library in cli._BACKENDS if importlib.util.find_spec(library)]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A smooth picture with noise, of about 1,500 different colours."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:36, :48]
    levels = np.stack([rows * 7, columns * 5, 255 - rows * 3 - columns * 2], axis=2)
    path = tmp_path / "in.png"
    Image.fromarray((levels + rng.integers(-9, 10, levels.shape)).clip(0, 255).astype("uint8")).save(path)
    return path


def quantize(source: Path, *options: str) -> Any:
    """Run the command, and read what it wrote."""
    target = source.with_name("out.png")
    assert cli.main(["quantize", str(source), str(target), *options]) == 0
    with Image.open(target) as picture:
        picture.load()
        return picture


def rgb(picture: Any) -> Any:
    return np.asarray(picture.convert("RGB")).astype(int)


def colors(picture: Any) -> Any:
    return np.unique(rgb(picture).reshape(-1, 3), axis=0)


def fails(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run a command that must end in exit code 2 and one line on stderr; the line."""
    assert cli.main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("xpmeans: error: ")
    assert err.count("\n") == 1
    return err


# quantize


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("count", [1, 2, 16, 256])
def test_every_pixel_gets_its_nearest_color_of_the_palette(photo: Path, backend: str, count: int) -> None:
    result = quantize(photo, "--colors", str(count), "--backend", backend)
    palette = colors(result)
    assert (result.format, result.mode, result.size) == ("PNG", "P", (48, 36))
    assert count / 2 <= len(palette) <= count
    original, chosen = rgb(Image.open(photo)), rgb(result)
    nearest = ((original[:, :, None] - palette) ** 2).sum(axis=3).min(axis=2)
    np.testing.assert_array_equal(((original - chosen) ** 2).sum(axis=2), nearest)


@pytest.mark.parametrize("backend", HERE)
def test_every_backend_gives_the_picture_that_numpy_gives(photo: Path, backend: str) -> None:
    expected = quantize(photo)
    result = quantize(photo, "--backend", backend)
    np.testing.assert_array_equal(rgb(result), rgb(expected))


def test_more_colors_and_more_iterations_come_nearer(photo: Path) -> None:
    def distortion(*options: str) -> float:
        return float(((rgb(quantize(photo, *options)) - rgb(Image.open(photo))) ** 2).mean())

    assert distortion("--colors", "32") < distortion("--colors", "8") < distortion("--colors", "2")
    assert distortion("--iterations", "20") < distortion("--iterations", "1")


def test_seed_chooses_the_first_colors(photo: Path) -> None:
    first, again, other = (colors(quantize(photo, "--seed", seed)).tolist() for seed in ("3", "3", "4"))
    assert first == again != other


@pytest.mark.parametrize("backend", HERE)
def test_picture_of_fewer_colors_stays_as_it_is(tmp_path: Path, backend: str, capfd: Any) -> None:
    levels = np.array([[[255, 0, 0], [0, 0, 255], [1, 2, 3]]] * 2, dtype="uint8")
    Image.fromarray(levels).save(tmp_path / "in.png")
    result = quantize(tmp_path / "in.png", "--backend", backend)
    np.testing.assert_array_equal(rgb(result), levels)
    assert len(result.getpalette()) == 9
    assert capfd.readouterr().err == ""


def test_summary_names_file_size_and_colors(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quantize(photo, "--colors", "4")
    assert capsys.readouterr() == (
        f"{photo.with_name('out.png')}: 48 x 36 pixels, colours: 4\n",
        "",
    )


def test_a_link_stays_a_link(photo: Path) -> None:
    link, target = photo.with_name("link.png"), photo.with_name("target.png")
    target.touch()
    link.symlink_to(target)
    assert cli.main(["quantize", str(photo), str(link), "--colors", "3"]) == 0
    assert link.is_symlink()
    assert target.stat().st_size > 0


def test_permissions_stay(photo: Path) -> None:
    private = photo.with_name("private.png")
    private.touch(mode=0o600)
    assert cli.main(["quantize", str(photo), str(private), "--colors", "3"]) == 0
    assert private.stat().st_mode & 0o777 == 0o600


def test_a_link_to_itself_is_one_line(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loop = photo.with_name("loop.png")
    loop.symlink_to(loop)
    assert cli.main(["quantize", str(photo), str(loop), "--colors", "3"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_closed_output_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["backends"]) == 0


def test_what_is_transparent_becomes_white(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "in.png")
    assert colors(quantize(tmp_path / "in.png")).tolist() == [[255, 255, 255]]


def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype="uint16")).save(tmp_path / "in.png")
    np.testing.assert_array_equal(rgb(quantize(tmp_path / "in.png"))[0, :, 0], [0, 1, 128, 255])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "YCbCr", "RGBA", "I", "I;16", "LAB"])
def test_any_kind_of_pixels(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (5, 4)).save(tmp_path / "in.tif")
    assert quantize(tmp_path / "in.tif").size == (5, 4)


def test_picture_taken_sideways_is_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: turn by 90 degrees to look at it
    Image.new("RGB", (6, 4)).save(tmp_path / "in.jpg", exif=exif)
    assert quantize(tmp_path / "in.jpg").size == (4, 6)


# progress


def test_long_work_counts_iterations_and_gives_the_same(
    photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = rgb(quantize(photo, "--iterations", "3"))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(cli, "_LONG", 0)
    np.testing.assert_array_equal(rgb(quantize(photo, "--iterations", "3")), expected)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"xpmeans: iteration {done} of 3" for done in (1, 2, 3)]


@pytest.mark.parametrize("rich", [True, False])
def test_terminal_gets_a_bar_if_rich_is_installed(
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rich: bool,
) -> None:
    if rich:
        pytest.importorskip("rich")
    else:
        monkeypatch.setitem(sys.modules, "rich.progress", None)
    monkeypatch.setattr(cli, "_LONG", 0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    quantize(photo, "--iterations", "2")
    assert ("xpmeans: iteration 2 of 2" in capsys.readouterr().err) is not rich


# what goes wrong


@pytest.mark.parametrize("value", ["0", "-3", "257", "many", "2.5", ""])
def test_number_of_colors_out_of_range(photo: Path, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = fails(capsys, "quantize", photo, photo.with_name("out.png"), f"--colors={value}")
    assert f"argument --colors: must be a whole number between 1 and 256, got '{value}'" in message
    assert not photo.with_name("out.png").exists()


@pytest.mark.parametrize(("option", "low"), [("--iterations", 1), ("--seed", 0)])
def test_other_numbers_out_of_range(
    photo: Path, option: str, low: int, capsys: pytest.CaptureFixture[str]
) -> None:
    message = fails(capsys, "quantize", photo, "out.png", option, str(low - 1))
    assert f"argument {option}: must be a whole number at least {low}, got '{low - 1}'" in message


def test_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = fails(capsys, "quantize", tmp_path / "none.jpg", tmp_path / "out.png")
    assert f"cannot read '{tmp_path / 'none.jpg'}': No such file or directory" in message
    assert "cannot read" in fails(capsys, "quantize", tmp_path, tmp_path / "out.png")


def test_file_that_is_no_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.jpg").write_text("no picture")
    message = fails(capsys, "quantize", tmp_path / "in.jpg", tmp_path / "out.png")
    assert f"'{tmp_path / 'in.jpg'}' is not a picture that Pillow can read" in message


def test_picture_cut_short(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo.write_bytes(photo.read_bytes()[:1000])
    assert f"cannot use '{photo}': " in fails(capsys, "quantize", photo, photo.with_name("out.png"))


def test_picture_too_large_for_pillow(
    photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    message = fails(capsys, "quantize", photo, photo.with_name("out.png"))
    assert f"cannot use '{photo}': Image size (1728 pixels) exceeds limit" in message


def test_floating_point_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("F", (3, 3)).save(tmp_path / "in.tif")
    message = fails(capsys, "quantize", tmp_path / "in.tif", tmp_path / "out.png")
    assert "its pixels are floating-point. Hint: convert it to 8 or 16 bits first" in message


@pytest.mark.parametrize("library", [library for library in cli._BACKENDS if library != "numpy"])
def test_library_that_is_not_installed(
    photo: Path,
    library: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(importlib, "import_module", absent(library))
    message = fails(capsys, "quantize", photo, photo.with_name("out.png"), "--backend", library)
    assert f"{LIBRARIES[library][0]} is not installed. Hint: python -m pip install " in message
    assert library in message


def test_library_that_is_broken(
    photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib, "import_module", broken("torch"))
    message = fails(capsys, "quantize", photo, photo.with_name("out.png"), "--backend", "torch")
    assert "PyTorch is broken: libtorch.so: cannot open" in message


def test_unknown_library(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = fails(capsys, "quantize", photo, photo.with_name("out.png"), "--backend", "tensorflow")
    assert "argument --backend: invalid choice: 'tensorflow'" in message


def test_pillow_that_is_not_installed(
    photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    message = fails(capsys, "quantize", photo, photo.with_name("out.png"))
    assert "Pillow is not installed. Hint: python -m pip install pillow" in message


def test_output_that_cannot_be_written(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = photo.with_name("absent") / "out.png"
    assert f"cannot write '{absent}': No such file" in fails(capsys, "quantize", photo, absent)
    inside_a_file = photo / "out.png"
    assert f"cannot write '{inside_a_file}': Not a directory" in fails(
        capsys, "quantize", photo, inside_a_file
    )
    folder = photo.with_name("folder.png")
    folder.mkdir()
    assert f"cannot write '{folder}': it is a folder" in fails(capsys, "quantize", photo, folder)
    jpeg = photo.with_name("out.jpg")
    assert f"OUT.png must end in .png, got '{jpeg}'" in fails(capsys, "quantize", photo, jpeg)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_folder_without_permission(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo.parent.chmod(0o500)
    message = fails(capsys, "quantize", photo, photo.with_name("out.png"))
    photo.parent.chmod(0o700)
    assert "Permission denied" in message


@pytest.mark.parametrize(
    ("error", "code"),
    [(OSError(28, "No space left on device"), 2), (KeyboardInterrupt(), 130)],
)
def test_nothing_half_written_takes_the_place_of_the_output(
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
) -> None:
    def save(picture: Any, file: Any, *_: Any, **__: Any) -> None:
        file.write(b"half")
        raise error

    target = photo.with_name("out.png")
    target.write_text("as before")
    monkeypatch.setattr(Image.Image, "save", save)
    assert cli.main(["quantize", str(photo), str(target)]) == code
    assert target.read_text() == "as before"
    assert sorted(path.name for path in photo.parent.iterdir()) == ["in.png", "out.png"]
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["compress"], ["quantize"], ["backends", "--all"]])
def test_wrong_command_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, *arguments)


# backends


def absent(*libraries: str) -> Any:
    """`import_module` where these libraries are not installed."""

    def import_module(name: str) -> Any:
        for library in libraries:
            if library in name.split("."):
                raise ModuleNotFoundError(f"No module named {library!r}", name=library)
        return importlib.__import__(name, fromlist=["_"])

    return import_module


def broken(library: str) -> Any:
    """`import_module` where a library's import fails half way."""

    def import_module(name: str) -> Any:
        if library in name.split("."):
            raise OSError(f"lib{library}.so: cannot open shared object file\nand more")
        return importlib.__import__(name, fromlist=["_"])

    return import_module


def test_backends_shows_the_matrix(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["backends"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for function, support in matrix().items():
        heading = next(line for line in out.splitlines() if function in line.split(", "))
        section = out[out.index(heading) :].split("\n\n")[1].splitlines()
        assert [line.split(maxsplit=1)[0] for line in section[1:]] == [row[0] for row in support.table()]
        for line, row in zip(section[1:], support.table(), strict=True):
            assert line.split() == " ".join(row).split()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_nowhere_to_print() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "xpmeans", "backends"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr == "xpmeans: error: cannot print: No space left on device\n"


def test_a_reader_who_has_seen_enough() -> None:
    code = "import time; time.sleep(1); from xpmeans import cli; raise SystemExit(cli.main(['backends']))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


def test_backends_aligns_columns_in_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cli.main(["backends"])
    section = capsys.readouterr().out.split("kmeans2\n\n")[1].split("\n\n")[0].splitlines()
    starts = {
        cli._width(line[: max(line.rfind("GPU"), line.rfind("n/a"), line.rfind("⛔"))]) for line in section
    }
    assert len(starts) == 1


def test_backends_shows_what_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["backends"])
    rows = capsys.readouterr().out.split("Installed here")[1].splitlines()[3:8]
    shown = {row.split()[0]: row.split()[1:] for row in rows}
    for library in cli._NAMESPACES:
        label = LIBRARIES[library][0]
        if importlib.util.find_spec(library):
            assert shown[label][0] == importlib.import_module(library).__version__
            assert any(place in shown[label][1].lower() for place in ("cpu", "cuda"))
        else:
            assert shown[label] == ["not", "installed"]


def test_backends_gives_a_line_to_what_is_missing_or_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib, "import_module", absent("torch", "jax"))
    assert cli.main(["backends"]) == 0
    out, err = capsys.readouterr()
    assert "  PyTorch  not installed\n" in out
    assert err == ""
    monkeypatch.setattr(importlib, "import_module", broken("dask"))
    assert cli.main(["backends"]) == 0
    assert "broken: libdask.so: cannot open shared object file\n" in capsys.readouterr().out


def test_backends_gives_a_line_to_a_driver_that_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def devices() -> Any:
        raise RuntimeError("CUDA driver version is insufficient")

    info = SimpleNamespace(devices=devices)
    fake = SimpleNamespace(__version__="13.4", __array_namespace_info__=lambda: info)
    monkeypatch.setattr(importlib, "import_module", lambda name: fake)
    assert cli.main(["backends"]) == 0
    assert "CuPy     13.4     none: CUDA driver version is insufficient\n" in capsys.readouterr().out


def test_backends_on_a_terminal_without_unicode() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "xpmeans", "backends"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "JAX      yes, no JIT" in result.stdout


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"xpmeans {xpmeans.__version__}\n"


def test_starting_the_command_line_loads_no_array_library() -> None:
    code = "import sys, xpmeans.cli; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"PIL", "rich", *LIBRARIES} & set(result.stdout.split()) == {"numpy"}


# what is shown elsewhere


def test_readme_has_the_support_tables() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tables = {name: support.table() for name, support in matrix().items()}
    assert tables["vq"] == tables["kmeans"] == tables["kmeans2"]
    assert tables["xpmeans.kmeans"] == tables["xpmeans.kmeans_plusplus"]
    apart = set(tables["xpmeans.assign"]) - set(tables["xpmeans.kmeans"])
    assert apart == {("Dask", "✅", "n/a")}
    assert "On Dask `assign` computes nothing" in readme
    for rows in zip(tables["xpmeans.kmeans"], tables["kmeans2"], tables["whiten"], strict=True):
        assert f"| {' | '.join(rows[0] + rows[1][1:] + rows[2][1:])} |\n" in readme


def test_readme_examples() -> None:
    pytest.importorskip("torch")
    jax = pytest.importorskip("jax")
    if jax.config.jax_enable_x64:
        pytest.skip("the examples show JAX's default dtypes")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    examples = doctest.DocTestParser().get_doctest("".join(blocks), {}, "README.md", None, 0)
    assert len(examples.examples) > 5
    assert doctest.DocTestRunner().run(examples).failed == 0


def test_example_of_scipy_agrees_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("scipy")
    runpy.run_path(str(ROOT / "examples" / "scipy_drop_in.py"), run_name="__main__")
    assert capsys.readouterr().out.count("same labels and centroids as SciPy's") == len(HERE)
