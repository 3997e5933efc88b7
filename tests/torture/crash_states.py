"""Crash states: what may be in ``data.mdb`` after a power cut at any moment of a recorded run.

A run is recorded with strace: every write with its bytes, every sync, and what the writer was told. Of the writes that
were not synced at a moment, the disk may have any: all, none, or some sectors of each, and the file any length up to its end.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.torture.children import ENVIRONMENT

_CALL = re.compile(r"^\d+ +(\w+)\((.*)\) += (\d+)")
_FD = re.compile(r"^(\d+)<((?:\\x[0-9a-f]{2})+)>")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_CALLS = "link,linkat,openat,pwrite64,pwritev,write,writev,lseek,fdatasync,fsync,ftruncate,msync,sync_file_range"


class Write(NamedTuple):
    """Bytes written to the file; ``is_durable`` when the call returned only when they were on disk."""

    offset: int
    data: bytes
    is_durable: bool


class Sync(NamedTuple):
    """All that was written before is on disk."""


class Named(NamedTuple):
    """The file, made under another name, got its own; which is on disk when its directory is."""


class NameSync(NamedTuple):
    """The directory is on disk."""


class Told(NamedTuple):
    """A line that the program printed."""

    line: str


Step = Write | Sync | Named | NameSync | Told


class State(NamedTuple):
    """What is on disk, and the lines that had been printed by then; without content there is no file."""

    content: bytes | None
    lines: list[str]


def record(command: Sequence[str], file_name: str, trace: Path) -> list[Step]:
    """Run a program and return what it did to the file of that name."""
    tracing = ["strace", "-f", "--seccomp-bpf", "-qq", "-y", "-xx", "-s", "4194304", "-o", str(trace), "-e", f"trace={_CALLS}"]
    done = subprocess.run([*tracing, *command], capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return list(_steps(trace.read_text().splitlines(), file_name))


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


class _Traced(NamedTuple):
    """A system call: what it was called on, the bytes it was given, its last argument and its result."""

    name: str
    fd: int
    path: str
    data: bytes
    last: str
    result: int


def _traced(lines: list[str], file_name: str) -> Iterator[_Traced]:
    for line in lines:
        match = _CALL.match(line)
        if match is None:
            assert "unfinished" not in line or file_name.encode().hex() not in line.replace("\\x", ""), line
            continue
        name, arguments, result = match[1], match[2], int(match[3])
        found = _FD.match(arguments)
        fd, path = (int(found[1]), _bytes(found[2]).decode(errors="replace")) if found else (-1, "")
        data = b"".join(_bytes(text) for text in _TEXT.findall(arguments[found.end() if found else 0 :]))
        last = arguments if name == "openat" else arguments.rpartition(", ")[2]
        yield _Traced(name, fd, path, data, last, result)


def _steps(lines: list[str], file_name: str) -> Iterator[Step]:
    place = 0  # where the next write without an offset goes
    synced = set()  # descriptors that were opened with O_DSYNC
    for name, fd, path, data, last, result in _traced(lines, file_name):
        match name:
            case "openat":
                (synced.add if "O_DSYNC" in last else synced.discard)(result)
            case "link" | "linkat":
                yield Named()
            case "write" if fd == 1:
                yield from (Told(said) for said in data.decode().splitlines(keepends=True))
            case "fsync" if path.endswith(".ledger"):
                yield NameSync()
            case _ if not path.endswith(f"/{file_name}"):
                continue
            case "lseek":
                place = result
            case "fdatasync" | "fsync":
                yield Sync()
            case "pwrite64" | "writev" | "write":
                assert result == len(data)
                yield Write(int(last) if name == "pwrite64" else place, data, fd in synced)
                place += len(data) if name != "pwrite64" else 0
            case _:
                raise AssertionError(f"the model does not know {name}")


def final_content(steps: Sequence[Step]) -> bytes:
    """Return the file's content at the end."""
    disk = bytearray()
    for step in steps:
        if isinstance(step, Write):
            _apply(disk, step.offset, step.data)
    return bytes(disk)


def states(steps: Sequence[Step], count: int, seed: int, *, with_syncs: bool = True) -> Iterator[State]:
    """Yield states after power cuts at every moment of the run, about as many of each; without syncs, as if none had worked."""
    random_ = random.Random(seed)
    moments = [number for number, step in enumerate(steps) if not isinstance(step, Sync | NameSync)]
    each = max(1, -(-count // len(moments)))
    disk, pending, lines = bytearray(), [], []
    is_named, may_lack_name = False, True
    for number, step in enumerate(steps):
        match step:
            case Told():
                lines.append(step.line)
            case Named():
                is_named = True
            case NameSync():
                may_lack_name = not is_named
            case Sync():
                if with_syncs:
                    for write in pending:
                        _apply(disk, write.offset, write.data)
                    pending.clear()
            case Write():
                pending.append(step)
        if number in moments and is_named:
            made = {_state(disk, pending, random_) for _ in range(each)} | {_state(disk, pending, None)}
            yield from (State(content, list(lines)) for content in sorted(made)[:each])
        if number in moments and may_lack_name:
            yield State(None, list(lines))
        if isinstance(step, Write) and step.is_durable and with_syncs:
            pending.pop()
            _apply(disk, step.offset, step.data)


def _state(disk: bytearray, pending: Sequence[Write], random_: random.Random | None) -> bytes:
    """Return one state; without a source of chance the one in which all arrived."""
    made = bytearray(disk)
    whole = max([len(disk), *(write.offset + len(write.data) for write in pending)])
    likely = random_.choice([0.1, 0.5, 0.9]) if random_ else 1.0
    for write in pending:
        for offset, data in _arrived(write, random_, likely):
            _apply(made, offset, data)
    if random_ and random_.random() < 0.5:
        made.extend(bytes(whole - len(made)))  # the new length, without what should be there
    return bytes(made)


def _arrived(write: Write, random_: random.Random | None, likely: float) -> Iterator[tuple[int, bytes]]:
    sector = random_.choice([None, 512, 4096]) if random_ else None
    if random_ is None or sector is None:
        if random_ is None or random_.random() < likely:
            yield write.offset, write.data
        return
    start = write.offset
    while start < write.offset + len(write.data):
        stop = min((start // sector + 1) * sector, write.offset + len(write.data))
        if random_.random() < likely:
            yield start, write.data[start - write.offset : stop - write.offset]
        start = stop


def _apply(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data
