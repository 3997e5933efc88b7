"""The artifacts of a whole log: which blobs it needs, and a copy of them for a copy of the log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ledger.artifacts.blobs import BlobStore
from ledger.artifacts.references import TYPE, Reference, references_of
from ledger.backends.base import Backend
from ledger.backends.environment import Options
from ledger.backends.lmdb import LmdbBackend
from ledger.errors import Corrupted
from ledger.partial import sync_directory
from ledger.records import Record

_GIVE_UP = "An artifact that is lost for good is given up by redacting its record: `ledger redact`."


def artifact_records(backend: Backend, after: int = 0) -> Iterator[tuple[int, list[Record]]]:
    """Yield the records of artifacts after a position, page by page, with the position up to which none was left out."""
    while True:
        page, reached = backend.read_page(after, frozenset({TYPE}))
        if reached <= after:
            return
        yield reached, [record for record in page if record.type == TYPE]
        after = reached


def artifact_references(backend: Backend, blobs: BlobStore) -> Iterator[Reference]:
    """Yield the blobs that a log refers to, some of them more than once; ``blobs`` has the manifests of directories.

    Raises Corrupted for a manifest that cannot be read, UnsupportedFormat for an artifact of a newer version.
    """
    for _, records in artifact_records(backend):
        for record in records:
            yield from references_of(record, blobs)


def erase_artifacts(path: Path, directory: Path) -> int:
    """Remove what redacted artifacts held from the ledger at ``path``; return how many blobs. The caller has it alone.

    ``directory`` has a verified copy of its log. What another record refers to stays; what no record refers to goes as well.
    Raises Corrupted, before anything is removed, when the manifest of a directory cannot be read.
    """
    blobs = BlobStore(path / "blobs")
    with opened_copy(directory) as backend:
        if not any(record.is_redacted for _, records in artifact_records(backend) for record in records):
            return 0
        try:
            wanted = {reference.digest for reference in artifact_references(backend, blobs)}
        except Corrupted as error:
            raise Corrupted(
                f"what a directory refers to cannot be told, and nothing was erased. {error.problem} {_GIVE_UP}"
            ) from error
    count = 0
    for stored in blobs.blobs():
        if stored.digest not in wanted:
            blobs.remove(stored)
            sync_directory(stored.path.parent)
            count += 1
    return count


def copy_artifacts(source: Path, directory: Path) -> int:
    """Copy what the log in the directory, a verified copy, refers to from the ledger at ``source``; return how many blobs.

    Each is proved as it is copied; who calls holds the source's guard if others use it. What nothing refers to stays
    behind: what was redacted is not taken along. Raises Corrupted for what is missing or damaged in the source.
    """
    first, second = BlobStore(source / "blobs", readonly=True), BlobStore(directory / "blobs")
    try:
        with opened_copy(directory) as backend:
            return copy_references(artifact_references(backend, first), first, second)
    except Corrupted as error:
        raise Corrupted(f"{source}: {error.problem} {_GIVE_UP}") from error


def copy_references(found: Iterator[Reference], source: BlobStore, target: BlobStore) -> int:
    """Copy the blobs that the target lacks, each proved; return how many. They are on disk when it returns.

    Raises Corrupted for one that is missing or damaged in the source; then none is copied.
    """
    wanted = {reference.digest: reference for reference in found if target.find(reference.digest) is None}
    if not wanted:
        return 0
    with target.saving() as saving:
        for digest, size, what in wanted.values():
            saving.take(source.require(digest, size, what), size, what)
        with target.guard():
            saving.publish()
    return len(wanted)


def check_artifacts(source: Path, directory: Path) -> None:
    """Prove every blob that the log in the directory, taken from ``source``, refers to; raises Corrupted."""
    blobs = BlobStore(directory / "blobs", readonly=True)
    seen = set()
    try:
        with opened_copy(directory) as backend:
            for reference in artifact_references(backend, blobs):
                if reference.digest not in seen:
                    blobs.check(*reference)
                    seen.add(reference.digest)
    except Corrupted as error:
        raise Corrupted(error.problem.replace(str(directory), str(source))) from error


@contextmanager
def opened_copy(directory: Path) -> Iterator[Backend]:
    """Open a copy that nobody else knows of; what a handle leaves there is no part of it."""
    backend = LmdbBackend(directory, create=False, options=Options())
    try:
        yield backend
    finally:
        backend.close()
        for name in ("lock.mdb", "open.lock"):
            (directory / name).unlink(missing_ok=True)
