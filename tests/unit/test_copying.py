"""Copies of ledgers: imported exactly, appended again as new records, and merged."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import ledger
from ledger import events as ev
from ledger.errors import (
    CommandRefused,
    ExperimentExists,
    InvalidValue,
    LedgerBusy,
    LedgerNotFound,
    NotALedger,
    UnknownExperiment,
)
from ledger.streams import experiment_stream, trial_stream
from ledger.transfer import copying, jsonlines
from ledger.transfer.artifacts import export_artifacts
from ledger.transfer.copying import RewriteReport, rewrite_lines
from ledger.transfer.importing import LineReader, import_lines
from ledger.transfer.jsonlines import export_lines, record_json
from ledger.transfer.merging import merge
from ledger.transfer.plain import plain
from ledger.values import to_json

EVERYTHING = Path(__file__).parents[1] / "everything.py"


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with one of everything, of a process that had event types of its own."""
    path = tmp_path_factory.mktemp("everything") / "runs.ledger"
    subprocess.run([sys.executable, "-W", "error", EVERYTHING, path], check=True)
    return path


def exported(book: ledger.Ledger, after: int = 0, experiment: UUID | None = None) -> bytes:
    return b"".join(line for _, line in export_lines(book.log.backend, after, experiment))


def exported_from(path: Path) -> bytes:
    with ledger.open(path) as book:
        return exported(book)


def reader(lines: bytes) -> LineReader:
    return LineReader(io.BytesIO(lines), "a.jsonl")


def said(value: Any) -> str:
    """What a value says, in a form that can be compared: NaN is not equal to itself."""
    return json.dumps(to_json(plain(value)))


def content(book: ledger.Ledger, *, own_streams: bool = True) -> list[Any]:
    """What a rewritten record keeps, of each record."""
    return [
        (
            record.stream, record.version, record.type, record.schema, said(record.event), record.actor, record.happened_at,
            record.reason, record.correlation_id, record.causation_id, record.context and record.context.record_id,
            record.is_redacted, record.ordinal,
        )
        for record in book.log.read()
        if own_streams or record.stream.startswith(("experiment/", "trial/"))
    ]  # fmt: skip


def small(path: Path | str = "memory:") -> ledger.Ledger:
    """Open a ledger with an experiment of two trials, and a diary."""
    book = ledger.open(path, actor="ada@host/1")
    exp = book.experiment("tuning", objectives={"loss": "min"})
    with exp.new_trial({"lr": 0.1}).run() as trial:
        trial.complete({"loss": 0.5})
    exp.new_trial({"lr": 0.2})
    book.log.append([ledger.NoteAdded("dear diary")], stream="diary")
    return book


# ---------------------------------------------------------------------------------------------------- exact copies


def test_an_import_is_the_same_ledger(everything: Path, tmp_path: Path) -> None:
    """Records, salts, hashes, root, id and creation are equal; the copy verifies, and goes on."""
    lines = exported_from(everything)
    report = import_lines(reader(lines), tmp_path / "copy", everything / "blobs")
    with ledger.open(everything, readonly=True) as book, ledger.open(tmp_path / "copy") as copy:
        assert (report.head, report.root) == copy.log.backend.tree_head() == book.log.backend.tree_head()
        assert report.ledger_id == copy.id == book.id
        assert copy.log.backend.identity == book.log.backend.identity
        assert [json.dumps(record_json(record)) for record in copy.log.read()] == [
            json.dumps(record_json(record)) for record in book.log.read()
        ]
        assert copy.log.backend.redactions() == (book.log.backend.redactions().total, 0)  # no byte of a secret came along
        copy.experiment("größe 🚀").new_trial({"new": 1})
    assert exported_from(tmp_path / "copy").startswith(lines)
    assert ledger.audit.verify(tmp_path / "copy", artifacts="content").problems == []
    assert os.listdir(tmp_path) == ["copy"]


@pytest.mark.parametrize("registered", [True, False])
def test_an_import_needs_no_classes_and_minds_none(everything: Path, tmp_path: Path, registered: bool) -> None:
    """With the writer's event types, or with older classes of the same names, the same ledger is made."""
    (tmp_path / "lines").write_bytes(exported_from(everything))
    code = """
import sys, ledger
from ledger.transfer.importing import *
if sys.argv[4] == "True":
    sys.path.insert(0, sys.argv[1])
    import everything
    everything.register()
else:
    @ledger.event
    class SkySeen(ledger.Event):
        other: int
    @ledger.event
    class PhotoTaken(ledger.Event):
        size: int
with open(sys.argv[2], "rb") as file:
    import_lines(LineReader(file), sys.argv[3])
"""
    command = [sys.executable, "-c", code, EVERYTHING.parent, tmp_path / "lines", tmp_path / "copy", str(registered)]
    subprocess.run(command, check=True)
    assert exported_from(tmp_path / "copy") == (tmp_path / "lines").read_bytes()


def test_a_ledger_in_memory_becomes_one_on_disk(tmp_path: Path) -> None:
    """The lines of a ledger in memory are imported like any others."""
    with small() as book:
        report = import_lines(reader(exported(book)), tmp_path / "copy")
        assert (report.head, report.root) == book.log.backend.tree_head()


def test_the_last_line_may_lack_its_end(tmp_path: Path) -> None:
    """Empty lines and a missing line break at the end are no damage."""
    with small() as book:
        lines = exported(book)
    report = import_lines(reader(b"\n" + lines.replace(b"\n", b"\r\n\n").rstrip()), tmp_path / "copy")
    assert report.head == lines.count(b"\n")


def damage(lines: list[bytes]) -> dict[str, tuple[list[bytes], str]]:
    """Files that are damaged, and what must be said of each."""
    with small() as other:
        foreign = exported(other).splitlines(keepends=True)
    cut = lines[3][: len(lines[3]) // 2]
    return {
        "cut line": ([*lines[:3], cut], "a.jsonl, line 4: it is not a line of an export"),
        "missing line": ([*lines[:2], *lines[3:]], "a.jsonl, line 3: its position is 4, and should be 3"),
        "swapped lines": ([lines[0], lines[2], lines[1], *lines[3:]], "a.jsonl, line 2: its position is 3"),
        "line twice": ([lines[0], *lines], "a.jsonl, line 2: its position is 1"),
        "foreign line": ([*lines[:3], foreign[3], *lines[4:]], "a.jsonl, line 4: it cannot follow"),
        "two ledgers": ([*lines, *foreign], "line 8: its position is 1"),
        "text": ([*lines[:2], b"hello\n"], "a.jsonl, line 3: it is not a line"),
        "other json": ([b'{"a": 1}\n'], "a.jsonl, line 1: it is not a line"),
        "a list": ([b"[\n", *lines, b"]\n"], "a.jsonl, line 1: it is not a line"),
        "a part": (lines[2:], "a.jsonl, line 1: it is not the first line of a whole export"),
        "nothing": ([], "a.jsonl has no lines"),
        "empty lines": ([b"\n", b"  \n"], "a.jsonl has no lines"),
        "endless line": ([b" " * (17 << 20) + b"x"], "line"),
        "endless text": ([b"x" * (17 << 20)], "a.jsonl, line 1: it is longer than any record's"),
    }


@pytest.mark.parametrize("kind", list(damage([b"{}\n"] * 7)))
def test_a_damaged_file_is_refused_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    """File, line and the thing are named on one line, with the cure; nothing is there afterwards."""
    with small() as book:
        file, said = damage(exported(book).splitlines(keepends=True))[kind]
    with pytest.raises(InvalidValue) as caught:
        import_lines(reader(b"".join(file)), tmp_path / "copy")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_file_cut_before_a_redaction_is_refused(tmp_path: Path) -> None:
    """A redacted record without the record that says why shows that the file was cut short."""
    with small() as book:
        head = book.log.head
        book.redact(head, reason="secret")
        lines = exported(book).splitlines(keepends=True)
    with pytest.raises(InvalidValue, match=rf"line {head}: its record is redacted.*cut short"):
        import_lines(reader(b"".join(lines[:-1])), tmp_path / "copy")


def test_a_payload_that_is_redacted_during_the_export_is_gone_from_the_copy(tmp_path: Path) -> None:
    """The line was read before, the redaction after: the copy drops the payload again."""
    with small() as book:
        book.log.append([ledger.NoteAdded(f"number {i}") for i in range(300)], stream="long")
        found = export_lines(book.log.backend)
        lines = [next(found) for _ in range(20)]
        book.redact(15, 200, reason="secret")
        file = b"".join(line for _, line in [*lines, *found])
        assert b"number 7" in file
        report = import_lines(reader(file), tmp_path / "copy")
        assert (report.head, report.root) == book.log.backend.tree_head()
        with ledger.open(tmp_path / "copy") as copy:
            assert [record.event for record in copy.log.read()] == [record.event for record in book.log.read()]
            assert copy.log.backend.redactions() == (2, 1)


def test_no_right_to_create_a_ledger(tmp_path: Path) -> None:
    """Said plainly, with the cure."""
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with small() as book, pytest.raises(ledger.ReadOnlyLedger, match="chmod"):
        import_lines(reader(exported(book)), tmp_path / "copy")


def test_what_is_at_the_path_stays(tmp_path: Path) -> None:
    """A ledger, a file, somebody's directory: each is refused and left alone; an empty directory is taken."""
    with small(tmp_path / "there") as book:
        lines = exported(book)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("42")
    (tmp_path / "empty").mkdir()
    for name, error, said in (
        ("there", CommandRefused, "not empty.*--rewrite"),
        ("file", NotALedger, "is a file"),
        ("thesis", NotALedger, "thesis.tex"),
        ("no/where", LedgerNotFound, "does not exist"),
    ):
        with pytest.raises(error, match=said):
            import_lines(reader(lines), tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["empty", "file", "there", "thesis"]
    import_lines(reader(lines), tmp_path / "empty")
    assert exported_from(tmp_path / "empty") == exported_from(tmp_path / "there") == lines


def test_what_appears_at_the_path_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that somebody else fills during the import is not replaced."""
    from ledger.transfer import importing

    with small() as book:
        lines = exported(book)
    verify = importing.verify

    def slowly(path: Path, **more: Any) -> Any:
        (tmp_path / "copy").mkdir()
        (tmp_path / "copy" / "data.mdb").write_text("mine")
        return verify(path, **more)

    monkeypatch.setattr(importing, "verify", slowly)
    with pytest.raises(CommandRefused, match="not empty"):
        import_lines(reader(lines), tmp_path / "copy")
    assert os.listdir(tmp_path) == ["copy"]
    assert (tmp_path / "copy" / "data.mdb").read_text() == "mine"


_SLOW_IMPORT = """
import sys
from ledger.transfer.importing import *
class Slow:
    def __init__(self, file): self.file, self.count = file, 0
    def fileno(self): return self.file.fileno()
    def readline(self, size):
        self.count += 1
        if self.count == 1500:  # one batch is written
            print("half", flush=True)
            sys.stdin.readline()
        return self.file.readline(size)
import_lines(LineReader(Slow(open(sys.argv[1], "rb"))), sys.argv[2])
"""


def start_slowly(source: Path, path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOW_IMPORT, source, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    return process


def stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_killed_import_is_repeated(everything: Path, tmp_path: Path) -> None:
    """What was killed half-way leaves no ledger, only a directory beside it, which the next import removes."""
    lines = exported_from(everything)
    (tmp_path / "lines").write_bytes(lines)
    stop(start_slowly(tmp_path / "lines", tmp_path / "copy"))
    assert sorted(os.listdir(tmp_path)) == [".copy.importing", "lines"]
    import_lines(reader(lines), tmp_path / "copy")
    assert sorted(os.listdir(tmp_path)) == ["copy", "lines"]
    assert exported_from(tmp_path / "copy") == lines


def test_two_imports_to_one_path(everything: Path, tmp_path: Path) -> None:
    """The second one is refused while the first one runs, and disturbs nothing."""
    lines = exported_from(everything)
    (tmp_path / "lines").write_bytes(lines)
    first = start_slowly(tmp_path / "lines", tmp_path / "copy")
    try:
        with pytest.raises(LedgerBusy, match="another import"):
            import_lines(reader(lines), tmp_path / "copy")
        first.communicate("go on\n", timeout=60)
    finally:
        stop(first)
    assert exported_from(tmp_path / "copy") == lines


def test_a_large_import_tells_how_far_it_is(everything: Path, tmp_path: Path) -> None:
    """Progress is told in lines, of about how many there are."""
    (tmp_path / "lines").write_bytes(exported_from(everything))
    seen: list[tuple[int, int]] = []
    with open(tmp_path / "lines", "rb") as file:
        head = import_lines(LineReader(file, "x", lambda done, total: seen.append((done, total))), tmp_path / "copy").head
    assert seen[-1] == (head, head)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert all(done <= total < 10 * head for done, total in seen)


# -------------------------------------------------------------------------------------------------------- artifacts


def with_artifacts(path: Path | str, tmp_path: Path) -> ledger.Ledger:
    """Open a ledger with an artifact of each kind, and one that was redacted."""
    book = small(path)
    exp = book.get_experiment("tuning")
    place = tmp_path / "files"
    (place / "sub").mkdir(parents=True)
    (place / "sub" / "text").write_text("text " * 5000)
    exp.log_artifact(place)
    exp.trial(1).log_artifact([1, 2, 3], name="list")
    exp.trial(1).log_artifact(b"the key is 123", name="secret")
    book.redact(book.log.head, reason="leaked")
    return book


def test_artifacts_go_beside_an_export_and_come_back(tmp_path: Path, ledger_path: Path) -> None:
    """What the lines refer to is copied to a directory, and nothing that was redacted; both imports take it from there."""
    with with_artifacts("memory:", tmp_path) as source:
        lines = exported(source)
        assert export_artifacts(source, tmp_path / "beside") == 3
        assert export_artifacts(source, tmp_path / "beside") == 0, "it is there already"
    assert not [file for file in (tmp_path / "beside").rglob("*") if file.is_file() and b"the key" in file.read_bytes()]
    import_lines(reader(lines), tmp_path / "copy", tmp_path / "beside")
    with ledger.open(ledger_path) as book:
        rewrite_lines(reader(lines), book, tmp_path / "beside")
    for path in (tmp_path / "copy", ledger_path):
        ledger.audit.verify(path, artifacts="content").raise_for_problem()
        with ledger.open(path) as book:
            exp = book.get_experiment("tuning")
            assert exp.artifact("files").read_bytes("sub/text") == b"text " * 5000
            assert exp.trial(1).artifact("list").load() == [1, 2, 3]


def test_an_import_without_artifacts_says_what_is_missing(tmp_path: Path) -> None:
    """The records are all there; a verification names each artifact that is not."""
    with with_artifacts("memory:", tmp_path) as source:
        lines = exported(source)
    import_lines(reader(lines), tmp_path / "copy")
    report = ledger.audit.verify(tmp_path / "copy")
    assert len(report.problems) == 2
    assert all("is missing" in problem for problem in report.problems)
    assert ledger.audit.verify(tmp_path / "copy", artifacts="skip").ok


def test_an_import_from_a_directory_that_lacks_something_makes_nothing(tmp_path: Path) -> None:
    """The error names the artifact; there is no ledger, and nothing else is left."""
    with with_artifacts("memory:", tmp_path) as source:
        lines = exported(source)
        export_artifacts(source, tmp_path / "beside")
        wanted = source.get_experiment("tuning").trial(1).artifact("list").digest
    (tmp_path / "beside" / wanted[:2] / wanted).unlink()
    with pytest.raises(ledger.InvalidValue, match=r"beside does not hold all.*'list'"):
        import_lines(reader(lines), tmp_path / "copy", tmp_path / "beside")
    with pytest.raises(ledger.InvalidValue, match="there is no directory"):
        import_lines(reader(lines), tmp_path / "copy", tmp_path / "nothing")
    assert sorted(os.listdir(tmp_path)) == ["beside", "files"]


def test_a_merge_takes_artifacts_along(tmp_path: Path, ledger_path: Path) -> None:
    """What the merged records refer to is there before they are; a second merge takes what is new."""
    with with_artifacts(tmp_path / "source", tmp_path) as source, ledger.open(ledger_path) as target:
        merge(source, target)
        copy = target.get_experiment("tuning")
        assert copy.artifact("files").read_bytes("sub/text") == b"text " * 5000
        source.get_experiment("tuning").trial(1).log_artifact("more", name="more")
        assert merge(source, target).copied == 1
        assert copy.trial(1).artifact("more").load() == "more"


def test_a_merge_of_a_damaged_artifact_writes_nothing(tmp_path: Path, ledger_path: Path) -> None:
    """An artifact that is missing in the source stops the merge before the first record."""
    with with_artifacts(tmp_path / "source", tmp_path) as source, ledger.open(ledger_path) as target:
        wanted = source.get_experiment("tuning").trial(1).artifact("list").digest
        source.log.backend.blobs.place(wanted).unlink()
        with pytest.raises(ledger.Corrupted, match=r"'list'.*missing"):
            merge(source, target)
        assert target.log.head == 0


# -------------------------------------------------------------------------------------------------- as new records


def test_a_rewritten_ledger_says_the_same(everything: Path, ledger_path: Path) -> None:
    """Streams, versions, events, actors, contexts and times are equal; ids, hashes and times of recording are new."""
    lines = exported_from(everything)
    begun = time.time_ns()
    with ledger.open(ledger_path) as book, ledger.open(everything) as source:
        report = rewrite_lines(reader(lines), book, everything / "blobs")
        assert report == RewriteReport(source.log.head, source.log.head, 0)
        assert content(book) == [(*each[:-1], ordinal) for each, ordinal in zip(content(source), ordinals(book), strict=True)]
        assert not {record.append_id for record in book.log.read()} & {record.append_id for record in source.log.read()}
        assert all(record.recorded_at >= begun for record in book.log.read())
        assert book.id != source.id
        for state, copy in zip(states(source), states(book), strict=True):
            assert said(state) == said(copy)


def ordinals(book: ledger.Ledger) -> list[int]:
    return [record.ordinal for record in book.log.read()]


def states(book: ledger.Ledger) -> list[Any]:
    """The state of every experiment and trial."""
    with book.log.backend.view() as view:
        experiments = list(view.experiments())
        trials = [view.trial(exp.id, number) for exp in experiments for number in range(exp.next_trial_id)]
    return [*experiments, *trials]


def test_rewriting_twice_is_rewriting_once(everything: Path, ledger_path: Path) -> None:
    """What was appended before is known again, whether it comes as a whole, as a part, or from a copy of the copy."""
    lines = exported_from(everything)
    with ledger.open(ledger_path) as book:
        rewrite_lines(reader(lines), book, everything / "blobs")
        before = exported(book)
        count = lines.count(b"\n")
        assert rewrite_lines(reader(lines), book) == RewriteReport(count, 0, count)
        part = b"".join(line for line in lines.splitlines(keepends=True)[1500:])
        assert rewrite_lines(reader(part), book).copied == 0
        assert rewrite_lines(reader(before), book).copied == 0  # its own
        assert exported(book) == before
    with ledger.open(everything) as source:
        assert rewrite_lines(reader(before), source).copied == 0  # the copy, back to where it is from


def test_a_killed_rewrite_is_repeated(everything: Path, ledger_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on where it was killed, between any two batches."""
    monkeypatch.setattr(copying, "_BATCH_RECORDS", 100)
    lines = exported_from(everything)
    whole = lines.splitlines(keepends=True)
    with ledger.open(ledger_path) as book:
        cut = next(place for place, line in enumerate(whole) if b'"stream":"long"' in line)  # no append is cut in two
        rewrite_lines(reader(b"".join(whole[:cut])), book, everything / "blobs")
        first = book.log.head
        rewrite_lines(reader(lines), book)
        with ledger.open(everything) as source:
            assert [each[:-1] for each in content(book)] == [each[:-1] for each in content(source)]
        assert (first, book.log.head) == (cut, len(whole))


def test_a_part_of_an_export_is_appended(ledger_path: Path) -> None:
    """One experiment, or what came after a position, as long as what it builds on is there."""
    with small() as source, ledger.open(ledger_path) as book:
        exp = source.get_experiment("tuning")
        one = exported(source, experiment=exp.state.id)
        assert rewrite_lines(reader(one), book).copied == 5 + 1
        head = source.log.head
        exp.new_trial({"lr": 0.3})
        assert rewrite_lines(reader(exported(source, after=head)), book).copied == 1
        assert rewrite_lines(reader(exported(source)), book) == RewriteReport(head + 1, 1, head)  # the diary was left
        assert book.get_experiment("tuning").trial(3).config == {"lr": 0.3}
        with ledger.open("memory:") as other, pytest.raises(CommandRefused, match=r"line 1: .*from the beginning"):
            rewrite_lines(reader(exported(source, after=head)), other)


def test_an_empty_export_appends_nothing(ledger_path: Path) -> None:
    """A part in which there is nothing is a part all the same."""
    with ledger.open(ledger_path) as book:
        assert rewrite_lines(reader(b""), book) == RewriteReport(0, 0, 0)


def test_own_streams_are_appended_to_where_they_stand(ledger_path: Path) -> None:
    """What refers to a version of a stream refers to the copy, wherever that came to stand."""
    with ledger.open("memory:") as source, ledger.open(ledger_path) as book:
        source.log.append([ledger.NoteAdded("a"), ledger.NoteAdded("b"), ledger.NoteAdded("secret")], stream="diary")
        source.log.append([ledger.NoteAmended(2, "B")], stream="diary")
        source.redact(3, reason="secret")
        lines = exported(source)
        book.log.append([ledger.NoteAdded("mine"), ledger.NoteAdded("secretly")], stream="diary")
        rewrite_lines(reader(lines), book)
        events = [record.event for record in book.log.read(stream="diary")]
        assert [event.text for event in events[:6]] == ["mine", "secretly", "a", "b", "", "B"]
        assert (events[5].version, events[6].version) == (4, 5)
        assert [record.version for record in book.log.read() if record.is_redacted] == [5]
        assert rewrite_lines(reader(lines), book).copied == 0
        part = exported(source, after=3)
        with ledger.open("memory:") as other, pytest.raises(CommandRefused, match=r"version 2 of 'diary'.*was not copied"):
            rewrite_lines(reader(part), other)


@pytest.mark.parametrize(
    ("pick", "said"),
    [
        (lambda lines: [*lines[:2], *lines[3:]], "line 3: version 3 of .* after 1: a line is missing"),
        (lambda lines: [lines[0], lines[2], lines[1]], "line 3: position 2 after 3: lines are out of order"),
        (lambda lines: [*lines, lines[0]], "line 8: position 1 after 7"),
        (lambda lines: [lines[0], b"x"], "line 2: it is not a line"),
        (lambda lines: [lines[0], lines[1].replace(b"0.1", b"0.3")], "line 2: .*fails its hash"),
    ],
)
def test_damage_is_refused_when_rewriting(ledger_path: Path, pick: Callable[[list[bytes]], list[bytes]], said: str) -> None:
    """Every line is checked, as for an exact copy."""
    with small() as source, ledger.open(ledger_path) as book:
        file = pick(exported(source).splitlines(keepends=True))
        with pytest.raises(InvalidValue, match="a.jsonl, " + said):
            rewrite_lines(reader(b"".join(file)), book)


def test_a_name_that_is_taken_stops_a_rewrite(ledger_path: Path) -> None:
    """The line is named, and what to do."""
    with small() as source, ledger.open(ledger_path) as book:
        book.experiment("tuning")
        with pytest.raises(ExperimentExists, match=r"a.jsonl, line 1: .*'tuning'"):
            rewrite_lines(reader(exported(source)), book)
        assert book.log.head == 1


def test_an_append_that_is_cut_in_two_is_not_copied_twice(ledger_path: Path) -> None:
    """A part that begins in the middle of an append, then the whole: refused rather than lost or repeated."""
    with ledger.open("memory:") as source, ledger.open(ledger_path) as book:
        source.log.append([ledger.NoteAdded("a"), ledger.NoteAdded("b")], stream="diary")
        rewrite_lines(reader(exported(source, after=1)), book)
        with pytest.raises(CommandRefused, match=r"in the middle of it.*another ledger"):
            rewrite_lines(reader(exported(source)), book)


# ------------------------------------------------------------------------------------------------------------ merge


def test_a_merge_copies_experiments_with_their_history(everything: Path, ledger_path: Path) -> None:
    """Experiments and trials come with everything that happened; other streams stay; an event says where it is from."""
    with ledger.open(everything) as source, ledger.open(ledger_path) as book:
        book.experiment("mine").new_trial({})
        seen: list[tuple[int, int]] = []
        report = merge(source, book, progress=lambda done, total: seen.append((done, total)))
        copied = [each[:-1] for each in content(book, own_streams=False)[2:]]
        assert copied == [each[:-1] for each in content(source, own_streams=False)]
        assert {said(state) for state in states(source)} <= {said(state) for state in states(book)}
        merged = list(book.log.read(stream="ledger"))[-1]
        size, root = source.log.backend.tree_head()
        names = [experiment_stream(state) for state in report.experiments]
        assert merged.event == ev.ExperimentsMerged(str(source.id), size, root, len(copied), names)
        assert (merged.actor, merged.position) == (book.log.actor, report.position)
        assert (report.source_id, report.size, report.root, report.copied) == (source.id, size, root, len(copied))
        assert len(report.experiments) == 5
        assert seen[-1] == (len(copied), len(copied))
        assert source.log.head == size


_SLOW_MERGE = """
import sys, ledger
from ledger.transfer import copying
from ledger.transfer.merging import merge
copying._BATCH_RECORDS = 50
def pause(done, total):
    if done > 300 and not said:
        said.append(print("half", flush=True))
        sys.stdin.readline()
said = []
with ledger.open(sys.argv[1], readonly=True) as source, ledger.open(sys.argv[2]) as book:
    merge(source, book, progress=pause)
"""


def test_a_killed_merge_is_repeated(everything: Path, ledger_path: Path) -> None:
    """What was copied is there, the rest follows, once; one event tells of each merge that came to its end."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOW_MERGE, everything, ledger_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    stop(process)
    with ledger.open(everything) as source, ledger.open(ledger_path) as book:
        first = len(content(book, own_streams=False))
        total = len(content(source, own_streams=False))
        assert 0 < first < total
        assert merge(source, book).copied == total - first
        copied = [each[:-1] for each in content(book, own_streams=False)]
        assert copied == [each[:-1] for each in content(source, own_streams=False)]
        assert len(list(book.log.read(stream="ledger"))) == 1


def test_merging_again_copies_what_is_new(ledger_path: Path) -> None:
    """Nothing the second time; what the source has got since, the third time."""
    with small() as source, ledger.open(ledger_path) as book:
        assert merge(source, book).copied == 6
        head = book.log.head
        again = merge(source, book)
        assert (again.copied, again.experiments, again.position, book.log.head) == (0, (), None, head)
        source.get_experiment("tuning").trial(2).cancel(reason="enough")
        source.experiment("another")
        third = merge(source, book)
        assert (third.copied, len(third.experiments)) == (2, 2)
        assert [record.type for record in book.log.read(after=head)] == [
            "TrialCanceled",
            "ExperimentCreated",
            "ExperimentsMerged",
        ]
        assert book.get_experiment("tuning").trial(2).status == "CANCELED"


def test_an_experiment_that_went_on_by_itself_is_refused(ledger_path: Path) -> None:
    """Before anything is written, with its name; unless there is nothing new to copy."""
    with small() as source, ledger.open(ledger_path) as book:
        merge(source, book)
        book.get_experiment("tuning").new_trial({"lr": 9})
        assert merge(source, book).copied == 0
        source.experiment("another")
        source.get_experiment("tuning").trial(2).note("new")
        before = book.log.head
        with pytest.raises(CommandRefused, match="'tuning' has events of its own"):
            merge(source, book)
        assert book.log.head == before
        assert merge(source, book, ["another"]).copied == 1


def test_copies_go_back_and_forth(ledger_path: Path) -> None:
    """An experiment that is carried on in turns is the same in both ledgers."""
    with small() as one, ledger.open(ledger_path) as two:
        for turn, (here, there) in enumerate([(one, two), (two, one)] * 2):
            here.get_experiment("tuning").new_trial({"turn": turn})
            assert merge(here, there).copied >= 1
            assert merge(there, here).copied == 0
        configs = [trial.config for trial in one.get_experiment("tuning").trials()]
        assert configs == [trial.config for trial in two.get_experiment("tuning").trials()]
        assert len(configs) == 6


def test_a_backup_that_went_on_is_merged_back(tmp_path: Path, ledger_path: Path) -> None:
    """An exact copy has the records already: what it got since is what is copied."""
    with small(ledger_path) as book:
        import_lines(reader(exported(book)), tmp_path / "copy")
        with ledger.open(tmp_path / "copy") as copy:
            copy.get_experiment("tuning").new_trial({"lr": 0.3})
            assert merge(copy, book).copied == 1


def test_a_name_that_is_taken_needs_another(ledger_path: Path) -> None:
    """Refused before anything is written, naming the cure; with it, names are replaced wherever they are said."""
    with small() as source, ledger.open(ledger_path) as book:
        source.get_experiment("tuning").rename("tuned")
        source.get_experiment("tuned").delete()
        source.get_experiment("tuned", deleted=True).restore("tuned")
        taken = book.experiment("tuned")
        with pytest.raises(ExperimentExists, match="--rename tuned=NEW"):
            merge(source, book)
        assert book.log.head == 1
        report = merge(source, book, rename={"tuned": "tuned elsewhere"})
        names = [
            getattr(record.event, "name", None) for record in book.log.read(types=["ExperimentRenamed", "ExperimentRestored"])
        ]
        assert names == ["tuned elsewhere", "tuned elsewhere"]
        assert report.renamed == {"tuned": "tuned elsewhere"}
        assert list(book.log.read(stream="ledger"))[-1].event.renamed == report.renamed
        assert book.get_experiment("tuned").state.id == taken.state.id
        assert merge(source, book).copied == 0
        source.get_experiment("tuned").new_trial({"later": 1})
        assert merge(source, book).copied == 1
        assert len(list(book.get_experiment("tuned elsewhere").trials())) == 3


@pytest.mark.parametrize(
    ("rename", "said"),
    [
        ({"tunning": "x"}, "Did you mean 'tuning'"),
        ({"tuning": ""}, "not empty"),
        ({"tuning": 5}, "not empty"),
        ({"tuning": "\ud800"}, "surrogate"),
        ({"tuning": "x" * 20_000}, "at most"),
    ],
)
def test_names_that_cannot_be(ledger_path: Path, rename: dict[str, Any], said: str) -> None:
    """A slip of the pen in a name is told, and nothing is copied."""
    with small() as source, ledger.open(ledger_path) as book:
        with pytest.raises(InvalidValue, match=said):
            merge(source, book, rename=rename)
        assert book.log.head == 0


def test_some_experiments_are_merged(ledger_path: Path) -> None:
    """By name or id, live or deleted; one that is not there is named."""
    with small() as source, ledger.open(ledger_path) as book:
        other, third = source.experiment("other"), source.experiment("third")
        third.delete()
        assert merge(source, book, ["other"]).experiments == (other.state.id,)
        assert merge(source, book, "third").copied == 2
        assert merge(source, book, [source.get_experiment("tuning").state.id]).copied == 6
        with pytest.raises(UnknownExperiment, match="Did you mean 'other'"):
            merge(source, book, ["othr"])
        assert merge(source, book, []).copied == 0


def test_a_redaction_is_merged(ledger_path: Path) -> None:
    """Of a redacted record what remains is copied, and it is redacted there; one that is redacted later, then."""
    with small() as source, ledger.open(ledger_path) as book:
        trial = source.get_experiment("tuning").trial(2)
        trial.note("the key is 123")
        trial.note("the other key is 456")
        source.redact(source.log.head - 1, reason="leaked")
        merge(source, book)
        notes = list(book.log.read(types=["NoteAdded"]))
        assert [(record.event.text, record.is_redacted) for record in notes] == [("", True), ("the other key is 456", False)]
        source.redact(source.log.head - 1, reason="leaked, too")
        assert merge(source, book).copied == 1
        assert [record.event.text for record in book.log.read(types=["NoteAdded"])] == ["", ""]


def test_a_redaction_in_the_same_transaction_is_taken(ledger_path: Path) -> None:
    """A record and its redaction come in one batch of a copy."""
    with ledger.open("memory:") as source, ledger.open(ledger_path) as book:
        trial = source.experiment("e").new_trial({"key": "secret"})
        source.redact(2, reason="leaked")
        merge(source, book)
        assert book.experiment("e").trial(trial.id).config == {}


def test_a_ledger_is_not_merged_into_itself(ledger_path: Path) -> None:
    """The same handle, or the same directory, is refused."""
    with small(ledger_path) as book, ledger.open(ledger_path) as again:
        for other in (book, again):
            with pytest.raises(InvalidValue, match="the same ledger"):
                merge(other, book)


def test_a_refused_copy_stops_the_ones_behind_it(ledger_path: Path) -> None:
    """When somebody else writes between the look and the commit, nothing is copied out of order."""
    with small() as source, ledger.open(ledger_path) as book:
        copier = copying.Copier(book.log)
        stream = trial_stream(source.get_experiment("tuning").state.id, 1)
        found = [(e, f"line {e.position}") for e in map(_envelope, export_lines(source.log.backend))]
        for piece in copying.pieces(found):
            copier.add(piece)
        book.experiment("tuning")  # takes the name
        with pytest.raises(ExperimentExists, match="line 1: "):
            copier.flush()
        assert (book.log.head, book.log.version(stream)) == (1, 0)


def _envelope(found: tuple[int, bytes]) -> Any:
    return jsonlines.line_to_entry(found[1]).envelope


def test_two_merges_at_once(ledger_path: Path) -> None:
    """A record that another process copied meanwhile is not copied again."""
    with small() as source, ledger.open(ledger_path) as book:
        copier = copying.Copier(book.log)
        for piece in copying.pieces([(e, "x") for e in map(_envelope, export_lines(source.log.backend))]):
            copier.add(piece)
        merge(source, book)
        head = book.log.head
        copier.flush()
        assert [record.type for record in book.log.read(after=head)] == ["NoteAdded"]  # the diary


def test_the_summary_of_many_experiments_fits_records(ledger_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event names every experiment; several events do when there are too many for one."""
    from ledger.transfer import merging

    monkeypatch.setattr(merging, "_NAMED_PER_EVENT", 2)
    with ledger.open("memory:") as source, ledger.open(ledger_path) as book:
        for number in range(5):
            source.experiment(str(number))
        report = merge(source, book)
        events = [record.event for record in book.log.read(stream="ledger")]
        assert [event.records for event in events] == [2, 2, 1]
        assert [stream for event in events for stream in event.experiments] == list(map(experiment_stream, report.experiments))


def test_lines_say_where_a_copy_is_from(ledger_path: Path) -> None:
    """An export of a merged ledger carries the event like any other record."""
    with small() as source, ledger.open(ledger_path) as book:
        merge(source, book)
        line = json.loads(exported(book).splitlines()[-1])
        assert (line["type"], line["event"]["source"]) == ("ExperimentsMerged", str(source.id))
