"""Make the golden ledger: ``python -m tests.format.make_golden DIRECTORY`` (which must not be there yet).

The directory gets ``ledger``, a small ledger with one of everything, and what is read from it: ``records.jsonl.zst`` and
``tables.json.zst``. Ids, salts, times and names are the same each time. A golden ledger is never made anew: it is what an old
version has left, and has to be read for ever.
"""

from __future__ import annotations

import datetime as dt
import io
import json
import math
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import types
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import zstandard

import ledger
import ledger.log
from ledger import Arm, Bounds, ErrorInfo, Event, Points, events, identity
from ledger.maintenance.compaction import compact
from ledger.streams import capture_digest, capture_stream, experiment_stream, trial_stream
from ledger.transfer.jsonlines import export_lines
from projections import Tables
from projections.export import write_to

RECORDS, TABLES = "records.jsonl.zst", "tables.json.zst"
KINDS = ["trials", "configs", "groups", "metrics", "telemetry", "results", "status_history", "artifacts", "environments",
         "environment_changes", "amendments"]  # fmt: skip
EARLY = 60  # a position in the middle of the trials' lives
BEGIN = 1_790_000_000_000_000_000  # 2026-09-21

VALUES: dict[str, Any] = {
    "ints": [0, -1, 127, 128, -33, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, 2**64, -(2**63) - 1, 10**100],
    "floats": [0.0, -0.0, 0.1, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan],
    "a NaN with a payload": struct.unpack(">d", b"\x7f\xf8\0\0\0\0\x12\x34")[0],
    "texts": ["", "é", "e\u0301", "日本語", "\U0001f600", "a\0b", "$tuple", "x" * 300],
    "bytes": [b"", b"\0\xff", bytes(range(256))],
    "plain": [True, False, None, [], {}, {"": {"b": [{}]}}],
    "tuples": [(), (1,), ((), [()], {"a": (1, (2,))})],
    "decimals": [Decimal("1.10"), Decimal("-0"), Decimal("1E+400"), Decimal("NaN"), Decimal("-Infinity")],
    "uuid": uuid.UUID("01890000-0000-7000-8000-000000000001"),
    "datetimes": [
        dt.datetime(2026, 1, 2, 3, 4, 5), dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC),
        dt.datetime(2026, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=45))),
    ],
    "int keys": {1: "a", -5: {"b": (1,)}, 2**70: "c"},
}  # fmt: skip


class PhotoTaken(Event):
    """An event type of the caller's, with defaults that are stored, and parts of open type."""

    size: Any
    arms: list[Arm] = []
    zoom: float = 1.0


class SkySeen(Event, omit_defaults=True):
    """One whose schema is not the first."""

    clouds: int
    taken_on: dt.date = dt.date(2026, 1, 1)


class Author:
    """Writes the ledger, one append after the other, with a clock of its own."""

    def __init__(self, path: Path) -> None:
        self.now = BEGIN
        randbytes = random.Random("golden").randbytes
        identity.random_bytes = ledger.log.random_bytes = randbytes  # type: ignore[attr-defined]
        identity.time = types.SimpleNamespace(time_ns=lambda: self.now)  # type: ignore[attr-defined]
        identity._user_at_host = lambda: "ada@host"  # type: ignore[assignment]
        identity.os = types.SimpleNamespace(getpid=lambda: 1)  # type: ignore[attr-defined]
        self.book = ledger.open(path, clock=lambda: self.now, actor="ada@host/1")

    def add(self, stream: str, *facts: Event, **more: Any) -> None:
        """Append events to a stream."""
        self.now += 1_000_003
        self.book.log.append(facts, stream=stream, **more)

    def id(self) -> uuid.UUID:
        """Return a new id."""
        return identity.new_uuid7()


def _experiments(author: Author) -> tuple[uuid.UUID, uuid.UUID]:
    add, main, other = author.add, author.id(), author.id()
    gone, sealed = author.id(), author.id()
    stream = experiment_stream(main)
    add(stream, events.ExperimentCreated("größe 🚀", {"loss": "min", "speed": "max"}, "first", {"loss": Bounds(0, 10)}))
    add(stream, events.ExperimentDescribed("tuned"), reason="said better")
    add(stream, events.ObjectivesChanged({"loss": "min"}, {"loss": Bounds(upper=100.0)}))
    add(stream, events.AttributesSet({"a": None, "b": (1, 2)}, "space"), events.TagsChanged(["x", "y"], ["z"]))
    add(stream, events.EnvironmentCaptured({"cpus": 2}), events.NoteAdded("a nöte"), events.NoteAmended(7, "a note"))
    add(stream, events.ExperimentPaused(), reason="the disk is needed")
    add(stream, events.ExperimentResumed())
    add(experiment_stream(other), events.ExperimentCreated("other", parents=[stream]))
    add(experiment_stream(other), events.ExperimentRenamed("another"), events.ParentsSet([]))
    add(experiment_stream(gone), events.ExperimentCreated("gone"))
    add(trial_stream(gone, 1), events.TrialCreated({"lr": 0.1}))
    add(experiment_stream(gone), events.ExperimentDeleted(), reason="a try")
    add(experiment_stream(sealed), events.ExperimentCreated("gone"))  # the name is free
    add(experiment_stream(gone), events.ExperimentRestored("gone (old)"))
    add(experiment_stream(sealed), events.ExperimentSealed())
    add(experiment_stream(sealed), events.ExperimentUnsealed())
    add(experiment_stream(sealed), events.ExperimentSealed(), reason="published")
    add(experiment_stream(author.id()), events.ExperimentCreated("deleted"), events.ExperimentDeleted())
    return main, other


def _captures(author: Author, main: uuid.UUID) -> dict[str, str]:
    digests = {}
    for kind, content in {"git": {"commit": "1a2b", "patch": "+secret"}, "packages": {"distributions": {"numpy": "2.1"}}}.items():
        digests[kind] = digest = capture_digest(content)
        author.add(capture_stream(kind, digest), events.CaptureStored(kind, digest, content))
    author.add(experiment_stream(main), events.EnvironmentChanged(1, digests, {"git": "0" * 32}, ["git commit 1 -> 2"]))
    return digests


def _trials(author: Author, main: uuid.UUID, captures: dict[str, str]) -> None:
    deadline = BEGIN + 10**15
    claim = lambda attempt: events.TrialClaimed("w1", attempt, 60.0, deadline)  # noqa: E731
    points = Points(
        ["loss", "odd"], [1, 2, None, 2.5, 5], [BEGIN, 5, 5, 0, 10**9],
        [[0.5, math.nan, math.inf, 2**63, None], [True, None, "x", -0.0, -math.inf]],
    )  # fmt: skip
    error = ErrorInfo("ValueError", "bad", "Traceback\n ...")
    lives: list[list[Event]] = [
        [claim(1), events.TrialStarted(1), events.LeaseRenewed(1, deadline + 1), events.MetricsLogged([points], 1),
         events.TelemetryLogged([points], 1), events.TrialCaptured(captures, 1), events.ResultsReported({"a": 1}, 1),
         events.TrialCompleted({"loss": 0.5}, 1), events.TrialAmended({"loss": 0.25}, ["a"], {"lr": 2}, "better", "SUCCEEDED")],
        [claim(1), events.TrialStarted(1), events.TrialFailed(error, {"loss": 1}, 1), events.TrialRequeued(), claim(2),
         events.TrialReleased(2), events.TrialAssigned("w2")],
        [claim(1), events.TrialStarted(1), events.TrialPruned({"loss": 9}, 1), events.TrialGrouped("g"), events.ParentsSet([])],
        [claim(1), events.TrialTimedOut({}, 1), events.LateResultReceived(1, "SUCCEEDED", {"b": b"\0"}, error)],
        [events.TrialCanceled(), events.StatusForced("SUCCEEDED", {"z": 2**80}), events.TrialDeleted(), events.TrialRestored()],
        [claim(1), events.TrialLost(1, "w1", deadline), events.TrialAbandoned(), events.TrialDeleted()],
        [claim(1), events.TrialConfigured({"dropout": 0.1}, 1), events.TagsChanged(["t"]), events.NoteAdded("remark")],
    ]  # fmt: skip
    for number, life in enumerate(lives, start=1):
        stream = trial_stream(main, number)
        author.add(stream, events.TrialCreated({"lr": number % 3}, label="l", parents=[]))
        for event in life:
            author.add(stream, event, reason="a reason" if number % 2 else None)
    waiting = [
        events.TrialCreated(VALUES, priority=5, max_attempts=1), events.TrialCreated({"lr": 1}, scheduled_at=2**62, group="g"),
        events.TrialCreated({}, [Arm({"x": (1,)}, 0.25, "0_0"), Arm({})]), events.TrialCreated({"lr": 2}, assigned_to="gpu-1"),
        events.TrialCreated({}, depends_on=[trial_stream(main, number) for number in (2, 1)], parents=[trial_stream(main, 1)]),
    ]  # fmt: skip
    author.now += 1_000_003
    author.book.log.append_many([(trial_stream(main, 9 + place), event) for place, event in enumerate(waiting)])
    author.add(trial_stream(main, 1), events.ResultsReported(VALUES))


def _artifacts(author: Author, main: uuid.UUID, place: Path) -> None:
    trial = author.book.get_experiment(str(main)).trial(1)
    author.now += 1_000_003
    trial.log_artifact({"größe": (1, b"2")}, name="größe 🚀/..")
    trial.log_artifact(b"twice" * 1000, name="twice")
    folder = place / "folder"
    (folder / "empty").mkdir(parents=True)
    (folder / "a file").write_bytes(b"twice" * 1000)
    (folder / "a file").chmod(0o640)
    (folder / "link").symlink_to("a file")
    author.now += 1_000_003
    author.book.get_experiment(str(main)).log_artifact(folder)


def _others(author: Author) -> None:
    add = author.add
    ids = [author.id() for _ in range(3)]
    add(
        "camera", PhotoTaken((640, 480)), PhotoTaken([1], [Arm({"x": 1.5})]), correlation_id="c1", causation_id="c0", reason="why"
    )
    add("camera", SkySeen(2**60), occurred_at=-1)
    add("diary", *map(events.NoteAdded, ["first", "secret", "third"]), actor="eve\n\x1b")
    add("tagged " + "ü" * 100, *(events.NoteAdded(str(i)) for i in range(3)), ids=ids)
    add("mars 0042", ledger.UnknownEvent("Martian", 7, {"$dollar": {1: (2, 3)}, "nan": math.nan}))
    add("long", *(events.NoteAdded(f"note {i}") for i in range(600)), occurred_at=1_500_000_000_123_456_789)
    merged = events.ExperimentsMerged(str(author.id()), 3, bytes(32), 2, [experiment_stream(author.id())], {"a": "b"})
    add("ledger", merged)
    before, author.now = author.now, author.now - 864_000 * 10**9
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        author.book.log.append([events.NoteAdded("the clock was set back ten days")], stream="diary")
    author.now = before


def _redact(author: Author, *wanted: tuple[str, int]) -> None:
    positions = [record.position for record in author.book.log.read() if (record.stream, record.version) in wanted]
    assert len(positions) == len(wanted)
    author.now += 1_000_003
    author.book.redact(*positions, reason="a secret")


def write(path: Path) -> None:
    """Write the ledger: most of it compacted, with some records after that."""
    author = Author(path)
    main, other = _experiments(author)
    captures = _captures(author, main)
    _trials(author, main, captures)
    _artifacts(author, main, path.parent)
    _others(author)
    git = capture_stream("git", captures["git"])
    _redact(author, ("diary", 2), ("long", 300), (git, 1), ("camera", 1), (trial_stream(main, 2), 4))
    author.book.close()
    compact(path)
    author.book = ledger.open(path, clock=lambda: author.now, actor="ada@host/1")
    author.add("diary", events.NoteAdded("after the compaction"), events.NoteAdded("another secret"))
    author.add(trial_stream(other, 7), events.TrialCreated({"after": 1}))
    _redact(author, ("diary", 7))
    author.book.close()


@contextmanager
def copied(path: Path) -> Iterator[Path]:
    """Copy a ledger to a place where it may be opened: that leaves files beside it."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(shutil.copytree(path, Path(directory, "runs.ledger")))


def read_lines(path: Path) -> list[str]:
    """Return every record as a line of JSON."""
    with ledger.open(path, create=False) as book:
        return [line.decode() for _, line in export_lines(book.log.backend)]


def read_tables(path: Path) -> dict[str, list[str]]:
    """Return every table of every experiment, as lines of JSON: now, and as of an early position."""
    found: dict[str, list[str]] = {}
    with Tables(path) as tables:
        for position in (tables.position(), EARLY):
            experiments = tables.experiments(as_of=position)
            found[f"experiments at {position}"] = _rows(tables.experiments(as_of=position, deleted=True))
            for name, identifier in zip(experiments["name"], experiments["experiment_id"], strict=True):
                for table in KINDS:
                    found[f"{table} of {name} at {position}"] = _rows(
                        getattr(tables, table)(uuid.UUID(identifier), as_of=position)
                    )
    return found


def _rows(frame: Any) -> list[str]:
    file = io.BytesIO()
    write_to(frame, file, "jsonl")
    return file.getvalue().decode().splitlines()


def keep(path: Path, value: Any) -> None:
    """Write what was read to a file."""
    path.write_bytes(zstandard.compress(json.dumps(value, indent=0, ensure_ascii=False).encode(), 19))


def kept(path: Path) -> Any:
    """Return what was kept in a file."""
    return json.loads(zstandard.decompress(path.read_bytes()))


def main() -> None:
    """Make the directory that the command line names."""
    place = Path(sys.argv[1])
    place.mkdir()
    os.umask(0o022)
    ledger.event(PhotoTaken)
    ledger.event(schema=3)(SkySeen)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "runs.ledger")
        write(path)
        shutil.copytree(path, place / "ledger", ignore=shutil.ignore_patterns("*.lock", "lock.mdb", "projections"))
    # by another process, which has not the classes above, as whoever reads it later
    code = "import sys; from tests.format.make_golden import read_all; read_all(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(place)], check=True)


def read_all(place: str) -> None:
    """Keep what is read from the ledger in the directory."""
    with copied(Path(place, "ledger")) as path:
        keep(Path(place, RECORDS), read_lines(path))
        keep(Path(place, TABLES), read_tables(path))


if __name__ == "__main__":
    main()
