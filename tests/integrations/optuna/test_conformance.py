"""The tests that Optuna gives to who writes a storage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("optuna")

from optuna.testing.pytest_storages import StorageTestCase

from ledger.integrations.optuna import LedgerStorage


class TestLedgerStorage(StorageTestCase):
    """Every test of Optuna's own passes on a ledger."""

    @pytest.fixture
    def storage(self, ledger_path: Path) -> Iterator[LedgerStorage]:
        with LedgerStorage(ledger_path) as storage:
            yield storage
