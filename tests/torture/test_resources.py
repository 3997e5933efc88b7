"""Processes that are stopped, starved of memory, or left with a disk that is full or read-only."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

import ledger
from ledger.backends.gate import lock_holders
from ledger.maintenance.doctor import PROBLEM, doctor
from tests.torture import oracle
from tests.torture.children import end, lines_of, program, start, wait_for_line
from tests.torture.machine import disk, memory_disk, memory_group


def _stop_while_it_writes(process: subprocess.Popen[bytes], path: Path) -> None:
    """Stop a writer at a moment at which it holds the write lock."""
    random_ = random.Random(1)
    for _ in range(2000):
        time.sleep(random_.uniform(0.0, 0.003))
        os.kill(process.pid, signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        if any(f"process {process.pid} " in holder for holder in lock_holders(path / "head")):
            return
        os.kill(process.pid, signal.SIGCONT)
    pytest.fail("the writer was never met with the lock")


def test_a_writer_that_is_stopped_in_a_transaction_is_named(ledger_path: Path, tmp_path: Path) -> None:
    """Others are told who holds the lock, for how long, and that it is stopped; readers read; then all goes on."""
    ledger.open(ledger_path).close()
    out, told = tmp_path / "w.out", 0
    writer = start(program("writer", ledger_path, "w"), out)
    try:
        wait_for_line(out, "ready")
        for _ in range(3):
            _stop_while_it_writes(writer, ledger_path)
            stopped_at = time.monotonic()
            time.sleep(0.2)
            with ledger.open(ledger_path, lock_timeout=0.5) as book:
                with pytest.raises(ledger.LockTimeout, match=rf"in 0\.\d s: .*held .*process {writer.pid} .*stopped") as caught:
                    book.log.append([ledger.NoteAdded("waits")], stream="x")
                since, held = time.monotonic() - stopped_at, caught.value.held_seconds
                assert caught.value.waited_seconds >= 0.5
                # None in the microsecond between the lock and its stamp; then the message does without
                assert held is None or (
                    since - 0.1 < held < since + 5 and f"has been held for {held:.1f} s by" in str(caught.value)
                )
                told += held is not None
                assert len(list(book.log.read())) == book.log.head
            (found,) = [finding for finding in doctor(ledger_path) if finding.name == "write_lock"]
            assert (found.level, "kill -CONT" in (found.cure or "")) == (PROBLEM, True)
            os.kill(writer.pid, signal.SIGCONT)
            with ledger.open(ledger_path, lock_timeout=30) as book:
                book.log.append([ledger.NoteAdded("goes on")], stream="x")
        assert told > 0
    finally:
        end(writer)
    oracle.check(ledger_path, oracle.read_told(lines_of(out)))


@pytest.mark.torture
def test_a_writer_killed_for_want_of_memory_loses_nothing(ledger_path: Path, tmp_path: Path) -> None:
    """The kernel's own kill, by a control group with 96 MiB, in the middle of appends; five times."""
    ledger.open(ledger_path).close()
    outs = [tmp_path / f"{number}.out" for number in range(5)]
    with memory_group(96 << 20) as group:
        for out in outs:
            command = program("writer", ledger_path, out.stem, "--hog-bytes", 1 << 20, "--padding", 2000)
            entered = ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh", *command]
            assert start(entered, out).wait(120) == -signal.SIGKILL
    told = oracle.read_told(lines_of(*outs))
    assert len(told) > 20
    oracle.check(ledger_path, told)


@pytest.mark.torture
def test_a_full_tmpfs_loses_nothing(tmp_path: Path) -> None:
    """DiskFull says so; what was acknowledged can be read there, and goes on where there is room."""
    with memory_disk(tmp_path, "2m") as place:
        path, out = place / "runs.ledger", tmp_path / "w.out"
        assert start(program("writer", path, "w", "--padding", 4000), out).wait(60) == 3
        assert "DiskFull: no space left" in out.with_suffix(".err").read_text()
        told = oracle.read_told(lines_of(out))
        with ledger.open(path) as book:
            assert len(list(book.log.read())) == book.log.head >= len(told) > 20
        (found,) = [finding for finding in doctor(path) if finding.name == "space"]
        assert found.level == PROBLEM
        shutil.copytree(path, tmp_path / "moved.ledger")
    oracle.check(tmp_path / "moved.ledger", told)


@pytest.mark.torture
def test_a_file_system_that_makes_itself_read_only_loses_nothing(tmp_path: Path) -> None:
    """ext4 does, when it finds an error: the writer is told, the ledger can be read there, and goes on when all is well."""
    with disk(tmp_path, "ext4") as made:
        made.unmount()
        made.mount("errors=remount-ro")
        path, out = made.path / "runs.ledger", tmp_path / "w.out"
        writer = start(program("writer", path, "w"), out)
        try:
            wait_for_line(out, "ready")
            time.sleep(0.5)
            made.fail()
            assert writer.wait(30) == 3
        finally:
            end(writer)
        assert "CommitFailed" in out.with_suffix(".err").read_text()
        told = oracle.read_told(lines_of(out))
        with pytest.raises(ledger.ReadOnlyLedger, match="readonly=True"):
            ledger.open(path)
        with ledger.open(path, readonly=True) as book:
            texts = {record.event.text.split("|")[0] for record in book.log.read()}
        assert set(told) <= texts
        made.unmount()
        made.mount()
        oracle.check(path, told)
