"""Run: the block in which a trial is worked on, and what is kept of an exception that ends it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ledger import events as ev
from ledger.errors import LedgerError, LedgerWarning

if TYPE_CHECKING:
    from ledger.capture.options import CaptureOptions
    from ledger.trial import Trial

_current: ContextVar[Trial | None] = ContextVar("ledger_current_trial", default=None)


def current_trial() -> Trial:
    """Return the trial whose run block, or tracked function, this is in.

    It is known to the thread (or task) that entered the block, not to threads that are started inside: hand it to them.
    Raises LookupError outside of any.

    >>> import ledger
    >>> with ledger.open("memory:").experiment("demo").new_trial({}).run():
    ...     current_trial().log(step=1, loss=0.5)
    """
    trial = _current.get()
    if trial is None:
        raise LookupError("no trial runs here: current_trial() is for inside of `with trial.run():` or a tracked function.")
    return trial


class Run:
    """The block of ``Trial.run``."""

    def __init__(
        self, trial: Trial, lease_seconds: float, capture: CaptureOptions | bool = False,
        function: Callable[..., Any] | None = None,
    ) -> None:  # fmt: skip
        self._trial = trial
        self._lease_seconds = lease_seconds
        self._capture, self._function = capture, function
        self._before: Trial | None = None
        self._pid = os.getpid()

    def __enter__(self) -> Trial:
        trial = self._trial
        self._pid = os.getpid()
        try:
            trial.start(lease_seconds=self._lease_seconds, capture=self._capture, function=self._function)
        except LedgerWarning as warning:  # made an error by whoever runs this; the trial has started
            self.__exit__(type(warning), warning, None)
            raise
        self._before = _current.get()
        _current.set(trial)
        return trial

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        trial = self._trial
        _current.set(self._before)
        if os.getpid() != self._pid:  # a child that the block forked: the trial, and every lock of its handle, is the parent's
            if error is None:
                trial.experiment.book.log.backend.check_usable()
            return
        try:
            if trial.is_done:  # set inside the block: it stays
                trial.flush()
            elif error is None:
                trial.complete()
            else:
                trial.fail(error)
        except LedgerError as problem:
            if error is None:
                raise
            if not isinstance(error, Exception):
                error.add_note(f"The trial's end was not recorded: {problem}")
                return  # an interrupt or exit goes on as what it is
            raise problem from error
        finally:
            trial.let_go()


def error_info(error: BaseException | str | None) -> ev.ErrorInfo | None:
    """Return an exception as it is recorded: its text is made fit for a record, whatever it is."""
    if error is None:
        return None
    if isinstance(error, str):
        return ev.ErrorInfo("", _clean(error))
    import traceback  # here: `import ledger` need not pay for it

    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        message = str(error)
    except Exception as problem:  # noqa: BLE001 - an exception's own __str__ must not keep it from being recorded
        message = f"(its text cannot be had: {type(problem).__name__})"
    return ev.ErrorInfo(_clean(name), _clean(message), _clean("".join(traceback.format_exception(error))))


def _clean(text: str) -> str:
    """Replace what UTF-8 cannot carry (file names that are no text), and keep the last 64 KiB."""
    return text.encode(errors="backslashreplace")[-65_536:].decode(errors="ignore")
