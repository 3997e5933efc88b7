"""Work in a child process: some damage to an LMDB file makes LMDB abort the process that touches it.

What walks through a file that may be damaged is therefore called here, by name and with texts for arguments; its answer
comes back as JSON, its errors as themselves.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from typing import Any

from ledger import errors
from ledger.errors import Corrupted, DiskFull, LedgerError

_CHILD = "import sys; from ledger.maintenance.child import answer; answer(*sys.argv[1:])"


#: Signals that somebody else sends; what damage does to a process is another one (SIGBUS, SIGSEGV, SIGABRT).
_SENT = {signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGTERM}


class ChildDied(Exception):
    """The child ended without an answer; the message says how. ``was_killed``: by somebody, not by what it read."""

    def __init__(self, message: str, *, was_killed: bool) -> None:
        super().__init__(message)
        self.was_killed = was_killed


def call_in_child(function: str, *arguments: str) -> dict[str, Any]:
    """Call ``module:function`` with the texts in a child process and return the dict that it returns.

    Raises what the function raised, when it was a LedgerError or an OSError; ChildDied when there was no answer. Costs
    the start of an interpreter, some tenths of a second.

    >>> call_in_child("ledger.maintenance.child:echo", "a", "b")
    {'arguments': ['a', 'b']}
    """
    with tempfile.TemporaryFile() as said_file:
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, function, *arguments],
            stdout=subprocess.PIPE, stderr=said_file, stdin=subprocess.DEVNULL, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
        )  # fmt: skip
        try:
            text, _ = child.communicate()
        finally:  # an interrupt: it must not go on
            child.kill()
            child.wait()
            assert child.stdout is not None
            child.stdout.close()
        if not text.endswith("\n"):
            said_file.seek(0)
            said = said_file.read().decode(errors="replace").strip().splitlines()[-1:]
            how = signal.Signals(-child.returncode).name if child.returncode < 0 else f"exit code {child.returncode}"
            raise ChildDied(how + (f": {said[0]}" if said else ""), was_killed=-child.returncode in _SENT)
    message: dict[str, Any] = json.loads(text)
    if "error" in message:
        raise _error(message)
    result: dict[str, Any] = message["result"]
    return result


def _error(message: dict[str, Any]) -> Exception:
    kind, text = message["error"], message["message"]
    if kind == "OSError":
        return OSError(message["errno"], text, message["filename"])
    if kind == "DiskFull":
        return DiskFull(text, None)
    found: type[LedgerError] = getattr(errors, kind)
    return found(text)


def answer(function: str, *arguments: str) -> None:
    """Call the function in this process and print its answer (the child's half of ``call_in_child``)."""
    module, _, name = function.partition(":")
    message: dict[str, Any]
    try:
        message = {"result": getattr(importlib.import_module(module), name)(*arguments)}
    except LedgerError as error:
        text = error.problem if isinstance(error, Corrupted) else str(error)  # it adds its cure again
        message = {"error": type(error).__name__, "message": text}
    except OSError as error:
        message = {
            "error": "OSError", "errno": error.errno, "message": error.strerror or str(error), "filename": error.filename,
        }  # fmt: skip
    print(json.dumps(message))


def echo(*arguments: str) -> dict[str, Any]:
    """Return what was given, for the example above."""
    return {"arguments": list(arguments)}
