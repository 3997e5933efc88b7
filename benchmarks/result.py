"""Results: every sample as it was measured, kept as JSON; medians and verdicts are made from them."""

from __future__ import annotations

import os
import statistics
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.machine import Machine
from benchmarks.row import Bound, Figures, Line
from benchmarks.size import Size

FORMAT = 1


class Sample(msgspec.Struct, frozen=True):
    """One measurement."""

    contestant: str
    round: int
    figures: Figures
    seconds: float  # that it took in all
    load: float  # of the machine, over the last minute, before it
    error: str = ""


class RowResult(msgspec.Struct):
    """One row as it was measured."""

    name: str
    title: str
    work: str
    lines: list[Line]
    labels: dict[str, str]  # contestant -> what the page calls it, in the row's order
    missing: dict[str, str] = {}  # contestant -> why it was not measured
    samples: list[Sample] = []
    began_at: str = ""
    seconds: float = 0.0
    command: str = ""
    commit: str = ""

    def values(self, contestant: str, figure: str) -> list[float]:
        """Return a figure's values, one a round."""
        found = [sample for sample in self.samples if sample.contestant == contestant and not sample.error]
        return [sample.figures[figure] for sample in found if figure in sample.figures]

    def spread(self, contestant: str, figure: str) -> Spread | None:
        """Return median, least and largest of a figure; None when it was not measured."""
        values = self.values(contestant, figure)
        return Spread(statistics.median(values), min(values), max(values)) if values else None

    def errors(self) -> dict[str, str]:
        """Return what went wrong, by contestant."""
        return {sample.contestant: sample.error for sample in self.samples if sample.error}

    def verdict(self, line: Line, bound: Bound) -> Verdict:
        """Compare the first contestant's median with what it must reach."""
        own = self.spread(next(iter(self.labels)), line.figure)
        other = self.spread(bound.than, line.figure) if bound.than else Spread(1.0, 1.0, 1.0)
        if own is None or other is None:
            return Verdict(None, None)
        needed = bound.factor * other.median
        ratio = own.median / other.median if other.median else None
        return Verdict(ratio if bound.than else None, own.median >= needed if line.better == "more" else own.median <= needed)


class Spread(NamedTuple):
    """Median and extremes over the rounds."""

    median: float
    least: float
    most: float


class Verdict(NamedTuple):
    """How many times the other's figure the ledger's is, and whether that is enough; None where nothing can be said."""

    ratio: float | None
    holds: bool | None


class Result(msgspec.Struct):
    """Everything that one machine has measured at one size."""

    size: Size
    machine: Machine
    versions: dict[str, str]
    caveats: list[str]
    rows: list[RowResult] = []
    fixtures: dict[str, float] = {}  # large store -> seconds that it took to build
    format: int = FORMAT

    def put(self, row: RowResult) -> None:
        """Take a row in, in place of the one of that name."""
        self.rows = [each for each in self.rows if each.name != row.name] + [row]

    def row(self, name: str) -> RowResult | None:
        """Return the row of that name, if it was measured."""
        return next((each for each in self.rows if each.name == name), None)

    def save(self, path: Path) -> None:
        """Write the JSON, in one step."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".part")
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")
        os.replace(beside, path)


def load_result(path: Path) -> Result:
    """Read what ``save`` wrote; ValueError for another format."""
    result = msgspec.json.decode(path.read_bytes(), type=Result)
    if result.format != FORMAT:
        raise ValueError(f"{path} has format {result.format}, this code reads {FORMAT}. Measure again.")
    return result
