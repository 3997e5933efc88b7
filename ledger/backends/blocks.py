"""Blocks of records in LMDB: find them, read them, write them, seal them."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from typing import Any, NamedTuple

import msgspec

from ledger.codec import decode_records, encode_types, record_salts
from ledger.errors import Corrupted
from ledger.format import (
    BLOCKS,
    CHECK_BYTES,
    GROUP_RECORDS,
    MAX_BLOCK_BYTES,
    MAX_BLOCK_RECORDS,
    OWN_SALT,
    SEAL_BYTES,
    SEAL_RECORDS,
    BlockHeader,
    Body,
    Checks,
    Head,
    Run,
    array_header,
    block_key,
    block_position,
    unpack_body,
)
from ledger.records import Record

_raw_records = msgspec.msgpack.Decoder(list[msgspec.Raw])


class Peek(msgspec.Struct, frozen=True, array_like=True):
    """The first fields of a record: enough to describe a block."""

    type: str
    schema: int
    position: int
    stream: str
    version: int
    recorded_at: int
    append_id: bytes


_peek = msgspec.msgpack.Decoder(Peek)


class Stored(msgspec.Struct, frozen=True, gc=False):
    """A record's bytes, with what its block must know of it."""

    raw: bytes
    salt: bytes  # of its append, or its own
    ordinal: int  # OWN_SALT when the salt is the record's own
    type: tuple[str, int]
    recorded_at: int
    append_id: bytes


class Block(NamedTuple):
    """A block as read, tested but not unpacked."""

    position: int
    value: bytes
    header: BlockHeader

    @property
    def last(self) -> int:
        """The position of the block's last record."""
        return self.position + self.header.count - 1

    @property
    def is_sealed(self) -> bool:
        """Whether it is compressed, and will not be put together with others again."""
        return bool(self.header.flags)

    def unpack(self) -> Body:
        """Return what is in the block."""
        return unpack_body(self.position, self.value, self.header)

    def stored(self) -> list[Stored]:
        """Return all records as bytes, with where their salts come from."""
        body = self.unpack()
        found = []
        origins = ((run.salt, _ordinal(run, i)) for run in body.runs for i in range(run.count))
        try:
            for raw, (salt, ordinal) in zip(_raw_records.decode(body.records), origins, strict=True):
                peek = _peek.decode(raw)
                found.append(Stored(bytes(raw), salt, ordinal, (peek.type, peek.schema), peek.recorded_at, peek.append_id))
        except (msgspec.MsgspecError, ValueError) as error:
            raise Corrupted(
                f"the block at position {self.position} does not hold what it says: {error}.", self.position
            ) from error
        return found

    def records(self) -> list[Record]:
        """Decode all records."""
        return self.decode(self.unpack())

    def decode(self, body: Body) -> list[Record]:
        """Decode all records of the block, which has been unpacked."""
        records = decode_records(body.records, self.header.types)
        if len(records) != self.header.count or records[0].position != self.position:
            raise Corrupted(f"the block at position {self.position} does not hold the records its header names.", self.position)
        return records

    def records_at(self, positions: Sequence[int], unpacked: UnpackedBlocks | None = None) -> list[Record]:
        """Decode only the records at the positions, which are ascending."""
        body = unpacked.take(self) if unpacked is not None and self.is_sealed else self.unpack()
        if len(positions) * 2 > self.header.count:
            every = self.decode(body)
            return [every[position - self.position] for position in positions]
        raws = self._pick(body, [position - self.position for position in positions])
        records = decode_records(array_header(len(raws)) + b"".join(raws), self.header.types)
        for position, record in zip(positions, records, strict=True):
            if record.position != position:
                raise Corrupted(f"the block at position {self.position} has another record in place of {position}.", position)
        return records

    def _pick(self, body: Body, places: list[int]) -> list[msgspec.Raw]:
        """Return the bytes of the records at places counted from 0, passing over whole groups of others."""
        ends = list(accumulate(body.group_sizes, initial=len(array_header(self.header.count))))
        picked: list[msgspec.Raw] = []
        try:
            for group, members in groupby(places, lambda place: place // GROUP_RECORDS):
                count = min(GROUP_RECORDS, self.header.count - group * GROUP_RECORDS)
                raws = _raw_records.decode(array_header(count) + body.records[ends[group] : ends[group + 1]])
                picked += [raws[place % GROUP_RECORDS] for place in members]
        except (msgspec.MsgspecError, IndexError) as error:
            raise Corrupted(
                f"the block at position {self.position} is not divided as it says: {error}.", self.position
            ) from error
        return picked


class UnpackedBlocks:
    """The sealed blocks that were unpacked last, for who reads one record here and one there: to unpack is most of that.

    A block is known by its check, which is tested again each time it is read. Each takes some 0.2 MB, 1 MB at most unless a
    record is larger.
    """

    def __init__(self, size: int = 16) -> None:
        self._size = size
        self._bodies: dict[tuple[int, bytes], Body] = {}
        self._lock = threading.Lock()

    def take(self, block: Block) -> Body:
        """Return what is in a tested block; the one used longest ago makes room."""
        key = block.position, block.value[:CHECK_BYTES]
        with self._lock:
            body = self._bodies.pop(key, None)
        if body is None:
            body = block.unpack()
        with self._lock:
            self._bodies[key] = body
            if len(self._bodies) > self._size:
                del self._bodies[next(iter(self._bodies))]
        return body


@functools.lru_cache(maxsize=256)
def type_names(types: bytes) -> frozenset[str]:
    """Return the names in a block's encoded list of types."""
    return frozenset(name for name, _ in msgspec.msgpack.decode(types))


def find_block(txn: Any, checks: Checks, position: int) -> Block | None:
    """Return the block that contains the position, or None when the log ends before it.

    It is the one with the last key not above the position: its own key may be well below, and may be another one a
    moment later, when small blocks have been sealed into one.
    """
    cursor = txn.cursor()
    key = block_key(position)
    if not (cursor.set_range(key) and cursor.key() == key) and not (cursor.prev() and cursor.key()[:1] == BLOCKS):
        return None
    block = _open(checks, cursor.key(), cursor.value())
    if block.position > position:
        raise Corrupted(f"the index 'blocks' is out of order at position {position}.", position)
    return block if position <= block.last else None


def blocks_from(txn: Any, checks: Checks, position: int) -> Iterator[Block]:
    """Iterate over the blocks from the one that contains the position; Corrupted when one is missing between two."""
    first = find_block(txn, checks, position)
    if first is None:
        return
    yield first
    cursor = txn.cursor()
    cursor.set_key(block_key(first.position))
    expected = first.last + 1
    while cursor.next() and cursor.key()[:1] == BLOCKS:
        block = _open(checks, cursor.key(), cursor.value())
        if block.position != expected:
            raise Corrupted(f"the records from position {expected} to {block.position - 1} are missing.", expected)
        yield block
        expected = block.last + 1


def _open(checks: Checks, key: bytes, value: bytes) -> Block:
    position = block_position(key)
    return Block(position, value, checks.open_block(position, value))


class Written(NamedTuple):
    """Where the records that are not sealed begin, and their size; and those that were sealed just now."""

    unsealed_from: int
    unsealed_bytes: int
    sealed: list[Stored]


def write_blocks(txn: Any, checks: Checks, head: Head, new: list[Stored]) -> Written:
    """Write new records after the head.

    Small blocks gather at the end of the log. When they and the new records are enough for a full block, all of them
    are repacked into compressed blocks in this same transaction.
    """
    unsealed_bytes = head.unsealed_bytes + sum(len(record.raw) for record in new)
    unsealed = head.position + len(new) - head.unsealed_from + 1
    first = head.position + 1
    if unsealed < SEAL_RECORDS and unsealed_bytes < SEAL_BYTES:
        put_block(txn, checks, first, new, sealed=False)
        return Written(head.unsealed_from, unsealed_bytes, [])
    if head.unsealed_from < first:
        new = _take_unsealed(txn, checks, head.unsealed_from) + new
        first = head.unsealed_from
    for chunk in _cut(new):
        put_block(txn, checks, first, chunk, sealed=True)
        first += len(chunk)
    return Written(first, 0, new)


def _take_unsealed(txn: Any, checks: Checks, position: int) -> list[Stored]:
    """Delete the blocks from the position on, and return their records."""
    taken = list(blocks_from(txn, checks, position))
    records: list[Stored] = []
    for block in taken:
        records += block.stored()
        txn.delete(block_key(block.position))
    return records


def _cut(records: list[Stored]) -> Iterator[list[Stored]]:
    """Cut records into pieces that fit a block."""
    if len(records) <= MAX_BLOCK_RECORDS and sum(len(record.raw) for record in records) <= MAX_BLOCK_BYTES:
        yield records
        return
    piece: list[Stored] = []
    size = 0
    for record in records:
        if piece and (len(piece) == MAX_BLOCK_RECORDS or size + len(record.raw) > MAX_BLOCK_BYTES):
            yield piece
            piece, size = [], 0
        piece.append(record)
        size += len(record.raw)
    if piece:
        yield piece


def put_block(txn: Any, checks: Checks, position: int, records: list[Stored], *, sealed: bool) -> None:
    """Write one block, in place of the one that is there."""
    types = encode_types({record.type for record in records})
    times = (records[0].recorded_at, records[-1].recorded_at)
    raws = [record.raw for record in records]
    value = checks.pack_block(position, raws, list(_runs(records)), types, times, sealed=sealed)
    txn.put(block_key(position), value)


def _runs(records: Sequence[Stored]) -> Iterator[Run]:
    """Group records that follow each other in one append."""
    first_record, last_record = records[0], records[-1]
    if first_record.salt == last_record.salt and last_record.ordinal - first_record.ordinal == len(records) - 1 > 0:
        yield Run(len(records), first_record.ordinal, first_record.salt)  # all are of one append, as most blocks are
        return
    salt, first, count = b"", 0, 0
    for record in records:
        if record.salt == salt and record.ordinal == first + count and first != OWN_SALT:
            count += 1
            continue
        if count:
            yield Run(count, first, salt)
        salt, first, count = record.salt, record.ordinal, 1
    if count:
        yield Run(count, first, salt)


def run_salts(run: Run) -> list[bytes]:
    """Return the salts of a run's records, each its own."""
    return [run.salt] if run.first_ordinal == OWN_SALT else record_salts(run.salt, run.first_ordinal, run.count)


def _ordinal(run: Run, index: int) -> int:
    return OWN_SALT if run.first_ordinal == OWN_SALT else run.first_ordinal + index


def own_salt(record: Stored) -> bytes:
    """Return the record's own salt."""
    return record.salt if record.ordinal == OWN_SALT else record_salts(record.salt, record.ordinal, 1)[0]
