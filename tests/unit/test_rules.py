"""Rules at their edges: what may be named, who may report, what an ended trial still takes."""

from __future__ import annotations

import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import ledger
from ledger import Status
from ledger.audit import verify
from ledger.backends.view import LmdbView


@ledger.event
class BareContainersKept(ledger.Event):
    """Annotated with bare containers."""

    data: dict
    items: list
    pair: tuple
    typed: tuple[Any, ...] = ()
    maybe: dict[str, Any] | None = None


@pytest.fixture
def exp(book: ledger.Ledger) -> ledger.Experiment:
    """An experiment on a fresh ledger."""
    return book.experiment("rules")


def _lost(exp: ledger.Experiment) -> tuple[ledger.Trial, ledger.Trial]:
    """Return the handle of a worker that lost its lease, and that of the one that has the trial now."""
    exp.new_trial({"layers": 2})
    slow = exp.claim(worker="slow", lease_seconds=0.02)
    assert slow is not None
    slow.let_go()
    time.sleep(0.05)
    fast = exp.claim(worker="fast")
    assert fast is not None
    fast.start()
    return slow, fast


@pytest.mark.parametrize("name", ["", "x" * 121, "\ud800"])
def test_a_type_name_no_block_could_carry_is_refused(book: ledger.Ledger, name: str) -> None:
    """One odd name must not make the log unreadable."""
    with pytest.raises(ledger.InvalidValue):
        ledger.event(name=name)(type("Odd", (ledger.Event,), {}))
    with pytest.raises(ledger.InvalidValue):
        book.log.append([ledger.UnknownEvent(name, 1, {})], stream="s")
    assert book.log.head == 0


@pytest.mark.parametrize("schema", ["x", 0, -1, 2**40, None])
def test_a_schema_that_is_no_number_is_refused(book: ledger.Ledger, schema: Any) -> None:
    """A schema version is an int from 1."""
    with pytest.raises(ledger.InvalidValue):
        book.log.append([ledger.UnknownEvent("Odd", schema, {})], stream="s")
    assert book.log.head == 0


def test_hundreds_of_types_in_one_block_are_no_trouble(book: ledger.Ledger) -> None:
    """A block of 512 records of 512 types with long names is written, sealed and read."""
    for number in range(520):
        book.log.append([ledger.UnknownEvent(f"{number:0120d}", 1, {})], stream="s")
    assert len({record.type for record in book.log.read()}) == 520


def test_events_in_disguise_are_indexed_as_they_are_read(book: ledger.Ledger) -> None:
    """An UnknownEvent by the name of a known type counts as that type, to the index and to verify."""
    book.log.append([ledger.UnknownEvent("NoteAdded", 1, {"text": "copied"})], stream="s")
    assert next(book.log.read()).event == ledger.NoteAdded("copied")


def test_bare_containers_keep_the_types_inside(book: ledger.Ledger) -> None:
    """dict, list and tuple without parameters hold any value, exactly."""
    event = BareContainersKept({"a": (1, Decimal("0.1"))}, [(2,), None], (2**70, b"x"), (Decimal(1), [()]), {"t": (1,)})
    book.log.append([event], stream="s")
    assert next(book.log.read()).event == event


def test_results_of_a_lost_worker_do_not_count(exp: ledger.Experiment) -> None:
    """report() and configure() of a worker that lost its lease are refused; the results are kept as evidence."""
    slow, fast = _lost(exp)
    with pytest.raises(ledger.LeaseLost):
        slow.report({"loss": 0.0})
    with pytest.raises(ledger.LeaseLost):
        slow.configure({"units": 1})
    fast.complete({"loss": 1.0})
    with pytest.raises(ledger.LeaseLost):
        slow.report({"loss": -1.0})
    state = fast.state
    assert (state.results, state.config) == ({"loss": 1.0}, {"layers": 2})
    late = [record.event for record in fast.history() if record.type == "LateResultReceived"]
    assert [(event.attempt, event.results) for event in late] == [(1, {"loss": 0.0}), (1, {"loss": -1.0})]


def test_an_ended_trial_takes_no_parameters(exp: ledger.Experiment) -> None:
    """A config is part of what was run; it does not grow afterwards."""
    trial = exp.new_trial({})
    trial.complete()
    with pytest.raises(ledger.InvalidTransition, match="TrialConfigured"):
        trial.configure({"units": 64})


def test_a_worker_whose_trial_was_forced_is_told(exp: ledger.Experiment) -> None:
    """Its results are kept as evidence, and it gets LeaseLost."""
    exp.new_trial({})
    job = exp.claim()
    assert job is not None
    exp.trial(1).force_status("FAILED", reason="the rig burned down")
    with pytest.raises(ledger.LeaseLost, match="FAILED"):
        job.complete({"loss": 1.0})
    assert list(job.history())[-1].type == "LateResultReceived"


@pytest.mark.parametrize("status", ["READY", "RUNNING"])
def test_a_trial_forced_into_work_can_be_ended_by_its_handle(exp: ledger.Experiment, status: str) -> None:
    """The handle that forced it holds the attempt."""
    trial = exp.new_trial({})
    trial.force_status(status, reason="resumed from elsewhere")
    if status == "READY":
        with trial.run():
            trial.complete({"loss": 1.0})
    else:
        trial.complete({"loss": 1.0})
    assert trial.status is Status.SUCCEEDED


def test_a_released_trial_can_be_run_again_by_the_same_handle(exp: ledger.Experiment) -> None:
    """What was handed back can be taken up again, as a new attempt."""
    exp.new_trial({})
    job = exp.claim()
    assert job is not None
    job.release()
    with job.run():
        job.complete()
    assert job.state.attempt == 2


class _Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("error", [ValueError("\N{GRINNING FACE}" * 70_000), _Mute()], ids=["long", "mute"])
def test_any_exception_is_recorded_and_raised(exp: ledger.Experiment, error: Exception) -> None:
    """An exception with a huge text, and one whose text cannot be had, are the caller's to see, and FAILED."""
    trial = exp.new_trial({})
    with pytest.raises(type(error)) as caught, trial.run():
        raise error
    assert caught.value is error
    assert trial.status is Status.FAILED


def test_claims_find_the_one_trial_among_many_that_are_used_up(exp: ledger.Experiment) -> None:
    """A claim that writes off hundreds of lost trials still gets the one that may be tried again."""
    exp.new_trials([{"n": n} for n in range(150)], max_attempts=1)
    last = exp.new_trial({"n": "last"}, max_attempts=2, priority=-1)
    while (job := exp.claim(lease_seconds=0.02)) is not None and job.id != last.id:
        job.let_go()
    assert job is not None
    job.let_go()
    time.sleep(0.1)
    again = exp.claim()
    assert again is not None
    assert again.id == last.id


def test_events_on_an_ended_trial_read_only_what_is_new(exp: ledger.Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes on a trial with a long history do not fold it from the beginning each time."""
    trial = exp.new_trial({})
    trial.complete()
    for n in range(200):
        exp.book.log.append([ledger.NoteAdded(str(n)) for _ in range(10)], stream=trial.stream)
    read: list[int] = []
    original = LmdbView.records_at
    monkeypatch.setattr(LmdbView, "records_at", lambda self, p: read.append(len(p)) or original(self, p))
    for n in range(20):
        trial.note(str(n))
    assert sum(read) < 200
    assert trial.status is Status.SUCCEEDED


def test_verify_raises_no_alarm_while_others_write(ledger_path: Path) -> None:
    """Blocks that are sealed while verify runs are not counted twice."""
    with ledger.open(ledger_path, durability="relaxed") as book:
        book.log.append([ledger.NoteAdded("x")] * 3000, stream="s")
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                book.log.append([ledger.NoteAdded("x")], stream="s")

        writer = threading.Thread(target=write)
        writer.start()
        try:
            reports = [verify(ledger_path) for _ in range(6)]
        finally:
            stop.set()
            writer.join()
    assert [report.problems for report in reports] == [[]] * 6
    assert reports[-1].head > reports[0].head


@pytest.mark.parametrize(
    "bad",
    [
        {"values": {"x": 2**70}}, {"values": {"x": 1.0}, "step": 2**70}, {"values": {"x": "\udc80"}}, {"values": {1: 2.0}},
        {"values": {"": 1.0}}, {"values": {"x": 1.0}, "at": "now"}, {"values": {"x": "y" * 5000}}, {"values": {"n" * 2000: 1.0}},
        {"values": {str(n) * 10: 1.0 for n in range(20_000)}}, {"values": {"x": 1.0}, "at": 2**70},
    ],
)  # fmt: skip
def test_a_bad_metric_is_refused_and_costs_nothing_else(exp: ledger.Experiment, bad: dict[str, Any]) -> None:
    """The row is refused at the call as a whole; the points before and after it are recorded, and the trial ends."""
    with exp.new_trial({}).run() as trial:
        trial.log_metrics({"x": 1.0}, step=1)
        with pytest.raises(ledger.InvalidValue):
            trial.log_metrics(**bad)
        trial.log_metrics({"x": 2.0}, step=2)
    points = [p for r in trial.history() if r.type == "MetricsLogged" for p in ledger.point_rows(r.event)]
    assert [(name, step, value) for name, step, _, value in points] == [("x", 1, 1.0), ("x", 2, 2.0)]
    assert trial.status is Status.SUCCEEDED


def test_many_long_texts_are_spread_over_events(exp: ledger.Experiment) -> None:
    """Texts that together exceed one record are logged all the same."""
    with exp.new_trial({}).run() as trial:
        for step in range(600):
            trial.log(step=step, text="\N{GRINNING FACE}" * 3000)
    points = [p for r in trial.history() if r.type == "MetricsLogged" for p in ledger.point_rows(r.event)]
    assert len(points) == 600


def test_metrics_whose_commit_failed_are_recorded_once(exp: ledger.Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush that is interrupted after its commit, and repeated, gives each point once."""
    trial = exp.new_trial({})
    with trial.run():
        trial.log(step=1, loss=1.0)
        log = exp.book.log
        original = log.commit

        def interrupted(*args: Any, **kwargs: Any) -> Any:
            monkeypatch.setattr(log, "commit", original)
            original(*args, **kwargs)
            raise KeyboardInterrupt

        monkeypatch.setattr(log, "commit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trial.flush()
        trial.flush()
    points = [p for r in trial.history() if r.type == "MetricsLogged" for p in ledger.point_rows(r.event)]
    assert len(points) == 1


def test_a_run_that_ends_records_its_metrics_in_the_same_commit(exp: ledger.Experiment) -> None:
    """What waits in the buffers goes to disk with the end, before it in the log; a commit costs two flushes of the disk."""
    commits: list[int] = []
    log = exp.book.log
    original = log.commit
    with (
        exp.new_trial({}).run() as trial,
        mock.patch.object(log, "commit", lambda all_: commits.append(len(all_)) or original(all_)),
    ):
        trial.log(step=1, loss=1.0)
        trial.log_telemetry({"cpu": 0.5})
        trial.complete({"loss": 1.0})
    assert commits == [3]
    assert [record.type for record in trial.history()][-3:] == ["MetricsLogged", "TelemetryLogged", "TrialCompleted"]


def test_metrics_that_are_refused_at_the_end_are_told_and_kept(exp: ledger.Experiment) -> None:
    """When the points cannot be recorded with the end, complete() raises what kept them, and a later flush records them."""
    log, refusal = exp.book.log, ledger.CommandRefused("not now")
    original = log.commit

    def refuse_first(submissions: Any) -> Any:
        return [refusal, *original(submissions[1:])]

    trial = exp.new_trial({})
    with pytest.raises(ledger.CommandRefused, match="not now"), trial.run():
        trial.log(step=1, loss=1.0)
        with mock.patch.object(log, "commit", refuse_first):
            trial.complete({"loss": 1.0})
    assert trial.status is Status.SUCCEEDED
    trial.flush()
    assert [record.type for record in trial.history()][-2:] == ["TrialCompleted", "MetricsLogged"]


def test_streams_may_be_called_as_they_like(book: ledger.Ledger) -> None:
    """Only what begins with 'trial/' and 'experiment/' is kept for the package."""
    names = ["trial", "experiment", "trials/1", "a\0b", "new\nline", "9", "x" * 400, "s1", "s10", "s9", "s01", "1" * 100, "s("]
    for name in names:
        book.log.append([ledger.NoteAdded(name)], stream=name)
    for name in names:
        assert [record.event.text for record in book.log.read(stream=name)] == [name]
    for name in ("", "x" * 401, "\ud800", 5):
        with pytest.raises(ledger.InvalidValue):
            book.log.append([ledger.NoteAdded("x")], stream=name)  # type: ignore[arg-type]


def test_types_may_be_given_one_or_several_as_names_or_classes(book: ledger.Ledger) -> None:
    """A single name is a name, not a row of letters."""
    book.log.append([ledger.NoteAdded("a"), ledger.TagsChanged(added=["t"])], stream="s")
    for types in ("NoteAdded", ["NoteAdded"], ledger.NoteAdded, [ledger.NoteAdded]):
        assert [record.type for record in book.log.read(types=types)] == ["NoteAdded"]
    with book.subscribe(types="TagsChanged") as records:
        record = records.next(timeout=10)
    assert record is not None
    assert record.type == "TagsChanged"


def test_a_trial_has_a_last_number(exp: ledger.Experiment) -> None:
    """Beyond the largest number, automatic numbering says so."""
    exp.new_trial({}, number=2**62)
    with pytest.raises(ledger.InvalidValue, match="no trial numbers are left"):
        exp.new_trial({})
    for number in (-1, 2**62 + 1, "1", True):
        with pytest.raises(ledger.InvalidValue):
            exp.new_trial({}, number=number)  # type: ignore[arg-type]
