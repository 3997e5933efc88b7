"""The tests that Optuna gives to who writes a storage."""

from __future__ import annotations

from optuna.testing.pytest_storages import StorageTestCase


class TestLedgerStorage(StorageTestCase):
    """Every one of Optuna's own tests passes on a ledger; the storage is the fixture of this folder."""
