"""File systems on a file, and groups with little memory: what the tests on request need of the machine, as root."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN are one number
_WITHOUT_THE_LOG = struct.pack("I", 2)  # as a power cut: what is not on disk is lost, the journal's tail too
_SIZES = {"ext4": 64 << 20, "xfs": 400 << 20}
_MAKE = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"]}


def _run(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")


class Disk:
    """A file system in a file, which can lose its power."""

    def __init__(self, place: Path, kind: str) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root may mount a file system")
        if shutil.which(_MAKE[kind][0]) is None:
            pytest.skip(f"{_MAKE[kind][0]} is not installed (apt-get install {'e2fsprogs' if kind == 'ext4' else 'xfsprogs'})")
        self._image, self.path = place / f"{kind}.img", place / f"{kind}.mounted"
        self.path.mkdir()
        with self._image.open("wb") as file:
            file.truncate(_SIZES[kind])
        _run(*_MAKE[kind], self._image)
        try:
            self.mount()
        except OSError as error:
            pytest.skip(f"no {kind} can be mounted on a file here: {error}")

    def mount(self, *options: str) -> None:
        """Mount it, which replays its journal."""
        _run("mount", "-o", ",".join(["loop", *options]), self._image, self.path)

    def cut_power(self) -> None:
        """Let nothing more reach the disk."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, _WITHOUT_THE_LOG)
        finally:
            os.close(fd)

    def unmount(self) -> None:
        """Take it off; nobody may use it."""
        for _ in range(50):
            try:
                return _run("umount", self.path)
            except OSError as error:
                if "not mounted" in str(error):
                    return None
                time.sleep(0.1)
        return _run("umount", self.path)

    def fail(self) -> None:
        """Let ext4 find an error, upon which it makes itself read-only."""
        device = subprocess.run(["findmnt", "-no", "SOURCE", str(self.path)], capture_output=True, text=True, check=True)
        trigger = Path("/sys/fs/ext4", Path(device.stdout.strip()).name, "trigger_fs_error")
        if not trigger.exists():
            pytest.skip(f"{trigger} is not there")
        trigger.write_text("a test")


@contextmanager
def disk(place: Path, kind: str) -> Iterator[Disk]:
    """Make a file system, and take it off at the end."""
    made = Disk(place, kind)
    try:
        yield made
    finally:
        made.unmount()


@contextmanager
def memory_disk(place: Path, size: str) -> Iterator[Path]:
    """Mount a tmpfs of a size."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    path = place / "tmpfs"
    path.mkdir()
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path)
    except OSError as error:
        pytest.skip(f"no tmpfs can be mounted here: {error}")
    try:
        yield path
    finally:
        _run("umount", path)


@contextmanager
def memory_group(limit: int) -> Iterator[Path]:
    """Make a control group with little memory; who writes a process's number into ``cgroup.procs`` puts it there."""
    name = f"ledger-torture-{os.getpid()}"
    for top, key in ((Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max")):
        group = top / name
        try:
            group.mkdir()
        except OSError:
            continue
        if (group / key).exists():
            break
        group.rmdir()
    else:
        pytest.skip("no memory control group can be made here (it takes root, and a cgroup file system)")
    try:
        (group / key).write_text(str(limit))
        yield group
    finally:
        for _ in range(50):
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.1)  # its processes are about to end
