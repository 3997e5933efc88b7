"""Row: one line of work that the ledger and its rivals are given, and what must be reached in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal

import msgspec

from benchmarks.size import Size

Figures = dict[str, float]


class Bound(msgspec.Struct, frozen=True):
    """What a figure must reach: ``factor`` times another contestant's, or ``factor`` itself when ``than`` is empty."""

    factor: float
    than: str = ""


class Line(msgspec.Struct, frozen=True):
    """One figure of a row, as the page shows it."""

    figure: str
    title: str
    unit: str
    better: Literal["more", "less"]
    must: list[Bound] = []
    aim: str = ""


class Fixture(msgspec.Struct, frozen=True):
    """A large store that is built once and used by several rows."""

    kind: Literal["events", "trials", "pending", "runs", "lives", "stored", "sweep", "study"]
    rival: str
    count: int

    @property
    def name(self) -> str:
        """The name of its directory."""
        return f"{self.kind}-{self.rival}-{self.count}"


class Task(msgspec.Struct, frozen=True):
    """One measurement: a row, a contestant, a round, in a fresh directory."""

    row: str
    contestant: str
    round: int
    size: Size
    directory: str
    fixture: str = ""  # the directory of the large store, if the row wants one

    @property
    def rival(self) -> str:
        """The rival that is measured."""
        return self.contestant.partition(":")[0]

    @property
    def variant(self) -> str:
        """What sets this contestant apart from another of the same rival."""
        return self.contestant.partition(":")[2]

    @property
    def place(self) -> Path:
        """The fresh directory."""
        return Path(self.directory)


class Row(ABC):
    """A row of the table. ``measure`` does its work once for one contestant and returns the figures.

    A contestant is a rival's name, and after a colon what sets it apart: ``ledger:small``, ``umadb:raw``.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    work: ClassVar[str]  # what is done, in a sentence or two
    lines: ClassVar[tuple[Line, ...]]
    limit: ClassVar[str] = ""  # what keeps it from more, shown where a bound is missed
    rounds: ClassVar[int | None] = None  # at most so many, for what takes long
    limit_seconds: ClassVar[float] = 120.0  # for one measurement

    @abstractmethod
    def contestants(self, size: Size) -> Sequence[str]:
        """Return who takes part, the ledger first."""

    def fixture(self, contestant: str, size: Size) -> Fixture | None:
        """Return the large store that this contestant's measurement starts from."""
        return None

    @abstractmethod
    def measure(self, task: Task) -> Figures:
        """Do the work once."""

    def name_of(self, contestant: str, size: Size) -> str:
        """Return what the page calls a variant; empty for the rival's own name."""
        return contestant.partition(":")[2]


def quantiles(seconds: Sequence[float], prefix: str = "") -> Figures:
    """Return the median, P90, P99 and the largest of some times, in milliseconds."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    return {f"{prefix}{name}_ms": at(ordered, share) * 1e3 for name, share in _QUANTILES}


_QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))


def gaps(times: Sequence[float]) -> list[float]:
    """Return the time from each moment to the next."""
    return [after - before for before, after in pairwise(times)]


def at(ordered: Sequence[float], share: float) -> float:
    """Return the value below which that share of the ordered values lies."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
