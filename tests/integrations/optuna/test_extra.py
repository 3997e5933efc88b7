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


def test_an_older_optuna_is_said_with_the_cure(script: Callable[..., Any]) -> None:
    """Which one is needed and which is there, by the package and by the commands; a newer one will do."""
    code = """
        import sys, types
        from ledger.integrations.optuna.requirement import require
        import ledger.integrations.optuna as adapter
        old = sys.modules["optuna"] = types.ModuleType("optuna")
        for version in ("4.4.0", "4.10.1", "5.0.0.dev"):
            old.__version__ = version
            require("it")
        old.__version__ = "4.3.0"
        try:
            adapter.import_journal
        except ImportError as error:
            print(error)
        from ledger.cli.main import app
        for command in (["import", "a.log", "b.ledger", "--from", "optuna-journal"], ["dashboard", "b.ledger"]):
            try:
                app(command)
            except SystemExit as end:
                print(end.code)
    """
    running = script(code)
    first, *codes = running.finish()
    assert first == (
        "import_journal needs Optuna 4.4 or newer, and 4.3.0 is installed: pip install --upgrade 'experiment-ledger[optuna]'."
    )
    assert codes == ["2", "2"]
