"""Duplicates of a log: written entry by entry into a file of their own, and checked before anybody gets them.

LMDB has a copy of its own, also a compact one. It is not used: it copies pages, and a page of a live value may carry, in
the part that the value does not fill, bytes of what was in memory before. Of redacted payloads 1,523 pieces were found in
such a copy. Written entry by entry there is none, the file is smaller, and it takes no longer.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import lmdb
import msgspec

from ledger.audit import verify
from ledger.backends.environment import Environment, Options
from ledger.backends.length import find_cut
from ledger.errors import Corrupted, DiskFull, InvalidValue, LedgerError, NotALedger, OpenError, ReadOnlyLedger
from ledger.format import HEAD_KEY, IDENTITY_KEY, Checks, Head, read_identity
from ledger.maintenance.child import ChildDied, call_in_child
from ledger.partial import sync_directory
from ledger.tree import Edge
from ledger.values import check_text

_CHUNK_BYTES = 32 << 20  # per transaction of the copy
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LITTLE_ROOM = 1 << 20

Progress = Callable[[int, int], None]


class Duplicated(NamedTuple):
    """What a duplicate holds, and what of it was not erased yet in the file it was made from."""

    ledger_id: UUID
    head: int
    root: bytes
    pending: int  # redactions whose payload may still have been in the source's file


def check_place(path: str | os.PathLike[str], what: str) -> Path:
    """Return the absolute path; raises InvalidValue for what can be none.

    >>> check_place("memory:", "the ledger")
    Traceback (most recent call last):
        ...
    ledger.errors.InvalidValue: the ledger is 'memory:', which has no files. Give the path of a directory.
    """
    text = os.fspath(path)
    if isinstance(text, bytes):
        raise InvalidValue(f"the path of {what} is bytes ({text!r}); give a str: os.fsdecode(path).")
    if text == "memory:" or "://" in text:
        raise InvalidValue(f"{what} is {text!r}, which has no files. Give the path of a directory.")
    check_text(text, f"the path of {what}")
    if not text or "\0" in text:
        raise InvalidValue(f"{what} is {text!r}, which is no path. Give one.")
    return Path(text).absolute()


# --------------------------------------------------------------------------------------------------------- the log


def duplicate_log(source: Path, directory: Path, *, is_alone: bool = False, progress: Progress | None = None) -> Duplicated:
    """Copy the log of a ledger into an empty directory, verify the copy in full, and put it on disk.

    The copy is of one moment; others may go on writing, unless ``is_alone`` says that the caller has the ledger for
    itself. No byte of a redacted payload is in it. ``progress`` is called with the records verified and their number.

    Raises an OpenError when there is no ledger, Corrupted when it is damaged, DiskFull or OSError when the copy cannot be
    written. Runs in child processes, so that no damage kills the caller.
    """
    try:
        answer = call_in_child(
            "ledger.maintenance.duplicate:duplicate_here", str(source), str(directory), "alone" if is_alone else ""
        )
    except ChildDied as died:
        if died.was_killed:  # by a person, or for want of memory
            raise LedgerError(f"{source}: the process that copied it was ended ({died}). Nothing was changed.") from None
        raise Corrupted(f"{source}: the copy died ({died}): the file's structure is damaged.") from None
    made = Duplicated(UUID(answer["ledger_id"]), answer["head"], bytes.fromhex(answer["root"]), answer["pending"])
    head, root = check_duplicate(source, directory, progress)
    if (head, root) != (made.head, made.root):
        raise Corrupted(f"{source}: its copy ends at position {head} with another root than the log at {made.head}.")
    return made


def check_duplicate(source: Path, directory: Path, progress: Progress | None) -> tuple[int, bytes]:
    """Verify the ledger in the directory and leave only what belongs to a copy there; return its head and root.

    Problems are told as those of what it was made from.
    """
    try:
        report = verify(directory, progress, artifacts="skip")  # they are not there yet
    except OpenError as error:
        raise type(error)(str(error).replace(str(directory), str(source))) from None
    report._replace(path=str(source)).raise_for_problem()
    for name in ("lock.mdb", "open.lock"):
        (directory / name).unlink(missing_ok=True)
    (directory / "head").write_bytes(report.head.to_bytes(8, "big"))
    sync_tree(directory)
    return report.head, report.root


def duplicate_here(source: str, directory: str, alone: str) -> dict[str, Any]:
    """Copy the entries in this process (the child's half of ``duplicate_log``)."""
    with _reading(Path(source), is_alone=bool(alone)) as txn:
        value = txn.get(IDENTITY_KEY)
        if value is None:
            raise NotALedger(f"{source} holds an LMDB database that is not a ledger. Give the path of a ledger.")
        identity = read_identity(value, source)
        checks = Checks(identity.ledger_id)
        value = txn.get(HEAD_KEY)
        head = Head() if value is None else msgspec.msgpack.decode(checks.open_meta(HEAD_KEY, value), type=Head)
        marked = msgspec.structs.replace(head, erased=head.redactions)
        replaced = {HEAD_KEY: checks.seal_meta(HEAD_KEY, msgspec.msgpack.encode(marked))}
        _write(_chunks(txn, replaced), Path(source), Path(directory))
    root = Edge(head.position, head.edge).root()
    return {
        "ledger_id": str(UUID(bytes=identity.ledger_id)),
        "head": head.position,
        "root": root.hex(),
        "pending": head.redactions - head.erased,
    }


@contextmanager
def _reading(source: Path, *, is_alone: bool) -> Iterator[Any]:
    """Hold a read transaction on the ledger."""
    if not is_alone:
        environment = Environment.acquire(source, Options(), create=False, readonly=True)
        try:
            with environment.read() as txn:
                yield txn
        finally:
            environment.release()
        return
    try:  # the caller has the directory's lock, so that a handle could not be had; and nobody writes
        size = (source / "data.mdb").stat().st_size
        with lmdb.open(str(source), readonly=True, lock=False, create=False, map_size=size) as env:
            if cut := find_cut(env, source / "data.mdb"):
                raise Corrupted(f"{cut}.")
            with env.begin() as txn:
                yield txn
    except (lmdb.InvalidError, lmdb.VersionMismatchError) as error:
        raise NotALedger(f"{source / 'data.mdb'} is not a ledger's file ({error}). Give the path of a ledger.") from error
    except lmdb.Error as error:
        raise Corrupted(f"LMDB cannot read {source}: {error}.") from error


def _chunks(txn: Any, replaced: dict[bytes, bytes]) -> Iterator[list[tuple[bytes, bytes]]]:
    """Yield all entries in order, some megabytes at a time."""
    items: list[tuple[bytes, bytes]] = []
    size = 0
    for key, value in txn.cursor():
        items.append((key, replaced.get(key, value)))
        size += len(value)
        if size > _CHUNK_BYTES:
            yield items
            items, size = [], 0
    yield items


def _write(chunks: Iterator[list[tuple[bytes, bytes]]], source: Path, directory: Path) -> None:
    size = (source / "data.mdb").stat().st_size
    room = size * 2 + (64 << 20)  # of address space
    try:
        # Nobody else knows of this file, and it is synced as a whole before anybody does.
        env = lmdb.open(str(directory), map_size=room, lock=False, sync=False, metasync=False)
    except lmdb.Error as error:
        raise _not_written(error, directory, size) from error
    with env:
        for items in chunks:
            try:
                with env.begin(write=True) as txn:
                    _, added = txn.cursor().putmulti(items, append=True)
            except lmdb.KeyExistsError:
                added = -1
            except lmdb.Error as error:
                raise _not_written(error, directory, size) from error
            if added != len(items):
                raise Corrupted(f"{source}: its entries are out of order: the file's structure is damaged.")
        try:
            env.sync(True)
        except lmdb.Error as error:
            raise _not_written(error, directory, size) from error


# -------------------------------------------------------------------------------------------------------- no room


def _not_written(error: lmdb.Error, directory: Path, needed: int) -> Exception:
    space = os.statvfs(directory)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    free = space.f_bavail * space.f_frsize
    limited = limit != resource.RLIM_INFINITY and limit < needed + _LITTLE_ROOM
    if isinstance(error, lmdb.DiskError) or free < _LITTLE_ROOM or limited:  # it calls a write that was cut short an I/O error
        return no_space(_place_of(directory), needed)
    return OSError(errno.EIO, f"the copy could not be written ({error})", str(_place_of(directory)))


def _place_of(directory: Path) -> Path:
    """Return the directory that people know: that of the partial directory in which the copy is made."""
    return directory.parent.parent


def no_space(directory: Path, needed: int) -> DiskFull:
    """Return the error for a disk without the room for a copy."""
    return DiskFull(
        f"no space left in {directory} for a copy of up to {needed:,} bytes (or a quota or ulimit forbids it). "
        "Nothing was changed. Free some space, and try again.", None,
    )  # fmt: skip


def check_room(directory: Path, needed: int) -> None:
    """Raise DiskFull when the file system has not as many bytes left."""
    space = os.statvfs(directory)
    if space.f_bavail * space.f_frsize < needed:
        raise no_space(_place_of(directory), needed)


@contextmanager
def telling_of_trouble(directory: Path, needed: int) -> Iterator[None]:
    """Turn what the system says of a full disk or a missing right into DiskFull or ReadOnlyLedger, with the cure."""
    try:
        yield
    except LedgerError:
        raise
    except PermissionError as error:
        raise ReadOnlyLedger(
            f"no right to write to {error.filename or directory}: {error.strerror}. Get the right (chmod), or give another place."
        ) from error
    except OSError as error:
        if error.errno == errno.EROFS:
            raise ReadOnlyLedger(f"{directory} is on a read-only mount. Give another place.") from error
        if error.errno in _FULL:
            raise no_space(directory, needed) from error
        raise


# ------------------------------------------------------------------------------------------------------ other files


def read_id(directory: Path) -> UUID:
    """Return the id of a ledger that nobody else has, and that has been verified."""
    size = (directory / "data.mdb").stat().st_size
    with lmdb.open(str(directory), readonly=True, lock=False, map_size=size) as env, env.begin() as txn:
        return UUID(bytes=read_identity(txn.get(IDENTITY_KEY) or b"", str(directory)).ledger_id)


def copy_files(source: Path, directory: Path, copy: Callable[[Path, Path], object] = shutil.copy2) -> None:
    """Copy the regular files below a directory that are not at the other place already; nothing where there is none.

    For files that never change under their name. One that goes meanwhile is left out.
    """
    for folder, _, names in os.walk(source):
        target = directory / Path(folder).relative_to(source)
        target.mkdir(parents=True, exist_ok=True)
        for name in names:
            file = Path(folder, name)
            if file.is_symlink() or not file.is_file() or (target / name).exists():
                continue
            try:
                copy(file, target / name)
            except FileNotFoundError:
                if file.exists():
                    raise


def link_or_copy(source: Path, target: Path) -> None:
    """Give the file a second name; where the file system has no such thing, copy it."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copy2(source, target)


def sync_tree(directory: Path) -> None:
    """Put everything below the directory, and its names, on disk."""
    for folder, _, names in os.walk(directory, topdown=False):
        for name in names:
            fd = os.open(Path(folder, name), os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        sync_directory(Path(folder))


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a directory."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
