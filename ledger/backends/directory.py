"""The ledger's directory: what is at a path, and whether LMDB may live there."""

from __future__ import annotations

import enum
import errno
import os
import re
import shlex
from typing import TYPE_CHECKING

from ledger.errors import LedgerNotFound, NetworkFileSystem, NotALedger, OpenError, ReadOnlyLedger

if TYPE_CHECKING:
    from pathlib import Path


#: What a ledger's directory may hold; anything else in a directory without data.mdb belongs to somebody.
KNOWN_NAMES = frozenset({"data.mdb", "lock.mdb", "head", "open.lock", "blobs", "projections"})
#: Beginnings of the names of directories in it where a compaction, a restore, the doctor or whoever creates the ledger works,
#: or worked when it was killed.
PARTIALS = ("compacting-", "restoring-", "creating-", "trying-")

_NETWORK = frozenset(
    {
        "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs",
        "nfs4", "ocfs2", "orangefs", "smb2", "smb3", "smbfs",
    }
)  # fmt: skip
_LOCAL_FUSE = frozenset({"fuseblk", "fusectl", "fuse.fuse-overlayfs", "fuse.gocryptfs", "fuse.lxcfs"})


_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
_OCTAL = r"\\([0-7]{3})"  # how the kernel writes spaces and backslashes there


def describe_directory(path: Path, *, create: bool) -> tuple[int, int] | None:
    """Return (device, inode) of the ledger's directory; None when it is to be created.

    Raises LedgerNotFound, NotALedger or NetworkFileSystem.
    """
    if not path.exists():
        if not create:
            raise LedgerNotFound(f"there is no ledger at {path}. Check the path, or create one: `ledger init {path}`.")
        if not path.parent.is_dir():
            raise LedgerNotFound(
                f"the directory {path.parent} does not exist, so {path.name} cannot be created in it. Create it first."
            )
        refuse_network(path.parent)
        return None
    if not path.is_dir():
        raise NotALedger(f"{path} is a file; a ledger is a directory. Give the path of a ledger, or of one to be created.")
    names = set(os.listdir(path))
    if "data.mdb" not in names:
        strangers = sorted(name for name in names - KNOWN_NAMES if not name.startswith(PARTIALS))
        if strangers:
            raise NotALedger(f"{path} is a directory without data.mdb that holds {strangers[0]!r}. Give another path.")
        if not create:
            raise LedgerNotFound(f"{path} is an empty directory, not a ledger. Create one there: `ledger init {path}`.")
    refuse_network(path)
    stat = path.stat()
    return stat.st_dev, stat.st_ino


def put_empty_log(path: Path) -> None:
    """Put a log without entries in place, whole: what LMDB would leave after a power cut may be no file of its own.

    When another process is first, its log stays. Raises OpenError or OSError when it cannot be written.
    """
    import lmdb  # here, like what follows: whoever only looks for a ledger need not pay for it

    from ledger.partial import clear_abandoned, partial_directory

    clear_abandoned(path, "creating-")
    with partial_directory(path, "creating-") as partial:
        try:
            lmdb.open(str(partial), lock=False).close()
        except lmdb.Error as error:
            raise OpenError(f"no ledger could be made at {path}: {error}. Look at the disk, or give another path.") from error
        fd = os.open(partial / "data.mdb", os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        try:
            os.link(partial / "data.mdb", path / "data.mdb")
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise  # else LMDB makes the file itself


def is_read_only(path: Path) -> bool:
    """Say whether the directory is on a read-only mount, or on a file system that made itself read-only upon an error."""
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return True
    try:  # ext4 does not tell of it: opening something that is there shows it
        os.close(os.open(path / "open.lock", os.O_RDWR))
    except OSError as error:
        return error.errno == errno.EROFS
    return False


class Access(enum.Enum):
    """How a process may use a ledger's directory."""

    WRITE = enum.auto()
    READ = enum.auto()  # with LMDB's locks, for somebody else may write
    READ_UNLOCKED = enum.auto()  # where nobody can write, nor lock


def find_access(path: Path, *, readonly: bool) -> Access:
    """Return how the directory can be used; ``readonly``: that it can be read is enough. Raises ReadOnlyLedger."""
    if not readonly or not path.exists():
        require_writable(path)
        return Access.WRITE
    if is_read_only(path):
        return Access.READ_UNLOCKED
    if _unwritable(path) is None:
        return Access.WRITE
    for name, mode, letters in (("lock.mdb", os.R_OK | os.W_OK, "rw"), ("open.lock", os.R_OK, "r"), ("data.mdb", os.R_OK, "r")):
        if not os.access(path / name, mode):
            raise ReadOnlyLedger(
                f"no right to {'write to' if letters == 'rw' else 'read'} {path / name}, which readers need: LMDB notes in its "
                "lock file who reads. Its owner can give that and no more "
                f"(`chmod a+{letters} {shlex.quote(str(path / name))}`); or copy the ledger to a directory of your own."
            )
    return Access.READ


def require_writable(path: Path) -> None:
    """Raise ReadOnlyLedger unless this process may write in the directory."""
    place = path if path.exists() else path.parent
    if is_read_only(place):
        raise ReadOnlyLedger(f"{place} is on a read-only mount. Open the ledger with readonly=True to read it.")
    if file := _unwritable(path):
        raise ReadOnlyLedger(
            f"no right to write to {file}. Get the right (chmod), open the ledger with readonly=True to read it, or copy it to a "
            "directory of your own."
        )


def _unwritable(path: Path) -> Path | None:
    """Return what of a ledger's directory this process may not write to."""
    place = path if path.exists() else path.parent
    files = [place, *(path / name for name in ("data.mdb", "lock.mdb", "head", "open.lock") if (path / name).exists())]
    return next((file for file in files if not os.access(file, os.W_OK | (os.X_OK if file.is_dir() else 0))), None)


def refuse_network(path: Path) -> None:
    """Raise NetworkFileSystem when the path is on one: LMDB's locks and memory maps do not work across machines."""
    kind = file_system(path)
    if kind in _NETWORK or (kind.startswith("fuse") and kind not in _LOCAL_FUSE):
        raise NetworkFileSystem(
            f"{path} is on a network file system ({kind}), where LMDB would lose data. "
            "Put the ledger on a local disk, and export or back it up from there."
        )


def file_system(path: Path) -> str:
    """Return the type of the file system that holds the path, as Linux names it; empty where it cannot be told."""
    try:
        with open("/proc/self/mountinfo", errors="surrogateescape") as mounts:
            lines = mounts.read().splitlines()
    except OSError:
        return ""
    place = str(path.resolve())
    best, kind = "", ""
    for line in lines:
        left, _, right = line.partition(" - ")
        mount = re.sub(_OCTAL, lambda match: chr(int(match[1], 8)), left.split()[4])
        inside = place == mount or place.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, right.split()[0]
    return kind
