"""The file format: keys, values, and the check on each of them. Format 1: frozen; ``README.md`` beside this has every byte.

All of it is in LMDB's main database (named ones could not be opened while another process writes). The first byte of a
key says what kind of entry it is:

====  ========  =======================================================  =============================================
byte  kind      rest of the key                                          value
====  ========  =======================================================  =============================================
m     meta      ``format``, ``head``                                     Identity; Head
b     blocks    position of the first record, 8 bytes big endian         a block of 1 to 512 records, ``pack_block``
a     appends   append id (or a record's own id), 16 bytes               position and number of records; of sealed ones
                                                                         only where ``ledger.backends.appendindex`` says
l     lists     ``s`` stream, ``e`` experiment id, or ``c`` config       ListEntry: positions, and the state if kept
p     postings  list id and first position, 8 bytes each                 older positions, ``ledger.backends.postings``
n     names     digest of a live experiment's name                       the name and the experiment's id
j     jobs      experiment, queue, order                                 nothing: trials in the order of claiming
t     tiles     level and index                                          root of a complete subtree of the Merkle tree
====  ========  =======================================================  =============================================

Every value begins with a check over the ledger's id, the key and the rest of the value: LMDB has none, and returns wrong
bytes silently for most flipped bits. Blocks, Identity and Head carry 8 bytes of SHA-256, the others a CRC-32.
"""

import functools
import hashlib
import struct
import threading
import zlib
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import msgspec
import zstandard

from ledger.errors import Corrupted, UnsupportedFormat

FORMAT = 1
MAX_POSITION = 2**63 - 1

META, BLOCKS, APPENDS, LISTS, POSTINGS, NAMES, JOBS, TILES = b"m", b"b", b"a", b"l", b"p", b"n", b"j", b"t"
KINDS = {
    META: "meta", BLOCKS: "blocks", APPENDS: "appends", LISTS: "lists",
    POSTINGS: "postings", NAMES: "names", JOBS: "jobs", TILES: "tiles",
}  # fmt: skip

IDENTITY_KEY = META + b"format"
HEAD_KEY = META + b"head"

MAX_BLOCK_RECORDS = 512
MAX_BLOCK_BYTES = 1 << 20  # of records, unless a single one is larger
_MAX_UNPACKED_BYTES = 1 << 26  # many times what that comes to: a block that says more is not one
SEAL_RECORDS = 512
SEAL_BYTES = 1 << 20
ZSTD_LEVEL = 3
GROUP_RECORDS = 16  # whose size is kept, so that one record is found without decoding all before it

CHECK_BYTES = 8  # of blocks and meta values
_FLAG_ZSTD = 1
_HEADER = struct.Struct(">8sBHQQHH")  # check, flags, count, first and last recorded_at, lengths of the types and the index

_encoder = msgspec.msgpack.Encoder()


class Identity(msgspec.Struct, frozen=True):
    """What the ledger is; written once."""

    format: int
    ledger_id: bytes
    created_at: int
    created_by: str


class Head(msgspec.Struct, frozen=True, array_like=True):
    """Where the log ends; the one value that every commit writes."""

    position: int = 0
    recorded_at: int = 0
    unsealed_from: int = 1  # position of the first record in a block that is not sealed
    unsealed_bytes: int = 0
    edge: list[bytes] = []  # of the Merkle tree over the records 1..position
    redactions: int = 0
    erased: int = 0  # redactions up to this one left no byte in the file: it has been compacted since


#: ``Run.first_ordinal`` of a record that has a salt of its own, since a redaction dropped that of its append.
OWN_SALT = -1


class Run(msgspec.Struct, frozen=True, array_like=True):
    """Records in a row of a block that belong to one append: from them and the salt come the records' salts.

    With ``OWN_SALT`` for ``first_ordinal`` it is one record, and the salt its own; empty when the record is redacted.
    """

    count: int
    first_ordinal: int
    salt: bytes


class Body(NamedTuple):
    """The content of a block; the records stay bytes."""

    runs: list[Run]
    group_sizes: list[int]  # bytes of the first 16 records, of the next ...
    records: memoryview  # one MessagePack array


class BlockHeader(msgspec.Struct, frozen=True):
    """What is known of a block without unpacking it."""

    flags: int
    count: int
    first_recorded_at: int
    last_recorded_at: int
    types: bytes  # encoded list of (type, schema)
    start: int  # of the body, which begins with the index: runs and group sizes
    index_bytes: int


_of_thread = threading.local()  # zstandard's objects are made once a thread: one at a time may use each


def _compressor() -> zstandard.ZstdCompressor:
    if not hasattr(_of_thread, "compressor"):
        _of_thread.compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
    made: zstandard.ZstdCompressor = _of_thread.compressor
    return made


def _decompressor() -> zstandard.ZstdDecompressor:
    if not hasattr(_of_thread, "decompressor"):
        _of_thread.decompressor = zstandard.ZstdDecompressor()
    made: zstandard.ZstdDecompressor = _of_thread.decompressor
    return made


_index_decoder = msgspec.msgpack.Decoder(tuple[list[Run], list[int]])


class Checks:
    """Make and test the checks of one ledger's values."""

    def __init__(self, ledger_id: bytes) -> None:
        self._ledger_id = ledger_id
        self._seed = zlib.crc32(ledger_id)

    # -- index entries

    def seal(self, key: bytes, content: bytes) -> bytes:
        """Put the check before the content of an index entry."""
        return zlib.crc32(content, zlib.crc32(key, self._seed)).to_bytes(4, "big") + content

    def open(self, key: bytes, value: bytes) -> bytes:
        """Test an index entry and return its content; Corrupted when the check fails."""
        content = value[4:]
        if zlib.crc32(content, zlib.crc32(key, self._seed)).to_bytes(4, "big") != value[:4]:
            raise Corrupted(f"an entry of the index {KINDS.get(key[:1], 'unknown')!r} fails its checksum (key {key!r}).")
        return content

    # -- meta values and blocks

    def _digest(self, key: bytes, content: bytes | memoryview) -> bytes:
        # The identity's check cannot depend on the id that it holds.
        digest = hashlib.sha256(key if key == IDENTITY_KEY else self._ledger_id + key)
        digest.update(content)
        return digest.digest()[:CHECK_BYTES]

    def seal_meta(self, key: bytes, content: bytes) -> bytes:
        """Put the check before a meta value."""
        return self._digest(key, content) + content

    def open_meta(self, key: bytes, value: bytes) -> bytes:
        """Test a meta value and return its content; Corrupted when the check fails."""
        if self._digest(key, value[CHECK_BYTES:]) != value[:CHECK_BYTES]:
            raise Corrupted(f"the ledger's {key[1:].decode(errors='replace')!r} value fails its checksum.")
        return value[CHECK_BYTES:]

    def pack_block(
        self, position: int, records: list[bytes], runs: list[Run], types: bytes, times: tuple[int, int], *, sealed: bool
    ) -> bytes:
        """Make a block: check, header, types, body; the body, which is index and records, is compressed when it is sealed."""
        index = _encoder.encode((runs, group_sizes(records)))
        body = b"".join((index, array_header(len(records)), *records))
        if sealed:
            body = _compressor().compress(body)
        header = _HEADER.pack(b"", _FLAG_ZSTD if sealed else 0, len(records), *times, len(types), len(index))
        rest = header[CHECK_BYTES:] + types + body
        return self._digest(block_key(position), rest) + rest

    def open_block(self, position: int, value: bytes) -> BlockHeader:
        """Test a block and return its header; Corrupted when the check fails."""
        if (
            position > MAX_POSITION
            or len(value) < _HEADER.size
            or self._digest(block_key(position), memoryview(value)[CHECK_BYTES:]) != value[:CHECK_BYTES]
        ):
            raise Corrupted(f"the block at position {position} fails its checksum.", position)
        return read_header(value)


def read_identity(value: bytes, path: str) -> Identity:
    """Return the identity from its stored value; UnsupportedFormat for another format, Corrupted for damage."""
    try:  # the format first: a version that this one does not know can at least be named
        version = msgspec.msgpack.decode(value[CHECK_BYTES:]).get("format")
    except (msgspec.MsgspecError, AttributeError, UnicodeDecodeError, RecursionError):
        version = None
    if isinstance(version, int) and version > FORMAT:
        raise UnsupportedFormat(
            f"{path} has format {version}; this version reads up to {FORMAT}. Upgrade: pip install -U experiment-ledger."
        )
    content = Checks(b"").open_meta(IDENTITY_KEY, value)
    try:
        identity = msgspec.msgpack.decode(content, type=Identity)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Corrupted(f"the ledger's identity cannot be read: {error}.") from error
    if identity.format < FORMAT:  # after its check: no flipped bit makes a ledger an old one
        raise UnsupportedFormat(
            f"{path} has format {identity.format}, which came before the first that was frozen; this version reads {FORMAT}. "
            "Take its records over: `ledger export` with the version that wrote it, then `ledger import` with this one."
        )
    return identity


def block_position(key: bytes) -> int:
    """Return the position from a block's key; Corrupted for a key of another length, which is none."""
    if len(key) != BLOCK_KEY_BYTES:
        raise Corrupted(f"the index 'blocks' has the key {key[:20]!r}, which is none.")
    return int.from_bytes(key[1:], "big")


def read_header(value: bytes) -> BlockHeader:
    """Return a block's header, untested."""
    _, flags, count, first, last, types_bytes, index_bytes = _HEADER.unpack_from(value)
    start = _HEADER.size + types_bytes
    return BlockHeader(flags, count, first, last, value[_HEADER.size : start], start, index_bytes)


def unpack_body(position: int, value: bytes, header: BlockHeader) -> Body:
    """Return the content of a tested block."""
    content = memoryview(value)[header.start :]
    try:
        if header.flags & _FLAG_ZSTD:
            if zstandard.frame_content_size(content) > _MAX_UNPACKED_BYTES:  # memory is taken for what it says
                raise Corrupted(f"the block at position {position} would be larger than blocks are.", position)
            content = memoryview(_decompressor().decompress(content))
        runs, sizes = _index_decoder.decode(content[: header.index_bytes])
    except (zstandard.ZstdError, msgspec.MsgspecError) as error:
        raise Corrupted(f"the block at position {position} cannot be unpacked: {error}.", position) from error
    if sum(run.count for run in runs) != header.count:
        raise Corrupted(f"the block at position {position} does not say where the salts of its records come from.", position)
    return Body(runs, sizes, content[header.index_bytes :])


def group_sizes(records: Sequence[bytes]) -> list[int]:
    """Return how many bytes each 16 records take together."""
    sizes = [len(record) for record in records]
    return [sum(sizes[first : first + GROUP_RECORDS]) for first in range(0, len(sizes), GROUP_RECORDS)]


def array_header(count: int) -> bytes:
    """Return the MessagePack header of an array (of up to 65,535)."""
    return bytes((0x90 | count,)) if count < 16 else b"\xdc" + count.to_bytes(2, "big")


# ------------------------------------------------------------------------------------------------------------- keys


BLOCK_KEY_BYTES = 9


def block_key(position: int) -> bytes:
    """Return the key of the block whose first record is at the position."""
    return BLOCKS + position.to_bytes(8, "big")


def append_key(identifier: bytes) -> bytes:
    """Return the key of an append id or a record's own id."""
    return APPENDS + identifier


_MOST_DIGITS = 40


@functools.lru_cache(maxsize=4096)
def stream_key(stream: str) -> bytes:
    """Return the key of a stream's list.

    A number at the end of the name is preceded by its length, so that trial 10 comes after trial 9 and new trials go
    to the right edge of the experiment's entries.
    """
    digits = stream[len(stream.rstrip("0123456789")) :][-_MOST_DIGITS:]
    head = stream[: len(stream) - len(digits)]
    # A lone surrogate, which no stream has, is looked up like any other name and not found.
    return b"ls" + head.encode(errors="surrogatepass") + bytes((len(digits),)) + digits.encode()


def experiment_key(experiment_id: UUID) -> bytes:
    """Return the key of an experiment's list."""
    return b"le" + experiment_id.bytes


def config_key(digest: bytes) -> bytes:
    """Return the key of a config's list."""
    return b"lc" + digest


def posting_key(list_id: int, first: int | None = None) -> bytes:
    """Return the key of a chunk of a list, or the prefix of all its chunks."""
    prefix = POSTINGS + list_id.to_bytes(8, "big")
    return prefix if first is None else prefix + first.to_bytes(8, "big")


def name_key(name: str) -> bytes:
    """Return the key of a live experiment's name, which may be any text of any length."""
    return NAMES + hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=16).digest()


def tile_key(level: int, index: int) -> bytes:
    """Return the key of a tile."""
    return TILES + level.to_bytes(1, "big") + index.to_bytes(8, "big")
