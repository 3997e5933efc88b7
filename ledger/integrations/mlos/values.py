"""Values and times as mlos_bench has them: texts for what it stores, UTC of pytz for when."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ledger.records import from_nanoseconds, to_nanoseconds

NAMESPACE = "mlos"  # of the attributes
CONFIG, RUNNER = "config", "runner"  # of trials: parameters that are no tunables, and the id of the trial runner

_PLAIN = frozenset({str, int, float, bool, type(None)})
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1


def recordable(value: Any) -> Any:
    """Return a value as it is recorded: a number, a text, a bool or None as it is, anything else as its text.

    mlos_bench stores every value as its text; numbers keep their type here, and ``text_of`` gives the same text again.

    >>> recordable(0.5), recordable(("a", 1))
    (0.5, "('a', 1)")
    """
    if type(value) in _PLAIN:
        return value
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # a numpy scalar
        return recordable(value.item())
    return str(value)


def recordables(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by name as they are recorded."""
    return {str(name): recordable(value) for name, value in values.items()}


def recordable_point(value: Any) -> Any:
    """Return a value of telemetry as it is recorded: an int beyond 64 bits is a text."""
    made = recordable(value)
    return str(made) if type(made) is int and not _INT_MIN <= made <= _INT_MAX else made


def text_of(value: Any) -> str | None:
    """Return a recorded value as mlos_bench would have stored it.

    >>> text_of(100), text_of(99.9), text_of(True), text_of(None)
    ('100', '99.9', 'True', None)
    """
    return None if value is None else str(value)


def texts_of(values: Mapping[str, Any]) -> dict[str, str | None]:
    """Return recorded values by name as mlos_bench would have stored them."""
    return {name: None if value is None else str(value) for name, value in values.items()}


def nanoseconds_of(moment: datetime) -> int:
    """Return a time as ns since 1970 UTC; one without a zone is local, as everywhere in mlos_bench."""
    aware = moment if moment.tzinfo is not None else moment.astimezone()
    nanoseconds = to_nanoseconds(aware)
    assert nanoseconds is not None  # which is for None alone
    return nanoseconds


def moment_of(nanoseconds: int) -> datetime:
    """Return a time with pytz's UTC, which mlos_bench insists on, cut to microseconds."""
    import pytz  # here: the importer does without

    return from_nanoseconds(nanoseconds).replace(tzinfo=pytz.UTC)
