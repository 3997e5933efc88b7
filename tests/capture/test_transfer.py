"""Captures on the way: merges, exports of one experiment and rewriting imports bring what trials refer to, each once."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ledger
from ledger.capture.collect import Capture, make_capture
from ledger.capture.record import with_captures
from ledger.transfer.copying import rewrite_lines
from ledger.transfer.importing import LineReader
from ledger.transfer.jsonlines import export_lines
from ledger.transfer.merging import merge

GIT = [make_capture("git", {"commit": str(n) * 40, "patch": "a secret"}) for n in range(3)]


def live(exp: ledger.Experiment, capture: Capture) -> ledger.Trial:
    """Record a trial that ran with the capture."""
    trial = exp.new_trial({})
    exp.book.log.execute(with_captures(exp.id, trial.id, {capture.kind: capture}, None))
    return trial


@pytest.fixture
def source(tmp_path: Path) -> Iterator[ledger.Ledger]:
    """Two experiments, which share what they ran with in part: the second refers to what the first stored."""
    with ledger.open(tmp_path / "source.ledger") as opened:
        one, two = opened.experiment("one"), opened.experiment("two")
        for exp, capture in ((one, GIT[0]), (two, GIT[0]), (one, GIT[1]), (two, GIT[2])):
            live(exp, capture)
        yield opened


@pytest.fixture(params=["memory:", "target.ledger"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ledger.Ledger]:
    """An empty ledger of each kind, which is in order at the end."""
    with ledger.open("memory:" if request.param == "memory:" else tmp_path / request.param) as opened:
        yield opened
        opened.log.backend.check()


def commits(book: ledger.Ledger, name: str) -> list[str]:
    """Return what the trials of an experiment ran with."""
    return [trial.captured["git"].get("commit", "?")[:1] for trial in book.get_experiment(name).trials()]


def stored(book: ledger.Ledger) -> list[str]:
    """Return the commits of the captures that a ledger has."""
    return [record.event.content.get("commit", "?")[:1] for record in book.log.read(types=[ledger.CaptureStored])]


def rewritten(book: ledger.Ledger, source: ledger.Ledger, only: str | None = None, after: int = 0) -> None:
    """Export a ledger or one experiment of it, and append that to the other."""
    experiment = None if only is None else source.get_experiment(only).id
    lines = b"".join(line for _, line in export_lines(source.log.backend, after, experiment))
    rewrite_lines(LineReader(io.BytesIO(lines)), book)


def test_a_merge_brings_the_captures(source: ledger.Ledger, target: ledger.Ledger) -> None:
    """Each once, before what refers to it; they are not counted as records of experiments; merging again brings nothing."""
    report = merge(source, target)
    assert (commits(target, "one"), commits(target, "two")) == (["0", "1"], ["0", "2"])
    assert sorted(stored(target)) == ["0", "1", "2"]
    (merged,) = target.log.read(types=[ledger.ExperimentsMerged])
    assert merged.event.records == report.copied == source.log.head - 3
    assert sorted(merged.event.experiments) == sorted(exp.stream for exp in target.experiments())
    head = target.log.head
    assert merge(source, target).copied == 0
    assert target.log.head == head


def test_a_merge_of_one_experiment_brings_its_own(source: ledger.Ledger, target: ledger.Ledger) -> None:
    """Also those that were stored with another experiment's trial; the second experiment brings the rest."""
    merge(source, target, ["two"])
    assert commits(target, "two") == ["0", "2"]
    assert sorted(stored(target)) == ["0", "2"]
    merge(source, target)
    assert commits(target, "one") == ["0", "1"]
    assert sorted(stored(target)) == ["0", "1", "2"]


def test_a_merge_brings_what_is_new(source: ledger.Ledger, target: ledger.Ledger) -> None:
    """A trial that came later, with a capture that came later."""
    merge(source, target)
    live(source.get_experiment("one"), make_capture("git", {"commit": "9" * 40}))
    merge(source, target)
    assert commits(target, "one") == ["0", "1", "9"]


def test_what_the_target_has_by_itself_is_not_stored_twice(source: ledger.Ledger, target: ledger.Ledger) -> None:
    """By a merge, and by an import that rewrites."""
    live(target.experiment("own"), GIT[0])
    merge(source, target, ["one"])
    rewritten(target, source, "two")
    assert sorted(stored(target)) == ["0", "1", "2"]
    assert [commits(target, name) for name in ("own", "one", "two")] == [["0"], ["0", "1"], ["0", "2"]]


def test_an_export_of_one_experiment_has_what_it_refers_to(source: ledger.Ledger, target: ledger.Ledger) -> None:
    """Wherever in the log it was stored, and also when only the newest records are exported; importing again adds nothing."""
    rewritten(target, source, "two")
    assert commits(target, "two") == ["0", "2"]
    assert sorted(stored(target)) == ["0", "2"]
    head = target.log.head
    rewritten(target, source, "two")
    assert target.log.head == head
    before = source.log.head
    live(source.get_experiment("two"), GIT[1])
    rewritten(target, source, "two", after=before)
    assert commits(target, "two") == ["0", "2", "1"]


def test_a_whole_export_rewritten(source: ledger.Ledger, target: ledger.Ledger) -> None:
    """Everything comes along as it was."""
    rewritten(target, source)
    assert (commits(target, "one"), commits(target, "two")) == (["0", "1"], ["0", "2"])
    assert stored(target) == stored(source)


COPIES: dict[str, Callable[[ledger.Ledger, ledger.Ledger], object]] = {
    "merge": lambda target, source: merge(source, target),
    "export": rewritten,
    "export of one": lambda target, source: rewritten(target, source, "one"),
}


@pytest.mark.parametrize("way", COPIES)
def test_what_was_redacted_before_is_not_in_the_copy(source: ledger.Ledger, target: ledger.Ledger, way: str) -> None:
    """The copy says that it was redacted, by whom and why."""
    (first, *_) = source.log.read(types=[ledger.CaptureStored])
    source.redact(first.position, reason="a leak")
    COPIES[way](target, source)
    assert target.get_experiment("one").trial(1).captured["git"]["problem"].endswith(": a leak")
    (copy, *_) = target.log.read(types=[ledger.CaptureStored])
    assert copy.is_redacted


@pytest.mark.parametrize("way", COPIES)
def test_what_is_redacted_later_is_redacted_in_the_copy(source: ledger.Ledger, target: ledger.Ledger, way: str) -> None:
    """By copying again; and when there is nothing more to redact, nothing happens."""
    COPIES[way](target, source)
    (first, *_) = source.log.read(types=[ledger.CaptureStored])
    source.redact(first.position, reason="a leak")
    COPIES[way](target, source)
    assert "redacted" in target.get_experiment("one").trial(1).captured["git"]["problem"]
    head = target.log.head
    COPIES[way](target, source)
    assert target.log.head == head


def test_what_the_target_captured_itself_is_its_own_to_redact(source: ledger.Ledger, target: ledger.Ledger) -> None:
    """A redaction in the source does not reach it."""
    live(target.experiment("own"), GIT[0])
    merge(source, target)
    (first, *_) = source.log.read(types=[ledger.CaptureStored])
    source.redact(first.position, reason="a leak")
    merge(source, target)
    assert commits(target, "own") == ["0"]
