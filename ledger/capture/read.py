"""Reading back what a trial ran with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ledger import events as ev
from ledger.log import EventLog
from ledger.records import Record
from ledger.streams import capture_stream


def captured_of(records: Iterable[Record]) -> dict[str, str]:
    """Return the digests, by kind, that the last of a trial's records on it refers to; empty when there is none."""
    captures: dict[str, str] = {}
    for record in records:
        if isinstance(record.event, ev.TrialCaptured):
            captures = record.event.captures
    return dict(captures)


def read_captures(log: EventLog, captures: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the contents of captures, by kind; of one that was redacted, or is not in this ledger, a ``problem`` says so."""
    return {kind: _read_capture(log, kind, digest) for kind, digest in captures.items()}


def _read_capture(log: EventLog, kind: str, digest: str) -> dict[str, Any]:
    content: dict[str, Any] | None = None
    for record in log.read(stream=capture_stream(kind, digest)):
        if isinstance(record.event, ev.CaptureStored) and content is None:
            content = dict(record.event.content)
        elif isinstance(record.event, ev.PayloadRedacted) and record.event.version == 1:
            why = f": {record.reason}" if record.reason else ""
            content = {"problem": f"redacted by {record.actor}{why}"}
    return {"problem": "it is not in this ledger"} if content is None else content
