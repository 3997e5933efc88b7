"""Tables: the tables of a ledger as DataFrames, now and as of any position."""

from __future__ import annotations

import datetime as dt
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self, TypeVar
from uuid import UUID

import pandas as pd

import ledger
from ledger.errors import InvalidValue, UnknownExperiment
from ledger.nearest import find_nearest
from ledger.records import to_nanoseconds
from projections.builder import Progress, check_kind
from projections.detail_tables import DetailTables
from projections.experiment_names import ExperimentNames
from projections.experiments import Experiments
from projections.folds import Fold, open_store
from projections.projection import Projection
from projections.timetravel import AsOf, position_of, time_of

P = TypeVar("P", bound=Projection)
T = TypeVar("T")


class Tables(DetailTables):
    """Show the tables of a ledger.

    ``book`` is an open ledger, which stays the caller's to close, or the path of one, which is opened for reading until
    ``close`` or the end of the ``with`` block.

    Every table takes ``as_of``: a position, or a time (a datetime with a time zone, ``"2026-11-20T12:00Z"``), for the table
    as it stood when the record there, or the last one recorded by then, was the newest. None is now; a position beyond the
    head means the head; 0 is before the first record. The same position always gives the same table. An experiment is named
    by its name as of that position, or by its id; one that was deleted by its id only. A payload that was redacted is gone
    from the tables as of any position.

    **Guarantees.** A table is a pure fold of the records up to its position, and a DataFrame of the caller's own. What is
    kept of it between (checkpoints) is proved before it is used; where it cannot be, CheckpointDiscarded is warned of and
    the log is folded instead.

    **Threads and processes.** Use one handle from any thread: one table is made at a time. Any number of processes may
    share the checkpoints. A forked child makes its own handle.

    **Cost.** The first call of each table reads the log, from the last checkpoint on; a later one folds only the records
    that came since. ``as_of`` folds from the nearest checkpoint before it. Checkpoints are kept in the ledger's directory,
    where that can be written to, or in ``cache_dir``; small ledgers need none, and what was folded in less than a quarter of a
    second is saved by ``close``. ``progress`` is called now and then while it reads, with the position reached and the one to be
    reached; a build that is stopped goes on from where it was saved last.

    Raises InvalidValue for an ``as_of`` that is none and for a ``cache_dir`` that cannot be written to, UnknownExperiment
    with the nearest name, and for a path the OpenErrors of ``ledger.open``.

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

    def __init__(
        self, book: ledger.Ledger | str | os.PathLike[str], *, cache_dir: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
    ) -> None:  # fmt: skip
        self._folds: dict[type[Projection], Fold[Any]] = {}
        self.cache_dir = cache_dir
        self._is_owner = not isinstance(book, ledger.Ledger)
        self.book = book if isinstance(book, ledger.Ledger) else ledger.open(book, create=False, readonly=True)
        try:
            self._store = open_store(self.book.log, cache_dir)
        except BaseException:
            self.close()
            raise
        self._progress = progress
        self._mutex = threading.RLock()

    def __repr__(self) -> str:
        return f"<Tables of {self.book.path}>"

    # ------------------------------------------------------------------------------------------------ tables

    def experiments(self, *, as_of: AsOf = None, deleted: bool = False) -> pd.DataFrame:
        """Return one row for each experiment, oldest first; ``experiment_table`` documents the columns.

        ``deleted``: those that were deleted as well.

        >>> import ledger
        >>> book = ledger.open("memory:")
        >>> _ = book.experiment("demo").new_trial({"lr": 0.1})
        >>> Tables(book).experiments()[["name", "trials", "pending"]].values.tolist()
        [['demo', 1, 1]]
        """
        return self.table(Experiments, as_of=as_of, deleted=deleted)

    def trials(
        self, experiment: str | UUID, *, as_of: AsOf = None, now: dt.datetime | int | None = None, amended: bool = True,
        deleted: bool = False,
    ) -> pd.DataFrame:  # fmt: skip
        """Return one row for each trial of the experiment, ordered by trial_id; ``trial_table`` documents the columns.

        Values are as amended; with ``amended=False`` as they were first recorded. ``deleted``: trials that were deleted as
        well.

        ``now`` (datetime with time zone, or ns since 1970 UTC) is the time for the column ``lease_expired``: by default
        the ledger's clock, and with ``as_of`` that time, or the one at which the record at that position was recorded.

        >>> import ledger
        >>> book = ledger.open("memory:")
        >>> _ = book.experiment("demo").new_trial({"lr": 0.1})
        >>> Tables(book).trials("demo")[["trial_id", "status", "config.lr"]].values.tolist()
        [[1, 'PENDING', 0.1]]
        """
        with self._mutex:
            position = self.position(as_of)
            identifier = self._find(experiment, position)
            time = to_nanoseconds(now, "now")
            if time is None:
                time = self._now() if as_of is None else time_of(self.book.log, as_of, position)
            return self._at(Experiments, position).trials(identifier, now=time, amended=amended, deleted=deleted)

    def configs(self, experiment: str | UUID, *, as_of: AsOf = None, deleted: bool = False) -> pd.DataFrame:
        """Return one row for each config that was tried in the experiment; see ``config_table``.

        ``deleted``: trials that were deleted as well.

        >>> import ledger
        >>> book = ledger.open("memory:")
        >>> _ = book.experiment("demo").new_trials([{"lr": 0.1}, {"lr": 0.1}])
        >>> Tables(book).configs("demo")[["config_id", "trials", "config.lr"]].values.tolist()
        [[1, 2, 0.1]]
        """
        return self.read(Experiments, experiment, as_of, lambda experiments, id_: experiments.configs(id_, deleted=deleted))

    def groups(self, experiment: str | UUID, *, as_of: AsOf = None, deleted: bool = False) -> pd.DataFrame:
        """Return one row for each group of trials of the same config; see ``group_table``.

        ``deleted``: trials that were deleted as well.

        >>> import ledger
        >>> book = ledger.open("memory:")
        >>> _ = book.experiment("demo").new_trials([{"lr": 0.1}, {"lr": 0.2}, {"lr": 0.1}])
        >>> Tables(book).groups("demo")[["group_id", "trials", "config.lr"]].values.tolist()
        [[1, 2, 0.1], [2, 1, 0.2]]
        """
        return self.read(Experiments, experiment, as_of, lambda experiments, id_: experiments.groups(id_, deleted=deleted))

    def trials_of_config(self, config: int | Mapping[str, Any], *, as_of: AsOf = None) -> list[str]:
        """Return the streams of the trials of one config, given by its config_id or its values, in all experiments.

        They are those whose config it is now (see ``config_table``), the deleted ones among them.

        >>> import ledger
        >>> book = ledger.open("memory:")
        >>> trial = book.experiment("demo").new_trial({"lr": 0.1})
        >>> Tables(book).trials_of_config(1) == Tables(book).trials_of_config({"lr": 0.1}) == [trial.stream]
        True
        """
        with self._mutex:
            return self._at(Experiments, self.position(as_of)).streams_of_config(config)

    def table(self, projection: type[Projection], *args: Any, as_of: AsOf = None, **kwargs: Any) -> pd.DataFrame:
        """Return the table of any projection, your own as well; other arguments go to its ``table``.

        It is kept and refreshed like the tables of the package. ``Projection`` has an example.
        """
        if not (isinstance(projection, type) and issubclass(projection, Projection)):
            raise InvalidValue(f"{projection!r} is no projection; give a class derived from Projection (not an instance).")
        _check_name(projection)
        with self._mutex:
            return self._at(projection, self.position(as_of)).table(*args, **kwargs)

    def position(self, as_of: AsOf = None) -> int:
        """Return the position that ``as_of`` means, which is not beyond the head.

        >>> import ledger
        >>> book = ledger.open("memory:")
        >>> _ = book.experiment("demo")
        >>> Tables(book).position(), Tables(book).position("2001-01-01T00:00Z")
        (1, 0)
        """
        return position_of(self.book.log, as_of)

    def find_experiment(self, experiment: str | UUID, as_of: AsOf = None) -> UUID:
        """Return the id of the experiment that had the name, or has the id; raises UnknownExperiment with the nearest name."""
        with self._mutex:
            return self._find(experiment, self.position(as_of))

    def read(self, kind: type[P], experiment: str | UUID, as_of: AsOf, show: Callable[[P, UUID], T]) -> T:
        """Return what ``show`` makes of a projection as of a place, and of the experiment's id; it is asked by one thread."""
        with self._mutex:
            position = self.position(as_of)
            return show(self._at(kind, position), self._find(experiment, position))

    # --------------------------------------------------------------------------------------------------- fold

    def _at(self, kind: type[P], position: int) -> P:
        fold = self._folds.get(kind)
        if fold is None:
            fold = self._folds[kind] = Fold(kind, self.book.log, self._store, self._progress)
        found: P = fold.at(position)
        return found

    def _now(self) -> int:
        with self.book.log.backend.view() as view:
            return view.now  # the clock that claims go by

    # ------------------------------------------------------------------------------------------------- lookup

    def _find(self, experiment: str | UUID, position: int) -> UUID:
        if not isinstance(experiment, str | UUID):
            raise InvalidValue(f"the experiment is {experiment!r}; give its name (a str) or its id (a UUID).")
        if isinstance(experiment, str) and position == self.position():
            with self.book.log.backend.view() as view:
                named = view.experiment_named(experiment)
            if named is not None:
                return named
        names = self._names(position)
        found = names.find(experiment)
        if found is None:
            raise self._unknown(experiment, names.names(), position)
        return found

    def _names(self, position: int) -> ExperimentNames:
        """Fold the names, of which it is not worth telling how far it is."""
        if ExperimentNames not in self._folds:
            self._folds[ExperimentNames] = Fold(ExperimentNames, self.book.log, self._store)
        return self._at(ExperimentNames, position)

    def _unknown(self, experiment: str | UUID, names: list[str], position: int) -> UnknownExperiment:
        head = self.position()
        text = str(experiment)
        when = f" as of position {position}" if position < head else ""
        first = self._names(head).first_position(experiment)
        if first is not None and first > position:
            return UnknownExperiment(
                f"there was no experiment {text!r} in {self.book.path} yet{when}: "
                f"its record is at position {first}. Ask for as_of={first} or later."
            )
        nearest = find_nearest(text, names)
        hint = f"Did you mean {nearest!r}?" if nearest else f"There are {len(names)}: tables.experiments() lists them."
        return UnknownExperiment(f"there is no experiment {text!r} in {self.book.path}{when}. {hint}")

    # -------------------------------------------------------------------------------------------------- close

    def close(self) -> None:
        """Save what is worth it, and close the ledger if this handle opened it (by path); closing again does nothing."""
        folds, self._folds = self._folds, {}
        try:
            for fold in folds.values():
                fold.save()
        finally:
            if self._is_owner:
                self.book.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _check_name(projection: type[Projection]) -> None:
    """Refuse what has no name, and a name of the package's own: the one would discard the other's checkpoints."""
    check_kind(projection)
    name = projection.name
    own = next((each for each in _derived(Projection) if each.__dict__.get("name") == name and _is_own(each)), None)
    if own is not None and not _is_own(projection):
        raise InvalidValue(
            f"the projection {projection.__qualname__} has the name {name!r}, which projections.{own.__name__} has; "
            "checkpoints go by names. Give it another."
        )


def _derived(kind: Any) -> Iterator[type[Projection]]:
    for each in kind.__subclasses__():
        yield each
        yield from _derived(each)


def _is_own(projection: type[Projection]) -> bool:
    return projection.__module__.partition(".")[0] == __name__.partition(".")[0]
