"""Conflicts: what two writers of one stream believed, said as states."""

from __future__ import annotations

import msgspec

from ledger.backends.base import Backend
from ledger.errors import WrongExpectedVersion
from ledger.state import ExperimentState, TrialState, evolve_experiment, evolve_trial
from ledger.streams import subject_of


def add_states(error: WrongExpectedVersion, backend: Backend) -> None:
    """Give the error the states of its trial or experiment at both versions, folded from the stream's records."""
    subject = subject_of(error.stream)
    if subject is None:
        return
    experiment: ExperimentState | None = None
    trial: TrialState | None = None
    with backend.view() as view:
        now = view.experiment(subject.experiment_id)
    for record in backend.read_positions(list(backend.stream_positions(error.stream))[: error.version]):
        if subject.trial_id is None:
            experiment = evolve_experiment(experiment, subject, record.event, record.happened_at)
            if now is not None:  # its stream does not tell how many trials there are: that is of now in both states
                experiment = msgspec.structs.replace(experiment, next_trial_id=now.next_trial_id)
        else:
            trial = evolve_trial(trial, subject, record.event, record.happened_at, is_checked=True)
        error.state = experiment or trial
        if record.version == error.expected_version:
            error.expected_state = error.state
