"""Optimize a study without end, or for so many trials, and print each trial that was acknowledged: number and value.

Arguments: path, study name, number of trials (0: without end).
"""

import sys

import optuna

from ledger.integrations.optuna import LedgerStorage


def objective(trial: optuna.Trial) -> float:
    """Return the square of a parameter."""
    x = trial.suggest_float("x", -1, 1)
    trial.report(x, 1)
    return x * x


def tell(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """Print a trial whose end is recorded."""
    print(trial.number, trial.value, flush=True)


def main(path: str, name: str, count: str) -> None:
    """Optimize."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with LedgerStorage(path) as storage:
        study = optuna.load_study(study_name=name, storage=storage, sampler=optuna.samplers.RandomSampler())
        study.optimize(objective, n_trials=int(count) or None, callbacks=[tell])


if __name__ == "__main__":
    main(*sys.argv[1:])
