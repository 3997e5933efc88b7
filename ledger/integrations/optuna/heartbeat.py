"""Heartbeat: how a storage tells trials whose process has died from those that go on.

The rules are those of Optuna's RDBStorage: while ``Study.optimize`` runs a trial, it is recorded every ``heartbeat_interval``
seconds that it is alive; one of which nothing was heard for ``grace_period`` seconds, twice the interval by default, is stale,
and FAILED by the next who looks; one of which nothing was ever heard never is. The clock is that of the ledger.

A beat is a renewal of the trial's lease (LeaseRenewed, which histories hide). Where the grace is more than three intervals, one
in a third of it is recorded, and the grace counts from the end of that third: never earlier than from the last beat.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ledger.errors import InvalidValue


class HeartbeatRules:
    """When a trial is stale, and what is done about it then."""

    def __init__(self, interval: int | None, grace_period: int | None, callback: Callable[[Any, Any], None] | None) -> None:
        for what, seconds in (("heartbeat_interval", interval), ("grace_period", grace_period)):
            if seconds is not None and not (isinstance(seconds, int | float) and seconds > 0):
                raise InvalidValue(f"{what} is {seconds!r}; give a number of seconds above 0, or leave it out.")
        self.interval, self.grace_period, self.callback = interval, grace_period, callback

    @property
    def grace_seconds(self) -> float:
        """For how long nothing may be heard of a trial."""
        return 2.0 * (self.interval or 0) if self.grace_period is None else float(self.grace_period)

    @property
    def renew_seconds(self) -> float:
        """For how long a beat need not be recorded after one that was."""
        third = self.grace_seconds / 3
        return third if self.interval is not None and self.interval < third else 0.0

    @property
    def silent_after_seconds(self) -> float:
        """How long after a recorded beat a trial is stale, unless another was recorded."""
        return self.grace_seconds + self.renew_seconds
