"""Warnings name the line of the caller, not one of the package's own."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path

import pytest

import ledger


def _line_of(found: list[warnings.WarningMessage]) -> tuple[str, int]:
    (one,) = found
    return one.filename, one.lineno


def test_a_warning_names_the_line_that_led_to_it(book: ledger.Ledger) -> None:
    """By a method, in a block, or in a function that is tracked: whatever lies between."""
    exp = book.experiment("e", objectives={"loss": ledger.Objective("min", 0, 1)})
    frame = inspect.currentframe()
    assert frame is not None
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        exp.new_trial({}).complete({"loss": 7})
    assert _line_of(found) == (__file__, frame.f_lineno - 1)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        exp.track(lambda: {"loss": 0.5, "model": object()}, capture=False)()
    assert _line_of(found) == (__file__, frame.f_lineno - 1)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        book.experiment("e", objectives={"loss": "max"})
    assert _line_of(found) == (__file__, frame.f_lineno - 1)


def test_what_could_not_be_captured_is_said_at_the_callers_line(
    book: ledger.Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the block begins, or where capture is called."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))  # without a git program, which is asked wherever these tests are run from
    trial = book.experiment("e").new_trial({})
    frame = inspect.currentframe()
    assert frame is not None
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        trial.capture(refresh=True)
    incomplete = [each for each in found if each.category is ledger.CaptureIncomplete and "git" in str(each.message)]
    assert _line_of(incomplete) == (__file__, frame.f_lineno - 2)
