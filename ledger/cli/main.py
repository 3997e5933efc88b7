"""The entry point of the command ``ledger``; importing it declares every command."""

from __future__ import annotations

import sys
import warnings
from typing import Any

from ledger.cli import care, demo, records, tables
from ledger.cli.app import app, program_name
from ledger.cli.output import printable

__all__ = ["app", "care", "demo", "main", "records", "tables"]


def main() -> None:
    """Run the command line."""
    warnings.showwarning = _show_warning
    app(prog_name=program_name())


def _show_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    print(f"warning: {printable(str(message))}", file=sys.stderr)
