"""Commands that prove: verify, checkpoint."""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ledger.checkpoint import Checkpoint, read_checkpoints
from ledger.cli.app import NO, command
from ledger.cli.opening import FormatOption, PathArgument, open_book, progress_bar
from ledger.cli.output import ObjectFormat, print_json_line, printable
from ledger.errors import InvalidValue
from ledger.values import check_text


@command(
    "ledger verify runs.ledger",
    "ledger verify runs.ledger --against runs.checkpoint",
    "ledger verify runs.ledger --artifacts",
    "ledger verify runs.ledger --format json",
)
def verify(
    path: PathArgument,
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="A file of checkpoints; - is standard input. Repeat for more.", show_default=False),
    ] = None,
    artifacts: Annotated[
        bool, typer.Option("--artifacts", help="Every byte of the artifacts, too; else only that they are there.")
    ] = False,
    form: FormatOption = ObjectFormat.TABLE,
) -> None:
    """Check every byte, proof and index.

    Against checkpoints that were kept elsewhere it also finds a ledger that was put back to an older state or rewritten as
    a whole. Exits with 1 when something is wrong, after naming the first bad position.
    """
    from ledger.audit import verify as audit

    check_text(path, "the path")
    checkpoints = [checkpoint for file in against or [] for checkpoint in _read_checkpoints(file)]
    with progress_bar("verifying") as progress:
        report = audit(path, progress=progress, against=checkpoints, artifacts="content" if artifacts else "present")
    if form is ObjectFormat.JSON:
        print_json_line(
            {
                "ok": report.ok,
                "head": report.head,
                "root": report.root.hex(),
                "problems": list(report.problems),
                "checkpoints": len(checkpoints),
                "seconds": report.seconds,
            }
        )
    else:
        print_report(report, len(checkpoints))
    if not report.ok:
        raise typer.Exit(NO)


def _read_checkpoints(file: str) -> list[Checkpoint]:
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except (FileNotFoundError, IsADirectoryError, ValueError) as error:
        raise InvalidValue(f"no checkpoint can be read from {file!r}: {error}. `ledger checkpoint` makes one.") from error
    try:
        return read_checkpoints(content.decode(errors="replace"))
    except InvalidValue as error:
        raise InvalidValue(f"{file}: {error}") from error


def print_report(report: Any, checkpoints: int = 0) -> None:
    """Print the answer of a verification for people."""
    if report.ok:
        agrees = f", as {checkpoints} checkpoint{'s say' if checkpoints > 1 else ' says'}" if checkpoints else ""
        print(f"ok: all {report.head:,} records are intact{agrees} ({report.seconds:.1f} s), root {report.root.hex()}")
        return
    print(f"DAMAGED: {len(report.problems)} problem(s) in {report.head:,} records, the first one first:")
    for problem in report.problems:
        print(f"  {printable(problem)}")


@command("ledger checkpoint runs.ledger > runs.checkpoint", "ledger checkpoint runs.ledger --output runs.checkpoint")
def checkpoint(
    path: PathArgument,
    output: Annotated[
        str | None, typer.Option(metavar="FILE", help="Add it to the end of this file.", show_default=False)
    ] = None,
    form: FormatOption = ObjectFormat.TABLE,
) -> None:
    """Write size and root of the log's tree, to keep elsewhere.

    `ledger verify --against` checks a ledger against them later: records altered, taken away or put back show. The form is
    that of a C2SP checkpoint without signatures: origin, size, and root in base64.
    """
    with open_book(path) as book:
        note = book.checkpoint()
    if output is not None:
        _append(output, str(note))
    if form is ObjectFormat.JSON:
        root = base64.b64encode(note.root).decode()
        print_json_line({"ledger_id": str(note.ledger_id), "size": note.size, "root": root, "text": str(note)})
    elif output is None:
        print(note, end="")
    else:
        print(f"Added the checkpoint of {note.size:,} records to {printable(output)}.")


def _append(output: str, text: str) -> None:
    """Add a checkpoint to a file, after an empty line, on disk when it returns."""
    with open(check_text(output, "the file"), "ab") as file:
        file.write((b"\n" if file.tell() else b"") + text.encode())
        file.flush()
        os.fsync(file.fileno())
