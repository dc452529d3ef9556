"""The invariants of supervision, checked over what was noted.

The rules, for every edge from c to d (c needs d):

* c starts, and comes up, only while d is up;
* when d begins to drain, c begins in the same breath, if it has not begun before;
* d is released only when c has been;
* who drains for something that it needs names one that drains, and that it leases.

For every component: its lives follow one another, each from its start to its
release, by rising epochs; only what has crashed of itself is charged; and at the
end each has ended or failed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Literal

import attrs

from minions.notices import (
    ComponentBackoff,
    ComponentDraining,
    ComponentEnded,
    ComponentFailed,
    ComponentNotice,
    ComponentReleased,
    ComponentStarting,
    ComponentStuck,
    ComponentUp,
    Notice,
)

__all__ = ["check_notices"]

Edges = Mapping[str, Collection[str]]
Stage = Literal["down", "starting", "up", "draining"]

_DEPENDENCY = re.compile(r"dependency (?P<name>.+?)#(?P<epoch>\d+)(?= |:)")
_AT_REST = (ComponentBackoff, ComponentFailed, ComponentEnded)


def check_notices(
    notices: Iterable[Notice], needs: Edges, wants: Edges | None = None
) -> None:
    """Check that components lived in order, from the first notice to the last.

    Args:
        notices: All that were noted, in order, until everything had ended.
        needs: What each component needs, by identity; it may not know of components
            that need nothing.
        wants: Likewise, what each would like to have.

    Raises:
        AssertionError: They did not; names the component and what it did.
    """
    checker = _Checker(needs, wants or {})
    for notice in notices:
        if isinstance(notice, ComponentNotice):
            checker.see(notice)
    checker.finish()


@attrs.define
class _Life:
    stage: Stage = "down"
    epoch: int = 0
    cause: str = ""
    last: str = "nothing"


class _Checker:
    """Follows all components from notice to notice."""

    def __init__(self, needs: Edges, wants: Edges) -> None:
        self.needs = needs
        self.wants = wants
        self.lives: dict[str, _Life] = {}
        # Whose dependents must be draining before anything else happens.
        self.cascading: list[str] = []
        self.rules: dict[type[ComponentNotice], Callable[[ComponentNotice], None]] = {
            ComponentStarting: self._starting,
            ComponentUp: self._up,
            ComponentReleased: self._released,
        }

    def see(self, notice: ComponentNotice) -> None:
        """Take one notice."""
        if isinstance(notice, ComponentStuck):
            return  # it may speak of somebody who is no component
        life = self.lives.setdefault(notice.component, _Life())
        if isinstance(notice, ComponentDraining):
            self._draining(notice)
        else:
            self._check_cascade()
            if isinstance(notice, _AT_REST):
                self._at_rest(notice)
            else:
                self.rules.get(type(notice), self._alive)(notice)
        life.last = type(notice).__name__

    def finish(self) -> None:
        """Hear that there are no more."""
        self._check_cascade()
        for name, life in self.lives.items():
            ended = life.last in {"ComponentEnded", "ComponentFailed"}
            assert ended, f"{name}#{life.epoch}: the last of it is {life.last}"

    def _starting(self, notice: ComponentNotice) -> None:
        name, life = notice.component, self.lives[notice.component]
        assert life.stage == "down", f"{name} starts while it is {life.stage}"
        assert notice.epoch > life.epoch, f"{name}#{notice.epoch} after {life.epoch}"
        life.stage, life.epoch = "starting", notice.epoch
        self._check_needs(name)

    def _up(self, notice: ComponentNotice) -> None:
        life = self._alive(notice)
        assert life.stage == "starting", f"{notice.component} is up from {life.stage}"
        life.stage = "up"
        self._check_needs(notice.component)

    def _draining(self, notice: ComponentDraining) -> None:
        name, life = notice.component, self._alive(notice)
        assert life.stage != "draining", f"{name}#{notice.epoch} drains twice"
        life.stage, life.cause = "draining", notice.cause
        found = _DEPENDENCY.match(notice.cause)
        if found is not None:
            leased = {*self.needs.get(name, ()), *self.wants.get(name, ())}
            lost, epoch = found["name"], int(found["epoch"])
            assert lost in leased, f"{name} drains for {lost}, a stranger"
            other = self.lives.get(lost, _Life())
            assert (other.stage, other.epoch) == ("draining", epoch), (
                f"{name} drains for {lost}#{epoch}, which is {other.stage}"
            )
        self.cascading.append(name)

    def _released(self, notice: ComponentNotice) -> None:
        name, life = notice.component, self._alive(notice)
        assert life.stage == "draining", f"{name} is released from {life.stage}"
        life.stage = "down"
        left = self._dependents(name)
        assert not left, f"{name}#{notice.epoch} is released before {left}"

    def _alive(self, notice: ComponentNotice) -> _Life:
        name, life = notice.component, self.lives[notice.component]
        what = type(notice).__name__
        assert life.stage != "down", f"{what} of {name}, which does not live"
        assert life.epoch == notice.epoch, f"{what} of {name}#{notice.epoch}, too late"
        return life

    def _at_rest(self, notice: ComponentNotice) -> None:
        name, life = notice.component, self.lives[notice.component]
        what = type(notice).__name__
        assert life.stage == "down", f"{what} of {name} while it is {life.stage}"
        # One that was forgotten and added anew has had no life yet.
        known = {0, life.epoch}
        assert notice.epoch in known, f"{what} of {name}#{notice.epoch}, too late"
        charged = isinstance(notice, ComponentBackoff) and notice.charged
        if charged or isinstance(notice, ComponentFailed):
            own = life.cause.startswith(f"{name}#{life.epoch} crashed")
            assert own, f"{name} is charged, but it drained since {life.cause}"

    def _check_needs(self, name: str) -> None:
        for needed in self.needs.get(name, ()):
            stage = self.lives.get(needed, _Life()).stage
            assert stage == "up", f"{name} starts while {needed} is {stage}"

    def _check_cascade(self) -> None:
        for name in self.cascading:
            left = self._dependents(name, "starting", "up")
            assert not left, f"{name} drains without {left}"
        self.cascading.clear()

    def _dependents(self, name: str, *stages: Stage) -> list[str]:
        """Name those that need *name* and live, or are at one of these stages."""
        return [
            other
            for other, life in self.lives.items()
            if name in self.needs.get(other, ())
            and (life.stage in stages if stages else life.stage != "down")
        ]
