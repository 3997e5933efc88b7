"""daskperiment: a decorated function, whose calls it records with code and environment in files beside a pickle."""

from __future__ import annotations

from pathlib import Path

import daskperiment

from benchmarks.rivals.contract import Caller


class Calls(Caller):
    """Its local backend, as its documentation shows."""

    def __init__(self, directory: Path, variant: str = "") -> None:
        self._experiment = daskperiment.Experiment("calls", backend=directory / "daskperiment")
        number = self._experiment.parameter("number")

        @self._experiment.result
        def trivial(number: int) -> int:
            return number + 1

        self._result = trivial(number)

    def call(self, number: int) -> None:
        self._experiment.set_parameters(number=number)
        self._result.compute()

    def close(self) -> None:
        """Hold nothing open: it opens its files anew each time."""
