from __future__ import annotations

from typing import Annotated, Any

import attrs
import pytest

from minions.declare.bases import Minion, Pipeline, Resource, minion_step
from minions.declare.system import ProvidedSpec, specify_all
from minions.errors import DefinitionError, DependencyError
from minions.identity import component_id


@attrs.define
class Data:
    x: int = 0


class Client:
    pass


class Db(Resource):
    client: Annotated[Client, "eu"] | None


class Oracle(Resource):
    db: Db


class Trader(Minion[Data, Data]):
    oracle: Oracle
    db: Db

    @minion_step
    async def go(self) -> None:
        pass


class Chicken(Resource):
    egg: Egg


class Egg(Resource):
    chicken: Chicken | None


class Farm(Resource):
    chicken: Chicken


class Outer(Resource):
    inner: Inner


class Inner(Resource):
    broken: list[int]


def test_needed_ones_come_first() -> None:
    found = specify_all([Trader], [(Client, "eu")])

    names = [key.partition(":")[2] for key in found]
    assert names == ["Client[eu]", "Db", "Oracle", "Trader"]
    assert all(spec.identity == key for key, spec in found.items())


def test_what_is_provided_stands_in_for_a_resource() -> None:
    found = specify_all([Oracle], [(Db, None)])

    assert [type(spec) is ProvidedSpec for spec in found.values()] == [True, False]


def test_a_cycle_is_refused_with_its_path() -> None:
    with pytest.raises(DependencyError, match=r":Chicken → .*:Egg → .*:Chicken"):
        specify_all([Farm])


def test_the_path_to_a_broken_component_is_in_the_message() -> None:
    with pytest.raises(DependencyError, match=r"path: .*:Outer → .*:Inner"):
        specify_all([Outer])
    with pytest.raises(DependencyError, match=r"^(?!.*path)"):
        specify_all([Inner])


def test_two_classes_of_one_identity_are_refused() -> None:
    one = component_id("same")(type("A", (Resource,), {}))
    two = component_id("same")(type("B", (Resource,), {}))

    assert len(specify_all([one, one])) == 1
    with pytest.raises(DefinitionError, match=r"same: expected one class.*A and .*B"):
        specify_all([one, two])


def test_a_local_class_needs_an_id_where_state_outlives_it() -> None:
    class Here(Pipeline[Data]):
        pass

    class Near(Resource):
        pass

    assert len(specify_all([Here])) == 1
    with pytest.raises(DefinitionError, match=r"<locals>.*component_id"):
        specify_all([Here], durable=True)
    assert list(specify_all([component_id("here")(Here), Near], durable=True))


def test_a_root_that_is_no_class_is_refused() -> None:
    wrong: Any = "app:Trader"

    with pytest.raises(DefinitionError, match="expected a class"):
        specify_all([wrong])


def test_a_thousand_components_in_a_row() -> None:
    last: type = Oracle
    for i in range(1000):
        last = type(f"C{i}", (Resource,), {"__annotations__": {"below": last}})

    assert len(specify_all([last], [(Client, "eu")])) == 1003
