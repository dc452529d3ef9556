"""Names that are nearly an option's, and names that only look like it."""

from __future__ import annotations

import types
from typing import Any, ClassVar

import attrs
import pytest

from minions.declare.bases import Minion, Pipeline, Resource, minion_step, resource
from minions.declare.hooks import OPTIONS
from minions.declare.kinds import ComponentKind
from minions.declare.specification import specify
from minions.errors import DefinitionError
from minions.options import Backoff, Restart


@attrs.frozen
class Quote:
    price: float


@attrs.define
class Memory:
    last: float = 0.0


@minion_step
async def step(self: Any) -> None:
    """Do nothing."""


BASES: dict[ComponentKind, tuple[Any, dict[str, Any]]] = {
    "resource": (Resource, {}),
    "pipeline": (Pipeline[Quote], {}),
    "minion": (Minion[Quote, Memory], {"step": step}),
}


def make(kind: ComponentKind, **attributes: object) -> type:
    base, namespace = BASES[kind]
    body = {"__module__": __name__, **namespace, **attributes}
    return types.new_class("It", (base,), {}, lambda names: names.update(body))


@pytest.mark.parametrize(
    ("kind", "name", "value", "meant"),
    [
        ("minion", "max_in_fligth", 5, "max_in_flight"),
        ("minion", "max_inflight", 5, "max_in_flight"),
        ("minion", "maxinflight", 5, "max_in_flight"),
        ("minion", "max_in_flight_", 5, "max_in_flight"),
        ("minion", "max_in_fligth", 0, "max_in_flight"),
        ("minion", "max_backlg", 5, "max_backlog"),
        ("minion", "max_unfinshed", 5, "max_unfinished"),
        ("minion", "over_flow", "reject", "overflow"),
        ("minion", "on_failiure", "discard", "on_failure"),
        ("minion", "key_on_quarantaine", "hold", "key_on_quarantine"),
        ("pipeline", "max_error", 3, "max_errors"),
        ("pipeline", "error_back_off", Backoff(), "error_backoff"),
        ("pipeline", "on_exausted", "stop", "on_exhausted"),
        ("resource", "restrat", Restart(), "restart"),
        ("resource", "on_exhaused", "stop", "on_exhausted"),
    ],
)
def test_a_misspelt_option_is_refused(
    kind: ComponentKind, name: str, value: object, meant: str
) -> None:
    cls = make(kind, **{name: value})

    with pytest.raises(DefinitionError, match=f"did you mean {meant}") as caught:
        specify(cls)

    assert f"found {name} = {value!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("resource", "restarts", 0),
        ("resource", "restarted", False),
        ("resource", "grace", 1.0),
        ("resource", "count", 0),
        ("resource", "max_in_fligth", 5),  # no option of a resource
        ("resource", "_restrat", Restart()),
        ("minion", "overflows", 0),
        ("minion", "overflown", False),
        ("minion", "min_in_flight", 5),
        ("minion", "min_unfinished", 5),
        ("minion", "max_finished", 5),
        ("minion", "in_flight", 5),
        ("minion", "backlog", 5),
        ("minion", "failure", "discard"),
        ("pipeline", "max_error", 0.5),
        ("pipeline", "errors", 5),
        ("pipeline", "last_errors", 5),
        ("pipeline", "restart_", lambda self: None),
        ("pipeline", "max_error", property(lambda self: 1)),
    ],
)
def test_a_name_of_the_users_own_is_left_alone(
    kind: ComponentKind, name: str, value: object
) -> None:
    assert specify(make(kind, **{name: value}))


@pytest.mark.parametrize("kind", BASES)
def test_no_option_is_taken_for_another(kind: ComponentKind) -> None:
    defaults = {name: option.default for name, option in OPTIONS[kind].items()}

    assert specify(make(kind, **defaults))


def test_class_variables_bases_and_marked_classes_are_looked_at() -> None:
    class Annotated(Minion[Quote, Memory]):
        max_in_fligth: ClassVar[int] = 5
        go = step

    class Derived(Annotated):
        pass

    @resource
    class Marked:
        restrat = Restart()

    for cls in (Annotated, Derived, Marked):
        with pytest.raises(DefinitionError, match="did you mean"):
            specify(cls)


def test_fields_and_strange_bases_are_left_alone() -> None:
    class Library:
        restrat = Restart()

    @attrs.define
    class Fields(Library, Resource):
        restartt: Restart = Restart()  # noqa: RUF009  # frozen

    class Plain(Pipeline[Quote]):
        max_error: int = 3

    assert specify(Fields).kind == "resource"
    assert specify(Plain).kind == "pipeline"
