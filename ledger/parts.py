"""Parts of events: what more than one field has to say."""

from __future__ import annotations

from typing import Any

import msgspec


class Arm(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of several weighted configs of a trial.

    >>> Arm({"lr": 0.1}, weight=0.5, name="0_0").weight
    0.5
    """

    config: dict[str, Any]
    weight: float = 1.0
    name: str | None = None


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """An exception as recorded: the type with its module, the message, and the formatted traceback.

    >>> ErrorInfo("ValueError", "batch must be positive").type
    'ValueError'
    """

    type: str
    message: str = ""
    traceback: str = ""


class Points(msgspec.Struct, frozen=True, omit_defaults=True):
    """Points of some names, in columns: row i is step ``steps[i]`` at ``times[i]``, with ``values[j][i]`` of ``names[j]``.

    ``times`` are ns since 1970 UTC: the first, then the difference from row to row.

    >>> Points(["loss"], steps=[1, 2], times=[1_800_000_000_000_000_000, 5_000_000], values=[[0.5, 0.4]]).names
    ['loss']
    """

    names: list[str]
    steps: list[int | float | None]
    times: list[int]
    values: list[list[int | float | str | bool | None]]
