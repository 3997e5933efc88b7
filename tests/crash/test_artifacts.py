"""Artifacts and what may happen while they are saved: kill -9, a full disk, an append that fails."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import ledger
from ledger.audit import verify
from ledger.backends.lmdb import LmdbBackend

SAVER = """
import itertools, os, pathlib, sys, ledger
path, place, name, seen = sys.argv[1:]
with ledger.open(path) as book, open(seen, "a") as file:
    exp = book.experiment("e")
    print("ready")
    for number in itertools.count():
        content = os.urandom(1 << 20) + (name.encode() + b" text ") * 50_000
        files = pathlib.Path(place, name)
        files.mkdir(exist_ok=True)
        for part in "abc":
            (files / part).write_bytes(content[:1000 * (number % 7)] + part.encode())
        exp.log_artifact(files, name=f"{name}:{number}:files")
        artifact = exp.log_artifact(content, name=f"{name}:{number}")
        os.write(file.fileno(), f"{artifact.name} {artifact.digest}\\n".encode())
"""


def test_killed_saves_leave_no_event_without_its_content(ledger_path: Path, tmp_path: Path, script: Callable) -> None:
    """kill -9 of savers at random moments: what was acknowledged is there, every record's content is, and a collection
    clears away what is left."""
    ledger.open(ledger_path).close()
    acknowledged = tmp_path / "acknowledged"
    random_ = random.Random(11)
    left = 0
    for round_ in range(8):
        savers = [script(SAVER, ledger_path, tmp_path, f"{round_}-{i}", acknowledged) for i in range(2)]
        for saver in savers:
            assert saver.line() == "ready"
        time.sleep(random_.uniform(0.02, 0.3))
        for saver in savers:
            saver.kill()
            saver.finish()
        left += len(list((ledger_path / "blobs").glob("saving-*")))
        verify(ledger_path, artifacts="content").raise_for_problem()
    told = dict(line.split() for line in acknowledged.read_text().splitlines())
    with ledger.open(ledger_path) as book:
        exp = book.experiment("e")
        artifacts = dict(exp.artifacts)
        assert {name: artifacts[name].digest for name in told} == told
        assert len(told) > 5
        assert left, "no save was killed in the middle: the test has shown nothing"
        book.collect_garbage(grace_seconds=0)
        assert list((ledger_path / "blobs").glob("saving-*")) == []
        needed = {each.digest for each in artifacts.values()}
        needed |= {entry.digest for each in artifacts.values() for entry in each.entries()}
        assert {stored.digest for stored in book.log.backend.blobs.blobs()} == needed
    verify(ledger_path, artifacts="content").raise_for_problem()


def test_an_append_that_is_refused_records_nothing(book: ledger.Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the event cannot be appended, the error is that of the append, and a collection removes the content."""
    exp = book.experiment("e")

    def refuse(*args: object) -> None:
        raise ledger.LockTimeout(book.path, ["somebody"], 1.0)

    with monkeypatch.context() as patched, pytest.raises(ledger.LockTimeout):
        patched.setattr(LmdbBackend, "commit", refuse)
        exp.log_artifact(b"content", name="x")
    assert not exp.artifacts
    assert [stored.size for stored in book.collect_garbage(grace_seconds=0).removed] == [7]


@pytest.mark.parametrize("what", ["bytes", "file", "directory"])
def test_a_full_disk_is_said_and_leaves_nothing(ledger_path: Path, tmp_path: Path, what: str) -> None:
    """A saver that runs into RLIMIT_FSIZE gets DiskFull with the cure, half of nothing is left, and the ledger goes on."""
    code = """
        import os, pathlib, resource, sys, ledger
        path, place, what = sys.argv[1:]
        place = pathlib.Path(place, "directory")
        place.mkdir()
        noise = os.urandom(5 << 20)
        (place / "small").write_bytes(b"small")
        (place / "large").write_bytes(noise)
        value = {"bytes": noise, "file": place / "large", "directory": place}[what]
        with ledger.open(path) as book:
            exp = book.experiment("e")
            exp.log_artifact(b"before", name="before")
            resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))
            try:
                exp.log_artifact(value, name="x")
            except ledger.DiskFull as error:
                print("Free some space" in str(error), isinstance(error, OSError))
            print(exp.log_artifact(b"after", name="after").load(), list(exp.artifacts))
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), ledger_path, tmp_path, what],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["True True", "b'after' ['before', 'after']"], done.stderr
    with ledger.open(ledger_path) as book:
        assert sorted(stored.size for stored in book.log.backend.blobs.blobs()) == [5, 6]
    assert list((ledger_path / "blobs").glob("saving-*")) == []


def test_no_right_to_write_is_said(ledger_path: Path, tmp_path: Path) -> None:
    """Without the right to write in blobs/ the error names it; nothing is recorded."""
    if os.getuid() == 0:
        pytest.skip("root may write everywhere")
    with ledger.open(ledger_path) as book:
        exp = book.experiment("e")
        exp.log_artifact(b"x", name="x")
        (ledger_path / "blobs").chmod(0o555)
        try:
            with pytest.raises(ledger.ReadOnlyLedger, match=r"blobs.*chmod"):
                exp.log_artifact(b"y", name="y")
        finally:
            (ledger_path / "blobs").chmod(0o755)
        assert list(exp.artifacts) == ["x"]
