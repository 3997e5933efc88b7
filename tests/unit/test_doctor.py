"""doctor: what is wrong is found and has a cure, what is right is not complained of, and no damage kills it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import msgspec
import pytest

import ledger
from ledger.backends import directory
from ledger.backends.exclusive import hold_exclusively
from ledger.format import IDENTITY_KEY, Checks, Identity
from ledger.maintenance import disk
from ledger.maintenance import doctor as doctor_module
from ledger.maintenance.doctor import NOTE, OK, PROBLEM, WARNING, Finding, doctor
from ledger.redaction import remainder_of

NAMES = [
    "file_system", "space", "sync", "promise", "disk", "limits", "permissions", "handles", "write_lock", "leftovers",
    "format", "content", "structure", "doorbell", "map", "readers", "free_pages", "erasures", "artifacts", "clock",
]  # fmt: skip


@pytest.fixture
def filled(ledger_path: Path) -> Path:
    """Return a closed ledger with something in every index."""
    with ledger.open(ledger_path) as book:
        exp = book.experiment("e")
        exp.new_trials([{"n": n} for n in range(600)])
        assert exp.claim() is not None
        book.log.append([ledger.NoteAdded("last")], stream="diary")
    return ledger_path


@pytest.fixture
def sick(filled: Path, tmp_path: Path) -> Path:
    """Return a copy of it that may be damaged."""
    return Path(shutil.copytree(filled, tmp_path / "sick.ledger"))


def _find(path: Path, name: str) -> Finding:
    (found,) = [finding for finding in doctor(path) if finding.name == name]
    return found


def _problems(path: Path) -> list[Finding]:
    found = doctor(path)
    assert all(finding.cure for finding in found if finding.level in (WARNING, PROBLEM)), "each has its cure"
    return [finding for finding in found if finding.level == PROBLEM]


def test_a_healthy_ledger_has_every_finding_and_no_complaint(filled: Path) -> None:
    """Each subject once, in order; nothing beyond a note (this machine's disk and limits may be worth one)."""
    before = {name: (filled / name).read_bytes() for name in ("data.mdb", "head")}
    found = doctor(filled)
    assert [finding.name for finding in found] == NAMES
    about_the_machine = {"file_system", "space", "sync", "promise", "limits"}
    assert {finding.level for finding in found if finding.name not in about_the_machine} == {OK}
    assert f"position {_head(filled):,}" in _find(filled, "content").message
    assert {name: (filled / name).read_bytes() for name in before} == before
    assert sorted(os.listdir(filled)) == ["data.mdb", "head", "lock.mdb", "open.lock"]


def _head(path: Path) -> int:
    with ledger.open(path) as book:
        return book.log.head


def test_an_empty_ledger_is_healthy(ledger_path: Path) -> None:
    """One without a record, too."""
    ledger.open(ledger_path).close()
    assert _problems(ledger_path) == []


def test_it_can_be_asked_while_the_ledger_is_used(book: ledger.Ledger) -> None:
    """By this process, which is named, and without disturbing it."""
    book.log.append([ledger.NoteAdded("a")], stream="s")
    found = _find(Path(book.path), "handles")
    assert (found.level, f"this process ({os.getpid()})" in found.message) == (NOTE, True)
    book.log.append([ledger.NoteAdded("b")], stream="s")


def test_what_is_no_ledger_is_an_open_error(tmp_path: Path) -> None:
    """Nothing at the path, a file, an empty directory, somebody's directory, no path at all."""
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.tex").touch()
    for name in ("none", "file", "empty", "theirs"):
        with pytest.raises(ledger.OpenError, match=name):
            doctor(tmp_path / name)
    for path in ("memory:", "", "a\0b", "a\udcff", b"bytes"):
        with pytest.raises(ledger.InvalidValue):
            doctor(path)  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------------------- damage


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flip_record(data: bytes) -> bytes:
    return data.replace(b"last", b"lart")


def _noise(data: bytes) -> bytes:
    """Spoil everything after LMDB's two meta pages."""
    return data[:8192] + os.urandom(len(data) - 8192)


@pytest.mark.parametrize(
    "damage",
    [
        _cut, _flip_record, _noise, lambda data: b"", lambda data: b"garbage" * 9999, lambda data: bytes(len(data)),
        lambda data: data[:4096], lambda data: data[:8192] + b"\xff" * (len(data) - 8192),
    ],
    ids=["cut", "flipped", "noise", "emptied", "garbage", "zeros", "one page", "ones"],
)  # fmt: skip
def test_damage_is_a_problem_with_its_cure(sick: Path, damage: Callable[[bytes], bytes]) -> None:
    """Whatever LMDB does to the process that looks; the cure is a backup, and names the path."""
    (sick / "data.mdb").write_bytes(damage((sick / "data.mdb").read_bytes()))
    (problem,) = _problems(sick)
    assert problem.name == "content"
    assert problem.cure is not None
    assert f"ledger restore BACKUP {sick} --replace" in problem.cure


def test_random_damage_never_escapes(sick: Path) -> None:
    """Flipped bits, zeroed and swapped pages anywhere: an answer each time, and a process that lives."""
    whole = (sick / "data.mdb").read_bytes()
    random_ = random.Random(11)
    found = 0
    for _ in range(12):
        data = bytearray(whole)
        for _ in range(3):
            page = random_.randrange(len(data) // 4096) * 4096
            kind = random_.randrange(3)
            if kind == 0:
                data[page + random_.randrange(4096)] ^= 1 << random_.randrange(8)
            elif kind == 1:
                data[page : page + 4096] = bytes(4096)
            else:
                data[page : page + 4096] = data[8192:12288]
        (sick / "data.mdb").write_bytes(data)
        found += bool(_problems(sick))
    assert found >= 6


def test_a_damaged_lock_file_is_survived(sick: Path) -> None:
    """Nobody has it open, so that LMDB makes it anew."""
    for content in (b"", b"garbage" * 999, os.urandom(8192)):
        (sick / "lock.mdb").write_bytes(content)
        assert _problems(sick) == []


def test_missing_files_are_survived(sick: Path) -> None:
    """Without lock files and doorbell, which are made when they are needed."""
    for name in ("lock.mdb", "open.lock", "head"):
        (sick / name).unlink()
    assert _problems(sick) == []


def test_somebody_elses_lmdb_is_told(tmp_path: Path) -> None:
    """A database that is no ledger is a problem of the content."""
    with lmdb.open(str(tmp_path / "other")) as env, env.begin(write=True) as txn:
        txn.put(b"key", b"value")
    (problem,) = _problems(tmp_path / "other")
    assert "not a ledger" in problem.message


def test_a_newer_format_says_to_upgrade(sick: Path) -> None:
    """It is not damage, and no backup is the cure."""
    with lmdb.open(str(sick)) as env, env.begin(write=True) as txn:
        identity = msgspec.msgpack.decode(txn.get(IDENTITY_KEY)[8:], type=Identity)
        newer = msgspec.msgpack.encode(msgspec.structs.replace(identity, format=99))
        txn.put(IDENTITY_KEY, Checks(b"").seal_meta(IDENTITY_KEY, newer))
    (problem,) = _problems(sick)
    assert (problem.name, "format 99" in problem.message) == ("format", True)
    assert "Upgrade" in (problem.cure or "")


# ------------------------------------------------------------------------------------------------------------- the log


@pytest.mark.parametrize(("durability", "level"), [("full", PROBLEM), ("relaxed", WARNING)])
def test_a_log_older_than_its_doorbell_is_told(sick: Path, durability: str, level: str) -> None:
    """Somebody has put back an older file, or, with relaxed durability, a power cut took the last commits."""
    older = (sick / "data.mdb").read_bytes()
    with ledger.open(sick, durability=durability) as book:
        head = book.log.append([ledger.NoteAdded("lost")], stream="diary").head
    assert _find(sick, "doorbell").level == OK
    (sick / "data.mdb").write_bytes(older)
    found = _find(sick, "doorbell")
    assert (found.level, f"position {head:,}" in found.message) == (level, True)


def test_content_that_is_lost_is_a_problem(filled: Path) -> None:
    """A blob that is gone or was cut short, of a file or of a directory's manifest, is named."""
    with ledger.open(filled) as book:
        exp = book.experiment("lost")
        digests = [exp.log_artifact(f"content {n}", name=f"file {n}").digest for n in range(3)]
        places = [book.log.backend.blobs.place(digest) for digest in digests]
    assert _find(filled, "artifacts").level == OK
    places[0].unlink()
    places[1].chmod(0o644)
    places[1].write_bytes(b"cont")
    finding = _find(filled, "artifacts")
    assert finding.level == PROBLEM
    assert "in 2 places; first: the artifact 'file 0'" in finding.message
    with ledger.open(filled) as book:
        for n in range(2):
            book.get_experiment("lost").log_artifact(f"content {n}", name="again")
    assert _find(filled, "artifacts").level == OK


def test_a_pending_erasure_has_its_cure(filled: Path) -> None:
    """A redaction is a warning until the ledger is compacted."""
    with ledger.open(filled) as book:
        (record,) = book.log.read(book.log.head - 1)
        gone = ledger.PayloadRedacted(record.version, record.type, remainder_of(record.stream, record.event))
        book.log.append([gone], stream=record.stream, reason="leak")
    found = _find(filled, "erasures")
    assert (found.level, found.cure) == (WARNING, f"ledger compact {filled}")
    assert "1 redacted" in found.message


READER = """
import sys, time, ledger
with ledger.open(sys.argv[1]) as book, book.log.backend.view():
    print("reading")
    time.sleep(60)
"""


def test_dead_readers_are_cleared_and_counted(book: ledger.Ledger, script: Callable) -> None:
    """A killed process leaves its place in LMDB's table, while another has the ledger open."""
    readers = [script(READER, book.path) for _ in range(2)]
    for reader in readers:  # both read before one dies: who opens a ledger clears the dead away
        assert reader.line() == "reading"
    for reader in readers:
        reader.kill()
        reader.finish()
    found = _find(Path(book.path), "readers")
    assert (found.level, "2 of them were of processes that died" in found.message) == (NOTE, True)
    assert _find(Path(book.path), "readers").level == OK


def test_a_reader_that_stays_is_named(book: ledger.Ledger, script: Callable) -> None:
    """One that keeps reading an old state, with its process and how far it is behind; the file grows by it."""
    reader = script(READER, book.path)
    assert reader.line() == "reading"
    assert _find(Path(book.path), "readers").level == OK, "it reads the newest state"
    for number in range(3):
        book.log.append([ledger.NoteAdded(str(number))], stream="s")
    found = _find(Path(book.path), "readers")
    assert found.level == WARNING
    assert f"process {reader.process.pid} " in found.message
    assert "by 3 commits" in found.message
    reader.kill()
    reader.finish()


def test_free_pages_are_told_when_they_are_many(ledger_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the cure; a small file's are not worth one."""
    with ledger.open(ledger_path) as book, book.log.backend.view():
        for number in range(300):
            book.log.append([ledger.NoteAdded("x" * 500)], stream=f"s{number % 9}")
    assert _find(ledger_path, "free_pages").level == OK
    monkeypatch.setattr(doctor_module, "_LITTLE_ROOM", 1 << 16)
    found = _find(ledger_path, "free_pages")
    assert (found.level, f"ledger compact {ledger_path}" in (found.cure or "")) == (NOTE, True)


def test_a_clock_behind_the_log_is_a_warning(ledger_path: Path) -> None:
    """And that it once was, is a note for ever."""
    hour = 3_600_000_000_000
    with ledger.open(ledger_path, clock=lambda: time.time_ns() + hour) as book:
        book.log.append([ledger.NoteAdded("from the future")], stream="s")
    found = _find(ledger_path, "clock")
    assert (found.level, "behind the newest record" in found.message) == (WARNING, True)
    assert "3,59" in found.message or "3,600" in found.message


def test_a_clock_that_was_wrong_is_a_note(ledger_path: Path) -> None:
    """ClockSkewed events are counted."""
    hour = 3_600_000_000_000
    with ledger.open(ledger_path, clock=lambda: time.time_ns() - hour) as book:
        book.log.append([ledger.NoteAdded("late")], stream="s")
    with ledger.open(ledger_path, clock=lambda: time.time_ns() - 2 * hour) as book, pytest.warns(UserWarning, match="clock"):
        book.log.append([ledger.NoteAdded("later")], stream="s")
    found = _find(ledger_path, "clock")
    assert (found.level, "1 times" in found.message) == (NOTE, True)


# --------------------------------------------------------------------------------------------------------- the machine


def test_a_network_file_system_is_a_problem(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, not raised, and the rest is looked at all the same."""
    monkeypatch.setattr(directory, "file_system", lambda path: "nfs4")
    (problem,) = _problems(filled)
    assert (problem.name, "nfs4" in problem.message, "local disk" in (problem.cure or "")) == ("file_system", True, True)


@pytest.mark.parametrize(("kind", "level"), [("tmpfs", WARNING), ("ext4", OK), ("", NOTE)])
def test_the_kind_of_file_system(filled: Path, monkeypatch: pytest.MonkeyPatch, kind: str, level: str) -> None:
    """Memory is a warning; one that cannot be told a note."""
    monkeypatch.setattr(doctor_module, "file_system", lambda path: kind)
    assert _find(filled, "file_system").level == level


@pytest.mark.parametrize(("microseconds", "level"), [(5, WARNING), (150, OK)])
def test_a_sync_that_is_too_fast(filled: Path, monkeypatch: pytest.MonkeyPatch, microseconds: int, level: str) -> None:
    """No disk takes 5 us: something swallows it, and a power cut may take events."""
    ticks = iter(range(0, 10_000, 1))
    monkeypatch.setattr(doctor_module.time, "perf_counter", lambda: next(ticks) * microseconds / 1e6)
    found = _find(filled, "sync")
    assert (found.level, f"{microseconds} us" in found.message) == (level, True)


@pytest.mark.parametrize(
    ("kind", "is_credible", "level", "said"),
    [("ext4", True, OK, "and a power cut"), ("ext4", False, WARNING, "a power cut may take it"),
     ("tmpfs", True, WARNING, "does not survive the machine's"), ("overlay", True, WARNING, "goes with its container")],
)  # fmt: skip
def test_what_the_disk_promises(filled: Path, kind: str, is_credible: bool, level: str, said: str) -> None:
    """In plain words: what an append survives here, and what it costs."""
    found = disk.promise(filled, kind, 150e-6, is_credible=is_credible)
    assert (found.level, said in found.message, bool(found.cure)) == (level, True, level != OK)
    assert ("300 us" in found.message) == (kind != "tmpfs" and is_credible)


def test_killed_writers_are_rehearsed_when_asked_for(filled: Path) -> None:
    """In a ledger of its own beside the log, of which nothing is left."""
    before = {name: (filled / name).read_bytes() for name in ("data.mdb", "head")}
    (found,) = [finding for finding in doctor(filled, rehearse=True) if finding.name == "kills"]
    assert (found.level, "nothing acknowledged was lost" in found.message) == (OK, True)
    assert {name: (filled / name).read_bytes() for name in before} == before
    assert sorted(os.listdir(filled)) == ["data.mdb", "head", "lock.mdb", "open.lock"]


def test_a_rehearsal_that_loses_events_is_a_problem(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would notice: a writer that says more than it has written, and one that says nothing."""
    for code, said in (("print(999)", "999 was acknowledged"), ("raise SystemExit('no such thing')", "no such thing")):
        made = "import sys, ledger; ledger.open(sys.argv[1]).close(); " + code
        monkeypatch.setattr(disk, "_CHILD", made)
        (found,) = [finding for finding in doctor(filled, rehearse=True) if finding.name == "kills"]
        assert (found.level, said in found.message, bool(found.cure)) == (PROBLEM, True, True), found


@pytest.mark.parametrize("trial", ["_locks_exclude", "_maps_are_coherent", "_renames_replace"])
def test_a_disk_without_what_the_log_relies_on_is_a_problem(filled: Path, monkeypatch: pytest.MonkeyPatch, trial: str) -> None:
    """Each of the trials, when it fails."""
    monkeypatch.setattr(disk, trial, lambda place: False)
    found = _find(filled, "disk")
    assert (found.level, "local disk" in (found.cure or "")) == (PROBLEM, True)


def test_locks_that_do_nothing_are_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems say yes to every lock."""
    assert disk._locks_exclude(tmp_path)
    monkeypatch.setattr(disk.fcntl, "flock", lambda file, kind: None)
    assert not disk._locks_exclude(tmp_path)


@pytest.mark.parametrize(("free", "level"), [(1 << 20, PROBLEM), (17 << 20, OK), (1 << 40, OK)])
def test_little_space(filled: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: str) -> None:
    """Hardly any is a problem; what the log needs again for a compaction is enough."""
    real = os.statvfs

    def limited(path: Any) -> Any:
        values = list(real(path))
        values[1] = 1  # f_frsize
        values[4] = free  # f_bavail
        return os.statvfs_result(values)

    monkeypatch.setattr(os, "statvfs", limited)
    assert _find(filled, "space").level == level


@pytest.mark.parametrize(
    ("limit", "value", "level", "said"),
    [("RLIMIT_FSIZE", 1 << 20, PROBLEM, "ulimit -f"), ("RLIMIT_FSIZE", 1 << 33, NOTE, ""),
     ("RLIMIT_NOFILE", 60, WARNING, "ulimit -n"), ("RLIMIT_AS", 1 << 33, NOTE, "")],
)  # fmt: skip
def test_limits(filled: Path, script: Callable, limit: str, value: int, level: str, said: str) -> None:
    """Limits on files and memory are told, and a problem when the log is about to meet them."""
    limited = script(
        """
        import resource, sys
        from ledger.maintenance.doctor import doctor
        kind = getattr(resource, sys.argv[2])
        resource.setrlimit(kind, (int(sys.argv[3]), resource.getrlimit(kind)[1]))
        for finding in doctor(sys.argv[1]):
            if finding.name == "limits": print(finding.level, finding.cure)
            if finding.level == "problem" and finding.name != "limits": print(finding)
        """,
        filled, limit, value,
    )  # fmt: skip
    (line,) = limited.finish()
    assert line.startswith(level)
    assert said in line


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_files_of_somebody_else_are_a_warning(filled: Path) -> None:
    """Their owner may lock out the directory's."""
    os.chown(filled / "data.mdb", 1234, 2345)
    found = _find(filled, "permissions")
    assert (found.level, (found.cure or "").startswith("chown -R 0 ")) == (WARNING, True)
    os.chown(filled / "data.mdb", 0, 0)


def test_a_directory_open_to_all_is_a_warning(filled: Path) -> None:
    """Anybody could take the files away."""
    filled.chmod(0o777)
    found = _find(filled, "permissions")
    assert (found.level, "chmod o-w" in (found.cure or "")) == (WARNING, True)


def test_no_right_to_write_is_a_problem(filled: Path) -> None:
    """Readers need it too."""
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    filled.chmod(0o500)
    found = _find(filled, "permissions")
    filled.chmod(0o700)
    assert (found.level, "chmod" in (found.cure or "")) == (PROBLEM, True)


def test_no_right_to_write_is_a_note_where_one_may_read(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The right to the lock file is enough for that; without it the cure names that file."""
    monkeypatch.setattr(directory, "_unwritable", lambda path: path / "data.mdb")
    found = _find(filled, "permissions")
    assert (found.level, "data.mdb" in found.message, "readonly=True" in (found.cure or "")) == (NOTE, True, True)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    found = _find(filled, "permissions")
    assert (found.level, "lock.mdb" in found.message, "chmod a+rw" in (found.cure or "")) == (PROBLEM, True, True)


# ------------------------------------------------------------------------------------------------------- the directory


def test_a_stopped_writer_is_a_problem(filled: Path, script: Callable) -> None:
    """A process that was stopped with the write lock is named: nobody can write until it goes on."""
    holder = script(
        """
        import fcntl, sys, time
        file = open(sys.argv[1] + "/head", "r+b")
        fcntl.flock(file, fcntl.LOCK_EX)
        print("held")
        time.sleep(60)
        """,
        filled,
    )
    assert holder.line() == "held"
    found = _find(filled, "write_lock")
    assert (found.level, f"process {holder.process.pid} " in found.message) == (NOTE, True)
    os.kill(holder.process.pid, signal.SIGSTOP)
    os.waitpid(holder.process.pid, os.WUNTRACED)
    found = _find(filled, "write_lock")
    assert (found.level, "kill -CONT" in (found.cure or "")) == (PROBLEM, True)
    holder.kill()
    holder.finish()


def test_a_stopped_process_that_has_it_open_is_a_warning(filled: Path, script: Callable) -> None:
    """Nothing can be compacted while it sleeps."""
    holder = script("import sys, time, ledger; book = ledger.open(sys.argv[1]); print('open'); time.sleep(60)", filled)
    assert holder.line() == "open"
    os.kill(holder.process.pid, signal.SIGSTOP)
    os.waitpid(holder.process.pid, os.WUNTRACED)
    found = _find(filled, "handles")
    assert (found.level, f"process {holder.process.pid} " in found.message) == (WARNING, True)
    holder.kill()
    holder.finish()


def test_a_ledger_held_exclusively_is_no_problem(filled: Path) -> None:
    """A compaction under way is told, and the log is not looked into."""
    with hold_exclusively(filled, "the test"):
        found = doctor(filled)
    assert [finding for finding in found if finding.level == PROBLEM] == []
    (content,) = [finding for finding in found if finding.name == "content"]
    assert (content.level, "held exclusively" in content.message) == (NOTE, True)


def test_a_replaced_ledger_is_a_note(filled: Path) -> None:
    """What a restore has kept takes space: how to be rid of it is told."""
    shutil.copytree(filled, f"{filled}.replaced-20261121T000000Z")
    found = _find(filled, "leftovers")
    assert (found.level, found.cure) == (NOTE, f"When it is not needed any more: rm -r {filled}.replaced-20261121T000000Z")
