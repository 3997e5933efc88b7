"""Redaction: what remains of an event when what people put into it is dropped.

The remainder is an event of the same type that means the same for the state machine: statuses, attempts, leases and
times stay, texts and values go. Of a type that is not the package's own nothing remains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

import msgspec

from ledger import events as ev
from ledger.codec import decode_envelopes, encode_event
from ledger.errors import CommandRefused, InvalidValue, UnsupportedFormat
from ledger.records import Record
from ledger.registry import Event, UnknownEvent
from ledger.streams import subject_of
from ledger.values import with_article

#: The payload of a redacted event of a type that is not the package's own: MessagePack's nil.
NOTHING = b"\xc0"

#: event type -> its fields that hold what people put in, with what stands there afterwards. The other types hold none.
CONTENT: dict[type[Event], dict[str, Any]] = {
    ev.ExperimentCreated: {"name": None, "objectives": {}, "description": "", "bounds": {}},
    ev.ExperimentRenamed: {"name": None},
    ev.ExperimentRestored: {"name": None},
    ev.ExperimentDescribed: {"description": ""},
    ev.ObjectivesChanged: {"objectives": {}, "bounds": {}},
    ev.ExperimentsMerged: {"renamed": {}},
    ev.TrialCreated: {"config": {}, "arms": (), "label": "", "group": ""},
    ev.TrialConfigured: {"parameters": {}},
    ev.TrialCompleted: {"results": {}},
    ev.TrialFailed: {"error": None, "results": {}},
    ev.TrialPruned: {"results": {}},
    ev.TrialTimedOut: {"results": {}},
    ev.TrialGrouped: {"group": ""},
    ev.TrialAmended: {"results": {}, "withdrawn": [], "config": {}, "label": None},
    ev.StatusForced: {"results": {}},
    ev.ResultsReported: {"results": {}},
    ev.LateResultReceived: {"results": {}, "error": None},
    ev.MetricsLogged: {"points": []},
    ev.TelemetryLogged: {"points": []},
    ev.AttributesSet: {"attributes": {}, "namespace": "", "nulls": []},
    ev.TagsChanged: {"added": [], "removed": []},
    ev.NoteAdded: {"text": ""},
    ev.NoteAmended: {"text": ""},
    ev.EnvironmentCaptured: {"environment": {}},
    ev.ArtifactLogged: {"name": "", "digest": "", "size": 0, "saver": "", "module": "", "media_type": "", "files": 0},
    ev.CaptureStored: {"content": {}},
    ev.EnvironmentChanged: {"changes": []},
}


def remainder_of(stream: str, event: Event) -> bytes:
    """Return the payload that stands in place of the event's once it is redacted.

    Raises CommandRefused for an event in which there is nothing that people put in.

    >>> import msgspec
    >>> msgspec.msgpack.decode(remainder_of("diary", ev.NoteAdded("the key is 123")))
    {'text': ''}
    """
    name = event.type if isinstance(event, UnknownEvent) else type(event).__name__
    if type(event) not in CONTENT:
        if isinstance(event, UnknownEvent) and name in ev.VOCABULARY:
            raise UnsupportedFormat(
                f"{with_article(name)} of a newer version ({event.problem}) cannot be redacted by this one. Upgrade."
            )
        if isinstance(event, ev.PayloadRedacted):
            raise CommandRefused("a PayloadRedacted says what was redacted and why; it stays.")
        if name in ev.VOCABULARY:
            raise CommandRefused(
                f"{with_article(name)} holds numbers and names of the ledger's own only; there is nothing to redact."
            )
        return NOTHING
    changes = dict(CONTENT[type(event)])
    if changes.get("name", "") is None:  # an experiment has a name, and no two live ones have the same
        subject = subject_of(stream)
        assert subject is not None  # the state machine takes these events nowhere else
        changes["name"] = f"redacted {subject.experiment_id}" if getattr(event, "name", "") else ""
    return encode_event(msgspec.structs.replace(cast("Any", event), **changes)).data


def check_redaction(stream: str, event: ev.PayloadRedacted, record: Record | None, *, is_copy: bool = False) -> None:
    """Refuse a redaction that does not fit the record it names; a copy is of a record that has been redacted before."""
    if record is None:
        raise InvalidValue(f"there is no version {event.version} of the stream {stream!r} to redact.")
    if record.type == "PayloadRedacted":
        raise CommandRefused(f"the record at position {record.position} says what was redacted and why; it stays.")
    if record.is_redacted and not is_copy:
        raise CommandRefused(f"the record at position {record.position} is redacted already.")
    if (event.type, event.remainder) != (record.type, remainder_of(stream, record.event)):
        raise InvalidValue(f"what should remain of the {record.type} at position {record.position} is not what would.")


class Found(NamedTuple):
    """Positions of records with a text: in their payload, and only elsewhere in them (actor, reason, ids, stream)."""

    payloads: list[int]
    elsewhere: list[int]


def find_text(entries: Iterable[bytes], text: str, progress: Callable[[int], None] = lambda position: None) -> Found:
    """Find the records, given as bytes, that hold a text anywhere: in a name, a value, a key of a dict.

    Raises InvalidValue for an empty text.
    """
    wanted = text.encode()
    if not wanted:
        raise InvalidValue("the text to look for is empty; give one.")
    found = Found([], [])
    for raw in entries:
        (envelope,) = decode_envelopes(b"\x91" + raw)
        if wanted in raw:
            (found.payloads if wanted in bytes(envelope.payload) else found.elsewhere).append(envelope.position)
        progress(envelope.position)
    return found
