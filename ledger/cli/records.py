"""Commands that show records and states: show, tail."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Annotated, Any
from uuid import UUID

import typer

from ledger.annotations import Note
from ledger.artifact_owner import ArtifactOwner
from ledger.capture.read import captured_of
from ledger.cli import summary
from ledger.cli.app import command
from ledger.cli.completion import complete_experiments
from ledger.cli.info import size_text
from ledger.cli.opening import (
    ExperimentArgument,
    Names,
    PathArgument,
    TrialArgument,
    TypesOption,
    note_unknown_types,
    open_book,
    recorded_experiment,
    recorded_trial,
)
from ledger.cli.output import (
    LineFormat,
    ObjectFormat,
    console,
    flattened,
    plain,
    print_fields,
    print_json_line,
    printable,
    record_json,
    shown,
    shown_time,
)
from ledger.dependencies import standing
from ledger.events import EnvironmentCaptured
from ledger.experiment import Experiment
from ledger.records import Record, iso_nanoseconds, to_nanoseconds
from ledger.session import Ledger
from ledger.state import ExperimentState, TrialState, evolve_as_recorded
from ledger.streams import Subject, subject_of
from ledger.trial import Trial
from ledger.values import to_json

_LAST = 10
_TIMES = ("created_at", "started_at", "ended_at", "scheduled_at", "deadline", "paused_at", "sealed_at", "deleted_at")
_AMENDABLE = ("status", "config", "results", "label")


# ------------------------------------------------------------------------------------------------------------- show


@command("ledger show runs.ledger sqlite-tuning", "ledger show runs.ledger sqlite-tuning 7 --format json")
def show(
    path: PathArgument,
    experiment: ExperimentArgument,
    trial: TrialArgument = None,
    form: Annotated[ObjectFormat, typer.Option("--format", help="For people, or for programs.")] = ObjectFormat.TABLE,
) -> None:
    """Show an experiment or a trial as it is now.

    One that was deleted as well. What was amended is shown with the value that was first recorded. What a trial ran with is
    named, and its artifacts; `ledger capture` and `ledger artifacts` show them.
    """
    with open_book(path) as book:
        found = recorded_experiment(book, experiment)
        if trial is None:
            _show_experiment(book, found, form)
        else:
            _show_trial(book, found, recorded_trial(book, found, trial), form)


def _state_json(state: ExperimentState | TrialState) -> dict[str, Any]:
    fields = plain(state)
    for name in _TIMES:
        if fields.get(name) is not None:
            fields[name] = iso_nanoseconds(fields[name])
    for name in ("id", "experiment_id"):
        if isinstance(fields.get(name), UUID):
            fields[name] = str(fields[name])
    for name in ("tags", "parents", "depends_on"):
        if name in fields:
            fields[name] = list(fields[name])
    result: dict[str, Any] = to_json(fields)
    return result


def _notes_json(notes: list[Note]) -> list[dict[str, Any]]:
    return [{**note._asdict(), "time": iso_nanoseconds(to_nanoseconds(note.time) or 0)} for note in notes]


def _environment(records: Iterable[Record]) -> dict[str, Any]:
    captured = [record.event.environment for record in records if isinstance(record.event, EnvironmentCaptured)]
    return captured[-1] if captured else {}


def _environments(book: Ledger, stream: str) -> Iterator[Record]:
    return book.log.read(stream=stream, types=[EnvironmentCaptured])


def _artifacts(owner: ArtifactOwner) -> Iterator[tuple[str, Any]]:
    for name, artifact in owner.artifacts.items():
        files = f", files: {artifact.files:,}" if artifact.kind == "directory" else ""
        yield f"artifact {printable(name)}", f"{artifact.kind}, {size_text(artifact.size)}{files}"


def _artifacts_json(owner: ArtifactOwner) -> list[dict[str, Any]]:
    fields = ("name", "kind", "size", "files", "digest", "version")
    return [{field: getattr(artifact, field) for field in fields} for artifact in owner.artifacts.values()]


def _show_experiment(book: Ledger, state: ExperimentState, form: ObjectFormat) -> None:
    found = Experiment(book, state.id)
    notes, environment = found.notes(), _environment(_environments(book, state.stream))
    if form is ObjectFormat.JSON:
        more = {"trials": state.next_trial_id - 1, "environment": to_json(environment), "notes": _notes_json(notes)}
        more["artifacts"] = _artifacts_json(found)
        print_json_line({**_state_json(state), **more})
        return
    names = Names(book)
    print_fields(
        [
            ("experiment", state.name),
            ("id", str(state.id)),
            ("description", state.description),
            ("created", shown_time(state.created_at)),
            ("paused", shown_time(state.paused_at)),
            ("sealed", shown_time(state.sealed_at)),
            ("deleted", shown_time(state.deleted_at)),
            *flattened("objective", _objectives(state)),
            ("last trial", state.next_trial_id - 1),
            ("parents", ", ".join(summary.subject_text(parent, names) for parent in state.parents)),
            ("tags", ", ".join(state.tags)),
            *_attributes(state),
            *_notes(notes),
            *flattened("environment", environment),
            *_artifacts(found),
        ]
    )


def _objectives(state: ExperimentState) -> dict[str, str]:
    """Return each objective with the bounds of its value; bounds alone are no objective, and forbid all the same."""
    names = [*state.objectives, *(name for name in state.bounds if name not in state.objectives)]
    bounds = {name: f"within {bound}" for name, bound in state.bounds.items()}
    return {name: ", ".join(filter(None, (state.objectives.get(name), bounds.get(name)))) for name in names}


def _as_recorded(book: Ledger, state: TrialState) -> TrialState | None:
    """Return the trial as if nothing of it had been amended; None when nothing was."""
    if not state.is_amended:
        return None
    first: TrialState | None = None
    for record in book.log.read(stream=state.stream):
        first = evolve_as_recorded(first, Subject(state.experiment_id, state.id), record.event, record.happened_at)
    return first


def _show_trial(book: Ledger, experiment: ExperimentState, state: TrialState, form: ObjectFormat) -> None:
    trial = Trial(Experiment(book, experiment.id), state.id)
    notes = trial.notes()
    environment = _environment(_environments(book, state.stream)) or _environment(_environments(book, experiment.stream))
    first, captured = _as_recorded(book, state), captured_of(trial.history())
    if form is ObjectFormat.JSON:
        recorded = None if first is None else {name: to_json(plain(getattr(first, name))) for name in _AMENDABLE}
        if recorded is not None and first is not None:
            recorded["status"] = str(first.status)
        more = {"as_recorded": recorded, "environment": to_json(environment), "notes": _notes_json(notes)}
        more |= {"waits_for": trial.waits_for, "captured": captured, "artifacts": _artifacts_json(trial)}
        print_json_line({**_state_json(state), **more})
        return
    names = Names(book)
    print_fields(
        [
            ("trial", f"{experiment.name}/{state.id}"),
            *_stand(state, first),
            ("created", shown_time(state.created_at)),
            ("scheduled", shown_time(state.scheduled_at)),
            ("started", shown_time(state.started_at)),
            ("ended", shown_time(state.ended_at)),
            ("deleted", shown_time(state.deleted_at)),
            ("attempts", f"{state.attempt} of which {state.lost} lost" if state.lost else state.attempt),
            ("worker", state.worker),
            ("lease ends", shown_time(state.deadline)),
            ("priority", state.priority or None),
            ("assigned to", state.assigned_to),
            ("depends on", ", ".join(summary.subject_text(stream, names) for stream in state.depends_on)),
            ("waits for", ", ".join(_waited_for(book, stream, names) for stream in trial.waits_for)),
            ("group", state.group),
            ("parents", ", ".join(summary.subject_text(parent, names) for parent in state.parents)),
            ("tags", ", ".join(state.tags)),
            *_attributes(state),
            *_notes(notes),
            *flattened("environment", environment),
            ("captured", f"{', '.join(map(printable, captured))} (ledger capture shows them)" if captured else None),
            *_artifacts(trial),
            ("error", state.error.text if state.error else None),
        ]
    )
    if state.error and state.error.traceback:
        print()
        for line in state.error.traceback.rstrip().splitlines():
            console().print(printable(line), soft_wrap=True)


def _waited_for(book: Ledger, stream: str, names: Names) -> str:
    """Return a dependency that has not SUCCEEDED, with what is the matter."""
    with book.log.backend.view() as view:
        return f"{summary.subject_text(stream, names)} ({standing(stream, view.trial)})"


def _stand(state: TrialState, first: TrialState | None) -> Iterator[tuple[str, Any]]:
    """Yield status, label, config and results, those that were amended with what was first recorded."""
    yield "status", str(state.status) + _amended(str(state.status), None if first is None else str(first.status))
    is_relabelled = first is not None and first.label != state.label
    yield "label", state.label + (_amended(state.label, first.label or "none") if first is not None and is_relabelled else "")
    for prefix, now, before in (
        ("config", state.config, {} if first is None else first.config),
        ("result", state.results, {} if first is None else first.results),
    ):
        if prefix == "result":
            for i, arm in enumerate(state.arms):
                yield f"arm {arm.name or i}", f"{summary.pairs(arm.config)} (weight {arm.weight:g})"
        for name, value in flattened(prefix, now):
            key = name.partition(".")[2]
            note = _amended(shown(value), shown(before[key])) if key in before else ""
            yield name, f"{shown(value)}{note}" if note else value
        for name in before.keys() - now.keys():
            yield f"{prefix}.{printable(name)}", f"withdrawn (first {shown(before[name])})"


def _amended(now: str, first: str | None) -> str:
    return "" if first is None or first == now else f" (amended; first {first})"


def _notes(notes: list[Note]) -> Iterator[tuple[str, Any]]:
    for note in notes:
        amended = "" if note.text == note.first_text else f" (amended; first {printable(note.first_text)})"
        yield f"note {note.version}", f"{printable(note.text)}{amended}"


def _attributes(state: ExperimentState | TrialState) -> Iterator[tuple[str, Any]]:
    for namespace, values in state.attributes.items():
        yield from flattened(f"attribute.{namespace}" if namespace else "attribute", values)


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
    experiment: Annotated[
        str | None,
        typer.Option(help="Only this experiment and its trials.", show_default=False, autocompletion=complete_experiments),
    ] = None,
    trial: Annotated[int | None, typer.Option(min=0, help="Only this trial of it.", show_default=False)] = None,
    types: TypesOption = None,
    form: Annotated[LineFormat, typer.Option("--format", help="For people, or for programs.")] = LineFormat.TABLE,
) -> None:
    """Print the newest records; follow with -f.

    Every record that passes the filters is printed once, in order; to go on later, use --after with the last position.
    """
    if after is not None and lines is not None:
        raise typer.BadParameter("give --after or --lines, not both: each says where to begin.")
    if trial is not None and experiment is None:
        raise typer.BadParameter("a trial's number is within an experiment: give --experiment too.", param_hint="'--trial'")
    note_unknown_types(types or [])
    with open_book(path) as book:
        filters: dict[str, Any] = {"types": types or None}
        if experiment is not None:
            found = recorded_experiment(book, experiment)
            filters["experiment"] = found.id
            if trial is not None:
                filters["stream"] = recorded_trial(book, found, trial).stream
                del filters["experiment"]
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
