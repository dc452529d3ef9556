"""How Sphinx builds these pages, without a network."""

from __future__ import annotations

import builtins
import contextlib
import importlib
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sphinx.addnodes import pending_xref
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.util.nodes import find_pending_xref_condition

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"

project = "Minions"
author = copyright = "the Minions contributors"  # noqa: A001 - Sphinx's name
release = version = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]["version"]

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "Minions"
exclude_patterns = ["_inventories"]
default_role = "py:obj"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Cancellation", "Concurrency", "Source"]


# The docstrings of fields, by name, until napoleon has had its turn.
WRITTEN: dict[str, list[str]] = {}


def find(target: str) -> object:
    """Return what a dotted name leads to; ``None`` if there is no such thing."""
    parts = target.split(".")
    for length in range(len(parts), 0, -1):
        with contextlib.suppress(ImportError, ValueError):
            found: object = importlib.import_module(".".join(parts[:length]))
            for name in parts[length:]:
                found = getattr(found, name, None)
            return found
    return getattr(importlib.import_module("builtins"), target, None)


def foreign_reference(
    _app: Sphinx,
    _environment: BuildEnvironment,
    node: pending_xref,
    content: nodes.Element,
) -> nodes.Element | None:
    """Show a name of another package as text, if there is such a name.

    Our own names must be documented here, type variables apart; a reference to one
    that is not stays unresolved, which ends the build.
    """
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    found = find(target)
    ours = target.partition(".")[0] == "minions" and not isinstance(found, TypeVar)
    return None if ours or found is None else content


def leave_builtins_alone(_app: Sphinx, document: nodes.document) -> None:
    """Take the references to built-in names out of signatures.

    Sphinx looks for whatever ends in such a name: `type` would lead to any of our
    fields that is called so.
    """
    for node in [*document.findall(pending_xref)]:
        if node.get("refdomain") == "py" and hasattr(builtins, node["reftarget"]):
            content = find_pending_xref_condition(node, "*")
            shown = node if content is None else content
            node.replace_self(shown.children)


def remember(
    _app: Sphinx, what: str, name: str, _thing: object, _options: object, doc: list[str]
) -> None:
    """Keep a field's docstring as it was written."""
    if what in {"attribute", "property"}:
        WRITTEN[name] = list(doc)


def read_as_method(  # noqa: PLR0917
    app: Sphinx, what: str, name: str, thing: object, options: object, doc: list[str]
) -> None:
    """Read a field's docstring as a method's.

    Napoleon takes all before a colon in its first line for a type, and passes over
    the headings of a property's.
    """
    if what in {"attribute", "property"}:
        lines = WRITTEN.pop(name)
        read = GoogleDocstring(lines, app.config, app, "method", name, thing, options)
        doc[:] = read.lines()


def setup(app: Sphinx) -> None:
    """Connect what is defined above."""
    app.connect("doctree-read", leave_builtins_alone)
    app.connect("missing-reference", foreign_reference)
    app.connect("autodoc-process-docstring", remember, priority=400)
    app.connect("autodoc-process-docstring", read_as_method, priority=600)
