"""backup and restore: whole or not at all, nothing overwritten, and what was there is kept."""

from __future__ import annotations

import errno
import fcntl
import gzip
import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest

import ledger
from ledger.audit import verify
from ledger.checkpoint import Checkpoint
from ledger.format import NAMES
from ledger.maintenance import archive, swap
from ledger.maintenance import backup as backup_module
from ledger.maintenance.backup import backup, restore
from ledger.redaction import remainder_of

FORMS = ["copy", "copy.tar", "copy.tar.zst"]


@pytest.fixture
def filled(ledger_path: Path) -> Path:
    """Return a closed ledger with something in every index."""
    with ledger.open(ledger_path) as book:
        exp = book.experiment("e")
        exp.new_trials([{"n": n} for n in range(600)])
        trial = exp.claim()
        assert trial is not None
        trial.complete({"x": 1})
        book.log.append([ledger.NoteAdded("last")], stream="diary")
    return ledger_path


def _ids(path: Path) -> list[Any]:
    with ledger.open(path, create=False) as book:
        return [book.id, book.log.backend.tree_head(), [(r.position, r.id, r.stream, r.recorded_at) for r in book.log.read()]]


def _content(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def _note(path: Path, text: str) -> None:
    with ledger.open(path) as book:
        book.log.append([ledger.NoteAdded(text)], stream="diary")


# ------------------------------------------------------------------------------------------------------------ backup


@pytest.mark.parametrize("form", FORMS)
def test_a_backup_comes_back_as_the_same_ledger(filled: Path, tmp_path: Path, form: str) -> None:
    """Ledger id, records' ids, positions, times and the root are equal after a round trip in each form."""
    made = backup(filled, tmp_path / form)
    assert made.size_bytes == backup_module.size_of(tmp_path / form)
    restored = restore(tmp_path / form, tmp_path / "again.ledger")
    assert _ids(tmp_path / "again.ledger") == _ids(filled)
    report = verify(filled)
    assert (made.head, made.root) == (restored.head, restored.root) == (report.head, report.root)
    assert made.ledger_id == restored.ledger_id
    assert restored.replaced is None
    verify(tmp_path / "again.ledger").raise_for_problem()


def test_a_directory_is_a_ledger_itself(filled: Path, tmp_path: Path) -> None:
    """It holds the log and the doorbell only, opens, and takes new events."""
    backup(filled, tmp_path / "copy")
    assert sorted(os.listdir(tmp_path / "copy")) == ["data.mdb", "head"]
    assert (tmp_path / "copy").stat().st_mode & 0o777 == filled.stat().st_mode & 0o777
    _note(tmp_path / "copy", "goes on")
    verify(tmp_path / "copy").raise_for_problem()


def test_an_empty_ledger_is_backed_up(ledger_path: Path, tmp_path: Path) -> None:
    """A ledger without a record has a backup, too."""
    ledger.open(ledger_path).close()
    assert backup(ledger_path, tmp_path / "copy.tar").head == 0
    assert restore(tmp_path / "copy.tar", tmp_path / "again").head == 0


def test_a_tar_is_one_that_other_programs_read(filled: Path, tmp_path: Path) -> None:
    """A plain tar with the log first; nothing absolute, nobody's name."""
    backup(filled, tmp_path / "copy.tar")
    with tarfile.open(tmp_path / "copy.tar") as tar:
        assert tar.getnames() == ["data.mdb", "head"]


def test_a_backup_is_of_one_moment_while_others_write(ledger_path: Path, tmp_path: Path, script: Callable) -> None:
    """Backups made while a process appends are whole, grow, and are each a prefix of the log, by their roots."""
    writer = script(
        """
        import itertools, sys, ledger
        with ledger.open(sys.argv[1]) as book:
            for number in itertools.count():
                book.log.append([ledger.NoteAdded(f"{number}:{i}") for i in range(3)], stream=f"s{number % 5}")
                if number == 20: print("ready")
        """,
        ledger_path,
    )
    assert writer.line() == "ready"
    made = [backup(ledger_path, tmp_path / name) for name in (*FORMS, "second")]
    writer.kill()
    writer.finish()
    heads = [report.head for report in made]
    assert heads == sorted(set(heads)), "the writer should have gone on meanwhile"
    assert all(head % 3 == 0 for head in heads), "an append was torn"
    notes = [Checkpoint(report.ledger_id, report.head, report.root) for report in made]
    verify(ledger_path, against=notes).raise_for_problem()


def test_a_backup_holds_no_byte_of_what_was_redacted(ledger_path: Path, tmp_path: Path) -> None:
    """Not even where LMDB's own compact copy would: in the parts of pages that live values do not fill."""
    secret = "SECRET-abcdabcdabcd"
    with ledger.open(ledger_path) as book:
        for size in (3000, 2500, 1500, 6000):
            position = book.log.append([ledger.NoteAdded(secret * (size // len(secret)))], stream="s").position
            for _ in range(10):
                book.log.append([ledger.NoteAdded("x" * 2100)], stream="t")
            (record,) = book.log.read(position - 1, limit=1)
            gone = ledger.PayloadRedacted(record.version, record.type, remainder_of(record.stream, record.event))
            book.log.append([gone], stream=record.stream, reason="leak")
        backup(ledger_path, tmp_path / "copy")
        backup(ledger_path, tmp_path / "copy.tar")
    (tmp_path / "lmdbs").mkdir()
    with lmdb.open(str(ledger_path), map_size=1 << 30) as env:
        env.copy(str(tmp_path / "lmdbs"), compact=True)
    assert b"SECRET" in (tmp_path / "lmdbs" / "data.mdb").read_bytes(), "then LMDB's own copy would do"
    assert b"SECRET" not in (tmp_path / "copy" / "data.mdb").read_bytes()
    assert b"SECRET" not in (tmp_path / "copy.tar").read_bytes()
    with ledger.open(tmp_path / "copy") as book:
        assert book.log.backend.redactions() == (4, 0)


@pytest.mark.parametrize("form", FORMS)
def test_artifacts_go_with_it(filled: Path, tmp_path: Path, form: str) -> None:
    """What artifacts hold is in the backup, and comes back; what nothing refers to any more is not."""
    place = tmp_path / "directory"
    (place / "sub").mkdir(parents=True)
    (place / "sub" / "text").write_text("text " * 2000)
    with ledger.open(filled) as book:
        exp = book.experiment("with artifacts")
        exp.log_artifact(b"model", name="model")
        exp.log_artifact(place)
        secret = exp.log_artifact(b"the key is 123", name="secret")
        book.redact(book.log.head, reason="leaked")
    backup(filled, tmp_path / form)
    restore(tmp_path / form, tmp_path / "again")
    verify(tmp_path / "again", artifacts="content").raise_for_problem()
    with ledger.open(tmp_path / "again") as book:
        exp = book.experiment("with artifacts")
        assert exp.artifact("model").read_bytes() == b"model"
        assert exp.artifact("directory").read_bytes("sub/text") == b"text " * 2000
        assert book.log.backend.blobs.find(secret.digest) is None
        assert list(exp.artifacts) == ["model", "directory"]


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_artifact_is_not_backed_up_as_good(filled: Path, tmp_path: Path, form: str) -> None:
    """A backup of a ledger whose artifact has wrong bytes is refused, naming it; once it is given up, it is made."""
    with ledger.open(filled) as book:
        artifact = book.experiment("with artifacts").log_artifact(b"model", name="model")
        damaged = book.log.backend.blobs.place(artifact.digest)
        damaged.chmod(0o644)
        damaged.write_bytes(b"medal")
        with pytest.raises(ledger.Corrupted, match=r"'model'.*ledger redact"):
            backup(filled, tmp_path / form)
        assert not (tmp_path / form).exists()
        book.redact(book.log.head, reason="lost")
    backup(filled, tmp_path / form)


@pytest.mark.parametrize("form", FORMS)
def test_a_restore_mends_a_damaged_artifact(filled: Path, tmp_path: Path, form: str) -> None:
    """Restoring over a ledger puts the right bytes in place of damaged ones; those are kept with what was replaced."""
    with ledger.open(filled) as book:
        artifact = book.experiment("with artifacts").log_artifact(b"model", name="model")
        damaged = book.log.backend.blobs.place(artifact.digest)
    backup(filled, tmp_path / form)
    damaged.chmod(0o644)
    damaged.write_bytes(b"medal")
    report = restore(tmp_path / form, filled, replace=True)
    verify(filled, artifacts="content").raise_for_problem()
    assert report.replaced is not None
    assert not verify(report.replaced, artifacts="content").ok


@pytest.mark.parametrize("form", FORMS)
def test_a_backup_with_a_damaged_artifact_is_not_restored(filled: Path, tmp_path: Path, form: str) -> None:
    """A backup whose artifact was damaged since is refused, and nothing is put in place."""
    with ledger.open(filled) as book:
        book.experiment("with artifacts").log_artifact(b"model-of-tuesday", name="model")
    backup(filled, tmp_path / form)
    files = [tmp_path / form] if (tmp_path / form).is_file() else list((tmp_path / form / "blobs").rglob("*"))
    for file in files:
        if file.is_file():
            file.chmod(0o644)
            data = file.read_bytes()
            if b"model-of-tuesday" in data:
                file.write_bytes(data.replace(b"model-of-tuesday", b"medal-of-tuesday"))
                break
    else:
        pytest.skip("it is compressed, and the archive has a checksum of its own")
    with pytest.raises(ledger.Corrupted, match="'model'"):
        restore(tmp_path / form, tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("there", ["file", "directory", "dangling link"])
def test_nothing_is_overwritten(filled: Path, tmp_path: Path, form: str, there: str) -> None:
    """Whatever is at the destination stays as it is, an empty directory too, and the cure is another name."""
    target = tmp_path / form
    {"file": target.touch, "directory": target.mkdir, "dangling link": lambda: target.symlink_to("nowhere")}[there]()
    before = os.lstat(target)
    with pytest.raises(ledger.InvalidValue, match="Give another name"):
        backup(filled, target)
    assert os.lstat(target) == before


@pytest.mark.parametrize("form", FORMS)
def test_a_name_that_is_taken_meanwhile_is_not_overwritten(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Somebody makes the same name while the copy is made: theirs stays, and nothing else is left."""
    publish = backup_module.publish

    def late(made: Path, target: Path) -> None:
        target.write_text("theirs")
        publish(made, target)

    monkeypatch.setattr(backup_module, "publish", late)
    with pytest.raises(ledger.InvalidValue, match="meanwhile"):
        backup(filled, tmp_path / form)
    assert (tmp_path / form).read_text() == "theirs"
    assert sorted(os.listdir(tmp_path)) == sorted([form, filled.name])


@pytest.mark.parametrize(
    ("destination", "said"),
    [("none/copy", "Create it first"), ("runs.ledger/copy", "inside the ledger"), ("a.tar.gz", r"'\.tar\.gz'"), ("a.zip", "zip"),
     ("memory:", "has no files"), ("", "no path"), ("a\0b", "no path"), ("a\udcffb", "surrogate"), (b"copy", "is bytes")],
)  # fmt: skip
def test_destinations_that_cannot_be(filled: Path, tmp_path: Path, destination: Any, said: str) -> None:
    """Each is refused with what is wrong, before anything is written."""
    given = destination if destination in ("", "memory:", b"copy") else f"{tmp_path}/{destination}"
    with pytest.raises(ledger.InvalidValue, match=said):
        backup(filled, given)
    assert os.listdir(tmp_path) == [filled.name]


def test_a_network_file_system_takes_one_file(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory there is refused with that cure; the copy that is verified is made elsewhere."""
    from ledger.backends import directory

    share = tmp_path / "share"
    share.mkdir()
    local = directory.file_system
    monkeypatch.setattr(directory, "file_system", lambda path: "nfs4" if path.is_relative_to(share) else local(path))
    with pytest.raises(ledger.NetworkFileSystem, match=r"copy\.tar\.zst"):
        backup(filled, share / "copy")
    report = backup(filled, share / "copy.tar.zst")
    assert restore(share / "copy.tar.zst", tmp_path / "again").root == report.root
    assert os.listdir(share) == ["copy.tar.zst"]


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_ledger_has_no_backup(filled: Path, tmp_path: Path, form: str) -> None:
    """It is told as damage of the ledger, and nothing appears; also where LMDB kills who reads."""
    damaged = tmp_path / "damaged"
    for damage in (_flip, _cut, _hide):
        shutil.copytree(filled, damaged)
        damage(damaged / "data.mdb")
        with pytest.raises((ledger.Corrupted, ledger.NotALedger), match=str(damaged)):
            backup(damaged, tmp_path / form)
        shutil.rmtree(damaged)
        assert os.listdir(tmp_path) == [filled.name]


def _flip(file: Path) -> None:
    """Change one byte of a record."""
    data = bytearray(file.read_bytes())
    data[data.index(b"last") + 1] ^= 1
    file.write_bytes(data)


def _hide(file: Path) -> None:
    """Take an entry out of an index; the records and their root are whole."""
    with lmdb.open(str(file.parent)) as env, env.begin(write=True) as txn, txn.cursor() as cursor:
        assert cursor.set_range(NAMES)
        assert cursor.delete()


def _cut(file: Path) -> None:
    os.truncate(file, 5 * 4096)


@pytest.mark.parametrize("form", FORMS)
def test_a_full_disk_leaves_nothing(filled: Path, tmp_path: Path, script: Callable, form: str) -> None:
    """A limit on file sizes stands for it: DiskFull, with the cure, and no file of the copy is left."""
    limited = script(
        """
        import resource, sys, ledger
        from ledger.maintenance.backup import backup
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
        try:
            backup(sys.argv[1], sys.argv[2])
        except ledger.DiskFull as error:
            print(error)
        """,
        filled, tmp_path / form,
    )  # fmt: skip
    assert f"no space left in {tmp_path} for" in limited.finish()[0]
    assert os.listdir(tmp_path) == [filled.name]


def test_a_disk_that_lies_is_found_out(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive that reads back as something else never gets its name."""

    class Lying(archive._Hashing):
        def digest(self) -> bytes:
            return os.urandom(32)

    monkeypatch.setattr(archive, "_Hashing", Lying)
    with pytest.raises(OSError, match="not to be trusted"):
        backup(filled, tmp_path / "copy.tar")
    assert os.listdir(tmp_path) == [filled.name]


def test_an_io_error_leaves_nothing(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO of the sync that would make it last is raised, and the copy is gone."""

    def broken(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    for form in FORMS:
        with pytest.raises(OSError, match="Input/output"):
            backup(filled, tmp_path / form)
    assert os.listdir(tmp_path) == [filled.name]


def test_what_a_killed_backup_left_goes_with_the_next(filled: Path, tmp_path: Path) -> None:
    """Of the same destination, and only when nobody works in it any more."""
    dead, busy = tmp_path / ".copy.partial-dead", tmp_path / ".copy.partial-busy"
    for each in (dead, busy):
        each.mkdir()
        (each / "data.mdb").touch()
    fd = os.open(busy, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    backup(filled, tmp_path / "copy")
    os.close(fd)
    assert (dead.exists(), busy.exists()) == (False, True)


def test_what_is_no_ledger_has_no_backup(tmp_path: Path) -> None:
    """A missing path, a file, an empty directory, one of somebody else's."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.tex").touch()
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / "data.mdb").write_bytes(b"garbage" * 9999)
    before = sorted(os.listdir(tmp_path))
    for name in ("none", *before):
        with pytest.raises(ledger.OpenError, match=name):
            backup(tmp_path / name, tmp_path / "copy")
    assert sorted(os.listdir(tmp_path)) == before


# ----------------------------------------------------------------------------------------------------------- restore


def test_an_empty_directory_is_filled(filled: Path, tmp_path: Path) -> None:
    """A directory that somebody has made for the ledger is used."""
    backup(filled, tmp_path / "copy.tar")
    (tmp_path / "again").mkdir()
    restore(tmp_path / "copy.tar", tmp_path / "again")
    assert _ids(tmp_path / "again") == _ids(filled)


def test_a_path_that_is_taken_is_refused(filled: Path, tmp_path: Path) -> None:
    """A ledger without replace, a file or somebody's directory with it, too; nothing of them changes."""
    backup(filled, tmp_path / "copy")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.tex").touch()
    before = _content(tmp_path)
    with pytest.raises(ledger.InvalidValue, match="--replace"):
        restore(tmp_path / "copy", filled)
    for replace in (False, True):
        for name in ("file", "theirs"):
            with pytest.raises(ledger.NotALedger, match=name):
                restore(tmp_path / "copy", tmp_path / name, replace=replace)
        with pytest.raises(ledger.InvalidValue, match="Create it first"):
            restore(tmp_path / "copy", tmp_path / "none" / "again", replace=replace)
    with pytest.raises(ledger.InvalidValue, match="two different paths"):
        restore(filled, filled, replace=True)
    assert _content(tmp_path) == before


def test_a_missing_backup_is_named(tmp_path: Path) -> None:
    """Nothing at the path, or a device."""
    with pytest.raises(ledger.LedgerNotFound, match="there is no backup at"):
        restore(tmp_path / "none", tmp_path / "again")
    with pytest.raises(ledger.NotALedger, match="neither"):
        restore("/dev/null", tmp_path / "again")
    assert os.listdir(tmp_path) == []


def test_an_archive_compressed_by_others_is_read(filled: Path, tmp_path: Path) -> None:
    """A tar that somebody has put through gzip, under any name."""
    report = backup(filled, tmp_path / "copy.tar")
    (tmp_path / "attachment").write_bytes(gzip.compress((tmp_path / "copy.tar").read_bytes()))
    assert restore(tmp_path / "attachment", tmp_path / "again").root == report.root


def test_a_live_ledger_can_be_restored_from(filled: Path, tmp_path: Path) -> None:
    """A directory is read as a ledger is: others may have it open."""
    with ledger.open(filled) as book:
        restored = restore(filled, tmp_path / "again")
        assert restored.root == book.log.backend.tree_head()[1]


@pytest.mark.parametrize("form", ["copy.tar", "copy.tar.zst"])
def test_an_archive_cut_short_is_refused_at_every_length(filled: Path, tmp_path: Path, form: str) -> None:
    """As damaged or as no backup; nothing is put in place and nothing is left."""
    backup(filled, tmp_path / form)
    whole = (tmp_path / form).read_bytes()
    end = whole.rindex(b"\0" * 8) if form == "copy.tar" else len(whole)
    needed = 512 + (filled / "data.mdb").stat().st_size if form == "copy.tar" else end
    for length in [0, 1, 3, 100, 512, 1000, *range(2000, min(needed, end) - 4096, max(1, needed // 12))]:
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises((ledger.NotALedger, ledger.Corrupted), match="cut"):
            restore(tmp_path / "cut", tmp_path / "again")
    assert sorted(os.listdir(tmp_path)) == sorted(["cut", form, filled.name])


@pytest.mark.parametrize("form", ["copy.tar", "copy.tar.zst"])
def test_a_flipped_bit_never_restores_something_else(filled: Path, tmp_path: Path, form: str) -> None:
    """Wherever it is: refused, or it was in bytes that mean nothing and the ledger is the same."""
    root = backup(filled, tmp_path / form).root
    whole = (tmp_path / form).read_bytes()
    refused = 0
    for index in range(10, len(whole), len(whole) // 14):
        (tmp_path / "flipped").write_bytes(whole[:index] + bytes((whole[index] ^ 4,)) + whole[index + 1 :])
        try:
            assert restore(tmp_path / "flipped", tmp_path / "again").root == root
            verify(tmp_path / "again").raise_for_problem()
            shutil.rmtree(tmp_path / "again")
        except (ledger.NotALedger, ledger.Corrupted):
            refused += 1
            assert not (tmp_path / "again").exists()
    assert refused > 5


@pytest.mark.parametrize("text", [b"", b"mine", os.urandom(5000), b"%PDF-1.7 " * 999, b"\x28\xb5\x2f\xfd" + b"x" * 99])
def test_a_foreign_file_is_refused(filled: Path, tmp_path: Path, text: bytes) -> None:
    """With its name, as what is no backup; also with replace, and then the ledger stays."""
    (tmp_path / "foreign").write_bytes(text)
    before = _content(filled)
    with pytest.raises(ledger.NotALedger, match="foreign"):
        restore(tmp_path / "foreign", tmp_path / "again")
    with pytest.raises(ledger.NotALedger, match="foreign"):
        restore(tmp_path / "foreign", filled, replace=True)
    assert _content(filled) == before
    assert sorted(os.listdir(tmp_path)) == ["foreign", filled.name]


def _member(name: str, **more: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = 4 if more.get("type", tarfile.REGTYPE) == tarfile.REGTYPE else 0
    for key, value in more.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    "member",
    [
        _member("../evil"), _member("/tmp/evil"), _member("evil"), _member("blobs/../../evil"), _member("blobs/../data.mdb"),
        _member("blobs//evil"), _member("blobs/.evil"), _member("./data.mdb/../evil"), _member("data.mdb\n"),
        _member("blobs/a", type=tarfile.SYMTYPE, linkname="/etc/passwd"), _member("blobs", type=tarfile.SYMTYPE, linkname="/tmp"),
        _member("blobs/a", type=tarfile.LNKTYPE, linkname="data.mdb"), _member("blobs/a", type=tarfile.FIFOTYPE),
        _member("blobs/a", type=tarfile.CHRTYPE), _member("data.mdb"), _member("open.lock"),
        _member("evil/", type=tarfile.DIRTYPE),
    ],
    ids=lambda member: f"{member.type!r} {member.name!r}",
)  # fmt: skip
def test_an_archive_with_anything_else_in_it_is_refused(filled: Path, tmp_path: Path, member: tarfile.TarInfo) -> None:
    """Ways out of the directory, links, devices, names twice: refused by name, and no file is made anywhere."""
    backup(filled, tmp_path / "copy.tar")
    with tarfile.open(tmp_path / "copy.tar", "a") as tar:
        tar.addfile(member, io.BytesIO(b"evil"))
    with pytest.raises(ledger.NotALedger, match="no backup holds"):
        restore(tmp_path / "copy.tar", tmp_path / "again")
    assert sorted(os.listdir(tmp_path)) == ["copy.tar", filled.name]
    assert not list(tmp_path.parent.glob("evil*"))


def test_an_archive_without_a_log_is_refused(tmp_path: Path) -> None:
    """A tar that holds nothing, or artifacts only."""
    with tarfile.open(tmp_path / "copy.tar", "w") as tar:
        tar.addfile(_member("blobs/a"), io.BytesIO(b"evil"))
    with pytest.raises(ledger.NotALedger, match=r"no data\.mdb"):
        restore(tmp_path / "copy.tar", tmp_path / "again")


def test_an_archive_that_lost_its_end_is_refused(filled: Path, tmp_path: Path) -> None:
    """A damaged header between the log and the end hides what follows: tarfile takes it for the end."""
    with ledger.open(filled) as book:
        digest = book.experiment("with artifacts").log_artifact(b"model", name="model").digest.encode()
    backup(filled, tmp_path / "copy.tar")
    data = (tmp_path / "copy.tar").read_bytes()
    (tmp_path / "copy.tar").write_bytes(data.replace(b"/" + digest, b"/" + digest[:-1] + b"~", 1))
    with pytest.raises(ledger.NotALedger, match="no head"):
        restore(tmp_path / "copy.tar", tmp_path / "again")


def test_a_damaged_directory_is_refused(filled: Path, tmp_path: Path) -> None:
    """A flipped byte, a cut file: Corrupted with the backup's path, and nothing is put in place."""
    backup(filled, tmp_path / "copy")
    for damage in (_flip, _cut):
        shutil.copytree(tmp_path / "copy", tmp_path / "damaged")
        damage(tmp_path / "damaged" / "data.mdb")
        with pytest.raises((ledger.Corrupted, ledger.NotALedger), match="damaged"):
            restore(tmp_path / "damaged", tmp_path / "again")
        shutil.rmtree(tmp_path / "damaged")
    assert sorted(os.listdir(tmp_path)) == ["copy", filled.name]


def test_an_archive_too_large_for_the_disk_is_refused_before_it_fills_it(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DiskFull, and nothing is left."""
    backup(filled, tmp_path / "copy.tar")
    real = os.statvfs

    def nearly_full(path: Any) -> Any:
        values = list(real(path))
        values[4] = 1  # f_bavail
        return os.statvfs_result(values)

    monkeypatch.setattr(os, "statvfs", nearly_full)
    with pytest.raises(ledger.DiskFull, match="Free some space"):
        restore(tmp_path / "copy.tar", tmp_path / "again")
    assert sorted(os.listdir(tmp_path)) == ["copy.tar", filled.name]


# ------------------------------------------------------------------------------------------------- restore, replacing


@pytest.mark.parametrize("form", FORMS)
def test_a_replaced_ledger_is_kept_and_can_be_put_back(filled: Path, tmp_path: Path, form: str) -> None:
    """The one that was there is a ledger beside it, with its artifacts; restoring that undoes it."""
    backup(filled, tmp_path / form)
    monday = _ids(filled)
    _note(filled, "tuesday")
    with ledger.open(filled) as book:
        book.experiment("with artifacts").log_artifact(b"model of tuesday", name="model")
    (filled / "projections").mkdir()
    (filled / "projections" / "cache").touch()
    tuesday, directory = _ids(filled), filled.stat().st_ino
    report = restore(tmp_path / form, filled, replace=True)
    assert _ids(filled) == monday
    assert not (filled / "projections").exists(), "tables of another history"
    assert filled.stat().st_ino == directory, "handles know a ledger by its directory"
    assert report.replaced is not None
    assert report.replaced.startswith(f"{filled}.replaced-2")
    kept = Path(report.replaced)
    assert _ids(kept) == tuesday
    with ledger.open(kept) as book:
        assert book.experiment("with artifacts").artifact("model").read_bytes() == b"model of tuesday"
    assert not (kept / "data.mdb").samefile(filled / "data.mdb")
    restore(kept, filled, replace=True)
    assert _ids(filled) == tuesday
    assert len(swap.replaced_ledgers(filled)) == 2
    verify(kept).raise_for_problem()


def test_a_ledger_that_is_beyond_help_can_be_replaced(filled: Path, tmp_path: Path) -> None:
    """Nothing of what it holds is read; it is kept as it is."""
    backup(filled, tmp_path / "copy")
    for damage in (_cut, lambda file: file.write_bytes(b""), lambda file: file.unlink()):
        damage(filled / "data.mdb")
        left = (filled / "data.mdb").read_bytes() if (filled / "data.mdb").exists() else None
        report = restore(tmp_path / "copy", filled, replace=True)
        verify(filled).raise_for_problem()
        assert (report.replaced is None) == (left is None)
        if report.replaced is not None:
            assert (Path(report.replaced) / "data.mdb").read_bytes() == left


def test_what_a_killed_restore_left_is_in_nobodys_way(filled: Path, tmp_path: Path) -> None:
    """Not even where the log itself was gone, so that the directory holds nothing else."""
    backup(filled, tmp_path / "copy")
    (filled / "data.mdb").unlink()
    (filled / "restoring-dead").mkdir()
    restore(tmp_path / "copy", filled, replace=True)
    assert sorted(os.listdir(filled)) == ["data.mdb", "head", "open.lock"]


def test_an_open_ledger_is_not_replaced(filled: Path, tmp_path: Path, script: Callable) -> None:
    """Whoever has it open is named, this process too; nothing changes."""
    backup(filled, tmp_path / "copy")
    with ledger.open(filled), pytest.raises(ledger.LedgerBusy, match=rf"this process \({os.getpid()}\)"):
        restore(tmp_path / "copy", filled, replace=True)
    holder = script(
        "import sys, ledger; book = ledger.open(sys.argv[1]); print('open'); sys.stdin.read(); __import__('time').sleep(60)",
        filled,
    )
    assert holder.line() == "open"
    with pytest.raises(ledger.LedgerBusy, match=f"process {holder.process.pid}"):
        restore(tmp_path / "copy", filled, replace=True)
    holder.kill()
    holder.finish()
    assert sorted(os.listdir(tmp_path)) == ["copy", filled.name]


def test_rights_stay(filled: Path, tmp_path: Path) -> None:
    """The restored file has mode and owner of the one it replaces, whoever restores."""
    backup(filled, tmp_path / "copy")
    (filled / "data.mdb").chmod(0o640)
    if os.geteuid() == 0:
        os.chown(filled / "data.mdb", 1234, 2345)
    before = (filled / "data.mdb").stat()
    restore(tmp_path / "copy", filled, replace=True)
    after = (filled / "data.mdb").stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    if os.geteuid() == 0:
        os.chown(filled / "data.mdb", 0, 0)


def test_no_right_to_write_is_told_with_the_cure(filled: Path, tmp_path: Path) -> None:
    """A parent where nothing may be made: ReadOnlyLedger that names it."""
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    backup(filled, tmp_path / "copy")
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(ledger.ReadOnlyLedger, match="chmod"):
        backup(filled, tmp_path / "closed" / "copy")
    with pytest.raises(ledger.ReadOnlyLedger, match="chmod"):
        restore(tmp_path / "copy", tmp_path / "closed" / "again")
