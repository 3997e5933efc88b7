"""The file stays small while others read: held readers, dead readers, a full table of readers, a tailer."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import ledger
from ledger.backends.environment import Options
from ledger.backends.lmdb import LmdbBackend
from ledger.session import Ledger
from tests.torture import oracle
from tests.torture.children import end, lines_of, program, start, wait_for_line

APPENDS = 100_000
PAYLOAD = 400  # bytes of noise in each record


def _append(book: ledger.Ledger, count: int) -> int:
    """Append one record at a time, of content that does not compress; return the bytes of all records."""
    payload = 0
    for _ in range(count):
        book.log.append([ledger.NoteAdded(os.urandom(PAYLOAD).decode("latin-1").replace("|", "-"))], stream="w")
    after = 0
    while entries := book.log.backend.read_entries(after):
        payload += sum(len(entry.raw) for entry in entries)
        after += len(entries)
    return payload


def _size(path: Path) -> int:
    return (path / "data.mdb").stat().st_size


@pytest.fixture
def quick_path(tmp_path: Path) -> Iterator[Path]:
    """A path for a ledger in memory, where there is such a place: most of an append's time is the disk's."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else tmp_path) as directory:
        yield Path(directory, "runs.ledger")


@pytest.mark.timeout(600)
def test_the_file_stays_small_through_100000_appends_with_a_tailer_and_held_readers(quick_path: Path, tmp_path: Path) -> None:
    """A tailer in another process, a reading and a subscription that stand still: under 1.5 times the records' bytes."""
    seen = tmp_path / "tailer.seen"
    with ledger.open(quick_path, durability="relaxed") as book:
        book.log.append([ledger.NoteAdded("first")], stream="w")
        tailer = start(program("tailer", quick_path), seen)
        try:
            wait_for_line(seen, "ready")
            reading = iter(book.log.read())
            assert next(reading).position == 1
            with book.subscribe() as standing:
                assert standing.next(timeout=10) is not None
                payload = _append(book, APPENDS)
                assert standing.next(timeout=10) is not None
            assert next(reading).position == 2
            assert _size(quick_path) < 1.5 * payload, f"{_size(quick_path):,} bytes for {payload:,}"
            print(f"{_size(quick_path) / payload:.2f} times the payload")
            wait_for_line(seen, str(APPENDS + 1), seconds=120)
        finally:
            end(tailer)
    positions = [int(line) for line in lines_of(seen) if line.strip().isdigit()]
    assert oracle.check_records(quick_path, {}, positions) == APPENDS + 1


def test_a_transaction_held_open_makes_the_file_grow(ledger_path: Path) -> None:
    """The test above can fail: with LMDB's own read transaction held, 2,000 appends make the file several times as large."""
    with ledger.open(ledger_path, durability="relaxed") as book:
        book.log.append([ledger.NoteAdded("first")], stream="w")
        with book.log.backend.view():
            payload = _append(book, 2000)
        assert _size(ledger_path) > 3 * payload


HOLDER = """
import sys, time, ledger
from ledger.backends import environment
environment.MAX_READERS = 6
with ledger.open(sys.argv[1]) as book, book.log.backend.view() as view:
    print("reading", flush=True)
    time.sleep(60)
"""


def test_a_full_table_of_readers_is_said_and_cleared_of_the_dead(
    ledger_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all places taken a reader is told to try again, and a writer writes; killed readers make room at once."""
    monkeypatch.setattr("ledger.backends.environment.MAX_READERS", 6)
    with Ledger(LmdbBackend(ledger_path, options=Options("relaxed")), "w") as book:
        book.log.append([ledger.NoteAdded("first")], stream="w")
        out = tmp_path / "holders.out"
        holders = [start([sys.executable, "-c", HOLDER, str(ledger_path)], out) for _ in range(6)]
        try:
            wait_for_line(out, "reading", count=6)
            with pytest.raises(ledger.LedgerBusy, match=r"readers.*Try again"):
                book.log.head
            assert book.log.append([ledger.NoteAdded("second")], stream="w").position == 2
        finally:
            end(*holders)
        assert book.log.head == 2
        before = _size(ledger_path)
        payload = _append(book, 1000)
        assert _size(ledger_path) < before + 2 * payload, "the dead readers hold no pages"
    oracle.check(ledger_path, {})
