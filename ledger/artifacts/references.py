"""References: which blobs a record needs, and whether they are there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ledger import events as ev
from ledger.artifacts.blobs import BlobStore
from ledger.artifacts.manifest import read_manifest
from ledger.errors import Corrupted, UnsupportedFormat
from ledger.records import Record
from ledger.registry import Event, UnknownEvent

TYPE = "ArtifactLogged"


class Reference(NamedTuple):
    """A blob that is needed; of a manifest the size is not known. ``what`` is what messages call it."""

    digest: str
    size: int | None
    what: str


def references(event: Event, blobs: BlobStore, place: str) -> Iterator[Reference]:
    """Return the blobs that an event refers to: none, unless it is an artifact; of a directory the manifest comes first.

    Raises Corrupted for a directory whose manifest cannot be read, UnsupportedFormat for an artifact of a newer version.
    """
    if isinstance(event, UnknownEvent) and event.type == TYPE:
        raise UnsupportedFormat(
            f"{place} is an artifact that this version cannot read ({event.problem}). Upgrade: pip install -U experiment-ledger."
        )
    if not isinstance(event, ev.ArtifactLogged) or not event.digest:
        return
    what = f"the artifact {event.name!r} ({place})"
    is_directory = event.kind == "directory"
    yield Reference(event.digest, None if is_directory else event.size, what)
    if is_directory:
        for entry in read_manifest(blobs, event.digest, what):
            if entry.digest:
                yield Reference(entry.digest, entry.size, f"{entry.path!r} of {what}")


def references_of(record: Record, blobs: BlobStore) -> Iterator[Reference]:
    """Return the blobs that a record refers to; as ``references``."""
    return references(record.event, blobs, f"position {record.position}")


class ReferenceCheck:
    """Check that what records refer to is there; with ``content``, that every byte of it is right, each blob once."""

    def __init__(self, blobs: BlobStore, *, content: bool) -> None:
        self._blobs, self._content = blobs, content
        self._checked: set[bytes] = set()

    def problems(self, record: Record) -> Iterator[str]:
        """Return what is wrong with the blobs of a record."""
        try:
            for reference in references_of(record, self._blobs):
                try:
                    self._check(reference)
                except Corrupted as error:
                    yield error.problem
        except (Corrupted, UnsupportedFormat) as error:  # a manifest: the rest of the directory is not known
            yield error.problem if isinstance(error, Corrupted) else str(error)

    def _check(self, reference: Reference) -> None:
        key = bytes.fromhex(reference.digest)
        if key in self._checked:
            return
        if self._content:
            self._blobs.check(*reference)
            self._checked.add(key)
        else:
            self._blobs.require(*reference)
