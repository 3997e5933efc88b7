"""What of the extra ``mlos`` is needed: imported here first, so that its absence is told of once, with the cure."""

from __future__ import annotations

try:
    import mlos_bench.storage  # noqa: F401 - that it is there
    import pytz  # noqa: F401 - which mlos_bench imports without requiring it
except ModuleNotFoundError as error:
    if error.name not in ("mlos_bench", "pytz"):
        raise
    raise ModuleNotFoundError(
        f"{error.name} is not installed, which a storage of mlos_bench needs: pip install 'experiment-ledger[mlos]'.",
        name=error.name,
    ) from None
