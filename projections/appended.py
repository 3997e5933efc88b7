"""AppendedTable: what projections have in common whose rows are of trials and experiments, and are only ever added."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar
from uuid import UUID

import numpy as np

from ledger.errors import InvalidValue
from ledger.records import Record
from ledger.state import evolve_trial
from ledger.status import Status, TrialState
from ledger.streams import subject_of
from projections.columns import NOT_A_TIME
from projections.projection import Projection
from projections.rows import Rows

#: Names of the event types that hide a trial and show it again.
TOMBSTONES = frozenset({"TrialDeleted", "TrialRestored"})
_MOST_WAITING = 8192


class Waiting:
    """Rows on their way into the buffers, many at once: one by one each would cost some 10 µs."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self._names = list(rows.buffers)
        self._cells: list[tuple[Any, ...]] = []

    def __len__(self) -> int:
        return self.rows.length + len(self._cells)

    def add(self, *cells: Any) -> None:
        """Add a row: a cell for each column, in their order."""
        self._cells.append(cells)
        if len(self._cells) >= _MOST_WAITING:
            self.flush()

    def flush(self) -> Rows:
        """Return the rows with all that were added."""
        if self._cells:
            self.rows.extend(dict(zip(self._names, zip(*self._cells, strict=True), strict=True)))
            self._cells = []
        return self.rows


class Owners:
    """The experiments and trials that rows are of, numbered from 0; and which of the trials are deleted."""

    kinds: ClassVar[Mapping[str, str]] = {"experiment": "text", "trial_id": "integer", "deleted_at": "time"}

    def __init__(self, rows: Rows | None = None) -> None:
        self._waiting = Waiting(rows or Rows(self.kinds))
        self._numbers: dict[str, dict[int | None, int]] = {}
        kept = self._waiting.rows
        places = np.arange(kept.length)
        columns = kept["experiment"].values(places), kept["trial_id"].values(places)
        for number, (experiment, trial_id) in enumerate(zip(*columns, strict=True)):
            self._numbers.setdefault(experiment, {})[trial_id] = number

    @property
    def rows(self) -> Rows:
        return self._waiting.flush()

    def number(self, stream: str) -> int | None:
        """Return the number of whom a stream is about; None for streams of the caller's naming."""
        kind, _, rest = stream.partition("/")
        trial_id = None
        if kind == "trial":  # as the log has let it in: it is well-formed
            rest, _, digits = rest.partition("/")
            trial_id = int(digits)
        elif kind != "experiment":
            return None
        numbers = self._numbers.get(rest)
        if numbers is None:
            numbers = self._numbers[rest] = {}
        number = numbers.get(trial_id)
        if number is None:
            number = numbers[trial_id] = len(self._waiting)
            self._waiting.add(rest, trial_id, None)
        return number

    def apply(self, record: Record) -> None:
        """Take in that a trial was deleted or restored."""
        number, subject = self.number(record.stream), subject_of(record.stream)
        if number is None or subject is None:
            return
        before = TrialState(subject.experiment_id, subject.trial_id or 0, Status.PENDING, {})
        after = evolve_trial(before, subject, record.event, record.happened_at, is_checked=True)
        self.rows["deleted_at"].write(np.array([number]), [after.deleted_at])

    def of(self, experiment_id: UUID, *, trials: Iterable[int] | int | None = None, deleted: bool = False) -> Any:
        """Return the numbers of an experiment and its trials, as an array: of all, or of some trials alone."""
        numbers = self._numbers.get(experiment_id.hex, {})
        if trials is None:
            found = np.fromiter(numbers.values(), np.int64, len(numbers))
        else:
            wanted = dict.fromkeys([trials] if isinstance(trials, int) else trials)
            for trial_id in wanted:
                _check_trial_id(trial_id)
            found = np.array([numbers[int(each)] for each in wanted if each in numbers], np.int64)
        if deleted:
            return found
        return found[self.rows["deleted_at"].arrays()[0][found] == NOT_A_TIME]


def _check_trial_id(trial_id: Any) -> None:
    if isinstance(trial_id, bool) or not isinstance(trial_id, int | np.integer):
        raise InvalidValue(f"one of the trials is {trial_id!r}; give their numbers: trials=[1, 2], or one: trials=1.")


class AppendedTable(Projection):
    """A projection of rows that belong to trials and experiments: once there, a row never changes.

    The class names the ``columns``; the first is ``owner``, the number that ``Owners`` gives. ``apply`` calls ``add``.
    """

    owners: Owners
    waiting: Waiting

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__new__(cls, *args, **kwargs)
        made.owners, made.waiting = Owners(), Waiting(made.rows)
        return made

    def chosen(self, owners: Any) -> Any:
        """Return the rows of some owners, as an array of numbers in order of recording."""
        is_wanted = np.zeros(self.owners.rows.length, np.bool_)
        is_wanted[owners] = True
        return np.flatnonzero(is_wanted[self.waiting.flush()["owner"].arrays()[0]])

    def trial_ids(self, rows: Any) -> Any:
        """Return the trial_ids of rows as ``Int64``, missing for what is the experiment's own."""
        return self.owners.rows["trial_id"].take(self.rows["owner"].arrays()[0][rows]).array()

    def save(self) -> tuple[dict[str, Rows], dict[str, Any]]:
        return {"rows": self.waiting.flush(), "owners": self.owners.rows}, self.memory

    def load(self, rows: dict[str, Rows], memory: dict[str, Any]) -> None:
        self.rows, self.owners, self.memory = rows["rows"], Owners(rows["owners"]), memory
        self.waiting = Waiting(self.rows)
