"""Kill -9, failed commits and retries: nothing acknowledged is lost, nothing is recorded twice."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import lmdb
import pytest

import ledger
from ledger.audit import verify
from ledger.backends.environment import Environment

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


def test_every_bit_flip_is_an_error_or_the_right_bytes(ledger_path: Path, tmp_path: Path) -> None:
    """Random single bits of data.mdb flipped: a reader gets the right records or an error, and verify survives them all."""
    with ledger.open(ledger_path) as book:
        exp = book.experiment("e")
        exp.new_trials([{"n": n} for n in range(300)])
        for _ in range(30):
            trial = exp.claim()
            assert trial is not None
            trial.complete({"x": 1.5})
        right = [(r.position, r.stream, r.version, repr(r.event)) for r in book.log.read()]
        stream = trial.stream
    original = (ledger_path / "data.mdb").read_bytes()
    code = """
        import sys, ledger, json
        sys.setrecursionlimit(10000)
        try:
            with ledger.open(sys.argv[1], create=False) as book:
                records = [(r.position, r.stream, r.version, repr(r.event)) for r in book.log.read()]
                stream = [(r.position, r.stream, r.version, repr(r.event)) for r in book.log.read(stream=sys.argv[2])]
            print(json.dumps([records, stream]))
        except ledger.LedgerError as error:
            print(json.dumps(type(error).__name__))
    """
    outcomes: Counter[str] = Counter()
    random_ = random.Random(11)
    import json

    damaged = tmp_path / "damaged.ledger"
    damaged.mkdir()
    expected_stream = [r for r in right if r[1] == stream]
    for number in range(40):
        bit = random_.randrange(len(original) * 8)
        content = bytearray(original)
        content[bit // 8] ^= 1 << bit % 8
        for name in os.listdir(damaged):
            (damaged / name).unlink()
        (damaged / "data.mdb").write_bytes(content)
        reader = subprocess.run(
            [sys.executable, "-c", "import textwrap; exec(textwrap.dedent(" + repr(code) + "))", str(damaged), stream],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if reader.returncode < 0:
            outcomes["killed"] += 1  # LMDB's own assertion: no wrong bytes, and verify below survives it
        else:
            assert reader.returncode == 0, reader.stderr
            answer = json.loads(reader.stdout)
            if isinstance(answer, str):
                outcomes["error"] += 1
            else:
                assert [tuple(r) for r in answer[0]] == right, f"bit {bit} changed what was read"
                assert [tuple(r) for r in answer[1]] in (expected_stream, []), f"bit {bit} changed a stream"
                outcomes["right"] += 1
        if number % 4 == 0:
            try:
                verify(damaged)
            except ledger.OpenError:
                outcomes["not a ledger"] += 1
    assert outcomes["right"] + outcomes["error"] > 30
    assert outcomes["error"] > 0
