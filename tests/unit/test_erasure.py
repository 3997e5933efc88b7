"""Erasure in the file: after a redaction nothing alive in it tells the payload, and whoever tampers with it is found."""

from __future__ import annotations

import hashlib
import importlib.util
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import lmdb
import msgspec
import pytest

import ledger
import projections
from ledger.audit import verify
from ledger.backends import check
from ledger.backends.base import Entry
from ledger.backends.blocks import Block, blocks_from
from ledger.backends.lmdb import LmdbBackend
from ledger.format import BLOCKS, IDENTITY_KEY, OWN_SALT, Checks, Identity, Run, block_key, read_header, unpack_body
from ledger.redaction import CONTENT

_spec = importlib.util.spec_from_file_location("leaky", Path(__file__).with_name("leaky.py"))
assert _spec is not None
leaky: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(leaky)  # type: ignore[union-attr]
SECRET = "hunter2-secret"


@pytest.fixture
def book(tmp_path: Path) -> Iterator[ledger.Ledger]:
    """A ledger in a directory, which checks itself at the end."""
    with ledger.open(tmp_path / "runs.ledger", durability="relaxed") as opened:
        yield opened
        opened.log.backend.check()


def _live(book: ledger.Ledger) -> bytes:
    """Return all keys and values that LMDB would give out, blocks unpacked."""
    found = []
    backend: Any = book.log.backend
    with backend._environment.read() as txn:
        for key, value in txn.cursor():
            found += [key, value]
            if key[:1] == BLOCKS:
                found.append(bytes(unpack_body(0, value, read_header(value)).records))
    return b"\0".join(found)


def _runs(book: ledger.Ledger) -> list[Run]:
    backend: Any = book.log.backend
    with backend._environment.read() as txn:
        blocks: list[Block] = list(blocks_from(txn, backend._checks, 1))
    return [run for block in blocks for run in unpack_body(block.position, block.value, block.header).runs]


def _entries(book: ledger.Ledger) -> list[Entry]:
    found: list[Entry] = []
    while page := book.log.backend.read_entries(len(found)):
        found += page
    return found


# ------------------------------------------------------------------------------------------------------- nothing left


@pytest.mark.parametrize("sealed", [False, True])
def test_nothing_alive_in_the_file_tells_the_secret(tmp_path: Path, sealed: bool) -> None:
    """Keys, values, sealed blocks, states, names and the digest of the config: found before, and not after."""
    secret, path = leaky.SECRET.encode(), tmp_path / "runs.ledger"
    with ledger.open(path, durability="relaxed") as book:
        book.log.append_many(leaky.everything())
        if sealed:
            book.log.append([ledger.NoteAdded(str(n)) for n in range(600)], stream="filler")
        configs = [key for key, _ in _configs(book)]
        live = _live(book)
        assert secret in live
        assert all(key in live for key in configs)
        book.redact(*(r.position for r in book.log.read() if type(r.event) in CONTENT), reason="leaked")
        live = _live(book)
    assert secret not in live
    assert not any(key in live for key in configs)
    assert verify(path).ok


def _configs(book: ledger.Ledger) -> list[tuple[bytes, bytes]]:
    backend: Any = book.log.backend
    with backend._environment.read() as txn:
        return list(backend._look(txn).scan(b"lc"))


def test_one_record_of_a_big_append_over_several_blocks(book: ledger.Ledger) -> None:
    """The salt of the append goes from every block that had it; its 1,299 other records and the tree stay as they were."""
    book.log.append([ledger.NoteAdded("before")], stream="s")
    book.log.append([ledger.NoteAdded(f"{SECRET} {n}") for n in range(1300)], stream="s")
    book.log.append([ledger.NoteAdded("after")], stream="s")
    before, runs = _entries(book), _runs(book)
    salt = before[700].salt
    assert [run.count for run in runs if run.salt == salt] == [511, 512, 277]
    book.redact(701, reason="leaked")
    after = _entries(book)
    assert [entry.leaf for entry in after[:-1]] == [entry.leaf for entry in before]
    assert [entry.raw for entry in after[:-1] if entry.raw != before[after.index(entry)].raw] == [after[700].raw]
    assert not any(run.salt == salt for run in _runs(book))
    assert (after[700].salt, after[700].has_own_salt) == (b"", True)
    assert all(entry.has_own_salt and len(entry.salt) == 16 for entry in after[1:700] + after[701:1301])
    assert [entry.has_own_salt for entry in (after[0], after[1301])] == [False, False]
    assert [record.event.text for record in book.log.read(after=699, limit=3)] == [f"{SECRET} 698", "", f"{SECRET} 700"]
    book.redact(1, 2, 1301, 1302, reason="leaked")  # at the edges of blocks and of the append, in two appends more
    texts = [record.event.text for record in book.log.read(types=ledger.NoteAdded)]
    assert [position for position, text in enumerate(texts, 1) if not text] == [1, 2, 701, 1301, 1302]


def test_the_digest_that_stays_cannot_be_guessed_at(book: ledger.Ledger) -> None:
    """Nothing in the file lets the redacted payload's digest be computed for a guess: the salts that are left give another."""
    appended = book.log.append([ledger.NoteAdded(SECRET), ledger.NoteAdded("b")], stream="s")
    book.redact(appended.position, reason="leaked")
    record = next(book.log.read())
    guess = msgspec.msgpack.encode({"text": SECRET})
    from ledger.codec import record_salts

    kept = {run.salt for run in _runs(book)} | {b""}
    tried = kept | {salt for each in kept if each for salt in record_salts(each, 0, 4)}
    assert record.payload_digest not in {hashlib.sha256(salt + guess).digest() for salt in tried}


def test_hundreds_at_once_in_one_append(book: ledger.Ledger) -> None:
    """Every third record of 600 in one call, then the rest in another; each is remembered, and all are erased."""
    book.log.append([ledger.NoteAdded(f"{SECRET} {n}") for n in range(600)], stream="s")
    third = range(1, 601, 3)
    book.redact(*third, reason="leaked")
    assert sum(record.is_redacted for record in book.log.read()) == 200
    book.redact(*(position for position in range(1, 601) if position not in third), reason="leaked")
    assert book.log.backend.redactions() == (600, 600)
    assert SECRET.encode() not in _live(book)


def test_erasure_is_pending_until_the_file_is_rewritten(book: ledger.Ledger) -> None:
    """The count of redactions and of those pending is that of the file, for every handle; a copy of it has none pending."""
    book.log.append([ledger.NoteAdded(SECRET)], stream="s")
    assert book.log.backend.redactions() == (0, 0)
    book.redact(1, reason="leaked")
    assert book.log.backend.redactions() == (1, 1)
    copy = LmdbBackend(Path(book.path).with_name("copy"), identity=book.log.backend.identity)  # type: ignore[attr-defined]
    copy.adopt(_entries(book))
    assert copy.redactions() == (1, 0)
    assert copy.tree_head() == book.log.backend.tree_head()
    copy.check()
    copy.close()
    assert SECRET.encode() not in Path(copy.path, "data.mdb").read_bytes()


def test_a_copy_begun_before_a_redaction_drops_the_salt_too(book: ledger.Ledger) -> None:
    """Entries read before and after one make a copy in which neither the payload nor its append's salt is left."""
    book.log.append([ledger.NoteAdded(f"{SECRET} {n}") for n in range(1300)], stream="s")
    before = _entries(book)
    for target, cut in ((1200, 512), (100, 512), (700, 0), (900, 1300)):
        book.redact(target, reason="leaked")
        mixed = [*before[:cut], *_entries(book)[cut:]]
        identity = book.log.backend.identity  # type: ignore[attr-defined]
        copy = LmdbBackend(Path(book.path).with_name(f"copy{target}"), identity=identity)
        copy.adopt(mixed)
        copy.check()
        assert [entry.leaf for entry in mixed] == [entry.leaf for entry in _entries(book)]
        copy.close()
        with ledger.open(copy.path) as opened:
            assert not any(run.salt == before[0].salt for run in _runs(opened))
            assert [r.position for r in opened.log.read() if r.is_redacted] == [
                r.position for r in book.log.read() if r.is_redacted
            ]


# ------------------------------------------------------------------------------------------- others who have it open


def test_another_handle_forgets_what_it_had_folded(book: ledger.Ledger) -> None:
    """States of ended trials, which handles remember, and tables of another handle lose what was redacted by this one."""
    book.experiment("e").new_trial({"key": SECRET}, label=SECRET).complete({"loss": SECRET})
    with ledger.open(book.path, durability="relaxed") as other:
        trial, tables = other.get_experiment("e").trial(1), projections.Tables(other)
        for thing in (trial.state, tables.trials("e").to_dict()):
            assert SECRET in str(thing)
        book.redact(2, 5, reason="leaked")
        for thing in (trial.state, tables.trials("e").to_dict(), tables.trials("e", as_of=5).to_dict()):
            assert SECRET not in str(thing)
        assert trial.status == "SUCCEEDED"
        trial.note("goes on")
        assert SECRET not in str(trial.state)


def test_another_process_forgets_what_it_had_folded(book: ledger.Ledger, script: Callable[..., Any]) -> None:
    """A process that has shown a state and a table shows them without the payload after the redaction by another."""
    book.experiment("e").new_trial({"key": SECRET}).complete({"loss": 1})
    other = script(
        """
        import sys, time, ledger, projections
        with ledger.open(sys.argv[1], durability="relaxed") as book:
            trial, tables = book.get_experiment("e").trial(1), projections.Tables(book)
            shown = lambda: sys.argv[2] in str(trial.state), sys.argv[2] in str(tables.trials("e").to_dict())
            print(sys.argv[2] in str(trial.state), sys.argv[2] in str(tables.trials("e").to_dict()))
            while not book.log.backend.redactions().total:
                time.sleep(0.01)
            print(sys.argv[2] in str(trial.state), sys.argv[2] in str(tables.trials("e").to_dict()))
        """,
        book.path,
        SECRET,
    )
    assert other.line() == "True True"
    book.redact(2, reason="leaked")
    assert other.finish() == ["False False"]


# --------------------------------------------------------------------------------------------------------- tampering


def _edit(path: Path, change: Callable[[list[bytes], list[Run]], None]) -> None:
    """Change the first block of a ledger, with right checksums."""
    with lmdb.open(str(path)) as env, env.begin(write=True) as txn:
        checks = Checks(msgspec.msgpack.decode(txn.get(IDENTITY_KEY)[8:], type=Identity).ledger_id)
        value = txn.get(block_key(1))
        header = read_header(value)
        body = unpack_body(1, value, header)
        raws = [bytes(raw) for raw in msgspec.msgpack.decode(body.records, type=list[msgspec.Raw])]
        runs = list(body.runs)
        change(raws, runs)
        times = header.first_recorded_at, header.last_recorded_at
        txn.put(block_key(1), checks.pack_block(1, raws, runs, header.types, times, sealed=bool(header.flags)))


@pytest.fixture
def redacted(tmp_path: Path) -> Path:
    """A ledger whose second record is redacted."""
    path = tmp_path / "redacted.ledger"
    with ledger.open(path) as book:
        book.log.append([ledger.NoteAdded("a"), ledger.NoteAdded(SECRET), ledger.NoteAdded("b")], stream="s")
        book.redact(2, reason="leaked")
    assert verify(path).ok
    return path


def test_a_changed_remainder_is_found(redacted: Path) -> None:
    """What remains of a redacted record is not hashed with it, but its redaction says what it is."""

    def put_words_in(raws: list[bytes], runs: list[Run]) -> None:
        assert b"\x81\xa4text\xa0" in raws[1]
        raws[1] = raws[1].replace(b"\x81\xa4text\xa0", b"\x81\xa4text\xa3yes")

    _edit(redacted, put_words_in)
    with ledger.open(redacted, readonly=True) as book:
        assert [record.event.text for record in book.log.read(limit=3)] == ["a", "yes", "b"]  # nothing else would tell
    assert any("position 2 is not what its redaction left" in problem for problem in verify(redacted).problems)


def test_a_changed_digest_is_found(redacted: Path) -> None:
    """The digest of the dropped payload is under the Merkle root."""

    def flip(raws: list[bytes], runs: list[Run]) -> None:
        raws[1] = raws[1][:-1] + bytes((raws[1][-1] ^ 1,))

    _edit(redacted, flip)
    assert any("Merkle" in problem for problem in verify(redacted).problems)


def test_a_payload_dropped_without_a_redaction_is_found(redacted: Path) -> None:
    """A record redacted by hand keeps its hash, but no record says why."""
    from ledger.codec import decode_envelopes, redact_record

    def drop(raws: list[bytes], runs: list[Run]) -> None:
        (envelope,) = decode_envelopes(b"\x91" + raws[0])
        raws[0] = redact_record(raws[0], envelope, runs[0].salt, b"\x81\xa4text\xa0")
        assert runs[0].first_ordinal == OWN_SALT
        runs[0] = Run(1, OWN_SALT, b"")

    _edit(redacted, drop)
    assert verify(redacted).problems == ["the record at position 1 has lost its payload, and no record says why."]


def test_a_payload_put_back_is_found(redacted: Path) -> None:
    """A redacted record that has a payload again contradicts the record that says it was dropped."""

    def put_back(raws: list[bytes], runs: list[Run]) -> None:
        raws[1] = b"\x9b" + raws[1][1:].split(b"\x81\xa4text")[0] + msgspec.msgpack.encode({"text": SECRET})

    _edit(redacted, put_back)
    assert any("is redacted, and still there" in problem for problem in verify(redacted).problems)


# ----------------------------------------------------------------------------------------------- verify meanwhile


def test_verify_raises_no_alarm_when_a_record_it_has_read_is_redacted(book: ledger.Ledger) -> None:
    """It has read the payload, and reads later that it was dropped: it looks again instead of telling a problem."""
    for _ in range(4):
        book.log.append([ledger.NoteAdded(SECRET) for _ in range(512)], stream="s")
    told: list[int] = []

    def redact_behind(done: int, total: int) -> None:
        if not told:
            book.redact(1, 1100, reason="leaked")
        told.append(done)

    with mock.patch.object(check, "_BLOCKS_PER_READ", 1):
        looking = check.LogCheck(Path(book.path), redact_behind)
        looking.run()
        looking.close()
    assert (looking.problems, looking.position, told[0]) == ([], 2050, 512)


def test_verify_raises_no_alarm_while_others_redact(book: ledger.Ledger) -> None:
    """Again and again, with trials whose states are made again meanwhile."""
    exp = book.experiment("e")
    exp.new_trials([{"key": SECRET, "n": n % 7} for n in range(1500)])
    for trial in list(exp.trials())[:50]:
        trial.complete({"loss": SECRET})
    stop = threading.Event()

    def redact() -> None:
        for position in range(2, 60):
            book.redact(position, reason="leaked")
            if stop.wait(0.02):
                return

    writer = threading.Thread(target=redact)
    writer.start()
    try:
        begun = time.monotonic()
        problems = []
        while time.monotonic() - begun < 1 or (writer.is_alive() and book.log.backend.redactions().total <= 5):
            looking = check.LogCheck(Path(book.path))
            looking.run()
            looking.close()
            problems += looking.problems
    finally:
        stop.set()
        writer.join()
    assert problems == []
    assert book.log.backend.redactions().total > 5
