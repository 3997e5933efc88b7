"""Golden ledgers: what an older version has left is read, verified and written on by today's code, as it was then.

``golden/FORMAT`` was made once by ``make_golden.py`` and is never made anew. What is read from it is kept beside it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ledger
from ledger import events
from ledger.audit import verify
from ledger.format import FORMAT
from ledger.maintenance.backup import backup, restore
from ledger.maintenance.compaction import compact
from ledger.maintenance.doctor import PROBLEM, doctor
from tests.format.make_golden import RECORDS, TABLES, kept, read_lines, read_tables

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(params=sorted(each.name for each in GOLDEN.iterdir()))
def golden(request: pytest.FixtureRequest) -> Path:
    """A directory of what was kept."""
    return GOLDEN / str(request.param)


@pytest.fixture
def path(golden: Path, ledger_path: Path) -> Path:
    """A copy of its ledger, verified again at the end."""
    return Path(shutil.copytree(golden / "ledger", ledger_path))


def test_there_is_a_golden_ledger_of_this_format() -> None:
    """Its directory is named by the format, and it is small."""
    files = [file for file in (GOLDEN / str(FORMAT)).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 300_000


def test_it_holds_one_of_everything(path: Path) -> None:
    """Every event type there is, sealed blocks and others, an append of several blocks, redactions, types unknown here."""
    with ledger.open(path) as book:
        records = list(book.log.read())
        assert book.log.backend.redactions().total > book.log.backend.redactions().pending > 0
    types = {record.type for record in records}
    assert events.VOCABULARY - types == set()
    assert {"PhotoTaken", "SkySeen", "Martian"} <= types
    assert {type(record.event) for record in records if record.type == "PhotoTaken"} == {ledger.UnknownEvent}
    assert max(record.ordinal for record in records) > 512
    assert {record.type for record in records if record.is_redacted} >= {
        "NoteAdded",
        "PhotoTaken",
        "CaptureStored",
        "TrialFailed",
    }


def test_it_is_in_order(path: Path) -> None:
    """`verify` recomputes all of it, artifacts too; the doctor finds nothing."""
    report = verify(path, artifacts="content")
    assert report.problems == []
    assert [finding for finding in doctor(path) if finding.level == PROBLEM] == []


def test_every_record_is_read_as_it_was(golden: Path, path: Path) -> None:
    """As lines of JSON, with hashes and salts, record by record."""
    assert read_lines(path) == kept(golden / RECORDS)


def test_every_table_is_what_it_was(golden: Path, path: Path) -> None:
    """Each table of each experiment, now and as of an early position."""
    assert read_tables(path) == kept(golden / TABLES)


def test_artifacts_are_loaded(path: Path) -> None:
    """An object, bytes, and a directory with a link and an empty directory in it."""
    with ledger.open(path) as book:
        exp = book.get_experiment("größe 🚀")
        assert exp.trial(1).artifact("größe 🚀/..").load() == {"größe": (1, b"2")}
        assert exp.trial(1).artifact("twice").load() == b"twice" * 1000
        assert [entry.path for entry in exp.artifact("folder").entries()] == ["a file", "empty", "link"]


def test_it_is_written_on(golden: Path, path: Path) -> None:
    """Appends, claims, amendments and a seal go on where it ends; what was there stays as it was."""
    before = kept(golden / RECORDS)
    with ledger.open(path) as book:
        book.log.append([ledger.NoteAdded(f"again {i}") for i in range(700)], stream="long")
        exp = book.get_experiment("größe 🚀")
        trial = exp.claim(worker="w1")
        assert trial is not None
        trial.complete({"loss": 1.0})
        exp.trial(1).amend(results={"loss": 2.0}, reason="a test")
        exp.seal("done")
    assert read_lines(path)[: len(before)] == before


def test_it_is_compacted_backed_up_and_restored(golden: Path, path: Path, tmp_path: Path) -> None:
    """The same records come out of each."""
    compact(path)
    backup(path, tmp_path / "made.tar.zst")
    restore(tmp_path / "made.tar.zst", tmp_path / "again.ledger")
    assert read_lines(tmp_path / "again.ledger") == read_lines(path) == kept(golden / RECORDS)


def test_its_script_makes_the_same_records_today(tmp_path: Path) -> None:
    """Ids, salts, times and hashes are the same each time: nothing of how records are made has changed."""
    subprocess.run([sys.executable, "-W", "error", "-m", "tests.format.make_golden", tmp_path / "made"], check=True, cwd=ROOT)
    assert kept(tmp_path / "made" / RECORDS) == kept(GOLDEN / str(FORMAT) / RECORDS)


def test_a_changed_byte_of_it_is_found(path: Path) -> None:
    """The tests above can fail: with one letter of a record changed, it is not read, and `verify` says so."""
    log = path / "data.mdb"
    whole = log.read_bytes()
    log.write_bytes(whole.replace(b"after the compaction", b"After the compaction"))
    with pytest.raises(ledger.Corrupted):
        read_lines(path)
    assert not verify(path).ok
    log.write_bytes(whole)
