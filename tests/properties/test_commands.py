"""Random sequences of calls on the public handles, on a ledger in a directory and on one in memory, side by side.

Ids are drawn from one sequence that begins again for the second ledger, and the clock stands still between calls: so
both must record the same records, byte for byte, refuse the same calls with the same words, and show the same tables.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID

import pandas as pd
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import ledger
import projections
from ledger import Objective
from ledger import background as background_module
from ledger import log as log_module
from ledger import session as session_module
from ledger.backends import blocks, postings
from ledger.backends.base import Backend, Entry
from ledger.backends.environment import Options
from ledger.backends.lmdb import LmdbBackend
from ledger.backends.memory import MemoryBackend
from ledger.codec import encode_state
from ledger.redaction import CONTENT
from ledger.testing import FakeClock

Step = tuple[str, int, int, int]

NAMES = ["a", "b", "c"]
CONFIGS: list[dict[str, Any]] = [{"x": 1}, {"x": 1.0}, {"x": 2, "pair": (1, 2**70)}, {}]
RESULTS: list[dict[str, Any]] = [{"loss": 0.5}, {"loss": 5}, {"loss": float("nan"), "t": "text"}, {}]
STATUSES = ["SUCCEEDED", "PENDING", "RUNNING", "UNKNOWN", "FAILED", "READY"]
SECONDS = 1_000_000_000


@ledger.event
class SnapshotTaken(ledger.Event):
    """A type of the caller's own."""

    step: int
    note: Any = None


class Side:
    """One ledger and the handles that were got from it."""

    def __init__(self, backend: Backend, clock: FakeClock) -> None:
        self.book = ledger.Ledger(backend, "tester")
        self.clock = clock
        self.experiments: list[ledger.Experiment] = []
        self.trials: list[ledger.Trial] = []

    def run(self, step: Step) -> str:
        """Make one call, and return what came of it as text."""
        command, which, number, other = step
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                answer = self._call(command, which, number, other)
            except ledger.LedgerError as error:
                answer = f"{type(error).__name__}: {error}"
        said = sorted(str(warning.message) for warning in caught)
        return f"{answer} {said}".replace(str(self.book.path), "PATH")

    def _call(self, command: str, which: int, number: int, other: int) -> object:
        if command in _ON_BOOK:
            return _ON_BOOK[command](self, number, other)
        if command == "experiment" or not self.experiments:
            objectives = {"loss": Objective("min", 0, 1)} if other % 2 else None
            self.experiments.append(self.book.experiment(NAMES[number % 3], objectives=objectives))
            return self.experiments[-1].id
        exp = self.experiments[which % len(self.experiments)]
        if command in _ON_EXPERIMENT:
            found = _ON_EXPERIMENT[command](exp, number, other)
            self.trials += [found] if isinstance(found, ledger.Trial) else found if isinstance(found, list) else []
            return found
        if not self.trials:
            return None
        trial = self.trials[-1 - which % len(self.trials)]
        if number == 7 and command in ("complete", "fail", "start"):
            trial = trial.experiment.trial(trial.id, deleted=bool(other % 2))  # another handle, which holds nothing
            self.trials.append(trial)
        return _ON_TRIAL[command](trial, number, other)


def _redact(side: Side, number: int, other: int) -> object:
    if other == 5:
        return side.book.redact(number, side.book.log.head, reason="leaked")
    good = [r.position for r in side.book.log.read() if type(r.event) in {*CONTENT, SnapshotTaken} and not r.is_redacted]
    chosen = {good[-1 - n % len(good)] for n in range(number, number * (other + 1) + 1, number + 1)} if good else ()
    return side.book.redact(*sorted(chosen), reason="leaked")


def _append(side: Side, number: int, other: int) -> object:
    events = [SnapshotTaken(step, (number, "x" * other)) for step in range(number % 3 + 1)]
    own = [UUID(int=(number * 16 + other) << 64 | i | 0x7000_8000 << 48) for i in range(len(events))] if other == 5 else ()
    expected = other if other < 3 else None
    return side.book.log.append(events, stream=f"own{number % 2}", expected_version=expected, ids=own).position


def _parents(thing: ledger.Trial, number: int, other: int) -> None:
    thing.set_parents([f"trial/{thing.experiment.id.hex}/{n}" for n in {number % 5, other % 4 + 1}])


_ON_BOOK: dict[str, Callable[[Side, int, int], object]] = {
    "redact": _redact,
    "append": _append,
    "wait": lambda side, number, other: side.clock.advance(number * 7),
}
_ON_EXPERIMENT: dict[str, Callable[[ledger.Experiment, int, int], object]] = {
    "rename": lambda exp, number, other: exp.rename(NAMES[number % 3]),
    "describe": lambda exp, number, other: exp.describe(f"d{number}", reason="r"),
    "objectives": lambda exp, number, other: exp.set_objectives({"loss": Objective("min", 0, number)}),
    "new_trial": lambda exp, number, other: exp.new_trial(
        CONFIGS[number % 4], number=number if other == 3 else None, priority=other % 3, max_attempts=other % 3 + 1,
        label="l" * (other % 2), group="g" * (number % 2), arms=[ledger.Arm({"x": 1}, 0.5)] * (number % 2),
        parents=[f"trial/{exp.id.hex}/1"] if other == 4 else (),
        scheduled_at=exp.book.log.backend._clock.now() + number * SECONDS if other == 5 else None,  # type: ignore[attr-defined]
    ),
    "new_trials": lambda exp, number, other: exp.new_trials([CONFIGS[n % 4] for n in range(number % 4)], priority=other % 2),
    "claim": lambda exp, number, other: exp.claim(worker=f"w{number % 2}", lease_seconds=number * 3 + 1.5),
    "depend": lambda exp, number, other: exp.new_trial(
        {"x": other}, depends_on=[f"trial/{exp.id.hex}/{n}" for n in {number % 4 + 1, other + 1}],
        worker=f"w{number}" if other % 2 else None,
    ),
    "add_ended": lambda exp, number, other: exp.new_trial(
        CONFIGS[number % 4], status=["SUCCEEDED", "CANCELED", "PENDING"][other % 3], results=RESULTS[number % 4],
    ),
    "pause": lambda exp, number, other: exp.pause().position,
    "resume": lambda exp, number, other: exp.resume().position,
    "claim_where": lambda exp, number, other: exp.claim(worker=f"w{number % 2}", where={"x": other}, lease_seconds=number + 1),
    "wait_for_work": lambda exp, number, other: exp.wait(0, worker=f"w{number}"),
    "note_experiment": lambda exp, number, other: exp.note(f"n{number}"),
    "amend_note_experiment": lambda exp, number, other: exp.amend_note(number, "amended", reason="r").position,
    "tag_experiment": lambda exp, number, other: exp.tag("x", f"t{number}"),
    "delete_experiment": lambda exp, number, other: exp.delete(ensure=bool(other % 2)).position,
    "restore_experiment": lambda exp, number, other: exp.restore(NAMES[other % 3] if number % 2 else None).position,
    "seal": lambda exp, number, other: exp.seal().position,
    "unseal": lambda exp, number, other: exp.unseal("more to say").position,
    "lineage": lambda exp, number, other: exp.set_parents([e for e in exp.book.experiments() if other % 2][:number % 3]),
}  # fmt: skip
_ON_TRIAL: dict[str, Callable[[ledger.Trial, int, int], object]] = {
    "start": lambda trial, number, other: trial.start(lease_seconds=number * 3 + 1.5),
    "complete": lambda trial, number, other: trial.complete(RESULTS[number % 4]),
    "fail": lambda trial, number, other: trial.fail("no", RESULTS[number % 4]),
    "prune": lambda trial, number, other: trial.prune(RESULTS[number % 4]),
    "report": lambda trial, number, other: trial.report(RESULTS[number % 4]),
    "configure": lambda trial, number, other: trial.configure({"x": number % 3, f"y{other}": other}),
    "amend": lambda trial, number, other: trial.amend(
        results={"loss": number} if other % 3 == 0 else None, withdraw=["t"] if other == 4 else (), reason="r",
        config={"x": number % 3} if other % 3 == 1 else None, status=STATUSES[number % 6] if other % 3 == 2 else None,
    ).position,
    "amend_note": lambda trial, number, other: trial.amend_note(number, f"amended {other}", reason="r").position,
    "note": lambda trial, number, other: trial.note(f"n{number}"),
    "tag": lambda trial, number, other: (trial.tag if other % 2 else trial.untag)(f"t{number % 2}"),
    "attributes": lambda trial, number, other: trial.set_attributes({"k": number or None}, namespace="n" * (other % 2)),
    "group": lambda trial, number, other: trial.set_group("g" * (number % 3)),
    "parents": _parents,
    "delete": lambda trial, number, other: trial.delete(ensure=bool(other % 2)).position,
    "restore": lambda trial, number, other: trial.restore().position,
    "force_status": lambda trial, number, other: trial.force_status(STATUSES[number % 6], reason="r", results=RESULTS[other % 4]),
    "assign": lambda trial, number, other: trial.assign(f"w{number % 2}" if other % 2 else None),
    "expecting": lambda trial, number, other: trial.set_group("e", expected_version=number),
    "requeue": lambda trial, number, other: trial.requeue(),
    "cancel": lambda trial, number, other: trial.cancel("r"),
    "release": lambda trial, number, other: trial.release(),
    "log_many": lambda trial, number, other: trial.log_many(
        {"loss": [float(n) for n in range(number * 3)], "t": ["x" * other] * number * 3}, at=[number] * number * 3
    ),
}  # fmt: skip

#: The corrections that close things are rarer than those that open them again: else nothing is left to do.
COMMANDS = [
    *_ON_BOOK, *_ON_EXPERIMENT, *_ON_TRIAL, "experiment", "redact", "redact", "new_trial", "new_trial", "claim", "claim", "start",
    "complete", "complete", "report", "unseal", "unseal", "restore_experiment", "restore_experiment", "restore", "amend", "amend",
    "resume", "depend", "depend",
]  # fmt: skip
BEGIN: list[Step] = [
    ("experiment", 0, 0, 1), ("new_trial", 0, 0, 0), ("new_trials", 0, 3, 1), ("start", 2, 3, 0), ("complete", 2, 0, 0),
    ("amend", 2, 1, 0), ("note", 2, 4, 0), ("claim", 0, 5, 0),
]  # fmt: skip
#: Found by hand: an amended parameter set again, and the amendment redacted.
CONTRADICTION: list[Step] = [
    ("experiment", 0, 0, 0), ("new_trial", 0, 0, 0), ("amend", 0, 2, 1), ("configure", 0, 2, 0), ("redact", 0, 3, 3),
    ("redact", 0, 1, 3),
]  # fmt: skip
steps = st.lists(
    st.tuples(st.sampled_from(COMMANDS), st.integers(0, 3), st.integers(0, 7), st.integers(0, 5)), min_size=5, max_size=25
)


@contextlib.contextmanager
def _counted_ids(numbers: Iterator[int]) -> Iterator[None]:
    """Let append ids, salts and ids of experiments come from a sequence."""

    def random(size: int) -> bytes:
        return next(numbers).to_bytes(size, "big")

    def new_id() -> UUID:
        return UUID(int=next(numbers) << 80 | 0x7000_8000_0000_0000_0000)

    def new_bytes() -> bytes:
        return new_id().bytes

    with (
        mock.patch.object(log_module, "random_bytes", random),
        mock.patch.object(log_module, "new_uuid7_bytes", new_bytes),
        mock.patch.object(session_module, "new_uuid7", new_id),
        mock.patch.object(background_module.Background, "schedule"),  # no renewals
    ):
        yield


def _entries(backend: Backend) -> list[Entry]:
    found: list[Entry] = []
    while page := backend.read_entries(len(found)):
        found += page
    return found


def _state(book: ledger.Ledger) -> list[Any]:
    """Return everything that the ledger says now: records, proofs, states."""
    backend = book.log.backend
    with backend.view() as view:
        experiments = list(view.experiments())
        trials = [view.trial(e.id, n) for e in experiments for n in range(e.next_trial_id)]
        names = [view.experiment_named(name) for name in NAMES]
    states = [state and encode_state(state) for state in (*experiments, *trials)]  # as bytes: NaN is not equal to itself
    return [_entries(backend), backend.tree_head(), backend.redactions().total, states, names]


def _same_tables(one: ledger.Ledger, two: ledger.Ledger) -> None:
    first, second = projections.Tables(one), projections.Tables(two)
    for options in ({}, {"deleted": True}, {"as_of": one.log.head // 2}):
        pd.testing.assert_frame_equal(first.experiments(**options), second.experiments(**options))  # type: ignore[arg-type]
    for exp in [*one.experiments(), *one.experiments(deleted=True)]:
        pd.testing.assert_frame_equal(first.configs(exp.id), second.configs(exp.id))
        for more in ({}, {"deleted": True}, {"amended": False}):
            pd.testing.assert_frame_equal(first.trials(exp.id, **more), second.trials(exp.id, **more))  # type: ignore[arg-type]


def _copies(book: ledger.Ledger, backend: LmdbBackend, directory: Path) -> None:
    """A copy by entries and one by lines of JSON say the same, prove the same, and pass the check."""
    from ledger.transfer.importing import LineReader, import_lines
    from ledger.transfer.jsonlines import export_lines

    with ledger.Ledger(LmdbBackend(directory / "copy", options=Options("relaxed"), identity=backend.identity)) as copy:
        copy.log.backend.adopt(_entries(backend))  # type: ignore[attr-defined]
        copy.log.backend.check()
        assert _state(copy) == _state(book)
    if not book.log.head:
        return
    lines = b"".join(line.rstrip(b"\n") + b"\n" for _, line in export_lines(backend))
    with mock.patch("ledger.transfer.importing.verify", _quick_verify):
        report = import_lines(LineReader(io.BytesIO(lines)), directory / "imported")
    with ledger.open(directory / "imported", durability="relaxed") as imported:
        assert _state(imported) == _state(book)
        assert (report.ledger_id, report.head) == (book.id, book.log.head)
        assert b"".join(line.rstrip(b"\n") + b"\n" for _, line in export_lines(imported.log.backend)) == lines


def _quick_verify(path: Any, *arguments: Any, **more: Any) -> Any:
    """Check in this process, not in a child of it."""
    from ledger.audit import Report
    from ledger.backends.check import LogCheck

    check = LogCheck(Path(path))
    check.run()
    check.close()
    return Report(str(path), check.position, check.edge.root(), check.problems, 0.0)


@settings(
    max_examples=200, deadline=None, derandomize=True, database=None, print_blob=True, suppress_health_check=list(HealthCheck)
)
@given(steps)
@example([])
@example(CONTRADICTION)
def test_every_sequence_of_calls_gives_the_same_ledger_twice(sequence: list[Step]) -> None:
    """Both ledgers answer and record the same; the one in the directory verifies, and its copies are the same ledger."""
    with contextlib.ExitStack() as stack:
        limits = ((blocks, "SEAL_RECORDS", 9), (blocks, "MAX_BLOCK_RECORDS", 6), (postings, "TAIL_POSITIONS", 5))
        for module, name, value in limits:
            stack.enter_context(mock.patch.object(module, name, value))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="commands-")))
        clocks = FakeClock(), FakeClock()
        backend = LmdbBackend(directory / "log", clock=clocks[0], options=Options("relaxed"))
        said, sides = [], []
        for other, clock in ((backend, clocks[0]), (MemoryBackend(clocks[1], backend.ledger_id), clocks[1])):
            side = Side(other, clock)
            stack.callback(side.book.close)
            with _counted_ids(itertools.count(1)):
                said.append([side.run(step) for step in (BEGIN + sequence if sequence is not CONTRADICTION else sequence)])
            sides.append(side.book)
        assert said[0] == said[1]
        assert _state(sides[0]) == _state(sides[1])
        backend.check()
        _same_tables(*sides)
        _copies(sides[0], backend, directory)
