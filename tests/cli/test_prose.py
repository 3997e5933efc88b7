"""Sentences: one for every event type, and nothing of a record reaches the terminal unchecked."""

from __future__ import annotations

import re
import uuid
from typing import Any

import msgspec
import pytest

import ledger
from ledger.cli.phrases import Setting, listed
from ledger.cli.prose import SENTENCES, because, predicate
from ledger.cli.summary import summarize
from ledger.cli.times import parse_time
from ledger.redaction import CONTENT, remainder_of
from ledger.registry import UnknownEvent, find_type
from ledger.state import Status, TrialState

AT = 1_800_000_000_000_000_000
TRIAL = "trial/0192f5ab3c4d7e8f9a0b1c2d3e4f5061/3"
POINTS = [ledger.Points(["loss", "acc"], [1, 2], [AT, 5_000_000], [[0.5, 0.4], [0.1, 0.2]])]

#: One of each type, with the sentence that it makes.
EXAMPLES: dict[str, tuple[Any, str]] = {
    "AttributesSet": (
        ledger.AttributesSet({"sampler": "tpe", "seed": None}, namespace="optuna"),
        "set sampler=tpe and removed the attribute seed on trial 3 (of optuna)",
    ),
    "TagsChanged": (ledger.TagsChanged(["a", "b"], ["c"]), "tagged trial 3 with a, b and took the tag c off trial 3"),
    "NoteAdded": (ledger.NoteAdded("fan was off"), 'noted on trial 3: "fan was off"'),
    "NoteAmended": (
        ledger.NoteAmended(4, "fan was on"),
        'amended the note of version 4 (position 40) on trial 3 from "old" to "fan was on"',
    ),
    "EnvironmentCaptured": (ledger.EnvironmentCaptured({"python": "3.13"}), "recorded what trial 3 ran in: python=3.13"),
    "ArtifactLogged": (
        ledger.ArtifactLogged("model", "ab" * 32, 2048, "directory", files=2),
        'kept the directory "model" of 2 files of trial 3 (2,048 bytes)',
    ),
    "CaptureStored": (
        ledger.CaptureStored("git", "0f" * 16, {"commit": "abc"}),
        "kept what trials run with: git 0f0f0f0f0f0f",
    ),
    "TrialCaptured": (
        ledger.TrialCaptured({"git": "0f" * 16, "command": "aa" * 16}),
        "recorded what trial 3 runs with (command, git)",
    ),
    "EnvironmentChanged": (
        ledger.EnvironmentChanged(4, {"git": "0f" * 16}, {"git": "aa" * 16}, ["git commit 1a -> 2b", "numpy 2.1 -> 2.2"]),
        "found that trial 4 of trial 3 runs with something else than the trial captured before: git commit 1a -> 2b, "
        "numpy 2.1 -> 2.2",
    ),
    "ParentsSet": (ledger.ParentsSet([TRIAL]), f"recorded that trial 3 came from <{TRIAL}>"),
    "ExperimentCreated": (
        ledger.ExperimentCreated("tuning", {"ms": "min"}, "WAL?", {"ms": ledger.Bounds(0, 10)}, ["experiment/x"]),
        'created the experiment tuning to minimize ms within 0..10, from <experiment/x>: "WAL?"',
    ),
    "ExperimentRenamed": (ledger.ExperimentRenamed("new"), "renamed the experiment to new"),
    "ExperimentDescribed": (ledger.ExperimentDescribed("WAL"), 'described trial 3 as "WAL"'),
    "ObjectivesChanged": (ledger.ObjectivesChanged({"ms": "max"}), "changed the aims of trial 3 to maximize ms"),
    "ExperimentPaused": (ledger.ExperimentPaused(), "paused trial 3: no trial is handed out"),
    "ExperimentResumed": (ledger.ExperimentResumed(), "resumed trial 3"),
    "ExperimentSealed": (ledger.ExperimentSealed(), "sealed trial 3, which is read-only from here on"),
    "ExperimentUnsealed": (ledger.ExperimentUnsealed(), "unsealed trial 3"),
    "ExperimentDeleted": (ledger.ExperimentDeleted(), "deleted trial 3 and its trials"),
    "ExperimentRestored": (ledger.ExperimentRestored("old"), "restored trial 3 under the name old"),
    "TrialCreated": (
        ledger.TrialCreated({"lr": 0.1}, [ledger.Arm({"x": 1}, 0.5)], 2, None, 1, "small", "g", [TRIAL], "gpu-1", [TRIAL]),
        "created trial 3 with lr=0.1 and the arms x=1 (weight 0.5) "
        f"(priority 2, 1 attempt at most, labelled small, in the group g, from <{TRIAL}>, for gpu-1 alone, "
        f"after <{TRIAL}>)",
    ),
    "TrialConfigured": (ledger.TrialConfigured({"lr": 0.1}), "added lr=0.1 to the config of trial 3"),
    "TrialAssigned": (ledger.TrialAssigned("gpu-1"), "assigned trial 3 to gpu-1"),
    "TrialClaimed": (ledger.TrialClaimed("w1", 1, 60.0, AT), "claimed trial 3 for w1 (attempt 1, lease 60 s)"),
    "LeaseRenewed": (ledger.LeaseRenewed(1, AT), "renewed the lease of trial 3 until 2027-01-15 08:00:00.000Z"),
    "TrialReleased": (ledger.TrialReleased(1), "handed trial 3 back unfinished (attempt 1)"),
    "TrialLost": (
        ledger.TrialLost(1, "w1", AT),
        "wrote trial 3 off as lost: w1 was silent when the lease of attempt 1 ended at 2027-01-15 08:00:00.000Z",
    ),
    "TrialRequeued": (ledger.TrialRequeued(), "put trial 3 back in the queue"),
    "TrialStarted": (ledger.TrialStarted(1), "started trial 3"),
    "TrialCompleted": (ledger.TrialCompleted({"ms": 1.9}), "completed trial 3 with ms=1.9"),
    "TrialFailed": (
        ledger.TrialFailed(ledger.ErrorInfo("OSError", "disk\nfull"), {"ms": 1}),
        "recorded that trial 3 failed with ms=1: OSError: disk full",
    ),
    "TrialPruned": (ledger.TrialPruned({"loss": 9}), "stopped trial 3 early with loss=9"),
    "TrialCanceled": (ledger.TrialCanceled(), "canceled trial 3"),
    "TrialTimedOut": (ledger.TrialTimedOut(), "stopped trial 3, which took too long"),
    "TrialAbandoned": (ledger.TrialAbandoned(), "abandoned trial 3"),
    "StatusForced": (
        ledger.StatusForced("FAILED", {"ms": 2}),
        "forced the status of trial 3 from SUCCEEDED to FAILED with ms=2",
    ),
    "ResultsReported": (ledger.ResultsReported({"ms": 1.9}), "reported ms=1.9 of trial 3"),
    "LateResultReceived": (
        ledger.LateResultReceived(1, "SUCCEEDED", {"ms": 1.9}),
        "reported too late on trial 3, as SUCCEEDED of attempt 1 with ms=1.9; it is kept, and does not count",
    ),
    "MetricsLogged": (
        ledger.MetricsLogged(POINTS),
        "logged loss=0.4, acc=0.2 at step 2 of trial 3, the last of 2 points",
    ),
    "TelemetryLogged": (
        ledger.TelemetryLogged([ledger.Points(["cpu"], [None], [AT], [[97.0]])]),
        "logged cpu=97 of trial 3",
    ),
    "TrialGrouped": (ledger.TrialGrouped("repeats"), "put trial 3 into the group repeats, out of g"),
    "TrialAmended": (
        ledger.TrialAmended({"ms": 2.1, "new": 1}, ["rows"], {"lr": 0.2}, "big", "FAILED"),
        "amended trial 3: result ms from 1.9 to 2.1, result new to 1, parameter lr from 0.1 to 0.2, the label from small to big, "
        "the status from SUCCEEDED to FAILED, withdrew the result rows (7)",
    ),
    "TrialDeleted": (ledger.TrialDeleted(), "deleted trial 3"),
    "TrialRestored": (ledger.TrialRestored(), "restored trial 3"),
    "PayloadRedacted": (
        ledger.PayloadRedacted(4, "NoteAdded", b""),
        "redacted the NoteAdded of version 4 (position 40) of trial 3",
    ),
    "ExperimentsMerged": (
        ledger.ExperimentsMerged("0192", 9, b"", 7, ["experiment/x"], {"a": "a (2)"}),
        "merged 7 records of 1 experiment from the ledger 0192, renaming a (now a (2))",
    ),
    "ClockSkewed": (
        ledger.ClockSkewed(AT, 86_400.0),
        "found the clock 86,400 s behind the newest record: it said 2027-01-15 08:00:00.000Z",
    ),
}

BEFORE = TrialState(
    uuid.UUID(int=1), 3, Status.SUCCEEDED, {"lr": 0.1}, results={"ms": 1.9, "rows": 7}, label="small", group="g"
)  # fmt: skip


def setting(it: str = "trial 3", **more: Any) -> Setting:
    """Return a setting in which everything can be asked."""
    return Setting(it, "ada@box/1", lambda: BEFORE, {4: "old"}.get, {4: 40}.get, lambda stream: f"<{stream}>", **more)


@pytest.mark.parametrize("name", sorted(ledger.events.VOCABULARY))
def test_every_type_of_the_vocabulary_has_its_sentence(name):
    """Each event type says what was done, in the past tense and about whom, word for word as here."""
    event, said = EXAMPLES[name]
    assert type(event) in SENTENCES
    assert predicate(event, name, setting()) == said


@pytest.mark.parametrize("name", sorted(ledger.events.VOCABULARY))
def test_what_is_known_already_is_called_it(name):
    """In the history of one trial the sentences say `it`, and never twice in a row nothing at all."""
    said = predicate(EXAMPLES[name][0], name, setting("it"))
    assert "trial 3" not in said
    assert "  " not in said
    assert re.match(r"[a-z]+", said)


@pytest.mark.parametrize("name", sorted(kind.__name__ for kind in CONTENT))
def test_what_was_redacted_is_said_without_content(name):
    """What remains of a redacted event makes a sentence that claims nothing of its content."""
    stream = f"experiment/{uuid.UUID(int=7).hex}"
    remainder = find_type(name).decoder.decode(remainder_of(stream, EXAMPLES[name][0]))
    said = predicate(remainder, name, Setting("trial 3", "ada@box/1", is_redacted=True))
    assert not re.search(r'0\.1|1\.9|2\.1|=|""|\b(fan|lr|ms|sampler|nothing|None)\b', said), said


def test_a_type_of_the_callers_own():
    """An own type, known here or not, is told by its name and fields; of a redacted one nothing remains."""

    @ledger.event(name="ProseTestTaken")
    class ProseTestTaken(ledger.Event, omit_defaults=True):
        size: tuple[int, int]
        flash: bool = False

    assert predicate(ProseTestTaken((640, 480)), "ProseTestTaken", setting()).startswith(
        "recorded a ProseTestTaken on trial 3: size="
    )
    unknown = UnknownEvent("ImageTaken", 1, {"iso": 100})
    told = predicate(unknown, "ImageTaken", setting("the stream camera"))
    assert told == "recorded an ImageTaken in the stream camera: iso=100"
    redacted = UnknownEvent("PhotoTaken", 1, None)
    assert predicate(redacted, "PhotoTaken", setting(is_redacted=True)) == "recorded a PhotoTaken on trial 3"
    assert predicate(UnknownEvent("X", 1, [1, 2]), "X", setting()) == "recorded a X on trial 3: [1,2]"


def test_a_type_of_a_newer_version_is_told():
    """A type of the vocabulary in a form that this version cannot read is told by its name and what can be read."""
    event = UnknownEvent("TrialCompleted", 9, {"results": {"ms": 1}}, "too new")
    assert predicate(event, "TrialCompleted", setting()) == 'recorded a TrialCompleted on trial 3: results={"ms":1}'


@pytest.mark.parametrize("name", sorted(ledger.events.VOCABULARY))
def test_every_type_has_its_line_in_tail(name):
    """Each event type of the vocabulary is summarized on one line, without defaults and without bytes."""
    text = summarize(EXAMPLES[name][0])
    assert text.isprintable()
    assert text == text.strip()
    assert "$bytes" not in text
    assert "attempt=0" not in text


@pytest.mark.parametrize("name", sorted(ledger.events.VOCABULARY))
def test_no_control_character_passes(name):
    """Whatever texts an event holds, its sentence is one line that no terminal obeys."""

    def poison(value: Any) -> Any:
        if isinstance(value, str) and value not in Status.__members__:
            return f"{value}\x1b[2J\n\u202e"
        if isinstance(value, dict):
            return {poison(key): poison(item) for key, item in value.items()}
        if isinstance(value, list):
            return [poison(item) for item in value]
        if isinstance(value, msgspec.Struct):
            return type(value)(*(poison(getattr(value, field)) for field in value.__struct_fields__))
        return value

    said = predicate(poison(EXAMPLES[name][0]), name, Setting("trial 3"))
    assert said.isprintable()


def test_what_is_long_is_cut():
    """Long values, many values and long texts are cut in prose; programs have --format json."""
    said = listed({f"p{i}": "x" * 1000 for i in range(30)})
    assert said.endswith("and 10 more")
    assert len(said) < 20 * 100
    assert len(predicate(ledger.NoteAdded("x" * 5000), "NoteAdded", setting())) < 500


def test_reasons_end_the_sentence():
    """A reason follows after a comma, without a second full stop, on one line."""
    assert because("the fan\nwas off.") == ", because the fan was off"
    assert because("") == because(None) == because(" ") == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-20", "2026-11-20T00:00:00"),
        ("2026-11-20T12:30Z", "2026-11-20T12:30:00"),
        ("2026-11-20T12:30", "2026-11-20T12:30:00"),
        ("2026-11-20 12:30+02:00", "2026-11-20T10:30:00"),
        ("08:15", "2027-01-15T08:15:00"),
        ("2h", "2027-01-15T06:00:00"),
        ("1h30m", "2027-01-15T06:30:00"),
        ("1.5h", "2027-01-15T06:30:00"),
        ("7d", "2027-01-08T08:00:00"),
        ("1w", "2027-01-08T08:00:00"),
        ("45s", "2027-01-15T07:59:15"),
        ("99999999w", "1970-01-01T00:00:00"),
    ],
)
def test_times(text, expected):
    """ISO 8601 with or without a zone, a time of today, and durations back from now."""
    from ledger.records import iso_nanoseconds

    assert iso_nanoseconds(parse_time(text, "--since", now=AT))[:19] == expected


@pytest.mark.parametrize("text", ["", "yesterday", "2h ago", "-2h", "2026", "25:00", "2026-13-01", "h", "12", "٣h", "\udcff"])
def test_no_times(text):
    """What is no time is refused, with the option's name and examples; a year alone is not a time of day."""
    import typer

    with pytest.raises(typer.BadParameter, match="is no time"):
        parse_time(text, "--since", now=AT)
