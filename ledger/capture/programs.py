"""Running another program for what it says: never longer, and never more of it, than asked for."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

_CHUNK = 65_536
_MOST_ERROR_BYTES = 4_096


class Answer(NamedTuple):
    """What a program said; ``code`` is None when it was stopped, for time or since enough had been read (``is_cut``)."""

    code: int | None
    out: bytes
    error: str
    is_cut: bool = False


def run_program(
    arguments: Sequence[str], *, seconds: float, most_bytes: int = 1 << 20, directory: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Answer:  # fmt: skip
    """Run a program without input, and return what it wrote; it is stopped, with all that it started, after ``seconds``.

    Raises OSError when it cannot be started.

    >>> run_program(["echo", "hello"], seconds=5).out
    b'hello\\n'
    >>> run_program(["sleep", "60"], seconds=0.01).code is None
    True
    """
    deadline = time.monotonic() + seconds
    with subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=directory, env=environment,
        start_new_session=True,
    ) as process:  # fmt: skip
        code: int | None = None
        out, error, is_cut = b"", b"", False
        try:
            out, error, is_cut = _read(process, most_bytes, deadline)
            if not is_cut:
                code = process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            pass
        finally:
            if code is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    return Answer(code, out, error.decode(errors="backslashreplace").strip(), is_cut)


def _read(process: subprocess.Popen[bytes], most_bytes: int, deadline: float) -> tuple[bytes, bytes, bool]:
    """Read both pipes to their ends, or until there is enough; raises TimeoutExpired."""
    assert process.stdout is not None
    assert process.stderr is not None
    out, error = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, out)
        selector.register(process.stderr, selectors.EVENT_READ, error)
        while selector.get_map():
            left = deadline - time.monotonic()
            ready = selector.select(left) if left > 0 else []
            if not ready:
                raise subprocess.TimeoutExpired(process.args, 0)
            for key, _ in ready:
                chunk = os.read(key.fd, _CHUNK)
                if not chunk:
                    selector.unregister(key.fileobj)
                key.data.extend(chunk)
            del error[_MOST_ERROR_BYTES:]
            if len(out) > most_bytes:
                return bytes(out[:most_bytes]), bytes(error), True
    return bytes(out), bytes(error), False
