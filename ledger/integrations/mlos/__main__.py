"""Run ``mlos_bench`` with the ledger among its storages: the same arguments, the same checks of configs."""

from __future__ import annotations

import sys

from ledger.integrations.mlos.schema import register

if __name__ == "__main__":
    from mlos_bench.run import _shell_main

    register()
    sys.exit(_shell_main())
