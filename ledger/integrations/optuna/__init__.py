"""Optuna: a ledger as the storage of its studies.

``LedgerStorage`` keeps studies and trials as experiments and trials of a ledger; ``MAPPING.md`` beside this file says what
becomes of what. ``import_journal`` and ``import_rdb`` bring studies of Optuna's other storages. ``LedgerArtifactStore`` keeps
artifacts, ``LedgerJournalBackend`` the journal of a ``JournalStorage``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ledger.integrations.optuna.artifact_store import LedgerArtifactStore
    from ledger.integrations.optuna.importing import import_journal, import_rdb
    from ledger.integrations.optuna.journal_backend import LedgerJournalBackend
    from ledger.integrations.optuna.storage import LedgerStorage

__all__ = ["LedgerArtifactStore", "LedgerJournalBackend", "LedgerStorage", "import_journal", "import_rdb"]

#: Where each name is, imported when it is first asked for: Optuna is an extra.
_HOMES = {
    "LedgerArtifactStore": "artifact_store", "LedgerJournalBackend": "journal_backend", "LedgerStorage": "storage",
    "import_journal": "importing", "import_rdb": "importing",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        importlib.import_module("optuna")
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise ImportError(f"{name} needs Optuna, which is not installed: pip install 'experiment-ledger[optuna]'.") from error
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
