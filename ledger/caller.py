"""Warnings that name the caller's line, however deep in the package what they tell of was found."""

from __future__ import annotations

import sys
import warnings


def warn_caller(warning: Warning | str, *packages: str) -> None:
    """Warn, at the line outside of this package, and of others that are built on it, that led here."""
    frame = sys._getframe(1)
    level = 2
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] in ("ledger", *packages):
        frame, level = frame.f_back, level + 1
    warnings.warn(warning, stacklevel=level)
