"""A clock that stands still until it is told."""

from __future__ import annotations

START_NS = 1_800_000_000_000_000_000  # some day in 2027


class FakeClock:
    """Give ns since 1970 UTC, as ``time.time_ns`` does, and move only by ``advance`` and ``set``.

    >>> clock = FakeClock(1_000)
    >>> clock.advance(2.5)
    >>> clock()
    2500001000
    """

    def __init__(self, now: int = START_NS) -> None:
        self._now = now

    def __call__(self) -> int:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move by so many seconds; back, when they are negative."""
        self._now += round(seconds * 1e9)

    def set(self, now: int) -> None:
        """Stand at ``now`` (ns since 1970 UTC)."""
        self._now = now
