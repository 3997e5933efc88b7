"""Kill -9, failed commits and retries: nothing acknowledged is lost, nothing is recorded twice."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import lmdb
import pytest

import ledger
from ledger.audit import verify
from ledger.backends.environment import Environment
from ledger.format import Checks, read_header

WRITER = """
import itertools, os, sys, ledger
path, name, seen = sys.argv[1:]
with ledger.open(path) as book:
    print("ready")
    with open(seen, "a") as file:
        for number in itertools.count():
            size = 1 + number % 5
            events = [ledger.NoteAdded(f"{name}:{number}:{i}:{size}") for i in range(size)]
            appended = book.log.append(events, stream=f"w{name}")
            os.write(file.fileno(), f"{name}:{number} {appended.position}\\n".encode())
"""


def test_killed_writers_lose_nothing_acknowledged(ledger_path: Path, tmp_path: Path, script: Callable) -> None:
    """kill -9 of writers at random moments: every acknowledged batch is there once, whole, at the position it was told."""
    ledger.open(ledger_path).close()
    acknowledged = tmp_path / "acknowledged"
    random_ = random.Random(7)
    for round_ in range(12):
        writers = [script(WRITER, ledger_path, f"{round_}-{i}", acknowledged) for i in range(3)]
        for writer in writers:
            assert writer.line() == "ready"
        time.sleep(random_.uniform(0.01, 0.2))
        for writer in writers:
            writer.kill()
            time.sleep(random_.uniform(0, 0.02))
        for writer in writers:
            writer.finish()
    with ledger.open(ledger_path) as book:
        records = list(book.log.read())
    told = dict(line.split() for line in acknowledged.read_text().splitlines())
    assert len(told) > 50
    assert [record.position for record in records] == list(range(1, len(records) + 1))
    batches: dict[str, list[int]] = {}
    sizes: dict[str, int] = {}
    for record in records:
        name, number, _, size = record.event.text.split(":")
        batches.setdefault(f"{name}:{number}", []).append(record.position)
        sizes[f"{name}:{number}"] = int(size)
    for batch, position in told.items():
        assert batches[batch][0] == int(position), f"batch {batch} was acknowledged at {position}"
    for batch, positions in batches.items():
        assert positions == list(range(positions[0], positions[0] + sizes[batch])), f"batch {batch} is not whole"


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


def test_a_real_file_size_limit_loses_nothing(ledger_path: Path) -> None:
    """A writer that runs into RLIMIT_FSIZE gets DiskFull; everything acknowledged before is intact."""
    code = """
        import os, resource, signal, sys, ledger
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with ledger.open(sys.argv[1]) as book:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
            try:
                for number in range(10_000):
                    book.log.append([ledger.NoteAdded(os.urandom(20_000).hex())], stream="s")
                    print(number + 1)
            except ledger.DiskFull as error:
                print("full", isinstance(error, OSError))
    """
    done = subprocess.run(
        [sys.executable, "-c", "import textwrap; exec(textwrap.dedent(" + repr(code) + "))", str(ledger_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = done.stdout.split("\n")[:-1]
    assert lines[-1] == "full True", done.stderr
    with ledger.open(ledger_path) as book:
        assert book.log.head == int(lines[-2])
        book.log.append([ledger.NoteAdded("after")], stream="s")


def test_an_interrupted_waiter_leaves_the_queue(book: ledger.Ledger) -> None:
    """A command that raises KeyboardInterrupt in the committing thread is raised there, and the log goes on."""

    def interrupt(view: ledger.View) -> list:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        book.log.execute(interrupt)
    assert book.log.append([ledger.NoteAdded("x")], stream="s").position == 1


Content = tuple[list[Any], dict[str, list[Any]], dict[int, Any]]


def _content(path: Path, known: list[str]) -> Content:
    """Read everything: all records in order, and through the indexes each stream and some trials' states."""
    with ledger.open(path, create=False) as book:
        records = [(r.position, r.stream, r.version, repr(r.event)) for r in book.log.read()]
        streams = {name: [(r.position, r.version, repr(r.event)) for r in book.log.read(stream=name)] for name in known}
        exp = book.get_experiment("e")
        return records, streams, {number: repr(exp.trial(number).state) for number in (1, 17, 299)}


def _outcome(path: Path, right: Content) -> str:
    """Read a damaged ledger in a child process, which LMDB may kill."""
    pid = os.fork()
    if pid == 0:
        answer = "crashed"
        try:
            answer = "right" if _content(path, list(right[1])) == right else "WRONG"
        except ledger.LedgerError:
            answer = "error"
        finally:
            os._exit(_OUTCOMES.index(answer))
    _, result = os.waitpid(pid, 0)
    return "killed" if os.WIFSIGNALED(result) else _OUTCOMES[os.WEXITSTATUS(result)]


_OUTCOMES = ["right", "error", "WRONG", "crashed"]


def _flip_bits(ledger_path: Path, damaged: Path, flips: int) -> Counter[str]:
    """Make a ledger, flip bits of copies of it one by one, and return the outcomes of reading them."""
    with ledger.open(ledger_path) as book:
        exp = book.experiment("e")
        exp.new_trials([{"n": n} for n in range(300)])
        for _ in range(30):
            trial = exp.claim()
            assert trial is not None
            trial.complete({"x": 1.5})
        known = sorted({record.stream for record in book.log.read()})
    right = _content(ledger_path, known)
    original = (ledger_path / "data.mdb").read_bytes()
    damaged.mkdir()
    outcomes: Counter[str] = Counter()
    random_ = random.Random(11)
    for number in range(flips):
        bit = random_.randrange(len(original) * 8)
        content = bytearray(original)
        content[bit // 8] ^= 1 << bit % 8
        for name in os.listdir(damaged):
            (damaged / name).unlink()
        (damaged / "data.mdb").write_bytes(content)
        outcomes[_outcome(damaged, right)] += 1
        if number % 40 == 0:
            with contextlib.suppress(ledger.OpenError):
                verify(damaged)  # survives whatever it is
    return outcomes


def test_every_bit_flip_is_an_error_or_the_right_bytes(ledger_path: Path, tmp_path: Path) -> None:
    """300 random bits of data.mdb flipped: records, streams and states are right or an error, and verify survives.

    LMDB may end the reading process (its own assertion), but nothing wrong is believed.
    """
    outcomes = _flip_bits(ledger_path, tmp_path / "damaged.ledger", 300)
    assert outcomes["WRONG"] == outcomes["crashed"] == 0, outcomes
    assert outcomes["error"] > 20, outcomes
    assert outcomes["right"] > 20, outcomes


def test_without_the_checks_wrong_bytes_are_believed(ledger_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: with the checks of values switched off, flipped bits are returned as if they were right."""
    monkeypatch.setattr(Checks, "open", lambda self, key, value: value[4:])
    monkeypatch.setattr(Checks, "open_meta", lambda self, key, value: value[8:])
    monkeypatch.setattr(Checks, "open_block", lambda self, position, value: read_header(value))
    outcomes = _flip_bits(ledger_path, tmp_path / "damaged.ledger", 100)
    assert outcomes["WRONG"] + outcomes["crashed"] > 0
