"""What of ``ledger/README.md`` is drawn from the code: ``python -m tests.format.documented`` writes it there."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from ledger import events
from ledger.backends.base import Submission
from ledger.backends.lmdb import LmdbBackend
from ledger.format import FORMAT, Identity, block_key
from ledger.parts import Arm, Bounds, ErrorInfo, Points
from ledger.registry import all_types
from ledger.status import ExperimentState, TrialState

README = Path(__file__).parents[2] / "ledger" / "README.md"
LEDGER_ID, APPEND_ID = UUID("0192f5ab-3c4d-7e8f-9a0b-1c2d3e4f5061"), UUID("0192f5ab-3c4d-7e8f-9a0b-1c2d3e4f5062")
SALT, TIME = bytes(range(16)), 1_790_000_000_000_000_000


def _fields(cls: Any) -> str:
    def said(field: Any) -> str:
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        return f"`{field.name}`" + ("" if default is msgspec.NODEFAULT else f" = {msgspec.json.encode(default).decode()}")

    return ", ".join(said(field) for field in msgspec.structs.fields(cls)) or "none"


def _table(heads: str, rows: Iterable[tuple[object, ...]]) -> str:
    lines = [heads, "|" + "---|" * (heads.count("|") - 1), *("| " + " | ".join(map(str, row)) + " |" for row in rows)]
    return "\n".join(lines)


def event_table() -> str:
    """Return the table of the package's event types."""
    types = [all_types()[name] for name in sorted(events.VOCABULARY)]
    return _table("| type | schema | fields |", ((kind.name, kind.schema, _fields(kind.cls)) for kind in types))


def part_table() -> str:
    """Return the table of parts of events."""
    uses = {Arm: "`arms`", Bounds: "values of `bounds`", ErrorInfo: "`error`", Points: "`points`"}
    return _table("| part | in | fields |", ((cls.__name__, use, _fields(cls)) for cls, use in uses.items()))


def state_table() -> str:
    """Return the table of states."""
    rows = [("experiment", _fields(ExperimentState)), ("trial", _fields(TrialState))]
    return _table("| state | fields |", rows)


def example_entries() -> dict[bytes, bytes]:
    """Return the entries of a ledger with one record."""
    with tempfile.TemporaryDirectory() as directory:
        identity = Identity(FORMAT, LEDGER_ID.bytes, TIME, "ada@host/1")
        backend = LmdbBackend(directory, clock=lambda: TIME, identity=identity)
        note = Submission(lambda view: [("diary", events.NoteAdded("fan was off"))], APPEND_ID.bytes, SALT, "ada@host/1")
        backend.commit([note])
        with backend._environment.read() as txn:
            entries = dict(txn.cursor())
        backend.close()
    return entries


def _parts(key: bytes, value: bytes) -> Iterator[tuple[str, bytes]]:
    """Cut a value in the parts that the page speaks of."""
    if key[:1] != b"b":
        check = 8 if key[:1] == b"m" else 4
        yield from (("check", value[:check]), ("content", value[check:]))
        return
    types, index = int.from_bytes(value[27:29], "big"), int.from_bytes(value[29:31], "big")
    cuts = {"check": 8, "flags": 1, "number of records": 2, "first recorded_at": 8, "last recorded_at": 8,
            "length of types": 2, "length of index": 2, "types": types, "index": index}  # fmt: skip
    start = 0
    for name, size in cuts.items():
        yield name, value[start : start + size]
        start += size
    yield "records", value[start:]


def example() -> str:
    """Return the worked example."""
    names = {b"a": "the append's id", b"b": "block", b"l": "list of the stream `diary`", b"mf": "identity", b"mh": "head"}
    lines = []
    for key, value in sorted(example_entries().items()):
        name = next(name for start, name in names.items() if key.startswith(start))
        lines += [
            f"# {name.replace('`', '')}",
            _hex("key", key),
            *(_hex(part, content) for part, content in _parts(key, value)),
            "",
        ]
    return "```text\n" + "\n".join(lines).rstrip() + "\n```"


def hashes() -> str:
    """Return how the leaf hash of the example's record comes about."""
    *_, (_, records) = _parts(b"b", example_entries()[block_key(1)])
    raw, payload = records[1:], msgspec.msgpack.encode({"text": "fan was off"})
    salt = hashlib.shake_128(SALT + bytes(8)).digest(16)
    digest = hashlib.sha256(salt + payload).digest()
    leaf = hashlib.sha256(b"\0\x9b" + raw[1 : -len(payload)] + b"\xc4\x20" + digest).digest()
    shown = {"salt": salt, "payload": payload, "digest": digest, "leaf": leaf}
    return "```text\n" + "\n".join(_hex(name, content) for name, content in shown.items()) + "\n```"


def _hex(name: str, content: bytes) -> str:
    pieces = [content[start : start + 32].hex() for start in range(0, len(content), 32)]
    return f"{name:<18}" + f"\n{'':18}".join(pieces)


def read_example(text: str) -> dict[bytes, bytes]:
    """Return the entries that the page shows: each has its key, then the parts of its value."""
    block = re.search(r"<!-- example -->\n```text\n(.*?)```", text, re.DOTALL)
    assert block is not None
    entries = {}
    for entry in block[1].strip().split("\n\n"):
        lines = entry.splitlines()[1:]
        key, *parts = re.split(r"\n(?=\S)", "\n".join(lines))
        content = [bytes.fromhex("".join(re.findall(r"\b[0-9a-f]+$", part, re.MULTILINE))) for part in (key, *parts)]
        entries[content[0]] = b"".join(content[1:])
    return entries


DRAWN = {"events": event_table, "parts": part_table, "states": state_table, "example": example, "hashes": hashes}


def _put(drawn: str, match: re.Match[str]) -> str:
    return f"{match[1]}{drawn}\n{match[2]}"


def redrawn(text: str) -> str:
    """Return the page with what is drawn from the code."""
    for name, draw in DRAWN.items():
        mark = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        assert re.search(mark, text, re.DOTALL), name
        text = re.sub(mark, partial(_put, draw()), text, flags=re.DOTALL)
    return text


if __name__ == "__main__":
    README.write_text(redrawn(README.read_text()))
