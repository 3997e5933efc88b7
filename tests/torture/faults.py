"""Faults at system calls, injected by strace: an error, or SIGKILL, at the n-th call of a kind."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.torture.children import ENVIRONMENT

#: Calls that change files, or make a change last.
CHANGES = (
    "pwrite64", "pwritev", "writev", "write", "fdatasync", "fsync", "ftruncate", "rename", "renameat", "renameat2", "link",
    "linkat", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "chmod", "fchmod", "fchmodat", "chown", "fchown", "sendfile",
    "copy_file_range",
)  # fmt: skip
SYNCS_AND_WRITES = ("pwrite64", "pwritev", "writev", "write", "fdatasync", "fsync", "ftruncate")


class Call(NamedTuple):
    """The number-th system call of a name, counted in each process of a program."""

    name: str
    number: int


@functools.cache
def _trouble() -> str:
    """Say why strace cannot be used, or nothing."""
    if shutil.which("strace") is None:
        return "strace is not installed (apt-get install strace)"
    done = subprocess.run(["strace", "-f", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    return f"strace may not trace here: {done.stderr.strip()}" if done.returncode else ""


def need_strace() -> None:
    """Skip the test where strace cannot be used."""
    if _trouble():
        pytest.skip(_trouble())


def calls_of(command: Sequence[str], names: Sequence[str], trace: Path) -> list[Call]:
    """Run a program and return its calls: of each name as many as the process of it has that makes most of them."""
    tracing = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", str(trace), "-e", f"trace={','.join(names)}"]
    done = subprocess.run([*tracing, *command], capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    counts: Counter[tuple[str, str]] = Counter()
    for line in trace.read_text().splitlines():
        match = re.match(r"(\d+) +(\w+)\(", line)
        if match:
            counts[match[1], match[2]] += 1
    most = {name: max((count for (_, each), count in counts.items() if each == name), default=0) for name in names}
    return [Call(name, number) for name, count in most.items() for number in range(1, count + 1)]


def run_with_fault(command: Sequence[str], call: Call, fault: str) -> subprocess.CompletedProcess[str]:
    """Run a program with a fault at a call: the name of an error, or KILL."""
    kind = "signal=KILL" if fault == "KILL" else f"error={fault}"
    quick = [] if fault == "KILL" else ["--seccomp-bpf"]  # with it strace 6.1 passes over signals, and does not say so
    inject = f"inject={call.name}:{kind}:when={call.number}"
    tracing = ["strace", "-f", *quick, "-qq", "-o", "/dev/null", "-e", f"trace={call.name}", "-e", inject]
    return subprocess.run([*tracing, *command], capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=120)
