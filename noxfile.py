"""Sessions that developers and CI share: ``nox`` runs lint, types and all tests; ``nox -l`` lists the rest."""

from collections.abc import Sequence

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "virtualenv"  # has pip, which sample_models/fetch.py calls
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True


def install(session: nox.Session, *what: str) -> None:
    session.install("-c", "constraints.txt", *what)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff: style, imports, formatting."""
    install(session, "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict over the package."""
    install(session, "-e", ".", "mypy", "types-PyYAML")
    session.run("mypy")


def run_tests(
    session: nox.Session,
    *options: str,
    which: str = "not gpu and not thorough",
    group: str = "test",
    success_codes: Sequence[int] = (0,),
) -> None:
    """Run pytest with ``options`` over the tests ``which`` names by their marks, or with the session's own arguments.

    Each process gets half of the modules and takes over what the other has left, so that what a module's tests share
    is made once, and neither waits at the end.
    """
    install(session, "-e", ".[all,tensorrt-rtx]", *nox.project.dependency_groups(nox.project.load_toml(), group))
    session.run("python", "sample_models/fetch.py")
    chosen = session.posargs or ["-n", "2", "--dist", "worksteal", "--durations=25"]
    session.run("pytest", "-m", which, *options, *chosen, success_codes=success_codes)


@nox.session
def tests(session: nox.Session) -> None:
    """The tests, the slow ones included: at most 12 minutes on two idle cores. ``nox -s tests -- -k name`` chooses."""
    run_tests(session)


@nox.session
def thorough(session: nox.Session) -> None:
    """The tests that are long and say little more than their siblings: other recipes, models, precisions."""
    run_tests(session, which="thorough")


@nox.session(python="3.12")
def python312(session: nox.Session) -> None:
    """All tests on Python 3.12. Its torch may be PyPI's, with 5 GB of CUDA."""
    run_tests(session)


@nox.session
def coverage(session: nox.Session) -> None:
    """A map of the lines that the tests reach, child processes included: a table, and ``htmlcov/index.html``.

    No threshold. Tracing makes everything slower, so a test of a time that fails here says nothing.
    """
    run_tests(session, "--cov", "--cov-report=term:skip-covered", "--cov-report=html", group="coverage",
              success_codes=(0, 1))  # fmt: skip


@nox.session
def gpu(session: nox.Session) -> None:
    """The tests of GPUs and of onnxruntime's CUDA build, and the table of ``benchmarks/gpu.py``; without one, why not.

    torch is PyPI's build with CUDA, and onnxruntime the one with CUDA, so versions are not the constraints'.
    """
    groups = nox.project.dependency_groups(nox.project.load_toml(), "test")
    session.install("-e", ".[all,tensorrt-rtx]", "transformers==5.23.0", *groups)
    session.run("pip", "uninstall", "-q", "-y", "onnxruntime", "onnxruntime-gpu")  # each has files of the other's
    session.install("onnxruntime-gpu[cuda,cudnn]")
    session.run("python", "sample_models/fetch.py")
    session.run("pytest", "-m", "", "tests/targets/test_gpu.py", "tests/targets/test_providers.py", *session.posargs)
    session.run("python", "benchmarks/gpu.py", success_codes=[0, 4])


@nox.session
def benchmarks(session: nox.Session) -> None:
    """What the closing figures come from; wants an idle machine."""
    install(session, "-e", ".[all]")
    session.run("python", "sample_models/fetch.py")
    for script in ("startup", "calibration_memory", "overhead", "quantize_samples", "kill"):
        session.run("python", f"benchmarks/{script}.py")


@nox.session
def measuring(session: nox.Session) -> None:
    """Whether measurements can be trusted, and the gate: about 90 minutes; wants an idle machine."""
    install(session, "-e", ".[all]", "mlcommons-loadgen", "junitparser")
    for script in ("harness", "against_loadgen", "stall", "failures", "release", "same_model", "power", "coverage"):
        session.run("python", f"benchmarks/{script}.py")


@nox.session
def rivals(session: nox.Session) -> None:
    """What optkit chooses against what other tools do by default: about 90 minutes; wants an idle machine."""
    install(session, "-e", ".[all]", "transformers==5.23.0")
    session.run("python", "sample_models/fetch.py")
    olive = f"{session.create_tmp()}/olive"  # it wants other versions of what optkit uses
    session.run("python", "-m", "venv", olive)
    session.run(
        f"{olive}/bin/pip", "install", "-q", "torch==2.13.0", "olive-ai", "requests", "onnxruntime", external=True
    )
    session.run("python", "benchmarks/rivals.py", "--olive", f"{olive}/bin/olive", *session.posargs)


@nox.session
def training(session: nox.Session) -> None:
    """What compression by training brings, over three seeds: about an hour; wants an idle machine.

    Needs Debian's package dataset-fashion-mnist.
    """
    install(session, "-e", ".[all]")
    session.run("python", "sample_models/fetch.py")
    session.run("python", "benchmarks/training.py", *session.posargs)


@nox.session
def engines(session: nox.Session) -> None:
    """Engines of TensorRT-RTX for six models, four precisions and four GPUs that are not there: about 20 minutes."""
    install(session, "-e", ".[all,tensorrt-rtx]", "transformers==5.23.0")
    session.run("python", "sample_models/fetch.py")
    session.run("python", "benchmarks/engines.py", *session.posargs)


@nox.session
def regressions(session: nox.Session) -> None:
    """Whether following what explain concludes mends real regressions: about 10 minutes; wants an idle machine."""
    install(session, "-e", ".[all]")
    session.run("python", "sample_models/fetch.py")
    session.run("python", "benchmarks/regressions.py", *session.posargs)


@nox.session
def reference(session: nox.Session) -> None:
    """Write anew what derives from the options: docs/cli.md, tables of the docs, optkit/__init__.pyi, the schemas."""
    install(session, "-e", ".")
    session.run("python", "-m", "optkit.options.stub")
    session.run("python", "-m", "optkit.options.tables")
    session.run("python", "-m", "optkit.schemas")
    session.run("typer", "optkit.__main__", "utils", "docs", "--name", "optkit", "--output", "docs/cli.md")
