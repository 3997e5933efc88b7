"""Make the studies of data/, with an older Optuna: `PYTHONPATH=. python tests/integrations/optuna/make_old_studies.py PLACE`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from tests.integrations.optuna.samples import fill


def _reject(storage: BaseStorage) -> None:
    """Ask for what is refused; a journal has it all the same."""
    with contextlib.suppress(DuplicatedStudyError):
        optuna.create_study(storage=storage, study_name="front")
    with contextlib.suppress(RuntimeError):  # UpdateFinishedTrialError since 4.1
        storage.set_trial_user_attr(storage.get_all_trials(0)[2]._trial_id, "late", 1)


if __name__ == "__main__":
    place = Path(sys.argv[1]) / f"optuna-{optuna.__version__}"
    journal = JournalStorage(JournalFileBackend(f"{place}.log"))
    fill(journal)
    _reject(journal)
    fill(RDBStorage(f"sqlite:///{place}.db"))
