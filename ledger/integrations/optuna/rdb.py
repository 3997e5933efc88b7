"""A relational database of Optuna's (``RDBStorage``), read through Optuna's own storage."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from optuna.exceptions import OptunaError
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import TrialModel
from optuna.trial import FrozenTrial
from sqlalchemy import select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, selectinload
from sqlalchemy.pool import NullPool

from ledger.errors import InvalidValue
from ledger.integrations.optuna.source import Broken, Source, SourceStudy, Wanted

_COUNTS = text("SELECT study_id, COUNT(*) FROM trials GROUP BY study_id")
_NUMBERS = text("SELECT trial_id, number FROM trials WHERE study_id = :study_id ORDER BY trial_id")
_PARTS = ("params", "values", "user_attributes", "system_attributes", "intermediate_values")
_PORTION = 500  # trials, whose ids are named in a query
_UNREADABLE = (ValueError, KeyError, TypeError, IndexError)
_URL = re.compile(r"[a-z][\w+]*://", re.IGNORECASE)
_SQLITE = re.compile(r"sqlite(\+\w+)?:///([^?]+)(\?.*)?", re.IGNORECASE)


def read_rdb(source: str | os.PathLike[str]) -> Source:
    """Read the studies of a database: the path of an SQLite file, which is opened to read only, or a URL of SQLAlchemy's.

    Trials are read when they are asked for, some at a time. Raises InvalidValue for what is no database of Optuna's,
    and for one of an older Optuna, which has to be upgraded first.
    """
    place = database_name(source)
    storage = _opened(os.fspath(source), place)
    try:
        studies = storage.get_all_studies()
        with storage.engine.connect() as connection:
            counts = {row[0]: row[1] for row in connection.execute(_COUNTS)}
    except (SQLAlchemyError, OptunaError, ValueError) as error:
        raise InvalidValue(f"the studies in {place} cannot be read: {error}") from error
    finally:
        storage.remove_session()
    return Source("optuna-rdb", place, [_study(storage, each, counts.get(each._study_id, 0)) for each in studies], [], 0)


def database_name(source: str | os.PathLike[str]) -> str:
    """Return what to call a database: its path, or its URL without the password."""
    given = os.fspath(source)
    if not _URL.match(given):
        return given
    try:
        return str(make_url(given).render_as_string(hide_password=True))
    except SQLAlchemyError as error:
        raise InvalidValue(f"the URL of the database cannot be read ({error}). Give one like sqlite:///study.db.") from None


def _opened(source: str, place: str) -> RDBStorage:
    options: dict[str, Any] = {"poolclass": NullPool}
    in_file = _SQLITE.fullmatch(source)
    if in_file or not _URL.match(source):
        path = Path(in_file.group(2) if in_file else source).absolute()
        _check_file(path)
        source, options["creator"] = "sqlite://", lambda: _connect(path)
    try:
        return RDBStorage(source, options, skip_table_creation=True)
    except RuntimeError as error:
        raise InvalidValue(f"{place} is of another version of Optuna: {error} Upgrade a copy of it, and import that.") from error
    except (SQLAlchemyError, OptunaError, ImportError) as error:
        raise InvalidValue(f"{place} cannot be opened as a database of Optuna's: {error.__cause__ or error}") from error


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, check_same_thread=False)


def _check_file(path: Path) -> None:
    """Refuse what Optuna would otherwise make a new database of, or write to."""
    if not path.is_file():
        raise InvalidValue(f"there is no file {path}. Give the SQLite file of the studies, or a URL like mysql://user@host/name.")
    try:
        with closing(_connect(path)) as database:
            names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error as error:
        raise InvalidValue(
            f"{path} is no SQLite file that can be read: {error}. For a journal: --from optuna-journal."
        ) from error
    if not {"studies", "trials", "version_info", "alembic_version"} <= names:
        raise InvalidValue(f"{path} is no database of Optuna's: it has no table of studies. Give the file of an RDBStorage.")


def _study(storage: RDBStorage, study: Any, count: int) -> SourceStudy:
    identifier = study._study_id

    def trials(is_wanted: Wanted) -> Iterator[FrozenTrial | Broken]:
        try:
            with storage.engine.connect() as connection:
                rows = connection.execute(_NUMBERS, {"study_id": identifier})
                wanted = [(row[0], row[1]) for row in rows if is_wanted(row[1])]
            for begin in range(0, len(wanted), _PORTION):
                yield from _read(storage, dict(wanted[begin : begin + _PORTION]))
        except (SQLAlchemyError, OptunaError) as error:
            raise InvalidValue(f"the trials of study {study.study_name!r} cannot be read: {error}") from error
        finally:
            storage.remove_session()

    attributes = dict(study.user_attrs), dict(study.system_attrs)
    return SourceStudy(identifier, study.study_name, study.study_name, list(study.directions), *attributes, count, trials)


def _read(storage: RDBStorage, numbers: Mapping[int, int]) -> Iterator[FrozenTrial | Broken]:
    """Read some trials, whose numbers are given by their ids."""
    try:
        yield from _read_at_once(storage, list(numbers))
    except _UNREADABLE:  # of one of them: the others are to be had
        for identifier, number in numbers.items():
            try:
                yield storage.get_trial(identifier)
            except _UNREADABLE as error:
                yield Broken(number, f"trial {number} cannot be read: {error!r}.")


def _read_at_once(storage: RDBStorage, identifiers: list[int]) -> list[FrozenTrial]:
    """Read trials by their ids, where Optuna reads all of a study or one."""
    query = select(TrialModel).where(TrialModel.trial_id.in_(identifiers)).order_by(TrialModel.trial_id)
    parts = (selectinload(getattr(TrialModel, part)) for part in _PARTS)
    with Session(storage.engine) as session:
        found = session.scalars(query.options(*parts)).all()
        return [storage._build_frozen_trial_from_trial_model(each) for each in found]
