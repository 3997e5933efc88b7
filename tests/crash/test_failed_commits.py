"""Failed commits and retries: what is said, nothing acknowledged is lost, nothing is recorded twice."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import lmdb
import pytest

import ledger
from ledger.backends.environment import Environment


def _failing_commit(monkeypatch: pytest.MonkeyPatch, *, written: bool, error: Exception) -> None:
    """Let the next commit raise, before or after the transaction is on disk."""
    original = Environment.commit_transaction

    def fail(self: Environment, txn: object) -> None:
        monkeypatch.setattr(Environment, "commit_transaction", original)
        if written:
            original(self, txn)
        else:
            txn.abort()  # type: ignore[attr-defined]
        raise error

    monkeypatch.setattr(Environment, "commit_transaction", fail)


@pytest.mark.parametrize("written", [True, False])
def test_a_retry_after_an_unknown_outcome_is_recorded_once(
    ledger_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    """Whether the failed commit reached the disk or not, repeating it with its append id gives one record."""
    book = ledger.open(ledger_path)
    book.log.append([ledger.NoteAdded("before")], stream="s")
    _failing_commit(monkeypatch, written=written, error=lmdb.Error("mdb_txn_commit: Input/output error"))
    with pytest.raises(ledger.CommitFailed, match="Input/output error") as caught:
        book.log.append([ledger.NoteAdded("once")], stream="s")
    append_id = caught.value.append_id
    assert isinstance(append_id, UUID)
    with pytest.raises(ledger.LedgerPoisoned, match="open the ledger again"):
        book.log.append([ledger.NoteAdded("other")], stream="s")
    with ledger.open(ledger_path) as again:
        for _ in range(2):
            answer = again.log.append([ledger.NoteAdded("once")], stream="s", append_id=append_id)
            assert (answer.position, answer.append_id) == (2, append_id)
        assert [record.event.text for record in again.log.read()] == ["before", "once"]
        with pytest.raises(ledger.AppendIdReused, match="position 2"):
            again.log.append([ledger.NoteAdded("twice")], stream="s", append_id=append_id)
    book.close()


def test_a_full_disk_says_what_to_do(book: ledger.Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC is a DiskFull error, also an OSError; reading goes on after opening again."""
    book.log.append([ledger.NoteAdded("before")], stream="s")
    _failing_commit(monkeypatch, written=False, error=lmdb.DiskError("mdb_txn_commit: No space left on device"))
    with pytest.raises(ledger.DiskFull, match="Free some space") as caught:
        book.log.append([ledger.NoteAdded("more")], stream="s")
    assert isinstance(caught.value, OSError)
    with ledger.open(book.path) as again:
        assert [record.event.text for record in again.log.read()] == ["before"]


def test_an_interrupted_waiter_leaves_the_queue(book: ledger.Ledger) -> None:
    """A command that raises KeyboardInterrupt in the committing thread is raised there, and the log goes on."""

    def interrupt(view: ledger.View) -> list:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        book.log.execute(interrupt)
    assert book.log.append([ledger.NoteAdded("x")], stream="s").position == 1
