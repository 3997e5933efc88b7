"""Run: the block in which a trial is worked on, and what is kept of an exception that ends it."""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import TYPE_CHECKING

from ledger import events as ev
from ledger.errors import LedgerError

if TYPE_CHECKING:
    from ledger.trial import Trial


class Run:
    """The block of ``Trial.run``."""

    def __init__(self, trial: Trial, lease_seconds: float) -> None:
        self._trial = trial
        self._lease_seconds = lease_seconds

    def __enter__(self) -> Trial:
        self._trial.start(lease_seconds=self._lease_seconds)
        return self._trial

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        trial = self._trial
        try:
            if trial._is_done:  # set inside the block: it stays
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
            trial._let_go()


def error_info(error: BaseException | str | None) -> ev.ErrorInfo | None:
    """Return an exception as it is recorded: its text is made fit for a record, whatever it is."""
    if error is None:
        return None
    if isinstance(error, str):
        return ev.ErrorInfo("", _clean(error))
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
