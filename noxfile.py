"""`nox` runs every check; `nox -s NAME` one of them; `nox -l` lists them."""

import os
import shutil
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "venv"
nox.options.sessions = [
    "lint",
    "types",
    "tests-numpy",
    "tests-torch",
    "tests-jax",
    "tests-dask",
    "tests-strict",
    "tests-all",
    "tests-no-compiler",
    "scipy-suite",
    "sklearn-suite",
    "wheel",
    "docs",
    "demo",
]

# This exact version is the CPU build; any other pulls gigabytes of CUDA. It must be there before
# whatever depends on torch.
TORCH = "torch==2.13.0"
REQUIREMENTS = {
    "numpy": [],
    "torch": [TORCH],
    "jax": ["jax"],
    "dask": ["dask[array,distributed]"],
    "array_api_strict": ["array-api-strict"],
    "cupy": ["cupy-cuda13x"],
}
CPU = ["numpy", "torch", "jax", "dask", "array_api_strict"]


def install(session: nox.Session, libraries: list[str], *what: str) -> None:
    """Install array libraries, one after the other, and then the package or other things."""
    for library in libraries:
        if REQUIREMENTS[library]:
            session.install(*REQUIREMENTS[library])
    session.install(*what)


def run_tests(session: nox.Session, libraries: list[str], **env: str) -> None:
    """Run the tests on these libraries, all of which must be there."""
    env = {"XPMEANS_TEST_LIBRARIES": ",".join(libraries), **env}
    session.run("pytest", "-n", "2", "--dist", "worksteal", *session.posargs, env=env)


def test_session(name: str, libraries: list[str]) -> None:
    """Define a session that installs and tests some libraries."""

    @nox.session(name=name)
    def session_function(session: nox.Session) -> None:
        install(session, libraries, "-e", ".[test]")
        run_tests(session, libraries)


test_session("tests-numpy", ["numpy"])
test_session("tests-torch", ["torch"])
test_session("tests-dask", ["dask"])
test_session("tests-strict", ["array_api_strict"])
test_session("tests-cupy", ["cupy"])


@nox.session(name="tests-no-compiler")
def tests_no_compiler(session: nox.Session) -> None:
    """Where Numba is missing the reference kernel serves every call."""
    install(session, ["torch"], "-e", ".[test]")
    session.run("python", "-m", "pip", "uninstall", "-y", "numba", "llvmlite")
    run_tests(session, ["numpy", "torch"])


@nox.session(name="tests-jax")
def tests_jax(session: nox.Session) -> None:
    """In JAX's default mode, without float64; `tests-all` has it with."""
    install(session, ["jax"], "-e", ".[test]")
    run_tests(session, ["jax"], JAX_ENABLE_X64="0")


@nox.session(name="tests-all")
def tests_all(session: nox.Session) -> None:
    """All libraries in one environment, where they could get in each other's way; and the examples."""
    install(session, CPU, "-e", ".[test]")
    run_tests(session, CPU, JAX_ENABLE_X64="1")
    session.run("pytest", "--doctest-modules", "src", "tests/test_cli.py::test_readme_examples")


def run_their_suite(
    session: nox.Session, plugin: str, at_least: int, *arguments: str, **env: str | None
) -> None:
    """Run a test module of another project on ours, which `plugin` puts in place of theirs.

    Away from this project's conftest.py and its settings, which refuse marks that they do not know. The other
    project lies in .nox, so pytest would find the settings upwards of it.
    """
    settings = ("-c", os.devnull, "--rootdir", ".", "-p", "no:cacheprovider", "-p", plugin, "-p", "at_least")
    quiet = ("-W", "ignore::pytest.PytestUnknownMarkWarning")
    plugins = str(Path(session.invoked_from, "tests"))
    with session.chdir(session.create_tmp()):
        session.run(
            *("pytest", *settings, *quiet, "--at-least", str(at_least), *arguments),
            env={"PYTHONPATH": plugins, **env},
        )


@nox.session(name="scipy-suite")
def scipy_suite(session: nox.Session) -> None:
    """SciPy's own tests of `scipy.cluster.vq`, on our functions, with the switch off and on."""
    install(session, CPU, "-e", ".[test]")
    module = ("--pyargs", "scipy.cluster.tests.test_vq")
    run_their_suite(session, "scipy_swap", 33, *module, SCIPY_ARRAY_API=None)
    run_their_suite(session, "scipy_swap", 131, *module, SCIPY_ARRAY_API="1")


@nox.session(name="sklearn-suite")
def sklearn_suite(session: nox.Session) -> None:
    """scikit-learn's own tests of k-means, on our estimators, for all its seeds."""
    session.install("-e", ".[test]", "scikit-learn==1.9.1")
    seeds = {"SKLEARN_RUN_FLOAT32_TESTS": "1", "SKLEARN_TESTS_GLOBAL_RANDOM_SEED": "all"}
    module = ("--pyargs", "sklearn.cluster.tests.test_k_means")
    run_their_suite(session, "sklearn_swap", 5274, "-n", "2", *module, **seeds)


@nox.session
def scale(session: nox.Session) -> None:
    """Dask at its size: 60 million points in workers of 1 GiB, 10,000 blocks, dask-ml.

    It takes 20 minutes and 4 GB of disk.
    """
    install(session, ["dask"], "zarr>=3", "dask-ml", "-e", ".")
    options = session.posargs or ["--output", "benchmarks/results/dask.md"]
    session.run("python", "-m", "benchmarks.out_of_core", *options)


@nox.session
def bench(session: nox.Session) -> None:
    """Ours beside its peers, and beside itself; tables and plots go to benchmarks/results/.

    It takes half an hour, on a machine that should do nothing else.
    """
    peers = ("faiss-cpu", "scikit-learn>=1.9", "scipy==1.17.1")
    install(session, ["torch", "jax", "dask"], *peers, "-e", ".[plot]")
    for module, name in (
        ("benchmarks", "exact"),
        ("benchmarks.paths", "paths"),
        ("benchmarks.scaling", "scaling"),
        ("benchmarks.first_call", "first_call"),
        ("benchmarks.sums", "sums"),
        ("benchmarks.against_scipy", "kmeans2-against-scipy"),
    ):
        session.run("python", "-m", module, "--output", f"benchmarks/results/{name}.md")


@nox.session
def lint(session: nox.Session) -> None:
    session.install("ruff==0.17.6")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    install(session, ["torch", "jax"], "mypy==2.4.1", "scikit-learn", "-e", ".[cli]")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation and run its examples; a warning is an error."""
    install(session, ["torch", "jax", "dask"], "-e", ".[docs]")
    for builder in ("html", "doctest"):
        session.run("sphinx-build", "-W", "--keep-going", "-b", builder, "docs", f"docs/_build/{builder}")


@nox.session
def wheel(session: nox.Session) -> None:
    """Install the wheel, the sdist and the source tree, each with NumPy alone, and cluster something."""
    session.install("build")
    out = Path(session.create_tmp()).resolve() / "dist"
    shutil.rmtree(out, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(out))  # the wheel is built from the sdist
    check = Path("tests/check_installed.py").resolve()
    for what in (next(out.glob("*.whl")), next(out.glob("*.tar.gz")), "-e ."):
        environment = out.parent / "environment"
        shutil.rmtree(environment, ignore_errors=True)
        session.run(sys.executable, "-m", "venv", str(environment), external=True)
        python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
        session.run(str(python), "-m", "pip", "install", "-q", *str(what).split(), external=True)
        with session.chdir(out.parent):
            session.run(str(python), str(check), external=True)


@nox.session
def demo(session: nox.Session) -> None:
    """Quantize a real photograph on every library; the picture is the README's."""
    install(session, ["torch", "jax", "dask"], "scikit-learn", "-e", ".[cli]")
    session.run("python", "examples/quantize_photo.py", *session.posargs)
