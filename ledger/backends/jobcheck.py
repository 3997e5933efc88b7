"""The check of the index of jobs against the trials, as they were folded from the records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from uuid import UUID

from ledger.backends.jobindex import blocked_key, dependant_keys, lease_keys, place_keys
from ledger.backends.view import LmdbView
from ledger.dependencies import unmet_dependencies
from ledger.format import JOBS
from ledger.state import TrialState


def compare_jobs(view: LmdbView, trials: Mapping[tuple[UUID, int], TrialState]) -> Iterator[str]:
    """Say how the index differs from what it should be; ``trials`` are those that have not ended."""

    def find(experiment_id: UUID, trial_id: int) -> TrialState | None:
        """Return a trial as folded: what has ended is folded again."""
        return trials.get((experiment_id, trial_id)) or view.trial(experiment_id, trial_id)

    must: dict[bytes, str] = {}  # key -> stream, of the entries there must be
    may: dict[bytes, str] = {}  # of those of which each trial must have one
    for state in trials.values():
        if not state.is_waiting:
            must.update(dict.fromkeys(lease_keys(state), state.stream))
            continue
        unmet = unmet_dependencies(state.depends_on, find)
        must.update(dict.fromkeys(dependant_keys(state), state.stream))
        must.update((blocked_key(state, stream), state.stream) for stream in unmet)
        if not unmet:
            may.update(dict.fromkeys(place_keys(state), state.stream))
    found = set()
    for key, _ in view.scan(JOBS):
        if key in must:
            del must[key]
        elif key in may and may[key] not in found:
            found.add(may[key])
        else:
            yield f"the index 'jobs' names a trial that neither waits nor is leased (key {key!r})."
    missing = set(must.values()) | (set(may.values()) - found)
    if missing:
        yield f"the index 'jobs' lacks {min(missing)}."
