"""Helps for testing components."""

from __future__ import annotations

from minions.testing.checks import check_notices
from minions.testing.scenarios import Order
from minions.testing.steps import run_step
from minions.testing.trials import StandIn, Trial, trials
from minions.testing.trying import run_trial

__all__ = [
    "Order",
    "StandIn",
    "Trial",
    "check_notices",
    "run_step",
    "run_trial",
    "trials",
]
