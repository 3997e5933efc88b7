"""Fixtures: a storage on a ledger that is verified at the end of every test, and Optuna told to be quiet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from ledger.integrations.optuna import LedgerStorage


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


@pytest.fixture
def storage(ledger_path: Path) -> Iterator[LedgerStorage]:
    """A storage, closed at the end."""
    with LedgerStorage(ledger_path) as opened:
        yield opened
