"""Supervision: leases, one component's runner loop, and the group that holds them.

Nothing here knows what a minion, a pipeline or a resource is.  A component is
a :class:`~minions.supervise.life.Plan`: a name, what it needs, and a function
that makes a fresh :class:`~minions.supervise.life.Life` for each incarnation.
"""

from __future__ import annotations

from minions.supervise.cause import Cause, CauseKind
from minions.supervise.group import Group
from minions.supervise.incarnation import Incarnation
from minions.supervise.life import Life, Plan, RunEnd
from minions.supervise.member import Member, State
from minions.supervise.opening import open_group
from minions.supervise.waiting import check_wait

__all__ = [
    "Cause",
    "CauseKind",
    "Group",
    "Incarnation",
    "Life",
    "Member",
    "Plan",
    "RunEnd",
    "State",
    "check_wait",
    "open_group",
]
