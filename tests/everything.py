"""Write a ledger with one of everything into the directory given (run as a program: its event types stay there)."""

from __future__ import annotations

import datetime as dt
import enum
import itertools
import sys
import tempfile
import uuid
import warnings
from pathlib import Path
from typing import Any

import msgspec

import ledger
from ledger import events as ev
from ledger.streams import capture_digest, capture_stream, experiment_stream, trial_stream
from ledger.testing.values import VALUES

_GIT = capture_stream("git", capture_digest({"commit": "1a2b", "patch": "+ü"}))


class PhotoTaken(ledger.Event):
    """Fields in no order, defaults that are stored, parts of open type."""

    size: Any
    arms: list[ledger.Arm] = []
    zoom: float = 1.0
    author: str = ""


class Weather(enum.Enum):
    """A field that JSON cannot say."""

    SUN = "sun"


class SkySeen(ledger.Event, omit_defaults=True):
    """A schema that is newer than any reader's, and types that JSON has not."""

    weather: Weather
    days: list[dt.timedelta] = []
    raw: msgspec.Raw = msgspec.Raw(b"\xc0")
    when: dt.date = dt.date(2026, 1, 1)
    stars: int = 0


def register() -> None:
    """Make the classes event types of this process."""
    ledger.event(PhotoTaken)
    ledger.event(schema=3)(SkySeen)


def _log_odd_things(book: ledger.Ledger) -> None:
    append = book.log.append
    photos = [PhotoTaken((640, 480)), PhotoTaken([1], [ledger.Arm({"x": 1.5}, weight=0.25)], author="ada")]
    append(photos, stream="camera", reason="to see", correlation_id="c1", causation_id="c0")
    append([SkySeen(Weather.SUN, [dt.timedelta(3)], stars=2**60)], stream="camera", occurred_at=-1)
    append([ledger.NoteAdded("first"), ledger.NoteAdded("sécret 🔑"), ledger.NoteAdded("third")], stream="diary")
    append([ledger.NoteAmended(version=1, text="First")], stream="diary", reason="spelling")
    ids = [uuid.uuid4() for _ in range(3)]
    append([ledger.NoteAdded(str(i)) for i in range(3)], stream="tagged " + "ü" * 100, ids=ids, actor="eve\n\x1b")
    append([ledger.NoteAdded("x")], stream="a/b/c", append_id=uuid.uuid4(), occurred_at=1_500_000_000_123_456_789)
    append([ledger.NoteAdded(str(i)) for i in range(1300)], stream="long")
    append([ledger.UnknownEvent("Martian", 7, {"$dollar": {1: (2, 3)}, "nan": float("nan")})], stream="mars")
    # as another version wrote it: fields that hold their default, in another order
    explicit = ledger.codec.encode_value({"priority": 0, "config": {"lr": 0.1}, "label": ""}, "payload")
    exp = book.experiment("explicit")
    append([ledger.UnknownEvent("TrialCreated", 1, None, raw=explicit)], stream=trial_stream(exp.state.id, 1))


def _log_trials(book: ledger.Ledger, exp: ledger.Experiment) -> None:
    main = exp.state.id
    points = [ledger.Points(["loss", "ok"], [1, None, 2.5], [10**18, 5, 5], [[0.5, float("nan"), 3], [True, None, "x"]])]
    error = ledger.ErrorInfo("ValueError", "bad", "Traceback\n ...")
    claim = lambda attempt: ev.TrialClaimed("w1", attempt, 60.0, 2**62)  # noqa: E731
    lives: list[list[Any]] = [
        [claim(1), ev.TrialStarted(1), ev.LeaseRenewed(1, 2**62), ev.MetricsLogged(points, 1), ev.TelemetryLogged(points, 1),
         ev.ResultsReported({"a": 1}, 1), ev.TrialCompleted({"loss": 0.5}, 1), ev.TrialAmended({"loss": 0.25}, ["a"], {"x": 2})],
        [claim(1), ev.TrialStarted(1), ev.TrialFailed(error, {"loss": 1}, 1), ev.TrialRequeued(), claim(2), ev.TrialReleased(2)],
        [claim(1), ev.TrialStarted(1), ev.TrialPruned({"loss": 9}, 1), ev.TrialGrouped("g"), ev.ParentsSet([])],
        [claim(1), ev.TrialTimedOut({}, 1), ev.TrialDeleted(), ev.LateResultReceived(1, "SUCCEEDED", {"b": b"\0"}, error)],
        [ev.TrialCanceled(), ev.StatusForced("SUCCEEDED", {"z": 2**80}), ev.TrialDeleted(), ev.TrialRestored()],
        [claim(1), ev.TrialLost(1, "w1", 2**62), ev.TrialAbandoned(), ev.TagsChanged(["t"]), ev.AttributesSet({"k": (1,)}, "ns")],
        [ev.TrialConfigured({"dropout": 0.1}), ev.EnvironmentCaptured({"python": "3"}), ev.TrialCaptured(_captured(book), 1)],
    ]  # fmt: skip
    for number, life in enumerate(lives, start=1):
        stream = trial_stream(main, number)
        book.log.append([ev.TrialCreated({"x": number}, label="l", parents=[])], stream=stream)
        for event in life:
            book.log.append([event], stream=stream, reason="a reason" if number % 2 else None)
    for start in range(0, len(VALUES), 20):
        exp.new_trial({f"v{i}": value for i, value in enumerate(VALUES[start : start + 20])}, priority=start)
    pairs = [(trial_stream(main, 100 + i), ev.TrialCreated({"i": i})) for i in range(600)]
    book.log.append_many([*pairs, ("diary", ev.NoteAdded("six hundred"))])  # several subjects, several blocks


def _log_artifacts(exp: ledger.Experiment) -> None:
    trial = exp.new_trial({})
    trial.log_artifact({"größe": (1, b"2")}, name="größe 🚀/..")
    trial.log_artifact(b"twice" * 1000, name="twice")
    trial.log_artifact(b"twice" * 1000, name="twice")
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory, "directory")
        (place / "empty").mkdir(parents=True)
        (place / "a file").write_bytes(b"twice" * 1000)
        (place / "link").symlink_to("a file")
        exp.log_artifact(place)


def _captured(book: ledger.Ledger) -> dict[str, str]:
    """Store captures, one of which is redacted later; return their digests by kind."""
    digests = {}
    for kind, content in {"git": {"commit": "1a2b", "patch": "+ü"}, "packages": {"distributions": {"numpy": "2.1"}}}.items():
        digests[kind] = digest = capture_digest(content)
        stream = capture_stream(kind, digest)
        if not book.log.version(stream):
            book.log.append([ev.CaptureStored(kind, digest, content)], stream=stream)
    return digests


def _log_experiments(book: ledger.Ledger) -> None:
    exp = book.experiment("größe 🚀", objectives={"loss": "min"}, description="d")
    exp.note("n")
    exp.tag("t")
    exp.set_attributes({"a": None, "b": 2}, namespace="s")
    exp.capture_environment({"cpus": 2})
    exp.describe("e")
    exp.set_objectives({"loss": "max"})
    book.log.append([ev.EnvironmentChanged(1, _captured(book), {"git": "0" * 32}, ["git commit 1 -> 2"])], stream=exp.stream)
    _log_trials(book, exp)
    _log_artifacts(exp)
    again = book.experiment("gone")
    again.new_trial({"lr": 1})
    again.delete("a try")
    other = book.experiment("gone")  # the name is free
    other.rename("other")
    again.restore("back")
    again.set_parents([experiment_stream(other.state.id)])
    exp.pause("the GPUs are needed")
    exp.resume()
    exp.new_trial({"lr": 2}, worker="gpu-1", depends_on=[exp.trial(1), exp.trial(2)]).assign("gpu-2")
    other.pause("for good")
    exp.seal("done")
    exp.unseal("not quite")
    other.seal("done")
    book.experiment("deleted").delete()


def _redact(book: ledger.Ledger) -> None:
    """Redact in single appends and in the middle of batches, of the package's types and others."""
    found = {record.position: record for record in book.log.read()}
    wanted = {("camera", 2), ("diary", 2), ("long", 700), ("mars", 1), ("tagged " + "ü" * 100, 2)}
    positions = [position for position, record in found.items() if (record.stream, record.version) in wanted]
    types = {"TrialFailed", "ExperimentRenamed", "EnvironmentCaptured", "TrialConfigured", "MetricsLogged"}
    positions += [position for position, record in found.items() if record.type in types and record.version > 1]
    positions += [position for position, record in found.items() if record.stream.endswith("/300")]
    assert len(positions) >= 11
    book.redact(*positions, reason="a secret")
    book.redact(*(record.position for record in found.values() if record.stream == _GIT), reason="a secret")


def write(path: str) -> None:
    """Write the ledger."""
    times = itertools.chain(
        [1_790_001_000_000_000_000] * 4, itertools.count(1_790_000_000_000_000_000, 1_000_003)
    )  # it steps back

    with (
        ledger.open(path, clock=lambda: next(times), durability="relaxed", actor="ada@host/1") as book,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        _log_experiments(book)
        _log_odd_things(book)
        merged = ev.ExperimentsMerged(str(uuid.uuid4()), 3, b"\0" * 32, 2, [experiment_stream(uuid.uuid4())], {"a": "b"})
        book.log.append([merged], stream="ledger")
        _redact(book)


if __name__ == "__main__":
    register()
    write(sys.argv[1])
