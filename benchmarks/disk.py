"""The disk that the stores are on: what it is, how fast it flushes, how much they take of it."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple


class FileSystem(NamedTuple):
    """The file system of a path."""

    kind: str
    device: str
    mount: str
    options: str

    @property
    def is_memory(self) -> bool:
        """Whether it is no disk at all, so that flushing costs nothing."""
        return self.kind in ("tmpfs", "ramfs")


def filesystem_of(path: Path) -> FileSystem:
    """Return the file system that the path is on, as /proc/self/mountinfo tells it."""
    best = FileSystem("unknown", "", "", "")
    place = path.resolve()
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return best
    for line in lines:
        before, _, after = line.partition(" - ")
        mount, options = before.split()[4:6]
        kind, device, *super_options = after.split()
        if place.is_relative_to(mount) and len(mount) >= len(best.mount):
            best = FileSystem(kind, device, mount, ",".join(dict.fromkeys(",".join([options, *super_options]).split(","))))
    return best


def working_directory() -> Path:
    """Make a directory for the stores, on a disk: the temporary directory may be in memory."""
    for parent in (Path(tempfile.gettempdir()), Path.home() / ".cache", Path.cwd()):
        parent.mkdir(parents=True, exist_ok=True)
        if not filesystem_of(parent).is_memory:
            return Path(tempfile.mkdtemp(prefix="ledger-benchmarks-", dir=parent))
    return Path(tempfile.mkdtemp(prefix="ledger-benchmarks-"))


def flush_milliseconds(directory: Path, count: int = 100) -> float:
    """Return the median time of writing 4 KiB to the end of a file and flushing it."""
    times = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(count):
            begun = time.perf_counter()
            os.write(file.fileno(), b"x" * 4096)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e3


def bytes_of(directory: Path) -> int:
    """Return the bytes of all files in a directory, as the file system has set them aside for them."""
    found = 0
    for place, _, names in os.walk(directory):
        found += sum(os.lstat(Path(place) / name).st_blocks * 512 for name in names)
    return found


def copy_store(source: Path, target: Path) -> None:
    """Copy a closed store, to be written to; what it takes to write it out is not left to the measurement."""
    shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("lock.mdb"))
    os.sync()
