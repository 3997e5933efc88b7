"""Experiment: the handle through which trials are made, found and claimed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload
from uuid import UUID

from ledger import commands, corrections
from ledger import events as ev
from ledger.annotations import streams_of
from ledger.artifact_owner import ArtifactOwner
from ledger.capture.options import CaptureOptions, options_of
from ledger.commands import Course
from ledger.courses import claimed_course, course_to
from ledger.errors import InvalidValue, UnknownExperiment, UnknownTrial
from ledger.identity import default_actor
from ledger.objectives import check_objectives
from ledger.records import Record, iso_nanoseconds, to_nanoseconds
from ledger.registry import Event
from ledger.state import ExperimentState, Status
from ledger.streams import experiment_stream, trial_number
from ledger.telemetry import flush_buffers
from ledger.trial import Trial
from ledger.trial_queue import TrialQueue

if TYPE_CHECKING:
    import datetime as dt

    from ledger.backends.base import Appended, Command
    from ledger.log import EventLog
    from ledger.session import Ledger
    from ledger.tracking import Tracked

P = ParamSpec("P")
R = TypeVar("R")


class Experiment(TrialQueue, ArtifactOwner):
    """An experiment of a ledger. Made by ``Ledger.experiment``.

    ``id`` never changes and is what records refer to; ``name`` is an attribute. ``capture`` says whether ``trial.run`` of
    its trials captures what they run with, unless told otherwise.

    >>> import ledger
    >>> book = ledger.open("memory:")
    >>> exp = book.experiment("sqlite-tuning", objectives={"latency_ms": "min"})
    >>> exp.new_trial({"cache_mb": 64}).id
    1
    """

    def __init__(
        self, book: Ledger, experiment_id: UUID, changes: Iterable[Event] = (), capture: CaptureOptions | bool = False
    ) -> None:
        options_of(capture)
        self.book, self.capture = book, capture
        self.id = experiment_id
        self.stream = experiment_stream(experiment_id)
        self.changes = tuple(changes)  # what resuming it with other arguments changed

    def __repr__(self) -> str:
        return f"<Experiment {self.name!r}>"

    @property
    def state(self) -> ExperimentState:
        """The experiment as it stands now, read from the ledger."""
        with self.book.log.backend.view() as view:
            state = view.experiment(self.id)
        if state is None:
            raise UnknownExperiment(f"there is no experiment {self.id}.")
        return state

    @property
    def name(self) -> str:
        """The name it has now."""
        return self.state.name

    @property
    def objectives(self) -> dict[str, ev.Direction]:
        """The targets and their directions."""
        return self.state.objectives

    @property
    def bounds(self) -> dict[str, ev.Bounds]:
        """The bounds of targets outside of which a result fails its trial."""
        return self.state.bounds

    @property
    def description(self) -> str:
        """What it is about."""
        return self.state.description

    @property
    def version(self) -> int:
        """The version of the experiment's own stream."""
        return self.book.log.version(self.stream)

    # ------------------------------------------------------------------------------------------------ trials

    def new_trial(
        self, config: Mapping[str, Any], *, number: int | None = None, priority: int = 0,
        scheduled_at: dt.datetime | int | None = None, max_attempts: int = 3, arms: Iterable[ev.Arm] = (),
        label: str = "", group: str = "", parents: Iterable[Trial | str] = (), worker: str | None = None,
        depends_on: Iterable[Trial | str] = (), status: Status | str | None = None, results: Mapping[str, Any] | None = None,
        lease_seconds: float | None = None, reason: str | None = None,
    ) -> Trial:  # fmt: skip
        """Add a trial; it waits to be claimed, or to be run by this handle.

        It gets the next free number from 1, or ``number`` (from 0, gaps allowed). ``priority``: higher goes first.
        ``scheduled_at``: not to be claimed before (datetime with time zone, or ns since 1970 UTC). ``max_attempts``: a
        trial that was LOST so often is not tried again. ``arms``: several weighted configs in one trial. ``label`` is what
        people call the config; ``group`` what the trial is kept together by; ``parents`` the trials it came from.

        ``worker``: only this one may claim it (``Trial.assign`` changes that). ``depends_on``: trials of this ledger that must
        have SUCCEEDED first. While one of them has failed or is deleted, the trial waits: it is claimable once that one is
        requeued and succeeds, or is amended to SUCCEEDED; ``Trial.waits_for`` names them. Since they must exist, dependencies
        cannot go round in a circle.

        ``status``: add it as one that has ended (SUCCEEDED, FAILED, PRUNED, TIMED_OUT, CANCELED, ABANDONED) with ``results``,
        in one atomic step; results of a trial that waits are kept until it is requeued.

        ``lease_seconds``: claim it in the same step, for this process (or ``worker``), so that no other worker of the queue is
        handed it before this handle runs it.

        Raises InvalidValue for a config that cannot be recorded exactly, TrialExists for a number that is taken, UnknownTrial
        for a parent or dependency that does not exist.

        >>> import ledger
        >>> exp = ledger.open("memory:").experiment("demo")
        >>> train = exp.new_trial({"lr": 0.1})
        >>> test = exp.new_trial({"rows": 100}, depends_on=[train])
        >>> exp.claim().id, exp.claim()
        (1, None)
        >>> exp.new_trial({"lr": 0.2}, status="SUCCEEDED", results={"loss": 0.4}).results
        {'loss': 0.4}
        """
        assigned_to = "" if worker is None else commands.check_name(worker, "the worker's name")
        created = commands.trial_created(
            config, arms=arms, priority=priority, max_attempts=max_attempts, label=label, group=group,
            scheduled_at=to_nanoseconds(scheduled_at, "scheduled_at"), parents=streams_of(parents), assigned_to=assigned_to,
            depends_on=streams_of(depends_on, "dependencies"),
        )  # fmt: skip
        if lease_seconds is None:
            is_ended = status is not None or results is not None
            course = course_to(status or Status.PENDING, results or {}, default_actor()) if is_ended else None
            return self._create([created], number, reason, course)[0]
        if status is not None or results is not None:
            raise InvalidValue("a trial that is added with a status or results cannot be claimed; leave lease_seconds out.")
        seconds, name = commands.check_lease(lease_seconds), commands.check_worker(worker)
        actor = default_actor(worker) if worker else None
        (trial,) = self._create([created], number, reason, claimed_course(name, seconds))
        trial.hold(1, seconds, name, actor)
        return trial

    def new_trials(
        self, configs: Iterable[Mapping[str, Any]], *, priority: int = 0, max_attempts: int = 3, group: str = ""
    ) -> list[Trial]:
        """Add many trials in one atomic step; much faster than one by one.

        >>> import ledger
        >>> exp = ledger.open("memory:").experiment("demo")
        >>> [trial.id for trial in exp.new_trials({"lr": lr} for lr in (0.1, 0.2))]
        [1, 2]
        """
        options: dict[str, Any] = {"priority": priority, "max_attempts": max_attempts, "group": group}
        created = [commands.trial_created(config, **options) for config in configs]
        return self._create(created, None, None) if created else []

    def _create(
        self, created: list[ev.TrialCreated], number: int | None, reason: str | None, course: Course | None = None
    ) -> list[Trial]:
        appended = self.book.log.execute(commands.create_trials(self.id, created, number, course), reason=reason)
        created_ones = [(stream, event) for stream, event in appended.events if isinstance(event, ev.TrialCreated)]
        return [Trial(self, trial_number(stream), event.config) for stream, event in created_ones]

    def trial(self, trial_id: int, *, deleted: bool = False) -> Trial:
        """Return the handle of a trial; raises UnknownTrial. One that was deleted is found with ``deleted`` only."""
        with self.book.log.backend.view() as view:
            state = view.trial(self.id, trial_id) if type(trial_id) is int and trial_id >= 0 else None
            known = view.experiment(self.id)
        if state is None:
            last = known.next_trial_id - 1 if known else 0
            raise UnknownTrial(f"there is no trial {trial_id!r} in experiment {self.name!r}; its last one is {last}.")
        if state.deleted_at is not None and not deleted:
            raise UnknownTrial(
                f"trial {trial_id} of experiment {self.name!r} was deleted at {iso_nanoseconds(state.deleted_at)}. "
                f"`ledger delete --undo` restores it; exp.trial({trial_id}, deleted=True) finds it, to look at or to restore."
            )
        return Trial(self, trial_id, state.config)

    def trials(self, *, deleted: bool = False) -> Iterator[Trial]:
        """Iterate over the trials in order of creation, reading as it goes; over the deleted ones instead if asked to."""
        gone: set[str] = set()
        for record in self.book.log.read(types=[ev.TrialDeleted, ev.TrialRestored]):
            (gone.add if isinstance(record.event, ev.TrialDeleted) else gone.discard)(record.stream)
        for record in self.book.log.read(experiment=self.id, types=[ev.TrialCreated]):
            if (record.stream in gone) is deleted:
                yield Trial(self, trial_number(record.stream))

    @overload
    def track(self, function: Callable[P, R]) -> Tracked[P, R]: ...
    @overload
    def track(
        self, *, capture: CaptureOptions | bool = ..., deterministic: bool = ..., group: str = ...
    ) -> Callable[[Callable[P, R]], Tracked[P, R]]: ...
    def track(
        self, function: Callable[..., Any] | None = None, *, capture: CaptureOptions | bool = True, deterministic: bool = False,
        group: str = "",
    ) -> Any:  # fmt: skip
        """Make each call of a function a trial: its arguments the config, what it returns the results, with capture.

        A parameter called ``trial`` is given the handle, to log metrics (with a default of None for type checkers);
        ``current_trial()`` finds it, too. An exception fails the trial and goes on. ``deterministic`` says that the same inputs
        and the same code give the same result: when they do not, ResultDiffers is warned of. Every call is a trial of its own,
        also one inside of another.

        >>> import ledger
        >>> exp = ledger.open("memory:").experiment("demo", objectives={"loss": "min"})
        >>> @exp.track
        ... def objective(lr, size=3):
        ...     return lr * size
        >>> objective(lr=0.5)
        1.5
        >>> exp.trial(1).config, exp.trial(1).results
        ({'lr': 0.5, 'size': 3}, {'loss': 1.5})
        """

        from ledger.tracking import Tracked  # here: `import ledger` need not pay for it

        made = partial(Tracked, self, capture=capture, deterministic=deterministic, group=group)
        return made if function is None else made(function)

    def run(
        self, function: Callable[..., Any], config: Mapping[str, Any] | None = None, *, capture: CaptureOptions | bool = True,
        group: str = "", reuse: bool = False,
    ) -> Trial:  # fmt: skip
        """Call a function with a config as its arguments, as a trial; see ``track``. Return the trial.

        With ``reuse`` it is not called when a trial of the experiment has SUCCEEDED with the same arguments and the same
        source of this function: that trial is returned. For functions that depend on nothing else, or where that does not
        matter.

        >>> import ledger
        >>> exp = ledger.open("memory:").experiment("demo")
        >>> exp.run(lambda lr: {"loss": lr * 2}, {"lr": 0.5}, capture=False).results
        {'loss': 1.0}
        """
        if reuse and options_of(capture) is None:
            raise InvalidValue("reuse=True looks for trials of the same code, which capture=False leaves unknown.")
        tracked, arguments = self.track(capture=capture, group=group)(function), dict(config or {})
        return (tracked.find_succeeded(arguments) if reuse else None) or tracked.call((), arguments)[0]

    # ------------------------------------------------------------------------------------------------ record

    def rename(self, name: str, *, reason: str | None = None, expected_version: int | None = None) -> None:
        """Give the experiment another name; raises ExperimentExists when it is taken."""
        self._record(ev.ExperimentRenamed(commands.check_name(name)), reason, expected_version)

    def describe(self, description: str, *, reason: str | None = None, expected_version: int | None = None) -> None:
        """Replace the description."""
        self._record(ev.ExperimentDescribed(description), reason, expected_version)

    def set_objectives(
        self, objectives: Mapping[str, Any], *, reason: str | None = None, expected_version: int | None = None
    ) -> None:
        """Replace the objectives: names with "min", "max" or an ``Objective``, whose bounds fail a trial outside of them."""
        targets = check_objectives(objectives)
        assert targets is not None
        self._record(ev.ObjectivesChanged(*targets), reason, expected_version)

    def seal(self, reason: str | None = None, *, expected_version: int | None = None) -> Appended:
        """Make the experiment read-only: everything of it and its trials raises ExperimentReadOnly until it is unsealed.

        Metrics that this process has logged are flushed first. Raises CommandRefused while a worker holds a trial of it.
        """
        flush_buffers(self.book.background)
        return self._ask(corrections.seal(self.id), reason, expected_version)

    def unseal(self, reason: str, *, expected_version: int | None = None) -> Appended:
        """Let the experiment be written to again, with the reason why."""
        return self._ask(corrections.unseal(self.id, reason), reason, expected_version)

    def delete(self, reason: str | None = None, *, ensure: bool = True, expected_version: int | None = None) -> Appended:
        """Delete the experiment with its trials: tables leave it out, history shows it, its name is free for another.

        ``restore`` brings it back. Workers that hold trials of it get LeaseLost. With ``ensure`` one that is gone already
        raises UnknownExperiment; without, that is left as it is.

        >>> import ledger
        >>> book = ledger.open("memory:")
        >>> exp = book.experiment("demo")
        >>> _ = exp.delete(reason="wrong machine")
        >>> book.experiment("demo").id == exp.id
        False
        >>> _ = exp.restore(name="demo (old)")
        >>> [each.name for each in book.experiments()]
        ['demo (old)', 'demo']
        """
        return self._ask(corrections.delete_experiment(self.id, ensure=ensure), reason, expected_version)

    def restore(self, name: str | None = None, *, reason: str | None = None, expected_version: int | None = None) -> Appended:
        """Bring the deleted experiment back, under its old name or another one; ExperimentExists when that is taken."""
        return self._ask(corrections.restore_experiment(self.id, name), reason, expected_version)

    # -------------------------------------------------------------------------------------------------- read

    def history(self, *, trials: bool = False, renewals: bool = False) -> Iterator[Record]:
        """Iterate over the experiment's records; with ``trials``, over those of its trials too."""
        if not trials:
            return self.book.log.read(stream=self.stream)
        return (r for r in self.book.log.read(experiment=self.id) if renewals or r.type != "LeaseRenewed")

    def _record(self, event: Event, reason: str | None = None, expected_version: int | None = None) -> Appended:
        return self._ask(commands.record_on_experiment(self.id, event), reason, expected_version)

    def _ask(self, command: Command, reason: str | None = None, expected_version: int | None = None) -> Appended:
        expect = None if expected_version is None else {self.stream: expected_version}
        return self.book.log.execute(command, reason=reason, expect=expect)

    def _event_log(self) -> EventLog:
        return self.book.log

    def _records(self, types: Iterable[type[Event]]) -> Iterator[Record]:
        return self.book.log.read(stream=self.stream, types=types)
