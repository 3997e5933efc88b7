"""The machine, and the versions of everything that was measured on it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import subprocess
from pathlib import Path

import lmdb
import msgspec

from benchmarks.disk import filesystem_of, flush_milliseconds


class Machine(msgspec.Struct, frozen=True):
    """What the figures depend on and the code does not say."""

    cpu: str
    cores: int  # that this process may use
    memory_gb: float
    system: str
    kernel: str
    filesystem: str
    mount: str
    python: str
    flush_ms: float  # median of a write of 4 KiB and fdatasync, when it was idle

    @property
    def kind(self) -> tuple[object, ...]:
        """What must be equal for figures to stand on one page."""
        return self.cpu, self.cores, self.kernel, self.filesystem, self.python


def this_machine(directory: Path) -> Machine:
    """Describe this machine; the directory is where the stores will be."""
    found = filesystem_of(directory)
    return Machine(
        cpu=_line("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        system=_line("/etc/os-release", "PRETTY_NAME", "=").strip('"') or platform.system(),
        kernel=platform.release(),
        filesystem=found.kind,
        mount=f"{found.device} on {found.mount} ({found.options})",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        flush_ms=round(flush_milliseconds(directory), 3),
    )


def _line(path: str, name: str, separator: str = ":") -> str:
    """Return the value of the first line with the name, or an empty text."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(separator)[2].strip() for line in lines if line.startswith(name)), "")


def versions() -> dict[str, str]:
    """Return the version of every distribution that is installed, and of what they bundle."""
    found = {each.metadata["Name"]: each.version for each in importlib.metadata.distributions()}
    bundled = {"SQLite (of Python)": sqlite3.sqlite_version, "LMDB (of lmdb)": ".".join(map(str, lmdb.version()))}
    return dict(sorted(found.items(), key=lambda item: item[0].lower())) | bundled


def commit() -> str:
    """Return the commit of the ledger that was measured, marked when the tree had changes; empty outside of a repository."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True, timeout=30)
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return ""
    return head.stdout.strip() + (" with changes" if changed.stdout.strip() else "")


def process_memory(which: str) -> float:
    """Return this process's private (anonymous), resident or peak resident memory in MB, as Linux tells it."""
    wanted = {"private": "RssAnon:", "resident": "VmRSS:", "peak": "VmHWM:"}[which]
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(wanted):
            return int(line.split()[1]) * 1024 / 2**20
    raise RuntimeError(f"/proc/self/status has no {wanted}")


def forget_peak() -> None:
    """Let the peak begin again at what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")
