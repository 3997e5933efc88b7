"""mlos_bench: a ledger as the storage of its experiments, and its SQL databases as ledgers.

``LedgerStorage`` takes the place of ``mlos_bench.storage.sql.storage.SqlStorage``: in a JSON config by its name alone::

    {
        "class": "ledger.integrations.mlos.LedgerStorage",
        "config": {"database": "runs.ledger"}
    }

which ``python -m ledger.integrations.mlos`` runs in place of the program ``mlos_bench``, with the same arguments. A program or
notebook that reads such a config itself (``mlos_bench.storage.from_config``) calls ``register()`` first, which adds the class to
those that mlos_bench's config schema knows; ``from ledger.integrations.mlos import LedgerStorage`` does so, too. Importing the
package alone does not: mlos_bench is loaded when something of it is asked for.

What becomes of it: an experiment of mlos_bench is an experiment of that name, a trial the trial of that number, tunables are
its config, metrics its results, telemetry its telemetry. Statuses are by ``ledger.integrations.mlos.status``. Parameters of a
trial that are no tunables, its runner, and where the experiment's configs are from (git) are attributes in the namespace
``mlos``.

``import_database`` makes the experiments of a ``SqlStorage`` those of a ledger.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ledger.integrations.mlos.requirement import require

if TYPE_CHECKING:
    from ledger.integrations.mlos.importer import ImportReport, import_database
    from ledger.integrations.mlos.schema import register
    from ledger.integrations.mlos.storage import LedgerStorage

__all__ = ["ImportReport", "LedgerStorage", "import_database", "register"]

_LATE = {
    "ImportReport": "importer",
    "LedgerStorage": "storage",
    "import_database": "importer",
    "register": "schema",
}  # mlos_bench takes seconds to import


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _LATE[name] != "importer":  # which reads databases by itself
        require()
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_LATE[name]}"), name)
    return value
