"""The command ``info``: what a ledger holds, how much room it takes, and what should be done about it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ledger.backends.gate import lock_holders
from ledger.census import HOUR_NS, Census, TypeCensus, rate, take_census
from ledger.cli.app import command
from ledger.cli.opening import PathArgument, open_book, progress_bar
from ledger.cli.output import ObjectFormat, print_fields, print_json_line, print_table, printable
from ledger.format import FORMAT
from ledger.records import iso_nanoseconds
from ledger.session import Ledger

#: The columns of the table of event types.
_COLUMNS = ("type", "records", "share", "size", "on disk", "ratio", "last 24 h", "per hour", "first", "last")


@command("ledger info runs.ledger", "ledger info runs.ledger --quick", "ledger info runs.ledger --format json")
def info(
    path: PathArgument,
    quick: Annotated[bool, typer.Option("--quick", help="Read no records: no trials by status, no event types.")] = False,
    form: Annotated[ObjectFormat, typer.Option("--format", help="For people, or for programs.")] = ObjectFormat.TABLE,
) -> None:
    """Say what a ledger holds, and what takes its room.

    By event type: records, sizes, compression, rates. It reads all records once, a million in about two seconds.
    """
    with open_book(path) as book:
        with progress_bar("counting") as progress:
            census = take_census(book.log.backend, quick=quick, progress=progress)
        facts = _facts(book, path, census)
    if form is ObjectFormat.JSON:
        print_json_line(facts)
        return
    print_fields(_fields(facts))
    if census.types:
        print()
        print_table(_COLUMNS, [_row(kind, census) for kind in census.types], whole="--format json")


def _facts(book: Ledger, path: str, census: Census) -> dict[str, Any]:
    """Return what JSON says; its keys are a contract."""
    backend: Any = book.log.backend
    size, root = backend.tree_head()
    newest = next(book.log.read(size - 1, limit=1), None) if size else None
    redactions = backend.redactions()
    blobs = list(backend.blobs.blobs())
    return {
        "id": str(book.id),
        "path": printable(os.path.abspath(path)),
        "format": FORMAT,
        "created_at": iso_nanoseconds(backend.identity.created_at),
        "created_by": backend.identity.created_by,
        "records": size,
        "newest_record_at": None if newest is None else iso_nanoseconds(newest.recorded_at),
        "tree_size": size,
        "tree_root": root.hex(),
        "experiments": census.experiments,
        "deleted_experiments": census.deleted_experiments,
        "paused_experiments": census.paused_experiments,
        "trials": None if census.statuses is None else census.statuses.total(),
        "deleted_trials": census.deleted_trials,
        "trials_by_status": census.statuses,
        "size_bytes": _size_on_disk(Path(path)),
        "file_bytes": census.file_bytes,
        "log_bytes": census.log_bytes,
        "index_bytes": census.index_bytes,
        "free_bytes": census.free_bytes,
        "blobs": len(blobs),
        "blob_bytes": sum(stored.size for stored in blobs),
        "blocks": census.blocks,
        "sealed_records": census.sealed_records,
        "unsealed_records": census.unsealed_records,
        "redactions": redactions.total,
        "pending_erasures": redactions.pending,
        "open_by": _others(Path(path)),
        "types": None if census.types is None else [_type_facts(kind) for kind in census.types],
    }


def _type_facts(kind: TypeCensus) -> dict[str, Any]:
    return {
        "type": kind.type,
        "records": kind.records,
        "record_bytes": kind.record_bytes,
        "stored_bytes": round(kind.stored_bytes),
        "ratio": kind.ratio,
        "first_at": iso_nanoseconds(kind.first_at),
        "last_at": iso_nanoseconds(kind.last_at),
        "records_per_hour": kind.per_hour,
        "last_24_hours": kind.last_day,
    }


def _others(path: Path) -> list[str]:
    """Name the other processes that have the ledger open, as far as the platform tells."""
    own = (f"process {os.getpid()} ", f"this process ({os.getpid()})")
    return sorted({printable(holder) for holder in lock_holders(path / "open.lock") if not f"{holder} ".startswith(own)})


def _size_on_disk(path: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in path.rglob("*") if file.is_file())


# --------------------------------------------------------------------------------------------------------- for people


def _fields(facts: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return what people read, a name and a text each; empty ones are left out."""
    return [
        ("ledger", facts["path"]),
        ("id", facts["id"]),
        ("format", facts["format"]),
        ("created", f"{_moment(facts['created_at'])} by {facts['created_by']}"),
        ("records", f"{facts['records']:,}: {facts['sealed_records']:,} compressed, {facts['unsealed_records']:,} not yet"),
        ("newest", _moment(facts["newest_record_at"])),
        ("tree", f"{facts['tree_size']:,} leaves, root {facts['tree_root']}"),
        ("experiments", _with_deleted(f"{facts['experiments']:,}", facts["deleted_experiments"])),
        ("paused", f"{facts['paused_experiments']:,} experiment(s)" if facts["paused_experiments"] else ""),
        ("trials", _trials(facts)),
        ("on disk", size_text(facts["size_bytes"])),
        ("data.mdb", _room(facts)),
        ("artifacts", f"{facts['blobs']:,} blobs, {size_text(facts['blob_bytes'])}" if facts["blobs"] else ""),
        ("open by", "; ".join(facts["open_by"])),
        ("redacted", f"{facts['redactions']:,} payloads" if facts["redactions"] and not facts["pending_erasures"] else ""),
        ("erasure", _pending(facts)),
    ]


def _room(facts: dict[str, Any]) -> str:
    parts = {"records": "log_bytes", "indexes": "index_bytes", "free": "free_bytes"}
    return f"{size_text(facts['file_bytes'])}: " + ", ".join(f"{name} {size_text(facts[key])}" for name, key in parts.items())


def _moment(iso: str | None) -> str:
    return "" if iso is None else iso[:19].replace("T", " ") + "Z"


def _with_deleted(text: str, deleted: int | None) -> str:
    return f"{text} (and {deleted:,} deleted)" if deleted else text


def _trials(facts: dict[str, Any]) -> str:
    if facts["trials"] is None:
        return ""
    counts = ", ".join(f"{count:,} {status}" for status, count in facts["trials_by_status"].items())
    return _with_deleted(f"{facts['trials']:,}" + (f": {counts}" if counts else ""), facts["deleted_trials"])


def _pending(facts: dict[str, Any]) -> str:
    count = facts["pending_erasures"]
    if not count:
        return ""
    what = "1 payload redacted, its bytes are" if count == 1 else f"{count:,} payloads redacted, their bytes are"
    return f"pending: {what} still in the file; run `ledger compact {facts['path']}`"


def _row(kind: TypeCensus, census: Census) -> tuple[str, ...]:
    total = sum(each.record_bytes for each in census.types or [])
    return (
        printable(kind.type),
        f"{kind.records:,}",
        f"{100 * kind.record_bytes / total:.1f} %",
        size_text(kind.record_bytes),
        size_text(kind.stored_bytes),
        f"{kind.ratio:.1f}x",
        f"{kind.last_day:,}",
        _rate_text(kind),
        _moment(iso_nanoseconds(kind.first_at)),
        _moment(iso_nanoseconds(kind.last_at)),
    )


def _rate_text(kind: TypeCensus) -> str:
    """Return how often the type came while it came; for less than an hour a rate would say more than is known."""
    span = kind.last_at - kind.first_at
    per_hour = rate(kind.records, span, HOUR_NS)
    return "" if per_hour is None or span < HOUR_NS else f"{per_hour:,.0f}" if per_hour >= 10 else f"{per_hour:,.2g}"


def size_text(number: float) -> str:
    """Return a size as people read it.

    >>> size_text(512), size_text(1536), size_text(3 * 1024**3)
    ('512 bytes', '1.5 KiB', '3 GiB')
    """
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:,.0f} bytes" if unit == "bytes" else f"{number:,.4g} {unit}"
        number /= 1024
    return f"{number:,.1f} TiB"
