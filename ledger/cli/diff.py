"""The command ``diff``: two trials side by side, or one trial at two moments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from ledger.capture.read import captured_of, read_captures
from ledger.cli.app import command
from ledger.cli.completion import complete_experiments, complete_trials
from ledger.cli.opening import (
    ExperimentArgument,
    Names,
    PathArgument,
    TrialNumber,
    open_book,
    recorded_experiment,
    recorded_trial,
)
from ledger.cli.output import (
    ObjectFormat,
    console,
    print_json_line,
    print_table,
    printable,
    record_json,
    shown,
    shown_time,
    yes_or_no,
)
from ledger.cli.sentences import Sentences
from ledger.cli.summary import subject_text
from ledger.difference import Change, Comparison, Description, compare, describe, has_differences, unified_diff
from ledger.errors import UnknownTrial
from ledger.records import Record, iso_nanoseconds
from ledger.session import Ledger
from ledger.state import ExperimentState
from ledger.streams import Subject, experiment_stream, trial_stream
from ledger.values import to_json

if TYPE_CHECKING:
    from rich.console import Console

_ABSENT = "-"
_NARROWEST = 12

FromOption = Annotated[
    int | None,
    typer.Option("--from", min=1, metavar="POSITION", help="The trial as it stood at this position ...", show_default=False),
]
ToOption = Annotated[
    int | None,
    typer.Option("--to", min=1, metavar="POSITION", help="... against this one; now without.", show_default=False),
]


@command(
    "ledger diff runs.ledger sqlite-tuning 1 2",
    "ledger diff runs.ledger sqlite-tuning 1 1 --other-experiment sqlite-tuning-2026 --all",
    "ledger diff runs.ledger sqlite-tuning 1 --from 3 --to 9 --format json",
)
def diff(
    path: PathArgument,
    experiment: ExperimentArgument,
    trial: TrialNumber,
    other: Annotated[
        int | None,
        typer.Argument(
            metavar="OTHER",
            min=0,
            help="The number of the trial to compare it with.",
            show_default=False,
            autocompletion=complete_trials,
        ),
    ] = None,
    other_experiment: Annotated[
        str | None,
        typer.Option(
            metavar="EXPERIMENT",
            help="The experiment of OTHER, if it is another one.",
            show_default=False,
            autocompletion=complete_experiments,
        ),
    ] = None,
    begin: FromOption = None,
    end: ToOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Show what is equal, too.")] = False,
    form: Annotated[ObjectFormat, typer.Option("--format", help="For people, or for programs.")] = ObjectFormat.TABLE,
) -> None:
    """Compare two trials, or one at two positions.

    Status, times, config, what they ran with (environment, packages, git, code, command line), results, labels, notes,
    metrics and events; only what differs. Source and patches are shown as unified diffs.
    """
    _check_usage(other, other_experiment, begin, end)
    with open_book(path) as book:
        first = recorded_experiment(book, experiment)
        number = recorded_trial(book, first, trial).id
        if other is not None:
            second = first if other_experiment is None else recorded_experiment(book, other_experiment)
            left = _Side(book, first, number, None)
            right = _Side(book, second, recorded_trial(book, second, other).id, None)
            between: list[Record] | None = None
        else:
            left, right = _Side(book, first, number, begin), _Side(book, first, number, book.log.head if end is None else end)
            between = list(book.log.read(left.position, as_of=right.position, stream=left.stream))
        comparison = compare(left.description, right.description, everything=everything)
        if form is ObjectFormat.JSON:
            print_json_line(_json(left, right, comparison, between))
        else:
            _print(book, left, right, comparison, between)


def _check_usage(other: int | None, other_experiment: str | None, begin: int | None, end: int | None) -> None:
    if other is None and begin is None:
        missing = "--to needs --from" if end is not None else "there is nothing to compare with"
        raise typer.BadParameter(
            f"{missing}: give OTHER (another trial's number), or --from POSITION for one trial at two moments."
        )
    if begin is not None and (other is not None or other_experiment is not None):
        raise typer.BadParameter("give OTHER or --from, not both: two trials are compared as they are now.")
    if begin is None and end is not None:
        raise typer.BadParameter("give OTHER or --to, not both: two trials are compared as they are now.")
    if begin is not None and end is not None and begin >= end:
        raise typer.BadParameter(f"--from {begin} is not before --to {end}.")


class _Side:
    """One side of the comparison."""

    def __init__(self, book: Ledger, experiment: ExperimentState, number: int, position: int | None) -> None:
        self.subject = Subject(experiment.id, number)
        self.stream = trial_stream(experiment.id, number)
        self.position = book.log.head if position is None else min(position, book.log.head)
        self.name = f"{printable(experiment.name)}/{number}"
        self.title = self.name if position is None else f"at {self.position}"
        records = list(book.log.read(stream=self.stream, as_of=self.position))
        if not records:
            (first, *_) = book.log.backend.stream_positions(self.stream)
            raise UnknownTrial(
                f"there was no trial {number} of {experiment.name!r} at position {self.position} yet: it was created at position "
                f"{first}. Give --from {first} or later."
            )
        self.version = len(records)
        of_experiment = book.log.read(stream=experiment_stream(experiment.id), as_of=self.position)
        captured = read_captures(book.log, captured_of(records))
        self.description: Description = describe(records, of_experiment, captured)
        self._experiment = experiment

    def json(self) -> dict[str, Any]:
        """Return what the side is."""
        return {
            "experiment": self._experiment.name,
            "experiment_id": str(self._experiment.id),
            "trial_id": self.subject.trial_id,
            "position": self.position,
            "version": self.version,
        }


def _json(left: _Side, right: _Side, comparison: Comparison, between: list[Record] | None) -> dict[str, Any]:
    answer: dict[str, Any] = {"left": left.json(), "right": right.json(), "differs": has_differences(comparison)}
    for section, changes in comparison.items():
        answer[section] = {name: _change_json(section, name, change) for name, change in changes.items()}
        for name, change in changes.items():
            if lines := _text_diff(section, name, change, left, right):
                answer[section][name]["diff"] = "\n".join(lines)
    if between is not None:
        answer["records"] = [record_json(record) for record in between]
    return answer


def _change_json(section: str, name: str, change: Change) -> dict[str, Any]:
    sides = {"left": change.left, "right": change.right}
    is_time = section == "times" and name.endswith("_at")
    return {
        side: iso_nanoseconds(value) if is_time else to_json(value) for side, value in sides.items() if value is not msgspec.UNSET
    }


def _is_text(section: str, name: str) -> bool:
    """Say whether a value is a text of many lines, which is shown by what differs in it."""
    return section == "code" or (section, name) == ("git", "patch")


def _is_detail(section: str, name: str, changes: Mapping[str, Change]) -> bool:
    """Say whether a value is of the build of a library that one side only has: its version is enough for people."""
    version = changes.get(f"{name.partition('.')[0]}.version")
    one_sided = version is not None and msgspec.UNSET in (version.left, version.right)
    return section == "environment" and one_sided and not name.endswith(".version")


def _text_diff(section: str, name: str, change: Change, left: _Side, right: _Side) -> list[str]:
    if not _is_text(section, name) or not change.is_difference:
        return []
    titles = (f"{left.title} {name}", f"{right.title} {name}")
    one, other = ("" if each is msgspec.UNSET else str(each) for each in (change.left, change.right))
    return unified_diff(one, other, titles)


# --------------------------------------------------------------------------------------------------------- for people


def _print(book: Ledger, left: _Side, right: _Side, comparison: Comparison, between: list[Record] | None) -> None:
    names = Names(book)
    rows = [
        (_row_name(section, name), *(_cell(section, name, value, names) for value in (change.left, change.right)))
        for section, changes in comparison.items()
        for name, change in changes.items()
        if not _is_text(section, name) and not _is_detail(section, name, changes)
    ]
    out = console()
    if not has_differences(comparison):
        print(
            f"no differences between {left.name} {left.title} and {right.title}." if between is not None else _same(left, right)
        )
    elif between is None and not has_differences(comparison, but=["times"]):
        print(f"no differences between {left.name} and {right.name} but their times.")
    if rows:
        width = max(len(name) for name, *_ in rows)
        room = max((out.width - width - 4) // 2, _NARROWEST) if out.is_terminal else out.width
        cut = [(name, _cut(one, room), _cut(other, room)) for name, one, other in rows]
        print_table([left.name if between is not None else "", left.title, right.title], cut)
    for section, changes in comparison.items():
        for name, change in changes.items():
            _print_text_diff(out, _text_diff(section, name, change, left, right))
    if between:
        print("\nbetween them:" if rows else "between them:")
        sentences = Sentences(book, left.subject)
        for record in (each for each in between if each.type != "LeaseRenewed"):
            out.print(sentences.line(record), soft_wrap=True)


def _print_text_diff(out: Console, lines: list[str]) -> None:
    from rich.text import Text

    styles = {"+": "green", "-": "red", "@": "cyan"}
    if lines:
        print()
    for line in lines:
        out.print(Text(printable(line.expandtabs()), style=styles.get(line[:1], "")), soft_wrap=True)


def _same(left: _Side, right: _Side) -> str:
    return f"no differences between {left.name} and {right.name}."


def _row_name(section: str, name: str) -> str:
    if section in ("status", "times", "labels"):
        return printable(name)
    kind = section if section in ("config", "git", "command") else section.removesuffix("s")
    return kind if section == "notes" else f"{kind}.{printable(name)}"


def _cell(section: str, name: str, value: Any, names: Names) -> str:
    if value is msgspec.UNSET:
        return _ABSENT
    if section == "times" and name.endswith("_at"):
        return shown_time(value)
    if (section, name) == ("status", "is_amended"):
        return yes_or_no(value)
    if section == "metrics":
        at = f" at step {shown(value['step'])}" if value["step"] is not None else ""
        return f"{shown(value['value'])}{at}, {value['points']} point{'' if value['points'] == 1 else 's'}"
    if section == "notes":
        return (printable(name) or "(empty)") + ("" if value == 1 else f" ({value} times)")
    if (section, name) == ("labels", "parents"):
        return ", ".join(subject_text(parent, names) for parent in value)
    return shown(value) or repr(value)


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"
