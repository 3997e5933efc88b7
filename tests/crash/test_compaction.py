"""Compaction: what was redacted is gone for good, everything else stays, whatever interrupts it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

import ledger
from ledger.audit import verify
from ledger.backends.exclusive import hold_exclusively, share_directory
from ledger.maintenance.backup import backup, restore
from ledger.maintenance.compaction import compact
from ledger.maintenance.doctor import doctor
from ledger.maintenance.swap import replaced_ledgers
from ledger.redaction import remainder_of

SECRET = "hunter2-7f3a9c"


def _redact(book: ledger.Ledger, position: int) -> None:
    (record,) = book.log.read(position - 1, limit=1)
    gone = ledger.PayloadRedacted(record.version, record.type, remainder_of(record.stream, record.event))
    book.log.append([gone], stream=record.stream, reason="leak")


def _ids(path: Path) -> list[Any]:
    with ledger.open(path, create=False) as book:
        return [book.id, book.log.backend.tree_head(), [(r.position, r.id, r.recorded_at, r.event) for r in book.log.read()]]


def _finds(path: Path, secret: str) -> int:
    """Count a text in all files below the directory, also in whatever in them zstandard can read."""
    found = 0
    for file in path.rglob("*"):
        data = file.read_bytes() if file.is_file() else b""
        found += data.count(secret.encode())
        start = data.find(b"\x28\xb5\x2f\xfd")
        while start >= 0:
            with contextlib.suppress(zstandard.ZstdError):
                found += zstandard.ZstdDecompressor().decompressobj().decompress(data[start:]).count(secret.encode())
            start = data.find(b"\x28\xb5\x2f\xfd", start + 1)
    return found


@pytest.fixture
def redacted(ledger_path: Path) -> Path:
    """Return a closed ledger with a redaction whose bytes are still in the file."""
    with ledger.open(ledger_path) as book:
        exp = book.experiment("e")
        exp.new_trials([{"n": n} for n in range(50)])
        position = book.log.append([ledger.NoteAdded(f"the password is {SECRET}")], stream="diary").position
        book.log.append([ledger.NoteAdded("later")], stream="diary")
        _redact(book, position)
    return ledger_path


# ------------------------------------------------------------------------------------------------------------ erasure


def test_a_redacted_payload_is_in_no_file_afterwards(redacted: Path) -> None:
    """Before, its bytes are in the file's old pages; after, nowhere; ids, hashes and the root are as they were."""
    assert _finds(redacted, SECRET) >= 1
    before = _ids(redacted)
    (redacted / "projections").mkdir()
    (redacted / "projections" / "cache").write_text(SECRET)
    report = compact(redacted)
    assert _finds(redacted, SECRET) == 0
    assert _ids(redacted) == before
    assert (report.head, report.root) == before[1]
    assert (report.ledger_id, report.erased) == (before[0], 1)
    assert report.after_bytes == (redacted / "data.mdb").stat().st_size <= report.before_bytes
    with ledger.open(redacted) as book:
        assert book.log.backend.redactions() == (1, 0)
    assert compact(redacted).erased == 0


def test_what_a_redacted_artifact_held_is_in_no_file_afterwards(ledger_path: Path, tmp_path: Path) -> None:
    """Its blobs go, those of a directory too; what another record refers to stays, and so does everything without a redaction."""
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "keys").write_text(SECRET)
    (tmp_path / "made" / "shared").write_text("known to all")
    with ledger.open(ledger_path) as book:
        exp = book.experiment("e")
        kept = exp.log_artifact("known to all", name="kept")
        exp.log_artifact(tmp_path / "made")
        position = book.log.head
        exp.log_artifact(SECRET + "!", name="second")
        exp.log_artifact("not recorded by anybody", name="third")
        orphan = book.log.backend.blobs.place(exp.artifact("third").digest)
    assert compact(ledger_path).erased_blobs == 0
    with ledger.open(ledger_path) as book:
        _redact(book, position)
        _redact(book, position + 1)
        _redact(book, position + 2)
    assert _finds(ledger_path, SECRET) >= 2
    report = compact(ledger_path)
    assert (report.erased, report.erased_blobs) == (3, 4)
    assert _finds(ledger_path, SECRET) == 0
    assert not orphan.exists()
    with ledger.open(ledger_path) as book:
        assert book.get_experiment("e").artifact("kept").read_bytes() == b"known to all"
        assert kept.digest
    assert compact(ledger_path).erased_blobs == 0


def test_an_erasure_that_cannot_tell_what_is_needed_removes_nothing(ledger_path: Path, tmp_path: Path) -> None:
    """With the manifest of a directory damaged it is refused, naming the cure, and the erasure stays pending."""
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "file").write_text("needed")
    with ledger.open(ledger_path) as book:
        exp = book.experiment("e")
        directory = exp.log_artifact(tmp_path / "made")
        exp.log_artifact(SECRET, name="secret")
        _redact(book, book.log.head)
        manifest = book.log.backend.blobs.place(directory.digest)
    manifest.chmod(0o644)
    manifest.write_bytes(b"damaged")
    blobs = sorted((ledger_path / "blobs").rglob("*"))
    with pytest.raises(ledger.Corrupted, match=r"nothing was erased.*ledger redact"):
        compact(ledger_path)
    assert sorted((ledger_path / "blobs").rglob("*")) == blobs
    with ledger.open(ledger_path) as book:
        assert book.log.backend.redactions().pending == 1
        _redact(book, 2)
    assert compact(ledger_path).erased == 2
    assert _finds(ledger_path, SECRET) == 0


def test_a_payload_redacted_in_a_sealed_block_is_gone(ledger_path: Path) -> None:
    """Sealed blocks are compressed: they are searched unpacked, and so are the pages that were freed."""
    with ledger.open(ledger_path) as book:
        texts = [f"{SECRET}-{number:05}" for number in range(1200)]
        book.log.append([ledger.NoteAdded(text) for text in texts], stream="diary")
        assert _finds(ledger_path, texts[600]) >= 1
        _redact(book, 601)
    assert _finds(ledger_path, texts[600]) >= 1
    compact(ledger_path)
    assert _finds(ledger_path, texts[600]) == 0
    assert _finds(ledger_path, texts[601]) >= 1, "its neighbour should be there, or the search finds nothing"


def test_a_payload_in_the_slack_of_other_pages_is_gone(ledger_path: Path) -> None:
    """LMDB writes what its memory held before into the ends of other values' pages: they are not copied."""
    with ledger.open(ledger_path) as book:
        for size in (3000, 1500, 6000):
            position = book.log.append([ledger.NoteAdded(SECRET * (size // len(SECRET)))], stream="s").position
            for _ in range(10):
                book.log.append([ledger.NoteAdded("x" * 2100)], stream="t")
            _redact(book, position)
    compact(ledger_path)
    assert _finds(ledger_path, SECRET[:8]) == 0


def test_free_pages_are_given_back(ledger_path: Path) -> None:
    """A file that a long reader had made large is as small as its content again."""
    with ledger.open(ledger_path) as book, book.log.backend.view():
        for number in range(400):
            book.log.append([ledger.NoteAdded("x" * 500)], stream=f"s{number % 9}")
    report = compact(ledger_path)
    assert report.after_bytes < report.before_bytes / 4


# ---------------------------------------------------------------------------------------------------------- exclusion


def test_it_is_refused_while_the_ledger_is_open(redacted: Path, script: Callable) -> None:
    """In another process, named by its pid, and in this one; then it is as it was, and later it works."""
    before = (redacted / "data.mdb").read_bytes()
    with ledger.open(redacted), pytest.raises(ledger.LedgerBusy, match=rf"this process \({os.getpid()}\)"):
        compact(redacted)
    holder = script("import sys, time, ledger; book = ledger.open(sys.argv[1]); print('open'); time.sleep(60)", redacted)
    assert holder.line() == "open"
    with pytest.raises(ledger.LedgerBusy, match=f"process {holder.process.pid} .*nothing was changed"):
        compact(redacted)
    holder.kill()
    holder.finish()
    assert (redacted / "data.mdb").read_bytes() == before
    assert compact(redacted).erased == 1


def test_writers_that_come_meanwhile_wait_and_lose_nothing(redacted: Path, tmp_path: Path, script: Callable) -> None:
    """Processes that open, append and close, between compactions: every acknowledged event is there once."""
    told = tmp_path / "told"
    writers = [
        script(
            """
            import itertools, os, random, sys, time, ledger
            path, name, told = sys.argv[1:]
            print("ready")
            with open(told, "a") as file:
                for number in itertools.count():
                    with ledger.open(path) as book:
                        book.log.append([ledger.NoteAdded(f"{name}:{number}")], stream="w")
                    os.write(file.fileno(), f"{name}:{number}\\n".encode())
                    time.sleep(random.uniform(0.0, 0.1))  # on a busy machine nobody would ever have it alone
            """,
            redacted, name, told,
        )
        for name in range(2)
    ]  # fmt: skip
    for writer in writers:
        writer.line()
    done, busy, end = 0, 0, time.monotonic() + 60
    while done < 6 and time.monotonic() < end:
        try:
            compact(redacted)
            done += 1
            written = told.stat().st_size  # let them come in between
            while told.stat().st_size == written and time.monotonic() < end:
                time.sleep(0.01)
        except ledger.LedgerBusy:
            busy += 1
            time.sleep(0.001)
    for writer in writers:
        writer.kill()
        writer.finish()
    acknowledged = told.read_text().split()
    with ledger.open(redacted) as book:
        texts = [record.event.text for record in book.log.read() if record.stream == "w"]
    assert done >= 2, f"no compaction came between ({busy} were refused)"
    assert len(acknowledged) >= done
    assert set(acknowledged) <= set(texts)
    assert len(texts) == len(set(texts))


@pytest.mark.parametrize("is_exclusive", [False, True])
def test_the_lock_of_a_directory_that_was_moved_away_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_exclusive: bool
) -> None:
    """Another directory is put in its place between the opening of the lock's file and the locking."""
    path, other = tmp_path / "runs.ledger", tmp_path / "other.ledger"
    for each in (path, other):
        ledger.open(each).close()
    lock = fcntl.flock

    def late(fd: int, kind: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        path.rename(tmp_path / "moved")
        other.rename(path)
        lock(fd, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    if is_exclusive:
        with pytest.raises(ledger.LedgerBusy), hold_exclusively(path, "the test"):
            pass
    else:
        fd = share_directory(path, readonly=False, timeout=20)
        assert os.path.samestat(os.fstat(fd), (path / "open.lock").stat())
        os.close(fd)


def test_a_lock_is_given_back_though_a_forked_child_lives_on(redacted: Path) -> None:
    """A child that was forked meanwhile inherits the descriptor, not the directory."""
    with hold_exclusively(redacted, "the test"):
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
    try:
        ledger.open(redacted, lock_timeout=0.1).close()
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


# --------------------------------------------------------------------------------------------------------- interrupted

STEPS = """
import importlib, os, signal, subprocess, sys

target = int(sys.argv[1])
count = 0

def counted(original):
    def call(*args, **more):
        global count
        if target == count:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        return original(*args, **more)
    return call

from ledger.maintenance.backup import restore
from ledger.maintenance.compaction import compact
import ledger.audit, ledger.maintenance.child, ledger.maintenance.swap

for name in ("replace", "rename", "fsync", "unlink", "rmdir", "mkdir", "link", "chmod", "chown"):
    setattr(os, name, counted(getattr(os, name)))
popen = subprocess.Popen
class Popen(popen):
    def __init__(self, *args, **more):
        counted(popen.__init__)(self, *args, **more)
subprocess.Popen = Popen
"""

COMPACT = STEPS + "compact(sys.argv[2])\nprint(count)"
RESTORE = STEPS + "restore(sys.argv[3], sys.argv[2], replace=True)\nprint(count)"


def _count_steps(code: str, script: Callable, *paths: Path) -> int:
    steps = int(script(code, -1, *paths).finish()[-1])
    assert steps > 15
    return steps


def test_killed_at_every_step_the_ledger_is_whole(redacted: Path, tmp_path: Path, script: Callable) -> None:
    """SIGKILL before each system call that matters: the old file or the new one is in place; the next run ends it."""
    master = tmp_path / "master"
    redacted.rename(master)
    (master / "projections").mkdir()
    (master / "projections" / "cache").write_text(SECRET)
    shutil.copytree(master, redacted)
    root = verify(master).root
    outcomes = set()
    for step in range(_count_steps(COMPACT, script, redacted)):
        shutil.rmtree(redacted)
        shutil.copytree(master, redacted)
        killed = script(COMPACT, step, redacted)
        killed.finish()
        assert killed.process.returncode == -9, step
        names = set(os.listdir(redacted))
        report = verify(redacted)
        assert (report.ok, report.root) == (True, root), (step, report.problems)
        with ledger.open(redacted) as book:
            pending = book.log.backend.redactions().pending
        outcomes.add((pending, any(name.startswith("compacting-") for name in names)))
        assert pending or _finds(redacted, SECRET) == 0, step
        assert compact(redacted).root == root
        assert _finds(redacted, SECRET) == 0, step
        assert set(os.listdir(redacted)) <= {"data.mdb", "head", "open.lock", "lock.mdb", "projections"}, step
    assert outcomes >= {(1, False), (1, True), (0, True)}, "every kind of moment should have been met"


def test_killed_at_any_time_the_ledger_is_whole(redacted: Path, script: Callable) -> None:
    """Also in the middle of the copy and of its verification, which run in processes of their own."""
    with ledger.open(redacted) as book:
        for _ in range(20):
            book.log.append([ledger.NoteAdded(os.urandom(200).hex()) for _ in range(500)], stream="s")
    root = verify(redacted).root
    for delay in (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4):
        code = "import sys; from ledger.maintenance.compaction import compact; print('begun'); compact(sys.argv[1])"
        killed = script(code, redacted)
        assert killed.line() == "begun"
        time.sleep(delay)
        killed.kill()
        killed.finish()
        assert verify(redacted).root == root
    assert compact(redacted).root == root
    assert _finds(redacted, SECRET) == 0


def test_a_restore_killed_at_every_step_leaves_the_old_ledger_or_the_new(
    redacted: Path, tmp_path: Path, script: Callable
) -> None:
    """And in the second case the old one is kept; never are two ledgers one file under two names to open."""
    master, parent = tmp_path / "master", tmp_path / "work"
    redacted.rename(master)
    parent.mkdir()
    path = parent / "runs.ledger"
    backup(master, tmp_path / "monday.tar")
    with ledger.open(master) as book:
        book.log.append([ledger.NoteAdded("tuesday")], stream="diary")
    tuesday, monday = verify(master).root, restore(tmp_path / "monday.tar", tmp_path / "again").root
    outcomes = set()

    def start_again() -> None:
        shutil.rmtree(parent)
        parent.mkdir()
        shutil.copytree(master, path)

    start_again()
    for step in range(_count_steps(RESTORE, script, path, tmp_path / "monday.tar")):
        start_again()
        killed = script(RESTORE, step, path, tmp_path / "monday.tar")
        killed.finish()
        assert killed.process.returncode == -9, step
        report = verify(path)
        assert report.ok
        assert report.root in (monday, tuesday)
        for kept in replaced_ledgers(path):
            assert not (kept / "data.mdb").samefile(path / "data.mdb"), step
        compact(path)
        kept = replaced_ledgers(path)
        outcomes.add((report.root == monday, len(kept)))
        if report.root == monday:
            assert [verify(each).root for each in kept] == [tuesday], step
        else:
            assert kept == [], step
        assert sorted(os.listdir(parent)) == sorted([path.name, *(each.name for each in kept)]), step
    assert outcomes == {(False, 0), (True, 1)}


def test_an_io_error_at_any_step_leaves_the_ledger_whole(redacted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO from each call in turn: it is raised, the ledger is whole, and the next compaction clears up."""
    root = verify(redacted).root
    raised = 0
    for name in ("replace", "fsync", "chmod", "mkdir"):
        for step in range(20):
            count = 0
            original = getattr(os, name)

            def failing(*args: Any, original: Any = original, step: int = step, **more: Any) -> Any:
                nonlocal count
                count += 1
                if count == step + 1:
                    raise OSError(errno.EIO, "Input/output error")
                return original(*args, **more)

            with monkeypatch.context() as patch:
                patch.setattr(os, name, failing)
                try:
                    compact(redacted)
                except OSError:
                    raised += 1
            if count <= step:
                break
            assert [each for each in os.listdir(redacted) if each.startswith("compacting-")] == []
    assert raised >= 5
    assert verify(redacted).root == root
    assert compact(redacted).root == root


def test_without_room_for_the_copy_nothing_changes(redacted: Path, script: Callable) -> None:
    """A limit on file sizes stands for the full disk: DiskFull says what to do, the file is as it was, nothing is left."""
    with ledger.open(redacted) as book:
        book.log.append([ledger.NoteAdded("x" * 1000) for _ in range(100)], stream="s")
    before = (redacted / "data.mdb").read_bytes()
    limited = script(
        """
        import resource, sys, ledger
        from ledger.maintenance.compaction import compact
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
        try:
            compact(sys.argv[1])
        except ledger.DiskFull as error:
            print(error)
        """,
        redacted,
    )
    assert "Nothing was changed. Free some space" in limited.finish()[0]
    assert (redacted / "data.mdb").read_bytes() == before
    assert sorted(os.listdir(redacted)) == ["data.mdb", "head", "lock.mdb", "open.lock"]


def test_a_damaged_ledger_is_not_compacted(redacted: Path) -> None:
    """What cannot be verified does not take the place of anything: it may be the best that is left."""
    whole = (redacted / "data.mdb").read_bytes()
    assert b"later" in whole
    for damaged in (whole.replace(b"later", b"earli"), whole[: 5 * 4096]):
        (redacted / "data.mdb").write_bytes(damaged)
        with pytest.raises((ledger.Corrupted, ledger.NotALedger)):
            compact(redacted)
        assert (redacted / "data.mdb").read_bytes() == damaged
        assert [name for name in os.listdir(redacted) if name.startswith("compacting-")] == []
    (redacted / "data.mdb").write_bytes(whole)


def test_leftovers_are_told_by_the_doctor_and_go(redacted: Path) -> None:
    """Of a compaction, a backup and a restore that were killed; what somebody still works in stays."""
    dead = [redacted / "compacting-dead", redacted.parent / f".{redacted.name}.partial-dead"]
    busy = redacted.parent / f".{redacted.name}.partial-busy"
    for each in (*dead, busy):
        each.mkdir()
        (each / "data.mdb").write_text(SECRET)
    fd = os.open(busy, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    told = {finding.message.split(" ")[0]: finding for finding in doctor(redacted) if finding.name == "leftovers"}
    assert {str(each) for each in dead} <= set(told)
    assert all(told[str(each)].level == "warning" and "ledger compact" in (told[str(each)].cure or "") for each in dead)
    compact(redacted)
    assert [each.exists() for each in (*dead, busy)] == [False, False, True]
    os.close(fd)


def test_rights_stay(redacted: Path) -> None:
    """The new file has mode and owner of the old one, whoever compacts."""
    (redacted / "data.mdb").chmod(0o640)
    if os.geteuid() == 0:
        os.chown(redacted / "data.mdb", 1234, 2345)
    before = (redacted / "data.mdb").stat()
    compact(redacted)
    after = (redacted / "data.mdb").stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
