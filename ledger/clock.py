"""The clock of the log: times that never go back."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

from ledger.backends.base import Submission
from ledger.events import ClockSkewed
from ledger.identity import default_actor, new_uuid7
from ledger.records import iso_nanoseconds

SKEW_LIMIT_NS = 60_000_000_000


class Clock:
    """Give each commit its ``recorded_at``: the wall clock, or the time of the record before when that is later.

    Not thread-safe; the committing thread alone uses it.
    """

    def __init__(self, source: Callable[[], int] | None = None) -> None:
        self.now = source or time.time_ns
        self._reported_at: int | None = None

    def next(self, last: int) -> tuple[int, int]:
        """Return the time for a record after one of ``last``, and by how much the clock stands behind it (ns).

        The second is 0 unless it is over a minute and was not reported by this process within the last minute.
        """
        raw = self.now()
        behind = last - raw
        if behind <= SKEW_LIMIT_NS:
            return max(raw, last), 0
        if self._reported_at is not None and 0 <= raw - self._reported_at < SKEW_LIMIT_NS:
            return last, 0
        self._reported_at = raw
        return last, behind


def skew_submission(now: int, behind: int) -> Submission:
    """Warn the user, and return the submission that records the raw time."""
    raw, seconds = now - behind, behind / 1e9
    warnings.warn(
        f"the clock says {iso_nanoseconds(raw)}, {seconds:,.0f} s before the newest record; records get the time of that "
        "one until the clock has caught up, and a ClockSkewed event keeps the raw time. Set the clock right.",
        stacklevel=2,
    )
    append_id = new_uuid7().bytes
    return Submission(lambda view: [("ledger", ClockSkewed(raw, seconds))], append_id, append_id, default_actor())
