"""Doctor: is all well with a ledger, and with the machine under it; and what to do about what is not."""

from __future__ import annotations

import functools
import os
import resource
import shlex
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ledger.artifacts.blobs import SAVING
from ledger.backends.directory import PARTIALS, describe_directory, file_system, find_access, refuse_network, require_writable
from ledger.backends.exclusive import LOCK_NAME
from ledger.backends.gate import describe_process, held_seconds, lock_holders
from ledger.errors import Corrupted, LedgerBusy, LedgerError, NetworkFileSystem, NotALedger, OpenError, ReadOnlyLedger
from ledger.maintenance.child import ChildDied, call_in_child
from ledger.maintenance.disk import MEMORY, promise, try_disk
from ledger.maintenance.duplicate import check_place
from ledger.maintenance.finding import NOTE, OK, PROBLEM, WARNING, Finding
from ledger.maintenance.swap import replaced_ledgers, unsettled
from ledger.partial import abandoned, beside, in_use
from ledger.records import iso_nanoseconds

_SYNCS = 9
_FASTEST_SYNC_SECONDS = 20e-6  # no disk and no flash memory is that fast
_LITTLE_ROOM = 16 << 20
_FEW_FILES = 128
_MUCH_FREE = 0.25


def doctor(path: str | os.PathLike[str], *, rehearse: bool = False) -> list[Finding]:
    """Examine a ledger and what it depends on; return what was found, in a fixed order of subjects.

    Looks at the file system, its space and its syncs, limits, rights, locks, leftovers of what was killed, and into the
    log: every entry's checksum, LMDB's pages, readers, erasures, artifacts, times. Readers that died are cleared; nothing else is
    changed. A ``problem`` means that events cannot be read, written or kept; with a ``warning`` they may not be some day.
    No damage of the files kills the caller: it is a finding. Whether each record is what it was when it was recorded,
    ``ledger.audit.verify`` tells.

    Locks, memory maps and renames are tried in a directory of their own beside the log, which is removed again. With
    ``rehearse`` a small ledger is made there too, whose writers are killed: nothing acknowledged may be lost. It takes some
    seconds. ``promise`` says what an append survives on this disk, and what it costs.

    Raises LedgerNotFound, NotALedger or InvalidValue when there is nothing to examine. Costs about a second, and some more
    for each 100 MB of the file.

    >>> import ledger, pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = pathlib.Path(directory, "runs.ledger")
    ...     with ledger.open(path) as book:
    ...         _ = book.experiment("demo")
    ...     found = {finding.name: finding for finding in doctor(path)}
    >>> found["content"].level, found["content"].message[:26]
    ('ok', 'the log ends at position 1')
    """
    place = Path(os.path.realpath(check_place(path, "the ledger")))
    with suppress(NetworkFileSystem):  # a finding
        describe_directory(place, create=False)
    disk = functools.partial(try_disk, rehearse=rehearse)
    checks = (_file_system, _space, _sync, disk, _limits, _permissions, _handles, _gate, _leftovers, _log)
    return [finding for check in checks for finding in check(place)]


def _size(number: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:,.4g} {unit}"
        number /= 1024
    return f"{number:,.4g} TiB"


# ------------------------------------------------------------------------------------------------------- the machine


def _file_system(path: Path) -> Iterator[Finding]:
    kind = file_system(path)
    try:
        refuse_network(path)
    except NetworkFileSystem as error:
        message, _, cure = str(error).partition(". ")
        yield Finding("file_system", PROBLEM, f"{message}.", cure)
        return
    if not kind:
        yield Finding("file_system", NOTE, "the kind of the file system cannot be told here; make sure that it is a local one.")
    elif kind in MEMORY:
        yield Finding(
            "file_system", WARNING, f"{kind} keeps files in memory: they are gone when the machine restarts.",
            "Put the ledger on a disk: `ledger backup` and `ledger restore` take it there.",
        )  # fmt: skip
    else:
        yield Finding("file_system", OK, f"{kind}, a local one.")


def _space(path: Path) -> Iterator[Finding]:
    space = os.statvfs(path)
    free = space.f_bavail * space.f_frsize
    size = (path / "data.mdb").stat().st_size
    message = f"{_size(free)} are free; the log has {_size(size)}."
    if free < _LITTLE_ROOM:
        yield Finding("space", PROBLEM, f"{message} Appends are about to fail.", "Free some space; what is recorded is safe.")
    elif free < size + _LITTLE_ROOM:
        yield Finding("space", WARNING, f"{message} A compaction needs as much again.", "Free some space.")
    else:
        yield Finding("space", OK, message)


def _sync(path: Path) -> Iterator[Finding]:
    took = []
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            for _ in range(_SYNCS):
                os.pwrite(file.fileno(), b"\0" * 4096, 0)
                begun = time.perf_counter()
                os.fsync(file.fileno()) if not hasattr(os, "fdatasync") else os.fdatasync(file.fileno())
                took.append(time.perf_counter() - begun)
    except OSError as error:
        yield Finding("sync", NOTE, f"could not be measured: {error.strerror or error}.")
        return
    median = statistics.median(took)
    message = f"putting 4 KiB on disk takes {median * 1e6:,.0f} us (the median of {_SYNCS})."
    if median < _FASTEST_SYNC_SECONDS:
        yield Finding(
            "sync", WARNING, f"{message} No disk is that fast: a power cut may take events that were acknowledged.",
            "Put the ledger on a real disk, or switch on what was switched off (eatmydata, a virtual disk's unsafe cache).",
        )  # fmt: skip
    else:
        yield Finding("sync", OK, message)
    yield promise(path, file_system(path), median, is_credible=median >= _FASTEST_SYNC_SECONDS)


def _limits(path: Path) -> Iterator[Finding]:
    found = []
    size = (path / "data.mdb").stat().st_size
    largest = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if largest != resource.RLIM_INFINITY:
        level = PROBLEM if largest < size + _LITTLE_ROOM else NOTE
        found.append(Finding("limits", level, f"files may have {_size(largest)} here; the log has {_size(size)}.", "ulimit -f"))
    memory = resource.getrlimit(resource.RLIMIT_AS)[0]
    if memory != resource.RLIM_INFINITY:
        level = PROBLEM if memory < 2 * size + _LITTLE_ROOM else NOTE
        message = f"a process may map {_size(memory)} here, and maps the whole log, which has {_size(size)}."
        found.append(Finding("limits", level, message, "ulimit -v"))
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files != resource.RLIM_INFINITY and files < _FEW_FILES:
        found.append(
            Finding("limits", WARNING, f"a process may have {files} files open here; a handle needs about 8.", "ulimit -n")
        )
    for finding in found:
        cure = None if finding.level == NOTE else f"Raise the limit ({finding.cure}) for what opens the ledger."
        yield finding._replace(cure=cure)
    if not found:
        yield Finding("limits", OK, "none on the size of files and of memory.")


def _permissions(path: Path) -> Iterator[Finding]:
    try:
        require_writable(path)
    except ReadOnlyLedger as refused:
        level, said = NOTE, str(refused)
        try:
            find_access(path, readonly=True)
        except ReadOnlyLedger as unreadable:
            level, said = PROBLEM, str(unreadable)
        message, _, cure = said.partition(". ")
        yield Finding("permissions", level, f"{message}.", cure)
        return
    owners = {(path / name).stat().st_uid for name in ("data.mdb", "head", LOCK_NAME) if (path / name).exists()}
    owner = path.stat().st_uid
    if owners - {owner}:
        yield Finding(
            "permissions", WARNING,
            f"some files do not belong to the directory's owner (user {owner}), who may be locked out.",
            f"chown -R {owner} {shlex.quote(str(path))}",
        )  # fmt: skip
    elif path.stat().st_mode & 0o002:
        yield Finding(
            "permissions", WARNING, "everybody on this machine may write to the directory.", f"chmod o-w {shlex.quote(str(path))}"
        )
    else:
        yield Finding("permissions", OK, "the directory and its files can be read and written.")


# ------------------------------------------------------------------------------------------------------- the directory


def _handles(path: Path) -> Iterator[Finding]:
    holders = lock_holders(path / LOCK_NAME)
    stopped = [holder for holder in holders if holder.endswith("stopped)")]
    if stopped:
        yield Finding(
            "handles", WARNING, f"the ledger is open in {', '.join(stopped)}, and nothing can be compacted meanwhile.",
            "Continue that process (kill -CONT), or end it.",
        )  # fmt: skip
    elif holders:
        yield Finding("handles", NOTE, f"the ledger is open in {', '.join(holders)}.")
    else:
        yield Finding("handles", OK, "nobody has the ledger open.")


def _gate(path: Path) -> Iterator[Finding]:
    holders, held = lock_holders(path / "head"), held_seconds(path / "head", path / LOCK_NAME)
    if any(holder.endswith("stopped)") for holder in holders):
        since = "is held" if held is None else f"has been held for {held:,.1f} s"
        yield Finding(
            "write_lock", PROBLEM, f"the write lock {since} by {', '.join(holders)}: nobody can write.",
            "Continue that process (kill -CONT), or end it.",
        )  # fmt: skip
    elif holders:
        yield Finding("write_lock", NOTE, f"{', '.join(holders)} is writing at this moment.")
    else:
        yield Finding("write_lock", OK, "free.")


def _leftovers(path: Path) -> Iterator[Finding]:
    here = shlex.quote(str(path))
    busy = in_use(path, *PARTIALS) + in_use(path.parent, beside(path))
    left = abandoned(path, *PARTIALS) + abandoned(path.parent, beside(path)) + ([] if busy else unsettled(path))
    busy += in_use(path / "blobs", SAVING)
    left += abandoned(path / "blobs", SAVING)
    for each in busy:
        yield Finding("leftovers", NOTE, f"somebody works in {each} at this moment.")
    for each in left:
        yield Finding(
            "leftovers", WARNING, f"{each} was left by a compaction, backup, restore or save that was killed.",
            f"It goes with the next compaction: ledger compact {here}",
        )  # fmt: skip
    for each in replaced_ledgers(path):
        message = f"{each} is the ledger that a restore replaced, and kept."
        yield Finding("leftovers", NOTE, message, f"When it is not needed any more: rm -r {shlex.quote(str(each))}")
    if not (busy or left or replaced_ledgers(path)):
        yield Finding("leftovers", OK, "none.")


# ------------------------------------------------------------------------------------------------------------- the log


def _log(path: Path) -> Iterator[Finding]:
    here = shlex.quote(str(path))
    cure = f"Restore a backup (the damaged ledger is kept): ledger restore BACKUP {here} --replace"
    rung = _rung(path)  # before the log is looked at: it is rung after a commit
    try:
        facts = call_in_child("ledger.maintenance.health:look_here", str(path))
    except ChildDied as died:
        if died.was_killed:  # by a person, or for want of memory
            yield Finding("content", PROBLEM, f"not looked at: the process that did was ended ({died}).", "Try again.")
            return
        message = f"looking into data.mdb killed the process that did ({died}): the file's structure is damaged."
        yield Finding("content", PROBLEM, message, cure)
    except LedgerBusy as busy:
        message = str(busy).partition(". ")[0]
        yield Finding("content", NOTE, f"not looked at: {message}.", "Try again when it is done.")
    except (NotALedger, Corrupted) as error:
        yield Finding("content", PROBLEM, error.problem if isinstance(error, Corrupted) else str(error), cure)
    except OpenError as error:
        message, _, known = str(error).partition(". ")
        yield Finding("format", PROBLEM, f"{message}.", known or cure)
    except (LedgerError, OSError) as error:
        yield Finding("content", PROBLEM, f"the log could not be looked at: {error}.", "See the findings above.")
    else:
        yield Finding("format", OK, f"format {facts['format']}.")
        facts["rung"] = rung
        for check in _OF_FACTS:
            yield check(facts, here)


def _rung(path: Path) -> int:
    """Return the position that the doorbell was rung for last."""
    try:
        return int.from_bytes((path / "head").read_bytes()[:8], "big")
    except OSError:
        return 0


def _content(facts: dict[str, Any], here: str) -> Finding:
    if facts["bad"]:
        message = f"{facts['bad']:,} of {facts['entries']:,} entries fail their checksum, first: {facts['problem']}"
        cure = f"ledger verify {here} names what is damaged; restore a backup: ledger restore BACKUP {here} --replace"
        return Finding("content", PROBLEM, message, cure)
    return Finding("content", OK, f"the log ends at position {facts['head']:,}; its {facts['entries']:,} entries are whole.")


def _structure(facts: dict[str, Any], here: str) -> Finding:
    if facts["structure"]:
        message = f"LMDB's pages are not in order, and what is written next may go over what is in use: {facts['structure'][0]}."
        cure = f"Write nothing more. `ledger export {here}` takes out what can be read; or ledger restore BACKUP {here} --replace"
        return Finding("structure", PROBLEM, message, cure)
    return Finding("structure", OK, "each page of the file is in use, or free.")


def _doorbell(facts: dict[str, Any], here: str) -> Finding:
    if facts["on_disk"] > facts["head"]:
        message = (
            f"position {facts['on_disk']:,} was on disk once, but the log ends at {facts['head']:,}: its last events are lost, "
            "and the ledger cannot be opened."
        )
        cure = (
            "Was an older data.mdb put back? Look for the newer one, or restore a backup. To go on without the lost events, "
            "remove the file head in the ledger's directory."
        )
        return Finding("doorbell", PROBLEM, message, cure)
    if facts["rung"] > facts["head"]:
        message = (
            f"position {facts['rung']:,} was committed once, but the log ends at {facts['head']:,}: its last events are lost."
        )
        cure = (
            "A power cut may do that with durability='relaxed'; was an older data.mdb put back? "
            "Look for a newer copy; the next events will get the lost ones' positions."
        )
        return Finding("doorbell", WARNING, message, cure)
    return Finding("doorbell", OK, "the log is not older than what was committed last.")


def _map(facts: dict[str, Any], here: str) -> Finding:
    message = f"the log has {_size(facts['file_bytes'])}; {_size(facts['map_bytes'])} can be mapped at once."
    if facts["map_bytes"] < 2 * facts["file_bytes"]:
        return Finding("map", WARNING, f"{message} It cannot grow much here.", "Raise the limit on memory (ulimit -v).")
    return Finding("map", OK, message)


def _readers(facts: dict[str, Any], here: str) -> Finding:
    message = f"{facts['readers']} of {facts['max_readers']:,} places for readers are taken."
    if facts["dead_readers"]:
        message += f" {facts['dead_readers']} of them were of processes that died, and have been freed."
    if facts["staying_readers"]:
        who = ", ".join(f"{describe_process(pid)}, by {behind:,} commits" for pid, behind in facts["staying_readers"])
        message += f" Reading an old state all the time: {who}; the file grows meanwhile."
        return Finding("readers", WARNING, message, "Let that process end what it reads, or end it.")
    if facts["readers"] > facts["max_readers"] * 0.9:
        return Finding("readers", WARNING, message, "Read in fewer processes.")
    return Finding("readers", NOTE if facts["dead_readers"] else OK, message)


def _free_pages(facts: dict[str, Any], here: str) -> Finding:
    share = facts["free_bytes"] / max(facts["file_bytes"], 1)
    message = f"{_size(facts['free_bytes'])} of the file are free pages ({share:.0%})."
    if share > _MUCH_FREE and facts["free_bytes"] > _LITTLE_ROOM:
        return Finding("free_pages", NOTE, message, f"They are used again; to give them back: ledger compact {here}")
    return Finding("free_pages", OK, message)


def _erasures(facts: dict[str, Any], here: str) -> Finding:
    if facts["pending"]:
        message = f"the payloads of {facts['pending']:,} redacted records are out of the log, but may still be in its file."
        return Finding("erasures", WARNING, message, f"ledger compact {here}")
    return Finding("erasures", OK, "nothing that was redacted is in the file.")


def _artifacts(facts: dict[str, Any], here: str) -> Finding:
    if facts["lost"]:
        message = (
            f"the content of artifacts is not there, or was cut short, in {facts['lost']:,} places; first: {facts['first_lost']}"
        )
        cure = (
            f"ledger verify {here} --artifacts names all; restore a backup: ledger restore BACKUP {here} --replace; or log the "
            "same content again."
        )
        return Finding("artifacts", PROBLEM, message, cure)
    return Finding("artifacts", OK, "what records refer to is there; ledger verify --artifacts reads every byte of it.")


def _clock(facts: dict[str, Any], here: str) -> Finding:
    behind = facts["recorded_at"] - time.time_ns()
    cure = "Set the clock right (NTP); until then new records get the time of the newest."
    if behind > 1_000_000_000:
        newest = iso_nanoseconds(facts["recorded_at"])
        message = f"the clock is {behind / 1e9:,.0f} s behind the newest record, of {newest}."
        return Finding("clock", WARNING, message, cure)
    if facts["skews"]:
        return Finding("clock", NOTE, f"right now; it was behind the log {facts['skews']:,} times (`ClockSkewed` events).")
    return Finding("clock", OK, "not behind the newest record.")


_OF_FACTS: tuple[Callable[[dict[str, Any], str], Finding], ...] = (
    _content, _structure, _doorbell, _map, _readers, _free_pages, _erasures, _artifacts, _clock,
)  # fmt: skip
