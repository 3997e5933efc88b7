"""MLXP: its Reader on a sweep's log directory."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

from mlxp import Reader


def open_reader(directory: Path, database: Path, *, refresh: bool = True) -> Any:
    """Open a reader as its documentation does, which builds its database; what it prints is left out."""
    database.mkdir(exist_ok=True)
    with contextlib.redirect_stdout(io.StringIO()):
        return Reader(str(directory), dst_dir=str(database), refresh=refresh)
