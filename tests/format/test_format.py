"""The file format as documented: the page against the code, and a reader that was written from the page alone."""

from __future__ import annotations

import hashlib
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
from ledger.values import decode_value, encode_value
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


def test_the_indexes_are_what_the_page_says(path: Path) -> None:
    """Lists, appends, tiles and names, made from the records by the page's words, are those of the file."""
    _, records, _ = reader.read(str(path))
    entries = {key: value[4:] for key, value in _entries(path).items() if key[:1] not in b"mb"}
    lists: dict[bytes, list[int]] = {}
    appends: dict[bytes, list[int]] = {}
    own_ids: dict[bytes, list[int]] = {}
    for record in records:
        position, stream = record["position"], record["stream"]
        digits = re.search(r"[0-9]{0,40}\Z", stream)[0]  # type: ignore[index]
        name = stream.encode()[: len(stream.encode()) - len(digits)]
        lists.setdefault(b"ls" + name + bytes([len(digits)]) + digits.encode(), []).append(position)
        if subject := re.fullmatch(r"(?:experiment|trial)/([0-9a-f]{32})(?:/\d+)?", stream):
            lists.setdefault(b"le" + bytes.fromhex(subject[1]), []).append(position)
        if record["type"] == "TrialCreated" and "payload_digest" not in record:
            lists.setdefault(b"lc" + reader.sha256(encode_value(record["event"]["config"]))[:16], []).append(position)
        appends.setdefault(record["append_id"], []).append(position)
        if record["context"] and record["context"][4]:
            own_ids[record["context"][4]] = [position]
    assert {key: _positions(entries, key) for key in entries if key[:1] == b"l"} == lists
    unsealed_from = reader.decode(_entries(path)[b"mhead"][8:])[2]
    times = [record["recorded_at"] for record in records]
    kept = {key: found for key, found in appends.items() if found[-1] >= unsealed_from or _is_far(key, times[found[0] - 1])}
    assert 0 < len(kept) <= len(appends)
    every = {**kept, **own_ids}.items()
    wanted = {b"a" + key: found[0].to_bytes(8, "big") + len(found).to_bytes(4, "big") for key, found in every}
    assert {key: content for key, content in entries.items() if key[:1] == b"a"} == wanted
    leaves = [record["leaf"] for record in records]
    tiles = {b"t\1" + index.to_bytes(8, "big"): reader.tree(leaves[256 * index :][:256]) for index in range(len(leaves) // 256)}
    assert {key: content for key, content in entries.items() if key[:1] == b"t"} == tiles
    states = [reader.decode(reader.decode(entries[key])[6]) for key in lists if key[:2] == b"le"]
    live = [(state["name"], UUID(state["id"]).bytes) for state in states if state.get("deleted_at") is None]
    names = {b"n" + hashlib.blake2b(name.encode(), digest_size=16).digest(): [name, identity] for name, identity in live}
    assert {key: reader.decode(content) for key, content in entries.items() if key[:1] == b"n"} == names


def _is_far(append_id: bytes, recorded_at: int) -> bool:
    made_at = int.from_bytes(append_id[:6], "big") * 1_000_000
    return append_id[6] >> 4 != 7 or abs(recorded_at - made_at) > 1_000_000_000


def _positions(entries: dict[bytes, bytes], key: bytes) -> list[int]:
    identity, count, last, base, tail_count, tail, _ = reader.decode(entries[key])
    chunks = sorted((each, content) for each, content in entries.items() if each[:9] == b"p" + identity.to_bytes(8, "big"))
    found: list[int] = []
    for each, content in chunks:
        unpacked = _unpack(int.from_bytes(content[:8], "big"), content[12:])
        assert (len(unpacked), unpacked[0]) == (int.from_bytes(content[8:12], "big"), int.from_bytes(each[9:], "big"))
        found += unpacked
    newest = _unpack(base, tail)
    assert (tail_count, count, last) == (len(newest), len(found + newest), (found + newest)[-1])
    return found + newest


def _unpack(position: int, differences: bytes) -> list[int]:
    found, shift, value = [], 0, 0
    for byte in differences:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            position += value
            found.append(position)
            shift = value = 0
    return found
