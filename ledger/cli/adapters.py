"""What the commands do with other tools' files, by the adapters of ``ledger.integrations``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from ledger.cli.opening import open_book, progress_bar
from ledger.cli.output import ObjectFormat, print_json_line, printable
from ledger.values import check_text

if TYPE_CHECKING:
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
