"""Commands that carry records from one ledger to another: export, import, merge."""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, BinaryIO
from uuid import UUID

import typer

import ledger
from ledger.cli.adapters import import_mlos, import_mlxp, import_optuna
from ledger.cli.app import command
from ledger.cli.opening import FormatOption, PathArgument, open_book, progress_bar, recorded_experiment
from ledger.cli.output import ObjectFormat, print_json_line, printable
from ledger.errors import InvalidValue, LedgerNotFound
from ledger.partial import partial_file
from ledger.session import Ledger
from ledger.transfer.artifacts import count_artifacts, export_artifacts
from ledger.transfer.copying import rewrite_lines
from ledger.transfer.importing import LineReader, import_lines
from ledger.transfer.jsonlines import export_lines
from ledger.transfer.merging import MergeReport
from ledger.transfer.merging import merge as merge_ledgers
from ledger.values import check_text

_REPORT_EVERY = 256


class Origin(enum.StrEnum):
    """What can be imported."""

    JSONL = "jsonl"
    MLXP = "mlxp"
    MLOS = "mlos"
    OPTUNA_JOURNAL = "optuna-journal"
    OPTUNA_RDB = "optuna-rdb"


_OPTUNA = {Origin.OPTUNA_JOURNAL, Origin.OPTUNA_RDB}
#: What the options are for that are not for everything.
_ORIGINS = {
    "--rewrite": {Origin.JSONL}, "--artifacts": {Origin.JSONL}, "--experiment": {Origin.MLXP, *_OPTUNA}, "--study": _OPTUNA,
    "--step": {Origin.MLXP}, "--timezone": {Origin.MLXP}, "--keep-config-ids": {Origin.MLOS},
}  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- export


@command(
    "ledger export runs.ledger > runs.jsonl",
    "ledger export runs.ledger --experiment sqlite-tuning --output tuning.jsonl",
    "ledger export runs.ledger --output runs.jsonl --artifacts runs.artifacts",
)
def export(
    path: PathArgument,
    output: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write to this file, which appears when it is whole.", show_default=False)
    ] = None,
    after: Annotated[int, typer.Option(min=0, metavar="POSITION", help="Only records after this position.")] = 0,
    experiment: Annotated[str | None, typer.Option(help="Only this experiment and its trials.", show_default=False)] = None,
    artifacts: Annotated[
        str | None,
        typer.Option(metavar="DIRECTORY", help="Copy what artifacts hold to here, beside the lines.", show_default=False),
    ] = None,
) -> None:
    """Write the records as JSON lines.

    In order of position, and exactly: `ledger import` makes the same ledger from them again, with its ids, hashes and
    proofs. What artifacts hold is not in the lines; --artifacts copies it to a directory.
    """
    with open_book(path) as book:
        only = None if experiment is None else recorded_experiment(book, check_text(experiment, "the experiment's name")).id
        head = book.log.head
        count = 0
        with _destination(output) as file, progress_bar("exporting", output=output is None) as progress:
            for count, (position, line) in enumerate(export_lines(book.log.backend, after, only), start=1):
                file.write(line)
                if progress is not None and count % _REPORT_EVERY == 0:
                    progress(max(position - after, 0), max(head, position) - after)
        _export_artifacts(book, artifacts, after, only)
    if output is not None:
        print(f"Wrote {count:,} records to {printable(output)}.", file=sys.stderr)


def _export_artifacts(book: Ledger, directory: str | None, after: int, experiment: UUID | None) -> None:
    count = count_artifacts(book, after, experiment)
    what = f"{count:,} artifact" + ("" if count == 1 else "s")
    if directory is not None:
        copied = export_artifacts(book, check_text(directory, "--artifacts"), after, experiment)
        print(f"Copied the content of {what} to {printable(directory)}: {copied:,} blobs that were not there.", file=sys.stderr)
    elif count:
        print(f"note: the content of {what} is not in the lines; --artifacts DIRECTORY copies it beside them.", file=sys.stderr)


@contextmanager
def _destination(output: str | None) -> Iterator[BinaryIO]:
    """Yield standard output, or a file that takes its name when the block ends well."""
    if output is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with partial_file(output) as file:
        yield file


# ----------------------------------------------------------------------------------------------------------- import


_ExperimentOption = Annotated[
    str | None,
    typer.Option(
        help="mlxp: the experiment to import to; named as the directory if left out. optuna: what to call the study.",
        show_default=False,
    ),
]
_StudyOption = Annotated[str | None, typer.Option(help="optuna: only the study of this name.", show_default=False)]
_StepOption = Annotated[
    str | None,
    typer.Option(metavar="KEY", help="mlxp: the key of metrics that is the step; else the line's number.", show_default=False),
]
_TimezoneOption = Annotated[
    str | None,
    typer.Option(metavar="ZONE", help="mlxp: the zone of the runs' clocks; else that of this machine.", show_default=False),
]


@command(
    "ledger import runs.jsonl copy.ledger",
    "ledger import runs.jsonl all.ledger --rewrite",
    "ledger import logs runs.ledger --from mlxp --experiment sweep",
    "ledger import journal.log runs.ledger --from optuna-journal",
    "ledger import sqlite:///study.db runs.ledger --from optuna-rdb --study tuning",
    "ledger import mlos_bench.sqlite runs.ledger --from mlos",
    name="import",
)
def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="The file to read, - for standard input; MLXP's log directory; Optuna's journal; its database, or mlos_bench's.",
        ),
    ],
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="The ledger to write: a new one, unless --rewrite or another --from is given.")
    ],
    origin: Annotated[
        Origin, typer.Option("--from", help="What SOURCE is: JSON lines, as `ledger export` writes, or another tool's.")
    ] = Origin.JSONL,
    rewrite: Annotated[
        bool, typer.Option("--rewrite", help="Append the records to the ledger at PATH, as new ones, unless they are there.")
    ] = False,
    artifacts: Annotated[
        str | None,
        typer.Option(metavar="DIRECTORY", help="Where `ledger export --artifacts` put what they hold.", show_default=False),
    ] = None,
    experiment: _ExperimentOption = None,
    study: _StudyOption = None,
    step: _StepOption = None,
    timezone: _TimezoneOption = None,
    keep_config_ids: Annotated[
        bool, typer.Option("--keep-config-ids", help="mlos: import nothing unless configs keep the numbers that they have there.")
    ] = False,
    form: FormatOption = ObjectFormat.TABLE,
) -> None:
    """Import JSON lines, or what other tools have kept.

    From JSON lines it makes the same ledger as the exported one: ids, positions, times, hashes and proofs are equal, and every
    line is checked. It appears at PATH when it is whole; there must be nothing yet.

    With --rewrite the records are appended to a ledger that may have others, and get positions, times and hashes of their
    own; what happened when, to what and why stays. A part of an export will do. What was imported before is passed over,
    so an import that was interrupted, or an export that has grown, is simply imported again.

    With --from mlxp each run in SOURCE becomes a trial, of the run's number, of an experiment in PATH, which is made when
    there is none; with --from optuna-journal or optuna-rdb each study becomes an experiment, and its trials keep their numbers.
    Importing again adds what is new. What is broken is named on standard error and skipped.
    A study whose name another one has in PATH is refused: give it another, with --study and --experiment.

    With --from mlos SOURCE is a SQLite file of mlos_bench, or the URL of a database as SQLAlchemy knows it, and is only read.
    Its experiments keep names, trials their numbers, and configs theirs if PATH has no others. Importing again adds what is new.

    The exit code is 1 when everything was skipped, and 4 when a study was refused; the others are imported all the same.
    """
    _check_path(path)
    check_text(source, "the file's name")
    given = {"--rewrite": rewrite or None, "--artifacts": artifacts, "--experiment": experiment, "--study": study}
    _check_options(origin, {**given, "--step": step, "--timezone": timezone, "--keep-config-ids": keep_config_ids or None})
    if origin is Origin.MLOS:
        import_mlos(source, path, form, keep_config_ids=keep_config_ids)
    elif origin is Origin.MLXP:
        import_mlxp(source, path, experiment, step, timezone, form)
    elif origin in _OPTUNA:
        import_optuna(source, path, study, experiment, form, is_journal=origin is Origin.OPTUNA_JOURNAL)
    else:
        _import_jsonl(source, path, artifacts, form, rewrite=rewrite)


def _import_jsonl(source: str, path: str, artifacts: str | None, form: ObjectFormat, *, rewrite: bool) -> None:
    facts: dict[str, Any]
    name = "standard input" if source == "-" else source
    with _source(source) as file, progress_bar("importing") as progress:
        reader = LineReader(file, name, progress)
        if not rewrite:
            made = import_lines(reader, path, artifacts)
            facts = {"records": made.head, "copied": made.head, "known": 0, "head": made.head, "root": made.root.hex()}
            identifier = made.ledger_id
        else:
            reader.peek()  # a file that is none leaves no empty ledger behind
            with open_book(path, create=True) as book:
                report = rewrite_lines(reader, book, artifacts)
                size, root = book.log.backend.tree_head()
                facts, identifier = {**report._asdict(), "head": size, "root": root.hex()}, book.id
    facts = {"source": name, "path": printable(os.path.abspath(path)), "id": str(identifier), "rewrite": rewrite, **facts}
    if form is ObjectFormat.JSON:
        print_json_line(facts)
    elif rewrite:
        print(f"Appended {_count(facts['copied'])} to {printable(path)}{_known(facts['known'])}; it has {facts['head']:,} now.")
    else:
        print(f"Imported {_count(facts['head'])} to {printable(path)}: the ledger {identifier}, root {facts['root']}")


def _check_options(origin: Origin, given: dict[str, Any]) -> None:
    for name, value in given.items():
        if value is not None and origin not in _ORIGINS[name]:
            raise typer.BadParameter(f"{name} is not for --from {origin}. Leave it out.", param_hint=f"'{name}'")


def _check_path(path: str) -> None:
    if path == "memory:":
        raise InvalidValue("'memory:' would be gone when the command ends. Give the path of a directory.")
    check_text(path, "the path")
    if not path or "\0" in path:
        raise InvalidValue(f"{path!r} is no path; give the path of a directory.")


@contextmanager
def _source(source: str) -> Iterator[BinaryIO]:
    if source == "-":
        yield sys.stdin.buffer
        return
    try:
        file = open(source, "rb")  # noqa: SIM115 - what is wrong with the name is told apart from what is wrong later
    except (FileNotFoundError, NotADirectoryError):
        raise LedgerNotFound(
            f"there is no file {source}. Give one that `ledger export` wrote, or - for standard input."
        ) from None
    except IsADirectoryError:
        raise InvalidValue(
            f"{source} is a directory; give a file that `ledger export` wrote. To copy from a ledger: `ledger merge`."
        ) from None
    except (PermissionError, ValueError) as error:
        raise InvalidValue(
            f"{source!r} cannot be read: {getattr(error, 'strerror', None) or error}. Give another file."
        ) from None
    with file:
        yield file


def _count(number: int) -> str:
    return f"{number:,} record" + ("" if number == 1 else "s")


def _known(number: int) -> str:
    return f" ({number:,} were there already)" if number else ""


# ------------------------------------------------------------------------------------------------------------ merge


@command(
    "ledger merge laptop.ledger runs.ledger",
    "ledger merge laptop.ledger runs.ledger --experiment sqlite-tuning --rename sqlite-tuning=sqlite-laptop",
)
def merge(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The directory of the ledger to copy from; it is only read.")],
    path: Annotated[str, typer.Argument(metavar="PATH", help="The directory of the ledger to write to.")],
    experiment: Annotated[
        list[str] | None, typer.Option(help="Only this experiment, by name or id; repeat for more.", show_default=False)
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(metavar="OLD=NEW", help="Call an experiment otherwise in PATH; repeat for more.", show_default=False),
    ] = None,
    form: FormatOption = ObjectFormat.TABLE,
) -> None:
    """Copy experiments from one ledger to another.

    SOURCE is read, PATH is written: experiments and trials keep ids, history, actors, reasons and times. An
    ExperimentsMerged event tells where they are from. What was merged before is not copied again; when SOURCE has grown,
    what is new is.
    """
    names = dict(_rename(each) for each in rename or [])
    for each in experiment or []:
        check_text(each, "the experiment's name")
    with _open_source(source) as first, open_book(path) as book, progress_bar("merging") as progress:
        report = merge_ledgers(first, book, experiment, names, progress)
        size, root = book.log.backend.tree_head()
        facts = _merge_facts(report, source, path, str(book.id)) | {"head": size, "root": root.hex()}
    if form is ObjectFormat.JSON:
        print_json_line(facts)
    elif not report.copied:
        print(f"Nothing was copied: {printable(path)} has all of it.")
    else:
        count = len(report.experiments)
        print(
            f"Copied {_count(report.copied)} of {count:,} experiment{'' if count == 1 else 's'} to {printable(path)}; it has "
            f"{_count(facts['head'])} now."
        )


def _merge_facts(report: MergeReport, source: str, path: str, identifier: str) -> dict[str, Any]:
    return {
        "source": printable(os.path.abspath(source)),
        "source_id": str(report.source_id),
        "source_size": report.size,
        "source_root": report.root.hex(),
        "path": printable(os.path.abspath(path)),
        "id": identifier,
        "copied": report.copied,
        "experiments": [str(each) for each in report.experiments],
        "renamed": report.renamed,
        "position": report.position,
    }


def _open_source(source: str) -> Ledger:
    if source == "memory:":
        raise InvalidValue("'memory:' would be empty. Give the path of the ledger to copy from.")
    check_text(source, "the path")
    return ledger.open(source, create=False, readonly=True)


def _rename(text: str) -> tuple[str, str]:
    old, separator, new = check_text(text, "--rename").partition("=")
    if not (old and separator and new):
        raise InvalidValue(f"--rename is {text!r}; give OLD=NEW, the name in SOURCE and the name in PATH.")
    return old, new
