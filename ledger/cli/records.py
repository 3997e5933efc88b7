"""Commands that show records and states: show, history, tail."""

from __future__ import annotations

import difflib
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Annotated, Any
from uuid import UUID

import typer

from ledger.cli import summary
from ledger.cli.app import command
from ledger.cli.opening import ExperimentArgument, Names, PathArgument, TrialArgument, find_experiment, find_trial, open_book
from ledger.cli.output import (
    Format,
    LineFormat,
    ObjectFormat,
    console,
    flattened,
    plain,
    print_fields,
    print_json_line,
    print_records,
    printable,
    record_json,
    shown_time,
)
from ledger.experiment import Experiment
from ledger.records import Record, iso_nanoseconds
from ledger.registry import all_types
from ledger.session import Ledger
from ledger.state import ExperimentState, TrialState
from ledger.streams import subject_of, trial_stream
from ledger.values import to_json

_LAST = 10
_TIMES = ("created_at", "started_at", "ended_at", "scheduled_at", "deadline")


# ------------------------------------------------------------------------------------------------------------- show


@command("ledger show runs.ledger sqlite-tuning", "ledger show runs.ledger sqlite-tuning 7 --format json")
def show(
    path: PathArgument,
    experiment: ExperimentArgument,
    trial: TrialArgument = None,
    form: Annotated[ObjectFormat, typer.Option("--format", help="For people, or for programs.")] = ObjectFormat.TABLE,
) -> None:
    """Show an experiment or a trial as it is now."""
    with open_book(path) as book:
        if trial is None:
            found = find_experiment(book, experiment)
            _show_experiment(found, form)
        else:
            _show_trial(find_trial(book, experiment, trial).state, find_experiment(book, experiment).name, form)


def _state_json(state: ExperimentState | TrialState) -> dict[str, Any]:
    fields = plain(state)
    for name in _TIMES:
        if fields.get(name) is not None:
            fields[name] = iso_nanoseconds(fields[name])
    for name in ("id", "experiment_id"):
        if isinstance(fields.get(name), UUID):
            fields[name] = str(fields[name])
    fields["tags"] = list(fields["tags"])
    result: dict[str, Any] = to_json(fields)
    return result


def _show_experiment(experiment: Experiment, form: ObjectFormat) -> None:
    state = experiment.state
    captured = [record.event.environment for record in experiment.history() if record.type == "EnvironmentCaptured"]
    environment = captured[-1] if captured else {}
    if form is ObjectFormat.JSON:
        print_json_line({**_state_json(state), "trials": state.next_trial_id - 1, "environment": to_json(environment)})
        return
    print_fields(
        [
            ("experiment", state.name),
            ("id", str(state.id)),
            ("description", state.description),
            ("created", shown_time(state.created_at)),
            *flattened("objective", state.objectives),
            ("last trial", state.next_trial_id - 1),
            ("tags", ", ".join(state.tags)),
            *_attributes(state),
            *flattened("environment", environment),
        ]
    )


def _show_trial(state: TrialState, experiment: str, form: ObjectFormat) -> None:
    if form is ObjectFormat.JSON:
        print_json_line(_state_json(state))
        return
    print_fields(
        [
            ("trial", f"{experiment}/{state.id}"),
            ("status", str(state.status)),
            *flattened("config", state.config),
            *(
                (f"arm {arm.name or i}", f"{summary.pairs(arm.config)} (weight {arm.weight:g})")
                for i, arm in enumerate(state.arms)
            ),
            *flattened("result", state.results),
            ("created", shown_time(state.created_at)),
            ("scheduled", shown_time(state.scheduled_at)),
            ("started", shown_time(state.started_at)),
            ("ended", shown_time(state.ended_at)),
            ("attempts", f"{state.attempt} of which {state.lost} lost" if state.lost else state.attempt),
            ("worker", state.worker),
            ("lease ends", shown_time(state.deadline)),
            ("priority", state.priority or None),
            ("tags", ", ".join(state.tags)),
            *_attributes(state),
            ("error", f"{state.error.type}: {state.error.message}" if state.error else None),
        ]
    )
    if state.error and state.error.traceback:
        print()
        for line in state.error.traceback.rstrip().splitlines():
            console().print(printable(line), soft_wrap=True)


def _attributes(state: ExperimentState | TrialState) -> Iterator[tuple[str, Any]]:
    for namespace, values in state.attributes.items():
        yield from flattened(f"attribute.{namespace}" if namespace else "attribute", values)


# ---------------------------------------------------------------------------------------------------------- history


@command("ledger history runs.ledger sqlite-tuning 7", "ledger history runs.ledger sqlite-tuning --format jsonl")
def history(
    path: PathArgument,
    experiment: ExperimentArgument,
    trial: TrialArgument = None,
    renewals: Annotated[bool, typer.Option("--renewals", help="Show the renewals of leases too.")] = False,
    form: Annotated[Format, typer.Option("--format", help="For people, or for programs.")] = Format.TABLE,
) -> None:
    """List the records of an experiment or trial.

    Who, when, what, why: those of an experiment with all its trials, or of one trial.
    """
    with open_book(path) as book:
        if trial is None:
            records = find_experiment(book, experiment).history(trials=True, renewals=renewals)
        else:
            records = find_trial(book, experiment, trial).history(renewals=renewals)
        if form is not Format.TABLE:
            print_records(records, form)
            return
        out, names = console(), Names(book) if trial is None else None
        for record in records:
            out.print(summary.event_line(record, names, actor=True), soft_wrap=True)


# ------------------------------------------------------------------------------------------------------------- tail


@command(
    "ledger tail runs.ledger -f",
    "ledger tail runs.ledger -f --after 120 --format jsonl",
    "ledger tail runs.ledger --experiment sqlite-tuning --type TrialFailed --type TrialLost",
)
def tail(
    path: PathArgument,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what comes, until Ctrl-C.")] = False,
    after: Annotated[
        int | None, typer.Option(min=0, metavar="POSITION", help="Begin after this position.", show_default=False)
    ] = None,
    lines: Annotated[
        int | None,
        typer.Option("-n", "--lines", min=0, help=f"Begin with the last so many records ({_LAST}).", show_default=False),
    ] = None,
    experiment: Annotated[str | None, typer.Option(help="Only this experiment and its trials.", show_default=False)] = None,
    trial: Annotated[int | None, typer.Option(min=0, help="Only this trial of it.", show_default=False)] = None,
    types: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="TYPE", help="Only this event type; repeat for more.", show_default=False),
    ] = None,
    form: Annotated[LineFormat, typer.Option("--format", help="For people, or for programs.")] = LineFormat.TABLE,
) -> None:
    """Print the newest records; follow with -f.

    Every record that passes the filters is printed once, in order; to go on later, use --after with the last position.
    """
    if after is not None and lines is not None:
        raise typer.BadParameter("give --after or --lines, not both: each says where to begin.")
    if trial is not None and experiment is None:
        raise typer.BadParameter("a trial's number is within an experiment: give --experiment too.", param_hint="'--trial'")
    _warn_of_unknown_types(types or [])
    with open_book(path) as book:
        filters: dict[str, Any] = {"types": types or None}
        if experiment is not None and trial is not None:
            found = find_trial(book, experiment, trial)
            filters["stream"] = trial_stream(found.experiment.id, found.id)
        elif experiment is not None:
            filters["experiment"] = find_experiment(book, experiment).id
        emit = _Emitter(book, form)
        try:
            _tail(book, emit, follow, after, _LAST if lines is None else lines, filters)
        except KeyboardInterrupt:
            if not follow:
                raise
            # the normal end of following


def _tail(book: Ledger, emit: _Emitter, follow: bool, after: int | None, lines: int, filters: dict[str, Any]) -> None:
    head = book.log.head
    if after is None:
        emit(_last(book, head, lines, filters))
    elif not follow:
        emit(book.log.read(after, as_of=head, **filters))
    if follow:
        with book.subscribe(after=head if after is None else after, **filters) as records:
            emit(records)


def _last(book: Ledger, head: int, count: int, filters: dict[str, Any]) -> Iterable[Record]:
    if not any(filters.values()):
        return book.log.read(max(head - count, 0), as_of=head)
    return deque(book.log.read(as_of=head, **filters), maxlen=count)


class _Emitter:
    """Print records as they come, each line at once."""

    def __init__(self, book: Ledger, form: LineFormat) -> None:
        self._form, self._names = form, Names(book)

    def __call__(self, records: Iterable[Record]) -> None:
        out = console()
        for record in records:
            if self._form is LineFormat.JSONL:
                print_json_line(record_json(record))
            else:
                subject = subject_of(record.stream)
                if record.type == "ExperimentRenamed" and subject is not None:
                    self._names.forget(subject.experiment_id)
                line = summary.event_line(record, self._names)
                out.print(line, no_wrap=True, overflow="ellipsis", crop=True)
            sys.stdout.flush()


def _warn_of_unknown_types(types: Iterable[str]) -> None:
    """Say when a type is none of the package's: it may be a caller's own, or a slip of the pen."""
    known = list(all_types())
    for name in types:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {nearest[0]}?" if nearest else ""
            print(f"note: {printable(name)!r} is no event type of this package.{hint}", file=sys.stderr)
