"""The source of what runs: the script, the cell of a notebook, the function; and the command line."""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import sys
import types
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ledger.capture.environment import python_mode, select_variables
from ledger.capture.masking import mask_arguments
from ledger.capture.options import LOADED_AT

MOST_SOURCE_BYTES = 256 * 1024
_MOST_ARGUMENTS = 1_000
_MOST_ARGUMENT = 4_096

#: Environment variables that tell this process from its siblings: of schedulers and launchers.
_OF_PROCESS = (
    "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK",
    "SLURM_JOB_*", "SLURM_ARRAY_*", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_CPUS_PER_TASK", "PBS_JOB*", "PBS_ARRAY*", "LSB_JOB*",
    "JOB_ID", "SGE_TASK_ID", "OMPI_COMM_WORLD_*", "KUBERNETES_SERVICE_HOST", "GITHUB_RUN_ID", "CI_JOB_ID", "BUILD_URL",
)  # fmt: skip


def capture_command() -> dict[str, Any]:
    """Return the command line with secret options masked, where it runs, and what sets this process apart."""
    arguments = [word[:_MOST_ARGUMENT] for word in sys.orig_argv[:_MOST_ARGUMENTS]]
    if "-c" in arguments[1:-1]:
        place = arguments.index("-c", 1) + 1
        arguments[place] = "..."  # the source has it
    found: dict[str, Any] = {
        "arguments": mask_arguments(arguments),
        "executable": sys.executable,
        "prefix": sys.prefix,
        "host": os.uname().nodename,
        "directory": os.getcwd(),
    }
    if hasattr(os, "sched_getaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) != os.cpu_count():
            found["cores"] = cores
    variables = select_variables(_OF_PROCESS)
    return found | ({"variables": variables} if variables else {})


def places() -> list[str]:
    """Return the directories whose repository may hold the code: the script's, then the one that it is run in."""
    found = []
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    if path and os.path.exists(path):
        found.append(os.path.dirname(os.path.abspath(path)))
    with suppress(OSError):  # it was removed
        found.append(os.getcwd())
    return found


def capture_script() -> dict[str, Any] | None:
    """Return the source of the running script, module, command (``-c``) or notebook cell; None when there is none."""
    mode = python_mode()
    main = sys.modules.get("__main__")
    if mode in ("notebook", "ipython"):
        cells = getattr(main, "In", None) or [""]
        return {"name": "(cell)", "text": _cut(str(cells[-1]))}
    if mode == "command":
        words = sys.orig_argv
        return {"name": "(-c)", "text": _cut(words[words.index("-c") + 1])} if "-c" in words[:-1] else None
    path = getattr(main, "__file__", None)
    if not path or not os.path.isfile(path):
        return None
    spec = getattr(main, "__spec__", None)
    with open(path, "rb") as file:
        text = file.read(MOST_SOURCE_BYTES + 1)
    found = {"name": spec.name if spec else os.path.basename(path), "text": _cut(text.decode(errors="backslashreplace"))}
    return found | _staleness(path)


def _cut(text: str) -> str:
    if len(text.encode(errors="replace")) <= MOST_SOURCE_BYTES:
        return text
    kept = text.encode(errors="replace")[:MOST_SOURCE_BYTES].decode(errors="ignore")
    return f"{kept}\n(cut: only the first {MOST_SOURCE_BYTES:,} bytes are kept)\n"


def _staleness(path: str) -> dict[str, str]:
    """Say when a file was changed after this process had begun: what runs may be what it held before."""
    is_stale = os.path.exists(path) and os.path.getmtime(path) > LOADED_AT
    return {"note": "the file was changed after this process had begun"} if is_stale else {}


def code_of(function: Callable[..., Any]) -> Any:
    """Return the function within decorators, partial calls, methods and callable objects; a class for a class.

    >>> code_of(functools.partial(name_of)) is name_of
    True
    """
    seen: set[int] = set()
    found: Any = function
    while id(found) not in seen:
        seen.add(id(found))
        if isinstance(found, functools.partial | functools.partialmethod):
            found = found.func
        elif isinstance(found, types.MethodType):
            found = found.__func__
        elif hasattr(found, "__wrapped__"):
            found = found.__wrapped__
    if isinstance(found, types.FunctionType | types.BuiltinFunctionType | type):
        return found
    return type(found)


def name_of(function: Callable[..., Any]) -> str:
    """Return the function's name, with its class."""
    code = code_of(function)
    return str(getattr(code, "__qualname__", None) or repr(code))


def capture_function(function: Callable[..., Any]) -> dict[str, Any]:
    """Return a function's source; of one without (made by exec, built in) the digest of its byte code, if it has some."""
    code = code_of(function)
    found: dict[str, Any] = {"name": name_of(function), "module": str(getattr(code, "__module__", ""))}
    if isinstance(function, functools.partial):
        found["arguments"] = f"{function.args!r:.2000} {function.keywords!r:.2000}"
    try:
        found["text"] = _cut(inspect.getsource(code))
        found |= _staleness(inspect.getfile(code))
    except (OSError, TypeError):
        found["note"] = "it has no source that could be read"
        bytecode = getattr(code, "__code__", None)
        if bytecode is not None:
            found["bytecode"] = hashlib.sha256(_fingerprint(bytecode)).hexdigest()[:32]
    return found


def _fingerprint(code: types.CodeType) -> bytes:
    """Return what tells one compiled function from another, wherever it stands."""
    names = repr((code.co_names, code.co_varnames, code.co_freevars)).encode()
    constants = (_fingerprint(each) if isinstance(each, types.CodeType) else repr(each).encode() for each in code.co_consts)
    return b"\0".join((code.co_code, names, *constants))
