"""What of the extra ``mlos`` is needed: looked for before anything else is imported, so that the error tells the cure."""

from __future__ import annotations

import importlib

_MODULES = ("mlos_bench", "pytz")  # mlos_bench imports pytz, and does not require it


def require() -> None:
    """Raise ModuleNotFoundError, with the cure, when something is not installed."""
    for name in _MODULES:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            raise ModuleNotFoundError(
                f"{name} is not installed, which a storage of mlos_bench needs: pip install 'experiment-ledger[mlos]'.", name=name
            ) from None
