"""Follower: the studies of a ledger as they stand at its head, each record folded once."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ledger import events as ev
from ledger.backends.base import Appended
from ledger.integrations.optuna.studies import Studies
from ledger.log import EventLog
from projections.folds import Fold, open_store

_FAR = 5_000  # records: from so many on it is worth looking for a checkpoint
_SHARE = 32  # a checkpoint is saved again when the log has grown by this part


class Follower:
    """Keep the studies of one ledger current. One thread at a time.

    What this process appends is folded as it was appended when nothing lies between: the log answers with the events as
    readers will see them, and their positions and times. Else it is read by whoever asks next, with what lies between.
    Checkpoints are kept where those of the tables are.
    """

    def __init__(self, log: EventLog, cache_dir: str | os.PathLike[str] | None = None) -> None:
        self._log = log
        self._fold = Fold(Studies, log, open_store(log, cache_dir))
        self._studies = self._fold.at(0)  # the fold's own, so that it saves what becomes of it
        self._saved_at = 0

    @property
    def studies(self) -> Studies:
        """What is known now, without looking whether there is more."""
        return self._studies

    def catch_up(self) -> Studies:
        """Fold what was appended since, by whomever, and return the studies."""
        head = self._log.head
        studies = self._studies
        if head == studies.position:
            return studies
        if head - studies.position > _FAR or not self._read(studies, head):
            self._studies = self._fold.at(head)
            self.save()  # few close their storages
        else:
            self._save()
        return self._studies

    def _read(self, studies: Studies, head: int) -> bool:
        """Fold the records up to the head; False when one of a page drops the payload of another, which may be folded.

        The pages before it are folded then, and nothing of that one, so that the fold can go on from there.
        """
        backend = self._log.backend
        while studies.position < head:
            page, reached = backend.read_page(studies.position)
            if any(type(record.event) is ev.PayloadRedacted for record in page):
                return False
            for record in page:
                studies.apply(record)
            studies.position = reached
        return True

    def take(self, appended: Iterable[tuple[Appended, int | None]]) -> None:
        """Take in what this process has appended, each with the time at which it is said to have happened."""
        studies = self._studies
        for each, happened_at in appended:
            if not each.events or each.head <= studies.position:
                continue
            if each.position != studies.position + 1:
                return
            at = each.recorded_at if happened_at is None else happened_at
            for position, (stream, event) in enumerate(each.events, start=each.position):
                studies.fold(position, stream, event, at)
            studies.position = each.head
        self._save()

    def _save(self) -> None:
        if self._studies.position - self._saved_at > max(_FAR, self._saved_at // _SHARE):
            self.save()

    def save(self) -> None:
        """Save a checkpoint, if that is worth it."""
        self._saved_at = self._studies.position
        self._fold.save()
