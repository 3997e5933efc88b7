"""Swapping a ledger's file for another, so that a kill at any step leaves the old one or the new one, whole.

What is swapped away by a restore is kept. It is first given a second name in a directory ``.NAME.replacing-TIME`` beside
the ledger; when the new file is in place, that directory becomes ``NAME.replaced-TIME``. Until then the two names are of
one file, which nobody may open twice; hence the hidden name. ``clear_leftovers`` ends what a kill has interrupted.

The caller has the directory alone.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from contextlib import suppress
from pathlib import Path

from ledger.artifacts.blobs import SAVING
from ledger.backends.directory import PARTIALS
from ledger.maintenance.duplicate import copy_files, link_or_copy, sync_tree
from ledger.partial import beside, clear_abandoned, partial_directory, sync_directory


def swap_log(made: Path, path: Path) -> None:
    """Put the file, which is on disk, in place of the ledger's log."""
    log = path / "data.mdb"
    if log.exists():
        _give_rights(made, log.stat())
    os.replace(made, log)
    sync_directory(path)
    # The readers in LMDB's lock file were those of the other file. Who opens next makes it anew.
    (path / "lock.mdb").unlink(missing_ok=True)
    sync_directory(path)


def _give_rights(made: Path, old: os.stat_result) -> None:
    """Let those use the new file who could use the old one, whoever runs this."""
    os.chmod(made, stat.S_IMODE(old.st_mode))
    new = made.stat()
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        with suppress(PermissionError):  # only root may give files away
            os.chown(made, old.st_uid, old.st_gid)
    fd = os.open(made, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_ledger(made: Path, path: Path) -> Path | None:
    """Put a restored ledger's files in place of those at the path; return where the old ones are kept, if there were any."""
    if (path / "data.mdb").exists():
        _set_aside(path)
    drop_caches(path)
    _put_blobs(made / "blobs", path / "blobs")
    (path / "head").unlink(missing_ok=True)  # it remembers the end of the old log, which may be beyond that of the new one
    swap_log(made / "data.mdb", path)
    (path / "head").write_bytes((made / "head").read_bytes())
    kept = settle(path)
    return kept[-1] if kept else None


def _put_blobs(made: Path, directory: Path) -> None:
    """Put restored blobs, which have proved right, in their places, over what has the same name and may be damaged."""
    for file in sorted(made.rglob("*")):
        if file.is_file():
            place = directory / file.relative_to(made)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, place)
    if directory.exists():
        sync_tree(directory)


def drop_caches(path: Path) -> None:
    """Remove the read side's tables: they are of the log as it was, and are made again when they are asked for."""
    if (path / "projections").is_dir():
        shutil.rmtree(path / "projections")


def _prefix(path: Path) -> str:
    return f".{path.name}.replacing-"


def _set_aside(path: Path) -> None:
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for number in range(1, 1000):
        stamp = now if number == 1 else f"{now}-{number}"
        hidden = path.parent / f"{_prefix(path)}{stamp}"
        if not hidden.exists() and not _kept_name(hidden, path).exists():
            break
    with partial_directory(path.parent, beside(path)) as partial:
        old = partial / "ledger"
        old.mkdir()
        link_or_copy(path / "data.mdb", old / "data.mdb")
        copy_files(path / "blobs", old / "blobs", link_or_copy)
        if (path / "head").exists():
            shutil.copy2(path / "head", old / "head")
        shutil.copystat(path, old)
        sync_tree(old)
        old.rename(hidden)
    sync_directory(path.parent)


def _kept_name(hidden: Path, path: Path) -> Path:
    return path.parent / f"{path.name}.replaced-{hidden.name.removeprefix(_prefix(path))}"


def unsettled(path: Path) -> list[Path]:
    """Return the directories of replacements that were interrupted (or are under way)."""
    try:
        return sorted(each for each in path.parent.iterdir() if each.name.startswith(_prefix(path)) and each.is_dir())
    except OSError:
        return []


def replaced_ledgers(path: Path) -> list[Path]:
    """Return the ledgers that restores have replaced, and kept."""
    try:
        return sorted(each for each in path.parent.iterdir() if each.name.startswith(f"{path.name}.replaced-"))
    except OSError:
        return []


def settle(path: Path) -> list[Path]:
    """End each replacement: give what was swapped away its name, remove what was not; return what was named."""
    kept = []
    for hidden in unsettled(path):
        if (path / "data.mdb").exists() and os.path.samefile(hidden / "data.mdb", path / "data.mdb"):
            shutil.rmtree(hidden)  # a second name only: the swap did not happen
        else:
            hidden.rename(_kept_name(hidden, path))
            kept.append(_kept_name(hidden, path))
        sync_directory(path.parent)
    return kept


def clear_leftovers(path: Path) -> int:
    """Remove, or end, what killed compactions, backups, restores and saves of this ledger left; return how many there were."""
    count = len(unsettled(path))
    settle(path)
    count += clear_abandoned(path, *PARTIALS) + clear_abandoned(path.parent, beside(path))
    return count + clear_abandoned(path / "blobs", SAVING)
