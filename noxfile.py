"""The one entry for people and CI: ``nox -l`` lists the sessions."""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "typing", "tests", "coverage"]

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
GROUPS = PROJECT["dependency-groups"]


def group(session: nox.Session, name: str) -> None:
    """Install one dependency group."""
    session.install(*nox.project.dependency_groups(PROJECT, name))


def install_wheel(session: nox.Session) -> None:
    """Build the wheel and install it, so that what is tested is what is shipped."""
    dist = session.create_tmp()
    session.run(
        "python", "-m", "pip", "wheel", "-q", "--no-deps", "-w", dist, ".", silent=True
    )
    (wheel,) = Path(dist).glob("trio_minions-*.whl")
    session.install(str(wheel))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format and spelling."""
    group(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("codespell")


@nox.session
def typing(session: nox.Session) -> None:
    """Check types, ours and the tests'."""
    group(session, "typing")
    install_wheel(session)
    session.run("mypy", "--strict", "src", "tests")
    session.run("pyright", "--verifytypes", "minions", "--ignoreexternal")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the fast suite against the built wheel."""
    group(session, "tests")
    install_wheel(session)
    session.run("pytest", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the fast suite once with branch coverage, and hold the gate."""
    group(session, "tests")
    install_wheel(session)
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "-q")
    session.run("coverage", "combine", "-q")
    session.run("coverage", "report")


@nox.session(default=False)
def soak(session: nox.Session) -> None:
    """Run the property suite with 20,000 examples, and what is marked slow."""
    group(session, "tests")
    install_wheel(session)
    session.run(
        "pytest", "-m", "slow", "-o", "faulthandler_timeout=0", *session.posargs
    )
