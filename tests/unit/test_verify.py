"""verify: it passes what is right, and finds what is not, each kind of damage by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import msgspec
import pytest

import ledger
from ledger.audit import verify
from ledger.backends.lmdb import LmdbBackend
from ledger.codec import encode_state
from ledger.format import (
    APPENDS,
    BLOCKS,
    HEAD_KEY,
    IDENTITY_KEY,
    JOBS,
    LISTS,
    NAMES,
    POSTINGS,
    TILES,
    Checks,
    Head,
    Identity,
    read_header,
    unpack_body,
)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A ledger with something in every index, to be damaged by the test."""
    path = tmp_path / "damaged.ledger"
    with ledger.open(path) as book:
        exp = book.experiment("e")
        exp.new_trials([{"n": n} for n in range(600)])
        for _ in range(5):
            trial = exp.claim()
            assert trial is not None
            trial.complete({"x": 1})
        assert exp.claim() is not None
    assert verify(path).ok
    return path


def _edit(path: Path, change: Callable[[Any, Checks], None]) -> None:
    with lmdb.open(str(path)) as env, env.begin(write=True) as txn:
        identity = msgspec.msgpack.decode(txn.get(IDENTITY_KEY)[8:], type=Identity)
        change(txn, Checks(identity.ledger_id))


def _first(txn: Any, kind: bytes) -> tuple[bytes, bytes]:
    cursor = txn.cursor()
    assert cursor.set_range(kind)
    assert cursor.key()[:1] == kind
    return cursor.key(), cursor.value()


def test_a_clean_ledger_passes_with_its_root(book: ledger.Ledger) -> None:
    """The report gives head and root of what was checked, and the progress ends at the head."""
    book.log.append([ledger.NoteAdded(str(n)) for n in range(2000)], stream="s")
    told: list[tuple[int, int]] = []
    report = book.verify(lambda done, total: told.append((done, total)))
    assert report.ok
    assert (report.head, report.root) == book.log.backend.tree_head()
    assert told[-1] == (2000, 2000)


def test_an_empty_ledger_passes(book: ledger.Ledger) -> None:
    """No records, no problems."""
    assert book.verify() == book.verify()._replace(problems=[], head=0, seconds=pytest.approx(0, abs=60))


def test_verify_of_what_is_no_ledger_is_an_open_error(tmp_path: Path) -> None:
    """A missing path, a file, an empty directory and a file of garbage."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / "data.mdb").write_bytes(b"garbage" * 9999)
    for name in ("none", "file", "empty", "garbage"):
        with pytest.raises(ledger.OpenError):
            verify(tmp_path / name)


@pytest.mark.parametrize("kind", [BLOCKS, APPENDS, LISTS, POSTINGS, NAMES, JOBS, TILES])
def test_an_entry_that_is_gone_is_found(damaged: Path, kind: bytes) -> None:
    """A hidden entry of any index shows: silence is what a lost page looks like."""
    _edit(damaged, lambda txn, checks: txn.delete(_first(txn, kind)[0]))
    assert not verify(damaged).ok


@pytest.mark.parametrize("kind", [BLOCKS, APPENDS, LISTS, POSTINGS, NAMES, JOBS, TILES])
def test_a_flipped_bit_in_an_entry_is_found(damaged: Path, kind: bytes) -> None:
    """A changed value of any index fails its checksum."""

    def flip(txn: Any, checks: Checks) -> None:
        key, value = _first(txn, kind)
        txn.put(key, value[:-1] + bytes((value[-1] ^ 1,)))

    _edit(damaged, flip)
    report = verify(damaged)
    assert not report.ok
    assert "checksum" in report.problems[0]


@pytest.mark.parametrize("kind", [APPENDS, LISTS, NAMES, JOBS, TILES])
def test_a_stranger_in_an_index_is_found(damaged: Path, kind: bytes) -> None:
    """An entry with a right checksum that the records do not account for."""

    def add(txn: Any, checks: Checks) -> None:
        key, value = _first(txn, kind)
        stranger = key[:-1] + bytes((key[-1] ^ 0x55,))
        txn.put(stranger, checks.seal(stranger, value[4:]))

    _edit(damaged, add)
    assert not verify(damaged).ok


@pytest.mark.parametrize("place", [0, 1, 300, -1])
@pytest.mark.parametrize("byte", [17, -1], ids=["queue", "number"])
def test_a_trial_that_waits_behind_a_damaged_key_is_not_passed_over(damaged: Path, place: int, byte: int) -> None:
    """A flipped bit in a key of the index of jobs: claims raise, they do not say that none waits."""

    def rename(txn: Any, checks: Checks) -> None:
        keys = [key for key, _ in txn.cursor() if key[:1] == JOBS]
        key, value = keys[place], txn.get(keys[place])
        changed = bytearray(key)
        changed[byte] ^= 0x40
        txn.delete(key)
        txn.put(bytes(changed), value)

    _edit(damaged, rename)
    with ledger.open(damaged) as book, book.log.backend.view() as view:
        identity = book.get_experiment("e").state.id
        with pytest.raises(ledger.Corrupted, match="checksum"):
            (view.ready(identity, limit=1000), view.first_leased(identity))
    assert not verify(damaged).ok


def test_a_log_without_its_head_is_not_taken_for_empty(damaged: Path) -> None:
    """The next append would be written over the first record."""
    _edit(damaged, lambda txn, checks: txn.delete(HEAD_KEY))
    with pytest.raises(ledger.Corrupted, match=r"'head' value is missing"):
        ledger.open(damaged)
    assert "'head' value is missing" in verify(damaged).problems[0]


def _rewrite(txn: Any, checks: Checks, change: Callable[[list[bytes]], None]) -> None:
    """Change the records of the first block, and give it a right checksum."""
    key, value = _first(txn, BLOCKS)
    position = int.from_bytes(key[1:], "big")
    header = read_header(value)
    body = unpack_body(position, value, header)
    raws = [bytes(raw) for raw in msgspec.msgpack.decode(body.records, type=list[msgspec.Raw])]
    change(raws)
    times = header.first_recorded_at, header.last_recorded_at
    txn.put(key, checks.pack_block(position, raws, body.runs, header.types, times, sealed=True))


def test_a_rewritten_record_is_found_by_the_tree(damaged: Path) -> None:
    """Bytes altered together with the block's checksum: the Merkle root no longer fits."""

    def rewrite(raws: list[bytes]) -> None:
        assert b"\xa1n\x05" in raws[6]
        raws[6] = raws[6].replace(b"\xa1n\x05", b"\xa1n\x06")

    _edit(damaged, lambda txn, checks: _rewrite(txn, checks, rewrite))
    report = verify(damaged)
    assert any("Merkle" in problem for problem in report.problems)


@pytest.mark.parametrize("sizes", [[], [1], [10**6] * 32, [2, 3] * 20])
def test_a_block_divided_wrongly_is_found(damaged: Path, sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes of groups of records that are not theirs, with a right checksum: no record is read in place of another."""
    monkeypatch.setattr("ledger.format.group_sizes", lambda records: sizes)
    _edit(damaged, lambda txn, checks: _rewrite(txn, checks, lambda raws: None))
    monkeypatch.undo()
    assert any("groups" in problem for problem in verify(damaged).problems)
    with ledger.open(damaged) as book, pytest.raises(ledger.Corrupted):
        book.log.backend.read_positions([20, 40])


def test_a_forged_state_is_found(damaged: Path) -> None:
    """A kept state that its records do not lead to, with a right checksum."""

    def forge(txn: Any, checks: Checks) -> None:
        from ledger.backends.postings import entry_decoder
        from ledger.codec import decode_experiment_state

        cursor = txn.cursor()
        cursor.set_range(b"le")
        key, entry = cursor.key(), entry_decoder.decode(cursor.value()[4:])
        state = decode_experiment_state(entry.state)
        entry.state = encode_state(msgspec.structs.replace(state, next_trial_id=1))
        txn.put(key, checks.seal(key, msgspec.msgpack.encode(entry)))

    _edit(damaged, forge)
    assert any("kept state" in problem for problem in verify(damaged).problems)


def test_a_log_cut_short_is_found(damaged: Path) -> None:
    """A head that names more records than there are, and one that names fewer."""
    for shift in (1, -1):

        def cut(txn: Any, checks: Checks, shift: int = shift) -> None:
            head = msgspec.msgpack.decode(txn.get(HEAD_KEY)[8:], type=Head)
            moved = msgspec.structs.replace(head, position=head.position + shift)
            txn.put(HEAD_KEY, checks.seal_meta(HEAD_KEY, msgspec.msgpack.encode(moved)))

        _edit(damaged, cut)
        assert not verify(damaged).ok
        _edit(damaged, lambda txn, checks: cut(txn, checks, -shift))  # noqa: B023
    assert verify(damaged).ok


def test_damage_that_kills_the_reader_is_told(damaged: Path) -> None:
    """Pages of zeros in the middle of the file: verify answers, whatever LMDB does to the process that reads."""
    with (damaged / "data.mdb").open("r+b") as file:
        file.seek(8 * 4096)
        file.write(b"\0" * 4096 * 4)
    report = verify(damaged)
    assert not report.ok


def test_the_first_bad_position_is_named(tmp_path: Path) -> None:
    """A damaged block is named by the position of its first record, and the blocks after it are still checked."""
    path = tmp_path / "l"
    with ledger.open(path) as book:
        for _ in range(4):
            book.log.append([ledger.NoteAdded("x") for _ in range(512)], stream="s")

    def flip(txn: Any, checks: Checks) -> None:
        key = BLOCKS + (513).to_bytes(8, "big")
        value = txn.get(key)
        txn.put(key, value[:-1] + bytes((value[-1] ^ 1,)))

    _edit(path, flip)
    report = verify(path)
    assert "position 513" in report.problems[0]
    assert report.head == 2048
    with ledger.open(path) as book:
        assert len(list(book.log.read(after=1024))) == 1024
        with pytest.raises(ledger.Corrupted, match="position 513") as caught:
            list(book.log.read())
        assert caught.value.position == 513


def test_the_in_process_check_finds_the_same(damaged: Path) -> None:
    """Backend.check raises Corrupted for what verify reports."""
    backend = LmdbBackend(damaged)
    backend.check()
    backend.close()
    _edit(damaged, lambda txn, checks: txn.delete(_first(txn, NAMES)[0]))
    backend = LmdbBackend(damaged)
    with pytest.raises(ledger.Corrupted, match="names"):
        backend.check()
    backend.close()
