"""The clock of the log: times that never go back."""

from __future__ import annotations

import time
from collections.abc import Callable

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
