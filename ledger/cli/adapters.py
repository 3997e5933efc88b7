"""What the commands do with other tools' files, by the adapters of ``ledger.integrations``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import typer

from ledger.cli.app import NO, REFUSED
from ledger.cli.opening import open_book, progress_bar
from ledger.cli.output import ObjectFormat, print_json_line, printable
from ledger.errors import InvalidValue
from ledger.values import check_text

if TYPE_CHECKING:
    from ledger.integrations.mlos.importer import ImportReport as MlosReport


def import_mlxp(
    source: str, path: str, experiment: str | None, step: str | None, timezone: str | None, form: ObjectFormat
) -> None:  # fmt: skip
    """Import runs of MLXP, and print what became of them."""
    from ledger.integrations.mlxp import check_source, import_runs

    for text, what in ((experiment, "--experiment"), (step, "--step"), (timezone, "--timezone")):
        check_text(text or "", what)
    check_source(source, timezone)  # before a ledger is made
    with open_book(path, create=True) as book:
        with progress_bar("importing", unit="runs") as progress:
            report = import_runs(source, book, experiment, step=step, timezone=timezone, progress=progress)
        head, identifier = book.log.head, str(book.id)
    for what, problems in (("skipped", report.skipped), ("note", report.problems)):
        for each in problems:
            print(f"{what}: run {printable(each.run)}: {printable(each.problem)}", file=sys.stderr)
    if form is ObjectFormat.JSON:
        places = {"source": printable(os.path.abspath(source)), "path": printable(os.path.abspath(path)), "id": identifier}
        facts = {**report._asdict(), "experiment_id": str(report.experiment_id), **_problems(report)}
        print_json_line({**places, **facts, "head": head})
    else:
        runs = f"{report.runs:,} run" + ("" if report.runs == 1 else "s")
        said = _said(report, len(report.skipped))
        print(f"{runs} in {printable(source)}: {said}, in experiment {printable(report.experiment)} of {printable(path)}.")
    _end(report.runs, len(report.skipped))


def import_optuna(
    source: str, path: str, study: str | None, experiment: str | None, form: ObjectFormat, *, is_journal: bool
) -> None:  # fmt: skip
    """Import studies of Optuna, and print what became of them."""
    from ledger.integrations.optuna.requirement import require

    try:
        require("reading studies of Optuna")
    except ImportError as error:
        raise InvalidValue(f"{error} Nothing was imported.") from None
    from optuna import logging

    from ledger.integrations.optuna.importing import import_source, selected
    from ledger.integrations.optuna.journal_file import read_journal
    from ledger.integrations.optuna.rdb import read_rdb
    from ledger.integrations.optuna.source import in_shell

    logging.set_verbosity(logging.WARNING)  # what is done is said at the end
    for text, what in ((experiment, "--experiment"), (study, "--study")):
        check_text(text or "", what)
    with progress_bar("reading", unit="entries") as progress:
        read = read_journal(source, progress) if is_journal else read_rdb(source)
    selected(read, study, experiment, in_shell)  # before a ledger is made
    with open_book(path, create=True) as book:
        with progress_bar("importing", unit="trials") as progress:
            report = import_source(read, book, study=study, name=experiment, progress=progress, wording=in_shell)
        head, identifier = book.log.head, str(book.id)
    for what, problems in (("refused", report.refused), ("skipped", report.skipped), ("note", report.problems)):
        for each in problems:
            whose = f"study {printable(each.study)}: " if each.study else ""
            print(f"{what}: {whose}{printable(each.problem)}", file=sys.stderr)
    if form is ObjectFormat.JSON:
        places = {"source": printable(read.place), "path": printable(os.path.abspath(path)), "id": identifier}
        studies = [printable(name) for name in report.studies]
        print_json_line({**places, **report._asdict(), "studies": studies, **_problems(report), "head": head})
    else:
        count = f"{len(report.studies):,} stud{'y' if len(report.studies) == 1 else 'ies'}"
        trials = f"{report.trials:,} trial" + ("" if report.trials == 1 else "s")
        ignored = f" ({report.rejected:,} entries that Optuna itself ignores)" if report.rejected else ""
        said = f"{_said(report, report.left_out)}, in {printable(path)}{ignored}"
        print(f"{count} with {trials} in {printable(read.place)}: {said}.")
    if report.refused:
        raise typer.Exit(REFUSED)
    _end(report.trials, report.left_out)


def _said(report: Any, skipped: int) -> str:
    counts = {"added": report.added, "brought up to date": report.changed, "known already": report.known, "skipped": skipped}
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "nothing added"


def _end(count: int, skipped: int) -> None:
    """Exit with 1 when everything was skipped."""
    if 0 < count <= skipped:
        raise typer.Exit(NO)


def import_mlos(source: str, path: str, form: ObjectFormat, *, keep_config_ids: bool) -> None:
    """Import the experiments of a database of mlos_bench, and print what became of them."""
    from ledger.integrations.mlos.database import Database
    from ledger.integrations.mlos.importer import import_database

    Database(source).close()  # before a ledger is made
    with open_book(path, create=True) as book:
        with progress_bar("importing", unit="trials") as progress:
            report = import_database(source, book, keep_config_ids=keep_config_ids, progress=progress)
        head, identifier = book.log.head, str(book.id)
    for what, problems in (("skipped", report.skipped), ("note", report.problems)):
        for each in problems:
            trial = "" if each.trial is None else f", trial {each.trial}"
            print(f"{what}: {printable(each.experiment)}{trial}: {printable(each.problem)}", file=sys.stderr)
    if form is ObjectFormat.JSON:
        facts = report._asdict() | {
            name: [each._asdict() for each in getattr(report, name)] for name in ("skipped", "problems")
        }  # fmt: skip
        places = {"source": printable(source), "path": printable(os.path.abspath(path)), "id": identifier}
        print_json_line({**places, **facts, "config_ids": {str(k): v for k, v in report.config_ids.items()}, "head": head})
    else:
        print(_sentence(report, printable(source), printable(path)))
    _end(report.trials, len(report.skipped))


def _sentence(report: MlosReport, source: str, path: str) -> str:
    trials = f"{report.trials:,} trial" + ("" if report.trials == 1 else "s")
    experiments = f"{len(report.experiments):,} experiment" + ("" if len(report.experiments) == 1 else "s")
    configs = f" {len(report.config_ids):,} of their configs have other numbers here." if report.config_ids else ""
    return f"{trials} of {experiments} in {source}: {_said(report, len(report.skipped))}, in {path}.{configs}"


def _problems(report: Any) -> dict[str, object]:
    return {
        key: [{name: printable(text) for name, text in each._asdict().items()} for each in value]
        for key, value in report._asdict().items()
        if key in ("refused", "skipped", "problems")
    }
