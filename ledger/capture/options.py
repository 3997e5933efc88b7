"""What is to be captured, as the caller says it."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from ledger.errors import InvalidValue

LOADED_AT = time.time()  # when this process loaded the package: its script is older
MOST_PATCH_BYTES = 384 * 1024  # so that a record, which ends at 512 KiB, holds it with the rest


class CaptureOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How trials are captured: give it in place of ``capture=True``.

    ``variables``: environment variables to keep beside the well-known ones (values of secret ones are masked).
    ``patch_bytes``: so much of the patch of uncommitted and untracked text files is kept, up to 384 KiB; 0 keeps none.
    ``seconds``: how long all of it may take, once a process; what is not found out by then is named in the capture.

    >>> CaptureOptions(variables=("DATA_DIR",)).patch_bytes
    262144
    """

    variables: tuple[str, ...] = ()
    patch_bytes: int = 256 * 1024
    seconds: float = 10.0

    def __post_init__(self) -> None:
        names = self.variables
        if not isinstance(names, tuple) or not all(type(name) is str and name for name in names):
            raise InvalidValue(f"variables is {names!r}; give a tuple of names of environment variables.")
        if type(self.patch_bytes) is not int or not 0 <= self.patch_bytes <= MOST_PATCH_BYTES:
            raise InvalidValue(f"patch_bytes is {self.patch_bytes!r}; give a number of bytes from 0 to {MOST_PATCH_BYTES:,}.")
        if not isinstance(self.seconds, int | float) or not 0 < self.seconds <= 3600:
            raise InvalidValue(f"seconds is {self.seconds!r}; give a number of seconds above 0, up to an hour.")


_DEFAULT = CaptureOptions()


def options_of(capture: Any) -> CaptureOptions | None:
    """Return what ``capture=`` means: None for False, the defaults for True.

    >>> options_of(False), options_of(True) == CaptureOptions()
    (None, True)
    """
    if isinstance(capture, CaptureOptions):
        return capture
    if capture is True or capture is False:
        return _DEFAULT if capture else None
    raise InvalidValue(f"capture is {capture!r}; give True, False, or ledger.CaptureOptions(...).")
