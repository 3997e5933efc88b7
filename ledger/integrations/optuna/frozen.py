"""Frozen: trials as Optuna is handed them, made of the states that their events left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from ledger.integrations.optuna.distributions import distribution_of, stand_in
from ledger.integrations.optuna.times import shown, to_local
from ledger.integrations.optuna.vocabulary import (
    COMPLETED,
    DISTRIBUTIONS,
    OWN,
    PARAMS,
    STARTED,
    STATE_OF,
    SYSTEM,
    USER,
    VALUES,
    are_numbers,
    texts_of,
    values_of,
)
from ledger.state import TrialState as LedgerState
from ledger.status import Status
from ledger.values import pack as pack_value
from ledger.values import unpack_extension

_NOTHING: dict[str, Any] = {}


class Folded(msgspec.Struct, array_like=True):
    """What is known of a trial: its state, and its intermediate values. A later value of a step counts.

    ``names`` are those that the objectives had when its results were recorded.
    """

    state: LedgerState
    names: list[str]
    steps: dict[int, Any] = {}


class _Packed(msgspec.Struct, array_like=True):
    state: LedgerState
    names: list[str]
    steps: list[int]
    values: list[Any]


_OPEN = ("config", "results", "attributes")  # of a state: what may hold values that MessagePack lacks
_encoder = msgspec.msgpack.Encoder()  # unlike that of the log it keeps the order of parameters and attributes
_decoder = msgspec.msgpack.Decoder(_Packed, ext_hook=unpack_extension)


def pack(folded: Folded) -> bytes:
    """Return what is known of a trial as bytes."""
    state = folded.state
    changed = {}
    for field in _OPEN:
        value = getattr(state, field)
        packed = pack_value(value, field)
        if packed is not value:
            changed[field] = packed
    if state.arms:  # of other tools' trials: Optuna is not shown them
        changed["arms"] = ()
    if changed:
        state = msgspec.structs.replace(state, **changed)
    return _encoder.encode(_Packed(state, folded.names, list(folded.steps), list(folded.steps.values())))


def unpack(data: bytes | memoryview) -> Folded:
    """Return what ``pack`` was given."""
    found = _decoder.decode(data)
    return Folded(found.state, found.names, dict(zip(found.steps, found.values, strict=True)))


def values(folded: Folded, names: Sequence[str]) -> list[Any] | None:
    """Return the values of a trial, by the names that objectives have now or had when it ended; None without all of them."""
    state = folded.state
    if state.results:
        found = values_of(state.results, names) or values_of(state.results, folded.names)
        if found is not None:
            return found
    given = state.attributes.get(OWN, _NOTHING).get(VALUES)
    return given if type(given) is list and are_numbers(given) else None


def state_of(folded: Folded, names: Sequence[str]) -> TrialState:
    """Return the state in which Optuna sees a trial."""
    return _seen(folded.state.status, values(folded, names))


def _seen(status: Status, found: list[Any] | None) -> TrialState:
    is_unfit = status is Status.SUCCEEDED and (found is None or any(value != value for value in found))
    return TrialState.FAIL if is_unfit else STATE_OF[status]


def freeze(trial_id: int, folded: Folded, names: Sequence[str], distributions: Mapping[str, BaseDistribution]) -> FrozenTrial:
    """Make the trial as Optuna is handed it; nothing in it is changed by what is folded later."""
    state, attributes = folded.state, folded.state.attributes
    found_values = values(folded, names)
    shown_state = _seen(state.status, found_values)
    own = attributes.get(OWN, _NOTHING)
    given = attributes.get(DISTRIBUTIONS, _NOTHING)
    params: dict[str, Any] = {}
    found: dict[str, BaseDistribution] = {}
    config = state.config
    for name, value in _ordered(config, own[PARAMS]) if PARAMS in own else config.items():
        known = distribution_of(given[name]) if name in given else None
        if known is None:
            known = stand_in(value, distributions.get(name))
        if known is not None:
            params[name], found[name] = value, known
    return FrozenTrial(
        number=state.id,
        state=shown_state,
        value=None,
        values=None if shown_state is TrialState.FAIL else found_values,
        datetime_start=_started(state, own, shown_state),
        datetime_complete=_completed(state, own, shown_state),
        params=params,
        distributions=found,
        user_attrs=dict(attributes.get(USER, _NOTHING)),
        system_attrs=dict(attributes.get(SYSTEM, _NOTHING)),
        intermediate_values=dict(folded.steps),
        trial_id=trial_id,
    )


def _ordered(config: Mapping[str, Any], names: Any) -> list[tuple[str, Any]]:
    """Return the parameters of a config, those named first; one that was redacted is in no config."""
    return [(name, config[name]) for name in dict.fromkeys((*(texts_of(names) or ()), *config)) if name in config]


def _started(state: LedgerState, own: Mapping[str, Any], shown_state: TrialState) -> Any:
    if shown_state is TrialState.WAITING:
        return shown(own.get(STARTED)) if state.attempt == 0 else None
    if STARTED in own and own[STARTED] is None and state.attempt == 1:
        return None
    return to_local(state.created_at if state.started_at is None else state.started_at)


def _completed(state: LedgerState, own: Mapping[str, Any], shown_state: TrialState) -> Any:
    is_known = COMPLETED not in own or own[COMPLETED] is not None or state.attempt != 1
    if not shown_state.is_finished() or state.ended_at is None or not is_known:
        return None
    return to_local(state.ended_at)
