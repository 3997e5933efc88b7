"""daskperiment: a decorated function, whose calls it records with code and environment in files beside a pickle."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

import daskperiment

from benchmarks.rivals.contract import METRIC_POINTS, Caller


class Calls(Caller):
    """Its local backend, as its documentation shows."""

    def __init__(self, directory: Path, variant: str = "") -> None:
        self._experiment = daskperiment.Experiment(f"calls_{directory.name}", backend=directory)
        self._number = self._experiment.parameter("number")
        words = [*sys.argv[:1], "number=0"]  # in a script it takes the command line for parameters, and computes at once
        with mock.patch.object(sys, "argv", words):
            self._result = self._experiment.result(self._trivial)(self._number)

    def _trivial(self, number: int) -> int:
        for step in range(METRIC_POINTS):
            self._experiment.save_metric("loss", epoch=step, value=1.5 * step)
        return number + 1

    def call(self, number: int) -> None:
        self._experiment.set_parameters(number=number)
        self._result.compute()

    def close(self) -> None:
        """Hold nothing open: it opens its files anew each time."""
