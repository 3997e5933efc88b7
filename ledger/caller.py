"""Warnings that name the caller's line, however deep in the package what they tell of was found."""

from __future__ import annotations

import sys
import warnings


def warn_caller(warning: Warning | str) -> None:
    """Warn, at the line outside of the package that led here."""
    frame = sys._getframe(1)
    level = 2
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == "ledger":
        frame, level = frame.f_back, level + 1
    warnings.warn(warning, stacklevel=level)
