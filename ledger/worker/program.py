"""A program that runs: started, kept by a process of its own, its output taken down, ended in time."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ledger.worker import keeper
from ledger.worker.output import OutputFile

_CHUNK = 65_536
_LOOK_SECONDS = 0.2  # how soon a stop is noticed
_PIPES_SECONDS = 1.0  # for output that is still in the pipes when all have ended


class NotStarted(Exception):
    """The program could not be started; ``errno`` says why."""

    def __init__(self, errno: int, word: str) -> None:
        super().__init__(f"{word}: {os.strerror(errno) if errno else 'the process that starts it was killed'}")
        self.errno = errno


class Ended(NamedTuple):
    """How a program ended: by its exit code or a signal, in so many seconds; ``why`` it was ended, empty if by itself."""

    code: int | None
    signal: str | None
    seconds: float
    why: str = ""


#: Asked now and then why the program is to be ended: "" to go on. In front of a "!", at once.
Look = Callable[[], str]
TIMED_OUT = "timed out"


class Program:
    """One program, with its keeper. Used by one thread: ``start``, then ``wait``.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as place:
    ...     outputs = [OutputFile(Path(place) / name, most_bytes=1_000) for name in ("out", "err")]
    ...     program = Program(["sh", "-c", "echo hello; exit 3"], *outputs, grace=1.0)
    ...     program.start(dict(os.environ), None)
    ...     ended = program.wait(None, lambda: "")
    ...     ended.code, (Path(place) / "out").read_bytes()
    (3, b'hello\\n')
    """

    def __init__(self, arguments: Sequence[str], out: OutputFile, error: OutputFile, *, grace: float) -> None:
        self._arguments = arguments
        self._outputs = (out, error)
        self._grace = grace
        self._said = b""
        self._begun = 0.0
        self.pid = 0

    def start(self, environment: Mapping[str, str], directory: str | None) -> None:
        """Start it; raises NotStarted, or ValueError for an argument that no program can be given."""
        readers, writers = zip(os.pipe(), os.pipe(), strict=True)
        try:
            # Not as a module: the keeper needs nothing of the package, and starts in 10 ms.
            words = [sys.executable, "-I", "-S", keeper.__file__, str(writers[0]), str(self._grace), *self._arguments]
            self._keeper = subprocess.Popen(
                [word.encode(errors="surrogateescape") for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=writers[1], pass_fds=[writers[0]], env=environment, cwd=directory, start_new_session=True, bufsize=0,
            )  # fmt: skip
        except OSError as error:
            _close(readers, writers)
            self._close_outputs()
            raise NotStarted(error.errno or 0, str(error.filename or self._arguments[0])) from error
        except ValueError:
            _close(readers, writers)
            self._close_outputs()
            raise
        _close(writers)
        for fd in readers:
            os.set_blocking(fd, False)
        self._readers = readers
        self._begun = time.monotonic()
        said = self._next_line()
        if said.startswith(b"started "):
            self.pid = int(said.split()[1])
            return
        self._finish_keeper()
        _close(readers)
        self._close_outputs()
        raise NotStarted(int(said.split()[1]) if said.startswith(b"failed ") else 0, self._arguments[0])

    def _next_line(self) -> bytes:
        assert self._keeper.stdout is not None
        while b"\n" not in self._said:
            piece = os.read(self._keeper.stdout.fileno(), 512)
            if not piece:
                return b""
            self._said += piece
        line, _, self._said = self._said.partition(b"\n")
        return line

    def wait(self, timeout: float | None, look: Look) -> Ended:
        """Take down its output until it has ended, and say how; ended when it takes longer, or ``look`` gives a reason."""
        assert self._keeper.stdout is not None
        why, status = "", None
        is_killed = False
        try:
            with selectors.DefaultSelector() as selector:
                for fd, output in zip(self._readers, self._outputs, strict=True):
                    selector.register(fd, selectors.EVENT_READ, output)
                selector.register(self._keeper.stdout, selectors.EVENT_READ, None)
                while status is None:
                    for key, _ in selector.select(_LOOK_SECONDS):
                        if key.data is None:
                            status = self._next_line() or b"gone"
                        elif not _take(key.fd, key.data):
                            selector.unregister(key.fd)
                    reason = look()
                    if not reason and timeout is not None and time.monotonic() - self._begun > timeout:
                        reason = TIMED_OUT
                    if reason and not why:
                        why = reason.removeprefix("!")
                        self._order(b"T")
                    if reason.startswith("!") and not is_killed:
                        is_killed = True
                        self._order(b"K")
            seconds = time.monotonic() - self._begun
            return _ended(status, seconds, why)
        finally:
            self.end()

    def end(self) -> None:
        """End it if it should still run, and close its outputs."""
        self._finish_keeper()
        self._drain()
        _close(self._readers)
        self._close_outputs()

    def _order(self, order: bytes) -> None:
        assert self._keeper.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has just ended
            self._keeper.stdin.write(order)

    def _finish_keeper(self) -> None:
        """Close the keeper's hold, which ends the program if it should still run, and wait for it."""
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.close()
        code = self._keeper.wait()
        self._keeper.stdout.close()
        if code < 0 and self.pid:  # somebody killed the keeper: nobody else ends the program
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _drain(self) -> None:
        """Take what is in the pipes; not for ever: who has left the program's group may still write to them."""
        end = time.monotonic() + _PIPES_SECONDS
        for fd, output in zip(self._readers, self._outputs, strict=True):
            while time.monotonic() < end and _take(fd, output, until_empty=True):
                pass

    def _close_outputs(self) -> None:
        for output in self._outputs:
            output.close()


def _take(fd: int, output: OutputFile, *, until_empty: bool = False) -> bool:
    """Take one piece from a pipe; False at its end, or when it is empty and that is asked."""
    try:
        data = os.read(fd, _CHUNK)
    except BlockingIOError:
        return not until_empty
    output.write(data)
    return bool(data)


def _ended(said: bytes, seconds: float, why: str) -> Ended:
    if not said.startswith(b"ended "):
        return Ended(None, "SIGKILL", seconds, why)  # with its keeper
    code = os.waitstatus_to_exitcode(int(said.split()[1]))
    if code >= 0:
        return Ended(code, None, seconds, why)
    try:
        return Ended(None, signal.Signals(-code).name, seconds, why)
    except ValueError:  # a real-time signal
        return Ended(None, f"signal {-code}", seconds, why)


def _close(*several: Sequence[int]) -> None:
    for fds in several:
        for fd in fds:
            os.close(fd)
