"""Flipped bits, truncations and swapped pages: right bytes or an error; ``verify`` and ``doctor`` live, and name the damage."""

from __future__ import annotations

import datetime as dt
import random
import struct
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest

import ledger
from ledger.audit import verify
from ledger.backends.check import LogCheck
from ledger.backends.view import LmdbView
from ledger.format import (
    APPENDS,
    BLOCKS,
    JOBS,
    LISTS,
    META,
    NAMES,
    POSTINGS,
    TILES,
    Checks,
    append_key,
    experiment_key,
    read_header,
    stream_key,
)
from ledger.maintenance.doctor import PROBLEM, WARNING, doctor
from tests.torture.children import outcomes

PAGE = 4096
_BRANCH, _LEAF = 1, 2


class Sample(NamedTuple):
    """A ledger with something in every index; where its files are, and what is read from it."""

    content: bytes
    experiment: UUID
    right: dict[str, Any]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """Make it once."""
    path = tmp_path_factory.mktemp("sample") / "runs.ledger"
    with ledger.open(path, durability="relaxed") as book:
        exp = book.experiment("e")
        trials = exp.new_trials([{"n": n} for n in range(300)])
        exp.new_trial({"d": 1}, depends_on=[trials[200]])
        exp.new_trial({"w": 1}, worker="bob")
        exp.new_trial({"s": 1}, scheduled_at=dt.datetime(2100, 1, 1, tzinfo=dt.UTC))
        for _ in range(30):
            trial = exp.claim()
            assert trial is not None
            trial.complete({"x": 1.5})
        for _ in range(5):
            exp.claim(lease_seconds=3e7)
        for number in range(20):
            book.experiment(f"experiment {number}")
        identity = exp.state.id
    return Sample((path / "data.mdb").read_bytes(), identity, _read(path, identity))


def _read(path: Path, experiment: UUID) -> dict[str, Any]:
    """Read the records, and ask every index."""
    with ledger.open(path, create=False) as book, book.log.backend.view() as view:
        records = list(book.log.read())
        streams = sorted({record.stream for record in records})
        return {
            "records": [(r.position, r.stream, r.version, repr(r.event)) for r in records],
            "positions": {name: view.positions(stream_key(name)) for name in streams},
            "experiment": view.positions(experiment_key(experiment)),
            "states": {number: repr(view.trial(experiment, number)) for number in range(1, 304, 7)},
            "names": [view.experiment_named(f"experiment {number}") for number in range(20)],
            "experiments": [state.name for state in view.experiments()],
            "ready": [state.id for state in view.ready(experiment, "bob", limit=1000)],
            "next": view.next_due(experiment),
            "leased": getattr(view.first_leased(experiment), "id", None),
            "appends": [view.value(append_key(record.append_id)) for record in records[::10]],  # type: ignore[attr-defined]
        }


def _outcome(place: Path, sample: Sample, content: bytes) -> str:
    """Read a damaged file: right, an error, or WRONG with what ``verify`` thinks of it."""
    with tempfile.TemporaryDirectory(dir=place) as directory:
        path = Path(directory, "runs.ledger")
        path.mkdir()
        (path / "data.mdb").write_bytes(content)
        try:
            found = _read(path, sample.experiment)
        except ledger.LedgerError:
            return "error"
        wrong = [name for name, value in sample.right.items() if found[name] != value]
        if not wrong:
            return "right"
        check = LogCheck(path)
        try:
            check.run()
            return f"WRONG {', '.join(wrong)}; verify {'finds it' if check.problems else 'passes it'}"
        finally:
            check.close()


def _flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _flip(place: Path, sample: Sample, bits: Sequence[int]) -> Counter[str]:
    """Flip each bit by itself; count what comes of it."""

    def look(bit: int) -> str:
        return _outcome(place, sample, _flipped(sample.content, bit))

    found = Counter("LMDB died" if text.startswith("killed") else text for text in outcomes(look, bits))
    print(dict(found))
    return found


# ------------------------------------------------------------------------------------------------------ LMDB's pages


class Node(NamedTuple):
    """An entry of a page: where its head and key, its value begin and end in the file."""

    start: int
    value: int
    end: int
    key: bytes


def _pages(content: bytes) -> dict[int, int]:
    """Return the pages that are reachable from the newest root, with their flags."""
    metas = [struct.unpack_from("<QQ", content, page * PAGE + 16 + 24 + 48 + 40) for page in (0, 1)]
    txns = [struct.unpack_from("<Q", content, page * PAGE + 16 + 24 + 96 + 8)[0] for page in (0, 1)]
    root = metas[txns.index(max(txns))][0]
    live: dict[int, int] = {}

    def walk(page: int) -> None:
        live[page] = struct.unpack_from("<H", content, page * PAGE + 10)[0]
        if live[page] & _BRANCH:
            for node in _nodes(content, page):
                low, high, higher = struct.unpack_from("<HHH", content, node.start)
                walk(low | high << 16 | higher << 32)

    walk(root)
    return live


def _nodes(content: bytes, page: int) -> Iterator[Node]:
    (lower,) = struct.unpack_from("<H", content, page * PAGE + 12)
    for number in range((lower - 16) // 2):
        (offset,) = struct.unpack_from("<H", content, page * PAGE + 16 + 2 * number)
        start = page * PAGE + offset
        low, high, flags, key_bytes = struct.unpack_from("<HHHH", content, start)
        size = 8 if flags & 1 else low | high << 16
        value = start + 8 + key_bytes
        yield Node(start, value, value + size, content[start + 8 : value])


def _bits(*ranges: tuple[int, int]) -> list[int]:
    return [byte * 8 + bit for start, end in ranges for byte in range(start, end) for bit in range(8)]


# -------------------------------------------------------------------------------------------------------------- tests


@pytest.mark.parametrize("seed", [11, 12])
def test_random_flips_give_the_right_bytes_or_an_error(sample: Sample, tmp_path: Path, seed: int) -> None:
    """300 random bits of the file: records, states and every index are right, or an error."""
    random_ = random.Random(seed)
    found = _flip(tmp_path, sample, [random_.randrange(len(sample.content) * 8) for _ in range(300)])
    assert set(found) <= {"right", "error", "LMDB died"}
    assert found["error"] > 50
    assert found["right"] > 50


def test_random_truncations_and_exchanged_pages_give_the_right_bytes_or_an_error(sample: Sample, tmp_path: Path) -> None:
    """100 files cut short, 100 with a page of zeros, 100 with one page in place of another that is not in use any more."""
    random_ = random.Random(13)
    pages = len(sample.content) // PAGE
    damaged = [sample.content[: random_.randrange(len(sample.content))] for _ in range(100)]
    for number in range(200):
        changed = bytearray(sample.content)
        to = random_.randrange(2, pages) * PAGE
        changed[to : to + PAGE] = bytes(PAGE) if number % 2 else random_.randbytes(PAGE)
        damaged.append(bytes(changed))
    found = Counter(text.partition(" by ")[0] for text in outcomes(partial(_outcome, tmp_path, sample), damaged))
    print(dict(found))
    assert set(found) <= {"right", "error", "killed"}
    assert found["error"] > 50


@pytest.mark.parametrize("kind", [META, BLOCKS, APPENDS, LISTS, POSTINGS, NAMES, JOBS, TILES])
def test_flips_in_each_index_give_the_right_bytes_or_an_error(sample: Sample, tmp_path: Path, kind: bytes) -> None:
    """Bits of keys and values of one kind of entry (300 of them): none changes or hides what is read."""
    nodes = [
        node for page, flags in _pages(sample.content).items() if flags & _LEAF
        for node in _nodes(sample.content, page) if node.key[:1] == kind
    ]  # fmt: skip
    bits = _bits(*((node.start + 8, node.end) for node in nodes))
    random_ = random.Random(14)
    found = _flip(tmp_path, sample, random_.sample(bits, min(300, len(bits))))
    assert set(found) <= {"right", "error", "LMDB died"}
    assert found["error"] > 0


def test_flips_in_what_lmdb_keeps_in_its_pages_are_found_at_the_latest_by_verify(sample: Sample, tmp_path: Path) -> None:
    """Headers, pointers and sizes have no checksum in LMDB: of 1,500 flips few hide an entry, and `verify` finds it."""
    live = _pages(sample.content)
    bits = []
    for page, flags in live.items():
        lower, upper = struct.unpack_from("<HH", sample.content, page * PAGE + 12)
        bits += _bits((page * PAGE, page * PAGE + lower))
        bits += _bits(*((node.start, node.start + 8) for node in _nodes(sample.content, page)))
        bits += _bits((page * PAGE + upper, (page + 1) * PAGE)) if flags & _BRANCH else []
    found = _flip(tmp_path, sample, random.Random(15).sample(bits, 1500))
    hidden = {text: count for text, count in found.items() if text.startswith("WRONG")}
    assert all(text.endswith("verify finds it") for text in hidden), hidden
    assert sum(hidden.values()) <= 15, hidden


def test_verify_and_doctor_survive_any_flip_and_name_the_damage(sample: Sample, tmp_path: Path) -> None:
    """15 flips that change what is read, and 15 anywhere: both answer each time; the first are named by both."""
    live = [page for page, flags in _pages(sample.content).items() if flags & _LEAF]
    nodes = [node for page in live for node in _nodes(sample.content, page)]
    random_ = random.Random(16)
    values = random_.sample(_bits(*((node.start + 8, node.end) for node in nodes)), 15)
    anywhere = [random_.randrange(len(sample.content) * 8) for _ in range(15)]

    def look(bit: int) -> str:
        with tempfile.TemporaryDirectory(dir=tmp_path) as directory:
            path = Path(directory, "runs.ledger")
            path.mkdir()
            (path / "data.mdb").write_bytes(_flipped(sample.content, bit))
            try:
                report = verify(path)
            except ledger.OpenError:
                report = None
            problems = [finding for finding in doctor(path) if finding.level in (PROBLEM, WARNING) and finding.name == "content"]
            if report is None or (not report.ok and all(report.problems)):
                assert problems, report
                assert all(problem.message and problem.cure for problem in problems)
                return "named"
            return "fine"

    found = outcomes(look, values + anywhere)
    assert set(found[:15]) == {"named"}, found
    assert set(found[15:]) <= {"named", "fine"}


# -------------------------------------------------------------------------------------------------- negative controls


def test_without_the_checks_wrong_bytes_are_believed(sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above can fail: with the checks of values switched off, flipped bits are returned as if they were right."""
    monkeypatch.setattr(Checks, "open", lambda self, key, value: value[4:])
    monkeypatch.setattr(Checks, "open_meta", lambda self, key, value: value[8:])
    monkeypatch.setattr(Checks, "open_block", lambda self, position, value: read_header(value))
    random_ = random.Random(11)
    found = _flip(tmp_path, sample, [random_.randrange(len(sample.content) * 8) for _ in range(150)])
    assert any("WRONG" in text for text in found)


def test_without_the_neighbours_entries_are_hidden(sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the entries beside what is looked for not tested, a flip in a key would hide waiting trials."""
    monkeypatch.setattr(LmdbView, "_check_before", lambda self, cursor, key: None)
    monkeypatch.setattr(LmdbView, "_check_after", lambda self, cursor, key: None)
    pages = [page for page, flags in _pages(sample.content).items() if flags & _LEAF]
    nodes = [node for page in pages for node in _nodes(sample.content, page) if node.key[:1] == JOBS]
    bits = random.Random(14).sample(_bits(*((node.start + 8, node.end) for node in nodes)), 300)
    assert any(text.startswith("WRONG ready") for text in _flip(tmp_path, sample, bits))
