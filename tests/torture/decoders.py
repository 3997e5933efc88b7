"""Every decoder of bytes from disk or from others: what it is called with, and what it may raise.

A decoder gets bytes and returns a value, or raises one of its errors; nothing else, however the bytes were made.
"""

from __future__ import annotations

import functools
import tempfile
import types
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

import ledger
from ledger.artifacts.manifest import read_manifest
from ledger.backends.blocks import Block
from ledger.backends.environment import Options
from ledger.backends.lmdb import LmdbBackend
from ledger.backends.postings import unpack_chunk
from ledger.checkpoint import read_checkpoints
from ledger.codec import decode_envelopes, decode_event, decode_experiment_state, decode_records, decode_trial_state, encode_types
from ledger.errors import LedgerError
from ledger.format import HEAD_KEY, IDENTITY_KEY, Checks, Run, block_key, read_identity
from ledger.maintenance.archive import members, unpack
from ledger.transfer.jsonlines import export_lines, line_to_entry
from ledger.values import decode_value, from_json
from ledger.worker.results import BadResults, last_object

#: Of decoders whose callers have tested a checksum, or turn these into errors of their own.
_OF_CHECKED_BYTES = (LedgerError, msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError)


class Decoder(NamedTuple):
    """One decoder: samples of what it is made for, what may come out of it besides a value."""

    decode: Callable[[bytes], object]
    samples: list[bytes]
    errors: tuple[type[Exception], ...] = (LedgerError,)


def _block(data: bytes, *, tested: bool) -> object:
    """Read a block as the log does; with its check made anew, as whoever forges one would."""
    checks = Checks(b"l" * 16)
    if not tested:
        data = checks._digest(block_key(5), data[8:]) + data[8:]
    block = Block(5, data, checks.open_block(5, data))
    return [(record.position, repr(record.event)) for record in block.records()], list(block.stored())


def _manifest(data: bytes) -> object:
    store: Any = types.SimpleNamespace(read=lambda *_: data, place=lambda _: Path("blobs/ab"))
    return list(read_manifest(store, "ab", "a test"))


def _archive(data: bytes) -> object:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "backup.tar")
        file.write_bytes(data)
        names = [name for name, source in members(file)]
        unpack(file, Path(directory, "made"), lambda size: None)
        return names


@functools.cache
def _log() -> tuple[list[bytes], list[bytes], list[bytes], dict[bytes, bytes], bytes]:
    """Make a ledger; return records, lines, states, entries by key, and a backup."""
    from ledger.maintenance.backup import backup

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "runs.ledger")
        with ledger.Ledger(LmdbBackend(path, options=Options("relaxed")), "ada") as book:
            exp = book.experiment("größe 🚀", objectives={"loss": "min"})
            exp.new_trials([{"lr": 0.1, "shape": (3, 4), "big": 2**80, "n": n} for n in range(3)])
            with exp.trial(1).run() as trial:
                trial.log(step=1, loss=0.5)
                trial.complete({"loss": 0.25})
            book.log.append([ledger.NoteAdded("a"), ledger.UnknownEvent("Martian", 7, {"a": [1, {"b": None}]})], stream="s")
            backend = book.log.backend
            lines = [line for _, line in export_lines(backend)]
            raws = [entry.raw for entry in backend.read_entries(0)]
            with backend._environment.read() as txn:
                entries = dict(txn.cursor())
            with backend.view() as view:
                states = [ledger.codec.encode_state(view.trial(exp.state.id, 2)), ledger.codec.encode_state(exp.state)]
        backup(path, Path(directory, "monday.tar.zst"))
        return raws, lines, states, entries, Path(directory, "monday.tar.zst").read_bytes()


@functools.cache
def decoders() -> dict[str, Decoder]:
    """Return the decoders by name."""
    raws, lines, states, entries, archive = _log()
    known = encode_types({("TrialCreated", 1), ("NoteAdded", 1)})
    unknown = encode_types({("Martian", 7)})
    array = [bytes((0x91,)) + raw for raw in raws]
    blocks = [
        Checks(b"l" * 16).pack_block(5, raws[:3], [Run(3, 0, b"s" * 16)], known, (1, 2), sealed=sealed)
        for sealed in (True, False)
    ]
    chunk = (1).to_bytes(8, "big") + (3).to_bytes(4, "big") + b"\x01\x82\x01\x03"
    value = ledger.codec.encode_value({"a": (1, 2.5, uuid.UUID(int=3)), "b": [2**80, None, b"x"]})
    texts = [b'loading\n{"loss": 0.5}\nbye\n', b'{"a": [1, {"b": null}]}']
    return {
        "records": Decoder(lambda data: list(map(repr, decode_records(data, known))), array),
        "records of unknown types": Decoder(lambda data: list(map(repr, decode_records(data, unknown))), array),
        "types of records": Decoder(lambda data: decode_records(array[0], data), [known, unknown, encode_types(set())]),
        "envelopes": Decoder(decode_envelopes, array),
        "an event": Decoder(lambda data: repr(decode_event("TrialCreated", 1, data)), [value]),
        "an unknown event": Decoder(lambda data: repr(decode_event("Martian", 7, data)), [value]),
        "a trial's state": Decoder(decode_trial_state, states[:1], _OF_CHECKED_BYTES),
        "an experiment's state": Decoder(decode_experiment_state, states[1:], _OF_CHECKED_BYTES),
        "a block": Decoder(functools.partial(_block, tested=True), blocks),
        "a forged block": Decoder(functools.partial(_block, tested=False), blocks),
        "the identity": Decoder(lambda data: read_identity(data, "x"), [entries[IDENTITY_KEY]]),
        "the head": Decoder(functools.partial(Checks(b"l" * 16).open_meta, HEAD_KEY), [entries[HEAD_KEY]]),
        "an index entry": Decoder(functools.partial(Checks(b"l" * 16).open, b"key"), [b"1234content"]),
        "positions": Decoder(unpack_chunk, [chunk], (ValueError,)),
        "a value": Decoder(decode_value, [value], _OF_CHECKED_BYTES),
        "a line of an export": Decoder(line_to_entry, lines),
        "a value in JSON": Decoder(
            lambda data: from_json(msgspec.json.decode(data)), [b'{"$tuple": [1, {"$int": "80"}]}'],
            _OF_CHECKED_BYTES,
        ),
        "checkpoints": Decoder(
            lambda data: read_checkpoints(data.decode(errors="replace")),
            [str(ledger.checkpoint.Checkpoint(uuid.UUID(int=1), 2, bytes(32))).encode()],
        ),
        "a manifest": Decoder(_manifest, [b'{"manifest": 1}\n{"path": "a", "digest": "ab", "size": 1, "mode": 420}\n']),
        "an archive": Decoder(_archive, [archive]),
        "results of a program": Decoder(last_object, texts, (BadResults,)),
    }  # fmt: skip
