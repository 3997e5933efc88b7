"""The keeper: a small process that starts one program, and ends it when the worker says so or is gone.

Run as a script, by path, without the package: ``keeper.py OUTPUT_FD GRACE_SECONDS WORD...``. Standard input is the worker's
hold on it: a ``T`` asks the program to end (SIGTERM, after the grace SIGKILL), a ``K`` ends it at once, and its end, which a
killed worker brings about as well, is a ``T``. Standard output tells the worker ``started PID``, ``failed ERRNO`` or
``ended STATUS`` (as of waitpid). The program is the leader of a process group; what is left of that when it has ended is
ended, too. A program that begins a session of its own has left it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

_LEFTOVER_SECONDS = 1.0  # for what a program that ended by itself has left running
_LOOK_SECONDS = 0.02


def main() -> None:
    """Start the program and keep it until it has ended."""
    output, grace, words = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    waker = _child_signals()
    pid = _start(words, output)
    if pid is not None:
        _say(f"started {pid}")
        _say(f"ended {_keep(pid, grace, waker)}")


def _say(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # the worker is gone; the program has still to be ended
        os.write(1, f"{text}\n".encode())


def _child_signals() -> int:
    """Return a descriptor that can be read when a child has ended."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    return reader


def _start(words: list[str], output: int) -> int | None:
    reader, writer = os.pipe()  # closed by exec
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.dup2(output, 1)
            for each in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(each, signal.SIG_DFL)  # a worker under nohup ignores some, and that would be inherited
            os.execvp(words[0], words)
        except OSError as error:
            os.write(writer, str(error.errno).encode())
        finally:
            os._exit(127)
    os.close(writer)
    os.close(output)
    with contextlib.suppress(OSError):  # it has done so itself, and is another program now
        os.setpgid(pid, pid)
    problem = os.read(reader, 32)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)  # so that the worker sees the end of the program's standard error
    if not problem:
        return pid
    os.waitpid(pid, 0)
    _say(f"failed {problem.decode()}")
    return None


def _keep(pid: int, grace: float, waker: int) -> int:
    """Return the status with which the program ended."""
    kill_at: float | None = None
    sources = [0, waker]
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        left = None if kill_at is None else max(kill_at - time.monotonic(), 0.0)
        ready, _, _ = select.select(sources, [], [], left)
        if waker in ready:
            os.read(waker, 512)
        if 0 in ready:
            order = os.read(0, 64)
            if not order:
                sources = [waker]
            if kill_at is None:
                _signal(pid, signal.SIGTERM)
                kill_at = time.monotonic() + grace
            if b"K" in order:
                kill_at = time.monotonic()
        if kill_at is not None and time.monotonic() >= kill_at:
            _signal(pid, signal.SIGKILL)
            kill_at = time.monotonic() + _LEFTOVER_SECONDS
    _end_rest(pid, kill_at)
    return status


def _end_rest(group: int, kill_at: float | None) -> None:
    """End what the program has left running: asked first, then killed."""
    if not _signal(group, signal.SIGTERM):
        return
    end = time.monotonic() + _LEFTOVER_SECONDS if kill_at is None else kill_at
    while time.monotonic() < end:
        if not _signal(group, 0):
            return
        time.sleep(_LOOK_SECONDS)
    _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    """Send a signal to the group; False when nobody is in it."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user, as by sudo
        return True
    return True


if __name__ == "__main__":
    main()
