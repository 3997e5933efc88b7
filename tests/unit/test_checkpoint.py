"""Checkpoints: what is kept elsewhere tells later whether the records are still the same ones."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

import ledger
from ledger import Checkpoint, read_checkpoints
from ledger.audit import verify
from ledger.backends.base import Entry
from ledger.backends.check import LogCheck
from ledger.backends.lmdb import LmdbBackend
from ledger.codec import leaf_of
from ledger.records import Envelope
from ledger.tree import EMPTY_ROOT, root_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger is."""
    return tmp_path / "runs.ledger"


def _notes(path: Path, count: int, *, at_once: bool = True) -> Checkpoint:
    """Append remarks, and return the checkpoint after them."""
    with ledger.open(path, durability="relaxed") as book:
        events = [ledger.NoteAdded(str(n)) for n in range(count)]
        for batch in [events] if at_once else [[event] for event in events]:
            book.log.append(batch, stream="s")
        return book.checkpoint()


def _problems(path: Path, *against: Checkpoint) -> list[str]:
    """Check as ``verify`` does, without its child process."""
    check = LogCheck(path, against=against)
    check.run()
    check.close()
    return check.problems


# ---------------------------------------------------------------------------------------------------------- the text


def test_the_text_is_that_of_a_c2sp_checkpoint(path: Path) -> None:
    """Three lines and no more, each ended: origin, size in decimal without zeros before it, root in base64 with padding."""
    checkpoint = _notes(path, 1234)
    text = str(checkpoint)
    origin, size, root, rest = text.split("\n")
    assert (origin, size, rest) == (f"experiment-ledger/{checkpoint.ledger_id}", "1234", "")
    assert base64.b64decode(root, validate=True) == checkpoint.root
    assert (len(checkpoint.root), len(root), root[-1]) == (32, 44, "=")
    assert read_checkpoints(text) == [checkpoint]
    signed = f"{text}an extension line\n\n\N{EM DASH} example.com/log az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5\n"
    assert read_checkpoints(signed) == [checkpoint]


def test_several_are_read_from_one_text(path: Path) -> None:
    """With empty lines between them or not, with signatures, with line ends of Windows, of several ledgers, in order."""
    notes = [Checkpoint(UUID(int=n % 2), n, bytes([n]) * 32) for n in range(4)]
    for joined in ("", "\n", "\n\n", "\N{EM DASH} me c2ln\n\n"):
        assert read_checkpoints(joined.join(map(str, notes))) == notes
    assert read_checkpoints("".join(map(str, notes)).replace("\n", "\r\n")) == notes
    assert read_checkpoints("# kept since May\n" + str(notes[1])) == notes[1:2]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: "", "there is no checkpoint"),
        (lambda text: text.replace("experiment-ledger", "other-log"), "there is no checkpoint in it: none of its 3 lines"),
        (lambda text: text.replace("\n7\n", "\nseven\n"), "the checkpoint at line 1 .*'seven'"),
        (lambda text: text.replace("\n7\n", "\n-7\n"), "the checkpoint at line 1"),
        (lambda text: text.replace("\n7\n", "\n7.0\n"), "the checkpoint at line 1"),
        (lambda text: text.replace("\n7\n", "\n\N{SUPERSCRIPT TWO}\n"), "the checkpoint at line 1"),
        (lambda text: text.replace("\n7\n", "\n\n"), "the checkpoint at line 1"),
        (lambda text: text.replace("\n7\n", "\n"), "the checkpoint at line 1"),
        (lambda text: text[:-6] + "\n", "the checkpoint at line 1"),
        (lambda text: text[:60], "the checkpoint at line 1"),
        (lambda text: text.replace("=", "!"), "the checkpoint at line 1"),
        (lambda text: text.replace("ledger/", "ledger/x"), "the checkpoint at line 1"),
        (lambda text: "\n\n" + text + text[:70], "the checkpoint at line 6"),
    ],
)
def test_a_damaged_text_is_refused_by_its_line(damage: Callable[[str], str], words: str) -> None:
    """InvalidValue names the line of the first checkpoint that is none, and says what one looks like."""
    text = str(Checkpoint(UUID(int=5), 7, bytes(range(32))))
    with pytest.raises(ledger.InvalidValue, match=words):
        read_checkpoints(damage(text))


def test_a_checkpoint_of_another_ledger_is_refused(path: Path) -> None:
    """It is no problem of this ledger; the error names both."""
    mine = _notes(path, 3)
    other = mine._replace(ledger_id=UUID(int=9))
    with pytest.raises(ledger.InvalidValue, match=f"of ledger {other.ledger_id}; .*{mine.ledger_id}"):
        verify(path, against=[mine, other])
    assert verify(path, against=[mine]).ok


# --------------------------------------------------------------------------------------------------- what they notice


def test_every_size_of_a_small_ledger_passes(path: Path) -> None:
    """Also in the middle of an append or a block, all at once and in any order, and after what came later was sealed."""
    with ledger.open(path, durability="relaxed") as book:
        kept = [book.checkpoint()]
        for number in range(20):
            book.log.append([ledger.NoteAdded(str(n)) for n in range(number % 4 + 1)], stream="s")
            kept.append(book.checkpoint())
        entries = book.log.backend.read_entries(0)
    every = [Checkpoint(kept[0].ledger_id, size, root_of([entry.leaf for entry in entries[:size]])) for size in range(51)]
    assert kept == [each for each in every if each in kept]
    assert (kept[0].root, kept[-1].size) == (EMPTY_ROOT, 50)
    assert _problems(path, *reversed(every), *every) == []
    _notes(path, 1500)
    assert _problems(path, *every) == []
    for size in (1, 7, 50):
        wrong = every[size]._replace(root=every[size - 1].root)
        (problem,) = [problem for problem in _problems(path, *every, wrong) if "checkpoint" in problem]
        assert f"at size {size} has another root" in problem


@pytest.mark.parametrize("size", [511, 512, 513, 1000, 1024, 1299, 1300])
def test_sizes_in_and_between_sealed_blocks(path: Path, size: int) -> None:
    """The tree is compared at that very size, whatever blocks the records have gone into."""
    newest = _notes(path, 1300)
    backend = LmdbBackend(path)
    leaves: list[bytes] = []
    while page := backend.read_entries(len(leaves)):
        leaves += [entry.leaf for entry in page]
    backend.close()
    right = Checkpoint(newest.ledger_id, size, root_of(leaves[:size]))
    assert _problems(path, right) == []
    assert _problems(path, right._replace(root=root_of(leaves[1 : size + 1]))) != []


def test_an_empty_ledger_has_a_checkpoint(path: Path) -> None:
    """Of size 0 and the root of no leaf; it passes on the empty ledger and on every later one, and a wrong root does not."""
    with ledger.open(path, durability="relaxed") as book:
        empty = book.checkpoint()
        assert (empty.size, empty.root) == (0, EMPTY_ROOT)
        assert book.verify(against=[empty]).ok
        assert not book.verify(against=[empty._replace(root=bytes(32))]).ok
    _notes(path, 3)
    assert _problems(path, empty) == []
    assert _problems(path, empty._replace(root=bytes(32))) != []


def test_a_copy_put_back_is_noticed(path: Path, tmp_path: Path) -> None:
    """An older state of the ledger passes every check but that against a checkpoint made after it."""
    early = _notes(path, 3)
    shutil.copytree(path, tmp_path / "backup")
    late = _notes(path, 5)
    assert verify(path, against=[early, late]).ok
    shutil.rmtree(path)
    shutil.copytree(tmp_path / "backup", path)
    assert verify(path).ok  # nothing in the file tells
    report = verify(path, against=[early, late])
    assert report.problems[0] == "the checkpoint names 8 records, the log has 3: it was put back to an older state."
    assert verify(path, against=[early]).ok
    _notes(path, 9)  # and written on: longer than the checkpoint, but with other records
    assert any("at size 8 has another root" in problem for problem in _problems(path, early, late))


def test_a_rewritten_ledger_is_noticed(path: Path, tmp_path: Path) -> None:
    """One with other records and all checks, hashes and indexes right, under the same id, fails against a checkpoint only."""
    before = _notes(path, 600, at_once=False)
    source = LmdbBackend(path)
    entries: list[Entry] = []
    while page := source.read_entries(len(entries)):
        entries += page
    source.close()
    forged = tmp_path / "forged"
    target = LmdbBackend(forged, identity=source.identity)
    target.adopt([_forge(entry) if n == 300 else entry for n, entry in enumerate(entries)])
    target.close()
    report = verify(forged)
    assert (report.ok, report.head, report.root == before.root) == (True, 600, False)
    assert verify(forged, against=[before]).problems[0].startswith("the checkpoint at size 600 has another root")
    assert verify(path, against=[before]).ok


def _forge(entry: Entry) -> Entry:
    """Return the record with another text, and its leaf hash made right."""
    import msgspec

    assert b"\xa3300" in entry.raw
    raw = entry.raw.replace(b"\xa3300", b"\xa3999")
    (envelope,) = msgspec.msgpack.decode(b"\x91" + raw, type=list[Envelope])
    from ledger.codec import record_salts

    return entry._replace(raw=raw, leaf=leaf_of(raw, envelope, record_salts(entry.salt, 0, 1)[0]))


def test_a_redaction_keeps_every_checkpoint(path: Path) -> None:
    """Checkpoints made before a redaction hold after it: that is what the salted digest is for."""
    kept = _notes(path, 900)
    with ledger.open(path, durability="relaxed") as book:
        book.redact(1, 450, 900, reason="leaked")
        later = book.checkpoint()
    assert _problems(path, kept, later) == []


def test_thousands_of_checkpoints_are_no_trouble(path: Path) -> None:
    """Kept every hour for a year, they are more than a command line can hold."""
    kept = _notes(path, 2)
    assert verify(path, against=[kept] * 9000).ok
    assert not verify(path, against=[kept] * 9000 + [kept._replace(root=bytes(32))]).ok
