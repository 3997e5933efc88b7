"""Optuna's artifacts by the ids that Optuna has given them: which record of the log counts for each.

Nothing here needs Optuna, so that the command line can tell what was removed without it.
"""

from __future__ import annotations

import json
import os
import threading
from typing import Any

from ledger import events as ev
from ledger.errors import InvalidValue
from ledger.log import EventLog
from ledger.records import Record
from ledger.registry import Event
from ledger.registry import event as event_type
from ledger.values import check_label

REMOVED = "OptunaArtifactRemoved"
_TYPES = frozenset({"ArtifactLogged", REMOVED})
_PREFIX = "optuna/"  # of the names of artifacts
_MAX_ID = 1000
_LINK = "artifacts:"  # what the key of the system attribute begins with by which Optuna names an artifact's owner


@event_type(name=REMOVED)
class ArtifactRemoved(Event):
    """An artifact of Optuna's is not handed out any more, by the id that Optuna gave it; its content stays where it is.

    >>> ArtifactRemoved("f3b0f3a2-9c5e-4c3e-8d51-0f5a9c1e7b11").artifact_id
    'f3b0f3a2-9c5e-4c3e-8d51-0f5a9c1e7b11'
    """

    artifact_id: str


class ArtifactIndex:
    """Find the record that counts for an artifact; each look reads on from where the one before it ended.

    **Threads and processes.** Share one among threads; what is inherited by fork, or pickled, begins anew.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._mutex = threading.Lock()
        self._found: dict[str, int] = {}  # name -> position of the record that counts
        self._reached = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return ArtifactIndex, ()

    def find(self, log: EventLog, name: str) -> Record | None:
        """Return the ArtifactLogged that counts for the name; None when there is none, or it was removed or redacted."""
        if self._pid != os.getpid():  # forked: the lock may be held by a thread that is not in this process
            self._forget()
        with self._mutex:
            while True:
                records, reached = log.page(self._reached, _TYPES)
                for record in records:
                    self._take(record)
                if reached <= self._reached:
                    break
                self._reached = reached
            position = self._found.get(name)
        found = [] if position is None else log.backend.read_positions([position])
        return found[0] if found and found[0].event.digest else None

    def _take(self, record: Record) -> None:
        event = record.event
        if isinstance(event, ev.ArtifactLogged) and event.name.startswith(_PREFIX):
            self._found[event.name] = record.position
        elif isinstance(event, ArtifactRemoved):
            self._found.pop(_PREFIX + event.artifact_id, None)


def removals(log: EventLog) -> dict[str, int]:
    """Return the names of artifacts that were removed, each with the position of the last record that says so."""
    records = log.read(types=[ArtifactRemoved])
    return {_PREFIX + each.event.artifact_id: each.position for each in records if isinstance(each.event, ArtifactRemoved)}


def name_of(artifact_id: str) -> str:
    """Return the name under which an artifact is logged; InvalidValue for what is no id.

    >>> name_of("17")
    'optuna/17'
    """
    if not check_label(artifact_id, "the artifact's id") or len(artifact_id) > _MAX_ID:
        raise InvalidValue(f"the artifact's id is {artifact_id!r:.100}; give a text of 1 to {_MAX_ID:,} characters.")
    return _PREFIX + artifact_id


def key_of(artifact_id: str) -> str:
    """Return the key of the system attribute by which Optuna gives an artifact to a trial or a study."""
    return _LINK + artifact_id


def linked_name(key: Any, value: Any) -> str | None:
    """Return the name of the artifact that a system attribute gives to whom it is set on; None for any other attribute.

    >>> linked_name("artifacts:17", '{"mimetype": "text/plain"}'), linked_name("artifacts:17", "null"), linked_name("note", "x")
    ('optuna/17', None, None)
    """
    if not isinstance(key, str) or not key.startswith(_LINK) or _description(value) is None:
        return None
    return _PREFIX + key.removeprefix(_LINK)


def media_type_of(value: Any) -> str:
    """Return the media type that Optuna's description of an artifact names; empty for none.

    >>> media_type_of('{"mimetype": "text/plain"}'), media_type_of("null")
    ('text/plain', '')
    """
    try:
        return check_label((_description(value) or {})["mimetype"], "the media type")
    except (KeyError, InvalidValue):
        return ""


def _description(value: Any) -> dict[str, Any] | None:
    """Return what Optuna's description of an artifact says, a JSON text; None for one that was taken back."""
    try:
        found = json.loads(value)
    except (TypeError, ValueError, RecursionError):  # somebody else's
        return None
    return found if isinstance(found, dict) else None
