"""eventsourcing: its SQLite recorder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eventsourcing.persistence import StoredEvent
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore

from benchmarks.payload import TYPE, Sample, decode
from benchmarks.rivals.contract import EventStore

_PAGE = 1_000
_FULL = 2  # what `PRAGMA synchronous` answers


class Store(EventStore):
    """An application recorder on a file."""

    def __init__(self, directory: Path) -> None:
        self._datastore = SQLiteDatastore(
            str(directory / "events.sqlite"), lock_timeout=60, pool_size=64, pool_timeout=60.0, originator_id_type="text"
        )
        self._recorder = SQLiteApplicationRecorder(self._datastore)
        self._recorder.create_table()
        self.address = str(directory)
        with self._datastore.transaction(commit=False) as cursor:
            cursor.execute("PRAGMA synchronous")
            level = cursor.fetchone()[0]
        if level != _FULL:
            raise RuntimeError(
                f"the recorder runs with synchronous={level}, not FULL: its figures would not be of durable appends"
            )

    def append(self, samples: Sequence[Sample]) -> int:
        events = [StoredEvent(each.stream, each.version, TYPE, each.data) for each in samples]
        positions = self._recorder.insert_events(events)
        return positions[-1] if positions else 0

    def read(self, variant: str = "") -> int:
        count = after = 0
        while page := self._recorder.select_notifications(after, _PAGE, inclusive_of_start=False):
            for found in page:
                decode(found.state)
            count += len(page)
            after = page[-1].id
        return count

    def history(self, stream: str) -> int:
        return len([decode(found.state) for found in self._recorder.select_events(stream)])

    def close(self) -> None:
        self._datastore.close()
