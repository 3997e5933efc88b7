"""Commands about artifacts: artifacts, gc."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ledger import events as ev
from ledger.artifacts.artifact import Artifact, latest
from ledger.artifacts.reading import PIECE_BYTES
from ledger.cli.app import command
from ledger.cli.completion import complete_experiments
from ledger.cli.info import size_text
from ledger.cli.opening import FormatOption as ObjectFormatOption
from ledger.cli.opening import Names, PathArgument, TrialArgument, find_experiment, open_book, progress_bar
from ledger.cli.output import Format, ObjectFormat, print_json_line, print_rows, printable, write_bytes
from ledger.errors import InvalidValue
from ledger.integrations.optuna.artifact_index import removals
from ledger.maintenance.garbage import GRACE_SECONDS, GarbageReport
from ledger.records import iso_nanoseconds
from ledger.session import Ledger
from ledger.streams import subject_of
from ledger.values import check_text

_COLUMNS = (
    "experiment", "trial", "name", "kind", "size", "saver", "files", "attempt", "version", "logged_at", "media_type", "digest",
)  # fmt: skip
_MOST_SHOWN = 20


@command(
    "ledger artifacts runs.ledger",
    "ledger artifacts runs.ledger sqlite-tuning 1 --format json",
    "ledger artifacts runs.ledger sqlite-tuning 1 --get model.bin --to model.bin",
    "ledger artifacts runs.ledger sqlite-tuning 1 --get stdout.txt --to -",
)
def artifacts(
    path: PathArgument,
    experiment: Annotated[
        str | None,
        typer.Argument(
            metavar="EXPERIMENT", help="Only of this experiment and its trials.", autocompletion=complete_experiments,
            show_default=False,
        ),
    ] = None,
    trial: TrialArgument = None,
    get: Annotated[
        str | None, typer.Option(metavar="NAME", help="Get this one out, of the experiment or the trial.", show_default=False)
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Where to: a new file or directory, or - for standard output.", show_default=False),
    ] = None,
    version: Annotated[
        int | None, typer.Option(min=1, help="Of that name, the one logged with this version.", show_default=False)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Those that were replaced, removed or deleted as well.")] = False,
    form: Annotated[Format, typer.Option("--format", help="For people, or for programs.")] = Format.TABLE,
) -> None:  # fmt: skip
    """List artifacts, or get one out.

    What is got out is proved first: its bytes are those that were saved. A directory comes with its files and links.
    """
    with open_book(path) as book:
        if get is None:
            if to is not None or version is not None:
                raise typer.BadParameter("--to and --version go with --get NAME.")
            print_rows(_COLUMNS, _rows(book, experiment, trial, everything=everything, form=form), form)
            return
        if experiment is None or to is None:
            raise typer.BadParameter("--get NAME needs EXPERIMENT, and --to FILE (or --to - for standard output).")
        owner: Any = find_experiment(book, experiment)
        owner = owner if trial is None else owner.trial(trial)
        _get_out(owner.artifact(check_text(get, "the artifact's name"), version=version), check_text(to, "--to"))


def _rows(book: Ledger, experiment: str | None, trial: int | None, *, everything: bool, form: Format) -> Iterator[list[Any]]:
    found = None if experiment is None else find_experiment(book, experiment)
    stream = None if found is None or trial is None else found.trial(trial).stream
    names = Names(book)
    for artifact in _artifacts(book, None if stream or found is None else found.id, stream, everything=everything):
        subject = subject_of(artifact.stream)
        assert subject is not None  # artifacts are of experiments and trials
        size = size_text(artifact.size) if form is Format.TABLE else artifact.size
        yield [
            names(subject.experiment_id), subject.trial_id, artifact.name, artifact.kind, size, artifact.saver,
            artifact.files or None, artifact.attempt or None, artifact.version, iso_nanoseconds(artifact.recorded_at),
            artifact.media_type, artifact.digest,
        ]  # fmt: skip


def _artifacts(book: Ledger, experiment: Any, stream: str | None, *, everything: bool) -> Iterator[Artifact]:
    """Yield those that count, of what is live, in order of their streams' first one; or all, in order of the log."""
    records = book.log.read(experiment=experiment, stream=stream, types=[ev.ArtifactLogged])
    made = ((r.position, Artifact.of_record(book.log.backend.blobs, r)) for r in records if getattr(r.event, "digest", ""))
    if everything:
        yield from (artifact for _, artifact in made)
        return
    removed = removals(book.log)
    by_stream: dict[str, list[Artifact]] = {}
    for position, artifact in made:
        if position > removed.get(artifact.name, 0):
            by_stream.setdefault(artifact.stream, []).append(artifact)
    for name, several in by_stream.items():
        if _is_live(book, name):
            yield from latest(several).values()


def _is_live(book: Ledger, stream: str) -> bool:
    subject = subject_of(stream)
    if subject is None:
        return False
    with book.log.backend.view() as view:
        experiment = view.experiment(subject.experiment_id)
        trial = None if subject.trial_id is None else view.trial(subject.experiment_id, subject.trial_id)
    return all(state is None or state.deleted_at is None for state in (experiment, trial))


def _get_out(artifact: Artifact, to: str) -> None:
    if to != "-":
        with progress_bar("writing", unit="bytes") as progress:
            place = artifact.save_to(Path(to), progress=progress)
        print(f"Wrote {printable(str(place))}: {size_text(artifact.size)}, as they were saved.")
        return
    if artifact.kind == "directory":
        raise InvalidValue(f"{printable(artifact.name)} is a directory, which standard output cannot take. Give --to DIRECTORY.")
    with artifact.open() as file:
        while piece := file.read(PIECE_BYTES):
            write_bytes(piece)


@command("ledger gc runs.ledger --dry-run", "ledger gc runs.ledger", "ledger gc runs.ledger --grace 0")
def gc(
    path: PathArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing, and say what would be.")] = False,
    grace: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Leave what is younger than this.")
    ] = GRACE_SECONDS,
    form: ObjectFormatOption = ObjectFormat.TABLE,
) -> None:  # fmt: skip
    """Remove artifacts' content that no record refers to.

    That is what killed saves left behind, and what was redacted. Whatever a record refers to stays, also one of a trial that
    was deleted, or of a name that was used again. Others may go on recording meanwhile.
    """
    with open_book(path) as book, progress_bar("collecting", unit="blobs") as progress:
        report = book.collect_garbage(grace_seconds=grace, dry_run=dry_run, progress=progress)
    if form is ObjectFormat.JSON:
        removed = [{"digest": each.digest, "bytes": each.size, "path": printable(str(each.path))} for each in report.removed]
        print_json_line({**report._asdict(), "removed": removed})
        return
    _print_report(report)


def _print_report(report: GarbageReport) -> None:
    verb = "Would remove" if report.is_dry_run else "Removed"
    size = sum(each.size for each in report.removed)
    left = f", and what {_count(report.leftovers, 'killed save')} left" if report.leftovers else ""
    print(f"{verb} {_count(len(report.removed), 'blob')} ({size_text(size)}) that no record refers to{left}.")
    for each in report.removed[:_MOST_SHOWN]:
        print(f"  {each.digest}  {size_text(each.size)}")
    if len(report.removed) > _MOST_SHOWN:
        print(f"  and {len(report.removed) - _MOST_SHOWN:,} more (--format json has all)")
    young = f"; {_count(report.young, 'younger one')} left for now (--grace)" if report.young else ""
    print(f"Kept {_count(report.kept, 'blob')} ({size_text(report.kept_bytes)}) that records refer to{young}.")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
