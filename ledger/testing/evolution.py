"""The contract of event types that change: what was recorded stays readable, whatever became of its class."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from ledger import upcasters
from ledger.backends.base import Backend
from ledger.events import NoteAdded
from ledger.records import Record
from ledger.registry import UnknownEvent
from ledger.testing.tools import ContractBase, append, define, forget, notes, own_types, read_all
from ledger.testing.values import same


class EvolutionContract(ContractBase):
    """How records outlive the code that wrote them."""

    @pytest.fixture
    def changing_types(self) -> Iterator[None]:
        """Whatever a test registers is forgotten at its end."""
        if not self.decodes_when_read:
            pytest.skip("the log keeps events, not bytes: decodes_when_read is False")
        with own_types():
            yield

    @pytest.mark.usefixtures("changing_types")
    def test_unknown_types_are_carried_through(self, backend: Backend) -> None:
        """A type that is not registered is read with its name, schema and data, as are its neighbours, and can be copied."""
        data = {"path": "a.bin", "step": 2**70, "shape": (1, 2), "at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}
        make = define("ConformanceSaved", [("path", str), ("step", Any), ("shape", Any), ("at", Any)], schema=3)
        append(backend, [*notes("a"), ("notes", make(**data)), *notes("b")])
        forget("ConformanceSaved")
        records = read_all(backend)
        assert [record.type for record in records] == ["NoteAdded", "ConformanceSaved", "NoteAdded"]
        event = records[1].event
        assert (event.type, event.schema, event.problem) == ("ConformanceSaved", 3, "")
        assert same(event.data, data)
        append(backend, [("copy", event)])
        assert read_all(backend)[-1].event == event
        assert read_all(backend)[-1].schema == 3

    @pytest.mark.usefixtures("changing_types")
    def test_a_copy_of_an_unknown_event_is_read_as_the_original(self, backend: Backend) -> None:
        """An event copied by a program that does not know its type is, to one that does, the same event."""
        at = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
        make = define("ConformanceSaved", [("at", dt.datetime), ("size", Decimal), ("key", UUID), ("pair", tuple[int, int])])
        append(backend, [("s", make(at, Decimal("1.5"), UUID(int=1), (1, 2)))])
        entry = type(make(at, Decimal("1.5"), UUID(int=1), (1, 2)))
        forget("ConformanceSaved")
        append(backend, [("copy", read_all(backend)[0].event)])
        define("ConformanceSaved", [("at", dt.datetime), ("size", Decimal), ("key", UUID), ("pair", tuple[int, int])])
        one, two = (record.event for record in read_all(backend))
        assert entry.__name__ == type(one).__name__
        assert one == two

    @pytest.mark.usefixtures("changing_types")
    def test_old_schemas_are_read_through_upcasters(self, backend: Backend) -> None:
        """A record of an older schema version is read as the present one, step by step, among its neighbours."""
        old = define("ConformanceSaved", [("path", str)])
        append(backend, [*notes("a"), ("s", old("x.bin")), *notes("b")])
        define("ConformanceSaved", [("name", str), ("shape", Any), ("size", Decimal)], schema=3)
        upcasters.upcaster("ConformanceSaved", 1)(lambda data: {"name": data["path"], "shape": (1, 2**70)})
        upcasters.upcaster("ConformanceSaved", 2)(lambda data: {**data, "size": Decimal("1.5")})
        record = read_all(backend)[1]
        assert (record.schema, record.event.name, record.event.size) == (1, "x.bin", Decimal("1.5"))
        assert same(record.event.shape, (1, 2**70))
        assert len(read_all(backend)) == 3

    @pytest.mark.usefixtures("changing_types")
    def test_a_record_newer_than_the_code_is_carried_through(self, backend: Backend) -> None:
        """A record of a newer schema, or of an older one without upcasters, is an UnknownEvent that says so."""
        new = define("ConformanceSaved", [("path", str)], schema=2)
        append(backend, [*notes("a"), ("s", new("x.bin")), *notes("b")])
        for schema, words in ((1, "newer"), (3, "no upcaster")):
            define("ConformanceSaved", [("path", str)], schema=schema)
            event = read_all(backend)[1].event
            assert isinstance(event, UnknownEvent)
            assert words in event.problem
            assert event.data == {"path": "x.bin"}

    @pytest.mark.usefixtures("changing_types")
    def test_an_upcaster_that_fails_does_not_hide_its_neighbours(self, backend: Backend) -> None:
        """A record whose upcaster raises is an UnknownEvent that says so; those beside it are read."""
        old = define("ConformanceSaved", [("path", str)])
        append(backend, [*notes("a"), ("s", old("x.bin")), *notes("b")])
        define("ConformanceSaved", [("path", str)], schema=2)
        upcasters.upcaster("ConformanceSaved", 1)(lambda data: {"path": data["no such key"]})
        records = read_all(backend)
        assert isinstance(records[1].event, UnknownEvent)
        assert "no such key" in records[1].event.problem
        assert [record.type for record in records] == ["NoteAdded", "ConformanceSaved", "NoteAdded"]

    @pytest.mark.usefixtures("changing_types")
    def test_a_class_changed_without_a_new_schema_hides_only_itself(self, backend: Backend) -> None:
        """A record that no longer fits its class is an UnknownEvent with its problem; its neighbours are read."""
        old = define("ConformanceSaved", [("path", str)])
        append(backend, [*notes("a"), ("s", old("x.bin")), *notes("b")])
        define("ConformanceSaved", [("path", int)])
        self._hides_only_itself(read_all(backend))
        self._hides_only_itself(backend.read_positions([1, 2, 3]))

    def _hides_only_itself(self, records: list[Record]) -> None:
        assert [record.position for record in records] == [1, 2, 3]
        event = records[1].event
        assert isinstance(event, UnknownEvent)
        assert "path" in event.problem
        assert event.data == {"path": "x.bin"}
        assert [records[0].event, records[2].event] == [NoteAdded("a"), NoteAdded("b")]

    @pytest.mark.usefixtures("changing_types")
    def test_fields_with_a_default_may_be_added(self, backend: Backend) -> None:
        """A field added with a default is read from older records too."""
        old = define("ConformanceSaved", [("path", str)])
        append(backend, [("s", old("x.bin"))])
        define("ConformanceSaved", [("path", str), ("step", int, 7)])
        assert read_all(backend)[0].event.step == 7
