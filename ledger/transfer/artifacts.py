"""What artifacts hold, on its way with the records that refer to it: lines of JSON do not carry it, merges do.

Beside an export it is a directory of blobs, laid out as in a ledger.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from ledger import events as ev
from ledger.artifacts.blobs import BlobStore
from ledger.artifacts.references import Reference, references_of
from ledger.errors import Corrupted, InvalidValue
from ledger.maintenance.artifacts import copy_references

if TYPE_CHECKING:
    from ledger.session import Ledger


def references_in(book: Ledger, after: int = 0, experiment: UUID | None = None) -> Iterator[Reference]:
    """Yield what the records after a position, all or those of an experiment and its trials, refer to."""
    for record in book.log.read(after=after, experiment=experiment, types=[ev.ArtifactLogged]):
        yield from references_of(record, book.log.backend.blobs)


def count_artifacts(book: Ledger, after: int = 0, experiment: UUID | None = None) -> int:
    """Return how many artifacts the records after a position tell of; redacted ones do not count."""
    records = book.log.read(after=after, experiment=experiment, types=[ev.ArtifactLogged])
    return sum(bool(getattr(record.event, "digest", "")) for record in records)


def export_artifacts(book: Ledger, directory: str | os.PathLike[str], after: int = 0, experiment: UUID | None = None) -> int:
    """Copy what exported records refer to into a directory, which may hold some of it already; return how many blobs.

    Each is proved. Raises Corrupted for what is missing or damaged in the ledger, and InvalidValue for a directory that is
    none, or is a ledger.
    """
    place = Path(directory)
    if (place.exists() and not place.is_dir()) or (place / "data.mdb").exists():
        raise InvalidValue(f"{place} is a file or a ledger; give a directory for the artifacts, there already or not.")
    source = book.log.backend.blobs
    with source.guard():
        return copy_references(references_in(book, after, experiment), source, BlobStore(place))


def exported(directory: str | os.PathLike[str]) -> BlobStore:
    """Return the blobs beside an export; raises InvalidValue when there are none."""
    store = BlobStore(Path(directory), readonly=True)
    if not store.directory.is_dir():
        raise InvalidValue(f"there is no directory {store.directory}. Give the one that `ledger export --artifacts` wrote.")
    return store


def references_beside(store: BlobStore) -> list[Reference]:
    """Return all that there is beside an export, whatever refers to it."""
    return [
        Reference(stored.digest, None if stored.is_compressed else stored.size, f"the artifact's content at {stored.path}")
        for stored in store.blobs()
    ]


def import_artifacts(found: Iterator[Reference], source: BlobStore, target: BlobStore) -> int:
    """Copy what imported records refer to from beside the export; return how many blobs. Raises InvalidValue for a lack."""
    try:
        return copy_references(found, source, target)
    except Corrupted as error:
        raise InvalidValue(
            f"{source.directory} does not hold all that the records refer to: {error.problem} Export the artifacts again, all of "
            "them: `ledger export --artifacts`."
        ) from error


@contextmanager
def carrying(found: Sequence[Reference], source: BlobStore, target: BlobStore) -> Iterator[None]:
    """Copy blobs that the target lacks, and keep them there while the block appends the records that refer to them."""
    if not found:
        yield
        return
    with source.guard(), target.guard():
        copy_references(iter(found), source, target)
        yield
