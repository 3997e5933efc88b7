"""Optuna's artifact store on a ledger's content store.

An artifact is logged in the stream of the trial or study that owns it: it goes along with that wherever it is merged or
exported to. ``optuna.artifacts`` names the owner just before it writes. optuna-dashboard names it afterwards: what it writes is
logged in an experiment of its own, which is no study, and by ``LedgerStorage`` in the owner's stream, too, in the commit that
names the owner. What a storage that is not in the ledger owns stays in that experiment.
"""

from __future__ import annotations

import os
import shutil
from typing import BinaryIO

from optuna.artifacts.exceptions import ArtifactNotFound

from ledger import events as ev
from ledger.artifacts.reading import PIECE_BYTES
from ledger.errors import UnknownExperiment, UnknownTrial
from ledger.integrations.optuna.artifact_index import ArtifactIndex, ArtifactRemoved, key_of, media_type_of, name_of
from ledger.integrations.optuna.opened import OnLedger
from ledger.integrations.optuna.vocabulary import SYSTEM
from ledger.records import Record
from ledger.session import Ledger

#: The experiment of the artifacts whose owner is not known when they are written.
HOME = "optuna artifacts"
_LOOK_BACK = 64, 4096  # records among which the attribute is looked for that names the owner


class LedgerArtifactStore(OnLedger):
    """Keep Optuna's artifacts in a ledger, given as a handle or a path; for ``optuna.artifacts`` and optuna-dashboard.

    **Guarantees.** What ``write`` has returned from is on disk, whole. What ``open_reader`` hands out has proved right. An id
    written again counts anew, and ``remove`` is an event: nothing is erased by either, and ``ledger artifacts --all`` goes on
    listing it. To free the room, redact the records of the content (``ledger redact``; what was uploaded in optuna-dashboard has
    two), and collect what nothing refers to any more (``ledger gc``).

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
        self._index = ArtifactIndex()

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Keep the content under the id; what is written under it again counts instead.

        Raises InvalidValue for what is no id, DiskFull, ExperimentReadOnly when its owner is sealed; then nothing was recorded.
        """
        name = name_of(artifact_id)
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
        record, removed = self._find(artifact_id), [ArtifactRemoved(artifact_id)]
        try:
            self._opened.book.log.append(removed, stream=record.stream)
        except (UnknownExperiment, UnknownTrial):  # its owner was deleted, and takes no events
            self._opened.book.log.append(removed, stream=self._home())

    def _find(self, artifact_id: str) -> Record:
        record = self._index.find(self._opened.book.log, name_of(artifact_id))
        if record is None:
            raise ArtifactNotFound(f"there is no artifact {artifact_id!r} in {self._opened.book.path}.")
        return record

    def _owner(self, artifact_id: str) -> tuple[str, str] | None:
        """Return the stream of the trial or study that has just been given the artifact, and its media type."""
        log, key = self._opened.book.log, key_of(artifact_id)
        for count in _LOOK_BACK:
            for record in log.read(max(log.head - count, 0), types=ev.AttributesSet):
                event = record.event
                if isinstance(event, ev.AttributesSet) and event.namespace == SYSTEM and key in event.attributes:
                    return record.stream, media_type_of(event.attributes[key])
        return None

    def _home(self) -> str:
        book = self._opened.book
        try:
            return book.get_experiment(HOME).stream
        except UnknownExperiment:
            return book.experiment(
                HOME, description="Artifacts of Optuna whose owners were named after they were written."
            ).stream
