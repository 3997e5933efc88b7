"""The file format as documented: the page against the code, and a reader that was written from the page alone."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import lmdb
import msgspec
import pytest
import zstandard

import ledger
from ledger.backends.base import Entry
from ledger.codec import decode_envelopes
from ledger.format import FORMAT, KINDS
from ledger.testing.values import same
from ledger.values import decode_value
from tests.format import documented, reader

PAGE = documented.README.read_text()
GOLDEN = sorted((Path(__file__).parent / "golden").iterdir())
EVERYTHING = Path(__file__).parents[1] / "everything.py"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with one of everything, as today's code writes it."""
    path = tmp_path_factory.mktemp("fresh") / "runs.ledger"
    subprocess.run([sys.executable, "-W", "error", EVERYTHING, path], check=True)
    return path


@pytest.fixture(params=["fresh", *(golden.name for golden in GOLDEN)])
def path(request: pytest.FixtureRequest, tmp_path: Path, fresh: Path) -> Path:
    """A ledger to be read: the fresh one, or a copy of a golden one."""
    source = fresh if request.param == "fresh" else Path(__file__).parent / "golden" / request.param / "ledger"
    return Path(shutil.copytree(source, tmp_path / "runs.ledger"))


def test_the_page_shows_what_the_code_does() -> None:
    """Event types, parts, states and the example are those of today; `python -m tests.format.documented` writes them."""
    assert documented.redrawn(PAGE) == PAGE
    assert f"format {FORMAT}" in PAGE


def test_the_page_names_every_kind_of_entry_and_every_file(fresh: Path) -> None:
    """Each first byte of a key has a row in the table of entries, each file of a ledger one in that of the directory."""
    for kind in KINDS:
        assert re.search(rf"^\| `{kind.decode()}", PAGE, re.MULTILINE), kind
    for file in fresh.iterdir():
        assert re.search(rf"^\| `{re.escape(file.name)}/?`", PAGE, re.MULTILINE), file.name


def test_the_example_of_the_page_is_a_ledger(tmp_path: Path) -> None:
    """Its bytes, typed into an LMDB file, are read by the reader, and by the package."""
    path = tmp_path / "runs.ledger"
    path.mkdir()
    with lmdb.open(str(path)) as env, env.begin(write=True) as txn:
        for key, value in documented.read_example(PAGE).items():
            txn.put(key, value)
    identity, (record,), root = reader.read(str(path))
    assert (identity["format"], record["event"], record["leaf"]) == (FORMAT, {"text": "fan was off"}, root)
    assert root.hex() in re.sub(r"\s", "", PAGE)
    with ledger.open(path) as book:
        assert [str(each.event) for each in book.log.read()] == ["NoteAdded(text='fan was off')"]


def test_the_reader_knows_nothing_of_the_package() -> None:
    """It has at most a hundred lines, and imports LMDB, MessagePack, zstandard and the standard library only."""
    text = Path(reader.__file__).read_text()
    assert text.count("\n") <= 100
    imported = set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE))
    assert imported - set(sys.stdlib_module_names) == {"lmdb", "msgspec", "zstandard"}


def test_the_reader_reads_what_the_package_reads(path: Path) -> None:
    """Every field of every record, every value with its type, every leaf hash, and the root: by the page alone."""
    identity, records, root = reader.read(str(path))
    with ledger.open(path) as book:
        assert UUID(bytes=identity["ledger_id"]) == book.id
        assert (len(records), root) == book.log.backend.tree_head()
        entries: list[Entry] = []
        while len(entries) < len(records):
            entries += book.log.backend.read_entries(len(entries))
    assert [record["leaf"] for record in records] == [entry.leaf for entry in entries]
    for record, entry in zip(records, entries, strict=True):
        (envelope,) = decode_envelopes(b"\x91" + entry.raw)
        assert [record[name] for name in reader.FIELDS[:-1]] == [getattr(envelope, name) for name in reader.FIELDS[:-1]]
        assert record["context"] == (None if envelope.context is None else list(msgspec.structs.astuple(envelope.context)))
        assert record.get("payload_digest") == envelope.payload_digest
        assert same(record["event"], decode_value(bytes(envelope.payload)))


def test_the_reader_finds_a_flipped_bit(path: Path) -> None:
    """One bit of each block, of identity and head, and of twenty other entries: each time it says that the ledger is damaged."""
    entries = _entries(path)
    random_ = random.Random(1)
    chosen = [key for key in entries if key[:1] in b"mb"] + random_.sample(sorted(entries), 20)
    for key in chosen:
        bit = random_.randrange(8 * len(entries[key]))
        changed = bytearray(entries[key])
        changed[bit // 8] ^= 1 << bit % 8
        _put(path, key, bytes(changed))
        with pytest.raises((ValueError, msgspec.MsgspecError, KeyError, TypeError, zstandard.ZstdError)):
            reader.read(str(path))
        _put(path, key, entries[key])
    reader.read(str(path))


def test_the_reader_finds_records_rewritten_with_their_checks(path: Path) -> None:
    """Checks alone can be made again by whoever changes a block: the tree then differs from the head's."""
    ledger_id = reader.read(str(path))[0]["ledger_id"]
    entries = _entries(path)
    key = next(key for key, value in entries.items() if key[:1] == b"b" and b"a secret" in value)
    content = entries[key][8:].replace(b"a secret", b"a sekret")
    _put(path, key, reader.sha256(ledger_id, key, content)[:8] + content)
    with pytest.raises(ValueError, match="head is not that of the records"):
        reader.read(str(path))


def _entries(path: Path) -> dict[bytes, bytes]:
    with lmdb.open(str(path), map_size=1 << 30) as env, env.begin() as txn:
        return dict(txn.cursor())


def _put(path: Path, key: bytes, value: bytes) -> None:
    with lmdb.open(str(path), map_size=1 << 30) as env, env.begin(write=True) as txn:
        txn.put(key, value)
