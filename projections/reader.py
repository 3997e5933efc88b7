"""Reader: the trials of a ledger, to be searched, grouped and aggregated, as MLXP's Reader does with runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Self, overload
from uuid import UUID

import lmdb
import pandas as pd

import ledger
from ledger.errors import InvalidValue, ReadOnlyLedger
from projections.builder import Progress
from projections.columns import text_column
from projections.conditions import SEARCHABLE
from projections.experiment_names import ExperimentNames
from projections.experiments import Experiments
from projections.folds import open_store
from projections.frame import Frame
from projections.pieces import Damaged
from projections.predicate import select
from projections.query import Dialect, parse
from projections.row import Row
from projections.tables import Tables
from projections.timetravel import AsOf
from projections.trial_source import METRIC, TrialSource

_FORMATS = ("datadict", "pandas")


class Reader:
    """Search the trials of a ledger, by what they were tried with and by what came of it.

    ``path`` is the path of a ledger, or an open one, which stays the caller's to close. ``dst_dir``: where checkpoints are
    kept, when not in the ledger's directory. ``refresh=False``: show it as of the newest checkpoint, when there is one, and
    do not read what came since. ``experiment`` (name or id): the trials of that one alone. ``as_of``: as it stood at that
    position or time. ``deleted``: with the trials that were deleted; ``info.deleted_at`` says which. ``allow_pickle``: that
    artifacts of this reader may load pickles, which run whatever code is in them, without being asked each time. ``progress``
    is as for ``Tables``.

    Every trial is there, whatever its status: those that wait, that run and that were lost, too. Its keys are

    - ``config.*`` and ``result.*``, nested ones with dots;
    - ``info.*``: ``info.status``, ``info.trial_id``, ``info.started_at``, ``info.tags`` ... and what MLXP said of a run that was
      imported. ``info.status`` is compared with MLXP's words, too: ``COMPLETE`` is SUCCEEDED;
    - metrics by their names; with ``metric.`` before the name where it would be the key of something else;
    - ``artifact.TYPE.``: handles of artifacts by file name; the type is what their name has before its first ``/``, else their
      saver, or their kind.

    **Guarantees.** A reader shows the ledger as of one position, ``position``, and so do its results for ever, whatever is
    recorded meanwhile; ``refresh`` moves the reader on, and leaves earlier results as they are. What it hands out is the
    caller's own.

    **Cost.** Opening reads the log from the last checkpoint on, ``refresh`` what is new; ``close`` leaves a checkpoint for the
    next reader, and so does what takes long. Metrics are read when one is first looked at, and artifacts when they are loaded.

    Raises UnknownExperiment, InvalidValue, ReadOnlyLedger for a ``dst_dir`` that cannot be written to, and for a path the
    OpenErrors of ``ledger.open``.

    >>> import ledger, projections
    >>> book = ledger.open("memory:")
    >>> exp = book.experiment("demo", objectives={"loss": "min"})
    >>> for lr in (0.1, 0.01):
    ...     trial = exp.new_trial({"optimizer": {"lr": lr}})
    ...     trial.log_many({"train.loss": [1.0, lr]}, steps=[1, 2])
    ...     trial.complete({"loss": lr})
    >>> reader = Reader(book)
    >>> len(reader), len(reader.filter("config.optimizer.lr < 1e-1 and train.loss.min < 0.05"))
    (2, 1)
    >>> reader.filter("status == 'COMPLETE' order by result.loss")[:]["train.loss"]
    [[1.0, 0.01], [1.0, 0.1]]
    """

    def __init__(
        self, path: ledger.Ledger | str | os.PathLike[str], dst_dir: str | os.PathLike[str] | None = None, *,
        refresh: bool = True, experiment: str | UUID | None = None, as_of: AsOf = None, deleted: bool = False,
        allow_pickle: bool = False, progress: Progress | None = None,
    ) -> None:  # fmt: skip
        if dst_dir is not None:
            _check_writable(Path(dst_dir))
        self._tables = Tables(path, cache_dir=dst_dir, progress=progress)
        self._experiment, self._as_of, self._deleted, self._allow_pickle = experiment, as_of, deleted, allow_pickle
        try:
            saved = None if refresh or as_of is not None else _saved_position(self._tables.book, dst_dir)
            self._source, self._position = self._made(as_of if saved is None else saved)
        except BaseException:
            self._tables.close()
            raise

    def __repr__(self) -> str:
        return f"<Reader of {self._tables.book.path} at position {self._position}: {len(self):,} trials>"

    def _made(self, as_of: AsOf) -> tuple[TrialSource, int]:
        position = self._tables.position(as_of)
        chosen = self._experiments(position)
        options = {"allow_pickle": self._allow_pickle, "deleted": self._deleted}
        return TrialSource(self._tables, chosen, position, **options), position

    def _experiments(self, position: int) -> list[tuple[UUID, str]]:
        table = self._tables.table(ExperimentNames, as_of=position)
        known = dict(zip(map(UUID, table["experiment_id"]), table["name"], strict=True))
        if self._experiment is None:
            return list(known.items())
        identifier = self._tables.find_experiment(self._experiment, as_of=position)
        return [(identifier, known.get(identifier, str(identifier)))]  # one that was deleted has its id alone

    @property
    def position(self) -> int:
        """The position in the log as of which the reader shows the ledger."""
        return self._position

    def refresh(self) -> int:
        """Move on to the head of the log, or to ``as_of``, and return the position; earlier results stay as they are."""
        self._source, self._position = self._made(self._as_of)
        return self._position

    def __len__(self) -> int:
        return self._source.rows

    # --------------------------------------------------------------------------------------------------- keys

    @property
    def fields(self) -> pd.DataFrame:
        """Every key that a trial has, by name (index ``Fields``), with its types (column ``Type``), METRIC or Artifact.

        >>> book = ledger.open("memory:")
        >>> exp = book.experiment("demo")
        >>> _ = exp.new_trials([{"lr": 0.1, "seed": 1}, {"lr": "auto", "seed": 2}])
        >>> Reader(book).fields.filter(like="config.", axis=0)
                           Type
        Fields
        config.lr    float | str
        config.seed          int
        """
        return self._described(self._source.keys)

    @property
    def searchable(self) -> pd.DataFrame:
        """The fields that the dialect ``mlxp`` can search for; the dialect ``extended`` can search for all of them."""
        return self._described([key for key in self._source.keys if key.startswith(SEARCHABLE)])

    def _described(self, keys: list[str]) -> pd.DataFrame:
        index = pd.Index(text_column(keys), name="Fields")
        return pd.DataFrame({"Type": text_column([self._type(key) for key in keys]).to_numpy()}, index=index)

    def _type(self, key: str) -> str:
        field = self._source.field(key)
        if field is not None:
            return " | ".join(field.type_names())
        return METRIC if key in self._source.metric_names else "Artifact"

    # ------------------------------------------------------------------------------------------------- filter

    @overload
    def filter(
        self, query_string: str = "", result_format: Literal["datadict"] = "datadict", dialect: Dialect = "extended"
    ) -> Frame: ...
    @overload
    def filter(self, query_string: str, result_format: Literal["pandas"], dialect: Dialect = "extended") -> pd.DataFrame: ...
    @overload
    def filter(
        self, query_string: str = "", *, result_format: Literal["pandas"], dialect: Dialect = "extended"
    ) -> pd.DataFrame: ...
    def filter(
        self, query_string: str = "", result_format: str = "datadict", dialect: Dialect = "extended"
    ) -> Frame | pd.DataFrame:  # fmt: skip
        """Return the trials that a query selects: all of them for an empty one.

        They come in the order in which experiments were made, then by trial_id, unless the query says another.
        ``result_format``: ``datadict`` is a ``Frame`` of rows, ``pandas`` a DataFrame with everything loaded. ``dialect``:
        ``mlxp`` reads and answers queries exactly as MLXP does, ``extended`` reads more; ``projections.query`` has both.

        In the dialect ``extended`` a comparison of values that have no order is false, and so is any of a key that the trial
        does not have, ``!=`` as well. Times are compared with ISO 8601 texts, in UTC unless they say otherwise; a year, a month
        or a day is where it begins.

        Raises QuerySyntaxError; UnknownKey, naming the nearest one, for a key that no trial has (in the dialect ``mlxp`` for
        one that is not searchable); InvalidQuery; and in the dialect ``mlxp`` NotComparable.

        >>> book = ledger.open("memory:")
        >>> exp = book.experiment("demo")
        >>> _ = exp.new_trials([{"model": "resnet", "lr": 0.1}, {"model": "vit", "lr": None}, {"model": "resnet"}])
        >>> reader = Reader(book)
        >>> reader.filter("config.model =~ '^res' and not exists(config.lr)")["info.trial_id"]
        [3]
        >>> reader.filter("config.lr in [None, 0.1] order by trial_id desc limit 1", "pandas")["config.model"].tolist()
        ['vit']
        """
        if result_format not in _FORMATS:
            raise InvalidValue(f"there is no format {result_format!r} of results; there are {' and '.join(map(repr, _FORMATS))}.")
        query, source = parse(query_string, dialect), self._source
        is_mlxp = dialect == "mlxp"
        lookup = source.find_searchable if is_mlxp else source.find
        rows = select(query, source.rows, lookup, exists=source.find_existing, is_strict=is_mlxp)
        frame = Frame([Row(source, row) for row in rows.tolist()])
        return frame if result_format == "datadict" else frame.toPandas(lazy=False)

    # -------------------------------------------------------------------------------------------------- close

    def close(self) -> None:
        """Close the ledger if the reader opened it; what earlier results have not loaded cannot be loaded any more."""
        self._tables.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _check_writable(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        may_write = os.access(directory, os.W_OK | os.X_OK)
    except OSError as error:
        raise ReadOnlyLedger(f"dst_dir is {directory}, where nothing can be kept: {error}. Give another directory.") from error
    if not may_write:
        raise ReadOnlyLedger(f"dst_dir is {directory}, where this user may not write. Give another directory.")


def _saved_position(book: ledger.Ledger, dst_dir: str | os.PathLike[str] | None) -> int | None:
    """Return the position of the newest checkpoint of the trials; None when there is none, or none that can be read."""
    store = open_store(book.log, dst_dir)
    try:
        positions = [] if store is None else store.positions(Experiments.name)
    except (Damaged, lmdb.Error, OSError):  # whatever is wrong with it, the log is there; who loads it is told
        return None
    return max(positions, default=None)
