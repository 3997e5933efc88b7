"""Partial directories and files: where something is made that gets its name when it is whole.

A killed process leaves its directory behind. Each is locked as long as somebody works in it, so that one that is not can
be told, and cleared away.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO


def beside(path: Path) -> str:
    """Return the beginning of the names of partial directories for what is to be at the path, in its parent.

    >>> from pathlib import Path
    >>> beside(Path("/data/runs.ledger"))
    '.runs.ledger.partial-'
    """
    return f".{path.name}.partial-"


@contextmanager
def partial_directory(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a directory to work in; it is gone, with what is still in it, when the block ends."""
    import shutil  # here, like tempfile below: `import ledger` need not pay for them

    path, fd = _make(parent, prefix)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(fd)


def _make(parent: Path, prefix: str) -> tuple[Path, int]:
    import tempfile
    from pathlib import Path

    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            fd = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue  # cleared away by another process before it could be locked
        fcntl.flock(fd, fcntl.LOCK_EX)
        if path.exists():
            return path, fd
        os.close(fd)  # cleared away by another process before it was locked


def abandoned(parent: Path, *prefixes: str) -> list[Path]:
    """Return the partial directories in which nobody works any more."""
    return [path for path in _partials(parent, prefixes) if not _is_locked(path)]


def in_use(parent: Path, *prefixes: str) -> list[Path]:
    """Return the partial directories in which somebody works at this moment."""
    return [path for path in _partials(parent, prefixes) if _is_locked(path)]


def clear_abandoned(parent: Path, *prefixes: str) -> int:
    """Remove the partial directories that killed processes left; return how many there were."""
    import shutil

    count = 0
    for path in _partials(parent, prefixes):
        fd = _take(path)
        if fd is None:
            continue
        try:  # still locked: who has made it at this moment waits for the lock, and sees that it is gone
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(fd)
        count += 1
    return count


def _partials(parent: Path, prefixes: tuple[str, ...]) -> list[Path]:
    try:
        return sorted(path for path in parent.iterdir() if path.name.startswith(prefixes) and path.is_dir())
    except OSError:  # a parent that cannot be listed has none that could be cleared away
        return []


def _is_locked(path: Path) -> bool:
    fd = _take(path)
    if fd is None:
        return True
    os.close(fd)
    return False


def _take(path: Path) -> int | None:
    """Lock a directory in which nobody works, and return its descriptor; None when it is somebody's."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None  # gone at this moment: it was somebody's
    except PermissionError:
        return None  # not this user's
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


@contextmanager
def partial_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Write a file that takes its name, and the place of what has it, when the block ends well; else nothing is left.

    A device or a pipe is written to as it is. Raises OSError that names the directory when no file can be made there.
    """
    import tempfile

    if os.path.exists(path) and not os.path.isfile(path):  # nothing to rename over
        with open(path, "wb") as file:
            yield file
        return
    directory, name = os.path.split(path)
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=directory or ".")
    except OSError as error:  # names a file that nobody has asked for
        cure = "make this directory first" if isinstance(error, FileNotFoundError) else "write to another directory"
        raise OSError(error.errno, f"{error.strerror}; {cure}", directory or ".") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def sync_directory(path: Path) -> None:
    """Make the directory's entries survive a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
