"""A SQL database of mlos_bench, only read: experiments and trials as they are in its tables.

Only SQLAlchemy is needed, and of the tables what all versions of mlos_bench have in common. Times are UTC.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from ledger.errors import InvalidValue
from ledger.integrations.mlos.telemetry import Point
from ledger.records import to_nanoseconds
from ledger.values import check_text

_TABLES = ("experiment", "objectives", "config", "config_param", "trial")
_BOOLEANS = {"True": True, "False": False}


class SqlExperiment(NamedTuple):
    """A row of ``experiment``, with its objectives; ``more`` is what newer versions have beside."""

    name: str
    description: str
    origin: dict[str, str]
    objectives: dict[str, str]
    weights: dict[str, float]
    more: dict[str, str]


class SqlTrial(NamedTuple):
    """A row of ``trial``; times are ns since 1970 UTC."""

    experiment: str
    number: int
    config_id: int
    config_hash: str | None  # None when the config is not there
    runner: int | None
    ts_start: int | None
    ts_end: int | None
    status: str


class Database:
    """An open database. ``source`` is a file of SQLite, which is opened to read only, or a URL of SQLAlchemy."""

    def __init__(self, source: str | os.PathLike[str]) -> None:
        self.source = os.fspath(source)
        check_text(self.source, "the database")
        try:
            import sqlalchemy
        except ModuleNotFoundError:
            raise InvalidValue(
                "databases of mlos_bench are read with SQLAlchemy: pip install 'experiment-ledger[mlos]'. Nothing was imported."
            ) from None
        self._sql = sqlalchemy
        if "://" in self.source:
            self._engine = sqlalchemy.create_engine(self.source)
        else:
            path = Path(self.source).absolute()
            if not path.is_file():
                raise InvalidValue(
                    f"there is no file {self.source!r}. Give a SQLite file of mlos_bench, or the URL of a database."
                )
            uri = f"file:{quote(str(path))}?mode=ro"
            self._engine = sqlalchemy.create_engine("sqlite://", creator=lambda: sqlite3.connect(uri, uri=True))
        try:
            self._columns = self._look()
        except BaseException:
            self.close()
            raise

    def _look(self) -> dict[str, frozenset[str]]:
        """Return the columns of the tables that there are; InvalidValue when they are not those of mlos_bench."""
        try:
            inspector = self._sql.inspect(self._engine)
            names = inspector.get_table_names()
            found = {name: frozenset(column["name"] for column in inspector.get_columns(name)) for name in names}
        except self._sql.exc.SQLAlchemyError as error:
            why = getattr(error, "orig", None) or error  # what the driver said, without the query
            raise InvalidValue(
                f"{self.source!r} cannot be read as a database: {why}. Give a SQLite file of mlos_bench, or a database's URL."
            ) from error
        missing = [name for name in _TABLES if name not in found]
        if missing:
            raise InvalidValue(f"{self.source!r} is no database of mlos_bench: it has no table {missing[0]!r}.")
        return found

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    # -------------------------------------------------------------------------------------------------- rows

    def experiments(self) -> list[SqlExperiment]:
        """Return the experiments by name."""
        made = []
        for row in self._rows("experiment", order="exp_id"):
            targets = list(self._rows("objectives", row["exp_id"], order="optimization_target"))
            origin = {name: str(row[name] or "") for name in ("git_repo", "git_commit", "root_env_config")}
            own = {"exp_id", "description", *origin}
            made.append(
                SqlExperiment(
                    row["exp_id"],
                    row["description"] or "",
                    origin,
                    {each["optimization_target"]: each["optimization_direction"] for each in targets},
                    {each["optimization_target"]: each["weight"] for each in targets if each.get("weight") is not None},
                    {name: str(value) for name, value in row.items() if name not in own and value is not None},
                )
            )
        return made

    def trials(self) -> list[SqlTrial]:
        """Return all trials in the order in which their configs were numbered, and they were begun."""
        found = [self._trial(row) for row in self._rows("trial")]
        firsts: dict[int, tuple[int, str, int]] = {}
        for each in found:
            place = _begun(each)
            firsts[each.config_id] = min(place, firsts.get(each.config_id, place))
        reached, latest = {}, 0
        for config_id, place in sorted(firsts.items()):
            latest = reached[config_id] = max(latest, place[0])  # no config comes before one with a lower number

        def order(trial: SqlTrial) -> tuple[Any, ...]:
            place = _begun(trial)
            config_id = trial.config_id
            return max(place[0], reached[config_id]), config_id, place != firsts[config_id], place

        return sorted(found, key=order)

    def _trial(self, row: Mapping[str, Any]) -> SqlTrial:
        return SqlTrial(
            row["exp_id"], row["trial_id"], row["config_id"], self._hashes.get(row["config_id"]), row.get("trial_runner_id"),
            _time(row["ts_start"]), _time(row["ts_end"]), str(row["status"]),
        )  # fmt: skip

    @cached_property
    def _hashes(self) -> dict[int, str]:
        return {row["config_id"]: row["config_hash"] for row in self._rows("config")}

    @cached_property
    def configs(self) -> dict[int, dict[str, Any]]:
        """The configs by id: numbers where their text is one."""
        made: dict[int, dict[str, Any]] = {config_id: {} for config_id in self._hashes}
        for row in self._rows("config_param"):
            made.setdefault(row["config_id"], {})[row["param_id"]] = number_of(row["param_value"])
        return made

    def parameters(self, trial: SqlTrial) -> dict[str, Any]:
        """Return the parameters of a trial that are no tunables."""
        rows = self._rows("trial_param", trial.experiment, trial.number, "param_id")
        return {row["param_id"]: value_of(row["param_value"]) for row in rows}

    def results(self, trial: SqlTrial) -> dict[str, Any]:
        """Return a trial's metrics."""
        rows = self._rows("trial_result", trial.experiment, trial.number, "metric_id")
        return {row["metric_id"]: value_of(row["metric_value"]) for row in rows}

    def telemetry(self, trial: SqlTrial) -> list[Point]:
        """Return a trial's telemetry by time and name."""
        rows = self._rows("trial_telemetry", trial.experiment, trial.number, "ts, metric_id")
        points = ((_time(row["ts"]), row["metric_id"], value_of(row["metric_value"])) for row in rows)
        return [Point(at, name, value) for at, name, value in points if at is not None]

    def statuses(self, trial: SqlTrial) -> list[tuple[int, str]]:
        """Return the statuses that were recorded of a trial, by time."""
        rows = self._rows("trial_status", trial.experiment, trial.number, "ts")
        return [(at, str(row["status"])) for row in rows if (at := _time(row["ts"])) is not None]

    def _rows(
        self, table: str, experiment: str | None = None, number: int | None = None, order: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Iterate over rows as the driver gives them; none of a table that this version has not."""
        if table not in self._columns:
            return
        given = {"exp_id": experiment, "trial_id": number}
        wanted = {name: value for name, value in given.items() if value is not None}
        where = " and ".join(f"{name} = :{name}" for name in wanted)
        query = f"select * from {table}{' where ' + where if where else ''}{' order by ' + order if order else ''}"
        with self._reading() as connection:
            yield from (dict(row) for row in connection.execute(self._sql.text(query), wanted).mappings())

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except self._sql.exc.SQLAlchemyError as error:
            raise InvalidValue(f"{self.source!r} cannot be read: {error}.") from error


def _begun(trial: SqlTrial) -> tuple[int, str, int]:
    return trial.ts_start or 0, trial.experiment, trial.number


def _time(value: Any) -> int | None:
    """Return a time as ns since 1970 UTC; None when there is none, or it is none."""
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return to_nanoseconds(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment)


def number_of(text: Any) -> Any:
    """Return the number that a text is, if that has just this text again; else the text.

    >>> number_of("7"), number_of("0.5"), number_of("007"), number_of("1e5"), number_of("True")
    (7, 0.5, '007', '1e5', 'True')
    """
    for kind in (int, float):
        try:
            number = kind(text)
        except (TypeError, ValueError):
            continue
        if str(number) == text:
            return number
    return text


def value_of(text: Any) -> Any:
    """Return the number or bool that a text is; else the text.

    >>> value_of("True"), value_of("99.9"), value_of("halt"), value_of(None)
    (True, 99.9, 'halt', None)
    """
    return _BOOLEANS.get(text, number_of(text)) if isinstance(text, str) else text
