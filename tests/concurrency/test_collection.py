"""The garbage collection beside writers: nothing that is recorded is ever removed."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import ledger
from ledger.artifacts.blobs import BlobStore, Saving
from ledger.audit import verify

SAVER = """
import random, sys, ledger
path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
random_ = random.Random(name)
with ledger.open(path) as book:
    exp = book.experiment("e")
    print("ready")
    for number in range(count):
        content = b"shared %d " % random_.randrange(30) * 200
        artifact = exp.log_artifact(content, name=f"{name}:{number}")
        if number % 5:  # what it held may be free again, while others save the same
            positions = book.log.backend.stream_positions(exp.stream)
            book.redact(positions[artifact.version - 1], reason="not needed")
print("done")
"""


def test_collecting_beside_savers_removes_nothing_that_is_recorded(ledger_path: Path, script: Callable) -> None:
    """Processes save the same few contents over and over, redact some, and collect without any grace: every record's content
    is there all the time, and nothing else at the end."""
    ledger.open(ledger_path).close()
    savers = [script(SAVER, ledger_path, f"s{i}", 60) for i in range(3)]
    for saver in savers:
        assert saver.line() == "ready"
    removed = collections = 0
    with ledger.open(ledger_path) as book:
        while any(saver.process.poll() is None for saver in savers):
            removed += len(book.collect_garbage(grace_seconds=0).removed)
            collections += 1
            if collections % 5 == 0:
                verify(ledger_path, artifacts="content").raise_for_problem()
        assert [saver.finish()[-1] for saver in savers] == ["done"] * 3
        removed += len(book.collect_garbage(grace_seconds=0).removed)
        exp = book.experiment("e")
        needed = {artifact.digest for artifact in exp.artifacts.values()}
        assert {stored.digest for stored in book.log.backend.blobs.blobs()} == needed
    assert collections > 3
    assert removed, "nothing was ever free: the test has shown nothing"
    verify(ledger_path, artifacts="content").raise_for_problem()


def test_two_processes_save_the_same_at_once(ledger_path: Path, script: Callable) -> None:
    """Both records are there, the content once."""
    code = """
        import sys, ledger
        with ledger.open(sys.argv[1]) as book:
            print("ready")
            sys.stdin.read()
            for number in range(20):
                book.experiment("e").log_artifact(b"content %d" % number * 1000, name=f"{sys.argv[2]}:{number}")
    """
    with ledger.open(ledger_path) as book:
        book.experiment("e")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), ledger_path, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for name in "ab"
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    for process in processes:
        assert process.wait() == 0
        assert process.stdout is not None
        process.stdout.close()
    with ledger.open(ledger_path) as book:
        assert len(book.experiment("e").artifacts) == 40
        assert len(list(book.log.backend.blobs.blobs())) == 20
    verify(ledger_path, artifacts="content").raise_for_problem()


def test_a_collection_between_saving_and_recording_takes_nothing(book: ledger.Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content was there already, and free: collected after it was found and before it is recorded, it is there again."""
    exp = book.experiment("e")
    exp.log_artifact(b"content", name="first")
    book.redact(book.log.head, reason="not needed")
    publish = Saving.publish
    removed = []

    def collect_first(self: Saving) -> None:
        # The saver has the guard by now, and the collection must not get in any more.
        monkeypatch.setattr("ledger.maintenance.garbage._WAIT_SECONDS", 0.05)
        try:
            removed.append(book.collect_garbage(grace_seconds=0))
        except ledger.LedgerBusy as busy:
            removed.append(str(busy))
        publish(self)

    with monkeypatch.context() as patched:
        patched.setattr(Saving, "publish", collect_first)
        artifact = exp.log_artifact(b"content", name="second")
    assert "no moment" in str(removed[0])
    assert artifact.load() == b"content"

    book.redact(book.log.head, reason="not needed")
    keep = Saving._keep

    def collect_after(self: Saving, *args: object) -> None:
        keep(self, *args)  # type: ignore[arg-type]
        removed.append(book.collect_garbage(grace_seconds=0))

    with monkeypatch.context() as patched:
        patched.setattr(Saving, "_keep", collect_after)
        artifact = exp.log_artifact(b"content", name="third")
    assert len(removed[1].removed) == 1
    assert artifact.load() == b"content"


def test_without_the_guard_a_collection_takes_what_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above can fail: were savers not to hold the guard, a collection before the record would take its content."""
    publish = Saving.publish
    with ledger.open(tmp_path / "runs.ledger") as book:

        def collect_after(self: Saving) -> None:
            publish(self)
            book.collect_garbage(grace_seconds=0)

        monkeypatch.setattr(Saving, "publish", collect_after)
        monkeypatch.setattr(BlobStore, "guard", lambda self, **options: contextlib.nullcontext())
        artifact = book.experiment("e").log_artifact(b"content", name="first")
        with pytest.raises(ledger.Corrupted, match="missing"):
            artifact.load()
    assert not verify(tmp_path / "runs.ledger").ok


def test_threads_of_one_handle_save_at_once(book: ledger.Ledger) -> None:
    """Each gets its own content back."""
    exp = book.experiment("e")
    wrong: list[object] = []

    def save(number: int) -> None:
        content = b"%d " % number * 400_000
        if exp.log_artifact(content, name=str(number)).load() != content:
            wrong.append(number)

    threads = [threading.Thread(target=save, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(exp.artifacts) == 8
