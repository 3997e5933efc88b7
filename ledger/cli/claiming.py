"""Commands of the queue, for shell scripts: claim, renew, finish, release, requeue, cancel, pause."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from ledger import commands
from ledger import events as ev
from ledger.backends.base import Appended
from ledger.cli.app import NO, command
from ledger.cli.corrections import OptionalReason, Pairs, find_thing, print_appended, split_pairs, value_of
from ledger.cli.opening import ExperimentArgument, FormatOption, PathArgument, TrialNumber, find_experiment, find_trial, open_book
from ledger.cli.output import ObjectFormat, flattened, print_fields, print_json_line, printable, shown_time
from ledger.errors import LeaseLost
from ledger.identity import default_actor
from ledger.records import iso_nanoseconds
from ledger.run import error_info
from ledger.state import Status, TrialState
from ledger.trial import Trial
from ledger.values import to_json

_LEASE_SECONDS = 3600.0
_ENDS = {
    "SUCCEEDED": ev.TrialCompleted, "FAILED": ev.TrialFailed, "PRUNED": ev.TrialPruned, "TIMED_OUT": ev.TrialTimedOut,
}  # fmt: skip

AttemptOption = Annotated[
    int | None,
    typer.Option(min=1, help="The attempt that claim granted: one that lost its lease is refused.", show_default=False),
]


@command(
    "ledger claim runs.ledger sqlite-tuning --where journal=wal --lease-seconds 600",
    "ledger claim runs.ledger sqlite-tuning --worker w1 --timeout 60 --format json",
)
def claim(
    path: PathArgument,
    experiment: ExperimentArgument,
    worker: Annotated[str | None, typer.Option(help="Who takes it; this process if left out.", show_default=False)] = None,
    where: Annotated[
        Pairs, typer.Option(metavar="NAME=VALUE", help="Only with this in the config; repeat for more.", show_default=False)
    ] = None,
    lease_seconds: Annotated[float, typer.Option(help="How long it is the worker's, unless renewed.")] = _LEASE_SECONDS,
    timeout: Annotated[float, typer.Option(min=0, help="Wait so many seconds for a trial.")] = 0.0,
    form: FormatOption = ObjectFormat.TABLE,
) -> None:
    """Take the next trial that waits, for a script.

    End it with `ledger finish`, or hand it back with `ledger release`; else it is LOST when the lease has run out (which
    `ledger renew` puts off), and the next claim tries it again. Exit code 1 says that there is none to be had. VALUE is JSON,
    and a text where it is none.
    """
    wanted = {name: value_of(text) for name, text in split_pairs(where, "--where")} or None
    with open_book(path) as book:
        found = find_experiment(book, experiment)
        trial = found.claim(worker=worker, where=wanted, lease_seconds=lease_seconds, timeout=timeout)
        if trial is not None:
            _print_claimed(trial, trial.state, form)
            return
        is_paused = found.is_paused
    if form is ObjectFormat.JSON:
        print_json_line(None)
    print(f"{printable(experiment)} is paused." if is_paused else "Nothing to claim.", file=sys.stderr)
    raise typer.Exit(NO)


def _print_claimed(trial: Trial, state: TrialState, form: ObjectFormat) -> None:
    if form is ObjectFormat.JSON:
        fields: dict[str, Any] = {
            "experiment": trial.experiment.name, "experiment_id": str(state.experiment_id), "trial_id": state.id,
            "attempt": state.attempt, "worker": state.worker, "deadline": iso_nanoseconds(state.deadline or 0),
            "config": to_json(state.config),
        }  # fmt: skip
        print_json_line(fields)
        return
    pairs = [
        ("trial", state.id),
        ("attempt", state.attempt),
        ("worker", state.worker),
        ("lease ends", shown_time(state.deadline)),
    ]
    print_fields([*pairs, *flattened("config", state.config)])


@command("ledger renew runs.ledger sqlite-tuning 7 --attempt 1")
def renew(
    path: PathArgument, experiment: ExperimentArgument, trial: TrialNumber, attempt: AttemptOption = None,
    form: FormatOption = ObjectFormat.TABLE,
) -> None:  # fmt: skip
    """Renew the lease of a trial that was claimed.

    It is the worker's for as long again as was claimed for, from now on. Exit code 4 says that it is not any more: stop
    working on it. Without --attempt it is whichever attempt is held now.
    """
    with open_book(path) as book:
        found = find_trial(book, experiment, trial)
        command = commands.renew(found.experiment.id, found.id, attempt or found.state.attempt)
        done = book.log.execute(command)
    print_appended([done], form)


@command(
    "ledger finish runs.ledger sqlite-tuning 7 --attempt 1 --result latency_ms=1.9",
    "ledger finish runs.ledger sqlite-tuning 7 --status FAILED --error 'disk full'",
)
def finish(
    path: PathArgument,
    experiment: ExperimentArgument,
    trial: TrialNumber,
    attempt: AttemptOption = None,
    status: Annotated[
        Status, typer.Option(case_sensitive=False, help="SUCCEEDED, FAILED, PRUNED or TIMED_OUT.")
    ] = Status.SUCCEEDED,
    results: Annotated[Pairs, typer.Option("--result", metavar="NAME=VALUE", help="Repeat for more.", show_default=False)] = None,
    error: Annotated[str | None, typer.Option(help="What went wrong, of one that FAILED.", show_default=False)] = None,
    form: FormatOption = ObjectFormat.TABLE,
) -> None:
    """End a trial that was claimed, with its results.

    When the attempt has lost its lease, the results are kept as late evidence, and do not count: exit code 4. Without
    --attempt it is whichever attempt is held now. VALUE is JSON, and a text where it is none.
    """
    if str(status) not in _ENDS:
        raise typer.BadParameter(f"{status} is no end; use {', '.join(_ENDS)}.", param_hint="'--status'")
    if error is not None and status is not Status.FAILED:
        raise typer.BadParameter("an error goes with --status FAILED.", param_hint="'--error'")
    event: Any = _ENDS[str(status)](results={name: value_of(text) for name, text in split_pairs(results, "--result")})
    if error is not None:
        event = ev.TrialFailed(error_info(error), event.results)
    with open_book(path) as book:
        found = find_trial(book, experiment, trial)
        ending = commands.finish(found.experiment.id, found.id, attempt or _held(found.state), event, default_actor())
        done = book.log.execute(ending)
        _refuse_late(found, done)
    print_appended([done], form)


def _held(state: TrialState) -> int | None:
    return None if state.is_waiting else state.attempt


def _refuse_late(trial: Trial, done: Appended) -> None:
    last = done.events[-1][1]
    if isinstance(last, ev.LateResultReceived):
        state = trial.state
        raise LeaseLost(trial.stream, last.attempt, state.status, state.attempt, state.worker)


@command("ledger release runs.ledger sqlite-tuning 7 --attempt 1 --reason 'the machine is needed'")
def release(
    path: PathArgument,
    experiment: ExperimentArgument,
    trial: TrialNumber,
    attempt: AttemptOption = None,
    reason: OptionalReason = None,
    form: FormatOption = ObjectFormat.TABLE,
) -> None:
    """Hand back a trial that was claimed.

    It waits for another worker. Without --attempt it is whichever attempt is held now.
    """
    with open_book(path) as book:
        found = find_trial(book, experiment, trial)
        command = commands.release(found.experiment.id, found.id, attempt or found.state.attempt)
        done = book.log.execute(command, reason=reason)
    print_appended([done], form)


@command("ledger requeue runs.ledger sqlite-tuning 7 --reason 'the cable was loose'")
def requeue(
    path: PathArgument,
    experiment: ExperimentArgument,
    trial: TrialNumber,
    reason: OptionalReason = None,
    form: FormatOption = ObjectFormat.TABLE,
) -> None:
    """Let a trial that has ended wait again.

    Any end but SUCCEEDED; also one that was canceled. History keeps what was.
    """
    with open_book(path) as book:
        found = find_trial(book, experiment, trial)
        done = book.log.execute(commands.requeue(found.experiment.id, found.id), reason=reason)
    print_appended([done], form)


@command("ledger cancel runs.ledger sqlite-tuning 7 --reason 'out of budget'")
def cancel(
    path: PathArgument,
    experiment: ExperimentArgument,
    trial: TrialNumber,
    reason: OptionalReason = None,
    form: FormatOption = ObjectFormat.TABLE,
) -> None:
    """Call a trial off, whoever holds it.

    `ledger requeue` lets it wait again.
    """
    with open_book(path) as book:
        found = find_trial(book, experiment, trial)
        done = book.log.execute(commands.cancel(found.experiment.id, found.id), reason=reason)
    print_appended([done], form)


@command("ledger pause runs.ledger sqlite-tuning --reason 'the GPUs are needed'", "ledger pause runs.ledger sqlite-tuning --undo")
def pause(
    path: PathArgument,
    experiment: ExperimentArgument,
    reason: OptionalReason = None,
    undo: Annotated[bool, typer.Option("--undo", help="Resume it.")] = False,
    form: FormatOption = ObjectFormat.TABLE,
) -> None:
    """Hand out no trials of an experiment; --undo resumes it.

    Workers that hold one go on.
    """
    with open_book(path) as book:
        found = find_thing(book, experiment, None)
        done = found.resume(reason) if undo else found.pause(reason)
    print_appended([done], form)
