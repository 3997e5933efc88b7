"""A reader of ledgers that knows nothing of the package: written from ``ledger/README.md`` alone."""

import datetime as dt
import functools
import hashlib
import struct
import zlib
from decimal import Decimal
from typing import Any
from uuid import UUID

import lmdb
import msgspec
import zstandard

HEADER = struct.Struct(">8sBHQQHH")
FIELDS = ["type", "schema", "position", "stream", "version", "recorded_at", "append_id", "ordinal", "actor", "context"]
Record = dict[str, Any]  # with these keys, "event", "leaf", and "payload_digest" when it was redacted


def need(condition: object, what: str) -> None:
    if not condition:
        raise ValueError(f"the ledger is damaged: {what}")


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def decode(data: bytes) -> Any:
    return msgspec.msgpack.decode(data, ext_hook=lambda code, content: extension(code, bytes(content)))


def extension(code: int, content: bytes) -> Any:
    kinds = {
        1: lambda: tuple(decode(content)), 2: lambda: int.from_bytes(content, "big", signed=True),
        3: lambda: Decimal(content.decode()), 4: lambda: UUID(bytes=content),
        5: lambda: dt.datetime.fromisoformat(content.decode()), 6: lambda: dict(decode(content)),
    }  # fmt: skip
    return kinds[code]() if code in kinds else msgspec.msgpack.Ext(code, content)


def read(path: str) -> tuple[Record, list[Record], bytes]:
    """Read the ledger in a directory, and prove it; return its identity, its records and the root of their tree."""
    with lmdb.open(path, readonly=True, lock=False) as env, env.begin() as txn:
        entries = {bytes(key): bytes(value) for key, value in txn.cursor()}
    identity = decode(entries[b"mformat"][8:])
    for key, value in entries.items():
        seed = b"" if key == b"mformat" else identity["ledger_id"]
        crc = zlib.crc32(seed + key + value[4:]).to_bytes(4, "big")
        need(value.startswith(sha256(seed, key, value[8:])[:8] if key[:1] in b"mb" else crc), f"the check of {key!r}")
    records: list[Record] = []
    for key in sorted(key for key in entries if key[:1] == b"b"):
        need(int.from_bytes(key[1:], "big") == len(records) + 1, f"no block at {len(records) + 1}")
        records += block(entries[key])
    need([record["position"] for record in records] == list(range(1, len(records) + 1)), "the positions have a gap")
    position, _, _, _, edge = decode(entries[b"mhead"][8:])[:5] if records else (0, 0, 1, 0, [sha256()])
    root = tree([record["leaf"] for record in records])
    kept = functools.reduce(lambda right, left: sha256(b"\1", left, right), edge[-2::-1], edge[-1])
    need((position, kept) == (len(records), root), "the head is not that of the records")
    return identity, records, root


def block(value: bytes) -> list[Record]:
    _, flags, count, first_time, last_time, types_bytes, index_bytes = HEADER.unpack_from(value)
    types, body = value[HEADER.size :][:types_bytes], value[HEADER.size + types_bytes :]
    body = zstandard.ZstdDecompressor().decompress(body) if flags & 1 else body
    runs, _ = decode(body[:index_bytes])
    salts = [salt(run_salt, first, number) for length, first, run_salt in runs for number in range(length)]
    found = [record(raw, own) for raw, own in zip(split(body[index_bytes:]), salts, strict=True)]
    need(sorted({(each["type"], each["schema"]) for each in found}) == list(map(tuple, decode(types))), "a block's types")
    need((found[0]["recorded_at"], found[-1]["recorded_at"]) == (first_time, last_time), "a block's times")
    need(len(found) == count, "a block's count")
    return found


def split(array: bytes) -> list[bytes]:
    return [bytes(raw) for raw in msgspec.msgpack.decode(array, type=list[msgspec.Raw])]


def salt(run_salt: bytes, first: int, number: int) -> bytes:
    group, place = divmod(first + number, 512)
    return run_salt if first == -1 else hashlib.shake_128(run_salt + group.to_bytes(8, "big")).digest(8192)[16 * place :][:16]


def record(raw: bytes, own_salt: bytes) -> Record:
    *fields, payload = split(raw)[:11]
    redacted = {"payload_digest": decode(split(raw)[11])} if raw[0] == 0x9C else {}
    digest = redacted.get("payload_digest") or sha256(own_salt, payload)
    leaf = sha256(b"\x00\x9b", *fields, b"\xc4\x20", digest)
    return dict(zip(FIELDS, map(decode, fields), strict=True)) | {"event": decode(payload), "leaf": leaf} | redacted


def tree(leaves: list[bytes]) -> bytes:
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256()
    left = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\1", tree(leaves[:left]), tree(leaves[left:]))
