"""A finding of ``doctor``."""

from __future__ import annotations

from typing import NamedTuple

OK, NOTE, WARNING, PROBLEM = "ok", "note", "warning", "problem"


class Finding(NamedTuple):
    """One thing that was looked at: its name, ``ok``, ``note``, ``warning`` or ``problem``, what is so, and the cure."""

    name: str
    level: str
    message: str
    cure: str | None = None
