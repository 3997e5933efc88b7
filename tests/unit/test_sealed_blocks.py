"""Reading single records of sealed blocks, which stay unpacked for a while."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import ledger
from ledger.backends.blocks import UnpackedBlocks, blocks_from
from ledger.backends.lmdb import LmdbBackend
from ledger.format import MAX_BLOCK_RECORDS, block_key

SECRET = "hunter2"


@pytest.fixture
def backend(tmp_path: Path) -> Any:
    """A log of two sealed blocks and one that is not."""
    with ledger.open(tmp_path / "sealed.ledger") as book:
        texts = ["x" * (number % 50) for number in range(2 * MAX_BLOCK_RECORDS)]
        book.log.append([ledger.NoteAdded(text) for text in texts], stream="s")
        book.log.append([ledger.NoteAdded(SECRET)], stream="s")
        assert isinstance(book.log.backend, LmdbBackend)
        yield book.log.backend


def test_any_positions_are_read_as_when_all_are(backend: LmdbBackend) -> None:
    """Whichever records are asked for, they are those that reading everything gives."""
    every = list(ledger.EventLog(backend).read())
    choose = random.Random(1)
    for count in (1, 2, 3, 17, 100, 300, 1000):
        positions = sorted(choose.sample(range(1, len(every) + 1), count))
        assert backend.read_positions(positions) == [every[position - 1] for position in positions]


def test_a_block_that_was_read_before_is_tested_again(backend: LmdbBackend) -> None:
    """A bit that flips on disk after a block was unpacked is found by the next read of it."""
    assert backend.read_positions([7])[0].position == 7

    def flip(txn: Any) -> None:
        value = txn.get(block_key(1))
        txn.put(block_key(1), value[:-1] + bytes((value[-1] ^ 1,)))

    backend._environment.write(flip)
    try:
        with pytest.raises(ledger.Corrupted, match="checksum"):
            backend.read_positions([7])
    finally:
        backend._environment.write(flip)


def test_a_redaction_shows_in_a_block_that_was_read_before(tmp_path: Path) -> None:
    """A payload that was dropped is not handed out from what was unpacked before."""
    with ledger.open(tmp_path / "redacted.ledger") as book:
        texts = ["a"] * 300 + [SECRET] + ["b"] * 300
        book.log.append([ledger.NoteAdded(text) for text in texts], stream="s")
        assert book.log.backend.read_positions([301])[0].event.text == SECRET
        book.redact(301, reason="leaked")
        (record,) = book.log.backend.read_positions([301])
        assert record.is_redacted
        assert SECRET not in repr(record)


def test_a_few_blocks_stay_unpacked(backend: LmdbBackend) -> None:
    """The same block is unpacked once, while not too many others come between."""
    with backend._environment.read() as txn:
        first, second, _ = blocks_from(txn, backend._checks, 1)
    unpacked = UnpackedBlocks(size=1)
    body = unpacked.take(first)
    assert unpacked.take(first) is body
    assert unpacked.take(second).records != body.records
    assert unpacked.take(first) is not body
