"""The contract of what trials wait for: their worker, other trials, an experiment that is paused, their time."""

from __future__ import annotations

from typing import Any

from ledger import claims, commands
from ledger import events as ev
from ledger.backends.base import Backend, Command
from ledger.errors import CommandRefused, UnknownTrial, WrongExpectedVersion
from ledger.events import TrialCreated
from ledger.registry import Event
from ledger.session import Ledger
from ledger.state import Status
from ledger.streams import experiment_stream, trial_stream
from ledger.testing.clock import FakeClock
from ledger.testing.tools import (
    EXPERIMENT,
    ContractBase,
    append,
    ask,
    asking,
    commit,
    refusal,
    trial_state,
    with_experiment,
    with_trials,
)

SECOND = 1_000_000_000


def _run(backend: Backend, command: Command) -> tuple[tuple[str, Event], ...]:
    return commit(backend, asking(command))[0].events


def _claim(backend: Backend, worker: str = "w", lease: float = 60.0) -> int | None:
    """Claim the next trial and return its number."""
    events = _run(backend, claims.claim(EXPERIMENT, worker, lease))
    return int(events[-1][0].rpartition("/")[2]) if events and isinstance(events[-1][1], ev.TrialClaimed) else None


def _end(backend: Backend, number: int, event: Event | None = None) -> None:
    _run(backend, commands.finish(EXPERIMENT, number, None, event or ev.TrialCompleted(), "w"))


def _waiting_for(*numbers: int, **more: Any) -> TrialCreated:
    return TrialCreated({}, depends_on=tuple(trial_stream(EXPERIMENT, number) for number in numbers), **more)


def _ready(backend: Backend, worker: str = "") -> list[int]:
    return [state.id for state in ask(backend, lambda view: view.ready(EXPERIMENT, worker, limit=100))]


class WaitContract(ContractBase):
    """Who is handed a trial, and when."""

    # -- workers

    def test_an_assigned_trial_is_claimed_by_its_worker_only(self, backend: Backend) -> None:
        """Of the trials for anyone and those for itself a worker gets the better one; those for others it never gets."""
        with_experiment(backend)
        with_trials(
            backend, TrialCreated({}, priority=1), TrialCreated({}, assigned_to="a", priority=2),
            TrialCreated({}, assigned_to="b", priority=3), TrialCreated({}, assigned_to="a"),
        )  # fmt: skip
        assert (_ready(backend), _ready(backend, "a"), _ready(backend, "b")) == ([1], [2, 1, 4], [3, 1])
        assert [_claim(backend, "a") for _ in range(4)] == [2, 1, 4, None]
        assert _claim(backend, "c") is None
        assert _claim(backend, "b") == 3

    def test_a_trial_can_be_assigned_anew(self, backend: Backend) -> None:
        """The last assignment counts; without a worker anyone may have it; a claim by another worker is refused."""
        with_experiment(backend)
        (stream,) = with_trials(backend, TrialCreated({}, assigned_to="a"))
        append(backend, [(stream, ev.TrialAssigned("b"))])
        assert (_ready(backend, "a"), _ready(backend, "b")) == ([], [1])
        refused = refusal(backend, asking(commands.start(EXPERIMENT, 1, None, "a", 60.0)))
        assert isinstance(refused, CommandRefused)
        append(backend, [(stream, ev.TrialAssigned())])
        assert _claim(backend, "a") == 1

    def test_a_lost_trial_waits_for_its_own_worker(self, backend: Backend, clock: FakeClock) -> None:
        """When its lease has run out, another worker's claim writes it off, and its own gets it."""
        with_experiment(backend)
        with_trials(backend, TrialCreated({}, assigned_to="a"))
        assert _claim(backend, "a", 10.0) == 1
        clock.advance(11)
        assert _claim(backend, "b") is None
        assert trial_state(backend, 1).status is Status.PENDING
        assert _claim(backend, "a") == 1

    def test_a_due_trial_is_for_its_own_worker(self, backend: Backend, clock: FakeClock) -> None:
        """A trial that is assigned and scheduled is shown, when its time has come, to its worker only."""
        with_experiment(backend)
        with_trials(backend, TrialCreated({}, assigned_to="a", scheduled_at=clock() + SECOND))
        assert _ready(backend, "a") == []
        clock.advance(1)
        assert (_ready(backend), _ready(backend, "b"), _ready(backend, "a")) == ([], [], [1])
        assert (_claim(backend, "b"), _claim(backend, "a")) == (None, 1)

    # -- dependencies

    def test_a_trial_waits_until_all_it_depends_on_has_succeeded(self, backend: Backend) -> None:
        """It is claimable after the last of its dependencies has SUCCEEDED, in its own order; others are not held up."""
        with_experiment(backend)
        with_trials(backend, TrialCreated({}), TrialCreated({}), _waiting_for(1, 2, priority=9), TrialCreated({}))
        assert _ready(backend) == [1, 2, 4]
        _end(backend, 1)
        assert _ready(backend) == [2, 4]
        _end(backend, 2)
        assert _ready(backend) == [3, 4]

    def test_what_has_succeeded_already_holds_nothing_up(self, backend: Backend) -> None:
        """A trial that depends on trials that have SUCCEEDED is claimable at once."""
        with_experiment(backend)
        with_trials(backend, TrialCreated({}))
        _end(backend, 1)
        with_trials(backend, _waiting_for(1), first=2)
        assert _claim(backend) == 2

    def test_a_failed_dependency_keeps_the_trial_waiting(self, backend: Backend) -> None:
        """It stays PENDING until the dependency is requeued and succeeds, or is amended to SUCCEEDED."""
        with_experiment(backend)
        with_trials(backend, TrialCreated({}), TrialCreated({}), _waiting_for(1, 2))
        _end(backend, 1, ev.TrialFailed())
        _end(backend, 2, ev.TrialFailed())
        assert _claim(backend) is None
        _run(backend, commands.requeue(EXPERIMENT, 1))
        _end(backend, 1)
        assert _claim(backend) is None
        append(backend, [(trial_stream(EXPERIMENT, 2), ev.TrialAmended(status="SUCCEEDED"))])
        assert _claim(backend) == 3

    def test_a_success_that_is_taken_back_holds_the_trial_again(self, backend: Backend) -> None:
        """Deleting, amending or forcing the dependency takes the trial out of the line; what restores it puts it back."""
        with_experiment(backend)
        first, _ = with_trials(backend, TrialCreated({}), _waiting_for(1))
        _end(backend, 1)
        for gone, back in (
            (ev.TrialDeleted(), ev.TrialRestored()),
            (ev.TrialAmended(status="FAILED"), ev.TrialAmended(status="SUCCEEDED")),
            (ev.StatusForced("LOST"), ev.StatusForced("SUCCEEDED")),
        ):
            assert _ready(backend) == [2]
            append(backend, [(first, gone)])
            assert _ready(backend) == []
            append(backend, [(first, back)])
        assert _claim(backend) == 2

    def test_a_lost_trial_waits_for_its_dependencies_again(self, backend: Backend, clock: FakeClock) -> None:
        """What it depended on has been taken back while a worker held it: it goes on; but lost, it is not handed out again."""
        with_experiment(backend)
        first, _ = with_trials(backend, TrialCreated({}), _waiting_for(1))
        _end(backend, 1)
        assert _claim(backend, lease=10.0) == 2
        append(backend, [(first, ev.TrialDeleted())])
        _run(backend, commands.renew(EXPERIMENT, 2, 1))
        clock.advance(11)
        assert _claim(backend) is None
        assert trial_state(backend, 2).status is Status.PENDING
        append(backend, [(first, ev.TrialRestored())])
        assert _claim(backend) == 2

    def test_one_that_depends_and_is_scheduled_waits_for_both(self, backend: Backend, clock: FakeClock) -> None:
        """Neither the time alone nor the dependency alone lets it go, whichever comes first."""
        with_experiment(backend)
        at = clock() + 10 * SECOND
        with_trials(backend, TrialCreated({}), _waiting_for(1, scheduled_at=at), _waiting_for(1, scheduled_at=at + 10 * SECOND))
        clock.advance(11)
        assert _ready(backend) == [1]
        _end(backend, 1)
        assert _ready(backend) == [2]
        clock.advance(9)
        assert _ready(backend) == [2, 3]

    def test_a_chain_goes_link_by_link(self, backend: Backend) -> None:
        """Of a chain only the first link that has not succeeded is claimable; one that is begun early is refused."""
        with_experiment(backend)
        with_trials(backend, TrialCreated({}), _waiting_for(1), _waiting_for(2), _waiting_for(3))
        for number in (1, 2, 3, 4):
            assert _ready(backend) == [number]
            if number < 4:
                refused = refusal(backend, asking(commands.start(EXPERIMENT, 4, None, "w", 60.0)))
                assert isinstance(refused, CommandRefused)
            _end(backend, number)

    def test_all_in_one_append(self, backend: Backend) -> None:
        """A dependency that succeeds in the very append that creates, requeues or cancels its dependants counts for them."""
        with_experiment(backend)
        streams = with_trials(backend, TrialCreated({}), _waiting_for(1), _waiting_for(1))
        done: list[Event] = [ev.TrialClaimed("w", 1, 1.0, 2**62), ev.TrialStarted(1), ev.TrialCompleted({}, 1)]
        fourth = (trial_stream(EXPERIMENT, 4), _waiting_for(1))
        append(backend, [(streams[1], ev.TrialCanceled()), *((streams[0], event) for event in done), fourth])
        assert _ready(backend) == [3, 4]
        append(backend, [(streams[0], ev.TrialDeleted()), (streams[1], ev.TrialRequeued())])
        assert _ready(backend) == []
        append(backend, [(streams[1], ev.TrialCanceled()), (streams[0], ev.TrialRestored()), (streams[1], ev.TrialRequeued())])
        assert _ready(backend) == [2, 3, 4]
        append(backend, [(streams[0], ev.TrialDeleted()), (streams[1], ev.TrialCanceled())])
        append(backend, [(streams[0], ev.TrialRestored()), (streams[2], ev.TrialCanceled())])
        assert _ready(backend) == [4]

    def test_dependencies_must_exist(self, backend: Backend) -> None:
        """A dependency on a trial that does not exist, that was deleted, or on itself is refused: no circle can be made."""
        with_experiment(backend)
        with_trials(backend, TrialCreated({}))
        append(backend, [(trial_stream(EXPERIMENT, 1), ev.TrialDeleted())])
        for number in (1, 2, 9):
            refused = refusal(backend, asking(commands.create_trials(EXPERIMENT, [_waiting_for(number)], 2)))
            assert isinstance(refused, UnknownTrial)

    # -- pauses

    def test_a_paused_experiment_hands_out_nothing(self, backend: Backend, clock: FakeClock) -> None:
        """Claims are given nothing while it is paused, and write nothing; trials that are held go on; then all is as before."""
        stream = with_experiment(backend)
        with_trials(backend, TrialCreated({}), TrialCreated({}))
        assert _claim(backend, lease=10.0) == 1
        append(backend, [(stream, ev.ExperimentPaused())])
        head = backend.head()
        clock.advance(20)
        assert _claim(backend) is None
        assert backend.head() == head
        _run(backend, commands.finish(EXPERIMENT, 1, 1, ev.TrialCompleted(), "w"))
        append(backend, [(stream, ev.ExperimentResumed())])
        assert _claim(backend) == 2

    # -- times

    def test_the_next_moment_at_which_work_may_come(self, backend: Backend, clock: FakeClock) -> None:
        """``next_due`` is the first scheduled time to come, or the moment after the end of the first lease to end."""
        with_experiment(backend)
        begun = clock()
        assert ask(backend, lambda view: view.next_due(EXPERIMENT)) is None
        with_trials(
            backend, TrialCreated({}, scheduled_at=begun + 20 * SECOND), TrialCreated({}), _waiting_for(2, scheduled_at=begun + 5)
        )
        assert ask(backend, lambda view: view.next_due(EXPERIMENT)) == begun + 20 * SECOND
        assert _claim(backend, lease=10.0) == 2
        assert ask(backend, lambda view: view.next_due(EXPERIMENT)) == begun + 10 * SECOND + 1
        clock.advance(15)
        assert ask(backend, lambda view: view.next_due(EXPERIMENT)) == begun + 20 * SECOND
        clock.advance(5)
        assert ask(backend, lambda view: view.next_due(EXPERIMENT)) is None

    # -- choosing

    def test_a_claim_takes_the_first_that_is_wanted(self, backend: Backend) -> None:
        """By values of the config or by a function of it, in the order of claims; None when none is wanted."""
        with Ledger(backend, "w") as book:
            exp = book.experiment("where")
            exp.new_trials({"n": n, "odd": n % 2 == 1, "flag": 1} for n in range(600))
            exp.new_trial({"n": 999}, priority=5)

            def number(job: Any) -> int | None:
                return None if job is None else int(job.config["n"])

            assert number(exp.claim(where={"n": 500})) == 500
            assert number(exp.claim(where={"odd": True})) == 1
            assert number(exp.claim(where=lambda config: config["n"] > 500)) == 999
            assert number(exp.claim(where={"odd": False, "n": 7})) is None
            assert number(exp.claim(where={"flag": True})) is None  # True is not 1
            assert number(exp.claim(where={"missing": None})) is None
            assert number(exp.claim()) == 0

    def test_many_lost_trials_hide_none_that_is_wanted(self, backend: Backend, clock: FakeClock) -> None:
        """Among many whose lease has run out, and of which claims write off some at a time, the one wanted is found."""
        with Ledger(backend, "w") as book:
            exp = book.experiment("where")
            trials = exp.new_trials([{"n": 0}] * 70 + [{"n": 1}])
            deadline = clock() + SECOND
            lost = [(t.stream, ev.TrialClaimed("w", 1, 1.0, deadline + i)) for i, t in enumerate(trials)]
            append(backend, lost)
            clock.advance(5)
            assert exp.wait(0, where={"n": 1})
            job = exp.claim(where={"n": 1})
            assert job is not None
            assert job.id == 71
            assert exp.wait(0, where={"n": 1}) is False
            job.release()

    def test_one_that_was_taken_meanwhile_is_not_claimed_twice(self, backend: Backend) -> None:
        """Of those found, a claim takes the first that still waits, with the config that it had."""
        with_experiment(backend)
        with_trials(backend, *(TrialCreated({"n": n}) for n in range(4)))
        seen = ask(backend, lambda view: view.ready(EXPERIMENT, limit=3))
        _claim(backend)
        append(backend, [(trial_stream(EXPERIMENT, 2), ev.TrialAmended(config={"n": 9}))])
        events = _run(backend, claims.claim(EXPERIMENT, "w", 60.0, seen))
        assert [stream for stream, _ in events] == [trial_stream(EXPERIMENT, 3)]
        assert _run(backend, claims.claim(EXPERIMENT, "w", 60.0, seen)) == ()

    # -- expected versions

    def test_a_write_after_somebody_elses_has_both_states(self, backend: Backend) -> None:
        """Of a trial and an experiment the error has the state expected and the one that is; of another stream none."""
        with Ledger(backend, "w") as book:
            exp = book.experiment("conflict")
            trial = exp.new_trial({"n": 1})
            seen = trial.version, exp.version, book.log.append([ev.NoteAdded("a")], stream="diary")
            trial.complete({"loss": 1.0})
            exp.rename("renamed")
            exp.new_trial({})
            error = _conflict(lambda: trial.requeue(expected_version=seen[0]))
            assert (error.expected_version, error.version) == (1, 4)
            assert (error.expected_state.status, error.state.status) == (Status.PENDING, Status.SUCCEEDED)
            assert error.state == trial.state
            error = _conflict(lambda: exp.describe("d", expected_version=seen[1]))
            assert (error.expected_state.name, error.state.name) == ("conflict", "renamed")
            assert error.state == exp.state
            exp.describe("d", expected_version=error.version)
            error = _conflict(lambda: book.log.append([ev.NoteAdded("b")], stream="diary", expected_version=7))
            assert (error.version, error.expected_state, error.state) == (1, None, None)
            error = _conflict(lambda: book.log.append([ev.NoteAdded("b")], stream=trial.stream, expected_version=9))
            assert (error.expected_state, error.state) == (None, trial.state)
            assert book.log.version(experiment_stream(exp.id)) == 3


def _conflict(write: Any) -> Any:
    try:
        write()
    except WrongExpectedVersion as error:
        return error
    raise AssertionError("the write was accepted")
