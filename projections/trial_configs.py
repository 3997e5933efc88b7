"""What trials were tried with: parameters that were added while one ran are part of its config when it ends."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, NamedTuple

import numpy as np

from ledger import events as ev
from ledger.registry import Event
from ledger.state import TRANSITIONS
from ledger.status import ENDED, Status
from projections.trial_batch import TrialBatch

_ENDING = frozenset(kind for kind, (_, status) in TRANSITIONS.items() if status in ENDED) | {ev.StatusForced}
CHANGING: tuple[type[Event], ...] = (ev.TrialConfigured, ev.TrialAmended)  # what may change the config of a trial
_LOOKED_AT = _ENDING | {*CHANGING, ev.TrialCreated}


class Settled(NamedTuple):
    """The config of a trial at its end; ``record`` is the place in its batch of the one by which it ended."""

    record: int
    trial_id: int
    config: dict[str, Any]
    is_kept: bool  # what the trial's row has after the batch is that config


def ended_trials(batch: TrialBatch) -> set[int]:
    """Return the trials of a batch that end in it, perhaps."""
    found = [batch.trial_ids[batch.kinds[kind].which].tolist() for kind in batch.kinds.keys() & _ENDING]
    return set().union(*found)


def settle(
    batch: TrialBatch, trial_ids: Set[int], before: Mapping[int, Mapping[str, Any]], amended: Set[int]
) -> list[Settled]:  # fmt: skip
    """Return the configs with which trials end in a batch, in order, without what amendments made of them.

    ``before`` has the configs of those of them that were there before the batch; ``amended`` are those amended before it.
    """
    if not trial_ids:
        return []
    configs = {trial_id: dict(config) for trial_id, config in before.items()}
    settled: list[Settled] = []
    places = np.concatenate([batch.kinds[kind].which for kind in batch.kinds.keys() & _LOOKED_AT])
    last: dict[int, int] = {}  # the place in ``settled`` of each trial's last end
    amended = set(amended)
    chosen = np.sort(places[np.isin(batch.trial_ids[places], list(trial_ids))])
    for place, trial_id in zip(chosen.tolist(), batch.trial_ids[chosen].tolist(), strict=True):
        event = batch.records[place].event
        kind = type(event)
        if kind is ev.TrialConfigured:
            configs[trial_id].update(event.parameters)
        elif kind is ev.TrialCreated:
            configs[trial_id] = dict(event.config)
        elif kind in _ENDING and _ends(event):
            last[trial_id] = len(settled)
            settled.append(Settled(place, trial_id, dict(configs[trial_id]), is_kept=trial_id not in amended))
        elif kind is ev.TrialAmended:
            amended.add(trial_id)
        if trial_id in last and kind in CHANGING:
            settled[last[trial_id]] = settled[last[trial_id]]._replace(is_kept=False)
    return settled


def _ends(event: Event) -> bool:
    return not isinstance(event, ev.StatusForced) or Status(event.status) in ENDED
