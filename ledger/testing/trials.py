"""The contract of experiments and trials: names, numbers, states."""

from __future__ import annotations

from uuid import UUID

from ledger import claims, commands
from ledger import events as ev
from ledger.backends.base import Backend, Command
from ledger.errors import (
    ExperimentExists,
    InvalidTransition,
    InvalidValue,
    LedgerError,
    TrialExists,
    UnknownExperiment,
    UnknownTrial,
)
from ledger.events import TrialCreated
from ledger.registry import Event, UnknownEvent
from ledger.state import Status, allowed_events, evolve_trial
from ledger.streams import Subject, experiment_stream, trial_stream
from ledger.testing.clock import FakeClock
from ledger.testing.tools import (
    EXPERIMENT,
    ContractBase,
    Trace,
    append,
    ask,
    asking,
    commit,
    experiment_state,
    read_all,
    refusal,
    submission,
    trial_state,
    with_experiment,
    with_trials,
)

OTHER = UUID("01890000-0000-7000-8000-000000000002")
SECOND = 1_000_000_000


def _run(backend: Backend, command: Command) -> tuple[tuple[str, Event], ...]:
    return commit(backend, asking(command))[0].events


class TrialContract(ContractBase):
    """What the log knows of experiments and trials."""

    # -- experiments

    def test_experiments_are_found_by_id_and_by_name(self, backend: Backend) -> None:
        """An experiment is found by its id and its live name, of any text and length."""
        name = "ünï/" * 300
        with_experiment(backend, EXPERIMENT, name)
        with_experiment(backend, OTHER, "other")
        assert ask(backend, lambda view: view.experiment_named(name)) == EXPERIMENT
        assert ask(backend, lambda view: view.experiment_named("other")) == OTHER
        assert ask(backend, lambda view: view.experiment_named("ünï/")) is None
        assert ask(backend, lambda view: view.experiment_named("\ud800")) is None
        assert ask(backend, lambda view: view.experiment(UUID(int=9))) is None
        assert experiment_state(backend).name == name

    def test_experiments_are_listed_oldest_first(self, backend: Backend) -> None:
        """All experiments are listed in the order in which the log got them, whatever their ids are."""
        ids = [UUID(int=n) for n in (5, 3, 9, 1)]
        for identifier in ids:
            with_experiment(backend, identifier, f"e{identifier.int}")
        assert ask(backend, lambda view: [state.id for state in view.experiments()]) == ids

    def test_a_name_that_is_taken_is_refused(self, backend: Backend) -> None:
        """A second experiment of a live name is refused, created or renamed to it, and leaves nothing."""
        stream = with_experiment(backend, EXPERIMENT, "a")
        with_experiment(backend, OTHER, "b")
        before = Trace(backend, stream)
        third = experiment_stream(UUID(int=3))
        assert isinstance(refusal(backend, submission([(third, ev.ExperimentCreated("a"))])), ExperimentExists)
        assert isinstance(refusal(backend, submission([(stream, ev.ExperimentRenamed("b"))])), ExperimentExists)
        assert isinstance(refusal(backend, submission([(stream, ev.ExperimentCreated("c"))])), ExperimentExists)
        assert Trace(backend, stream) == before

    def test_a_name_is_free_again_after_a_renaming(self, backend: Backend) -> None:
        """Renaming frees the old name at once, also for others in the same append and the same group."""
        a, b = with_experiment(backend, EXPERIMENT, "a"), with_experiment(backend, OTHER, "b")
        append(backend, [(a, ev.ExperimentRenamed("c")), (b, ev.ExperimentRenamed("a"))])
        commit(
            backend, submission([(a, ev.ExperimentRenamed("d"))]), submission([(b, ev.ExperimentRenamed("c"))]),
            submission([(a, ev.ExperimentRenamed("a"))]), submission([(a, ev.ExperimentRenamed("a"))]),
        )  # fmt: skip
        named = ask(backend, lambda view: {name: view.experiment_named(name) for name in "abcd"})
        assert named == {"a": EXPERIMENT, "b": None, "c": OTHER, "d": None}
        assert ask(backend, lambda view: [state.name for state in view.experiments()]) == ["a", "c"]

    def test_a_name_taken_by_a_refused_append_stays_free(self, backend: Backend) -> None:
        """An append refused after it named an experiment holds no name."""
        with_experiment(backend)
        taken = [
            (experiment_stream(OTHER), ev.ExperimentCreated("free")),
            (experiment_stream(OTHER), ev.ExperimentRenamed("demo")),
        ]
        answers = backend.commit(
            [submission(taken), submission([(experiment_stream(UUID(int=3)), ev.ExperimentCreated("free"))])]
        )
        assert isinstance(answers[0], ExperimentExists)
        assert ask(backend, lambda view: view.experiment_named("free")) == UUID(int=3)

    def test_an_experiments_state_is_what_its_events_say(self, backend: Backend) -> None:
        """Description, objectives, tags and attributes are those that the experiment's events left."""
        stream = with_experiment(backend)
        for event in (
            ev.ExperimentDescribed("what it is"), ev.ObjectivesChanged({"loss": "min"}), ev.TagsChanged(["b", "a", "c"]),
            ev.TagsChanged(["d"], ["c"]), ev.AttributesSet({"x": 1, "y": (1, 2)}, "n"),
            ev.AttributesSet({"x": None, "z": 2}, "n"), ev.AttributesSet({"own": True}),
        ):  # fmt: skip
            append(backend, [(stream, event)])
        state = experiment_state(backend)
        assert (state.description, state.objectives, state.tags) == ("what it is", {"loss": "min"}, ("a", "b", "d"))
        assert state.attributes == {"n": {"y": (1, 2), "z": 2}, "": {"own": True}}

    def test_events_belong_in_the_stream_of_their_subject(self, backend: Backend) -> None:
        """A trial's event in an experiment's stream, or one of either in a free stream, is refused."""
        experiment = with_experiment(backend)
        trial = with_trials(backend, TrialCreated({}))[0]
        for stream, event in (
            (experiment, ev.TrialStarted(1)), (trial, ev.ExperimentDescribed("x")), ("free", TrialCreated({})),
            ("free", ev.ExperimentRenamed("x")),
        ):  # fmt: skip
            assert isinstance(refusal(backend, submission([(stream, event)])), InvalidValue)

    # -- trials

    def test_trials_are_numbered_from_1_or_by_the_caller(self, backend: Backend) -> None:
        """The next free number is one above the highest; a caller's own may be any from 0, once."""
        with_experiment(backend)
        created = commands.trial_created({"lr": 0.1})
        places = []
        for number in (None, 0, 7, None, 3, None):
            places += [stream for stream, _ in _run(backend, commands.create_trials(EXPERIMENT, [created], number))]
        assert places == [trial_stream(EXPERIMENT, number) for number in (1, 0, 7, 8, 3, 9)]
        assert isinstance(refusal(backend, asking(commands.create_trials(EXPERIMENT, [created], 7))), TrialExists)
        assert experiment_state(backend).next_trial_id == 10

    def test_trials_need_their_experiment(self, backend: Backend) -> None:
        """A trial of no experiment, and an event of no trial, are refused."""
        orphan = submission([(trial_stream(EXPERIMENT, 1), TrialCreated({}))])
        assert isinstance(refusal(backend, orphan), UnknownExperiment)
        with_experiment(backend)
        assert isinstance(refusal(backend, submission([(trial_stream(EXPERIMENT, 1), ev.TrialStarted(1))])), UnknownTrial)
        assert ask(backend, lambda view: view.trial(EXPERIMENT, 1)) is None

    def test_a_trial_runs_to_its_end(self, backend: Backend, clock: FakeClock) -> None:
        """A trial's state, while it waits, is held, runs and has ended, is the fold of its events."""
        with_experiment(backend)
        stream = with_trials(backend, TrialCreated({"lr": (1, 2)}, priority=3, arms=(ev.Arm({"a": 1}),)))[0]
        seen = []
        for command in (
            claims.claim(EXPERIMENT, "w", 60.0),
            commands.start(EXPERIMENT, 1, 1, "w", 60.0),
            commands.record_on_trial(EXPERIMENT, 1, ev.TrialConfigured({"dropout": 0.5}), ev.ResultsReported({"early": 1})),
            commands.renew(EXPERIMENT, 1, 1),
            commands.finish(EXPERIMENT, 1, 1, ev.TrialCompleted({"loss": 0.5}), "w"),
            commands.record_on_trial(EXPERIMENT, 1, ev.ResultsReported({"loss": 0.4}), ev.TagsChanged(["good"])),
        ):
            clock.advance(10)
            _run(backend, command)
            state = trial_state(backend, 1)
            seen.append((state.status, state.deadline))
            folded = None
            for record in read_all(backend):
                if record.stream == stream:
                    folded = evolve_trial(folded, Subject(EXPERIMENT, 1), record.event, record.recorded_at)
            assert state == folded
        start = clock() - 60 * SECOND
        assert seen == [
            (Status.READY, start + 70 * SECOND), (Status.RUNNING, start + 70 * SECOND), (Status.RUNNING, start + 70 * SECOND),
            (Status.RUNNING, start + 100 * SECOND), (Status.SUCCEEDED, None), (Status.SUCCEEDED, None),
        ]  # fmt: skip
        assert (state.config, state.results) == ({"lr": (1, 2), "dropout": 0.5}, {"early": 1, "loss": 0.4})
        assert state.tags == ("good",)

    def test_an_unknown_event_does_not_pass_for_a_known_one(self, backend: Backend) -> None:
        """An UnknownEvent by the name of a trial's event changes the trial by the rules, or is refused."""
        with_experiment(backend)
        stream = with_trials(backend, TrialCreated({}))[0]
        disguised = UnknownEvent("TrialCompleted", 1, {"results": {"loss": 0}, "attempt": 0})
        assert isinstance(refusal(backend, submission([(stream, disguised)])), LedgerError)
        assert trial_state(backend, 1).status is Status.PENDING
        assert backend.head() == 2

    def test_the_status_forbids_what_may_not_happen(self, backend: Backend) -> None:
        """In each status, exactly the events that the table allows are accepted."""
        with_experiment(backend)
        far = 2_000_000_000_000_000_000
        events: list[Event] = [
            ev.TrialClaimed("w", 2, 1.0, far), ev.TrialStarted(1), ev.TrialReleased(1), ev.TrialLost(1, "w", far),
            ev.TrialRequeued(), ev.TrialCompleted({}, 1), ev.TrialFailed(None, {}, 1), ev.TrialPruned({}, 1),
            ev.TrialTimedOut({}, 1), ev.TrialCanceled(), ev.TrialAbandoned(), ev.LeaseRenewed(1, far),
            ev.TrialConfigured({"dropout": 0.5}, 1),
        ]  # fmt: skip
        number = 0
        for status in Status:
            accepted = []
            for event in events:
                number += 1
                stream = with_trials(backend, TrialCreated({}), first=number)[0]
                append(backend, [(stream, ev.TrialClaimed("w", 1, 1.0, far)), (stream, ev.TrialReleased(1))])
                forced = "PENDING" if status in (Status.READY, Status.RUNNING) else status.value
                append(backend, [(stream, ev.StatusForced(forced))])
                attempt = 2  # a forced status is an attempt of its own
                if status in (Status.READY, Status.RUNNING):
                    append(backend, [(stream, ev.TrialClaimed("w", 3, 1.0, far))])
                    attempt = 3
                if status is Status.RUNNING:
                    append(backend, [(stream, ev.TrialStarted(3))])
                fields = {name: getattr(event, name) for name in event.__struct_fields__}
                if "attempt" in fields:
                    fields["attempt"] = attempt if not isinstance(event, ev.TrialClaimed) else attempt + 1
                answer = backend.commit([submission([(stream, type(event)(**fields))])])[0]
                assert not isinstance(answer, Exception) or isinstance(answer, InvalidTransition)
                if not isinstance(answer, Exception):
                    accepted.append(type(event).__name__)
            assert sorted(accepted) == allowed_events(status), status
