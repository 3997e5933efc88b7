"""Backup and restore: a copy that has proved to be whole before it gets its name, and the way back.

A backup is made while others go on writing. It is a directory, which is a ledger itself and can be opened, or one file.
Its records, ids and hashes are those of the ledger at one moment, so that its root proves that it is.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from ledger.artifacts.blobs import BlobStore
from ledger.backends.directory import describe_directory, refuse_network, require_writable
from ledger.backends.exclusive import hold_exclusively
from ledger.errors import InvalidValue, LedgerNotFound, NetworkFileSystem, NotALedger
from ledger.maintenance.archive import is_archive_name, pack, unpack
from ledger.maintenance.artifacts import check_artifacts, copy_artifacts
from ledger.maintenance.duplicate import (
    Progress,
    check_duplicate,
    check_place,
    check_room,
    duplicate_log,
    read_id,
    size_of,
    sync_tree,
    telling_of_trouble,
)
from ledger.maintenance.swap import clear_leftovers, replace_ledger
from ledger.partial import beside, clear_abandoned, partial_directory, sync_directory


class BackupReport(NamedTuple):
    """What was backed up: the log of ``ledger_id`` up to position ``head``, whose Merkle tree has this ``root``."""

    path: str
    ledger_id: UUID
    head: int
    root: bytes
    size_bytes: int
    seconds: float


def backup(source: str | os.PathLike[str], destination: str | os.PathLike[str], progress: Progress | None = None) -> BackupReport:
    """Copy a ledger, as it is at one moment, to a directory or to one file (``*.tar``, ``*.tar.zst``).

    Others may go on writing. The copy is compact: no byte of a redacted payload is in it, and no artifact that nothing
    refers to. It is verified in full, as ``ledger.audit.verify`` does, every byte of the artifacts included, and is on disk,
    before it appears under its name; what is at that name already is never touched. A directory is a ledger itself; one
    file may also be put on a network file system. ``progress`` is called with the records verified and their number.

    Raises an OpenError when there is no ledger, InvalidValue for a destination that cannot be, Corrupted when the ledger
    is damaged, DiskFull or OSError when the copy cannot be written; then nothing is left of it. Costs about as much as a
    verification, and for one file twice the space while it is made.

    >>> import ledger, pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = pathlib.Path(directory, "runs.ledger")
    ...     with ledger.open(path) as book:
    ...         _ = book.experiment("demo")
    ...         report = backup(path, pathlib.Path(directory, "monday"))
    ...         report.root == book.log.backend.tree_head()[1]
    True
    """
    begun = time.monotonic()
    origin = check_place(source, "the ledger")
    target = check_place(destination, "the destination")
    is_file = is_archive_name(target)
    describe_directory(origin, create=False)
    _check_destination(origin, target, is_file=is_file)
    clear_abandoned(target.parent, beside(target))
    needed = (origin / "data.mdb").stat().st_size
    with (
        telling_of_trouble(target.parent, needed),
        partial_directory(target.parent, beside(target)) as partial,
        _place_for_copy(partial) as place,
        BlobStore(origin / "blobs", readonly=True).guard(),  # until what the log refers to is copied, too
    ):
        made = place / "ledger"
        made.mkdir()
        copied = duplicate_log(origin, made, progress=progress)
        copy_artifacts(origin, made)  # after the log: what it names was there before it
        sync_tree(made)
        if is_file:
            pack(made, partial / "archive", is_compressed=target.name.endswith(".zst"))
            made = partial / "archive"
        size = size_of(made)
        publish(made, target)
    return BackupReport(str(destination), copied.ledger_id, copied.head, copied.root, size, time.monotonic() - begun)


def _check_destination(origin: Path, target: Path, *, is_file: bool) -> None:
    if os.path.lexists(target):
        raise InvalidValue(f"{target} is there already, and a backup overwrites nothing. Give another name, or move it away.")
    if not target.parent.is_dir():
        raise InvalidValue(
            f"the directory {target.parent} does not exist, so {target.name} cannot be put there. Create it first."
        )
    if target.resolve().is_relative_to(origin.resolve()):
        raise InvalidValue(f"{target} is inside the ledger itself, and would go with it. Give a place outside of {origin}.")
    if not is_file:
        try:
            refuse_network(target.parent)
        except NetworkFileSystem:
            raise NetworkFileSystem(
                f"{target.parent} is on a network file system, where a ledger's directory cannot be opened and verified. "
                f"Make it one file there: {target.name}.tar.zst."
            ) from None


@contextmanager
def _place_for_copy(partial: Path) -> Iterator[Path]:
    """Yield where the copy is made that is verified: a network file system can take the file only."""
    try:
        refuse_network(partial)
        local = True
    except NetworkFileSystem:
        local = False
    if local:
        yield partial
        return
    with tempfile.TemporaryDirectory(prefix="ledger-backup-") as place:
        yield Path(place)


def publish(made: Path, target: Path) -> None:
    """Give what was made its name, on disk; raises InvalidValue when something else got that name first."""
    try:
        if made.is_dir():
            made.rename(target)  # only over an empty directory, of all that could be there
        else:
            _name_file(made, target)
    except (FileExistsError, NotADirectoryError) as error:
        raise _taken(target) from error
    except OSError as error:
        if os.path.lexists(target):
            raise _taken(target) from error
        raise
    sync_directory(target.parent)


def _taken(target: Path) -> InvalidValue:
    return InvalidValue(f"{target} was made by somebody else meanwhile, and nothing is overwritten. Give another name.")


def _name_file(made: Path, target: Path) -> None:
    try:
        os.link(made, target)  # unlike a renaming, it cannot overwrite
    except FileExistsError:
        raise
    except OSError:  # file systems of memory sticks have no links
        if os.path.lexists(target):
            raise FileExistsError(str(target)) from None
        made.rename(target)


# ---------------------------------------------------------------------------------------------------------- restore


class RestoreReport(NamedTuple):
    """What was restored; ``replaced`` is where the ledger is kept that was at the path before."""

    path: str
    ledger_id: UUID
    head: int
    root: bytes
    size_bytes: int
    replaced: str | None
    seconds: float


def restore(
    backup: str | os.PathLike[str], path: str | os.PathLike[str], *, replace: bool = False, progress: Progress | None = None
) -> RestoreReport:
    """Put a backup, a directory or one file, in place as a ledger.

    It is verified in full before anything is put in place. Nothing may be at the path, or an empty directory; unless
    ``replace`` is true: then the ledger that is there is kept, as the directory ``PATH.replaced-TIME`` beside it, which is
    a ledger, too, and restoring it from there undoes the replacement. That needs the ledger alone: nobody may have it
    open. ``progress`` is called with the records verified and their number.

    Raises LedgerNotFound, NotALedger or Corrupted for what is no whole backup, InvalidValue for a path that is taken,
    LedgerBusy when the ledger is open somewhere, DiskFull or OSError when there is no room; then nothing was changed.
    Costs about as much as a verification, and the space of another copy.

    >>> import ledger, pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path, monday = pathlib.Path(directory, "runs.ledger"), pathlib.Path(directory, "monday.tar")
    ...     with ledger.open(path) as book:
    ...         _ = book.experiment("demo")
    ...     report = backup(path, monday)
    ...     restore(monday, pathlib.Path(directory, "again.ledger")).root == report.root
    True
    """
    begun = time.monotonic()
    origin = check_place(backup, "the backup")
    target = Path(os.path.realpath(check_place(path, "the ledger")))
    if not origin.exists():
        raise LedgerNotFound(f"there is no backup at {origin}. Check the path.")
    if not (origin.is_dir() or origin.is_file()):
        raise NotALedger(f"{origin} is neither a directory nor a file. Give what `ledger backup` made.")
    if target.exists() and origin.samefile(target):
        raise InvalidValue(f"{target} is the backup and the place to restore it to. Give two different paths.")
    is_taken = _check_target(target, replace=replace)
    with telling_of_trouble(target.parent, size_of(origin)):
        put = _replace if is_taken else _create
        restored, replaced = put(origin, target, progress)
    kept = None if replaced is None else str(replaced)
    return RestoreReport(str(path), *restored, size_of(target), kept, time.monotonic() - begun)


def _check_target(target: Path, *, replace: bool) -> bool:
    """Say whether there is a ledger at the path; raise when something must not be replaced."""
    if not target.exists():
        if not target.parent.is_dir():
            raise InvalidValue(
                f"the directory {target.parent} does not exist, so {target.name} cannot be put there. Create it first."
            )
        refuse_network(target.parent)
        return False
    describe_directory(target, create=True)
    if not any(target.iterdir()):
        return False
    if not replace:
        raise InvalidValue(
            f"{target} holds a ledger already. Give another path, or ask to replace it (--replace, replace=True): "
            "then the one that is there is kept beside it."
        )
    require_writable(target)
    return True


def _fetch(origin: Path, directory: Path, progress: Progress | None) -> tuple[UUID, int, bytes]:
    """Bring the backup's files into an empty directory and verify them."""
    if origin.is_dir():
        describe_directory(origin, create=False)
        copied = duplicate_log(origin, directory, progress=progress)
        copy_artifacts(origin, directory)
        sync_tree(directory)
        return copied.ledger_id, copied.head, copied.root
    unpack(origin, directory, lambda size: check_room(directory, size))
    head, root = check_duplicate(origin, directory, progress)
    check_artifacts(origin, directory)
    return read_id(directory), head, root


def _create(origin: Path, target: Path, progress: Progress | None) -> tuple[tuple[UUID, int, bytes], None]:
    clear_abandoned(target.parent, beside(target))
    with partial_directory(target.parent, beside(target)) as partial:
        made = partial / "ledger"
        made.mkdir()
        restored = _fetch(origin, made, progress)
        publish(made, target)
    return restored, None


def _replace(origin: Path, target: Path, progress: Progress | None) -> tuple[tuple[UUID, int, bytes], Path | None]:
    with hold_exclusively(target, "restoring over a ledger"):
        clear_leftovers(target)
        with partial_directory(target, "restoring-") as partial:
            made = partial / "ledger"
            made.mkdir()
            restored = _fetch(origin, made, progress)
            return restored, replace_ledger(made, target)
