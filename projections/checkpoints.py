"""Checkpoints: what projections knew at a position, kept in an LMDB environment of their own.

::

    piece/<digest>              a part of a column, or values, as ``projections.pieces`` packs them
    at/<name>/<position>        which pieces a projection of that name is made of, behind the digest of that list

A piece is known by the digest of what is in it, so that checkpoints share what has not changed between them.
A checkpoint is a cache: whatever is wrong with it, the log is folded instead. So no save waits for the disk: what a power cut
leaves of one is damage like any other.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import lmdb
import msgspec
import numpy as np

from ledger.errors import Corrupted
from ledger.values import decode_value, encode_value
from projections.buffers import BUFFERS
from projections.pages import Proof
from projections.pieces import DIGEST_BYTES, Damaged, PackedArray, cut, digest_of, pack, prove, unpack
from projections.rows import Rows

#: Raised when checkpoints are laid out in another way: those of before are not read.
LAYOUT = 4
_WORKERS = 2  # threads that hash and pack pieces: they do not hold the interpreter meanwhile
_MOST_AHEAD = 32  # pieces that they are given before the first is asked for
_MEMORY = "what a projection remembers"
_PIECE = b"piece/"
_LARGEST_MAP = 1 << 40
_mutex = threading.Lock()  # LMDB allows an environment to be open once in a process
_encoder = msgspec.msgpack.Encoder()


class Key(NamedTuple):
    """What a checkpoint must agree with to be used."""

    layout: int
    ledger_id: str
    schema_version: int
    kind: str  # the class and its columns: another one may have the name and the version
    redactions: int  # how many payloads had been dropped: what was kept before may hold one
    append_id: bytes  # of the record at the position, and its ordinal: another one was not there then
    ordinal: int


class Gone(Exception):
    """A checkpoint that another process has removed meanwhile, to keep others: there is nothing wrong with those."""


class _Column(msgspec.Struct, array_like=True):
    name: str
    kind: str
    arrays: list[tuple[str, list[bytes]]]  # of each: dtype, digests; none at all of a column in which there is nothing
    extras: bytes


class _Table(msgspec.Struct, array_like=True):
    length: int
    columns: list[_Column]


class _Manifest(msgspec.Struct, array_like=True):
    key: Key
    tables: dict[str, _Table]
    memory: bytes

    def digests(self) -> Iterator[bytes]:
        yield self.memory
        for table in self.tables.values():
            for column in table.columns:
                yield column.extras
                for _, digests in column.arrays:
                    yield from digests


_manifests = msgspec.msgpack.Decoder(_Manifest)


class CheckpointStore:
    """Keep checkpoints in a directory, which is made by the first save.

    **Threads and processes.** Any number may load and save at once; of two that save at one position the first is kept.
    """

    def __init__(self, directory: Path, *, readonly: bool = False) -> None:
        self.directory = directory
        self.readonly = readonly
        self._proof = Proof()

    # -------------------------------------------------------------------------------------------------- read

    def positions(self, name: str) -> list[int]:
        """Return the positions of the checkpoints of a projection, ascending; none when there is no store."""
        with self._open(write=False) as env:
            if env is None:
                return []
            with env.begin() as txn:
                return [int.from_bytes(key[-8:], "big") for key in _keys(txn, name)]

    def key(self, name: str, position: int) -> Key | None:
        """Return what a checkpoint agrees with; None when there is none. Raises Damaged."""
        with self._open(write=False) as env:
            if env is None:
                return None
            with env.begin() as txn:
                value = txn.get(_manifest_key(name, position))
                return None if value is None else _manifest(value).key

    def load(self, name: str, position: int) -> tuple[dict[str, Rows], dict[str, Any]]:
        """Return what was saved; raises Gone or Damaged."""
        with self._open(write=False) as env:
            if env is None:
                raise Gone
            with env.begin(buffers=True) as txn:
                value = txn.get(_manifest_key(name, position))
                if value is None:
                    raise Gone
                manifest = _manifest(bytes(value))
                pieces = _Pieces(txn)
                tables = {name: _read_table(table, pieces) for name, table in manifest.tables.items()}
                return tables, pieces.values(manifest.memory)

    # ------------------------------------------------------------------------------------------------- write

    def save(self, name: str, position: int, key: Key, rows: dict[str, Rows], memory: dict[str, Any], most: int) -> None:
        """Keep what a projection knows; of the name's checkpoints ``most`` are kept, spread over the log.

        Raises OSError or lmdb.Error when it cannot be kept.
        """
        with self._open(write=True) as env:
            assert env is not None  # made when it was not there
            while True:
                try:
                    with env.begin(write=True) as txn:
                        _save(txn, name, position, key, rows, memory)
                        _thin(txn, name, most)
                    return
                except lmdb.MapFullError:
                    size = env.info()["map_size"]
                    if size >= _LARGEST_MAP:
                        raise
                    env.set_mapsize(size * 2)

    def discard(self, name: str | None = None) -> None:
        """Remove the checkpoints of a projection; without a name, everything, with the file that it was in."""
        if name is None:
            for file in ("data.mdb", "lock.mdb"):
                (self.directory / file).unlink(missing_ok=True)
            return
        with self._open(write=True) as env:
            assert env is not None
            with env.begin(write=True) as txn:
                for key in list(_keys(txn, name)):
                    txn.delete(key)
                _drop_unused(txn)

    @contextlib.contextmanager
    def _open(self, *, write: bool) -> Iterator[lmdb.Environment | None]:
        """Open the environment for the length of the block: so that no lock and no file is held between, or over a fork."""
        if not write and not (self.directory / "data.mdb").exists():
            yield None
            return
        if write:
            self.directory.mkdir(exist_ok=True)
        with _mutex:
            env = lmdb.open(
                str(self.directory), map_size=_map_size(self.directory), readonly=not write, lock=not self.readonly, max_dbs=0,
                readahead=True, sync=False, mode=0o666,
            )  # fmt: skip
            try:
                if damage := self._proof.find_damage(env, self.directory / "data.mdb"):
                    raise Damaged(damage)
                yield env
            finally:
                env.close()


def _map_size(directory: Path) -> int:
    path = directory / "data.mdb"
    size = path.stat().st_size if path.exists() else 0
    return max(1 << 30, 1 << (2 * size).bit_length())


def _manifest_key(name: str, position: int) -> bytes:
    return b"at/" + hashlib.blake2b(name.encode(), digest_size=DIGEST_BYTES).digest() + position.to_bytes(8, "big")


def _keys(txn: Any, name: str) -> Iterator[bytes]:
    first = _manifest_key(name, 0)
    cursor = txn.cursor()
    if cursor.set_range(first):
        for key in cursor.iternext(keys=True, values=False):
            if bytes(key[:-8]) != first[:-8]:
                return
            yield bytes(key)


def _manifest(value: bytes) -> _Manifest:
    if digest_of(value[DIGEST_BYTES:]) != value[:DIGEST_BYTES]:
        raise Damaged("its list of pieces is damaged")
    try:
        return _manifests.decode(value[DIGEST_BYTES:])
    except msgspec.MsgspecError as error:
        raise Damaged(f"it is laid out otherwise ({error})") from error


# ------------------------------------------------------------------------------------------------------------- writing


def _save(txn: Any, name: str, position: int, key: Key, rows: dict[str, Rows], memory: dict[str, Any]) -> None:
    if txn.get(_manifest_key(name, position)) is not None:
        return
    with ThreadPoolExecutor(_WORKERS) as workers:
        writer = _Writer(txn, workers)
        kept = {table: (saved.length, _keep_columns(saved, writer)) for table, saved in rows.items()}
        remembered = writer.keep([_encoded(memory)])
        writer.finish()
    tables = {
        table: _Table(length, [_Column(column, kind, arrays, extras[0]) for column, kind, arrays, extras in columns])
        for table, (length, columns) in kept.items()
    }
    encoded = _encoder.encode(_Manifest(key, tables, remembered[0]))
    txn.put(_manifest_key(name, position), digest_of(encoded) + encoded)


def _keep_columns(rows: Rows, writer: _Writer) -> list[tuple[str, str, list[tuple[str, list[bytes]]], list[bytes]]]:
    """Return of each column its name, its kind, its arrays and its extras: digests, which are there when all is written."""
    return [
        (
            name,
            buffer.kind,
            [] if buffer.is_blank else [(array.dtype.str, writer.keep(cut(array))) for array in buffer.arrays()],
            writer.keep([_encoded(buffer.extras())]),
        )
        for name, buffer in rows.buffers.items()
    ]


class _Writer:
    """Keep pieces that are not there yet; other threads hash and pack some of those that come next meanwhile."""

    def __init__(self, txn: Any, workers: Executor) -> None:
        self._cursor, self._workers = txn.cursor(), workers
        self._hashed: deque[tuple[list[bytes], Any, Future[bytes]]] = deque()
        self._packed: deque[tuple[bytes, Future[bytes]]] = deque()
        self._found: set[bytes] = set()  # the digests of what is kept, or about to be

    def keep(self, pieces: list[Any]) -> list[bytes]:
        """Return the list that has the digests of the pieces when all is written."""
        digests: list[bytes] = []
        for piece in pieces:
            self._hashed.append((digests, piece, self._workers.submit(digest_of, piece)))
            self._take(_MOST_AHEAD)
        return digests

    def finish(self) -> None:
        """Write all that is not written yet."""
        self._take(0)

    def _take(self, most: int) -> None:
        """Take what the threads have done, until no more than that is left."""
        while len(self._hashed) > most:
            digests, piece, hashed = self._hashed.popleft()
            digest = hashed.result()
            digests.append(digest)
            if digest not in self._found and not self._cursor.set_key(_PIECE + digest):
                self._packed.append((digest, self._workers.submit(pack, piece, digest)))
            self._found.add(digest)
        while len(self._packed) > most:
            digest, packed = self._packed.popleft()
            self._cursor.put(_PIECE + digest, packed.result())


def _encoded(values: Any) -> Any:
    return np.frombuffer(encode_value(values, _MEMORY), np.uint8)


# ------------------------------------------------------------------------------------------------------------- reading


class _Pieces:
    """Find pieces, each once: those of columns in which there is nothing are all the same."""

    def __init__(self, txn: Any) -> None:
        self._txn = txn
        self._found: dict[bytes, bytes] = {}

    def proved(self, digest: bytes) -> bytes:
        """Return a piece, which is proved; raises Damaged."""
        if digest not in self._found:
            piece = self._txn.get(_PIECE + digest)
            if piece is None:
                raise Damaged("a piece of it is missing")
            self._found[digest] = prove(piece, digest)
        return self._found[digest]

    def values(self, digest: bytes) -> Any:
        """Return values; raises Damaged."""
        try:
            return decode_value(unpack(self.proved(digest)))
        except Corrupted as error:
            raise Damaged(f"a piece of it is damaged ({error})") from error


def _read_table(table: _Table, pieces: _Pieces) -> Rows:
    made = Rows({})
    made.length = table.length
    for column in table.columns:
        kind = BUFFERS[column.kind]
        arrays = [PackedArray(dtype, table.length, list(map(pieces.proved, digests))) for dtype, digests in column.arrays]
        made.buffers[column.name] = kind.restore(arrays, pieces.values(column.extras)) if arrays else kind.blank(table.length)
    return made


# ------------------------------------------------------------------------------------------------------------ thinning


def _thin(txn: Any, name: str, most: int) -> None:
    """Remove checkpoints until so many are left: each time the one whose neighbours are nearest to each other."""
    keys = list(_keys(txn, name))
    if len(keys) <= most:
        return
    places = [int.from_bytes(key[-8:], "big") for key in keys]
    while len(keys) > most:
        gaps = [places[i + 1] - (places[i - 1] if i else 0) for i in range(len(places) - 1)]
        least = gaps.index(min(gaps))
        txn.delete(keys.pop(least))
        del places[least]
    _drop_unused(txn)


def _drop_unused(txn: Any) -> None:
    used: set[bytes] = set()
    cursor = txn.cursor()
    for key, value in cursor:
        if not key.startswith(_PIECE):
            used.update(_manifest(value).digests())
    for key in [key for key, _ in cursor.iternext(values=True) if key.startswith(_PIECE)] if cursor.first() else []:
        if key[len(_PIECE) :] not in used:
            txn.delete(key)
