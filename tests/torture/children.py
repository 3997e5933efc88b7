"""Child processes: programs of this directory, and work that damage may kill."""

from __future__ import annotations

import faulthandler
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]), "PYTHONDONTWRITEBYTECODE": "1"}


def program(name: str, *arguments: object) -> list[str]:
    """Return the command line of a program of this directory."""
    return [sys.executable, "-W", "error", str(Path(__file__).with_name(f"{name}.py")), *map(str, arguments)]


def start(command: Sequence[str], out: Path, errors: Path | None = None) -> subprocess.Popen[bytes]:
    """Start a program whose output goes to the end of a file, and so survives it."""
    with out.open("ab") as out_file, (errors or out.with_suffix(".err")).open("ab") as error_file:
        return subprocess.Popen(command, stdout=out_file, stderr=error_file, env=ENVIRONMENT)


def wait_for_line(file: Path, line: str, seconds: float = 60.0, count: int = 1) -> None:
    """Wait until the file has the line that often."""
    deadline = time.monotonic() + seconds
    while file.read_text().splitlines().count(line) < count:
        assert time.monotonic() < deadline, f"no {line!r} in {file}: {file.with_suffix('.err').read_text()}"
        time.sleep(0.002)


def lines_of(*files: Path) -> list[str]:
    """Return the lines of the files, with their ends."""
    return [line for file in files for line in file.read_text().splitlines(keepends=True)]


def end(*processes: subprocess.Popen[bytes]) -> None:
    """Kill processes that still run, and wait for them."""
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()


class _Worker:
    """A forked child that works on some items, one after the other, and says how each ended."""

    def __init__(self, work: Callable[[Any], object], items: Sequence[Any], numbers: Sequence[int]) -> None:
        self.numbers = list(numbers)  # those not done yet
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reader)
            _work_and_leave(work, items, numbers, writer)
        os.close(writer)
        self.pipe: IO[bytes] = os.fdopen(reader, "rb", buffering=0)
        self._rest = b""
        self.heard = time.monotonic()

    def read(self) -> list[str] | None:
        """Return the answers that have come; None at the end."""
        data = os.read(self.pipe.fileno(), 1 << 16)
        if not data:
            return None
        self.heard = time.monotonic()
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def end(self) -> str:
        """Wait for the child; return how it died, or nothing."""
        self.pipe.close()
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSIGNALED(status):
            return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
        return f"ended with {os.WEXITSTATUS(status)}" if status else ""


def _work_and_leave(work: Callable[[Any], object], items: Sequence[Any], numbers: Sequence[int], writer: int) -> None:
    faulthandler.disable()
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)  # LMDB says there which of its assertions failed
    code = 1
    try:
        for number in numbers:
            try:
                answer = work(items[number])
                text = "" if answer is None else str(answer)
            except BaseException as error:
                text = f"{type(error).__name__}: {error}"
            os.write(writer, json.dumps(text[:2000]).encode() + b"\n")
        code = 0
    finally:
        os._exit(code)


def outcomes(work: Callable[[T], object], items: Sequence[T], *, processes: int = 2, seconds: float = 60.0) -> list[str]:
    """Do the work on each item in forked children; return for each what it returned, raised, or what became of the child.

    Nothing, which is "", is what is returned for None. One that takes longer than ``seconds`` is killed, and said so.
    """
    answers = [""] * len(items)
    workers = [_Worker(work, items, range(first, len(items), processes)) for first in range(min(processes, len(items)))]
    while workers:
        ready, _, _ = select.select([worker.pipe for worker in workers], [], [], 1.0)
        for worker in list(workers):
            if worker.pipe not in ready:
                if time.monotonic() - worker.heard > seconds:
                    os.kill(worker.pid, signal.SIGKILL)
                continue
            said = worker.read()
            if said is not None:
                for text in said:
                    answers[worker.numbers.pop(0)] = text
                continue
            workers.remove(worker)
            died = worker.end()
            if worker.numbers:
                answers[worker.numbers.pop(0)] = died or "no answer"
            if worker.numbers:
                workers.append(_Worker(work, items, worker.numbers))
    return answers
