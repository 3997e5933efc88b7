"""The clock of the log: times that never go back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

SKEW_LIMIT_NS = 60_000_000_000


class Reading(NamedTuple):
    """What the clock gives for one commit, in ns since 1970 UTC."""

    now: int  # what the records get
    raw: int  # what the clock said
    behind: int  # by how much it stands behind the log, when that is to be recorded; else 0


class Clock:
    """Give each commit its ``recorded_at``: the wall clock, or the time of the record before when that is later.

    A clock over a minute behind is reported once a minute by each process. The committing thread alone uses it.
    """

    def __init__(self, source: Callable[[], int] | None = None) -> None:
        self.now = source or time.time_ns
        self._reported_at: int | None = None

    def read(self, last: int) -> Reading:
        """Read the clock for a commit after a record of the time ``last``; reading again changes nothing."""
        raw = self.now()
        behind = last - raw
        if behind <= SKEW_LIMIT_NS:
            return Reading(max(raw, last), raw, 0)
        recently = self._reported_at is not None and 0 <= raw - self._reported_at < SKEW_LIMIT_NS
        return Reading(last, raw, 0 if recently else behind)

    def reported(self, reading: Reading) -> None:
        """Note that the commit with this reading is on disk."""
        if reading.behind:
            self._reported_at = reading.raw
