"""The command ``history``: what happened, told in sentences or given as records."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any

import msgspec
import typer

from ledger.cli import times
from ledger.cli.app import command
from ledger.cli.completion import complete_experiments, complete_trials
from ledger.cli.opening import (
    PathArgument,
    TypesOption,
    counted,
    note_unknown_types,
    open_book,
    progress_bar,
    recorded_experiment,
    recorded_trial,
)
from ledger.cli.output import Format, console, print_records
from ledger.cli.sentences import Sentences
from ledger.errors import InvalidValue, UnknownTrial
from ledger.log import EventLog
from ledger.records import Record
from ledger.session import Ledger
from ledger.streams import Subject, subject_of, trial_stream
from ledger.values import check_text, from_json

_PAGE = 256
_SMALLEST_PART = 4096
_RENEWAL = "LeaseRenewed"


ExperimentOption = Annotated[
    str | None,
    typer.Argument(
        metavar="EXPERIMENT",
        help="Its name or id; the whole ledger without.",
        show_default=False,
        autocompletion=complete_experiments,
    ),
]
TrialOption = Annotated[
    int | None,
    typer.Argument(metavar="TRIAL", min=0, help="The trial's number.", show_default=False, autocompletion=complete_trials),
]
ConfigOption = Annotated[
    str | None,
    typer.Option(
        metavar="ID|JSON",
        help="Only trials of this config: its config_id in the tables, or a JSON object.",
        show_default=False,
    ),
]
ActorOption = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="Only by actors whose name holds this: a user, host, worker.", show_default=False),
]
SinceOption = Annotated[
    str | None, typer.Option(metavar=times.METAVAR, help=f"From this time on: {times.HELP}", show_default=False)
]
UntilOption = Annotated[
    str | None, typer.Option(metavar=times.METAVAR, help="Up to this time, given in the same way.", show_default=False)
]
AfterOption = Annotated[
    int, typer.Option(min=0, metavar="POSITION", help="Only records after this position.", show_default=False)
]
AsOfOption = Annotated[
    int | None, typer.Option(min=0, metavar="POSITION", help="Only records up to this position.", show_default=False)
]


@command(
    "ledger history runs.ledger sqlite-tuning 7",
    "ledger history runs.ledger sqlite-tuning --since 2h --type TrialFailed --type TrialLost",
    "ledger history runs.ledger --actor ada@ --since 2026-11-20 --until 2026-11-21",
    "ledger history runs.ledger --config 3 --format jsonl",
)
def history(
    path: PathArgument,
    experiment: ExperimentOption = None,
    trial: TrialOption = None,
    config: ConfigOption = None,
    actor: ActorOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    after: AfterOption = 0,
    as_of: AsOfOption = None,
    types: TypesOption = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Only the newest so many of them.", show_default=False)] = None,
    renewals: Annotated[bool, typer.Option("--renewals", help="Show the renewals of leases too.")] = False,
    form: Annotated[Format, typer.Option("--format", help="For people, or for programs.")] = Format.TABLE,
) -> None:
    """Tell what happened: who, when, what, why.

    Of a trial, an experiment with its trials, a config, an actor, or the whole ledger; all options can be combined.
    What was deleted is told of as well, and an amendment with the value before it.
    """
    window = Window(after, as_of, since, until)
    note_unknown_types(types or [])
    with open_book(path) as book:
        subject = None if experiment is None else _find(book, experiment, trial)
        streams = None if config is None else _streams_of_config(book, config, subject)
        first, last = window.positions(book.log)
        hidden = set() if renewals or _RENEWAL in (types or []) else {_RENEWAL}

        def read(begin: int) -> Iterator[Record]:
            found = _records(book.log, subject, streams, begin, last, frozenset(types) if types else None)
            return (r for r in found if r.type not in hidden and (actor is None or actor in r.actor))

        with progress_bar("reading", output=True) as progress:
            chosen = counted(read(first), progress, first, last) if limit is None else _newest(read, first, last, limit)
            if form is Format.TABLE:
                _tell(book, chosen, subject)
            else:
                print_records(chosen, form)


def _tell(book: Ledger, records: Iterable[Record], subject: Subject | None) -> None:
    sentences, out = Sentences(book, subject), console()
    if out.is_terminal:
        for record in records:
            out.print(sentences.line(record), soft_wrap=True)
        return
    sys.stdout.flush()
    for record in records:  # without rich, which would take five times as long to add nothing
        sys.stdout.buffer.write(sentences.text(record).encode() + b"\n")


class Window:
    """The part of the log that is asked for, by positions and times; typer's BadParameter when it has none."""

    def __init__(self, after: int, as_of: int | None, since: str | None, until: str | None) -> None:
        self._after, self._as_of = after, as_of
        self._since = None if since is None else times.parse_time(since, "--since")
        self._until = None if until is None else times.parse_time(until, "--until")
        if self._since is not None and self._until is not None and self._since > self._until:
            raise typer.BadParameter(f"--since {since} is after --until {until}: nothing lies between.")
        if as_of is not None and after >= as_of:
            raise typer.BadParameter(f"--after {after} and --as-of {as_of} leave nothing between.")

    def positions(self, log: EventLog) -> tuple[int, int]:
        """Return the position after which it begins, and the one with which it ends."""
        head = log.head
        first, last = self._after, head if self._as_of is None else min(self._as_of, head)
        if self._since is not None:
            first = max(first, _position_at(log, self._since - 1, head))
        if self._until is not None:
            last = min(last, _position_at(log, self._until, head))
        return first, last


def _find(book: Ledger, experiment: str, trial: int | None) -> Subject:
    state = recorded_experiment(book, experiment)
    return Subject(state.id, None if trial is None else recorded_trial(book, state, trial).id)


def _newest(read: Callable[[int], Iterable[Record]], first: int, last: int, limit: int) -> Iterable[Record]:
    """Return the last so many records, looking from the end back: in a part that is four times as large each time."""
    size = max(4 * limit, _SMALLEST_PART)
    while True:
        begin = max(first, last - size)
        found = deque(read(begin), maxlen=limit)
        if len(found) >= limit or begin == first:
            return found
        size *= 4


def _records(
    log: EventLog, subject: Subject | None, streams: list[str] | None, after: int, last: int, types: frozenset[str] | None
) -> Iterator[Record]:
    """Iterate over the records between two positions, of whoever is asked for, through an index where there is one."""
    if streams is not None:
        yield from (r for r in _merged(log, streams, after, last) if types is None or r.type in types)
    elif subject is None:
        yield from log.read(after, as_of=last, types=types)
    elif subject.trial_id is None:
        yield from log.read(after, as_of=last, types=types, experiment=subject.experiment_id)
    else:
        yield from log.read(after, as_of=last, types=types, stream=trial_stream(subject.experiment_id, subject.trial_id))


def _merged(log: EventLog, streams: list[str], after: int, last: int) -> Iterator[Record]:
    """Iterate over the records of several streams, in order of position."""
    positions = sorted(p for stream in streams for p in log.backend.stream_positions(stream) if after < p <= last)
    for start in range(0, len(positions), _PAGE):
        yield from log.backend.read_positions(positions[start : start + _PAGE])


def _position_at(log: EventLog, time: int, head: int) -> int:
    """Return the position of the last record that was recorded at or before the time: times never fall with position."""
    low, high = 0, head
    while low < high:
        middle = (low + high + 1) // 2
        (record,) = log.backend.read_positions([middle])
        low, high = (middle, high) if record.recorded_at <= time else (low, middle - 1)
    return low


def _streams_of_config(book: Ledger, text: str, subject: Subject | None) -> list[str]:
    """Return the streams of the trials of the config that an id or a JSON object names."""
    from projections.tables import Tables  # with pandas: only where a config has to be looked up

    with Tables(book) as tables:
        streams = tables.trials_of_config(int(text) if text.isascii() and text.isdigit() else _config_from(text))
    if not streams:
        raise UnknownTrial(f"no trial has the config {text}. The tables of trials and configs show ids and values.")
    return [stream for stream in streams if subject is None or _is_within(stream, subject)]


def _is_within(stream: str, subject: Subject) -> bool:
    found = subject_of(stream)
    return found is not None and found.experiment_id == subject.experiment_id and subject.trial_id in (None, found.trial_id)


def _config_from(text: str) -> dict[str, Any]:
    check_text(text, "the config")
    try:
        value = from_json(msgspec.json.decode(text))
    except (msgspec.MsgspecError, ValueError, TypeError, InvalidValue) as error:
        raise typer.BadParameter(f"{text!r} is neither a config_id nor JSON: {error}.", param_hint="'--config'") from None
    if type(value) is not dict:
        raise typer.BadParameter(f"{text!r} is no JSON object of parameters.", param_hint="'--config'")
    return value
