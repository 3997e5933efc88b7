"""The history of a trial's status, which mlos_bench writes and never reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from ledger import events as ev
from ledger.integrations.mlos.status import TO_MLOS
from ledger.integrations.mlos.telemetry import POLLED
from ledger.integrations.mlos.values import moment_of
from ledger.records import Record
from ledger.state import TrialState, evolve_trial
from ledger.streams import subject_of
from ledger.telemetry import point_rows

COLUMNS = ["trial_id", "ts", "status", "event", "worker", "actor", "reason", "position"]


def status_history(records: Iterable[Record]) -> pd.DataFrame:
    """Return every change of the statuses of trials, and every status that was polled, in order of recording.

    Columns: ``trial_id``, ``ts`` (UTC), ``status`` (mlos_bench's word), ``event`` (the type of the event that changed it, or
    ``polled``), ``worker`` (who held the trial then), ``actor`` and ``reason`` (who recorded it, and why), ``position`` in the
    log. Two changes at one time are two rows.
    """
    return pd.DataFrame(list(_rows(records)), columns=COLUMNS)


def _rows(records: Iterable[Record]) -> Iterator[tuple[Any, ...]]:
    states: dict[str, TrialState] = {}
    for record in records:
        subject = subject_of(record.stream)
        if subject is None or subject.trial_id is None:
            continue
        before = states.get(record.stream)
        if isinstance(record.event, ev.TelemetryLogged):
            for name, _, at, value in point_rows(record.event):
                if name == POLLED:
                    yield _row(record, subject.trial_id, at, str(value), "polled", before)
            continue
        after = evolve_trial(before, subject, record.event, record.happened_at, is_checked=True)
        states[record.stream] = after
        if before is None or after.status is not before.status:
            yield _row(record, subject.trial_id, record.happened_at, TO_MLOS[after.status], record.type, after)


def _row(record: Record, trial_id: int, at: int, status: str, event: str, state: TrialState | None) -> tuple[Any, ...]:
    worker = None if state is None else state.worker
    return trial_id, moment_of(at), status, event, worker, record.actor, record.reason, record.position
