"""Commands that correct: amend, redact, delete, seal; and those that add a remark: note, tag."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import msgspec
import typer

from ledger.backends.base import Appended
from ledger.cli.app import command
from ledger.cli.opening import ExperimentArgument, FormatOption, PathArgument, TrialArgument, open_book, progress_bar
from ledger.cli.output import ObjectFormat, plain, print_json_line, printable
from ledger.errors import InvalidValue, UnknownExperiment, UnknownTrial
from ledger.events import NoteAdded, TagsChanged
from ledger.experiment import Experiment
from ledger.records import iso_nanoseconds
from ledger.registry import Event, type_name
from ledger.session import Ledger
from ledger.state import Status
from ledger.trial import Trial
from ledger.values import check_text, from_json, to_json

ReasonOption = Annotated[str, typer.Option(help="Why; kept with the event.")]
OptionalReason = Annotated[str | None, typer.Option("--reason", help="Why; kept with the event.", show_default=False)]
Pairs = list[str] | None


# -------------------------------------------------------------------------------------------------------------- amend


@command(
    "ledger amend runs.ledger sqlite-tuning 7 --result latency_ms=2.1 --reason 'the fan was off'",
    "ledger amend runs.ledger sqlite-tuning 7 --status FAILED --withdraw latency_ms --reason 'wrong disk'",
    "ledger amend runs.ledger sqlite-tuning 7 --note 4='the fan was on' --reason 'asked again'",
)
def amend(
    path: PathArgument,
    experiment: ExperimentArgument,
    reason: ReasonOption,
    trial: TrialArgument = None,
    results: Annotated[
        Pairs, typer.Option("--result", metavar="NAME=VALUE", help="The right result.", show_default=False)
    ] = None,
    withdraw: Annotated[Pairs, typer.Option(metavar="NAME", help="A result that does not count.", show_default=False)] = None,
    config: Annotated[Pairs, typer.Option(metavar="NAME=VALUE", help="The right parameter.", show_default=False)] = None,
    label: Annotated[str | None, typer.Option(help="The right label of the config.", show_default=False)] = None,
    status: Annotated[
        Status | None, typer.Option(case_sensitive=False, help="The right status of a trial that ended.", show_default=False)
    ] = None,
    notes: Annotated[
        Pairs, typer.Option("--note", metavar="VERSION=TEXT", help="The right text of a note.", show_default=False)
    ] = None,
    form: FormatOption = ObjectFormat.TABLE,
) -> None:
    """Correct what was recorded; history has the first value.

    VALUE is JSON (2.1, true, "text", [1, 2]), and a text where it is none. An experiment has only notes to amend.
    """
    of_trial = any(given is not None for given in (results, withdraw, config, label, status))
    if trial is None and of_trial:
        raise typer.BadParameter("results, parameters, labels and statuses are those of a trial.", param_hint="'TRIAL'")
    if not of_trial and not notes:
        raise typer.BadParameter("there is nothing to amend: give --result, --withdraw, --config, --label, --status or --note.")
    texts = [(_version(name), text) for name, text in split_pairs(notes, "--note")]
    with open_book(path) as book:
        thing = find_thing(book, experiment, trial)
        done = []
        if isinstance(thing, Trial) and of_trial:
            state = thing.state
            done.append(
                thing.amend(
                    reason=reason, results=_values(results, "--result", state.results), withdraw=withdraw or [], label=label,
                    config=_values(config, "--config", state.config), status=status,
                )
            )  # fmt: skip
        done += [thing.amend_note(version, text, reason=reason) for version, text in texts]
    print_appended(done, form)


def split_pairs(pairs: Pairs, option: str) -> Iterator[tuple[str, str]]:
    """Yield names and texts of what was given as NAME=VALUE; raises BadParameter for what is none."""
    for pair in pairs or []:
        name, separator, text = check_text(pair, f"the value of {option}").partition("=")
        if not separator or not name:
            raise typer.BadParameter(f"{pair!r} is no NAME=VALUE.", param_hint=f"'{option}'")
        yield name, text


def _version(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise typer.BadParameter(f"{text!r} is no version; `ledger show` lists notes with theirs.", param_hint="'--note'")
    return int(text)


def _values(pairs: Pairs, option: str, known: dict[str, Any]) -> dict[str, Any]:
    """Return values as typed; a whole number in place of a float is one."""
    values = {}
    for name, text in split_pairs(pairs, option):
        value = value_of(text)
        if type(value) is int and type(known.get(name)) is float:
            value = float(value)
        values[name] = value
    return values


def value_of(text: str) -> Any:
    """Return the value that is typed: JSON, and a text where it is none."""
    if text in ("nan", "inf", "-inf", "NaN", "Infinity", "-Infinity"):
        return float(text)
    try:
        return from_json(msgspec.json.decode(text.encode()))
    except (msgspec.MsgspecError, ValueError, ArithmeticError, TypeError):
        return text


# ------------------------------------------------------------------------------------------------------------- redact


@command(
    "ledger redact runs.ledger 12 --reason 'an API key in the config'",
    "ledger redact runs.ledger --containing --reason 'leaked key' < key.txt",
)
def redact(
    path: PathArgument,
    reason: ReasonOption,
    positions: Annotated[
        list[int] | None, typer.Argument(metavar="[POSITION]...", min=1, help="Of the records.", show_default=False)
    ] = None,
    containing: Annotated[
        bool, typer.Option("--containing", help="Every record with a text, read from standard input and not shown.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask on a terminal.")] = False,
    form: FormatOption = ObjectFormat.TABLE,
) -> None:
    """Drop the payload of records (a leaked secret) for ever.

    Position, id and hash of the records stay, and every proof; a new event says who dropped them and why. `ledger compact`
    then overwrites the bytes in the file, and removes what a redacted artifact held (`ledger gc` does that, too, while others
    use the ledger). Backups and exports made before still have them.
    """
    if bool(positions) == containing:
        raise typer.BadParameter("give the positions of the records, or --containing.", param_hint="'POSITION'")
    with open_book(path) as book:
        chosen = _containing(book, _secret()) if containing else sorted(set(positions or []))
        if chosen and not yes and sys.stdin.isatty():
            listed = ", ".join(map(str, chosen[:20])) + ("..." if len(chosen) > 20 else "")
            typer.confirm(
                f"Drop the payload of {len(chosen)} record(s) at {listed}? This cannot be undone.", abort=True, err=True
            )
        has_artifact = any(record.type == "ArtifactLogged" for record in book.log.backend.read_positions(chosen))
        done = book.redact(*chosen, reason=reason) if chosen else []
        pending = book.log.backend.redactions().pending
    if form is ObjectFormat.JSON:
        print_json_line({"redacted": chosen, "positions": done, "erasures_pending": pending})
        return
    print(f"Redacted {len(done)} record(s){': ' if done else ''}{', '.join(map(str, chosen))}.")
    if pending:
        print(f"Erasure pending: their bytes are in the file until `ledger compact {printable(path)}`.")
    if has_artifact:
        print("What the artifact held goes then, too, unless other records refer to it; without delay by `ledger gc --grace 0`.")


def _secret() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Text", hide_input=True, err=True))
    text = sys.stdin.buffer.read().rstrip(b"\r\n")
    if not text:
        raise InvalidValue("the text to look for is empty. Give it on standard input.")
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise InvalidValue(f"the text to look for is not UTF-8: {error}.") from None


def _containing(book: Ledger, secret: str) -> list[int]:
    with progress_bar("searching") as progress:
        found = book.find_text(secret, progress)
    for position in found.elsewhere:
        print(
            f"warning: the record at position {position} has it outside of its payload (actor, reason, ids), which stays.",
            file=sys.stderr,
        )
    return found.payloads


# ------------------------------------------------------------------------------------------------------------- delete


@command(
    "ledger delete runs.ledger sqlite-tuning 7 --reason 'wrong disk'",
    "ledger delete runs.ledger sqlite-tuning",
    "ledger delete runs.ledger sqlite-tuning --undo --name 'sqlite-tuning (old)'",
)
def delete(
    path: PathArgument,
    experiment: ExperimentArgument,
    trial: TrialArgument = None,
    reason: OptionalReason = None,
    undo: Annotated[bool, typer.Option("--undo", help="Bring a deleted one back.")] = False,
    name: Annotated[str | None, typer.Option(help="With --undo: under this name.", show_default=False)] = None,
    missing_ok: Annotated[bool, typer.Option("--missing-ok", help="No error when it is gone already.")] = False,
    form: FormatOption = ObjectFormat.TABLE,
) -> None:
    """Delete an experiment or a trial; --undo brings it back.

    It is a tombstone: tables leave out what was deleted, history keeps everything. The name of a deleted experiment is
    free again.
    """
    if name is not None and (trial is not None or not undo):
        raise typer.BadParameter("another name goes with --undo of an experiment.", param_hint="'--name'")
    with open_book(path) as book:
        if undo and trial is None:
            done = book.get_experiment(check_text(experiment, "the experiment's name"), deleted=True).restore(name, reason=reason)
        elif undo:
            done = find_thing(book, experiment, None).trial(trial, deleted=True).restore(reason)
        else:
            try:
                done = find_thing(book, experiment, trial).delete(reason)
            except (UnknownExperiment, UnknownTrial):
                if not missing_ok:
                    raise
                done = None
    print_appended([] if done is None else [done], form)


# --------------------------------------------------------------------------------------------------------------- seal


@command("ledger seal runs.ledger sqlite-tuning", "ledger seal runs.ledger sqlite-tuning --undo --reason 'one more trial'")
def seal(
    path: PathArgument,
    experiment: ExperimentArgument,
    reason: OptionalReason = None,
    undo: Annotated[bool, typer.Option("--undo", help="Unseal it; needs a reason.")] = False,
    form: FormatOption = ObjectFormat.TABLE,
) -> None:
    """Make an experiment read-only.

    Nothing more is recorded of it or its trials until it is unsealed, with --undo and a reason.
    """
    with open_book(path) as book:
        found = find_thing(book, experiment, None)
        done = found.unseal(reason or "") if undo else found.seal(reason)
    print_appended([done], form)


# ---------------------------------------------------------------------------------------------------------- note, tag


@command("ledger note runs.ledger sqlite-tuning 7 --text 'the fan was off'")
def note(
    path: PathArgument,
    experiment: ExperimentArgument,
    text: Annotated[str, typer.Option("--text", "-m", help="The remark.")],
    trial: TrialArgument = None,
    form: FormatOption = ObjectFormat.TABLE,
) -> None:
    """Add a remark to an experiment or a trial."""
    with open_book(path) as book:
        done = book.log.append([NoteAdded(text)], stream=find_thing(book, experiment, trial).stream)
    print_appended([done], form)


@command("ledger tag runs.ledger sqlite-tuning 7 --add baseline --remove draft")
def tag(
    path: PathArgument,
    experiment: ExperimentArgument,
    trial: TrialArgument = None,
    add: Annotated[list[str] | None, typer.Option(metavar="TAG", help="Repeat for more.", show_default=False)] = None,
    remove: Annotated[list[str] | None, typer.Option(metavar="TAG", help="Repeat for more.", show_default=False)] = None,
    form: FormatOption = ObjectFormat.TABLE,
) -> None:
    """Add tags to an experiment or a trial, or remove them."""
    if not add and not remove:
        raise typer.BadParameter("give --add or --remove.")
    with open_book(path) as book:
        done = book.log.append([TagsChanged(add or [], remove or [])], stream=find_thing(book, experiment, trial).stream)
    print_appended([done], form)


# ------------------------------------------------------------------------------------------------------------- common


def find_thing(book: Ledger, experiment: str, trial: int | None) -> Any:
    """Return the handle of an experiment or one of its trials."""
    found: Experiment = book.get_experiment(check_text(experiment, "the experiment's name"))
    return found if trial is None else found.trial(trial)


def print_appended(appended: Iterable[Appended], form: ObjectFormat) -> None:
    """Say what was recorded: a line an event, or one object."""
    events = [(item.position + i, *pair) for item in appended for i, pair in enumerate(item.events)]
    if form is ObjectFormat.JSON:
        times = [iso_nanoseconds(item.recorded_at) for item in appended if item.events]
        listed = [_event_json(position, stream, event) for position, stream, event in events]
        print_json_line({"recorded_at": times[-1] if times else None, "events": listed})
        return
    for position, _, event in events:
        print(f"Recorded {type_name(type(event))} at position {position}.")
    if not events:
        print("Nothing to record: it is so already.")


def _event_json(position: int, stream: str, event: Event) -> dict[str, Any]:
    return {"position": position, "stream": stream, "type": type_name(type(event)), "event": to_json(plain(event))}
