"""The contract of values: what is written is read again, of the same type; what cannot be is refused."""

from __future__ import annotations

import datetime as dt
import enum
import math
import struct
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from ledger import events as ev
from ledger.backends.base import Backend
from ledger.errors import InvalidValue, RecordTooLarge
from ledger.events import NoteAdded
from ledger.log import EventLog
from ledger.streams import trial_stream
from ledger.testing.clock import FakeClock
from ledger.testing.tools import (
    EXPERIMENT,
    ContractBase,
    Trace,
    append,
    notes,
    read_all,
    refusal,
    submission,
    trial_state,
    with_experiment,
    with_trials,
)

_ZONE = dt.timezone(dt.timedelta(hours=5, minutes=45))

VALUES: list[Any] = [
    0, 1, -1, 127, 128, -33, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1,
    10**100, -(10**100), 10**5000,
    0.0, -0.0, 1.0, 0.1, 5e-324, 1.7976931348623157e308, math.inf, -math.inf,
    math.nan, struct.unpack(">d", b"\xff\xf8" + bytes(6))[0],
    "", "a", "é", "e\u0301", "日本語", "\U0001f600", "a\0b", "$tuple", "x" * 70_000,
    b"", b"\0\xff", b"x" * 70_000,
    True, False, None,
    [], [1, [2, [3, []]]], [1, 1.0, True, "1", None], {}, {"a": 1, "": 2, "é": {"b": [{}]}}, {"b": 1, "a": 2},
    (), (1,), ((), [()], {"a": (1, (2,))}), [(1, 2), [1, 2]],
    Decimal("1.10"), Decimal("-0"), Decimal("1E+400"), Decimal("NaN"), Decimal("-Infinity"), Decimal("0.1") * 3,
    UUID(int=0), UUID("01890000-0000-7000-8000-000000000001"),
    dt.datetime(2026, 1, 2, 3, 4, 5), dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999999),
    dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC), dt.datetime(2026, 1, 2, tzinfo=_ZONE),
    {1: "a", -5: "b", 2**70: "c"}, {"1": "text", 1: "number"}, {3: {4: (5, {6: 7})}},
]  # fmt: skip


class _Color(enum.Enum):
    RED = 1


class _Level(enum.IntEnum):
    HIGH = 1


class _Text(str):
    __slots__ = ()


def _inside_itself() -> Any:
    value: list[Any] = []
    value.append({"again": value})
    return value


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


REFUSED: dict[str, Any] = {
    "set": {1}, "frozenset": frozenset(), "enum": _Color.RED, "int enum": _Level.HIGH, "str subclass": _Text("a"),
    "object": object(),
    "class": int, "function": len, "complex": 1j, "bytearray": bytearray(b"x"), "range": range(3), "date": dt.date(2026, 1, 1),
    "timedelta": dt.timedelta(1), "lone surrogate": "a\ud800", "lone surrogate in a key": {"\udcff": 1}, "float key": {1.5: 1},
    "tuple key": {(1, 2): 1}, "bool key": {True: 1}, "None key": {None: 1}, "deep": _nested(5000),
    "inside itself": _inside_itself(),
}  # fmt: skip

_note: Any = NoteAdded
_started: Any = ev.TrialStarted
NO_EVENTS: list[Any] = [_note(5), _note(None), _started("1"), _note("\ud800"), "text", None, object]


def _name(value: Any) -> str:
    text = f"{type(value).__name__}-{value!a:.20}" if not isinstance(value, int) or abs(value) < 10**99 else "int-huge"
    return text.replace("[", "(").replace("]", ")")


def same(one: Any, two: Any) -> bool:
    """Say whether two values are equal and of the same types throughout, NaN and -0.0 told apart."""
    if type(one) is not type(two):
        return False
    if isinstance(one, dict):
        pairs = sorted(one.items(), key=_order), sorted(two.items(), key=_order)
        return same([list(pair) for pair in pairs[0]], [list(pair) for pair in pairs[1]])
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(same(a, b) for a, b in zip(one, two, strict=True))
    if isinstance(one, float):
        return struct.pack(">d", one) == struct.pack(">d", two)
    if isinstance(one, dt.datetime):
        return str(one) == str(two)
    if isinstance(one, Decimal):
        return str(one) == str(two)
    equal: bool = one == two
    return equal


def _order(pair: tuple[Any, Any]) -> tuple[str, Any]:
    return type(pair[0]).__name__, pair[0]


class ValueContract(ContractBase):
    """What a record holds."""

    @pytest.mark.parametrize("value", VALUES, ids=_name)
    def test_a_value_keeps_its_type(self, backend: Backend, value: Any) -> None:
        """A value is read as it was written, of the same type, as an attribute, in a config, in results."""
        with_experiment(backend)
        stream = with_trials(backend, ev.TrialCreated({"value": value}))[0]
        attributes = ev.AttributesSet({"value": [value]}, "space")
        answer = append(backend, [(stream, attributes), (stream, ev.ResultsReported({"value": value}))])
        created, set_, reported = (record.event for record in read_all(backend, after=1))
        assert same(created.config, {"value": value})
        assert same(set_.attributes, {"value": [value]})
        assert same(reported.results, {"value": value})
        assert isinstance(answer.events[0][1], ev.AttributesSet)
        assert same(answer.events[0][1].attributes, {"value": [value]})
        state = trial_state(backend, 1)
        assert same([state.config, state.results], [{"value": value}] * 2)
        assert same(state.attributes, {"space": {"value": [value]}})

    def test_values_in_arms_keep_their_types(self, backend: Backend) -> None:
        """The configs of a trial's arms keep the types of their values too, in the record and in the state."""
        with_experiment(backend)
        config = {str(place): value for place, value in enumerate(VALUES)}
        with_trials(backend, ev.TrialCreated({}, arms=(ev.Arm(config, 0.5, "0_0"), ev.Arm({"b": (1,)}))))
        for arms in (read_all(backend)[1].event.arms, trial_state(backend, 1).arms):
            assert same([arm.config for arm in arms], [config, {"b": (1,)}])
            assert [(arm.weight, arm.name) for arm in arms] == [(0.5, "0_0"), (1.0, None)]

    @pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED.keys())
    def test_a_value_that_cannot_be_kept_is_refused(self, backend: Backend, value: Any) -> None:
        """A value that would come back as another raises InvalidValue, wherever it stands, and leaves nothing behind."""
        with_experiment(backend)
        stream = trial_stream(EXPERIMENT, 1)
        before = Trace(backend, stream, "s")
        for event in (ev.TrialCreated({"value": value}), ev.TrialCreated({"deep": [({"value": value},)]})):
            error = refusal(backend, submission([*notes("a", stream="s"), (stream, event)]))
            assert isinstance(error, InvalidValue)
        assert Trace(backend, stream, "s") == before

    def test_values_that_cannot_be_kept_are_refused_in_arms(self, backend: Backend) -> None:
        """The configs of arms are checked as a trial's own config is."""
        with_experiment(backend)
        accepted: list[tuple[str, object]] = []
        for name, value in REFUSED.items():
            created = ev.TrialCreated({}, arms=(ev.Arm({}), ev.Arm({"value": value})))
            answer = backend.commit([submission([(trial_stream(EXPERIMENT, len(accepted) + 1), created)])])[0]
            if not isinstance(answer, InvalidValue):
                accepted.append((name, answer))
        assert accepted == []

    def test_a_record_too_large_is_refused(self, backend: Backend) -> None:
        """An event over 512 KiB raises RecordTooLarge with its size and leaves nothing behind; one just below is kept."""
        before = Trace(backend, "s")
        error = refusal(backend, submission([*notes("a", stream="s"), ("s", NoteAdded("x" * 600_000))]))
        assert isinstance(error, RecordTooLarge)
        assert error.size_bytes > 600_000
        assert error.limit_bytes == 512 * 1024
        assert Trace(backend, "s") == before
        append(backend, notes("x" * 523_000, stream="s"))
        assert len(read_all(backend)[0].event.text) == 523_000

    def test_a_reason_too_large_is_refused(self, backend: Backend, log: EventLog) -> None:
        """What goes with an event counts too: a record is under the limit as a whole."""
        with pytest.raises(InvalidValue):
            log.append([NoteAdded("a")], stream="s", reason="x" * 600_000)
        assert backend.head() == 0

    @pytest.mark.parametrize("event", NO_EVENTS, ids=ascii)
    def test_an_event_that_is_none_is_refused(self, backend: Backend, event: Any) -> None:
        """What is no registered event, or has a field of another type than declared, is refused and leaves nothing."""
        assert isinstance(refusal(backend, submission([("s", event)])), InvalidValue)
        assert backend.head() == 0

    @pytest.mark.parametrize(
        "stream", ["", "\ud800", "x" * 401, "é" * 201, "trial/1", "experiment/", "trial/x/1", 5, None], ids=ascii
    )
    def test_a_stream_name_that_cannot_be_kept_is_refused(self, backend: Backend, stream: Any) -> None:
        """A stream's name is a text of 1 to 400 bytes that is not in the spaces kept for experiments and trials."""
        assert isinstance(refusal(backend, submission([(stream, NoteAdded("a"))])), InvalidValue)
        assert backend.head() == 0

    def test_a_stream_that_cannot_exist_has_version_0(self, backend: Backend, log: EventLog) -> None:
        """Asking for, reading or expecting a stream that no append could make finds none, and harms nothing."""
        for stream in ("x" * 401, "x" * 5000, "\ud800", "", "trial/x/1"):
            assert log.version(stream) == 0
            assert list(log.read(stream=stream)) == []
            append(backend, notes("a"), expect={stream: 0})

    # -- what goes with an event

    def test_the_fields_of_a_record_are_kept(self, backend: Backend, log: EventLog, clock: FakeClock) -> None:
        """Actor, reason, correlation, causation, time and own ids are read as they were given."""
        at = dt.datetime(2020, 5, 17, 12, 0, 0, 250, tzinfo=_ZONE)
        own = [UUID(int=7), UUID(int=8)]
        log.append([NoteAdded("plain")], stream="s")
        answer = log.append(
            [NoteAdded("a"), NoteAdded("b")], stream="s", append_id=UUID(int=3), ids=own, actor="métier", reason="why, é",
            correlation_id="c-1", causation_id="x-2", occurred_at=at,
        )  # fmt: skip
        log.append([NoteAdded("late")], stream="s", occurred_at=1_234_567_890_123_456_789)
        plain, one, two, late = read_all(backend)
        assert (plain.actor, plain.context, plain.happened_at) == (log.actor, None, clock())
        assert (plain.reason, plain.correlation_id, plain.causation_id, plain.occurred_at) == (None,) * 4
        for ordinal, record in enumerate((one, two)):
            assert (record.actor, record.reason, record.correlation_id, record.causation_id) == (
                "métier",
                "why, é",
                "c-1",
                "x-2",
            )
            assert record.occurred_at == record.happened_at == 1_589_696_100_000_250_000
            assert (record.append_id, record.ordinal) == (UUID(int=3).bytes, ordinal)
            assert record.id == str(own[ordinal])
            assert (record.type, record.schema, record.recorded_at) == ("NoteAdded", 1, answer.recorded_at)
        assert late.occurred_at == 1_234_567_890_123_456_789
        assert late.recorded_at == clock()

    def test_a_time_without_a_zone_is_refused(self, log: EventLog) -> None:
        """occurred_at is a datetime with a time zone, or ns."""
        for time in (dt.datetime(2026, 1, 1), "2026-01-01", 1.5):
            with pytest.raises(InvalidValue):
                log.append([NoteAdded("a")], stream="s", occurred_at=time)
        assert log.head == 0
