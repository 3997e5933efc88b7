"""Commands that keep a ledger: backup, restore, compact, doctor."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from ledger.cli.app import NO, command
from ledger.cli.opening import FormatOption, PathArgument, progress_bar
from ledger.cli.output import Format, ObjectFormat, console, print_fields, print_json_line, print_rows, printable

if TYPE_CHECKING:
    from ledger.maintenance.finding import Finding


_STYLES = {"ok": "green", "note": "cyan", "warning": "yellow", "problem": "bold red"}


@command("ledger backup runs.ledger monday.tar.zst", "ledger backup runs.ledger /backups/runs-monday")
def backup(
    path: PathArgument,
    destination: Annotated[
        str, typer.Argument(metavar="DESTINATION", help="A directory to be made, or a file ending in .tar or .tar.zst.")
    ],
    form: FormatOption = ObjectFormat.TABLE,
) -> None:
    """Copy a ledger while others use it, verified.

    What the destination holds is the ledger as it is at one moment, without free pages. It appears when it is whole and
    on disk, and overwrites nothing.
    """
    from ledger.maintenance.backup import backup as make_backup

    with progress_bar("verifying the copy") as progress:
        report = make_backup(path, destination, progress)
    if form is ObjectFormat.JSON:
        print_json_line(report._asdict() | {"ledger_id": str(report.ledger_id), "root": report.root.hex()})
        return
    print_fields(
        [
            ("backup", printable(report.path)),
            ("of ledger", str(report.ledger_id)),
            ("records", f"{report.head:,}, verified"),
            ("root", report.root.hex()),
            ("size", f"{report.size_bytes:,} bytes"),
            ("restore", f"ledger restore {_quoted(report.path)} PATH"),
        ]
    )


@command("ledger restore monday.tar.zst runs.ledger", "ledger restore /backups/runs-monday runs.ledger --replace")
def restore(
    source: Annotated[str, typer.Argument(metavar="BACKUP", help="What `ledger backup` made, a directory or a file.")],
    path: PathArgument,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in place of the ledger that is there, which is kept beside it.")
    ] = False,
    form: FormatOption = ObjectFormat.TABLE,
) -> None:
    """Put a backup in place, verified.

    Nothing is changed unless the backup proves to be whole.
    """
    from ledger.maintenance.backup import restore as put_back

    with progress_bar("verifying the backup") as progress:
        report = put_back(source, path, replace=replace, progress=progress)
    if form is ObjectFormat.JSON:
        print_json_line(report._asdict() | {"ledger_id": str(report.ledger_id), "root": report.root.hex()})
        return
    undo = f"ledger restore {_quoted(report.replaced)} {_quoted(report.path)} --replace" if report.replaced else ""
    print_fields(
        [
            ("restored", printable(report.path)),
            ("ledger", str(report.ledger_id)),
            ("records", f"{report.head:,}, verified"),
            ("root", report.root.hex()),
            ("kept", printable(report.replaced or "")),
            ("undo", undo),
        ]
    )


@command("ledger compact runs.ledger")
def compact(path: PathArgument, form: FormatOption = ObjectFormat.TABLE) -> None:
    """Give free pages back, and erase what was redacted.

    Nobody may have the ledger open meanwhile. Records, ids, hashes and the root stay as they are.
    """
    from ledger.maintenance.compaction import compact as write_anew

    with progress_bar("verifying the new file") as progress:
        report = write_anew(path, progress)
    if form is ObjectFormat.JSON:
        print_json_line(report._asdict() | {"ledger_id": str(report.ledger_id), "root": report.root.hex()})
        return
    print_fields(
        [
            ("compacted", printable(report.path)),
            ("records", f"{report.head:,}, verified"),
            ("root", f"{report.root.hex()}, as before"),
            ("size", f"{report.before_bytes:,} bytes before, {report.after_bytes:,} now"),
            ("erased", f"{report.erased:,} redacted payloads" if report.erased else ""),
            ("artifacts", f"{report.erased_blobs:,} blobs of redacted artifacts removed" if report.erased_blobs else ""),
        ]
    )


@command("ledger doctor runs.ledger", "ledger doctor runs.ledger --quick --format json")
def doctor(
    path: PathArgument,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the writers that are killed for a trial.")] = False,
    form: FormatOption = ObjectFormat.TABLE,
) -> None:
    """Say what is wrong around a ledger, and the cure.

    Looks at the disk, limits, locks, leftovers, readers, and every entry's checksum. Tries the disk in a directory of its
    own beside the log, also by writers that are killed, and says what it can promise. Exits with 1 when there is a problem.
    """
    from ledger.maintenance.doctor import doctor as examine
    from ledger.maintenance.finding import PROBLEM, Finding

    findings = examine(path, rehearse=not quick)
    if form is ObjectFormat.JSON:
        print_rows(Finding._fields, findings, Format.JSON)
    else:
        _print_findings(findings)
    if any(finding.level == PROBLEM for finding in findings):
        raise typer.Exit(NO)


def _print_findings(findings: list[Finding]) -> None:
    from rich.text import Text

    out = console()
    wide = max(len(finding.name) for finding in findings)
    for name, level, message, cure in findings:
        said = f"{name.replace('_', ' ').ljust(wide)}  {printable(message)}"
        out.print(Text.assemble((level.ljust(9), _STYLES[level]), said), soft_wrap=True)
        if cure:
            out.print(Text(f"{'':9}{'':{wide}}  cure: {printable(cure)}"), soft_wrap=True)


def _quoted(path: str | None) -> str:
    return printable(shlex.quote(path or ""))
