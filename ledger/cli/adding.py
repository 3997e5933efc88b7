"""The command add: trials for the queue, from the command line or a file of configs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from ledger.cli import times
from ledger.cli.app import command
from ledger.cli.corrections import OptionalReason, Pairs, split_pairs, value_of
from ledger.cli.opening import ExperimentArgument, FormatOption, PathArgument, find_experiment, open_book
from ledger.cli.output import ObjectFormat, print_json_line, printable
from ledger.courses import course_to
from ledger.errors import InvalidValue, UnknownExperiment
from ledger.experiment import Experiment
from ledger.session import Ledger
from ledger.trial import Trial
from ledger.values import check_text, from_json


@command(
    "ledger add runs.ledger sqlite-tuning --param cache_mb=64 --param journal=wal --priority 2",
    "ledger add runs.ledger sqlite-tuning --from configs.jsonl",
    "ledger add runs.ledger quick --objective loss=min --param lr=0.1 --status SUCCEEDED --result loss=0.4",
)
def add(
    path: PathArgument,
    experiment: ExperimentArgument,
    parameters: Annotated[
        Pairs, typer.Option("--param", "-p", metavar="NAME=VALUE", help="Of the config; repeat for more.", show_default=False)
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE", help="Many: a config a line, as JSON; - is standard input.", show_default=False),
    ] = None,
    priority: Annotated[int, typer.Option(help="Higher goes first.")] = 0,
    at: Annotated[
        str | None, typer.Option(metavar=times.METAVAR, help=f"Not before: {times.COMING_HELP}", show_default=False)
    ] = None,
    worker: Annotated[str | None, typer.Option(metavar="NAME", help="Only this one may claim it.", show_default=False)] = None,
    depends_on: Annotated[
        list[int] | None,
        typer.Option(min=0, metavar="TRIAL", help="After this trial has SUCCEEDED; repeat for more.", show_default=False),
    ] = None,
    group: Annotated[str, typer.Option(metavar="NAME", help="What it is kept together by.", show_default=False)] = "",
    label: Annotated[str, typer.Option(metavar="TEXT", help="What people call the config.", show_default=False)] = "",
    max_attempts: Annotated[int, typer.Option(min=1, help="So often LOST, it is not tried again.")] = 3,
    status: Annotated[
        str | None, typer.Option(metavar="STATUS", help="Add it as one that has ended so.", show_default=False)
    ] = None,
    results: Annotated[Pairs, typer.Option("--result", metavar="NAME=VALUE", help="Repeat for more.", show_default=False)] = None,
    objectives: Annotated[
        Pairs, typer.Option("--objective", metavar="NAME=min|max", help="Of the experiment; repeat for more.", show_default=False)
    ] = None,
    reason: OptionalReason = None,
    form: FormatOption = ObjectFormat.TABLE,
) -> None:  # fmt: skip
    """Add trials that wait for a worker.

    `ledger worker` and `ledger claim` get them. An experiment that does not exist is created. VALUE is JSON, and a text where
    it is none. The trials of a file are added all or none, in one step.
    """
    config = {name: value_of(text) for name, text in split_pairs(parameters, "--param")}
    given: dict[str, Any] = {"priority": priority, "group": group, "max_attempts": max_attempts}
    single: dict[str, Any] = {
        "scheduled_at": None if at is None else times.parse_coming(at, "--at"), "worker": worker, "label": label,
        "status": status, "reason": reason, "results": dict(_values(results, "--result")) or None,
    }  # fmt: skip
    if source is not None and (config or depends_on or any(single.values())):
        raise typer.BadParameter("with --from only --priority, --group, --max-attempts and --objective go.")
    configs = [] if source is None else list(_configs(source))
    if status is not None:
        course_to(status, {}, "")  # refused before an experiment is created for it
    with open_book(path) as book:
        found = _experiment(book, experiment, dict(split_pairs(objectives, "--objective")), may_create=not depends_on)
        if source is None:
            after = [found.trial(number) for number in depends_on or []]
            added = [found.new_trial(config, depends_on=after, **single, **given)]
        else:
            added = found.new_trials(configs, **given)
    _say(experiment, added, form)


def _values(pairs: Pairs, option: str) -> Iterator[tuple[str, Any]]:
    return ((name, value_of(text)) for name, text in split_pairs(pairs, option))


def _experiment(book: Ledger, name: str, objectives: dict[str, str], *, may_create: bool) -> Experiment:
    try:
        found = find_experiment(book, name)
    except UnknownExperiment:
        if not may_create:  # there is no trial to depend on
            raise
        print(f"note: created the experiment {printable(name)}.", file=sys.stderr)
        return book.experiment(check_text(name, "the experiment's name"), objectives=objectives or None)
    return book.experiment(found.name, objectives=objectives) if objectives else found


def _configs(source: str) -> Iterator[dict[str, Any]]:
    try:
        content = sys.stdin.buffer.read() if source == "-" else Path(check_text(source, "the file")).read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InvalidValue(f"no configs can be read from {source!r}: {error.strerror}.") from error
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            config = from_json(msgspec.json.decode(line))
        except (msgspec.MsgspecError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
            raise InvalidValue(f"line {number} of {source} is no JSON: {error}. Nothing was added.") from error
        if type(config) is not dict:
            raise InvalidValue(f'line {number} of {source} is no JSON object; give one such as {{"lr": 0.1}}. Nothing was added.')
        yield config


def _say(experiment: str, added: list[Trial], form: ObjectFormat) -> None:
    numbers = [trial.id for trial in added]
    if form is ObjectFormat.JSON:
        print_json_line({"experiment": experiment, "trial_ids": numbers})
        return
    name = printable(experiment)
    if len(numbers) == 1:
        print(f"Added trial {numbers[0]} to {name}.")
    else:
        print(f"Added {len(numbers):,} trials to {name}{f': {numbers[0]} to {numbers[-1]}' if numbers else ''}.")
