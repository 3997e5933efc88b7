"""The command logs: what a program that is run as a trial prints, while it runs and afterwards."""

from __future__ import annotations

import enum
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ledger.artifacts.reading import PIECE_BYTES
from ledger.cli.app import command
from ledger.cli.opening import ExperimentArgument, PathArgument, TrialNumber, find_trial, open_book
from ledger.cli.output import write_bytes
from ledger.errors import UnknownArtifact
from ledger.status import HELD
from ledger.trial import Trial
from ledger.worker.attempt import NAMESPACE

_LOOK_SECONDS = 0.2


class Stream(enum.StrEnum):
    """Which output of a program."""

    STDOUT = "stdout"
    STDERR = "stderr"


@command(
    "ledger logs runs.ledger sqlite-tuning 1",
    "ledger logs runs.ledger sqlite-tuning 1 -f",
    "ledger logs runs.ledger sqlite-tuning 1 --stream stderr --attempt 2",
)
def logs(
    path: PathArgument,
    experiment: ExperimentArgument,
    trial: TrialNumber,
    stream: Annotated[Stream, typer.Option(help="Which output.")] = Stream.STDOUT,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on while the program runs.")] = False,
    attempt: Annotated[int | None, typer.Option(min=1, help="The last one if left out.", show_default=False)] = None,
) -> None:  # fmt: skip
    """Show what the program of a trial prints.

    While it runs, on the host where `ledger worker` runs it; afterwards what was kept as an artifact. Exit code 4 when there
    is nothing (yet).
    """
    with open_book(path) as book:
        found = find_trial(book, experiment, trial)
        number = attempt or found.state.attempt
        live = _live_file(found, number, stream)
        is_shown = False
        if live is not None:
            for piece in _pieces(live, found, number, follow=follow):
                is_shown = True
                write_bytes(piece)
                sys.stdout.flush()
        else:
            is_shown = _show_kept(found, number, stream)
    if not is_shown:
        raise UnknownArtifact(f"there is no {stream} of attempt {number} of {experiment}/{trial}: nothing came, or is kept.")


def _is_running(trial: Trial, attempt: int) -> bool:
    state = trial.state
    return state.status in HELD and state.attempt == attempt


def _live_file(trial: Trial, attempt: int, stream: Stream) -> Path | None:
    state = trial.state
    known = state.attributes.get(NAMESPACE, {})
    place = known.get("directory")
    if not _is_running(trial, attempt) or known.get("attempt") != attempt or known.get("host") != os.uname().nodename:
        return None
    path = Path(str(place)) / f"{stream}.txt"
    return path if place and path.exists() else None


def _pieces(path: Path, trial: Trial, attempt: int, *, follow: bool) -> Iterator[bytes]:
    """Yield what the file holds and, to follow, what comes; the file is removed when all of it has been kept."""
    with path.open("rb") as file:
        while True:
            is_over = not follow or not path.exists() or not _is_running(trial, attempt)
            while piece := file.read(PIECE_BYTES):
                yield piece
            if is_over:
                return
            time.sleep(_LOOK_SECONDS)


def _show_kept(trial: Trial, attempt: int, stream: Stream) -> bool:
    name = f"{stream}.txt" if attempt <= 1 else f"{stream}-{attempt}.txt"
    try:
        artifact = trial.artifact(name)
    except UnknownArtifact:
        return False
    with artifact.open() as file:
        while piece := file.read(PIECE_BYTES):
            write_bytes(piece)
    return True
