"""Import: a ledger made again, exactly, from the lines of its export.

The copy is the same ledger: positions, ids, times, bytes, hashes, the root of the tree, and the ledger's own id. It is
built in a directory beside the place it is for, checked, and takes its name at the end.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple
from uuid import UUID

import msgspec

from ledger.artifacts.blobs import BlobStore
from ledger.audit import verify
from ledger.backends.directory import describe_directory
from ledger.backends.environment import Options
from ledger.backends.lmdb import LmdbBackend
from ledger.codec import decode_event
from ledger.errors import AppendError, CommandRefused, Corrupted, HandleError, InvalidValue, LedgerBusy, OpenError, ReadOnlyLedger
from ledger.events import PayloadRedacted
from ledger.format import FORMAT
from ledger.maintenance.artifacts import artifact_references, opened_copy
from ledger.partial import sync_directory
from ledger.transfer.artifacts import exported, import_artifacts
from ledger.transfer.jsonlines import Line, line_to_entry
from ledger.tree import Edge

#: A longer line than any record of 512 KiB makes in JSON.
MAX_LINE_BYTES = 16 << 20
#: What is written in one transaction.
_BATCH_RECORDS, _BATCH_BYTES = 1024, 8 << 20

Progress = Callable[[int, int], None]


class Numbered(NamedTuple):
    """A line and where it was read."""

    number: int
    line: Line


class LineReader:
    """Read the lines of an export, once, each checked; ``name`` is what messages call the file.

    Raises InvalidValue, naming file and line, for a line that is damaged or is not a record's. ``progress`` is called with
    the lines read and how many there seem to be; never where the file has no size (a pipe).

    >>> import io, ledger
    >>> list(LineReader(io.BytesIO(b"nonsense"), "a.jsonl"))
    Traceback (most recent call last):
    ...
    ledger.errors.InvalidValue: a.jsonl, line 1: it is not a line of an export: ...
    """

    def __init__(self, file: BinaryIO, name: str = "the file", progress: Progress | None = None) -> None:
        self.name = name
        self._lines = self._read(file, progress if _size_of(file) else None, _size_of(file))

    def __iter__(self) -> Iterator[Numbered]:
        return self._lines

    def peek(self) -> Numbered | None:
        """Return the next line, which will come again; None when there is none."""
        first = next(self._lines, None)
        if first is not None:
            self._lines = chain([first], self._lines)
        return first

    def _read(self, file: BinaryIO, progress: Progress | None, size: int) -> Iterator[Numbered]:
        number = done = 0
        while content := file.readline(MAX_LINE_BYTES):
            number += 1
            done += len(content)
            if content.isspace():
                continue
            try:
                if len(content) == MAX_LINE_BYTES:
                    raise InvalidValue("it is longer than any record's. Give a file that `ledger export` wrote.")
                line = line_to_entry(content)
            except InvalidValue as error:
                raise self.error(number, error) from error
            yield Numbered(number, line)
            if progress is not None and number % 256 == 0:
                progress(number, max(number, number * size // done))
        if progress is not None:
            progress(number, number)

    def error(self, number: int, error: Exception | str) -> InvalidValue:
        """Return the error that says which line is meant."""
        return InvalidValue(f"{self.name}, line {number}: {getattr(error, 'problem', error)}")


def _size_of(file: BinaryIO) -> int:
    try:
        return os.fstat(file.fileno()).st_size
    except OSError:  # not a file of the system's
        return 0


class ImportReport(NamedTuple):
    """What an import made: the ledger of that id, with ``head`` records and ``root`` as the root of its tree."""

    ledger_id: UUID
    head: int
    root: bytes


def import_lines(
    lines: LineReader, path: str | os.PathLike[str], artifacts: str | os.PathLike[str] | None = None
) -> ImportReport:
    """Make the ledger at ``path`` again from its export, as it was: positions, ids, bytes, hashes, root and ledger id.

    There must be nothing at the path, or an empty directory. Every line is checked by its hash, and the ledger is verified
    and on disk before it takes its name: what is refused or killed half-way leaves no ledger behind, only a directory
    ``.NAME.importing`` beside the path when it was killed, which the next import to the path removes.

    Lines do not carry what artifacts hold: ``artifacts`` is the directory that it was exported to.

    That a file was cut short between two lines cannot be told from the file; compare head and root with a checkpoint.

    Raises InvalidValue, naming the line, for a file that is damaged or is only a part of an export; CommandRefused when
    there is something at the path; an OpenError when no ledger can be there. Costs some 150 us a record.

    >>> import io, ledger, pathlib, tempfile
    >>> from ledger.transfer.jsonlines import export_lines
    >>> with ledger.open("memory:") as book, tempfile.TemporaryDirectory() as directory:
    ...     _ = book.log.append([ledger.NoteAdded("a")], stream="diary")
    ...     lines = b"".join(line for _, line in export_lines(book.log.backend))
    ...     report = import_lines(LineReader(io.BytesIO(lines)), pathlib.Path(directory, "copy.ledger"))
    ...     report.ledger_id == book.id, (report.head, report.root) == book.log.backend.tree_head()
    (True, True)
    """
    place = Path(os.path.realpath(path))
    _check_place(place, path)
    kept = None if artifacts is None else exported(artifacts)
    first = lines.peek()
    if first is None:
        raise InvalidValue(
            f"{lines.name} has no lines, as the export of an empty ledger has none. Make an empty one: `ledger init {path}`."
        )
    with _place_beside(place) as temporary:
        report = _build(lines, first, temporary)
        found = verify(temporary, artifacts="skip")
        if not found.ok or (found.head, found.root) != (report.head, report.root):
            problem = found.problems[0] if found.problems else "it has another root than the lines."
            raise Corrupted(f"the copy made of {lines.name} is not right: {problem}")
        if kept is not None:
            _bring_artifacts(kept, temporary)
        _sync_file(temporary / "data.mdb")
        sync_directory(temporary)
        try:
            os.rename(temporary, place)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            _check_place(place, path)
            raise
        sync_directory(place.parent)
    return report


def _check_place(place: Path, path: str | os.PathLike[str]) -> None:
    describe_directory(place, create=True)
    if place.is_dir() and any(place.iterdir()):
        raise CommandRefused(
            f"{path} is not empty: an exact copy is made where there is nothing. Give another path; or append the records to "
            "the ledger there, as new ones: --rewrite."
        )
    if place.is_dir() and place.is_mount():
        raise OpenError(
            f"{path} is where a file system is mounted; a ledger is put into place as a whole. Give a path inside it."
        )


@contextmanager
def _place_beside(place: Path) -> Iterator[Path]:
    """Yield a new directory beside the place, locked while it is ours; what is left of it at the end is removed."""
    temporary = place.with_name(f".{place.name}.importing")
    try:
        with suppress(FileExistsError):  # of an import that was killed, or of one that runs
            temporary.mkdir()
    except PermissionError as error:
        raise ReadOnlyLedger(
            f"no right to create a ledger in {place.parent}: {error.strerror}. Get the right (chmod)."
        ) from error
    descriptor = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LedgerBusy(f"another import to {place} is running. Wait until it is done.") from None
        if not temporary.exists() or not os.path.samestat(os.fstat(descriptor), temporary.stat()):
            raise LedgerBusy(f"another import to {place} has just ended. See what it made.")
        for left in temporary.iterdir():
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        try:
            yield temporary
        finally:
            if temporary.exists() and os.path.samestat(os.fstat(descriptor), temporary.stat()):
                shutil.rmtree(temporary, ignore_errors=True)
    finally:
        os.close(descriptor)


def _build(reader: LineReader, first: Numbered, place: Path) -> ImportReport:
    """Write the lines into a new ledger."""
    identity = first.line.identity
    if identity is None or first.line.envelope.position != 1:
        raise reader.error(
            first.number,
            "it is not the first line of a whole export (the record at position 1, with `ledger`). Export all of the ledger; or "
            "append these records to a ledger, as new ones: --rewrite.",
        )
    edge, redacted = Edge(), _Redacted()
    options = Options("relaxed")  # nothing is promised before the end, where all of it is brought to the disk
    backend = LmdbBackend(place, options=options, identity=msgspec.structs.replace(identity, format=FORMAT))
    try:
        for batch in _batches(_in_order(reader)):
            for each in batch:
                redacted.take(each)
            _adopt(reader, backend, batch)
            edge.extend(each.line.entry.leaf for each in batch)
    finally:
        backend.close()
    redacted.check(reader)
    return ImportReport(UUID(bytes=identity.ledger_id), edge.size, edge.root())


def _bring_artifacts(kept: BlobStore, place: Path) -> None:
    target = BlobStore(place / "blobs")
    with opened_copy(place) as backend:
        import_artifacts(artifact_references(backend, kept), kept, target)


def _in_order(reader: LineReader) -> Iterator[Numbered]:
    """Pass the lines on, whose positions rise by one."""
    for position, each in enumerate(reader, start=1):
        if each.line.envelope.position != position:
            problem = (
                f"its position is {each.line.envelope.position}, and should be {position}: a line is missing, or out of order."
            )
            raise reader.error(each.number, f"{problem} Export the ledger again, or take the file from a backup.")
        yield each


def _batches(lines: Iterable[Numbered]) -> Iterator[list[Numbered]]:
    batch: list[Numbered] = []
    size = 0
    for each in lines:
        batch.append(each)
        size += len(each.line.entry.raw)
        if len(batch) >= _BATCH_RECORDS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _adopt(reader: LineReader, backend: LmdbBackend, batch: Sequence[Numbered]) -> None:
    """Write the records in one transaction; when they are refused, one by one, to find the line that is meant."""
    try:
        backend.adopt([each.line.entry for each in batch])
    except (AppendError, HandleError, OSError, MemoryError):
        raise
    except Exception as error:  # a record that its hash proves to be as written, and that no ledger could hold
        if len(batch) > 1:
            for each in batch:
                _adopt(reader, backend, [each])
        raise reader.error(
            batch[0].number, f"it cannot follow the lines before it: {getattr(error, 'problem', error)!s}"
        ) from error


class _Redacted:
    """The redacted records for which the record that says why is still to come."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, int], int] = {}

    def take(self, each: Numbered) -> None:
        """Count one more line in."""
        envelope = each.line.envelope
        if envelope.payload_digest is not None:
            self._lines[envelope.stream, envelope.version] = each.number
        elif self._lines and envelope.type == PayloadRedacted.__name__:
            event = decode_event(envelope.type, envelope.schema, bytes(envelope.payload))
            self._lines.pop((envelope.stream, getattr(event, "version", 0)), None)

    def check(self, reader: LineReader) -> None:
        """Refuse a file that ends before the redaction of one of its records."""
        for number in self._lines.values():
            raise reader.error(
                number,
                "its record is redacted, and the redaction that says why is missing: the file was cut short. Export again.",
            )


def _sync_file(path: Path) -> None:
    """Bring the file's content to the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
