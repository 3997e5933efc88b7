"""Values, events, records and states: bytes and back, and damaged bytes."""

from __future__ import annotations

import datetime as dt
import json
import struct
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ledger
from ledger import codec, events
from ledger.backends.base import config_digest
from ledger.codec import (
    decode_envelopes,
    decode_experiment_state,
    decode_records,
    decode_trial_state,
    encode_event,
    encode_records,
    encode_state,
    encode_types,
    leaf_hashes,
    record_salts,
    split_records,
)
from ledger.errors import InvalidValue, LedgerError
from ledger.format import Checks, array_header
from ledger.records import Context
from ledger.registry import Event, UnknownEvent
from ledger.state import ExperimentState, Status, TrialState
from ledger.values import decode_value, encode_value, from_json, to_json

REPEATABLE = settings(derandomize=True, database=None, deadline=None, max_examples=300)

zones = st.none() | st.integers(-24 * 60 + 1, 24 * 60 - 1).map(lambda m: dt.timezone(dt.timedelta(minutes=m)))
times = st.builds(
    lambda at, zone: at.replace(tzinfo=zone), st.datetimes(dt.datetime(1, 1, 3), dt.datetime(9999, 12, 29)), zones
)  # fmt: skip
payload_nans = st.integers(1, 2**51 - 1).map(lambda n: struct.unpack(">d", (0x7FF8 << 48 | n).to_bytes(8, "big"))[0])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = (
    st.none() | st.booleans() | st.integers() | st.integers(-(2**200), 2**200) | st.floats() | payload_nans | texts
    | st.binary(max_size=20) | st.decimals() | st.uuids() | times
)  # fmt: skip
keys = texts | st.sampled_from(["$int", "$dict", "$"]) | st.integers(-(2**70), 2**70)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple) | st.dictionaries(keys, inner, max_size=4)
    | st.dictionaries(texts, inner, max_size=4),
    max_leaves=15,
)  # fmt: skip
configs = st.dictionaries(texts, values, max_size=4)


def shuffled(value: Any) -> Any:
    """Return the value with each dict in another order."""
    if type(value) is dict:
        return {key: shuffled(item) for key, item in reversed(value.items())}
    if type(value) in (list, tuple):
        return type(value)(shuffled(item) for item in value)
    return value


# ------------------------------------------------------------------------------------------------------------- values


@REPEATABLE
@given(values)
def test_values_round_trip(value: Any) -> None:
    """A value decoded from its bytes has the same bytes again, and the same type."""
    data = encode_value(value)
    again = decode_value(data)
    assert type(again) is type(value)
    assert encode_value(again) == data


@REPEATABLE
@given(values)
def test_values_round_trip_through_json(value: Any) -> None:
    """A value told in JSON, written out and read in, has the same bytes."""
    text = json.dumps(to_json(value), allow_nan=False)
    assert encode_value(from_json(json.loads(text))) == encode_value(value)


@pytest.mark.parametrize("digits", [4299, 4301, 20_000])
@pytest.mark.parametrize("sign", [1, -1])
def test_ints_of_any_size_round_trip_through_json(digits: int, sign: int) -> None:
    """An int larger than Python turns into decimal text by default has its form in JSON too."""
    value = sign * 10**digits
    assert from_json(json.loads(json.dumps(to_json(value)))) == value


@REPEATABLE
@given(values)
def test_equal_values_have_equal_bytes(value: Any) -> None:
    """The order in which dicts were filled does not show in the bytes."""
    assert encode_value(shuffled(value)) == encode_value(value)


@REPEATABLE
@given(configs, configs)
def test_config_digests_differ_as_their_bytes_do(one: dict[str, Any], two: dict[str, Any]) -> None:
    """Two configs have one digest exactly when they have the same bytes."""
    assert (config_digest(one) == config_digest(two)) == (encode_value(one) == encode_value(two))
    assert config_digest(shuffled(one)) == config_digest(one)


def test_numbers_of_different_types_are_different_values() -> None:
    """1, 1.0, True, "1" and Decimal(1) are five values."""
    assert len({encode_value(value) for value in (1, 1.0, True, "1", Decimal(1))}) == 5


# ------------------------------------------------------------------------------------------------- events and records

points = st.builds(
    events.Points, st.just(["loss", "acc"]), st.just([1, 2.5]), st.lists(st.integers(0, 2**62), min_size=2, max_size=2),
    st.lists(st.lists(st.integers(0, 2**60) | st.floats() | texts | st.none() | st.booleans(), min_size=2, max_size=2),
             min_size=2, max_size=2),
)  # fmt: skip
arms = st.builds(events.Arm, configs, st.floats(0, 1), st.none() | texts)
several_arms = st.lists(arms, max_size=3).map(tuple)
errors = st.none() | st.builds(events.ErrorInfo, texts, texts, texts)
attempts = st.integers(0, 2**40)
some_events: st.SearchStrategy[Event] = st.one_of(
    st.builds(events.NoteAdded, texts),
    st.builds(events.ExperimentCreated, texts, st.dictionaries(texts, st.sampled_from(["min", "max"]), max_size=3), texts),
    st.builds(events.TrialCreated, configs, several_arms, st.integers(-9, 9), st.none() | st.integers(0, 2**62)),
    st.builds(events.TrialClaimed, texts, attempts, st.floats(0.1, 1e6), st.integers(0, 2**62)),
    st.builds(events.TrialCompleted, configs, attempts),
    st.builds(events.TrialFailed, errors, configs, attempts),
    st.builds(events.AttributesSet, configs, texts),
    st.builds(events.TagsChanged, st.lists(texts, max_size=3), st.lists(texts, max_size=3)),
    st.builds(events.MetricsLogged, st.lists(points, max_size=2), attempts),
    st.builds(events.EnvironmentCaptured, configs),
    st.builds(events.CaptureStored, texts, texts, configs),
    st.builds(events.TrialCaptured, st.dictionaries(texts, texts, max_size=3), attempts),
    st.builds(UnknownEvent, st.just("OfAnotherProgram"), st.integers(1, 9), configs),
)
contexts = st.none() | st.builds(
    Context, st.none() | st.integers(-(2**60), 2**60), st.none() | texts, st.none() | texts, st.none() | texts
)


@REPEATABLE
@given(some_events)
def test_events_round_trip(event: Event) -> None:
    """An event as readers will see it has the bytes of the event as given, whatever values it holds."""
    payload = encode_event(event)
    assert encode_event(payload.event).data == payload.data
    assert type(payload.event) is type(event)
    assert encode_value(_open(payload.event)) == encode_value(_open(event))


def _open(value: Any) -> Any:
    """Turn structs into dicts, to compare what they hold by bytes, NaN included."""
    if isinstance(value, msgspec.Struct):
        return {field: _open(getattr(value, field)) for field in value.__struct_fields__ if field != "raw"}
    return type(value)(map(_open, value)) if type(value) in (list, tuple) else value


def _records(written: list[tuple[Event, Context | None]]) -> tuple[bytes, bytes, list[bytes], list[bytes]]:
    """Encode records in a row; return them with their types, their leaves and their salts."""
    salts = record_salts(b"s" * 16, 0, len(written))
    payloads = [encode_event(event) for event, _ in written]
    raws, leaves = encode_records(
        [(payload, "s", 1 + i) for i, payload in enumerate(payloads)], position=5, recorded_at=77, append_id=b"a" * 16,
        salt=b"s" * 16, actor="me", contexts=[context for _, context in written],
    )  # fmt: skip
    types = encode_types({(payload.type.name, payload.type.schema) for payload in payloads})
    return array_header(len(raws)) + b"".join(raws), types, leaves, salts


@REPEATABLE
@given(st.lists(st.tuples(some_events, contexts), min_size=1, max_size=6))
def test_records_round_trip(written: list[tuple[Event, Context | None]]) -> None:
    """Records decode to the events and contexts given, and their leaf hashes can be made again from their bytes."""
    data, types, leaves, salts = _records(written)
    records = decode_records(data, types)
    assert [record.position for record in records] == [envelope.position for envelope in decode_envelopes(data)]
    assert [record.context for record in records] == [context for _, context in written]
    assert [encode_event(record.event).data for record in records] == [encode_event(event).data for event, _ in written]
    assert leaf_hashes(split_records(data), decode_envelopes(data), salts) == leaves


@REPEATABLE
@given(st.integers(0, 1200), st.integers(0, 1200))
def test_salts_do_not_depend_on_how_records_are_grouped(first: int, count: int) -> None:
    """A record's salt follows from its append's salt and its ordinal alone."""
    all_of_them = record_salts(b"x" * 16, 0, first + count)
    assert record_salts(b"x" * 16, first, count) == all_of_them[first:]
    assert len(set(all_of_them)) == first + count


# ------------------------------------------------------------------------------------------------------------- states

named = st.dictionaries(texts, st.dictionaries(texts, values, max_size=3), max_size=2)
tags = st.lists(texts, max_size=3).map(tuple)
moments = st.none() | st.integers(0, 2**62)
trial_states = st.builds(
    TrialState, st.uuids(), st.integers(0, 2**62), st.sampled_from(list(Status)), configs, several_arms,
    st.integers(-9, 9), moments, st.integers(1, 9), attempts, attempts, st.none() | texts, st.floats(0, 1e6), moments,
    st.integers(0, 2**62), moments, moments, configs, errors, tags, named,
)  # fmt: skip
experiment_states = st.builds(
    ExperimentState, st.uuids(), texts, st.dictionaries(texts, st.sampled_from(["min", "max"]), max_size=2), texts,
    st.integers(0, 2**62), st.integers(0, 2**62), tags, named,
)  # fmt: skip


@REPEATABLE
@given(trial_states)
def test_trial_states_round_trip(state: TrialState) -> None:
    """A trial's state decoded from its bytes has the same bytes and holds the same values."""
    again = decode_trial_state(encode_state(state))
    assert encode_state(again) == encode_state(state)
    assert encode_value(_open(msgspec.structs.replace(again, status=None))) == encode_value(
        _open(msgspec.structs.replace(state, status=None))
    )
    assert again.status is state.status


@REPEATABLE
@given(experiment_states)
def test_experiment_states_round_trip(state: ExperimentState) -> None:
    """An experiment's state decoded from its bytes has the same bytes and holds the same values."""
    again = decode_experiment_state(encode_state(state))
    assert encode_state(again) == encode_state(state)
    assert encode_value(_open(again)) == encode_value(_open(state))


# ------------------------------------------------------------------------------------------------------ damaged bytes

SAMPLE: list[tuple[Event, Context | None]] = [
    (
        events.TrialCreated(
            {"lr": Decimal("0.1"), "at": dt.datetime(2026, 1, 1), "id": UUID(int=1), "big": 2**70, "t": (1, {2: 3})}
        ),
        None,
    ),
    (events.NoteAdded("text"), Context(reason="why")),
    (UnknownEvent("OfAnotherProgram", 2, {"x": (1, Decimal(2))}), None),
]  # fmt: skip


def _only_ledger_errors(data: bytes, types: bytes) -> None:
    try:
        for record in decode_records(data, types):
            assert isinstance(repr(record), str)
    except LedgerError:
        pass


@pytest.mark.parametrize("size", [2, 3], ids=["typed", "with an unknown type"])
def test_records_cut_off_anywhere_raise_ledger_errors_only(size: int) -> None:
    """Records cut off at any byte raise Corrupted, whether their types are known or not."""
    data, types, _, _ = _records(SAMPLE[:size])
    for end in range(len(data)):
        with pytest.raises(LedgerError):
            decode_records(data[:end], types)
    for end in range(len(types)):
        with pytest.raises(LedgerError):
            decode_records(data, types[:end])


@pytest.mark.parametrize("size", [2, 3], ids=["typed", "with an unknown type"])
def test_any_flipped_bit_of_records_raises_ledger_errors_only(size: int) -> None:
    """Records with a bit flipped are read as something or raise a LedgerError, never another error."""
    data, types, _, _ = _records(SAMPLE[:size])
    for place in range(len(data) * 8):
        _only_ledger_errors(_flip(data, place), types)
    for place in range(len(types) * 8):
        _only_ledger_errors(data, _flip(types, place))


def _flip(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


@REPEATABLE
@given(st.binary(max_size=80), st.binary(max_size=30))
def test_any_bytes_as_records_raise_ledger_errors_only(data: bytes, types: bytes) -> None:
    """Whatever stands in the place of records, reading it raises LedgerErrors only."""
    for known in (types, encode_types({("NoteAdded", 1)}), encode_types({("OfAnotherProgram", 1)})):
        _only_ledger_errors(data, known)
        _only_ledger_errors(array_header(1) + data, known)


@pytest.mark.parametrize("sealed", [False, True])
def test_every_flipped_bit_of_a_block_is_found(sealed: bool) -> None:
    """A block with any one bit flipped, cut off anywhere, or moved to another position or ledger, fails its check."""
    from ledger.format import Run, array_header, unpack_body

    data, types, _, _ = _records(SAMPLE)
    header = len(array_header(len(SAMPLE)))
    raws = [bytes(raw) for raw in msgspec.msgpack.decode(data, type=list[msgspec.Raw])]
    assert header + sum(map(len, raws)) == len(data)
    checks = Checks(b"l" * 16)
    block = checks.pack_block(5, raws, [Run(3, 0, b"s" * 16)], types, (77, 77), sealed=sealed)
    assert bytes(unpack_body(5, block, checks.open_block(5, block)).records) == data
    for place in range(len(block) * 8):
        with pytest.raises(ledger.Corrupted):
            checks.open_block(5, _flip(block, place))
    for end in range(len(block)):
        with pytest.raises(ledger.Corrupted):
            checks.open_block(5, block[:end])
    with pytest.raises(ledger.Corrupted):
        checks.open_block(6, block)
    with pytest.raises(ledger.Corrupted):
        Checks(b"m" * 16).open_block(5, block)


def test_too_large_and_too_deep_are_refused_wherever_they_stand() -> None:
    """Nesting beyond the limit raises InvalidValue through every kind of container, before Python's own limit is met."""
    for wrap in (lambda v: [v], lambda v: (v,), lambda v: {"k": v}, lambda v: {1: v}):
        value: Any = 1
        for _ in range(3000):
            value = wrap(value)  # type: ignore[no-untyped-call]
        with pytest.raises(InvalidValue, match="nested more than"):
            encode_value(value)
    assert codec.MAX_RECORD_BYTES == 512 * 1024
