"""Holds what a system did against what it was to do, and against its folder.

It knows the plan, the lines that steps wrote outside the store, and the folder of a
process that is dead.  It asks nothing of the runtime.

For each workflow it keeps the states in which the store may have it.  A step that
begins narrows them to one: its snapshot is on disk.  A step that ends moves on, and
only with the process may that be lost.  A look into the folder narrows them, too;
so that what the next process does first is known beforehand.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import attrs

from folder import (
    EndedRecord,
    QuarantineRecord,
    Saved,
    Store,
    check_indexes,
    cursor_in,
    mail_in,
    read_store,
    workflows_in,
)
from minions.workflow.layout import Keyspace
from minions.workflow.record import END as END_STEP
from minions.workflow.subscription import decode_subscription
from plans import MinionPlan, Plan, Visit, event_key, path_of

__all__ = ["Checker", "read_ledger"]

_LONG = 1e6  # seconds: what is kept so long is there until the end
# Seconds around a crash in which a step may be interrupted.
_NEAR = 1.0

Line = dict[str, Any]


class At(NamedTuple):
    """Where the store may have a workflow."""

    place: int
    """Of the next step on its path."""

    attempt: int = 1
    is_quarantined: bool = False


ENDED = At(-1)
START = At(0)


def read_ledger(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@attrs.define
class Flow:
    """What is known of one workflow."""

    name: str
    minion: MinionPlan = attrs.field(repr=lambda minion: minion.name)
    number: int
    event: str
    path: list[Visit] = attrs.field(repr=False)
    states: set[At]
    # Where it is if the last thing that it did is lost with the process.
    fallback: set[At] = attrs.field(factory=set)
    last: str = ""
    # In this state it must not begin or end before this time.
    due: tuple[At, float] = (START, 0.0)
    failed_at: float = 0.0
    # Whether it was redriven, and has not begun since.
    is_sent_on: bool = False
    # In this state nothing is committed since it was taken up: it holds no key yet.
    keyless: At | None = START
    # Whether it was in flight when the process died: its next step begins with a
    # commit, which holds its key.
    is_suspect: bool = False
    asked: set[str] = attrs.field(factory=set)
    has_begun: bool = False
    begins: int = 0
    taken: list[str] = attrs.field(factory=list)

    @property
    def seq(self) -> int:
        return int(self.name[1:])

    @property
    def is_over(self) -> bool:
        return self.states == {ENDED} and not self.fallback

    @property
    def key(self) -> int:
        return self.number % self.minion.keys

    def names(self, index: int) -> list[str]:
        return [visit.step.name for visit in self.path[:index]]


@attrs.define
class Checker:
    """Follows one system over all its lives."""

    plan: Plan
    tolerance: float
    """Seconds by which the clock of the ledger may be behind that of the system."""

    flows: dict[str, Flow] = attrs.field(factory=dict)
    lives: int = 0
    crashes: int = 0
    crashed_at: float = 0.0
    """When a component has crashed last in this life: steps may be interrupted."""

    sent: dict[str, str] = attrs.field(factory=dict)
    """Signals by their tokens: the workflow."""

    acked: set[str] = attrs.field(factory=set)
    """Tokens, and keys of events from outside, whose sender had an answer."""

    tried: set[str] = attrs.field(factory=set)
    """Keys of events that were emitted from outside."""

    emitted: dict[str, int] = attrs.field(factory=dict)
    tallies: dict[str, int] = attrs.field(factory=lambda: defaultdict(int))
    _read: int = 0

    # What the lines say.

    def hear(self, lines: Iterable[Line]) -> None:
        for line in lines:
            kind = line["k"]
            self.tallies[kind] += 1
            if kind == "life":
                self.lives += 1
                self.crashed_at = 0.0
                for flow in self.flows.values():
                    flow.states |= flow.fallback
                    flow.fallback, flow.last = set(), ""
            elif kind == "crash":
                self._crash(line["t"])
            elif kind == "emitted":
                upto = self.emitted.get(line["p"], 0)
                assert line["upto"] > upto, f"{line}: a cursor went back"
                self.emitted[line["p"]] = line["upto"]
            elif kind in {"try", "did"}:
                self._asked(line, line["what"], is_done=kind == "did")
            elif kind in {"begin", "cut", "fail", "end"}:
                self._step(line, kind)
            else:
                assert kind != "stalled", "it goes on no more"

    def _crash(self, now: float) -> None:
        """Hear that a component crashes: what has just failed may run again."""
        self.crashed_at = now
        for flow in self.flows.values():
            if flow.last == "fail" and self._is_near_crash(flow.failed_at):
                flow.states |= flow.fallback

    def _is_near_crash(self, now: float) -> bool:
        return abs(now - self.crashed_at) <= _NEAR

    def hear_ledger(self, path: Path) -> None:
        """Hear what was added since the last time."""
        lines = read_ledger(path)
        self.hear(lines[self._read :])
        self._read = len(lines)

    def _asked(self, line: Line, what: str, *, is_done: bool) -> None:
        if what == "signal":
            self.sent[line["token"]] = line["w"]
            self.acked |= {line["token"]} if is_done else set()
        elif what == "emit":
            self.tried.add(line["e"])
            self.acked |= {line["e"]} if is_done else set()
        elif line["w"] in self.flows:
            flow = self.flows[line["w"]]
            flow.asked.add(what)
            if what == "redrive":
                redriven = {At(s.place) for s in flow.states if s != ENDED}
                flow.states = redriven if is_done else flow.states | redriven
                flow.is_sent_on = True
                if not is_done:
                    (flow.keyless,) = redriven
                    if flow.minion.hold and not line["why"].startswith("crashed"):
                        flow.keyless = None
            else:
                flow.states = {ENDED} if is_done else flow.states | {ENDED}

    def _step(self, line: Line, kind: str) -> None:
        if kind == "begin":
            self._begin(line)
            return
        flow = self.flows[line["w"]]
        (before,) = flow.states if flow.last == "begin" else (None,)
        assert before is not None, f"{line}: it had not begun, or it had ended"
        flow.last = kind
        if kind == "cut":
            # Who is cancelled ends.
            flow.states |= {ENDED} if "cancel" in flow.asked else set()
            return
        after = self._after(flow, before, line, kind)
        flow.states, flow.fallback = {after}, {before}
        flow.states |= self._silent_end(flow, after)
        if kind == "fail":
            flow.failed_at = line["t"]
            if self._is_near_crash(line["t"]):  # it may have been interrupted
                flow.states.add(before)
        if kind == "end":
            flow.taken = line["taken"]
            assert len(set(flow.taken)) == len(flow.taken), f"{line}: taken twice"
            if "cancel" in flow.asked:
                flow.states.add(ENDED)

    def _after(self, flow: Flow, before: At, line: Line, kind: str) -> At:
        visit = flow.path[before.place]
        delay = self.plan.delay
        if kind == "fail":
            if line["why"] == "Crash":
                assert before.attempt <= visit.failures, f"{line}: one too many"
                again = At(before.place, before.attempt + 1)
                flow.due = again, line["t"] + delay * 2 ** (before.attempt - 1)
                return again
            if line["why"] == "LookupError" and visit.state != "discarded":
                return At(before.place, 1, is_quarantined=True)
            if line["why"] not in {"LookupError", "AbortWorkflow"}:
                # What it called has crashed, or it is a bug of the runtime.
                assert self._is_near_crash(line["t"]), f"{line}: not in the plan"
                return before
            return ENDED
        assert before.attempt == visit.failures + 1, f"{line}: it was to fail"
        returned = visit.act("after", "wait")
        following = At(before.place + 1)
        if returned is not None and (returned.kind == "after" or returned.timed):
            flow.due = following, line["t"] + delay
        if visit.state in {"done", "aborted"} and returned is None:
            return ENDED
        return following

    @staticmethod
    def _silent_end(flow: Flow, state: At) -> set[At]:
        """Say whether it ends without another step, once it has waited."""
        waits = state.place == len(flow.path) and flow.path[-1].state == "done"
        return {ENDED} if waits else set()

    def _begin(self, line: Line) -> None:
        flow = self.flows.get(line["w"])
        if flow is None:
            flow = self._meet(line["w"], line["m"], line["n"], line["e"])
        assert (flow.event, flow.minion.name) == (line["e"], line["m"]), line
        assert flow.last != "begin", f"{line}: it runs already"
        fitting = {
            state
            for state in flow.states
            if state != ENDED
            and not state.is_quarantined
            and state.place < len(flow.path)
            and flow.path[state.place].step.name == line["s"]
            and state.attempt == line["a"]
        }
        assert fitting, f"{line}: found {flow}"
        (state,) = fitting
        assert line["trail"] == flow.names(state.place), f"{line}: another context"
        early = flow.due[1] - line["t"] if state == flow.due[0] else 0.0
        assert early <= self.tolerance, f"{line}: {early} s early"
        if flow.minion.keys:
            self._check_key(flow, line)
        flow.states, flow.fallback, flow.last = {state}, set(), "begin"
        flow.due, flow.is_sent_on = (START, 0.0), False
        flow.keyless = None if flow.is_suspect else flow.keyless
        flow.is_suspect = False
        flow.has_begun = True
        flow.begins += 1

    def _meet(self, name: str, minion: str, number: int, event: str) -> Flow:
        plan = self.plan.minion(minion)
        path = path_of(plan, number)
        flow = self.flows[name] = Flow(name, plan, number, event, path, {START})
        return flow

    def _check_key(self, flow: Flow, line: Line) -> None:
        """Workflows of one key run one after the other, in the order of arrival."""
        for other in self.flows.values():
            if (
                other is flow
                or other.minion is not flow.minion
                or other.key != flow.key
                or self._has_let_go(other, line["t"])
            ):
                continue
            waits = any(state.is_quarantined for state in other.states)
            if other.seq < flow.seq and not other.has_begun:
                # Nobody knows of it but the store; one that was let go by a
                # quarantine has begun before.
                raise AssertionError(f"{line}: before {other.name}")
            if waits and not flow.minion.hold:
                continue
            if other.is_sent_on and not flow.minion.hold:
                continue  # it waits for its turn
            if other.keyless is not None and self._may_be_keyless(other):
                assert other.seq > flow.seq, f"{line}: before {other.name}"
                self.tallies["overtaken"] += len(other.states) > 1
                other.states, other.fallback = {other.keyless}, set()
                continue
            raise AssertionError(f"{line}: beside {other.name}, {other.states}")

    @staticmethod
    def _may_be_keyless(flow: Flow) -> bool:
        """Say whether a workflow may have committed nothing since it was taken up.

        Its first attempt may have failed so near a crash that nobody knows whether
        it was interrupted.  If another one of its key begins it was, and begins anew.
        """
        in_doubt = flow.last == "fail" and flow.keyless in flow.states
        return in_doubt or (flow.last != "begin" and flow.states == {flow.keyless})

    def _has_let_go(self, flow: Flow, now: float) -> bool:
        """Say whether a workflow may have ended by now."""
        sleeps = flow.due[0] in flow.states and now < flow.due[1] - self.tolerance
        return ENDED in flow.states and not sleeps

    # What the folder says.

    def look(self, folder: Path) -> Store:
        """Look into the folder of a process that is dead."""
        store = read_store(folder)
        if not store[Keyspace.META]:
            assert not self.flows, "everything is gone"
            return store
        for flow in self.flows.values():
            flow.states |= flow.fallback
            flow.fallback, flow.last = set(), ""
        saved = workflows_in(store)
        redriven = {f.name for f in self.flows.values() if "redrive" in f.asked}
        check_indexes(store, redriven)
        minions = {
            (r := decode_subscription(key, value)).orchestration: r.minion
            for key, value in store[Keyspace.SUBSCRIPTION].items()
        }
        for name, found in saved.items():
            event = found.event
            key = event_key(event["pipeline"], event["number"], event["origin"])
            minion = minions[found.record.orchestration]
            flow = self.flows.get(name) or self._meet(
                name, minion, event["number"], key
            )
            assert (flow.event, flow.minion.name) == (key, minion), name
            self._compare(flow, found)
        for name, flow in self.flows.items():
            if name not in saved:
                assert ENDED in flow.states, f"{flow} is lost"
                kept = self.plan.keep > _LONG and not ({"discard"} & flow.asked)
                assert not kept or self.plan.max_kept < len(self.flows), f"{name} lost"
                flow.states = {ENDED}
        self._check_events(store, saved)
        self._check_signals(store, saved)
        return store

    def _compare(self, flow: Flow, found: Saved) -> None:
        body, record = found.body, found.record
        if isinstance(body, EndedRecord):
            assert ENDED in flow.states, f"{flow}: has ended"
            if body.state == "discarded" and "discard" in flow.asked:
                # By hand: it stands as it stood in quarantine.
                shown = len(found.trail)
                assert found.trail == flow.names(shown), f"{flow}: {found.trail}"
                flow.states = {ENDED}
                return
            assert body.state == flow.path[-1].state, f"{flow}: {body}"
            shown = len(flow.path) - (body.state == "discarded")
            assert found.trail == flow.names(shown), f"{flow}: {found.trail}"
            flow.states = {ENDED}
            return
        index = len(found.trail)
        assert found.trail == flow.names(index), f"{flow}: {found.trail}"
        is_quarantined = isinstance(body, QuarantineRecord)
        state = At(index, record.attempt + 1, is_quarantined)
        flow.is_suspect = found.space is Keyspace.RECORD
        if isinstance(body, QuarantineRecord) and body.reason == "crashed":
            assert self.lives > 3, f"{flow}: {body}"
            assert At(index, record.attempt + 1) in flow.states, f"{flow}: {body}"
            self.tallies["suspected"] += 1
            flow.states = {state}
            return
        if is_quarantined:
            state = state._replace(attempt=1)
            assert isinstance(body, QuarantineRecord)
            assert body.reason == "failed", f"{flow}: {body}"
        assert state in flow.states, f"{flow}: found {state}"
        step = record.step or flow.minion.steps[0].name
        if index < len(flow.path):
            assert step == flow.path[index].step.name, f"{flow}: {record}"
        else:
            assert step in {END_STEP, *[s.name for s in flow.minion.steps]}
        if state == flow.due[0] and found.space is Keyspace.RECORD:
            # It has woken already; the clock may have been set back since.
            early = flow.due[1] - record.since
            assert early <= self.tolerance, f"{flow}: woke {early} s early"
            flow.due = START, 0.0
        flow.states = {state} | self._silent_end(flow, state)

    def _check_events(self, store: Store, saved: dict[str, Saved]) -> None:
        started: dict[tuple[str, str], list[str]] = defaultdict(list)
        for flow in self.flows.values():
            started[flow.event, flow.minion.name].append(flow.name)
        for (event, minion), names in started.items():
            assert len(names) == 1, f"{event} started twice for {minion}: {names}"
        expected = self._accepted(store)
        for flow in self.flows.values():
            expected |= self._emitted_by(flow, saved.get(flow.name))
        for event in expected:
            for minion_plan in self.plan.minions_of(event.partition("/")[0]):
                key = event, minion_plan.name
                assert key in started, f"{key} is lost"
        for event, _ in started:
            assert event in expected | self.tried, f"{event} came from nowhere"

    def _accepted(self, store: Store) -> set[str]:
        """Return the events from outside of all workflows that must be there."""
        accepted = self.acked & self.tried
        for pipeline in self.plan.pipelines:
            if pipeline.kind == "cursor":
                upto = cursor_in(store, pipeline.name)
                assert upto >= self.emitted.get(pipeline.name, 0), "a cursor is lost"
                accepted |= {event_key(pipeline.name, n, "c") for n in range(upto)}
        return accepted

    def _emitted_by(self, flow: Flow, found: Saved | None) -> set[str]:
        shown = [visit.step.name for visit in flow.path]
        if found is not None:
            shown = found.trail
            # What an aborted step leaves is shown; what it emitted never was.
            if isinstance(found.body, EndedRecord) and found.body.state == "aborted":
                shown = shown[:-1]
        elif flow.path[-1].state not in {"done", "cancelled"}:
            shown = shown[:-1]
        events: set[str] = set()
        for visit in flow.path:
            for act in visit.acts:
                if act.kind == "emit" and visit.step.name in shown:
                    events |= {
                        event_key(
                            act.to, flow.number, f"{flow.name}.{visit.step.name}.{i}"
                        )
                        for i in range(act.times)
                    }
        return events

    def _check_signals(self, store: Store, saved: dict[str, Saved]) -> None:
        mail = [(name, signal.payload) for name, signal in mail_in(store)]
        for token, name in self.sent.items():
            found, data = saved.get(name), token.encode()
            if found is None:
                continue
            in_mail = [who for who, payload in mail if data in payload]
            in_record = data in found.record.received or token in found.taken
            places = len(in_mail) + in_record
            assert in_mail in ([], [name]), f"{token} is with {in_mail}"
            assert places <= 1, f"{token} is there twice"
            if token in self.acked and not isinstance(found.body, EndedRecord):
                assert places == 1, f"{token} for {name} is lost"
        for flow in self.flows.values():
            assert len(set(flow.taken)) == len(flow.taken), f"{flow}: taken twice"
            assert all(self.sent.get(t) == flow.name for t in flow.taken), f"{flow}"

    # At the end.

    def finish(self, folder: Path) -> None:
        """Check that all has been done that the plan wants."""
        store = self.look(folder)
        for space in Keyspace:
            if space in {Keyspace.ENDED, Keyspace.ENDED_AGE, Keyspace.META}:
                continue
            if space in {Keyspace.SUBSCRIPTION, Keyspace.CURSOR}:
                continue
            if space not in {Keyspace.DEDUP, Keyspace.DEDUP_AGE}:
                assert not store[space], f"{space} holds {len(store[space])} still"
        for pipeline in self.plan.pipelines:
            if pipeline.kind == "cursor":
                assert cursor_in(store, pipeline.name) == pipeline.events
            if pipeline.kind == "outside":
                numbers = {
                    int(event.split("/")[1])
                    for event in self.acked & self.tried
                    if event.startswith(f"{pipeline.name}/")
                }
                assert numbers == set(range(pipeline.events))
        for flow in self.flows.values():
            assert flow.states == {ENDED}, flow
            signals = [
                act
                for visit in flow.path
                for act in visit.acts
                if act.kind in {"wait", "receive"}
                and not act.timed
                # After the last wait no step is there to tell of its signal.
                and not (act.kind == "wait" and visit.state)
            ]
            if flow.path[-1].state == "done":
                taken = self._taken(flow, workflows_in(store).get(flow.name))
                assert len(taken) == len(signals), f"{flow}: took {taken}"

    def _taken(self, flow: Flow, found: Saved | None) -> list[str]:
        if found is not None:
            assert len(set(found.taken)) == len(found.taken), flow
            return found.taken
        return flow.taken
