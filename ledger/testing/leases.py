"""The contract of claiming: the order, leases by the clock, late results."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from ledger import claims, commands
from ledger import events as ev
from ledger.backends.base import Backend, Command
from ledger.errors import LeaseLost
from ledger.events import TrialCreated
from ledger.registry import Event
from ledger.session import Ledger
from ledger.state import Status
from ledger.streams import trial_stream
from ledger.testing.clock import FakeClock
from ledger.testing.tools import (
    EXPERIMENT,
    ContractBase,
    append,
    ask,
    asking,
    commit,
    first_ready,
    read_all,
    refusal,
    trial_state,
    with_experiment,
    with_trials,
)

OTHER = UUID("01890000-0000-7000-8000-000000000002")
SECOND = 1_000_000_000


def _claim(backend: Backend, worker: str = "w", lease: float = 60.0) -> int | None:
    """Claim the next trial and return its number."""
    events = _run(backend, claims.claim(EXPERIMENT, worker, lease))
    if not events or not isinstance(events[-1][1], ev.TrialClaimed):
        return None
    return int(events[-1][0].rpartition("/")[2])


def _run(backend: Backend, command: Command) -> tuple[tuple[str, Event], ...]:
    return commit(backend, asking(command))[0].events


def _types(backend: Backend, after: int = 0) -> list[str]:
    return [record.type for record in read_all(backend, after)]


def _finish(backend: Backend, number: int, attempt: int, results: dict[str, Any]) -> tuple[tuple[str, Event], ...]:
    return _run(backend, commands.finish(EXPERIMENT, number, attempt, ev.TrialCompleted(results), "w"))


class LeaseContract(ContractBase):
    """How workers get trials, and lose them."""

    # -- claiming

    def test_claims_go_by_priority_then_time_then_number(self, backend: Backend, clock: FakeClock) -> None:
        """The highest priority is claimed first; of equals the earlier, of those the lower number; then nothing."""
        with_experiment(backend)
        with_trials(backend, TrialCreated({}), TrialCreated({}, priority=-5), TrialCreated({}, priority=7), TrialCreated({}))
        clock.advance(1)
        with_trials(backend, TrialCreated({}, priority=7), first=0)
        with_trials(
            backend, TrialCreated({}), TrialCreated({}, priority=2**31 - 1), TrialCreated({}, priority=-(2**31) + 1), first=9
        )
        assert ask(backend, lambda view: first_ready(view, EXPERIMENT)).id == 10
        order = []
        while (number := _claim(backend)) is not None:
            order.append(number)
        assert order == [10, 3, 0, 1, 4, 9, 2, 11]

    def test_claims_are_of_one_experiment(self, backend: Backend) -> None:
        """A claim takes trials of its own experiment only."""
        with_experiment(backend)
        with_experiment(backend, OTHER, "other")
        append(backend, [(trial_stream(OTHER, 1), TrialCreated({}))])
        assert _claim(backend) is None
        assert ask(backend, lambda view: first_ready(view, OTHER)).id == 1

    def test_a_scheduled_trial_waits_for_its_time(self, backend: Backend, clock: FakeClock) -> None:
        """A trial scheduled for later is not claimed before; then it stands in line by its scheduled time."""
        with_experiment(backend)
        now = clock()
        with_trials(
            backend, TrialCreated({}, scheduled_at=now + 100 * SECOND), TrialCreated({}, scheduled_at=now + 50 * SECOND),
            TrialCreated({}, scheduled_at=now + 100 * SECOND, priority=1), TrialCreated({}, scheduled_at=now - 5 * SECOND),
        )  # fmt: skip
        order = []
        for wait in (0, 0, 49.999999999, 0.000000001, 0, 1000, 0, 0):
            clock.advance(wait)
            order.append(_claim(backend, lease=1e6))
        assert order == [4, None, None, 2, None, 3, 1, None]

    def test_a_view_knows_when_a_trials_time_has_come(self, backend: Backend, clock: FakeClock) -> None:
        """``first_ready`` of a view to look at is the trial that a claim would take now, scheduled ones included."""
        with_experiment(backend)
        later = clock() + 10 * SECOND
        with_trials(backend, TrialCreated({}, priority=1), TrialCreated({}, scheduled_at=later, priority=2))
        assert ask(backend, lambda view: first_ready(view, EXPERIMENT)).id == 1
        clock.advance(10)
        assert ask(backend, lambda view: first_ready(view, EXPERIMENT)).id == 2
        assert _claim(backend) == 2

    def test_a_released_trial_waits_again_in_its_old_place(self, backend: Backend, clock: FakeClock) -> None:
        """A trial handed back, or requeued after its end, is claimed again with the next attempt, in its order."""
        with_experiment(backend)
        with_trials(backend, TrialCreated({}), TrialCreated({}))
        assert _claim(backend) == 1
        _run(backend, commands.release(EXPERIMENT, 1, 1))
        assert _claim(backend) == 1
        _run(backend, commands.finish(EXPERIMENT, 1, 2, ev.TrialFailed(ev.ErrorInfo("E", "m"), {"a": 1}), "w"))
        assert _claim(backend) == 2
        _run(backend, commands.requeue(EXPERIMENT, 1))
        assert _claim(backend) == 1
        state = trial_state(backend, 1)
        assert (state.attempt, state.results, state.error, state.status) == (3, {}, None, Status.READY)

    def test_a_canceled_trial_is_not_claimed(self, backend: Backend, clock: FakeClock) -> None:
        """Trials called off while they wait, or wait for their time, leave the line."""
        with_experiment(backend)
        with_trials(backend, TrialCreated({}), TrialCreated({}, scheduled_at=clock() + SECOND), TrialCreated({}))
        for number in (1, 2):
            _run(backend, commands.cancel(EXPERIMENT, number))
        clock.advance(5)
        assert [_claim(backend), _claim(backend)] == [3, None]

    # -- leases

    def test_a_lease_that_ran_out_is_written_off_by_the_next_claimer(self, backend: Backend, clock: FakeClock) -> None:
        """The next claim after the deadline writes TrialLost and TrialRequeued, and takes the trial as the next attempt."""
        with_experiment(backend)
        with_trials(backend, TrialCreated({}))
        assert _claim(backend, "w1", 10.0) == 1
        deadline = clock() + 10 * SECOND
        clock.advance(10)
        assert ask(backend, lambda view: view.expired(EXPERIMENT, 10)) == []
        assert _claim(backend, "w2") is None
        clock.advance(0.000000001)
        assert [state.id for state in ask(backend, lambda view: view.expired(EXPERIMENT, 10))] == [1]
        before = backend.head()
        assert _claim(backend, "w2", 20.0) == 1
        lost, _, claimed = (record.event for record in read_all(backend, before))
        assert _types(backend, before) == ["TrialLost", "TrialRequeued", "TrialClaimed"]
        assert lost == ev.TrialLost(1, "w1", deadline)
        assert claimed == ev.TrialClaimed("w2", 2, 20.0, clock() + 20 * SECOND)
        state = trial_state(backend, 1)
        assert (state.status, state.worker, state.attempt, state.lost) == (Status.READY, "w2", 2, 1)

    def test_the_longest_expired_come_first(self, backend: Backend, clock: FakeClock) -> None:
        """``expired`` lists leases that ran out, the longest ago first, up to the limit."""
        with_experiment(backend)
        with_trials(backend, *(TrialCreated({}) for _ in range(4)))
        for lease in (30.0, 10.0, 20.0, 500.0):
            _claim(backend, lease=lease)
        clock.advance(100)
        assert [state.id for state in ask(backend, lambda view: view.expired(EXPERIMENT, 10))] == [2, 3, 1]
        assert [state.id for state in ask(backend, lambda view: view.expired(EXPERIMENT, 2))] == [2, 3]

    def test_a_trial_lost_too_often_is_not_tried_again(self, backend: Backend, clock: FakeClock) -> None:
        """After ``max_attempts`` losses a trial stays LOST, and claims go on with others."""
        with_experiment(backend)
        with_trials(backend, TrialCreated({}, max_attempts=2))
        for _ in range(2):
            assert _claim(backend, lease=1.0) == 1
            clock.advance(5)
        before = backend.head()
        assert _claim(backend) is None
        assert _types(backend, before) == ["TrialLost"]
        assert trial_state(backend, 1).status is Status.LOST
        before = backend.head()
        assert _claim(backend) is None
        assert backend.head() == before

    def test_a_renewed_lease_does_not_run_out(self, backend: Backend, clock: FakeClock) -> None:
        """Each renewal moves the deadline to a whole lease from then."""
        with_experiment(backend)
        with_trials(backend, TrialCreated({}))
        _claim(backend, lease=10.0)
        for _ in range(5):
            clock.advance(9)
            _run(backend, commands.renew(EXPERIMENT, 1, 1))
            assert trial_state(backend, 1).deadline == clock() + 10 * SECOND
            assert _claim(backend) is None

    def test_late_results_are_evidence_and_do_not_count(self, backend: Backend, clock: FakeClock) -> None:
        """What a worker reports after another took its trial is a LateResultReceived; the trial stays the other's."""
        with_experiment(backend)
        with_trials(backend, TrialCreated({}))
        _claim(backend, "w1", 10.0)
        _run(backend, commands.start(EXPERIMENT, 1, 1, "w1", 10.0))
        clock.advance(11)
        _claim(backend, "w2", 1000.0)
        assert [event for _, event in _finish(backend, 1, 1, {"loss": 9.0})] == [
            ev.LateResultReceived(1, "SUCCEEDED", {"loss": 9.0})
        ]
        state = trial_state(backend, 1)
        assert (state.status, state.attempt, state.worker, state.results) == (Status.READY, 2, "w2", {})
        for command in (commands.renew(EXPERIMENT, 1, 1), commands.release(EXPERIMENT, 1, 1)):
            assert isinstance(refusal(backend, asking(command)), LeaseLost)
        _finish(backend, 1, 2, {"loss": 1.0})
        assert trial_state(backend, 1).results == {"loss": 1.0}

    def test_a_worker_whose_trial_was_taken_gets_lease_lost(self, backend: Backend, clock: FakeClock) -> None:
        """Through its handle, the worker that lost the trial gets LeaseLost, after its result was kept as late."""
        with Ledger(backend, "w") as book:
            experiment = book.experiment("leases")
            experiment.new_trial({"lr": 1})
            first = experiment.claim(worker="w1", lease_seconds=300)
            assert first is not None
            first.start()
            clock.advance(301)
            second = experiment.claim(worker="w2", lease_seconds=300)
            assert second is not None
            assert (second.id, second.attempt) == (1, 2)
            with pytest.raises(LeaseLost) as caught:
                first.complete({"loss": 9})
            assert (caught.value.attempt, caught.value.current_attempt) == (1, 2)
            second.start()
            second.complete({"loss": 1})
            assert (second.status, second.results) == (Status.SUCCEEDED, {"loss": 1})
            assert [record.type for record in second.history()][-5:] == [
                "TrialRequeued", "TrialClaimed", "LateResultReceived", "TrialStarted", "TrialCompleted",
            ]  # fmt: skip
            backend.check()

    def test_a_result_in_time_counts_though_the_lease_ran_out(self, backend: Backend, clock: FakeClock) -> None:
        """As long as nobody else took the trial, the worker's result counts."""
        with_experiment(backend)
        with_trials(backend, TrialCreated({}))
        _claim(backend, lease=1.0)
        clock.advance(100)
        _finish(backend, 1, 1, {"loss": 1.0})
        assert trial_state(backend, 1).status is Status.SUCCEEDED
        assert _claim(backend) is None
