"""Opening: what is at the path, who may use it, and what a handle does when it may no longer be used."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path

import lmdb
import msgspec
import pytest

import ledger
from ledger.audit import verify
from ledger.backends import directory
from ledger.backends.environment import Environment, Options
from ledger.backends.lmdb import LmdbBackend
from ledger.format import FORMAT, IDENTITY_KEY, Checks
from ledger.maintenance.doctor import PROBLEM, doctor
from ledger.transfer.importing import LineReader, import_lines
from ledger.transfer.jsonlines import entry_to_line


def test_a_missing_path_is_created_unless_told_not_to(tmp_path: Path) -> None:
    """create=False refuses to make a ledger, naming the path, and leaves nothing there."""
    with pytest.raises(ledger.LedgerNotFound, match="ledger init"):
        ledger.open(tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists()
    with ledger.open(tmp_path / "none") as book:
        assert book.log.head == 0


def test_a_missing_parent_is_not_created(tmp_path: Path) -> None:
    """A path whose parent does not exist is likely a typo."""
    with pytest.raises(ledger.LedgerNotFound, match="Create it first"):
        ledger.open(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


def test_a_file_is_no_ledger(tmp_path: Path) -> None:
    """A file at the path is named as such, and stays as it is."""
    file = tmp_path / "notes.txt"
    file.write_text("hello")
    with pytest.raises(ledger.NotALedger, match="is a file"):
        ledger.open(file)
    assert file.read_text() == "hello"


def test_a_directory_with_other_content_is_no_ledger(tmp_path: Path) -> None:
    """A ledger is not mixed into somebody's directory."""
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ledger.NotALedger, match=r"thesis\.tex"):
        ledger.open(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_an_empty_directory_becomes_a_ledger(tmp_path: Path) -> None:
    """mkdir and then open works; with create=False it is refused."""
    with pytest.raises(ledger.LedgerNotFound, match="empty directory"):
        ledger.open(tmp_path, create=False)
    ledger.open(tmp_path).close()
    ledger.open(tmp_path, create=False).close()


def test_another_lmdb_database_is_no_ledger(tmp_path: Path) -> None:
    """The LMDB file of another program is refused and not written to."""
    with lmdb.open(str(tmp_path), max_dbs=4) as env, env.begin(write=True) as txn:
        txn.put(b"mine", b"1")
    with pytest.raises(ledger.NotALedger, match="not a ledger"):
        ledger.open(tmp_path)
    with lmdb.open(str(tmp_path), max_dbs=4) as env, env.begin() as txn:
        assert txn.stat()["entries"] == 1


def test_a_file_that_lmdb_does_not_know_is_no_ledger(tmp_path: Path) -> None:
    """Garbage in data.mdb is an error that names the file."""
    (tmp_path / "data.mdb").write_bytes(b"garbage" * 4096)
    with pytest.raises(ledger.NotALedger, match=r"data\.mdb"):
        ledger.open(tmp_path)


def test_a_newer_format_is_refused_by_its_number(tmp_path: Path) -> None:
    """A ledger of a later version is told from a damaged one, and left alone."""
    ledger.open(tmp_path / "l").close()
    with lmdb.open(str(tmp_path / "l")) as env, env.begin(write=True) as txn:
        content = msgspec.msgpack.encode({"format": 99, "something": "else"})
        txn.put(IDENTITY_KEY, Checks(b"").seal_meta(IDENTITY_KEY, content))
    with pytest.raises(ledger.UnsupportedFormat, match="format 99"):
        ledger.open(tmp_path / "l")


def test_a_format_from_before_the_first_frozen_one_is_refused_with_its_cure(tmp_path: Path) -> None:
    """A ledger of format 0 is named as such, also by `verify` and the doctor; what was exported from it is imported as it was."""
    with ledger.open(tmp_path / "new.ledger") as book:
        book.log.append([ledger.NoteAdded("kept")], stream="diary")
        identity = msgspec.structs.replace(book.log.backend.identity, format=0)
        (entry,) = book.log.backend.read_entries(0)
        root = book.log.backend.tree_head()
    with lmdb.open(str(tmp_path / "new.ledger")) as env, env.begin(write=True) as txn:
        txn.put(IDENTITY_KEY, Checks(b"").seal_meta(IDENTITY_KEY, msgspec.msgpack.encode(identity)))
    with pytest.raises(ledger.UnsupportedFormat, match=r"has format 0, .*`ledger export` .*`ledger import`"):
        ledger.open(tmp_path / "new.ledger")
    with pytest.raises(ledger.UnsupportedFormat, match="has format 0"):
        verify(tmp_path / "new.ledger")
    (problem,) = [finding for finding in doctor(tmp_path / "new.ledger") if finding.level == PROBLEM]
    assert "has format 0" in problem.message
    assert "ledger import" in (problem.cure or "")
    import_lines(LineReader(io.BytesIO(entry_to_line(entry, identity))), tmp_path / "taken.ledger")
    with ledger.open(tmp_path / "taken.ledger") as book:
        assert (book.log.backend.tree_head(), book.log.backend.identity.format) == (root, FORMAT)


def test_a_directory_without_the_right_to_write_is_refused(ledger_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers need the right too, for LMDB's lock file; the error says how to get on."""
    ledger.open(ledger_path).close()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for readonly in (False, True):
        with pytest.raises(ledger.ReadOnlyLedger, match="chmod"):
            ledger.open(ledger_path, readonly=readonly)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_somebody_elses_directories_are_refused_by_name(tmp_path: Path) -> None:
    """Without rights (another user, in a child process) each way to open is a ReadOnlyLedger error, and makes nothing."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    ledger.open(closed / "theirs").close()
    shown = tmp_path / "shown"
    ledger.open(shown).close()
    for directory_ in (tmp_path, *tmp_path.parents):
        if directory_ != Path("/tmp") and directory_.stat().st_uid == 0 and str(directory_).startswith("/tmp/"):
            directory_.chmod(0o755)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setuid(65534)
            for path, options in ((closed / "theirs", {}), (shown, {}), (shown, {"readonly": True}), (tmp_path / "new", {})):
                try:
                    ledger.open(path, **options)  # type: ignore[arg-type]
                    os.write(writer, b"opened ")
                except BaseException as error:
                    os.write(writer, f"{type(error).__name__} ".encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with os.fdopen(reader) as pipe:
        assert pipe.read().split() == ["ReadOnlyLedger"] * 4
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["x" * 300, "file/below"])
def test_a_path_that_cannot_be_is_an_open_error(tmp_path: Path, name: str) -> None:
    """Too long a name, and a path below a file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ledger.OpenError):
        ledger.open(tmp_path / name)


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LMDB's locks do not hold across machines; nothing is created there."""
    monkeypatch.setattr(directory, "file_system", lambda path: "nfs4")
    with pytest.raises(ledger.NetworkFileSystem, match="nfs4"):
        ledger.open(tmp_path / "l")
    assert not (tmp_path / "l").exists()


def test_the_file_system_of_a_path_is_that_of_its_innermost_mount() -> None:
    """The mount table is read as the kernel means it."""
    assert directory.file_system(Path("/proc/self")) == "proc"
    assert directory.file_system(Path("/")) not in ("", "proc")


@pytest.mark.parametrize("url", ["nats://host/x", "", "a\0b", b"bytes", "not-utf-8-\udcff"])
def test_what_is_no_path_is_refused(url: str) -> None:
    """Unknown schemes, the empty path, NUL and bytes are named in the error."""
    with pytest.raises(ledger.InvalidValue):
        ledger.open(url)


def test_options_are_checked(tmp_path: Path) -> None:
    """A durability that is none, and a lock timeout that is none, are refused before anything is made."""
    for options in ({"durability": "cache"}, {"durability": "none"}, {"lock_timeout": -1}):
        with pytest.raises(ledger.InvalidValue):
            ledger.open(tmp_path / "l", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "l").exists()


def test_a_path_opened_twice_is_one_environment(ledger_path: Path) -> None:
    """Two handles see each other's events, and the last one closed closes the files."""
    first, second = ledger.open(ledger_path), ledger.open(str(ledger_path))
    first.log.append([ledger.NoteAdded("a")], stream="s")
    assert second.log.head == 1
    first.close()
    assert second.log.append([ledger.NoteAdded("b")], stream="s").position == 2
    with pytest.raises(ledger.LedgerClosed):
        first.log.append([ledger.NoteAdded("c")], stream="s")
    second.close()
    assert not Environment._open


def test_other_options_on_an_open_path_are_refused(ledger_path: Path) -> None:
    """One environment has one durability; the error names the option and both values."""
    with ledger.open(ledger_path), pytest.raises(ledger.OptionsConflict, match=r"durability='full'.*'relaxed'"):
        ledger.open(ledger_path, durability="relaxed")
    with ledger.open(ledger_path, durability="relaxed") as book:
        book.log.append([ledger.NoteAdded("a")], stream="s")


def test_a_readonly_handle_reads_and_does_not_write(ledger_path: Path) -> None:
    """readonly=True shares an open environment, reads everything, and refuses appends."""
    with ledger.open(ledger_path) as book:
        book.log.append([ledger.NoteAdded("a")], stream="s")
    with ledger.open(ledger_path, readonly=True) as reader:
        assert reader.log.head == 1
        with pytest.raises(ledger.ReadOnlyLedger, match="readonly=True"):
            reader.log.append([ledger.NoteAdded("b")], stream="s")
        with ledger.open(ledger_path) as writer:
            writer.log.append([ledger.NoteAdded("b")], stream="s")
        assert reader.log.head == 2


def test_a_closed_ledger_says_so(ledger_path: Path) -> None:
    """Every use after close is an error; closing again is not."""
    book = ledger.open(ledger_path)
    exp = book.experiment("e")
    book.close()
    book.close()
    for use in (lambda: book.log.head, lambda: list(book.log.read()), lambda: exp.new_trial({}), lambda: book.subscribe()):
        with pytest.raises(ledger.LedgerClosed, match="open it again"):
            use()


def test_a_new_ledger_appears_whole(ledger_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file gets its name when it is on disk; what a killed creation left is cleared away by the next, and where a file
    system has no links LMDB makes the file itself.
    """
    (ledger_path / "creating-dead").mkdir(parents=True)
    synced: list[str] = []
    fsync, link = os.fsync, os.link
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
    monkeypatch.setattr(os, "link", lambda *names: (synced.append("named"), link(*names)))
    ledger.open(ledger_path).close()
    assert sorted(os.listdir(ledger_path)) == ["data.mdb", "head", "lock.mdb", "open.lock"]
    assert [name.rpartition("/")[2] for name in synced[:2]] == ["data.mdb", "named"]
    (ledger_path / "data.mdb").unlink()

    def refuse(*names: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    with ledger.open(ledger_path) as book:
        book.log.append([ledger.NoteAdded("x")], stream="s")


def test_the_map_grows_by_itself(ledger_path: Path) -> None:
    """A map that is too small is grown in the middle of an append, and the append is written once."""
    backend = LmdbBackend(ledger_path, options=Options(map_bytes=1 << 17))
    log = ledger.EventLog(backend)
    for _ in range(4):
        log.append([ledger.NoteAdded(os.urandom(500).hex()) for _ in range(500)], stream="s")
    assert [record.position for record in log.read()] == list(range(1, 2001))
    assert backend._environment._lmdb.info()["map_size"] > 1 << 17
    backend.close()


def test_a_map_grown_by_another_process_is_followed(ledger_path: Path, script: Callable) -> None:
    """A handle with a small map reads and writes on after another process made the file larger."""
    backend = LmdbBackend(ledger_path, options=Options(map_bytes=1 << 17))
    log = ledger.EventLog(backend)
    log.append([ledger.NoteAdded("mine")], stream="s")
    script(
        """
        import os, sys, ledger
        with ledger.open(sys.argv[1]) as book:
            book.log.append([ledger.NoteAdded(os.urandom(500).hex()) for _ in range(2000)], stream="s")
        """,
        ledger_path,
    ).finish()
    assert len(list(log.read())) == 2001
    assert log.append([ledger.NoteAdded("after")], stream="s").position == 2002
    backend.close()


def test_a_directory_held_exclusively_cannot_be_opened(ledger_path: Path, script: Callable) -> None:
    """While compaction or restore holds open.lock, opening waits for lock_timeout and then names the holder."""
    ledger.open(ledger_path).close()
    holder = script(
        """
        import fcntl, sys, time
        file = open(sys.argv[1] + "/open.lock", "r+")
        fcntl.flock(file, fcntl.LOCK_EX)
        print("held")
        time.sleep(60)
        """,
        ledger_path,
    )
    assert holder.line() == "held"
    with pytest.raises(ledger.LedgerBusy, match=f"process {holder.process.pid}"):
        ledger.open(ledger_path, lock_timeout=0.2)
    holder.kill()
    holder.finish()
    ledger.open(ledger_path).close()


def test_every_handle_holds_the_directory(ledger_path: Path, script: Callable) -> None:
    """An exclusive lock of open.lock cannot be had while any handle is open: that is what compaction relies on."""
    attempt = """
        import fcntl, sys
        try:
            fcntl.flock(open(sys.argv[1] + "/open.lock", "r+"), fcntl.LOCK_EX | fcntl.LOCK_NB)
            print("got it")
        except BlockingIOError:
            print("held")
    """
    with ledger.open(ledger_path):
        assert script(attempt, ledger_path).line() == "held"
    assert script(attempt, ledger_path).line() == "got it"


def test_a_ledger_on_a_read_only_mount_is_read_without_locks(ledger_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without readonly=True it is refused with that cure; with it, no file is written."""
    with ledger.open(ledger_path) as book:
        book.log.append([ledger.NoteAdded("a")], stream="s")

    class ReadOnlyMount:
        f_flag = os.ST_RDONLY

    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", lambda path: ReadOnlyMount)
        with pytest.raises(ledger.ReadOnlyLedger, match="readonly=True"):
            ledger.open(ledger_path)
        before = {name: (ledger_path / name).stat().st_mtime_ns for name in os.listdir(ledger_path)}
        with ledger.open(ledger_path, readonly=True) as reader:
            assert [record.event.text for record in reader.log.read()] == ["a"]
        assert before == {name: (ledger_path / name).stat().st_mtime_ns for name in os.listdir(ledger_path)}


def test_readers_that_were_killed_are_cleared(ledger_path: Path, script: Callable) -> None:
    """A slot left by kill -9 would pin old pages for ever; the next open frees it, and so do writers now and then."""
    holding = """
        import sys, time, ledger
        with ledger.open(sys.argv[1]) as book, book.log.backend.view() as view:
            print("reading")
            time.sleep(60)
    """
    with ledger.open(ledger_path) as book:
        lmdb_environment = book.log.backend._environment._lmdb  # type: ignore[attr-defined]
        for clear in (
            lambda: setattr(book.log.backend._environment, "_readers_checked", -1e9),  # type: ignore[attr-defined]
            lambda: None,
        ):
            reader = script(holding, ledger_path)
            assert reader.line() == "reading"
            reader.kill()
            reader.finish()
            assert str(reader.process.pid) in lmdb_environment.readers()
            clear()
            book.log.append([ledger.NoteAdded("x")], stream="s")
            if clear() is None and str(reader.process.pid) in lmdb_environment.readers():
                script("import sys, ledger; ledger.open(sys.argv[1]).close()", ledger_path).finish()
            assert str(reader.process.pid) not in lmdb_environment.readers()


def test_a_log_that_was_emptied_is_not_begun_anew(tmp_path: Path) -> None:
    """Where records were committed, a file of 0 bytes is a loss to be told, and not a new ledger."""
    with ledger.open(tmp_path / "runs.ledger") as book:
        book.experiment("demo")
    os.truncate(tmp_path / "runs.ledger" / "data.mdb", 0)
    with pytest.raises(ledger.Corrupted, match="position 1 was committed before"):
        ledger.open(tmp_path / "runs.ledger")


@pytest.mark.parametrize("again", ["full", "relaxed"])
def test_a_log_older_than_what_was_on_disk_is_refused(tmp_path: Path, again: str) -> None:
    """An older data.mdb in place of the newest is named, by `verify` too, until the file that remembers is taken away."""
    path = tmp_path / "runs.ledger"
    with ledger.open(path) as book:
        book.log.append([ledger.NoteAdded("kept")], stream="diary")
    older = (path / "data.mdb").read_bytes()
    with ledger.open(path) as book:
        book.log.append([ledger.NoteAdded("lost")], stream="diary")
    with ledger.open(path, durability=again) as book:
        assert book.log.head == 2
    (path / "data.mdb").write_bytes(older)
    with pytest.raises(ledger.Corrupted, match=r"ends at position 1, but position 2 was on disk once.* remove .*head") as refused:
        ledger.open(path, durability=again)
    assert refused.value.position == 2
    assert any("position 2 was on disk once" in problem for problem in verify(path).problems)
    (path / "head").unlink()
    with ledger.open(path) as book:
        assert book.log.append([ledger.NoteAdded("goes on")], stream="diary").position == 2
    verify(path).raise_for_problem()


def test_a_log_that_was_never_waited_for_may_end_earlier(tmp_path: Path) -> None:
    """With relaxed durability a power cut may take the last commits: then the ledger is opened as it is."""
    path = tmp_path / "runs.ledger"
    with ledger.open(path) as book:
        book.log.append([ledger.NoteAdded("on disk")], stream="diary")
    older = (path / "data.mdb").read_bytes()
    with ledger.open(path, durability="relaxed") as book:
        book.log.append([ledger.NoteAdded("not yet")], stream="diary")
    (path / "data.mdb").write_bytes(older)
    with ledger.open(path) as book:
        assert book.log.head == 1
    verify(path).raise_for_problem()


def test_a_damaged_doorbell_keeps_nobody_out(tmp_path: Path) -> None:
    """What it remembers has a check of its own: with any bit of it flipped the ledger is opened."""
    path = tmp_path / "runs.ledger"
    with ledger.open(path) as book:
        book.log.append([ledger.NoteAdded("kept")], stream="diary")
    rung = (path / "head").read_bytes()
    for bit in range(len(rung) * 8):
        (path / "head").write_bytes(bytes(byte ^ (1 << bit % 8 if place == bit // 8 else 0) for place, byte in enumerate(rung)))
        with ledger.open(path, create=False) as book:
            assert book.log.head == 1
