"""Tables: the tables of a ledger as DataFrames, now and as of any position."""

from __future__ import annotations

import datetime as dt
import difflib
import os
import threading
from typing import Any, Self, TypeVar
from uuid import UUID

import pandas as pd

import ledger
from ledger.errors import InvalidValue, UnknownExperiment
from ledger.records import to_nanoseconds
from projections.builder import Progress, build, check_position
from projections.config_table import ConfigTable
from projections.experiment_table import ExperimentNames, ExperimentTable
from projections.projection import Projection
from projections.trial_table import TrialTable

P = TypeVar("P", bound=Projection)


class Tables:
    """Show the tables of a ledger.

    ``book`` is an open ledger, which stays the caller's to close, or the path of one, which is opened for reading until
    ``close`` or the end of the ``with`` block.

    Every table takes ``as_of``, a position: the table as it stood when the record there was the newest. None is now; a
    position beyond the head means the head; 0 is before the first record. The same position always gives the same table.
    An experiment is named by its name as of that position, or by its id; one that was deleted by its id only. A payload
    that was redacted is gone from the tables as of any position.

    **Guarantees.** A table is a pure fold of the records up to its position, and a DataFrame of the caller's own.

    **Threads and processes.** Use one handle from any thread: one table is made at a time. A forked child makes its own.

    **Cost.** The first call of each table reads the log; a later one folds only the records that came since, and an
    ``as_of`` before the last position shown folds the log from the beginning. ``progress`` is called now and then while it
    reads, with the position reached and the one to be reached.

    Raises InvalidValue for an ``as_of`` that is no position, UnknownExperiment with the nearest name, and for a path the
    OpenErrors of ``ledger.open``.

    >>> import ledger, projections
    >>> with ledger.open("memory:") as book:
    ...     exp = book.experiment("demo", objectives={"loss": "min"})
    ...     exp.new_trial({"lr": 0.1}).complete({"loss": 0.5})
    ...     tables = projections.Tables(book)
    ...     tables.trials("demo")[["trial_id", "status", "result.loss"]].values.tolist()
    ...     tables.trials("demo", as_of=2)[["trial_id", "status"]].values.tolist()
    [[1, 'SUCCEEDED', 0.5]]
    [[1, 'PENDING']]
    """

    def __init__(self, book: ledger.Ledger | str | os.PathLike[str], *, progress: Progress | None = None) -> None:
        self._is_owner = not isinstance(book, ledger.Ledger)
        self.book = book if isinstance(book, ledger.Ledger) else ledger.open(book, create=False, readonly=True)
        self._kept: dict[type[Projection], Projection] = {}  # each as far as it was ever asked for
        self._progress = progress
        self._mutex = threading.RLock()

    def __repr__(self) -> str:
        return f"<Tables of {self.book.path}>"

    # ------------------------------------------------------------------------------------------------ tables

    def experiments(self, *, as_of: int | None = None, deleted: bool = False) -> pd.DataFrame:
        """Return one row for each experiment, oldest first; ``ExperimentTable`` documents the columns.

        ``deleted``: those that were deleted as well.

        >>> import ledger
        >>> book = ledger.open("memory:")
        >>> _ = book.experiment("demo").new_trial({"lr": 0.1})
        >>> Tables(book).experiments()[["name", "trials", "pending"]].values.tolist()
        [['demo', 1, 1]]
        """
        return self.table(ExperimentTable, as_of=as_of, deleted=deleted)

    def trials(
        self, experiment: str | UUID, *, as_of: int | None = None, now: dt.datetime | int | None = None, amended: bool = True,
        deleted: bool = False,
    ) -> pd.DataFrame:  # fmt: skip
        """Return one row for each trial of the experiment, ordered by trial_id; ``TrialTable`` documents the columns.

        Values are as amended; with ``amended=False`` as they were first recorded. ``deleted``: trials that were deleted as
        well.

        ``now`` (datetime with time zone, or ns since 1970 UTC) is the time for the column ``lease_expired``: by default
        the ledger's clock, and with ``as_of`` the time at which the record at that position was recorded.

        >>> import ledger
        >>> book = ledger.open("memory:")
        >>> _ = book.experiment("demo").new_trial({"lr": 0.1})
        >>> Tables(book).trials("demo")[["trial_id", "status", "config.lr"]].values.tolist()
        [[1, 'PENDING', 0.1]]
        """
        with self._mutex:
            position = self._position(as_of)
            identifier = self._find(experiment, position)
            time = to_nanoseconds(now, "now")
            if time is None:
                time = self._now() if as_of is None else self._recorded_at(position)
            return self._built(TrialTable, position).table(identifier, now=time, amended=amended, deleted=deleted)

    def configs(self, experiment: str | UUID, *, as_of: int | None = None) -> pd.DataFrame:
        """Return one row for each config that trials of the experiment were created with; see ``ConfigTable``.

        >>> import ledger
        >>> book = ledger.open("memory:")
        >>> _ = book.experiment("demo").new_trials([{"lr": 0.1}, {"lr": 0.1}])
        >>> Tables(book).configs("demo")[["config_id", "trials", "config.lr"]].values.tolist()
        [[1, 2, 0.1]]
        """
        with self._mutex:
            position = self._position(as_of)
            return self._built(ConfigTable, position).table(self._find(experiment, position))

    def table(self, projection: type[Projection], *args: Any, as_of: int | None = None, **kwargs: Any) -> pd.DataFrame:
        """Return the table of any projection, your own as well; other arguments go to its ``table``.

        It is kept and refreshed like the tables of the package. ``Projection`` has an example.
        """
        if not (isinstance(projection, type) and issubclass(projection, Projection)):
            raise InvalidValue(f"{projection!r} is no projection; give a class derived from Projection (not an instance).")
        with self._mutex:
            return self._built(projection, self._position(as_of)).table(*args, **kwargs)

    # --------------------------------------------------------------------------------------------------- fold

    def _position(self, as_of: int | None) -> int:
        head = self.book.log.head
        return head if as_of is None else min(check_position(as_of), head)

    def _built(self, kind: type[P], position: int) -> P:
        redactions = self.book.log.backend.redactions().total
        kept = self._kept.pop(kind, None)
        if kept is None or not isinstance(kept, kind) or kept.redactions != redactions:
            kept = kind()  # what was folded before a redaction may hold what it dropped
        if position < kept.position:
            self._kept[kind] = kept
            return build(kind(), self.book.log, as_of=position, progress=self._progress)
        build(kept, self.book.log, as_of=position, progress=self._progress)
        self._kept[kind] = kept  # not when it raised: what is half folded must not be shown
        return kept

    def _now(self) -> int:
        with self.book.log.backend.view() as view:
            return view.now  # the clock that claims go by

    def _recorded_at(self, position: int) -> int:
        return next(self.book.log.read(after=position - 1, limit=1)).recorded_at

    # ------------------------------------------------------------------------------------------------- lookup

    def _find(self, experiment: str | UUID, position: int) -> UUID:
        if not isinstance(experiment, str | UUID):
            raise InvalidValue(f"the experiment is {experiment!r}; give its name (a str) or its id (a UUID).")
        names = self._built(ExperimentNames, position)
        found = names.find(experiment)
        if found is None:
            raise self._unknown(experiment, names.names(), position)
        return found

    def _unknown(self, experiment: str | UUID, names: list[str], position: int) -> UnknownExperiment:
        head = self._position(None)
        text = str(experiment)
        when = f" as of position {position}" if position < head else ""
        first = self._built(ExperimentNames, head).first_position(experiment)
        if first is not None and first > position:
            return UnknownExperiment(
                f"there was no experiment {text!r} in {self.book.path} yet{when}: "
                f"its record is at position {first}. Ask for as_of={first} or later."
            )
        nearest = difflib.get_close_matches(text, names, n=1, cutoff=0.4)
        hint = f"Did you mean {nearest[0]!r}?" if nearest else f"There are {len(names)}: tables.experiments() lists them."
        return UnknownExperiment(f"there is no experiment {text!r} in {self.book.path}{when}. {hint}")

    # -------------------------------------------------------------------------------------------------- close

    def close(self) -> None:
        """Close the ledger if this handle opened it (by path); closing again does nothing."""
        if self._is_owner:
            self.book.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
