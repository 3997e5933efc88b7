"""Optuna's artifact store on a ledger's content store.

An artifact is logged in the stream of the trial or study that Optuna has named as its owner just before: it goes along
with that wherever it is merged or exported to. optuna-dashboard names the owner afterwards; what it uploads is logged in
an experiment of its own, which is no study.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from typing import Any, BinaryIO

from optuna.artifacts.exceptions import ArtifactNotFound

from ledger import events as ev
from ledger.artifacts.reading import PIECE_BYTES
from ledger.errors import InvalidValue, UnknownExperiment
from ledger.integrations.optuna.opened import OnLedger
from ledger.integrations.optuna.vocabulary import SYSTEM
from ledger.records import Record
from ledger.registry import Event
from ledger.registry import event as event_type
from ledger.session import Ledger
from ledger.values import check_label

REMOVED = "OptunaArtifactRemoved"
#: The experiment of the artifacts whose owner is not known when they are written.
HOME = "optuna artifacts"
_TYPES = frozenset({"ArtifactLogged", REMOVED})
_PREFIX = "optuna/"  # of the names of artifacts
_MAX_ID = 1000
_OWNED = "artifacts:"  # what the key of the attribute begins with by which Optuna names an artifact's owner
_LOOK_BACK = 64, 4096  # records among which it is looked for


@event_type(name=REMOVED)
class ArtifactRemoved(Event):
    """An artifact of Optuna's is not handed out any more, by the id that Optuna gave it; its content stays where it is.

    >>> ArtifactRemoved("f3b0f3a2-9c5e-4c3e-8d51-0f5a9c1e7b11").artifact_id
    'f3b0f3a2-9c5e-4c3e-8d51-0f5a9c1e7b11'
    """

    artifact_id: str


class LedgerArtifactStore(OnLedger):
    """Keep Optuna's artifacts in a ledger, given as a handle or a path; for ``optuna.artifacts`` and optuna-dashboard.

    **Guarantees.** What ``write`` has returned from is on disk, whole. What ``open_reader`` hands out has proved right. An id
    written again counts anew, and ``remove`` is an event: nothing is erased by either. To free the room, redact the record
    (``ledger redact``), and collect what nothing refers to any more (``ledger gc``).

    **Threads and processes.** Share one among threads; it may be pickled and inherited by fork. ``close`` it, or use it in a
    ``with`` block, unless the ledger was given as a handle.

    **Cost.** Content is streamed: it need not fit into memory. The first read looks through the ledger's artifacts.

    >>> import io, ledger
    >>> with ledger.open("memory:") as book:
    ...     store = LedgerArtifactStore(book)
    ...     store.write("17", io.BytesIO(b"weights"))
    ...     with store.open_reader("17") as file:
    ...         file.read()
    b'weights'
    """

    def __init__(self, ledger: Ledger | str | os.PathLike[str]) -> None:
        super().__init__(ledger)
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._mutex = threading.Lock()
        self._found: dict[str, int] = {}  # id -> position of the record that counts
        self._reached = 0

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Keep the content under the id; what is written under it again counts instead.

        Raises InvalidValue for what is no id, DiskFull, ExperimentReadOnly when its owner is sealed; then nothing was recorded.
        """
        name = _name_of(artifact_id)
        log = self._opened.book.log
        stream, media_type = self._owner(artifact_id) or (self._home(), "")
        with log.backend.blobs.saving() as saving:
            with saving.writing() as writer:
                shutil.copyfileobj(content_body, writer, PIECE_BYTES)
            with log.backend.blobs.guard():
                saving.publish()
                log.append([ev.ArtifactLogged(name, writer.digest, writer.size, media_type=media_type)], stream=stream)

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Open the content to be read, in any order, once all of it has proved right. Raises ArtifactNotFound, Corrupted."""
        record = self._find(artifact_id)
        logged: ev.ArtifactLogged = record.event
        return self._opened.book.log.backend.blobs.open_proved(logged.digest, logged.size, f"the artifact {artifact_id!r}")

    def remove(self, artifact_id: str) -> None:
        """Record that the artifact is not to be handed out any more. Raises ArtifactNotFound."""
        record = self._find(artifact_id)
        self._opened.book.log.append([ArtifactRemoved(artifact_id)], stream=record.stream)

    def _find(self, artifact_id: str) -> Record:
        name = _name_of(artifact_id)
        log = self._opened.book.log
        if self._pid != os.getpid():
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
        if not found or not found[0].event.digest:  # or it was redacted
            raise ArtifactNotFound(f"there is no artifact {artifact_id!r} in {self._opened.book.path}.")
        return found[0]

    def _take(self, record: Record) -> None:
        event = record.event
        if isinstance(event, ev.ArtifactLogged) and event.name.startswith(_PREFIX):
            self._found[event.name] = record.position
        elif isinstance(event, ArtifactRemoved):
            self._found.pop(_PREFIX + event.artifact_id, None)

    def _owner(self, artifact_id: str) -> tuple[str, str] | None:
        """Return the stream of the trial or study that has just been given the artifact, and its media type."""
        log, key = self._opened.book.log, _OWNED + artifact_id
        for count in _LOOK_BACK:
            for record in log.read(max(log.head - count, 0), types=ev.AttributesSet):
                event = record.event
                if isinstance(event, ev.AttributesSet) and event.namespace == SYSTEM and key in event.attributes:
                    return record.stream, _media_type(event.attributes[key])
        return None

    def _home(self) -> str:
        book = self._opened.book
        try:
            return book.get_experiment(HOME).stream
        except UnknownExperiment:
            return book.experiment(
                HOME, description="Artifacts of Optuna whose owners were named after they were written."
            ).stream

    def __getstate__(self) -> dict[str, Any]:
        return {"_opened": self._opened}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._opened = state["_opened"]
        self._forget()


def _name_of(artifact_id: str) -> str:
    """Return the name under which an artifact is logged."""
    if not check_label(artifact_id, "the artifact's id") or len(artifact_id) > _MAX_ID:
        raise InvalidValue(f"the artifact's id is {artifact_id!r:.100}; give a text of 1 to {_MAX_ID:,} characters.")
    return _PREFIX + artifact_id


def _media_type(said: Any) -> str:
    """Return the media type that Optuna's description of an artifact names, a JSON text."""
    try:
        media_type = json.loads(said)["mimetype"]
        return check_label(media_type, "the media type")
    except (TypeError, KeyError, ValueError):  # somebody else's
        return ""
