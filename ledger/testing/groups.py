"""The contract of committing: whole appends, groups of them, refusals that leave no trace."""

from __future__ import annotations

import threading
from uuid import UUID

import pytest

from ledger import events as ev
from ledger.backends.base import Backend, Staged, View
from ledger.errors import (
    CommandRefused,
    InvalidTransition,
    InvalidValue,
    UnknownExperiment,
    WrongExpectedVersion,
)
from ledger.events import NoteAdded
from ledger.records import Context
from ledger.streams import trial_stream
from ledger.testing.tools import (
    EXPERIMENT,
    ContractBase,
    Trace,
    append,
    ask,
    asking,
    commit,
    first_ready,
    notes,
    read_all,
    refusal,
    submission,
    texts,
    trial_state,
    with_experiment,
    with_trials,
)


class _Refused(Exception):
    """What a command of a test raises."""


def _refuse(view: View) -> list[Staged]:
    raise _Refused("no")


class GroupContract(ContractBase):
    """How submissions share a commit."""

    # -- atomic steps

    def test_an_append_to_many_streams_is_there_whole(self, backend: Backend) -> None:
        """append_many writes events to several streams in one step, side by side."""
        append(backend, [(f"s{i}", NoteAdded(str(i))) for i in range(40)])
        assert texts(backend) == [str(i) for i in range(40)]

    def test_an_append_with_one_bad_event_leaves_nothing(self, backend: Backend) -> None:
        """When one event of an append cannot be recorded, none of it is."""
        append(backend, notes("before"))
        before = Trace(backend, "notes", "x")
        bad = ev.EnvironmentCaptured({"gpus": {1, 2}})
        error = refusal(backend, submission([*notes("a"), ("x", bad), *notes("b")]))
        assert isinstance(error, InvalidValue)
        assert Trace(backend, "notes", "x") == before

    def test_readers_see_an_append_whole_or_not_at_all(self, backend: Backend) -> None:
        """While appends of fifty records are written, no reader finds the log ending inside one."""
        halves: list[int] = []
        done = threading.Event()

        def watch() -> None:
            while not done.is_set():
                head = backend.head()
                if head % 50:
                    halves.append(head)

        reader = threading.Thread(target=watch)
        reader.start()
        try:
            for number in range(40):
                append(backend, notes(*["x"] * 50, stream=f"s{number}"))
        finally:
            done.set()
            reader.join()
        assert halves == []

    def test_a_group_is_answered_in_order(self, backend: Backend) -> None:
        """The submissions of a group get their answers, and their positions, in the order given."""
        answers = commit(backend, submission(notes("a", "b")), submission(notes("c")), submission(notes("d", stream="other")))
        assert [answer.position for answer in answers] == [1, 3, 4]
        assert texts(backend) == ["a", "b", "c", "d"]

    def test_a_command_sees_what_those_before_it_in_the_group_left(self, backend: Backend) -> None:
        """A command is run against the state left by the submissions before it, refused ones not counted."""
        seen: list[tuple[int, int]] = []

        def look(view: View) -> list[Staged]:
            seen.append((view.version("notes"), view.now))
            return notes("looked")

        commit(backend, submission(notes("a", "b")), asking(look))
        backend.commit([submission(notes("c")), asking(_refuse), asking(look)])
        assert [seen[0][0], seen[-1][0]] == [2, 4]
        assert seen[-1][1] == read_all(backend)[-1].recorded_at

    def test_a_command_may_decide_nothing(self, backend: Backend) -> None:
        """A command that returns no events writes nothing and is answered with the head."""
        append(backend, notes("a"))
        before = Trace(backend, "notes")
        answer = commit(backend, asking(lambda view: []))[0]
        assert (answer.events, answer.position, answer.head) == ((), 1, 1)
        assert Trace(backend, "notes") == before

    # -- refusals

    def test_a_refused_command_leaves_no_trace(self, backend: Backend) -> None:
        """What a command raises is its answer, and the log is as it was."""
        with_experiment(backend)
        before = Trace(backend, "notes")
        assert isinstance(refusal(backend, asking(_refuse)), _Refused)
        assert Trace(backend, "notes") == before

    def test_a_command_refused_by_the_rules_leaves_no_trace(self, backend: Backend) -> None:
        """A command whose last event the trial's state forbids writes none of its events."""
        with_experiment(backend)
        stream = with_trials(backend, ev.TrialCreated({"lr": 0.1}))[0]
        before = Trace(backend, stream)
        claimed = ev.TrialClaimed("w", 1, 60.0, 2_000_000_000_000_000_000)
        error = refusal(backend, submission([(stream, claimed), (stream, ev.TrialCompleted({"loss": 1.0}, attempt=1))]))
        assert isinstance(error, InvalidTransition)
        assert Trace(backend, stream) == before
        assert ask(backend, lambda view: first_ready(view, EXPERIMENT)).id == 1

    def test_refusals_do_not_disturb_the_others_of_their_group(self, backend: Backend) -> None:
        """In a group with refusals first, between and last, exactly the others are written, without a gap."""
        with_experiment(backend)
        stream = trial_stream(EXPERIMENT, 1)
        orphan = trial_stream(UUID(int=5), 1)
        answers = backend.commit(
            [
                asking(_refuse),
                submission(notes("a")),
                submission([(stream, ev.TrialCreated({})), (stream, ev.TrialStarted(1))]),
                submission(notes("b"), expect={"notes": 7}),
                submission([(stream, ev.TrialCreated({"lr": 1}))]),
                submission([(orphan, ev.TrialCreated({}))]),
                submission(notes("c")),
                submission([*notes("d"), ("n", ev.EnvironmentCaptured({"bad": object()}))]),
            ]
        )
        kinds = [type(answer) if isinstance(answer, Exception) else None for answer in answers]
        assert kinds == [
            _Refused, None, InvalidTransition, WrongExpectedVersion, None, UnknownExperiment, None, InvalidValue,
        ]  # fmt: skip
        assert texts(backend) == ["a", "c"]
        assert [record.position for record in read_all(backend)] == [1, 2, 3, 4]
        assert trial_state(backend, 1).config == {"lr": 1}

    @pytest.mark.parametrize(
        ("number", "created", "occurred_at"),
        [
            pytest.param(1, ev.TrialCreated({}, priority=2**64 - 1), None, id="priority above 64 bits"),
            pytest.param(1, ev.TrialCreated({}, priority=-(2**63)), None, id="lowest priority"),
            pytest.param(1, ev.TrialCreated({}, scheduled_at=-1), None, id="scheduled before 1970"),
            pytest.param(1, ev.TrialCreated({}), -1, id="occurred before 1970"),
            pytest.param(1, ev.TrialCreated({}), 2**64, id="occurred after 64 bits"),
            pytest.param(1, ev.TrialCreated({}), -(2**64), id="occurred before 64 bits"),
            pytest.param(2**64 - 1, ev.TrialCreated({}), None, id="last number of 64 bits"),
            pytest.param(2**64, ev.TrialCreated({}), None, id="number above 64 bits"),
        ],
    )
    def test_numbers_at_the_edge_are_taken_whole_or_refused_whole(
        self, backend: Backend, number: int, created: ev.TrialCreated, occurred_at: int | None
    ) -> None:
        """A number that no index can carry is refused as a LedgerError with no trace, and disturbs no other submission."""
        with_experiment(backend)
        stream = trial_stream(EXPERIMENT, number)
        context = None if occurred_at is None else Context(occurred_at)
        answers = backend.commit(
            [submission(notes("before")), submission([(stream, created)], context=context), submission(notes("after"))]
        )
        assert not any(isinstance(answer, Exception) for answer in (answers[0], answers[2]))
        accepted = not isinstance(answers[1], Exception)
        assert accepted or isinstance(answers[1], InvalidValue | CommandRefused)
        assert [record.position for record in read_all(backend)] == list(range(1, 5 if accepted else 4))
        assert ask(backend, lambda view: view.version(stream)) == int(accepted)
        assert texts(backend) == ["before", "after"]
