"""Pop enqueued trials until there are none, and print their numbers: one of several processes that do.

Arguments: path, study name.
"""

import sys

import optuna

from ledger.integrations.optuna import LedgerStorage


def main(path: str, name: str) -> None:
    """Wait for a line of input, then pop."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with LedgerStorage(path) as storage:
        study = optuna.load_study(study_name=name, storage=storage)
        print("ready", flush=True)
        sys.stdin.readline()
        while (trial_id := study._pop_waiting_trial_id()) is not None:
            print(storage.get_trial_number_from_id(trial_id), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
