"""The extra: Optuna is imported when it is used, and one who lacks it is told what to install."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_missing_optuna_is_said_with_the_cure(script: Callable[..., Any]) -> None:
    """Without Optuna the adapter's package can be imported, and its names say which extra is missing."""
    code = """
        import sys
        import ledger.integrations.optuna as adapter
        print("optuna" in sys.modules, dir(adapter).count("LedgerStorage"))
        sys.modules["optuna"] = None
        try:
            adapter.LedgerStorage
        except ImportError as error:
            print(error)
        print(hasattr(adapter, "nothing"))
    """
    lines = script(code).finish()
    assert lines[0] == "False 1"
    assert "pip install 'experiment-ledger[optuna]'" in lines[1]
    assert lines[2] == "False"
