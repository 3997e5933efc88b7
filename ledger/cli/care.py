"""Commands about the ledger as a whole: init, info, verify, export."""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO
from uuid import UUID

import typer

from ledger.cli.app import NO, command
from ledger.cli.opening import PathArgument, find_experiment, open_book, progress_bar
from ledger.cli.output import ObjectFormat, json_line, print_fields, print_json_line, printable, record_json
from ledger.errors import LedgerNotFound
from ledger.format import FORMAT
from ledger.records import iso_nanoseconds
from ledger.session import Ledger
from ledger.values import check_text

FormatOption = Annotated[ObjectFormat, typer.Option("--format", help="For people, or for programs.")]


@command("ledger init runs.ledger")
def init(path: PathArgument) -> None:
    """Create a ledger.

    One that is there already is left as it is.
    """
    try:
        with open_book(path) as book:
            print(f"{printable(path)} is a ledger already: {book.log.head:,} records, id {book.id}.")
            return
    except LedgerNotFound:
        pass  # opening it below creates it, or says why not
    with open_book(path, create=True) as book:
        print(f"Created the ledger {printable(path)}, id {book.id}.")


# ------------------------------------------------------------------------------------------------------------- info


@command("ledger info runs.ledger", "ledger info runs.ledger --format json")
def info(path: PathArgument, form: FormatOption = ObjectFormat.TABLE) -> None:
    """Say what a ledger holds."""
    with open_book(path) as book:
        facts = _facts(book, path)
    if form is ObjectFormat.JSON:
        print_json_line(facts)
        return
    trials = ", ".join(f"{count:,} {status}" for status, count in facts["trials_by_status"].items())
    print_fields(
        [
            ("ledger", facts["path"]),
            ("id", facts["id"]),
            ("format", facts["format"]),
            ("created", facts["created_at"][:19].replace("T", " ") + "Z"),
            ("records", f"{facts['records']:,}"),
            ("newest", (facts["newest_record_at"] or "")[:23].replace("T", " ")),
            ("tree", f"{facts['tree_size']:,} leaves, root {facts['tree_root']}"),
            ("experiments", f"{facts['experiments']:,}"),
            ("trials", f"{facts['trials']:,}" + (f": {trials}" if trials else "")),
            ("on disk", _size(facts["size_bytes"])),
        ]
    )


def _facts(book: Ledger, path: str) -> dict[str, Any]:
    backend: Any = book.log.backend
    size, root = backend.tree_head()
    newest = next(book.log.read(size - 1, limit=1), None) if size else None
    states = [experiment.state for experiment in book.experiments()]
    statuses = _count_statuses(book, [state.id for state in states])
    return {
        "id": str(book.id),
        "path": printable(os.path.abspath(path)),
        "format": FORMAT,
        "created_at": iso_nanoseconds(backend.identity.created_at),
        "records": size,
        "newest_record_at": None if newest is None else iso_nanoseconds(newest.recorded_at),
        "tree_size": size,
        "tree_root": root.hex(),
        "experiments": len(states),
        "trials": sum(statuses.values()),
        "trials_by_status": dict(sorted(statuses.items())),
        "size_bytes": _size_on_disk(Path(path)),
    }


def _count_statuses(book: Ledger, experiments: list[UUID]) -> Counter[str]:
    counts: Counter[str] = Counter()
    if experiments:
        from projections import Tables

        tables = Tables(book)
        for identifier in experiments:
            counts.update(str(status) for status in tables.trials(identifier)["status"])
    return counts


def _size_on_disk(path: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in path.rglob("*") if file.is_file())


def _size(number: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:,.4g} {unit}"
        number /= 1024
    return f"{number:,.1f} TiB"


# ----------------------------------------------------------------------------------------------------------- verify


@command("ledger verify runs.ledger", "ledger verify runs.ledger --format json")
def verify(path: PathArgument, form: FormatOption = ObjectFormat.TABLE) -> None:
    """Check every byte, proof and index.

    Exits with 1 when something is wrong, after naming the first bad position.
    """
    from ledger.audit import verify as audit

    check_text(path, "the path")

    with progress_bar("verifying") as progress:
        report = audit(path, progress=progress)
    if form is ObjectFormat.JSON:
        print_json_line(
            {
                "ok": report.ok,
                "head": report.head,
                "root": report.root.hex(),
                "problems": list(report.problems),
                "seconds": report.seconds,
            }
        )
    else:
        print_report(report)
    if not report.ok:
        raise typer.Exit(NO)


def print_report(report: Any) -> None:
    """Print the answer of a verification for people."""
    if report.ok:
        print(f"ok: all {report.head:,} records are intact ({report.seconds:.1f} s), root {report.root.hex()}")
        return
    print(f"DAMAGED: {len(report.problems)} problem(s) in {report.head:,} records, the first one first:")
    for problem in report.problems:
        print(f"  {printable(problem)}")


# ----------------------------------------------------------------------------------------------------------- export


@command(
    "ledger export runs.ledger > runs.jsonl",
    "ledger export runs.ledger --experiment sqlite-tuning --output tuning.jsonl",
)
def export(
    path: PathArgument,
    output: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write to this file, which appears when it is whole.", show_default=False)
    ] = None,
    after: Annotated[int, typer.Option(min=0, metavar="POSITION", help="Only records after this position.")] = 0,
    experiment: Annotated[str | None, typer.Option(help="Only this experiment and its trials.", show_default=False)] = None,
) -> None:
    """Write the records as JSON lines.

    In order of position, and exactly: what JSON cannot say is tagged, so that every event could be made again.
    """
    with open_book(path) as book:
        only = None if experiment is None else find_experiment(book, experiment).id
        head = book.log.head
        records = book.log.read(after, as_of=head, experiment=only)
        count = 0
        with _destination(output) as file, progress_bar("exporting") as progress:
            for count, record in enumerate(records, start=1):
                file.write(json_line(record_json(record)))
                if progress is not None and count % 256 == 0:
                    progress(record.position - after, head - after)
    if output is not None:
        print(f"Wrote {count:,} records to {printable(output)}.", file=sys.stderr)


@contextmanager
def _destination(output: str | None) -> Iterator[BinaryIO]:
    """Yield standard output, or a file that takes its name when the block ends well."""
    if output is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if os.path.exists(output) and not os.path.isfile(output):  # a device or a pipe: nothing to rename over
        with open(output, "wb") as file:
            yield file
        return
    directory, name = os.path.split(output)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=directory or ".")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, output)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
