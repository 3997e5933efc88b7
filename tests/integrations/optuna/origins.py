"""Storages of Optuna's that studies are imported from, each kind in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.pool import NullPool

from ledger.integrations.optuna.importing import ImportReport, import_journal, import_rdb

KINDS = ["journal", "rdb"]


class Origin:
    """A storage of one kind in a file, and how it is imported."""

    def __init__(self, kind: str, path: Path) -> None:
        self.kind, self.path = kind, path

    def storage(self) -> BaseStorage:
        """Open it as Optuna does."""
        if self.kind == "journal":
            return JournalStorage(JournalFileBackend(str(self.path)))
        storage = RDBStorage(f"sqlite:///{self.path}", {"poolclass": NullPool})
        sqlalchemy.event.listen(
            storage.engine, "connect", lambda connection, record: connection.execute("PRAGMA synchronous=OFF")
        )
        return storage

    def bring(self, book: Any, **options: Any) -> ImportReport:
        """Import it."""
        return (import_journal if self.kind == "journal" else import_rdb)(self.path, book, **options)
