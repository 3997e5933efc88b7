"""Run ``mlos_bench`` with the ledger among its storages: the same arguments, the same checks of configs."""

from __future__ import annotations

import sys

from ledger.integrations.mlos.requirement import require


def main() -> int:
    """Run mlos_bench's program; return its exit code, 2 when it is not installed."""
    try:
        require()
    except ModuleNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    from mlos_bench.run import _shell_main

    from ledger.integrations.mlos.schema import register

    register()
    sys.argv[0] = "python -m ledger.integrations.mlos"  # what --help and errors call the program
    code: int = _shell_main()
    return code


if __name__ == "__main__":
    sys.exit(main())
