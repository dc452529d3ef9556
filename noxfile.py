"""The one entry for people and CI: ``nox -l`` lists the sessions."""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "venv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["tests", "lint", "typing", "coverage", "docs", "demo"]

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
WORKERS = ("-n", "2")  # what the smallest CI machine has
DIST = Path("dist")
# Children run in temporary folders: they find the settings by a whole path.
COVERAGE = {"COVERAGE_RCFILE": str(Path("pyproject.toml").resolve())}


def group(session: nox.Session, name: str) -> None:
    """Install one dependency group."""
    session.install(*nox.project.dependency_groups(PROJECT, name))


def install_wheel(session: nox.Session) -> None:
    """Install what is shipped, also over an older one of the same version."""
    (wheel,) = DIST.glob("trio_minions-*.whl")
    session.install(str(wheel))
    session.install("--force-reinstall", "--no-deps", str(wheel))


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build the source archive, and the wheel from it, once for all sessions."""
    session.install("build")
    shutil.rmtree(DIST, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(DIST), silent=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format and spelling."""
    group(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("codespell")


@nox.session(requires=["build"])
def typing(session: nox.Session) -> None:
    """Check types: ours, the tests', and those that a user's checker sees."""
    group(session, "typing")
    install_wheel(session)
    session.run("mypy", "--strict", "src", "tests", "examples", "benchmarks")
    session.run("pyright", "--verifytypes", "minions", "--ignoreexternal")


@nox.session(python=PYTHONS, requires=["build"])
def tests(session: nox.Session) -> None:
    """Run the fast suite against the built wheel."""
    group(session, "tests")
    install_wheel(session)
    session.run("pytest", *WORKERS, *session.posargs)


@nox.session(requires=["build"])
def coverage(session: nox.Session) -> None:
    """Run the fast suite with branch coverage, children included; hold the gate.

    With what the main example needs, so that its tests run here, too.
    """
    group(session, "tests")
    group(session, "demo")
    install_wheel(session)
    session.run("coverage", "erase", env=COVERAGE)
    session.run("coverage", "run", "-m", "pytest", "-q", *WORKERS, env=COVERAGE)
    session.run("coverage", "combine", "-q", env=COVERAGE)
    session.run("coverage", "report", env=COVERAGE)


@nox.session(requires=["build"])
def docs(session: nox.Session) -> None:
    """Build the pages without a network, and run every program that they show."""
    group(session, "docs")
    install_wheel(session)
    session.run("sphinx-build", "-n", "-W", "-q", "docs", "build/docs")
    session.run("towncrier", "build", "--draft", "--version", "next", silent=True)
    shown = ("tests/test_docs.py", "tests/test_examples.py")
    session.run("pytest", "-q", "-m", "slow or not slow", *shown)


@nox.session(requires=["build"])
def demo(session: nox.Session) -> None:
    """Run the main example; `-- --chaos --seed N` crashes and kills it."""
    group(session, "demo")
    install_wheel(session)
    session.run("python", "examples/market_watch/demo.py", *session.posargs)


@nox.session(default=False, requires=["build"])
def bench(session: nox.Session) -> None:
    """Measure every figure; `-- --quick --only a`; `-- --guard BASE` counts."""
    group(session, "bench")
    install_wheel(session)
    session.run("python", "benchmarks/suite.py", *session.posargs)


@nox.session(default=False, requires=["build"])
def slow(session: nox.Session) -> None:
    """Run what is marked slow: 20,000 random systems, a kill at every commit, ..."""
    group(session, "tests")
    group(session, "demo")
    install_wheel(session)
    session.run(
        "pytest", "-m", "slow", "-o", "faulthandler_timeout=0", *session.posargs
    )


@nox.session(default=False, requires=["build"])
def soak(session: nox.Session) -> None:
    """Kill random systems for ten minutes; `-- --minutes M --seed N`."""
    group(session, "tests")
    install_wheel(session)
    session.run("python", "tests/soak/soak.py", *session.posargs)
