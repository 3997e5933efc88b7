"""Optuna: a ledger as the storage of its studies.

``LedgerStorage`` keeps studies and trials as experiments and trials of a ledger; ``MAPPING.md`` beside this file says what
becomes of what.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ledger.integrations.optuna.storage import LedgerStorage

__all__ = ["LedgerStorage"]

#: Where each name is, imported when it is first asked for: Optuna is an extra.
_HOMES = {"LedgerStorage": "storage"}


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
