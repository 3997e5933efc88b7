"""Parts of events: what more than one field has to say."""

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


class Bounds(msgspec.Struct, frozen=True, omit_defaults=True):
    """The values between which a result is acceptable, both included; None is no bound.

    >>> Bounds(lower=0, upper=100).contains(100), Bounds(lower=0).contains(-1), Bounds(upper=1).contains(float("nan"))
    (True, False, False)
    """

    lower: float | None = None
    upper: float | None = None

    def contains(self, value: float) -> bool:
        """Say whether the value is acceptable; NaN is not."""
        above = value >= self.lower if self.lower is not None else value == value
        return above and (value <= self.upper if self.upper is not None else value == value)

    def __str__(self) -> str:
        low, high = ("" if bound is None else f"{bound:.15g}" for bound in (self.lower, self.upper))
        return f"{low}..{high}"


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """An exception as recorded: the type with its module, the message, and the formatted traceback.

    >>> ErrorInfo("ValueError", "batch must be positive").text, ErrorInfo("", "exit code 3").text
    ('ValueError: batch must be positive', 'exit code 3')
    """

    type: str
    message: str = ""
    traceback: str = ""

    @property
    def text(self) -> str:
        """Type and message, as far as there are any, in one text."""
        return ": ".join(filter(None, (self.type, self.message)))


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
