"""Optuna's JournalStorage on a ledger: each entry of the journal is an event of one stream.

There are no snapshots (Optuna's ``BaseJournalSnapshot``): Optuna pickles them, and unpickles whatever bytes it is given
when a storage is opened. Who could write to the ledger could so run code in every process that reads it, which nothing
else in a ledger allows. ``LedgerStorage`` opens large studies fast without.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from ledger.errors import Corrupted, InvalidValue, UnsupportedFormat
from ledger.integrations.optuna.opened import OnLedger
from ledger.registry import Event
from ledger.registry import event as event_type
from ledger.session import Ledger
from ledger.values import check_label, with_article

TYPE = "OptunaJournalAppended"
_TYPES = frozenset({TYPE})

#: What stands in place of a redacted entry, so that those after it keep their numbers: it sets nothing of no study.
_NOTHING = {"op_code": 2, "worker_id": "", "study_id": -1, "user_attr": {}}


@event_type(name=TYPE)
class JournalAppended(Event):
    """An entry was appended to a journal of Optuna's; its number is the version of its record in the stream, from 1.

    ``entry`` is its JSON as Optuna means it, whose order of keys it keeps. Optuna appends what it is about to do: an entry
    may be one that it goes on to reject.

    >>> JournalAppended('{"op_code":1,"worker_id":"w","study_id":0}').entry
    '{"op_code":1,"worker_id":"w","study_id":0}'
    """

    entry: str


class LedgerJournalBackend(OnLedger, BaseJournalBackend):  # type: ignore[misc]
    """Keep the journal of an ``optuna.storages.JournalStorage`` in a ledger, given as a handle or a path.

    ``name`` tells several journals in one ledger apart. What one call appends is one commit: entries are numbered without
    gaps, each once, whichever processes append; none can be torn. For new studies take ``LedgerStorage``, whose studies and
    trials are experiments and trials of the ledger; ``ledger import --from optuna-journal`` makes those of a journal file.

    **Threads and processes.** Share one among threads; it may be pickled and inherited by fork. In a forked child make a new
    JournalStorage on it: Optuna's tell their entries from others' by a number that a fork would double. ``close`` it, or use it
    in a ``with`` block, unless the ledger was given as a handle.

    **Cost.** An append is one commit. A read goes on where the one before it ended: it costs what is new.

    >>> import ledger, optuna
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> with ledger.open("memory:") as book:
    ...     storage = optuna.storages.JournalStorage(LedgerJournalBackend(book))
    ...     study = optuna.create_study(storage=storage, study_name="demo")
    ...     study.optimize(lambda trial: trial.suggest_float("x", 0, 1) ** 2, n_trials=3)
    ...     len(study.trials), book.log.version("optuna-journal/default")
    (3, 10)
    """

    def __init__(self, ledger: Ledger | str | os.PathLike[str], name: str = "default") -> None:
        super().__init__(ledger)
        if not check_label(name, "the journal's name"):
            raise InvalidValue("the journal's name is empty; give a text, or leave it out.")
        self._stream = f"optuna-journal/{name}"
        self._reached = 0, 0  # the number of the next entry, and a position that it comes after

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append entries, in one atomic step, safe when it returns.

        Raises TypeError for what JSON cannot say, RecordTooLarge for an entry of more than 512 KiB, and what appending raises;
        then none of them was appended.
        """
        if logs:
            self._opened.book.log.append([JournalAppended(_encoded(log)) for log in logs], stream=self._stream)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Iterate over the entries from a number on, counted from 0. Raises Corrupted when one is missing or damaged."""
        log = self._opened.book.log
        number, position = self._reached
        if number != log_number_from:
            positions = log.backend.stream_positions(self._stream)
            if log_number_from >= len(positions):
                return
            number, position = log_number_from, positions[log_number_from] - 1
        while True:
            records, reached = log.page(position, _TYPES)
            for record in records:
                if record.stream != self._stream:
                    continue
                if record.version != number + 1:
                    raise Corrupted(f"entry {number} of {self._stream!r} is missing.", record.position)
                number += 1
                self._reached = number, record.position
                yield _NOTHING if record.is_redacted else _decoded(record.event, record.position)
            if reached <= position:
                return
            position = reached
            self._reached = number, position

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reached": (0, 0)}


def _encoded(log: dict[str, Any]) -> str:
    text = json.dumps(log, separators=(",", ":"), ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can say by its number
        return json.dumps(log, separators=(",", ":"))
    return text


def _decoded(event: Event, position: int) -> dict[str, Any]:
    if not isinstance(event, JournalAppended):
        raise UnsupportedFormat(f"the entry at position {position} is of a newer version. pip install -U experiment-ledger.")
    try:
        value = json.loads(event.entry)
    except ValueError as error:
        raise Corrupted(f"it holds an entry of a journal that is no JSON: {error}.", position) from error
    if not isinstance(value, dict):
        raise Corrupted(f"it holds an entry of a journal that is {with_article(type(value).__name__)}.", position)
    return value
