"""The storage of mlos_bench that is a ledger."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from string import Template
from typing import Any, Literal, Self

from mlos_bench.config.schemas import ConfigSchema
from mlos_bench.dict_templater import DictTemplater
from mlos_bench.storage.base_storage import Storage

import ledger
from ledger.errors import InvalidValue
from ledger.identity import default_actor
from ledger.integrations.mlos.experiment import LedgerExperiment
from ledger.integrations.mlos.experiment_data import LedgerExperimentData, origin_of
from ledger.integrations.mlos.schema import CLASS_NAMES  # with it the class is one that configs may name
from ledger.session import Ledger
from ledger.trial import LEASE_SECONDS
from projections.tables import Tables

_IN_MEMORY = (":memory:", "memory:")


class LedgerStorage(Storage):  # type: ignore[misc]
    """A storage of mlos_bench in a ledger.

    ``config``: ``database``, the ledger's directory, made when there is none, or ``:memory:``; ``lazy_schema_create``, to open it
    when it is used first; ``durability`` as for ``ledger.open``; ``lease_seconds``, for how long a trial stays with a process
    that is not heard of any more (60). ``$name`` in it is the global parameter of that name, ``$$`` a dollar sign. ``drivername``
    is shown, and ``log_sql`` without effect, so that a config of ``SqlStorage`` for SQLite needs another class only.

    Raises jsonschema's ValidationError for a config with anything else in it, InvalidValue for a ``$name`` that no parameter
    has, and the OpenErrors of ``ledger.open``.

    **Threads and processes.** A storage is one worker: what it was handed stays its own, in all its copies (it can be pickled,
    unless in memory). Any number of storages, in any processes, may work on one ledger, and on one experiment.

    >>> from ledger.integrations.mlos import LedgerStorage
    >>> with LedgerStorage({"database": ":memory:"}) as storage:
    ...     storage, storage.experiments
    (ledger::memory:, {})
    """

    def __init__(self, config: dict[str, Any], global_config: dict[str, Any] | None = None, service: Any = None) -> None:
        super().__init__(config, global_config, service)
        given = _expanded(self._config, self._global_config)
        self._database: str = given["database"]
        self._repr = f"{given.get('drivername', 'ledger')}:{self._database}"
        self._durability: str = given.get("durability", "full")
        self.lease_seconds = float(given.get("lease_seconds", LEASE_SECONDS))
        self.worker = default_actor(f"mlos-{secrets.token_hex(4)}")
        self._begin()
        if not given.get("lazy_schema_create", False):
            self.update_schema()

    def _validate_json_config(self, config: dict[str, Any]) -> None:
        ConfigSchema.STORAGE.validate({"class": CLASS_NAMES[0], "config": config})  # that of a derived class, too

    def _begin(self) -> None:
        self._mutex = threading.Lock()
        self._book: Ledger | None = None
        self._tables: Tables | None = None

    def __repr__(self) -> str:
        return self._repr

    # ------------------------------------------------------------------------------------------------ ledger

    @property
    def book(self) -> Ledger:
        """The ledger, opened when it is first asked for."""
        with self._mutex:
            if self._book is None:
                url = "memory:" if self._database in _IN_MEMORY else self._database
                self._book = ledger.open(url, durability=self._durability)
            return self._book

    @property
    def tables(self) -> Tables:
        """The ledger's tables."""
        book = self.book
        with self._mutex:
            if self._tables is None:
                self._tables = Tables(book)
            return self._tables

    def update_schema(self) -> None:
        """Open the ledger, which makes it when there is none; its format needs no updates."""
        self.book.log.backend.check_usable()

    def dispose(self) -> None:
        """Close the ledger; what is used again opens it again."""
        with self._mutex:
            book, tables, self._book, self._tables = self._book, self._tables, None, None
        if tables is not None:
            tables.close()
        if book is not None:
            book.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> Literal[False]:
        self.dispose()
        return False

    def __getstate__(self) -> dict[str, Any]:
        if self._database in _IN_MEMORY:
            raise InvalidValue("a storage in memory cannot be sent elsewhere: its ledger is in this process. Give a directory.")
        return {name: value for name, value in vars(self).items() if name not in ("_mutex", "_book", "_tables")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    # ------------------------------------------------------------------------------------------- experiments

    @property
    def experiments(self) -> dict[str, LedgerExperimentData]:
        """The data of the ledger's experiments by name, whoever made them; the deleted ones left out."""
        with self.book.log.backend.view() as view:
            states = [state for state in view.experiments() if state.deleted_at is None]
        return {state.name: LedgerExperimentData(self.book, self.tables, state) for state in sorted(states, key=_name)}

    def experiment(
        self, *, experiment_id: str, trial_id: int, root_env_config: str, description: str, tunables: Any,
        opt_targets: dict[str, Literal["min", "max"]],
    ) -> LedgerExperiment:  # fmt: skip
        """Return an experiment, to be entered by ``with``, which creates or resumes it. Its first trial is ``trial_id``."""
        return LedgerExperiment(
            self, experiment_id=experiment_id, trial_id=trial_id, root_env_config=root_env_config, description=description,
            tunables=tunables, opt_targets=opt_targets,
        )  # fmt: skip

    def get_experiment_by_id(
        self, experiment_id: str, tunables: Any, opt_targets: dict[str, Literal["min", "max"]]
    ) -> LedgerExperiment | None:  # fmt: skip
        """Return an experiment of the ledger; None when there is none of that name."""
        with self.book.log.backend.view() as view:
            known = view.experiment_named(experiment_id)
            state = None if known is None else view.experiment(known)
        if state is None:
            return None
        path, _, _ = origin_of(state)
        return LedgerExperiment(
            self, state, experiment_id=experiment_id, trial_id=state.next_trial_id, root_env_config=path,
            description=state.description, tunables=tunables, opt_targets=opt_targets,
        )  # fmt: skip


def _expanded(config: Mapping[str, Any], global_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config with the values of its variables; one without a value would be part of the ledger's name."""
    for key, value in config.items():
        names = Template(value).get_identifiers() if isinstance(value, str) else []
        unknown = [name for name in names if name not in config and name not in global_config]
        if unknown:
            raise InvalidValue(
                f"{key!r} of the storage is {value!r}, and there is no global parameter {unknown[0]!r}. Give it: in a file of "
                f"`globals`, or as --{unknown[0]} on the command line. A dollar sign is written $$."
            )
    made: dict[str, Any] = DictTemplater(config).expand_vars(extra_source_dict=global_config)
    return made


def _name(state: ledger.ExperimentState) -> str:
    return state.name
