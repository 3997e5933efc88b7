"""How programs are run as trials, as the caller says it."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import msgspec

from ledger.commands import check_lease
from ledger.errors import InvalidValue
from ledger.trial import LEASE_SECONDS
from ledger.worker.results import ResultSource


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for every trial of a worker; times are in seconds. Raises InvalidValue for what cannot be.

    >>> Settings(timeout=60.0).grace
    10.0
    """

    lease_seconds: float = LEASE_SECONDS
    timeout: float | None = None
    grace: float = 10.0  # from SIGTERM to SIGKILL
    retries: int = 0
    results: ResultSource = ResultSource.AUTO
    allow_empty_results: bool = False
    capture: bool = True
    directory: str | None = None  # where programs run; the worker's own by default
    max_output_bytes: int = 256 << 20  # of each stream

    def __post_init__(self) -> None:
        check_lease(self.lease_seconds)
        if self.timeout is not None:
            _check_seconds("the timeout", self.timeout, at_least=1e-9)
        _check_seconds("the grace", self.grace, at_least=0.0)
        if self.retries < 0 or self.max_output_bytes < 0:
            raise InvalidValue("numbers of retries and bytes are from 0.")
        if self.directory is not None and not Path(self.directory).is_dir():
            raise InvalidValue(f"{self.directory} is no directory; programs cannot run there.")

    @property
    def workplace(self) -> str:
        """The directory that programs run in."""
        return os.path.abspath(self.directory or os.getcwd())


def _check_seconds(what: str, value: Any, *, at_least: float) -> None:
    if not math.isfinite(value) or value < at_least:
        raise InvalidValue(f"{what} is {value!r}; give a number of seconds{' above 0' if at_least else ' from 0'}.")
