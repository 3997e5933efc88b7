"""Collecting what a trial runs with: guarded, in bounded time, once a process.

**Guarantees.** ``collect`` raises nothing but what interrupts the caller, and returns within ``CaptureOptions.seconds`` (10
by default) and some: each collector runs in a thread of its own, and what it raises, or does not say in time, is named under
``problem`` in its place. No secret that ``ledger.capture.masking`` knows is in what is returned.

**Cost.** The first time what git and the metadata of the installed distributions take, some 0.1 s; then microseconds: what a
process has loaded does not change when files do. ``refresh`` looks again.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ledger.caller import warn_caller
from ledger.capture import environment, git, packages, source
from ledger.capture.masking import clean, secret_values
from ledger.capture.options import CaptureOptions
from ledger.errors import CaptureIncomplete, LedgerWarning
from ledger.streams import capture_digest
from ledger.values import encode_value

MOST_CONTENT_BYTES = 480 * 1024  # a record ends at 512 KiB
LIBRARIES = ("numpy", "scipy", "pandas")
_SHARE_OF_PROGRAMS = 0.8  # of the time, so that what they did say is there in the end

Collector = Callable[[], Mapping[str, Any] | None]


class Capture(NamedTuple):
    """Something a trial runs with: its kind, its digest, its content."""

    kind: str
    digest: str
    content: dict[str, Any]


_known: dict[CaptureOptions, dict[str, Capture]] = {}
_functions: weakref.WeakKeyDictionary[Any, Capture] = weakref.WeakKeyDictionary()


def collect(options: CaptureOptions, function: Callable[..., Any] | None = None, *, refresh: bool = False) -> dict[str, Capture]:
    """Return what a trial would run with now, by kind; ``function`` is the one that is to be called.

    Warns of CaptureIncomplete, once, when something could not be found out.
    """
    try:
        return _collect(options, function, refresh)
    except LedgerWarning:
        raise  # made an error by whoever runs this
    except Exception as error:  # noqa: BLE001 - what is wrong with capturing must not end a trial
        warn_caller(CaptureIncomplete(f"nothing was captured: {type(error).__name__}: {error}."))
        return {}


def _collect(options: CaptureOptions, function: Callable[..., Any] | None, refresh: bool) -> dict[str, Capture]:
    known = {} if refresh else _known.get(options, {})
    wanted = {} if known else _collectors(options)
    wanted |= {name: _build_of(name) for name in LIBRARIES if name not in known and environment.is_loaded(name)}
    if environment.python_mode() in ("notebook", "ipython"):
        wanted["script"] = source.capture_script  # the cell that runs now
    if wanted:
        found = run_collectors(wanted, options.seconds)
        known = _known[options] = {**known, **found}
        _warn(found)
    if function is None:
        return known
    return {**known, "function": _captured_function(function, options.seconds, refresh=refresh)}


def make_capture(kind: str, content: Mapping[str, Any], secrets: Iterable[str] = ()) -> Capture:
    """Return a capture of the content, cleaned of secrets and of what a record cannot hold.

    >>> make_capture("git", {"remote": "https://ada:key@example.org/x.git"}).content
    {'remote': 'https://[masked]@example.org/x.git'}
    """
    cleaned = clean(content, list(secrets))
    size = len(encode_value(cleaned, kind))
    if size > MOST_CONTENT_BYTES:
        cleaned = {"problem": f"it takes {size:,} bytes, and at most {MOST_CONTENT_BYTES:,} are kept"}
    return Capture(kind, capture_digest(cleaned), cleaned)


def _collectors(options: CaptureOptions) -> dict[str, Collector]:
    seconds = options.seconds * _SHARE_OF_PROGRAMS
    return {
        "environment": lambda: environment.capture_environment(options.variables),
        "gpus": lambda: environment.capture_gpus(seconds),
        "packages": packages.capture_packages,
        "conda": environment.capture_conda,
        "git": lambda: git.capture_git(source.places(), seconds, options.patch_bytes),
        "script": source.capture_script,
        "command": source.capture_command,
    }


def _build_of(name: str) -> Collector:
    return lambda: environment.capture_build(name)


def _captured_function(function: Callable[..., Any], seconds: float, *, refresh: bool) -> Capture:
    try:
        known = None if refresh else _functions.get(function)
    except TypeError:  # what cannot be hashed, or referred to weakly, is looked at each time
        return run_collectors({"function": lambda: source.capture_function(function)}, seconds)["function"]
    if known is None:
        known = run_collectors({"function": lambda: source.capture_function(function)}, seconds)["function"]
        _functions[function] = known
        _warn({"function": known})
    return known


def run_collectors(collectors: Mapping[str, Collector], seconds: float) -> dict[str, Capture]:
    """Run collectors side by side, and return what each found; nothing for one that has nothing to say."""
    deadline = time.monotonic() + seconds
    secrets = secret_values(os.environ)
    found: dict[str, Capture | None] = {}

    def run(kind: str, collector: Collector) -> None:
        try:
            content = collector()
            found[kind] = None if content is None else make_capture(kind, content, secrets)
        except BaseException as error:  # noqa: BLE001 - whatever is wrong with the machine, the trial is to run
            found[kind] = _problem(kind, f"{type(error).__name__}: {error}", secrets)

    threads = []
    for kind, collector in collectors.items():
        thread = threading.Thread(target=run, args=(kind, collector), name=f"ledger-capture-{kind}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter is about to end
            run(kind, collector)
        else:
            threads.append(thread)
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    in_time = dict(found)  # what comes later is not waited for, and not mixed in
    late = {kind: _problem(kind, f"it took longer than {seconds:g} s") for kind in collectors if kind not in in_time}
    return {kind: capture for kind, capture in (in_time | late).items() if capture is not None}


def _problem(kind: str, problem: str, secrets: Iterable[str] = ()) -> Capture:
    return make_capture(kind, {"problem": problem[:1_000]}, secrets)


def _warn(found: Mapping[str, Capture]) -> None:
    for kind, capture in found.items():
        problem = capture.content.get("problem")
        if problem:
            warn_caller(CaptureIncomplete(f"{kind}: {problem}."))
