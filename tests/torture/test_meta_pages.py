"""LMDB's two meta pages, which have no checksum: what becomes of a ledger when one bit of them is wrong.

Each names a commit, its number and the pages where its trees begin; LMDB takes the one with the higher number. A flip in them
may show an older commit as the newest, or lead what is written next over pages that are in use.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

import ledger
from ledger.backends.check import LogCheck
from ledger.backends.doorbell import head_bytes
from ledger.backends.lmdb import LmdbBackend
from ledger.format import Checks
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
            return "LOST by writing"
        check = LogCheck(path)
        try:
            check.run()
            found = "; verify finds it" if check.problems else ""
        finally:
            check.close()
        return ("right" if is_whole else "WRONG after writing") + found


def explore(place: Path, sample: Sample, bits: Iterable[int]) -> dict[str, Counter[str]]:
    """Return what comes of a flip, by field."""
    flips = list(bits)
    found: dict[str, Counter[str]] = {}
    for bit, text in zip(flips, outcomes(lambda bit: _outcome(place, sample, bit), flips), strict=True):
        found.setdefault(field_of(bit), Counter())["LMDB died" if text.startswith("killed") else text] += 1
    for field, counts in found.items():
        print(f"{field:>14}: {dict(counts)}")
    return found


def _all_bits() -> list[int]:
    return [(page * PAGE + byte) * 8 + bit for page in (0, 1) for byte in range(FIELDS[""]) for bit in range(8)]


def test_a_flip_in_a_meta_page_is_an_error_or_changes_nothing(sample: Sample, tmp_path: Path) -> None:
    """No flip hides the newest commit from who opens the ledger; what is written afterwards destroys nothing in silence."""
    found = explore(tmp_path, sample, _all_bits())
    print(sum(found.values(), Counter()))
