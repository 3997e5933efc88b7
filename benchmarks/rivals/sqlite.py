"""SQLite by hand: one table, as one would write it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

import ledger
from benchmarks.payload import TYPE, Sample, decode
from benchmarks.rivals.contract import EventStore

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    position INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, stream TEXT NOT NULL, version INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL, type TEXT NOT NULL, payload BLOB NOT NULL, UNIQUE (stream, version)
)
"""
_INSERT = "INSERT INTO events (id, stream, version, recorded_at, type, payload) VALUES (?, ?, ?, ?, ?, ?)"


class Store(EventStore):
    """A connection of its own; time-ordered ids, which suit its index best."""

    def __init__(self, directory: Path) -> None:
        self.address = str(directory)
        # A thread that measures may have made the connection for another.
        self._connection = sqlite3.connect(directory / "events.sqlite", timeout=60, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute(_SCHEMA)

    def for_thread(self) -> Store:
        return Store(Path(self.address))

    def append(self, samples: Sequence[Sample]) -> int:
        now, first = time.time_ns(), ledger.new_uuid7().bytes[:12]
        rows = [(first + i.to_bytes(4, "big"), each.stream, each.version, now, TYPE, each.data) for i, each in enumerate(samples)]
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(_INSERT, rows)
        self._connection.execute("COMMIT")
        return 0

    def read(self, variant: str = "") -> int:
        count = 0
        for row in self._connection.execute("SELECT * FROM events ORDER BY position"):
            decode(row[6])
            count += 1
        return count

    def history(self, stream: str) -> int:
        rows = self._connection.execute("SELECT * FROM events WHERE stream = ? ORDER BY version", (stream,))
        return len([decode(row[6]) for row in rows])

    def close(self) -> None:
        self._connection.close()
