"""What the commands do with other tools' files, by the adapters of ``ledger.integrations``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from ledger.cli.opening import open_book, progress_bar
from ledger.cli.output import ObjectFormat, print_json_line, printable
from ledger.values import check_text

if TYPE_CHECKING:
    from ledger.integrations.mlos.importer import ImportReport as MlosReport
    from ledger.integrations.mlxp import ImportReport


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
        print_json_line({**places, **_facts(report), "head": head})
        return
    counts = {"added": report.added, "brought up to date": report.changed, "known already": report.known}
    said = [f"{count:,} {what}" for what, count in counts.items() if count]
    said += [f"{len(report.skipped):,} skipped"] if report.skipped else []
    runs = f"{report.runs:,} run" + ("" if report.runs == 1 else "s")
    print(f"{runs} in {printable(source)}: {', '.join(said)}, in experiment {printable(report.experiment)} of {printable(path)}.")


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
        return
    print(_sentence(report, printable(source), printable(path)))


def _sentence(report: MlosReport, source: str, path: str) -> str:
    counts = {"added": report.added, "brought up to date": report.changed, "known already": report.known}
    said = [f"{count:,} {what}" for what, count in counts.items() if count]
    said += [f"{len(report.skipped):,} skipped"] if report.skipped else []
    trials = f"{report.trials:,} trial" + ("" if report.trials == 1 else "s")
    experiments = f"{len(report.experiments):,} experiment" + ("" if len(report.experiments) == 1 else "s")
    configs = f" {len(report.config_ids):,} of their configs have other numbers here." if report.config_ids else ""
    return f"{trials} of {experiments} in {source}: {', '.join(said) or 'none'}, in {path}.{configs}"


def _facts(report: ImportReport) -> dict[str, object]:
    problems = {"skipped": report.skipped, "problems": report.problems}
    return {
        **report._asdict(),
        "experiment_id": str(report.experiment_id),
        **{
            key: [{name: printable(text) for name, text in each._asdict().items()} for each in value]
            for key, value in problems.items()
        },
    }
