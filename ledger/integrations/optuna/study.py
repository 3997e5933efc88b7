"""Study: what the log says of one study and its trials, as it is folded.

Trials that have ended lie as bytes in a heap, and are made objects when they are asked for; those that go on are kept as
they stand. Whatever was handed out stays as it was: a trial that changes is made anew.
"""

from __future__ import annotations

from array import array
from collections.abc import Container, Iterable, Mapping
from itertools import compress
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.study._frozen import FrozenStudy
from optuna.study._study_direction import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ledger.codec import encode_state
from ledger.integrations.optuna import frozen
from ledger.integrations.optuna.distributions import distribution_of
from ledger.integrations.optuna.frozen import Folded
from ledger.integrations.optuna.heap import Heap
from ledger.integrations.optuna.vocabulary import (
    DISTRIBUTIONS,
    SYSTEM,
    USER,
    directions_of,
    is_study,
    metric_of,
    names_of,
)
from ledger.status import ExperimentState

_STATES = sorted(TrialState)
_DELETED = len(_STATES)  # in place of a state


class StudyFold:
    """One experiment of the ledger, as a study. Its trials have places: 0 for the one that was created first."""

    def __init__(self, study_id: int, state: ExperimentState, heap: Heap) -> None:
        self.study_id, self._heap = study_id, heap
        self.state = state
        self.names: list[str] = []
        self.directions: list[StudyDirection] = []
        self.distributions: dict[str, BaseDistribution] = {}
        self.is_study = False
        self.metric: str | None = None
        self.ids, self.numbers, self.offsets = array("q"), array("q"), array("q")
        self.codes = bytearray()
        self.live: dict[int, Folded] = {}
        self.waiting: dict[int, None] = {}
        self.frozen: list[FrozenTrial | None] = []
        self.counts = [0] * (_DELETED + 1)
        self._places: dict[int, int] | None = None  # by number; None while each number is its place
        self._best: int | None = None
        self._best_value: Any = None
        self._is_best_known = True
        self._described()

    # ------------------------------------------------------------------------------------------------- folding

    def take_state(self, state: ExperimentState) -> None:
        """Take in what the experiment has become."""
        self.state, names, directions = state, self.names, self.directions
        self._described()
        if (names, directions) != (self.names, self.directions) and self.ids:
            self._reassess()

    def _described(self) -> None:
        state = self.state
        self.names = names_of(state)
        self.directions = directions_of(state, self.names)
        self.is_study = is_study(state)
        self.metric = metric_of(self.names) if self.is_study else None
        for name, description in state.attributes.get(DISTRIBUTIONS, {}).items():
            if name not in self.distributions and (found := distribution_of(description)) is not None:
                self.distributions[name] = found  # the first one stays: trials refer to it

    def _reassess(self) -> None:
        """Look at all trials anew: what the objectives are decides which have values."""
        self.frozen = [None] * len(self.ids)
        for place in range(len(self.ids)):
            self._show(place, self.folded(place))
        self._best, self._is_best_known = None, False

    def place_of(self, number: int) -> int | None:
        """Return the place of the trial of a number."""
        if self._places is not None:
            return self._places.get(number)
        return number if 0 <= number < len(self.numbers) else None

    def add(self, trial_id: int, number: int) -> int:
        """Make room for a trial; return its place."""
        place = len(self.ids)
        if number != place and self._places is None:
            self._places = dict(zip(self.numbers, range(place), strict=True))
        if self._places is not None:
            self._places[number] = place
        self.ids.append(trial_id)
        self.numbers.append(number)
        self.offsets.append(-1)
        self.codes.append(_DELETED)
        self.counts[_DELETED] += 1
        self.frozen.append(None)
        return place

    def folded(self, place: int) -> Folded:
        """Return what is known of a trial."""
        found = self.live.get(place)
        return frozen.unpack(self._heap.get(self.offsets[place])) if found is None else found

    def take_trial(self, place: int, folded: Folded) -> None:
        """Take in what a trial has become."""
        state = folded.state
        if self.offsets[place] >= 0:
            self._heap.drop(self.offsets[place])
            self.offsets[place] = -1
        if state.status.is_finished and state.deleted_at is None:
            self.live.pop(place, None)
            self.offsets[place] = self._heap.add(frozen.pack(folded))
        else:
            self.live[place] = folded
        self.frozen[place] = None
        self._show(place, folded)

    def _show(self, place: int, folded: Folded) -> None:
        before = self.codes[place]
        is_deleted = folded.state.deleted_at is not None
        code = _DELETED if is_deleted else int(frozen.state_of(folded, self.names))
        if code != before:
            self.codes[place] = code
            self.counts[before] -= 1
            self.counts[code] += 1
            if code == TrialState.WAITING:
                self.waiting[place] = None
            elif before == TrialState.WAITING:
                del self.waiting[place]
        if place == self._best:  # it was amended, perhaps
            self._best, self._is_best_known = None, False
        elif code == TrialState.COMPLETE and self._is_best_known:
            self._compare(place, folded)

    def _compare(self, place: int, folded: Folded) -> None:
        found = frozen.values(folded, self.names)
        if len(self.names) != 1 or found is None:
            return
        value, held = found[0], self._best_value
        is_better = self._best is None or (value > held if self.directions[0] == StudyDirection.MAXIMIZE else value < held)
        if is_better or (value == held and self._best is not None and place < self._best):
            self._best, self._best_value = place, value

    # ------------------------------------------------------------------------------------------------- showing

    def trial(self, place: int) -> FrozenTrial:
        """Return a trial; the same object until it changes."""
        found = self.frozen[place]
        if found is None:
            found = self.frozen[place] = self._make(place)
        return found

    def is_deleted(self, place: int) -> bool:
        """Say whether the trial was deleted."""
        return self.codes[place] == _DELETED

    def _make(self, place: int) -> FrozenTrial:
        return frozen.freeze(self.ids[place], self.folded(place), self.names, self.distributions)

    def trials(self, states: Container[TrialState] | None, *, fresh: bool) -> list[FrozenTrial]:
        """Return the trials in some states, all by default, in order of creation; ``fresh`` ones are the caller's own."""
        make = self._copy if fresh else self.trial
        wanted = _STATES if states is None else [state for state in _STATES if state in states]
        expected = sum(self.counts[state] for state in wanted)
        if expected == 0:
            return []
        if expected == len(self.ids):
            if not fresh and all(self.frozen):
                return list(self.frozen)
            return [make(place) for place in range(len(self.ids))]
        if wanted == [TrialState.WAITING]:
            return [make(place) for place in sorted(self.waiting)]
        if not any(state.is_finished() for state in wanted):
            return [make(place) for place in sorted(self.live) if self.codes[place] in wanted]
        table = bytes(code in wanted for code in range(256))
        return [make(place) for place in compress(range(len(self.ids)), self.codes.translate(table))]

    def copies(self, numbers: Iterable[int]) -> dict[int, FrozenTrial]:
        """Return the trials of some numbers, but for deleted ones and those that there are not; all are the caller's own."""
        places = ((number, self.place_of(number)) for number in numbers)
        return {number: self._copy(place) for number, place in places if place is not None and not self.is_deleted(place)}

    def _copy(self, place: int) -> FrozenTrial:
        folded = self.live.get(place)
        if folded is not None:  # what is in it would be shared with what is folded later
            folded = frozen.unpack(frozen.pack(folded))
        else:
            folded = self.folded(place)
        return frozen.freeze(self.ids[place], folded, self.names, self.distributions)

    def best(self) -> FrozenTrial | None:
        """Return the best trial that is complete, the first of equals, or None; of a study of one objective."""
        self._find_best()
        return None if self._best is None else self.trial(self._best)

    def _find_best(self) -> None:
        if self._is_best_known:
            return
        self._best, self._is_best_known = None, True
        for place, code in enumerate(self.codes if len(self.names) == 1 else b""):
            if code == TrialState.COMPLETE:
                self._compare(place, self.folded(place))

    def attributes(self, namespace: str) -> dict[str, Any]:
        """Return attributes of the study."""
        return dict(self.state.attributes.get(namespace, {}))

    def freeze(self) -> FrozenStudy:
        """Return the study as Optuna is handed it."""
        return FrozenStudy(
            study_name=self.state.name, direction=None, directions=list(self.directions), user_attrs=self.attributes(USER),
            system_attrs=self.attributes(SYSTEM), study_id=self.study_id,
        )  # fmt: skip

    def silent(self, now: int) -> list[int]:
        """Return the ids of the running trials of which nothing was heard until their deadline."""
        held = ((place, folded.state) for place, folded in sorted(self.live.items()))
        return [
            self.ids[place]
            for place, state in held
            if state.deadline is not None and state.deadline < now and self.codes[place] == TrialState.RUNNING
        ]

    # --------------------------------------------------------------------------------------------- checkpoints

    def remember(self) -> list[Any]:
        """Return what a checkpoint keeps of it beside its columns: values that can be recorded."""
        self._find_best()
        live = [[place, frozen.pack(folded)] for place, folded in self.live.items()]
        return [self.study_id, encode_state(self.state), live, self._best, self._best_value]

    def recall(self, columns: Mapping[str, Any], live: list[Any], best: int | None, best_value: Any) -> None:
        """Take up what a checkpoint has kept, in a study without trials."""
        for name in ("ids", "numbers", "offsets"):
            setattr(self, name, array("q", columns[name].tobytes()))
        self.codes = bytearray(columns["codes"].astype("uint8").tobytes())
        self.frozen = [None] * len(self.ids)
        self.live = {place: frozen.unpack(data) for place, data in live}
        self.waiting = dict.fromkeys(place for place in self.live if self.codes[place] == TrialState.WAITING)
        self.counts = [self.codes.count(code) for code in range(_DELETED + 1)]
        if self.numbers != array("q", range(len(self.numbers))):
            self._places = {number: place for place, number in enumerate(self.numbers)}
        self._best, self._best_value = best, best_value

    def move(self, heap: Heap) -> None:
        """Keep its trials in another heap."""
        for place, offset in enumerate(self.offsets):
            if offset >= 0:
                self.offsets[place] = heap.add(bytes(self._heap.get(offset)))
        self._heap = heap
