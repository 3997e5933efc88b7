"""Times as people type them: a moment, or how long ago."""

from __future__ import annotations

import datetime as dt
import re
import time

import typer

from ledger.records import to_nanoseconds

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])", re.ASCII)

METAVAR = "TIME"
HELP = "ISO 8601 (UTC unless it has a zone), or how long ago: 2h, 30m, 7d."
COMING_HELP = "ISO 8601 (UTC unless it has a zone), or how long from now: 2h, 30m, 7d."


def parse_time(text: str, option: str, *, now: int | None = None) -> int:
    """Return a time as ns since 1970 UTC: ISO 8601, where UTC is meant unless it has a zone, or a duration back from now.

    A date is its first moment, a time alone is today's. Raises typer's BadParameter, which names the option.

    >>> parse_time("2026-11-20", "--since") == parse_time("2026-11-20T01:00+01:00", "--since")
    True
    >>> parse_time("1h30m", "--since", now=5_400_000_000_001)
    1
    """
    text = text.strip()
    now = time.time_ns() if now is None else now
    if _DURATION.fullmatch(text):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
        return max(now - round(min(seconds, 1e11) * 1e9), 0)
    moment = _moment(text, now)
    if moment is None:
        raise typer.BadParameter(
            f"{text!r} is no time; give ISO 8601 (2026-11-20, 2026-11-20T12:30Z, 12:30) or a duration (2h, 30m, 7d).",
            param_hint=repr(option),
        )
    return to_nanoseconds(moment) or 0


def parse_coming(text: str, option: str, *, now: int | None = None) -> int:
    """Return a time to come: as ``parse_time``, but a duration counts from now on.

    >>> parse_coming("1h30m", "--at", now=1)
    5400000000001
    """
    now = time.time_ns() if now is None else now
    if not _DURATION.fullmatch(text.strip()):
        return parse_time(text, option, now=now)
    ahead = now
    for number, unit in _PART.findall(text):
        ahead += round(float(number) * _UNITS[unit] * 1e9)
    return ahead


def _moment(text: str, now: int) -> dt.datetime | None:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        if ":" not in text:  # "2026" would be read as 20:26
            return None
        try:
            today = dt.datetime.fromtimestamp(now // 1_000_000_000, dt.UTC).date()
            moment = dt.datetime.combine(today, dt.time.fromisoformat(text))
        except ValueError:
            return None
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment
