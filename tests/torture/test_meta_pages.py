"""LMDB's two meta pages, which have no checksum: what becomes of a ledger when one bit of them is wrong.

Each names a commit, its number and the pages where its trees begin; LMDB takes the one with the higher number. A flip in
them may show an older commit as the newest, or let what is written next go over pages that are in use.
"""

from __future__ import annotations

import random
import struct
import tempfile
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

import ledger
from ledger.backends.check import LogCheck
from ledger.maintenance.doctor import PROBLEM, doctor
from tests.torture.children import outcomes

PAGE = 4096
#: Where in a meta page each field begins (LMDB 0.9, 64 bits), up to its end.
FIELDS = {
    "page number": 0, "pad": 8, "page flags": 10, "bounds": 12, "magic": 16, "version": 20, "address": 24, "map size": 32,
    "page size": 40, "free flags": 44, "free depth": 46, "free pages": 48, "free entries": 72, "free root": 80,
    "main pad": 88, "main flags": 92, "main depth": 94, "main pages": 96, "main entries": 120, "main root": 128,
    "last page": 136, "commit": 144, "": 152,
}  # fmt: skip


LOST, FOUND_LATER = "records fail their checks after writing", "verify finds it after writing"


class Sample(NamedTuple):
    """A ledger that was closed: its two files, and its records."""

    log: bytes
    head: bytes
    records: list[str]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """Make it once; many small commits, so that pages have been freed and used again."""
    path = tmp_path_factory.mktemp("sample") / "runs.ledger"
    with ledger.open(path) as book:
        for number in range(60):
            _append(book, number)
    return Sample((path / "data.mdb").read_bytes(), (path / "head").read_bytes(), _read(path))


def _append(book: ledger.Ledger, number: int) -> None:
    book.log.append([ledger.NoteAdded(f"{number} {'x' * 200}") for _ in range(number % 7 + 1)], stream=f"s{number % 5}")


def _read(path: Path) -> list[str]:
    with ledger.open(path, create=False) as book:
        return [f"{record.position} {record.stream} {record.version} {record.event}" for record in book.log.read()]


def _ledger(place: str, log: bytes, head: bytes) -> Path:
    path = Path(place, "runs.ledger")
    path.mkdir()
    (path / "data.mdb").write_bytes(log)
    (path / "head").write_bytes(head)
    return path


def _flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def field_of(bit: int) -> str:
    """Name the field in which the bit stands."""
    return [name for name, start in FIELDS.items() if start <= bit // 8 % PAGE][-1]


def _outcome(place: Path, sample: Sample, bit: int) -> str:
    """Read the ledger with the flip, write to it, and read what was there before again."""
    with tempfile.TemporaryDirectory(dir=place) as directory:
        path = _ledger(directory, _flipped(sample.log, bit), sample.head)
        try:
            if _read(path) != sample.records:
                return "WRONG when read"
        except ledger.LedgerError as error:
            return "older" if "was on disk once" in str(error) else "error"
        try:
            with ledger.open(path) as book:
                for number in range(12):
                    _append(book, number)
        except ledger.LedgerError:
            return "error when written"
        try:
            is_whole = _read(path)[: len(sample.records)] == sample.records
        except ledger.LedgerError:
            return LOST
        check = LogCheck(path)
        try:
            check.run()
            is_right = not check.problems
        finally:
            check.close()
        return "WRONG after writing" if not is_whole else "right" if is_right else FOUND_LATER


def explore(place: Path, sample: Sample, bits: Sequence[int]) -> dict[str, Counter[str]]:
    """Return what comes of each flip, by field; what may destroy something when it is written is named by the doctor before."""
    found: dict[str, Counter[str]] = {}
    for bit, text in zip(bits, outcomes(partial(_outcome, place, sample), bits), strict=True):
        outcome = "LMDB died" if text.startswith("killed") else text
        if outcome in (LOST, FOUND_LATER):
            assert _problems(place, sample, bit), f"bit {bit} ({field_of(bit)}): {outcome}, and the doctor finds nothing"
        found.setdefault(field_of(bit), Counter())[outcome] += 1
    for field, counts in found.items():
        print(f"{field:>14}: {dict(counts)}")
    return found


def _problems(place: Path, sample: Sample, bit: int) -> list[str]:
    with tempfile.TemporaryDirectory(dir=place) as directory:
        found = doctor(_ledger(directory, _flipped(sample.log, bit), sample.head))
    return [finding.name for finding in found if finding.level == PROBLEM]


def _meta_bits(*fields: str) -> list[int]:
    every = [(page * PAGE + byte) * 8 + bit for page in (0, 1) for byte in range(FIELDS[""]) for bit in range(8)]
    return [bit for bit in every if not fields or field_of(bit) in fields]


def test_no_flip_in_the_number_of_a_commit_hides_the_newest(sample: Sample, tmp_path: Path) -> None:
    """All 128 bits of both numbers: the newest commit is read, or the ledger is not opened because it was on disk once."""
    (found,) = explore(tmp_path, sample, _meta_bits("commit")).values()
    assert set(found) == {"right", "older"}
    assert found["older"] >= 32


def test_without_the_doorbell_it_would_be_hidden(sample: Sample, tmp_path: Path) -> None:
    """The test above can fail: LMDB itself shows the commit before as if nothing had come after it, and so does `verify`."""
    (found,) = explore(tmp_path, sample._replace(head=b""), _meta_bits("commit")).values()
    assert found["WRONG when read"] >= 32


def test_a_flip_in_a_meta_page_is_an_error_or_changes_nothing(sample: Sample, tmp_path: Path) -> None:
    """400 of their bits: right, or an error, before and after the ledger is written on."""
    _check(explore(tmp_path, sample, random.Random(21).sample(_meta_bits(), 400)))


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_every_flip_in_a_meta_page_is_an_error_or_changes_nothing(sample: Sample, tmp_path: Path) -> None:
    """All of their bits; one or two of 2,432 let LMDB write over what is in use."""
    found = explore(tmp_path, sample, _meta_bits())
    _check(found)
    assert sum(counts[LOST] for counts in found.values()) <= 4


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_a_flip_in_the_list_of_free_pages_is_never_silent(sample: Sample, tmp_path: Path) -> None:
    """1,000 bits of it: where LMDB writes over what is in use, reading that is an error, and the doctor has told before."""
    page = max(struct.unpack_from("<Q", sample.log, number * PAGE + FIELDS["free root"])[0] for number in (0, 1))
    assert 2 <= page < len(sample.log) // PAGE
    bits = range(page * PAGE * 8, (page + 1) * PAGE * 8)
    found = _check(explore(tmp_path, sample, random.Random(22).sample(bits, 1000)))
    assert found[LOST] + found["error when written"] > 0


def _check(found: dict[str, Counter[str]]) -> Counter[str]:
    every = sum(found.values(), Counter[str]())
    assert every.keys() <= {"right", "error", "older", "error when written", "LMDB died", LOST, FOUND_LATER}, every
    assert every["right"] > len(every) > 1
    return every
