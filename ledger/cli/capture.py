"""The command ``capture``: what a trial ran with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from ledger.capture.read import captured_of, read_captures
from ledger.cli.app import command
from ledger.cli.opening import (
    ExperimentArgument,
    FormatOption,
    PathArgument,
    TrialNumber,
    open_book,
    recorded_experiment,
    recorded_trial,
)
from ledger.cli.output import ObjectFormat, console, print_fields, print_json_line, printable
from ledger.difference import code_text, flat
from ledger.values import to_json

_TEXTS = {"script": "text", "function": "text", "git": "patch"}  # kind -> its text of many lines
_SETTINGS = "environment", "gpus", "numpy", "scipy", "pandas", "conda"


@command(
    "ledger capture runs.ledger sqlite-tuning 1",
    "ledger capture runs.ledger sqlite-tuning 1 --only git",
    "ledger capture runs.ledger sqlite-tuning 1 --format json",
)
def capture(
    path: PathArgument,
    experiment: ExperimentArgument,
    trial: TrialNumber,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="Only this kind: environment, packages, git, script, function, command, numpy ...",
            show_default=False,
        ),
    ] = None,
    form: FormatOption = ObjectFormat.TABLE,
) -> None:
    """Show what a trial ran with.

    Environment, installed packages, state in git with the patch of what was not committed, source and command line, as
    they were captured (trial.run(capture=True)) at the start of its last attempt. Secrets were masked then.
    """
    with open_book(path) as book:
        found = recorded_experiment(book, experiment)
        state = recorded_trial(book, found, trial)
        digests = captured_of(book.log.read(stream=state.stream))
        captured = read_captures(book.log, digests)
    if only is not None and captured and only not in captured:
        raise typer.BadParameter(f"{only!r} was not captured of this trial; there are: {', '.join(captured)}.")
    chosen = {kind: content for kind, content in captured.items() if only in (None, kind)}
    if form is ObjectFormat.JSON:
        shown = {kind: {"digest": digests[kind], **to_json(content)} for kind, content in chosen.items()}
        print_json_line({"experiment": found.name, "trial_id": trial, "captured": shown})
    elif not captured:
        print(f"nothing was captured of {printable(found.name)}/{trial}. Run trials with capture=True.")
    else:
        _print(chosen)


def _print(captured: dict[str, dict[str, Any]]) -> None:
    print_fields([*_fields(captured)])
    for kind, name in _TEXTS.items():
        content = captured.get(kind, {})
        text = content.get(name) if kind == "git" else code_text(content) if content else None
        if text:
            print(f"\n{kind} {printable(str(content.get('name', name)))}:")
            for line in str(text).splitlines():
                console().print(printable(line.expandtabs()), soft_wrap=True)


def _fields(captured: dict[str, dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    for kind in sorted(captured, key=lambda kind: (kind in _TEXTS, kind == "packages", kind not in _SETTINGS, kind)):
        content = captured[kind]
        if kind == "packages":
            content = {**content, "distributions": " ".join(f"{n}=={v}" for n, v in content.get("distributions", {}).items())}
        for name, value in flat(content):
            if name != _TEXTS.get(kind):
                is_own = kind == "environment"
                yield printable(name if is_own else f"{kind}.{name}"), value
