"""The entry point of the command ``ledger``; importing it declares every command."""

from __future__ import annotations

import sys
import warnings
from typing import Any

from ledger.cli import (
    adding,
    artifacts,
    audit,
    capture,
    care,
    claiming,
    corrections,
    dashboard,
    demo,
    details,
    diff,
    history,
    info,
    logs,
    plot,
    query,
    records,
    tables,
    transfer,
    upkeep,
    worker,
)
from ledger.cli.app import app, program_name
from ledger.cli.output import printable

__all__ = [
    "adding",
    "app",
    "artifacts",
    "audit",
    "capture",
    "care",
    "claiming",
    "corrections",
    "dashboard",
    "demo",
    "details",
    "diff",
    "history",
    "info",
    "logs",
    "main",
    "plot",
    "query",
    "records",
    "tables",
    "transfer",
    "upkeep",
    "worker",
]


def main() -> None:
    """Run the command line."""
    warnings.showwarning = _show_warning
    is_for_completion = any(word.endswith("-completion") or "-completion=" in word for word in sys.argv[1:])
    # A shell completes the name that is typed, and asks by a variable that is called after it.
    app(prog_name="ledger" if is_for_completion else program_name(), complete_var="_LEDGER_COMPLETE")


def _show_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    print(f"warning: {printable(str(message))}", file=sys.stderr)
