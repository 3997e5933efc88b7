"""StatusHistoryTable: every change of a trial's status, with when, who and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar
from uuid import UUID

import numpy as np
import pandas as pd

from ledger import events as ev
from ledger.records import Record
from ledger.state import TRANSITIONS, evolve_trial
from ledger.status import Status, TrialState
from ledger.streams import Subject, subject_of
from projections.appended import TOMBSTONES, AppendedTable

#: The status after events of these types, whatever it was before.
_AFTER: dict[type, Status] = {
    ev.TrialCreated: evolve_trial(None, Subject(UUID(int=0), 1), ev.TrialCreated({}), 0).status,
    **{kind: status for kind, (_, status) in TRANSITIONS.items() if status is not None},
}


class StatusHistoryTable(AppendedTable):
    """What became of the trials of an experiment: a row for each change of a status, and for each attempt.

    Columns: ``trial_id`` (int64), ``from`` and ``to`` (category over all of ``ledger.Status``; ``from`` is missing in a
    trial's first row), ``time`` (datetime64[ns, UTC]: when the caller said it happened, else when it was recorded), ``actor``
    and ``reason`` (string: who recorded it, and why; of a failure without a reason, the first line of its error), ``attempt``
    (Int64: the last one granted by then, 0 for none), ``worker`` (string: whom that attempt was granted to; missing when it
    was forced), ``event`` (category: the event type), ``position`` (int64: of the record). Ordered by trial_id, then by
    position.

    A lease that has run out changes nothing until somebody records TrialLost. A trial that is deleted while a worker holds
    it is CANCELED by that; a restored one stays as it was, and neither has a row for it otherwise. A forced status always
    has a row, for it begins an attempt. A status that was **amended** has a row of its own, with the amendment's time, actor
    and reason; as first recorded (``amended=False``) there is none, and what came later follows from what had been recorded.

    Costs some 60 bytes of memory for each change, and 170 for each trial.

    >>> import ledger, projections
    >>> book = ledger.open("memory:")
    >>> exp = book.experiment("demo")
    >>> exp.new_trial({}).fail("disk full")
    >>> history = projections.build(projections.StatusHistoryTable(), book.log).table(exp.id)
    >>> history[["trial_id", "from", "to", "event"]].values.tolist()[1:]
    [[1, 'PENDING', 'READY', 'TrialClaimed'], [1, 'READY', 'RUNNING', 'TrialStarted'], [1, 'RUNNING', 'FAILED', 'TrialFailed']]
    """

    name = "status_history"
    schema_version = 2
    types = frozenset(kind.__name__ for kind in _AFTER) | {"StatusForced", "TrialAmended"} | TOMBSTONES
    columns: ClassVar[Mapping[str, str]] = {
        "owner": "id", "from": "status", "to": "status", "recorded_from": "status", "recorded_to": "status", "time": "time",
        "actor": "text", "reason": "text", "attempt": "integer", "worker": "text", "event": "text", "position": "id",
    }  # fmt: skip

    def __init__(self) -> None:
        # Of each owner, by its number: status now, and had it not been amended; attempt and its worker.
        self._now: list[Status | None] = []
        self._recorded: list[Status | None] = []
        self._attempts: list[int] = []
        self._workers: list[str | None] = []

    def apply(self, record: Record) -> None:
        """Take in what changes the status of a trial."""
        owner = self.owners.number(record.stream)
        if owner is None:
            return
        if owner >= len(self._now):
            more = owner + 1 - len(self._now)
            self._now += [None] * more
            self._recorded += [None] * more
            self._attempts += [0] * more
            self._workers += [None] * more
        event = record.event
        before, recorded, attempt = self._now[owner], self._recorded[owner], self._attempts[owner]
        after = recorded_after = _AFTER.get(type(event))
        if after is None:
            after, attempt_after = self._evolve(record, before, attempt)
            recorded_after = recorded if isinstance(event, ev.TrialAmended) else self._evolve(record, recorded, attempt)[0]
            if attempt_after != attempt:  # forced: nobody's
                self._workers[owner] = None
                attempt = self._attempts[owner] = attempt_after
            elif after is before:
                return
        elif type(event) is ev.TrialClaimed:
            attempt = self._attempts[owner] = event.attempt
            self._workers[owner] = event.worker
        self._now[owner], self._recorded[owner] = after, recorded_after
        self.waiting.add(
            owner, before, after, recorded, recorded_after, record.happened_at, record.actor, _reason(record), attempt,
            self._workers[owner], record.type, record.position,
        )  # fmt: skip

    def _evolve(self, record: Record, status: Status | None, attempt: int) -> tuple[Status, int]:
        """Return status and attempt after an event that is not of the ordinary course of things."""
        if record.type in TOMBSTONES:
            self.owners.apply(record)
        subject = subject_of(record.stream)
        assert subject is not None  # it has a number
        state = None if status is None else TrialState(subject.experiment_id, subject.trial_id or 0, status, {}, attempt=attempt)
        after = evolve_trial(state, subject, record.event, record.happened_at, is_checked=True)
        return after.status, after.attempt

    def table(
        self, experiment_id: UUID, *, trials: Iterable[int] | int | None = None, amended: bool = True, deleted: bool = False
    ) -> pd.DataFrame:
        """Return the changes, of all trials or some; ``amended=False``: as first recorded; ``deleted``: of deleted ones too."""
        rows = self.chosen(self.owners.of(experiment_id, trials=trials, deleted=deleted))
        kept = self.rows
        before, after = ("from", "to") if amended else ("recorded_from", "recorded_to")
        codes, attempts = (kept[name].arrays()[0][rows] for name in (after, "attempt"))
        changed = codes != kept[before].arrays()[0][rows]
        trial_ids = self.owners.rows["trial_id"].arrays()[0][kept["owner"].arrays()[0][rows]]
        order = np.argsort(trial_ids, kind="stable")
        rows, trial_ids, changed, attempts = rows[order], trial_ids[order], changed[order], attempts[order]
        shown = changed | (np.diff(attempts, prepend=0) != 0)  # a trial's first row is a change
        rows = rows[shown]
        frame = {
            "trial_id": trial_ids[shown],
            "from": kept[before].take(rows).array(),
            "to": kept[after].take(rows).array(),
            **{name: kept[name].take(rows).array() for name in ("time", "actor", "reason", "attempt", "worker")},
            "event": kept["event"].take(rows).array().astype("category"),
            "position": kept["position"].take(rows).array(),
        }
        return pd.DataFrame(frame, pd.RangeIndex(len(rows)), copy=False)

    def load(self, rows: dict[str, Any], memory: dict[str, Any]) -> None:
        super().load(rows, memory)
        count = self.owners.rows.length
        last = np.full(count, -1)
        last[self.rows["owner"].arrays()[0]] = np.arange(self.rows.length)
        known = last >= 0
        self._now, self._recorded, self._workers = [None] * count, [None] * count, [None] * count
        self._attempts = [0] * count
        names = ("to", "recorded_to", "attempt", "worker")
        cells = (self.rows[name].values(last[known]) for name in names)
        for owner, now, recorded, attempt, worker in zip(np.flatnonzero(known).tolist(), *cells, strict=True):
            self._now[owner], self._recorded[owner] = now, recorded
            self._attempts[owner], self._workers[owner] = attempt, worker


def _reason(record: Record) -> str | None:
    """Return why, as far as somebody said: at least what the error was."""
    event = record.event
    if record.reason or not isinstance(event, ev.TrialFailed) or event.error is None:
        return record.reason
    return event.error.text.strip().partition("\n")[0] or None
