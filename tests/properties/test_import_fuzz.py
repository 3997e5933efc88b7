"""Imports of files that were changed at random: refused in one plain line, or the same ledger all the same."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ledger
from ledger.audit import Report
from ledger.backends.check import LogCheck
from ledger.errors import CommandRefused, InvalidValue
from ledger.testing.values import VALUES
from ledger.transfer import importing, jsonlines
from ledger.transfer.copying import rewrite_lines
from ledger.transfer.importing import LineReader, import_lines
from ledger.transfer.jsonlines import export_lines, line_to_entry


def _write() -> list[bytes]:
    """Return the lines of a ledger with values of all sorts."""
    with ledger.open("memory:", actor="ada") as book:
        exp = book.experiment("größe 🚀", objectives={"loss": "min"})
        with exp.new_trial({"lr": 0.1, "shape": (3, 4), "big": 2**80, "nan": float("nan")}).run() as trial:
            trial.log(step=1, loss=0.5)
            trial.complete({"loss": 0.25})
        small = [value for value in VALUES if len(ledger.codec.encode_value(value)) < 100]
        exp.new_trial({f"v{i}": value for i, value in enumerate(small)})
        log = book.log
        log.append([ledger.NoteAdded("a"), ledger.NoteAdded("key"), ledger.NoteAdded("c")], stream="diary", reason="why")
        log.append([ledger.UnknownEvent("Martian", 7, {"a": [1, {"b": None}]})], stream="mars", occurred_at=5)
        log.append([ledger.NoteAdded("own")], stream="diary", ids=[ledger.new_uuid7()], causation_id="c")
        log.append([ledger.NoteAmended(1, "A")], stream="diary")
        found = next(record.position for record in log.read() if getattr(record.event, "text", "") == "key")
        book.redact(found, reason="leaked")
        exp.seal("done")
        return [line for _, line in export_lines(book.log.backend)]


LINES = _write()
WHOLE = b"".join(LINES)

TAGS = ["$int", "$float", "$tuple", "$dict", "$ext", "$bytes", "$decimal", "$uuid", "$datetime"]

json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
    | st.sampled_from([2**64, -(2**63) - 1, 10**400, "0" * 64, "wA==", "ledger", "trial/x/1", "2026-01-01T00:00:00.000000000Z"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=3) | st.sampled_from(TAGS), inner, max_size=2),
    max_leaves=6,
)  # fmt: skip


@st.composite
def flipped(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes with a few changed, taken out or put in."""
    data = bytearray(content) or bytearray(b"x")
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data) - 1))
        match draw(st.sampled_from(["bit", "byte", "cut", "insert", "swap"])):
            case "bit":
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "byte":
                data[place] = draw(st.integers(0, 255))
            case "cut":
                del data[place : place + draw(st.integers(1, 9))]
            case "insert":
                data[place:place] = draw(st.binary(min_size=1, max_size=4))
            case "swap":
                other = draw(st.integers(0, len(data) - 1))
                data[place], data[other] = data[other], data[place]
        if not data:
            return b"x"
    return bytes(data)


@st.composite
def replaced(draw: st.DrawFn, line: bytes) -> bytes:
    """A line with another value somewhere in it; sometimes with its check made anew."""
    content = json.loads(line)
    place: Any = content
    key: Any = draw(st.sampled_from(sorted(content)))
    while isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
        place = place[key]
        key = draw(st.sampled_from(sorted(place)) if isinstance(place, dict) else st.integers(0, len(place) - 1))
    if draw(st.booleans()):
        place[key] = draw(json_values)
    elif isinstance(place, dict):
        place[draw(st.text(max_size=4) | st.sampled_from(sorted(content)))] = place.pop(key)
    else:
        del place[key]
    with contextlib.suppress(TypeError, OverflowError, msgspec.MsgspecError, UnicodeEncodeError):
        if draw(st.booleans()):
            content["check"] = jsonlines._check_of(content)
    return json.dumps(content).encode()


def refusal(work: Callable[[], object]) -> str | None:
    """Do the work; return what it is refused with: an error of the package, on one line; or None."""
    try:
        work()
    except (InvalidValue, CommandRefused) as error:
        text = str(error)
        return text if len(text.splitlines()) == 1 else f"on several lines: {text!r}"
    return None


@settings(max_examples=1500, deadline=None)
@given(st.data())
def test_a_changed_line_is_refused_or_the_same(data: st.DataObject) -> None:
    """Whatever happens to a line's bytes or values, what is read from it is what was written, or an InvalidValue."""
    line = data.draw(st.sampled_from(LINES))
    mutated = data.draw(flipped(line) | replaced(line))
    said = refusal(lambda: line_to_entry(mutated))
    if said is not None:
        assert said.endswith((".", "wrote."))
        assert not said.startswith("on several lines")
        return
    read, made = line_to_entry(mutated), line_to_entry(line)
    assert read == (made if read.identity is not None else made._replace(identity=None))


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A file of lines, some of them changed, moved, missing or repeated."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["flip", "replace", "drop", "repeat", "swap", "cut", "junk"])):
            case "flip":
                lines[place] = draw(flipped(lines[place]))
            case "replace":
                lines[place] = draw(replaced(LINES[place % len(LINES)])) + b"\n"
            case "drop":
                del lines[place]
            case "repeat":
                lines.insert(place, lines[place])
            case "swap":
                other = draw(st.integers(0, len(lines) - 1))
                lines[place], lines[other] = lines[other], lines[place]
            case "cut":
                lines[place:] = [lines[place][: draw(st.integers(0, len(lines[place])))]]
            case "junk":
                lines.insert(place, draw(st.binary(max_size=20)) + b"\n")
        if not lines:
            return b""
    return b"".join(lines)


def check_in_this_process(path: Path, *, artifacts: str) -> Report:
    assert artifacts == "skip", "lines do not carry them"
    check = LogCheck(path)
    try:
        check.run()
        return Report(str(path), check.position, check.edge.root(), check.problems, 0.0)
    finally:
        check.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify in this process: a child for each example would take too long."""
    monkeypatch.setattr(importing, "verify", check_in_this_process)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files())
def test_a_changed_file_is_refused_or_the_same(quick: None, content: bytes) -> None:
    """The ledger made from it is the one that was exported, or its beginning; or there is none, and one line says why."""
    place = Path(tempfile.mkdtemp())
    try:
        said = refusal(lambda: import_lines(LineReader(io.BytesIO(content), "a.jsonl"), place / "copy"))
        if said is not None:
            assert (said[:7], os.listdir(place)) == ("a.jsonl", [])
            return
        with ledger.open(place / "copy") as copy:
            again = b"".join(line for _, line in export_lines(copy.log.backend))
        assert WHOLE.startswith(again)
    finally:
        shutil.rmtree(place)


@settings(max_examples=250, deadline=None)
@given(files())
def test_a_changed_file_is_refused_or_the_same_when_rewriting(content: bytes) -> None:
    """Appended again as new records: what was written, or one line that says why not; repeating it appends nothing."""
    with ledger.open("memory:") as book:
        said = refusal(lambda: rewrite_lines(LineReader(io.BytesIO(content), "a.jsonl"), book))
        if said is None:
            assert rewrite_lines(LineReader(io.BytesIO(content), "a.jsonl"), book).copied == 0
        else:
            assert said[:7] == "a.jsonl"
        assert {record.type for record in book.log.read()} <= {json.loads(line)["type"] for line in LINES}
