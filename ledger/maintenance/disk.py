"""The disk under a ledger, tried: what LMDB and the log rely on, in a directory of its own beside the log.

Locks must exclude, memory maps must show what is written, a rename must be one step; and writers that are killed must lose
nothing. From that, and from how long a sync takes, follows what the disk can promise.
"""

from __future__ import annotations

import fcntl
import itertools
import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from ledger.audit import verify
from ledger.backends.base import Submission
from ledger.backends.lmdb import LmdbBackend
from ledger.errors import LedgerError
from ledger.events import NoteAdded
from ledger.identity import default_actor, new_uuid7
from ledger.maintenance.finding import NOTE, OK, PROBLEM, WARNING, Finding
from ledger.partial import partial_directory

PREFIX = "trying-"
MEMORY = {"tmpfs", "ramfs"}  # file systems that end with the machine

_KILLS = 3
_APPENDS = 8  # acknowledged before a writer is killed
_CURE = "Put the ledger on a local disk with an ordinary file system (ext4, xfs, btrfs, zfs)."
_CHILD = "import sys; from ledger.maintenance.disk import append_here; append_here(sys.argv[1])"


def promise(path: Path, kind: str, sync_seconds: float, *, is_credible: bool) -> Finding:
    """Say in plain words what an acknowledged append survives here, and what it costs."""
    survives = "an append that has returned survives the end of the process, also by kill -9"
    if kind in MEMORY:
        return Finding("promise", WARNING, f"{survives}; it does not survive the machine's.", _CURE)
    if not is_credible:
        return Finding("promise", WARNING, f"{survives}; a power cut may take it, since nothing waits for the disk here.", _CURE)
    cache = _write_cache(path)
    condition = {
        "write through": ": the disk says that it holds nothing back",
        "write back": ", if the disk writes out its cache when it is told to, as it should",
    }.get(cache, ", if the disk keeps what it says that it has written")
    cost = f"It takes about {2 * sync_seconds * 1e6:,.0f} us, two syncs, which batches and threads share"
    message = f"{survives}, and a power cut{condition}. {cost}; durability='relaxed' takes one, and a power cut the last appends."
    if kind == "overlay":
        return Finding("promise", WARNING, f"{message} It goes with its container.", "Put the ledger on a volume.")
    return Finding("promise", OK, message)


def _write_cache(path: Path) -> str:
    """Return how the kernel treats the disk's cache, as far as it is known."""
    device = path.stat().st_dev
    block = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    for place in (block, block.resolve().parent):  # of a partition its disk knows
        try:
            return (place / "queue" / "write_cache").read_text().strip()
        except OSError:
            continue
    return ""


def try_disk(path: Path, *, rehearse: bool) -> Iterator[Finding]:
    """Try what the log relies on; with ``rehearse`` also kill writers of a ledger that is made for it, which takes a second."""
    try:
        with partial_directory(path, PREFIX) as place:
            yield _try_calls(place)
            if rehearse:
                yield _kill_writers(place / "rehearsal.ledger")
    except OSError as error:
        yield Finding("disk", NOTE, f"it could not be tried: {error.strerror or error}.")


def _try_calls(place: Path) -> Finding:
    trials: dict[str, Callable[[Path], bool]] = {
        "a lock does not keep others out": _locks_exclude,
        "a memory map does not show what was written": _maps_are_coherent,
        "a rename is not one step": _renames_replace,
    }
    failed = [what for what, trial in trials.items() if not trial(place)]
    if failed:
        return Finding("disk", PROBLEM, f"{'; '.join(failed)}: the log relies on it.", _CURE)
    return Finding("disk", OK, "locks keep others out, memory maps show what is written, a rename is one step.")


def _locks_exclude(place: Path) -> bool:
    with open(place / "lock", "wb") as one, open(place / "lock", "wb") as other:
        fcntl.flock(one, fcntl.LOCK_EX)
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(one, fcntl.LOCK_UN)
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False


def _maps_are_coherent(place: Path) -> bool:
    pages = 16
    with open(place / "map", "w+b") as file:
        file.truncate(pages * mmap.PAGESIZE)
        with mmap.mmap(file.fileno(), pages * mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ) as seen:
            for number in range(pages):
                os.pwrite(file.fileno(), bytes((number + 1,)) * 100, number * mmap.PAGESIZE)
                if seen[number * mmap.PAGESIZE : number * mmap.PAGESIZE + 100] != bytes((number + 1,)) * 100:
                    return False
    return True


def _renames_replace(place: Path) -> bool:
    for number in range(5):
        (place / "new").write_text(str(number))
        os.replace(place / "new", place / "log")
        if (place / "log").read_text() != str(number) or (place / "new").exists():
            return False
    return True


# ------------------------------------------------------------------------------------------------------- the rehearsal


def _kill_writers(path: Path) -> Finding:
    """Kill writers in the middle of appends, and see whether all that was acknowledged is there."""
    told = 0
    try:
        for _ in range(_KILLS):
            told = max(told, _kill_one(path))
        report = verify(path, artifacts="skip")
    except LedgerError as error:
        return Finding("kills", PROBLEM, f"a ledger made here for a trial failed: {error}", _CURE)
    if not report.ok or report.head < told:
        what = report.problems[0] if report.problems else f"it ends at position {report.head}, and {told} was acknowledged"
        return Finding("kills", PROBLEM, f"of a ledger made here, whose writers were killed: {what}", _CURE)
    message = f"{_KILLS} writers of a ledger made here were killed in the middle of appends: nothing acknowledged was lost."
    return Finding("kills", OK, message)


def _kill_one(path: Path) -> int:
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
    )  # fmt: skip
    assert child.stdout is not None
    try:
        lines = [line for line in itertools.islice(child.stdout, _APPENDS) if line.endswith(b"\n")]
    finally:
        child.kill()
        rest, said = child.communicate()
    whole = [*lines, *(line for line in rest.splitlines(keepends=True) if line.endswith(b"\n"))]
    if not whole:
        raise LedgerError(said.decode(errors="replace").strip().rpartition("\n")[2] or "the writer said nothing.")
    return int(whole[-1])


def append_here(place: str) -> None:
    """Append for ever, and print each position when it is acknowledged (the child's half of the rehearsal)."""
    backend = LmdbBackend(place)
    while True:
        identifier = new_uuid7().bytes
        submission = Submission(lambda view: [("rehearsal", NoteAdded("x" * 500))], identifier, identifier, default_actor())
        (answer,) = backend.commit([submission])
        if isinstance(answer, Exception):
            raise answer
        os.write(1, b"%d\n" % answer.position)
