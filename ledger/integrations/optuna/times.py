"""Times: Optuna's, which are naive and local, to and from those of records."""

from __future__ import annotations

import datetime as dt
from typing import Any

from ledger.rules import MAX_TIME

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


def to_local(nanoseconds: int) -> dt.datetime:
    """Return the time as Optuna shows it: naive, in the zone of this machine, to the microsecond.

    >>> from_local(to_local(1_500_000_000_123_456_000))
    1500000000123456000
    """
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return dt.datetime.fromtimestamp(seconds).replace(microsecond=rest // 1000)


def from_local(time: dt.datetime) -> int | None:
    """Return a time of Optuna's as ns since 1970 UTC; None for one that no record can carry."""
    try:
        nanoseconds = (time.astimezone(dt.UTC) - _EPOCH) // _MICROSECOND * 1000
    except (OverflowError, OSError, ValueError):  # at the ends of the calendar
        return None
    return nanoseconds if -MAX_TIME <= nanoseconds <= MAX_TIME else None


def shown(value: Any) -> dt.datetime | None:
    """Return a time that was kept as an attribute as Optuna shows it."""
    if not isinstance(value, dt.datetime):
        return None
    return value.astimezone().replace(tzinfo=None) if value.tzinfo is not None else value


def kept(time: dt.datetime | None) -> dt.datetime | None:
    """Return a time of Optuna's as it is kept as an attribute: with its zone, unless it is at the ends of the calendar."""
    if time is None or from_local(time) is None:
        return time
    return time.astimezone(dt.UTC)
