"""The ledger as a storage of mlos_bench, through its interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.rivals.ledger import NAME
from benchmarks.rivals.mlos import StorageLives
from ledger.integrations.mlos import LedgerStorage


class Lives(StorageLives):
    """An experiment of ``LedgerStorage``."""

    def _open(self, directory: Path, variant: str) -> Any:
        return ledger_storage(directory)

    def close(self) -> None:
        super().close()
        self._storage.dispose()


def ledger_storage(directory: Path) -> Any:
    """Open the ``LedgerStorage`` of a directory."""
    return LedgerStorage({"database": str(directory / NAME)})
