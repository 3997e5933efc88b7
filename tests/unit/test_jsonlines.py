"""Lines of JSON: each record becomes one, and the same bytes again; a line that was changed is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

import ledger
from ledger import events
from ledger.backends.base import Entry
from ledger.backends.memory import MemoryBackend
from ledger.errors import InvalidValue, UnsupportedFormat
from ledger.format import FORMAT
from ledger.log import EventLog
from ledger.transfer import jsonlines
from ledger.transfer.jsonlines import RECORD_KEYS, entries_at, entry_to_line, export_lines, line_to_entry

EVERYTHING = Path(__file__).parents[1] / "everything.py"
EXTRA_KEYS = ["salt", "own_salt", "hash", "payload_digest", "payload", "ledger", "check"]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with one of everything, of a process that had event types of its own."""
    path = tmp_path_factory.mktemp("everything") / "runs.ledger"
    subprocess.run([sys.executable, "-W", "error", EVERYTHING, path], check=True)
    return path


def all_entries(book: ledger.Ledger) -> list[Entry]:
    backend = book.log.backend
    return list(entries_at(backend, range(1, backend.head() + 1)))


def all_lines(book: ledger.Ledger) -> list[bytes]:
    return [line for _, line in export_lines(book.log.backend)]


def test_the_ledger_with_everything_has_everything(everything: Path) -> None:
    """Every event type of the package, redacted records, and types that are not registered here."""
    with ledger.open(everything) as book:
        records = list(book.log.read())
    types = {record.type for record in records}
    assert events.VOCABULARY - types == set()
    assert {"PhotoTaken", "SkySeen", "Martian"} <= types
    assert {record.type for record in records if record.is_redacted} >= {"PhotoTaken", "NoteAdded", "TrialFailed", "Martian"}
    assert max(record.ordinal for record in records) > 512


def test_typed_tuples_are_arrays_in_json(tmp_path: Path) -> None:
    """What is an array on disk is one in JSON, whether its field is typed as a list or a tuple; a tuple of a config is tagged."""
    with ledger.open("memory:") as book:
        exp = book.experiment("e")
        exp.new_trial({"size": (1, 2)}, arms=[ledger.Arm({"x": (1,)})], parents=[exp.new_trial({})])
        event = json.loads(all_lines(book)[-1])["event"]
    assert event["config"] == {"size": {"$tuple": [1, 2]}}
    assert [arm["config"] for arm in event["arms"]] == [{"x": {"$tuple": [1]}}]
    assert (len(event["parents"]), event["depends_on"]) == (1, [])


def test_every_record_comes_back_from_its_line(everything: Path) -> None:
    """Bytes, salt and hash of each record are made again from its line, whatever is in it."""
    with ledger.open(everything) as book:
        entries, lines = all_entries(book), all_lines(book)
        identity = book.log.backend.identity
    assert len(lines) == len(entries) > 1900
    for entry, line in zip(entries, lines, strict=True):
        made = line_to_entry(line)
        assert (made.entry, made.envelope.payload_digest is not None) == (entry, entry.salt == b"")
        assert made.identity == (identity if made.envelope.position == 1 else None)


def test_fields_at_their_defaults_come_back_as_they_were(tmp_path: Path) -> None:
    """Recorded or not: a file's kind and a claim without a lease are left out, unless another object said the same."""
    (tmp_path / "model.bin").write_bytes(b"weights")
    with ledger.open("memory:") as book:
        exp = book.experiment("demo")
        exp.log_artifact(tmp_path / "model.bin")
        stream = exp.new_trial({}).stream
        book.log.append([events.TrialClaimed("w1", 1)], stream=stream)
        book.log.append([events.LateResultReceived(1, "FAILED")], stream=stream)
        stated = events.ArtifactLogged("x", "0" * 64, 1, "".join(["fi", "le"]))
        book.log.append([stated], stream=stream)
        entries = all_entries(book)
        lines = [entry_to_line(entry) for entry in entries]
        assert [line_to_entry(line).entry for line in lines] == entries
        assert [b'"payload":' in line for line in lines] == [False] * 5 + [True]


def test_lines_are_the_same_for_one_who_has_the_classes(everything: Path, tmp_path: Path) -> None:
    """Who has the writer's event types reads the same records from the lines of one who has not, and the other way."""
    with ledger.open(everything) as book:
        ours = all_lines(book)
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import everything, ledger
everything.register()
from ledger.transfer.jsonlines import *
book = ledger.open(sys.argv[2], readonly=True)
here = [line_to_entry(line).entry for line in open(sys.argv[3], "rb")]
lines = [line for _, line in export_lines(book.log.backend)]
assert here == list(entries_at(book.log.backend, range(1, len(here) + 1)))
assert ledger.registry.find_type("PhotoTaken") is not None
sys.stdout.buffer.write(b"".join(lines))
book.close()
"""
    (tmp_path / "ours").write_bytes(b"".join(ours))
    command = [sys.executable, "-c", code, EVERYTHING.parent, everything, tmp_path / "ours"]
    theirs = subprocess.run(command, check=True, capture_output=True).stdout.splitlines(keepends=True)
    assert [line_to_entry(line).entry for line in theirs] == [line_to_entry(line).entry for line in ours]
    photo = next(json.loads(line) for line in theirs if b'"SkySeen"' in line)
    assert (photo["event"]["weather"], photo["event"]["days"]) == ("sun", ["P3D"])


def test_lines_have_the_keys_of_the_contract(everything: Path) -> None:
    """The record's keys come first, in their order; then what makes the line exact, where it is needed."""
    with ledger.open(everything) as book:
        lines = [json.loads(line) for line in all_lines(book)]
    for line in lines:
        keys = list(line)
        assert tuple(keys[: len(RECORD_KEYS)]) == RECORD_KEYS
        assert keys[len(RECORD_KEYS) :] == [key for key in EXTRA_KEYS if key in line]
        assert line.get("own_salt", True) is True
        assert ("check" in line) == bool({"payload", "payload_digest", "ledger"} & line.keys())
        assert ("ledger" in line) == (line["position"] == 1)
        explicit = line["type"] == "TrialCreated" and line["event"]["config"] == {"lr": 0.1}
        assert ("payload" in line) == (line["type"] not in events.VOCABULARY or explicit)
    assert sum("payload_digest" in line for line in lines) >= 11
    assert sum("own_salt" in line for line in lines) > 1300  # the neighbours of a redacted record, too


def test_the_first_line_says_which_ledger_it_is(everything: Path) -> None:
    """Id, format, and when and by whom it was created."""
    with ledger.open(everything) as book:
        said = json.loads(all_lines(book)[0])["ledger"]
        identity = book.log.backend.identity
    assert list(said) == ["id", "format", "created_at", "created_by"]
    assert (said["id"], said["format"], said["created_by"]) == (str(book.id), FORMAT, identity.created_by)


def test_a_ledger_in_memory_is_exported_alike() -> None:
    """Its lines are read like any others; it was created with its first record."""
    with ledger.open("memory:", actor="eve") as book:
        book.experiment("e").new_trial({"a": (1, 2)})
        lines = all_lines(book)
        assert [line_to_entry(line).entry for line in lines] == all_entries(book)
    identity = line_to_entry(lines[0]).identity
    assert identity is not None
    assert (identity.ledger_id, identity.created_by) == (book.id.bytes, "eve")


def test_a_part_is_exported(everything: Path) -> None:
    """After a position, and of one experiment, the lines are those of the whole."""
    with ledger.open(everything) as book:
        lines = all_lines(book)
        assert [line for _, line in export_lines(book.log.backend, after=1990)] == lines[1990:]
        exp = book.get_experiment("größe 🚀")
        some = list(export_lines(book.log.backend, 5, exp.state.id))
        positions = [position for position in book.log.backend.experiment_positions(exp.state.id) if position > 5]
        captures = [record.position for record in book.log.read() if record.stream.startswith("capture/")]
        assert len(captures) == 3
        assert [position for position, _ in some] == sorted(positions + captures)  # what its trials refer to
        assert [line for _, line in some] == [lines[position - 1] for position, _ in some]
        assert list(export_lines(book.log.backend, after=10**9)) == []


def test_a_redaction_during_the_export_is_exported_with_it() -> None:
    """The record that says why a payload is gone follows, so that the file can be imported."""
    with ledger.open("memory:") as book:
        for number in range(250):  # several pages
            book.log.append([ledger.NoteAdded(str(number))], stream="diary")
        lines = export_lines(book.log.backend)
        first = next(lines)
        book.redact(200, reason="secret")
        positions = [position for position, _ in [first, *lines]]
    assert positions == list(range(1, 252))


# ---------------------------------------------------------------------------------------------------------- damage


@pytest.fixture(scope="module")
def sample() -> dict[str, bytes]:
    """Lines of each form: plain, first, with payload, redacted, with an own id."""
    with ledger.open("memory:") as book:
        log = book.log
        log.append([ledger.NoteAdded("first")], stream="diary")
        log.append([ledger.NoteAdded("plain"), ledger.NoteAdded("b")], stream="diary", reason="why", occurred_at=5)
        log.append([ledger.UnknownEvent("Martian", 7, {"a": 1})], stream="mars")
        log.append([ledger.NoteAdded("secret")], stream="diary", ids=[ledger.new_uuid7()])
        book.redact(5, reason="r")
        lines = all_lines(book)
    return dict(zip(("first", "plain", "second", "payload", "redacted", "redaction"), lines, strict=True))


def changed(line: bytes, *, remake_check: bool = False, **values: Any) -> bytes:
    """Return the line with other values; None for a value that is ... takes the key out."""
    content = {key: value for key, value in {**json.loads(line), **values}.items() if value is not ...}
    if remake_check:
        content["check"] = jsonlines._check_of(content)
    return msgspec.json.encode(content)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("plain", {"position": 3}, "hash"),
        ("plain", {"position": 2**70}, "position"),
        ("plain", {"position": "2"}, "position"),
        ("plain", {"position": -1}, "position"),
        ("plain", {"stream": "dairy"}, "hash"),
        ("plain", {"stream": "trial/x"}, "well-formed"),
        ("plain", {"version": 1}, "hash"),
        ("plain", {"type": "NoteAmended"}, "version"),
        ("plain", {"type": "Martian"}, "payload"),
        ("plain", {"schema": 2}, "payload"),
        ("plain", {"recorded_at": "2026-11-21T23:29:08.232186632Z"}, "hash"),
        ("plain", {"recorded_at": "yesterday"}, "recorded_at"),
        ("plain", {"recorded_at": "2026-02-30T00:00:00.000000000Z"}, "day"),
        ("plain", {"append_id": "01a20071-3288-7e90-b6ca-7e18264efb73"}, "`id`"),
        ("plain", {"append_id": "x"}, "UUID"),
        ("plain", {"ordinal": 1}, "`id`"),
        ("plain", {"ordinal": -1}, "`id`"),
        ("plain", {"id": "x"}, "UUID"),
        ("plain", {"actor": "someone"}, "hash"),
        ("plain", {"occurred_at": None}, "hash"),
        ("plain", {"reason": None}, "hash"),
        ("plain", {"reason": ...}, "reason"),
        ("plain", {"correlation_id": "c"}, "hash"),
        ("plain", {"causation_id": "c"}, "hash"),
        ("plain", {"event": {"text": "plaim"}}, "hash"),
        ("plain", {"event": {"text": 5}}, "text"),
        ("plain", {"event": None}, "cannot be"),
        ("plain", {"event": {"$int": 5}}, "cannot be"),
        ("plain", {"event": {"$float": "0x00"}}, "cannot be"),
        ("plain", {"event": {"$decimal": "x"}}, "cannot be"),
        ("plain", {"event": {"$dict": [[[1], 2]]}}, "cannot be"),
        ("plain", {"event": {"$what": 1}}, "unknown JSON tag"),
        ("plain", {"salt": "00"}, "hash"),
        ("plain", {"salt": "zz"}, "hexadecimal"),
        ("plain", {"salt": ""}, "hash"),
        ("plain", {"own_salt": True}, "hash"),
        ("plain", {"own_salt": 1}, "own_salt"),
        ("plain", {"hash": "00" * 32}, "hash"),
        ("plain", {"hash": "00"}, "32 bytes"),
        ("plain", {"hash": "ZZ" * 32}, "32 bytes"),
        ("plain", {"payload": "wA=="}, "check"),
        ("plain", {"payload_digest": "00" * 32}, "check"),
        ("plain", {"more": 1}, "more"),
        ("plain", {"check": "00"}, "check"),
        ("payload", {"payload": "!!"}, "check"),
        ("payload", {"payload": ...}, "check"),
        ("payload", {"check": ...}, "check"),
        ("payload", {"event": {"a": 2}}, "check"),
        ("redacted", {"event": {"text": "not gone"}}, "check"),
        ("redacted", {"payload_digest": "00" * 32}, "check"),
        ("redacted", {"payload_digest": ...}, "check"),
        ("redacted", {"own_salt": ...}, "check"),
        ("first", {"ledger": None}, "check"),
        ("first", {"ledger": {"id": "x"}}, "ledger"),
    ],
)  # fmt: skip
def test_a_changed_value_is_refused(sample: dict[str, bytes], name: str, values: dict[str, Any], said: str) -> None:
    """Whatever is changed on a line, the answer is one line that names it, and what to do."""
    line_to_entry(sample[name])
    with pytest.raises(InvalidValue, match=said) as caught:
        line_to_entry(changed(sample[name], **values))
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith((".", "wrote."))


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("payload", {"payload": "!!"}, "cannot be"),
        ("payload", {"payload": "gaFhAg=="}, "hash"),
        ("payload", {"payload": ""}, "hash"),
        ("redacted", {"event": {"text": "not gone"}}, "more than may remain"),
        ("redacted", {"payload_digest": "00" * 32}, "hash"),
        ("redacted", {"payload_digest": "00"}, "32 bytes"),
        ("redacted", {"salt": "00" * 16}, "salt"),
        ("redacted", {"own_salt": False}, "salt"),
        ("first", {"ledger": {"id": "x", "format": 0, "created_at": "x", "created_by": ""}}, "created_at"),
        ("second", {"ledger": {"id": "x", "format": 0, "created_at": "x", "created_by": ""}}, "position 1"),
    ],
)  # fmt: skip
def test_a_line_made_anew_cannot_lie(sample: dict[str, bytes], name: str, values: dict[str, Any], said: str) -> None:
    """Who changes a value and makes the line's check anew is refused by the record's hash, or by what cannot be."""
    with pytest.raises(InvalidValue, match=said):
        line_to_entry(changed(sample[name], remake_check=True, **values))


def test_an_unknown_format_is_named(sample: dict[str, bytes]) -> None:
    """A ledger of a newer format is refused with the cure."""
    said = {**json.loads(sample["first"])["ledger"], "format": 7}
    with pytest.raises(InvalidValue, match=r"format 7.*pip install -U"):
        line_to_entry(changed(sample["first"], remake_check=True, ledger=said))


@pytest.mark.parametrize(
    "line",
    [b"", b"x", b"{", b"{}", b"[]", b"1", b"null", b'"text"', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b'{"position":1}',
     b"1" * 5000, b'{"position":1e999}', b'"\\ud800"', b"PK\x03\x04", b"\xef\xbb\xbf{}"],
)  # fmt: skip
def test_what_is_no_line_is_refused(line: bytes) -> None:
    """Text, numbers, other JSON, binary files and endless nesting are answered plainly."""
    with pytest.raises(InvalidValue, match="not a line of an export"):
        line_to_entry(line)


def test_the_order_of_keys_and_white_space_do_not_matter(sample: dict[str, bytes]) -> None:
    """A line that another program has written anew is the same line."""
    for line in sample.values():
        again = json.dumps(dict(reversed(json.loads(line).items())), indent=2).encode()
        assert line_to_entry(again) == line_to_entry(line)


def test_a_record_with_parts_of_a_newer_version_is_not_exported_wrongly() -> None:
    """What would be lost on the way is refused with the cure."""
    log = EventLog(MemoryBackend())
    log.append([ledger.NoteAdded("a")], stream="s", reason="r")
    [entry] = log.backend.read_entries(0)
    fields = msgspec.msgpack.decode(entry.raw)
    fields[9].append("a newer field of the context")
    with pytest.raises(UnsupportedFormat, match=r"position 1 .*Upgrade"):
        entry_to_line(entry._replace(raw=msgspec.msgpack.encode(fields)))
