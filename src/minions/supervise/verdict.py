"""What follows a life: start again, and when, or not any more.

Only the originator of a crash is charged, and not if an operator has asked for its
restart meanwhile.  Before charging, a settle window
passes, since a dependent often notices first that something it needs is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from minions.notices import ComponentBackoff, ComponentEnded, ComponentFailed
from minions.supervise.cause import Cause, CauseKind
from minions.supervise.member import State

if TYPE_CHECKING:
    from minions.supervise.group import Group
    from minions.supervise.incarnation import Incarnation
    from minions.supervise.member import Member

__all__ = ["decide", "note_stopped"]


async def decide(group: Group, member: Member, incarnation: Incarnation) -> None:
    """Decide what follows a life; the next round of the runner's loop does it."""
    cause = incarnation.cause
    assert cause is not None
    failed = cause.kind in {CauseKind.CRASH, CauseKind.START_FAILED}
    if not failed or not _is_open(member):
        return
    lost = await _has_lost_origin(group, member, incarnation)
    if _is_open(member) and not lost:
        _charge(group, member, cause)


def _is_open(member: Member) -> bool:
    """Say whether nobody has decided yet what follows."""
    return member.wanted and not member.ordered


async def _has_lost_origin(
    group: Group, member: Member, incarnation: Incarnation
) -> bool:
    """Settle: whether something that it needs turns out to be the origin."""
    if not incarnation.needs:
        return False
    settled = incarnation.drained_at + group.options.settle
    while _is_open(member):
        if any(need.drained_at <= settled for need in incarnation.needs.values()):
            return True
        if trio.current_time() >= settled:
            return False
        with trio.CancelScope(deadline=settled) as member.pause:
            await trio.sleep_forever()
    return False


def _charge(group: Group, member: Member, cause: Cause) -> None:
    now = trio.current_time()
    charged = cause.kind is CauseKind.CRASH
    if charged:
        reason = _refusal(group, member, now)
        if reason is not None:
            _fail(group, member, f"{cause}; {reason}")
            return
        member.restarts += 1
    if now - member.last_up >= group.options.stable_for:
        member.backoff.clear()
    delay = member.backoff.next_delay(group.random, bounded=charged)
    member.not_before = now + delay
    member.enter(State.BACKOFF)
    group.notify(
        ComponentBackoff(
            component=member.name, epoch=member.epoch, delay=delay, charged=charged
        )
    )


def _refusal(group: Group, member: Member, now: float) -> str | None:
    """Charge one restart; or say why there is none left."""
    policy = member.plan.restart
    if policy.type == "temporary":
        return "its restart type is temporary"
    if not member.window.has_room(now):
        return f"max_restarts = {policy.max_restarts} in {policy.within:g} s is spent"
    if not group.window.admit(now):
        limit = group.window
        return f"over {limit.max_restarts} restarts of all in {limit.within:g} s"
    member.window.admit(now)
    return None


def _fail(group: Group, member: Member, text: str) -> None:
    member.wanted = False
    member.enter(State.FAILED, "an operator")
    group.notify(ComponentFailed(component=member.name, epoch=member.epoch, cause=text))
    if member.plan.on_exhausted == "stop":
        group.stop_for_failed(member, text)


def note_stopped(group: Group, member: Member) -> None:
    """Enter the state of one that nobody wants any more, unless it has failed."""
    if member.state is State.FAILED:
        return
    member.enter(State.STOPPED)
    group.notify(
        ComponentEnded(
            component=member.name,
            epoch=member.epoch,
            cause=str(member.cause or "was stopped before it started"),
        )
    )
