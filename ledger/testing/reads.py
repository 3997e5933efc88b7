"""The contract of reading: pages, positions, indexes, filters, subscriptions."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from ledger import events as ev
from ledger.backends.base import Backend, config_digest
from ledger.errors import InvalidValue
from ledger.events import NoteAdded
from ledger.log import EventLog
from ledger.records import Record
from ledger.tail import Subscription
from ledger.testing.clock import FakeClock
from ledger.testing.tools import (
    EXPERIMENT,
    ContractBase,
    append,
    ask,
    define,
    notes,
    own_types,
    read_all,
    with_experiment,
    with_trials,
)

OTHER = UUID("01890000-0000-7000-8000-000000000002")


def _positions(records: list[Record]) -> list[int]:
    return [record.position for record in records]


def _mixed(backend: Backend) -> None:
    """Fill a log: an experiment with two trials (2, 3, 5), another (4), remarks in two streams."""
    with_experiment(backend)
    with_trials(backend, ev.TrialCreated({"lr": 1}), ev.TrialCreated({"lr": 1.0}))
    with_experiment(backend, OTHER, "other")
    with_trials(backend, ev.TrialCreated({"lr": 1}), first=3)
    for i in range(10):
        append(backend, notes(str(i), stream="even" if i % 2 == 0 else "odd"))


def _wait_for(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds, or for some seconds."""
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)


class ReadContract(ContractBase):
    """How records come out of the log."""

    # -- pages

    def test_pages_reach_the_head_and_skip_nothing(self, backend: Backend) -> None:
        """Page after page, from any position, gives each later record once; an empty one ends it."""
        for size in (1, 1, 5, 600, 1, 3, 900, 2):
            append(backend, notes(*["x"] * size))
        head = backend.head()
        for after in (*range(12), 511, 512, 513, 600, 606, 607, 608, head - 1, head):
            assert _positions(read_all(backend, after)) == list(range(after + 1, head + 1))

    def test_a_page_says_how_far_it_reached(self, backend: Backend) -> None:
        """A page reaches at least its last record, beyond ``after`` while there is more, and never past the head."""
        append(backend, notes(*["x"] * 40))
        after = 0
        while after < 40:
            page, reached = backend.read_page(after)
            assert after < page[-1].position <= reached <= 40
            after = reached
        assert backend.read_page(40) == ([], 40)

    @pytest.mark.parametrize("after", [3, 1000, 2**64 - 1, 2**64, 2**80])
    def test_a_page_after_the_head_is_empty(self, backend: Backend, after: int) -> None:
        """Reading from the head, or beyond it, finds nothing and reaches no further."""
        append(backend, notes("a", "b", "c"))
        assert backend.read_page(after) == ([], after)
        assert list(EventLog(backend).read(after)) == []

    def test_a_page_of_types_reaches_over_the_others(self, backend: Backend) -> None:
        """With ``types``, records of others are left out, and none of those asked for."""
        for i in range(120):
            append(backend, [("s", ev.TagsChanged([str(i)]) if i % 37 == 0 else NoteAdded(str(i)))])
        found, after = [], 0
        while True:
            page, reached = backend.read_page(after, frozenset({"TagsChanged"}))
            found += page
            if reached <= after:
                break
            after = reached
        assert _positions(found) == [1, 38, 75, 112]
        assert after == 120

    # -- places

    def test_records_are_read_by_position(self, backend: Backend) -> None:
        """read_positions returns the records at the positions, in order; those beyond the head are left out."""
        for i in range(30):
            append(backend, notes(*[f"{i}/{j}" for j in range(40)], stream=f"s{i % 3}"))
        for asked in ([1], [1200], [5, 6, 7, 41, 700], list(range(1, 1201, 7)), [1199, 1200, 1201, 5000], [9999], []):
            assert _positions(backend.read_positions(asked)) == [p for p in asked if p <= 1200]

    def test_positions_that_cannot_be_are_left_out(self, backend: Backend) -> None:
        """Position 0, negative ones and those above 64 bits are left out as those beyond the head are."""
        append(backend, notes("a", "b"))
        assert _positions(backend.read_positions([-1, 0, 2, 2**64])) == [2]

    def test_streams_experiments_and_configs_have_their_positions(self, backend: Backend) -> None:
        """The indexes list the positions of a stream, of an experiment with its trials, and of a config, typed."""
        _mixed(backend)
        assert list(backend.stream_positions("odd")) == [7, 9, 11, 13, 15]
        assert list(backend.stream_positions("none")) == []
        assert list(backend.experiment_positions(EXPERIMENT)) == [1, 2, 3, 5]
        assert list(backend.experiment_positions(OTHER)) == [4]
        assert list(backend.experiment_positions(UUID(int=9))) == []
        assert list(backend.config_positions(config_digest({"lr": 1}))) == [2, 5]
        assert list(backend.config_positions(config_digest({"lr": 1.0}))) == [3]

    def test_long_streams_have_all_their_positions(self, backend: Backend) -> None:
        """The positions of a stream of thousands of records, written in small and large appends, are all there."""
        expected: list[int] = []
        for i in range(60):
            size = (1, 1, 2, 300, 40)[i % 5]
            position = append(backend, notes(*["x"] * size, stream="long" if i % 3 else "other")).position
            expected += range(position, position + size) if i % 3 else ()
        assert list(backend.stream_positions("long")) == expected
        assert ask(backend, lambda view: view.version("long")) == len(expected)

    # -- the log's filters

    def test_read_limits(self, backend: Backend, log: EventLog) -> None:
        """``limit`` ends after so many records, ``as_of`` after a position, together with any filter."""
        _mixed(backend)
        assert _positions(list(log.read(limit=3))) == [1, 2, 3]
        assert _positions(list(log.read(after=3, limit=2))) == [4, 5]
        assert _positions(list(log.read(limit=0))) == []
        assert _positions(list(log.read(as_of=2))) == [1, 2]
        assert _positions(list(log.read(after=2, as_of=2))) == []
        assert _positions(list(log.read(stream="even", as_of=10, after=6))) == [8, 10]
        assert _positions(list(log.read(types=["NoteAdded"], limit=2))) == [6, 7]

    def test_read_filters(self, backend: Backend, log: EventLog) -> None:
        """Records are read by stream, experiment, config and types, by name or class, from any position."""
        _mixed(backend)
        assert _positions(list(log.read(stream="even", after=6))) == [8, 10, 12, 14]
        assert _positions(list(log.read(experiment=EXPERIMENT, after=1))) == [2, 3, 5]
        assert _positions(list(log.read(config={"lr": 1}))) == [2, 5]
        assert _positions(list(log.read(config={}))) == []
        assert _positions(list(log.read(types=[ev.TrialCreated, "ExperimentCreated"]))) == [1, 2, 3, 4, 5]
        assert _positions(list(log.read(experiment=EXPERIMENT, types=[ev.ExperimentCreated]))) == [1]
        assert list(log.read(stream="none")) == []
        assert list(log.read(stream="x" * 1000)) == []

    def test_filters_given_together_all_count(self, backend: Backend, log: EventLog) -> None:
        """Of stream, experiment and config, several given together leave out what any of them leaves out, or are refused."""
        _mixed(backend)
        given: list[dict[str, Any]] = [{"stream": "odd", "experiment": EXPERIMENT}, {"experiment": OTHER, "config": {"lr": 1.0}}]
        for filters in given:
            try:
                records = list(log.read(**filters))
            except InvalidValue:
                continue
            assert records == []

    def test_a_class_names_its_type_when_read_by(self, backend: Backend, log: EventLog) -> None:
        """``types`` takes a class registered under another name than its own."""
        with own_types():
            make = define("conformance.Saved", [("path", str)])
            append(backend, [("s", make("a"))])
            type(make("a")).__name__ = "Saved"
            assert _positions(list(log.read(types=[type(make("a"))]))) == [1]

    def test_positions_to_read_from_are_numbers_from_0(self, log: EventLog) -> None:
        """A position below 0, or that is no int, is refused."""
        for after in (-1, 1.0, "1", None, True):
            with pytest.raises(InvalidValue):
                log.read(after)  # type: ignore[arg-type]

    def test_a_reader_in_the_middle_goes_on_while_others_append(self, backend: Backend, log: EventLog) -> None:
        """An iteration begun early reads all that was there, whatever is appended between its pages."""
        for _ in range(5):
            append(backend, notes(*["x"] * 150))
        found = []
        for record in log.read():
            found.append(record.position)
            if record.position % 100 == 0 and record.position <= 700:
                append(backend, notes(*["y"] * 90))
        assert found == list(range(1, backend.head() + 1))

    # -- subscriptions

    def test_a_subscription_catches_up_and_follows(self, backend: Backend, log: EventLog) -> None:
        """A subscription gives what is there, then what comes, each once, in order."""
        append(backend, notes(*["x"] * 300))
        with log.subscribe(after=5, poll_seconds=0.05) as records:
            assert [next(records).position for _ in range(295)] == list(range(6, 301))
            assert records.next(timeout=0) is None
            append(backend, notes("y", "z"))
            assert [next(records).position for _ in range(2)] == [301, 302]
            assert records.position == 302

    def test_a_subscription_is_woken_by_another_thread(self, backend: Backend, log: EventLog) -> None:
        """A thread that waits in a subscription gets every record that other threads append meanwhile."""
        found: list[int] = []

        def follow() -> None:
            with log.subscribe(poll_seconds=0.05) as records:
                found.extend(next(records).position for _ in range(60))

        follower = threading.Thread(target=follow)
        follower.start()
        for _ in range(20):
            log.append([NoteAdded("a"), NoteAdded("b"), NoteAdded("c")], stream="notes")
        follower.join(20)
        assert found == list(range(1, 61))

    def test_a_subscription_goes_on_from_its_position(self, backend: Backend, log: EventLog) -> None:
        """A new subscription after ``position`` of one that ended misses and repeats nothing."""
        append(backend, notes(*["x"] * 10))
        found, after = [], 0
        for _ in range(5):
            with log.subscribe(after=after) as records:
                found += [next(records).position for _ in range(2)]
                after = records.position
        assert found == list(range(1, 11))

    def test_a_subscription_filters(self, backend: Backend, log: EventLog) -> None:
        """A subscription to a stream, an experiment or types leaves others out, and its position passes over them."""
        _mixed(backend)
        head = backend.head()
        for filters, expected in (
            ({"stream": "odd"}, [7, 9, 11, 13, 15]),
            ({"experiment": EXPERIMENT}, [1, 2, 3, 5]),
            ({"types": [ev.ExperimentCreated]}, [1, 4]),
        ):
            with Subscription(backend, 0, **filters) as records:
                found = []
                while (record := records.next(timeout=0)) is not None:
                    found.append(record.position)
            assert found == expected
            assert expected[-1] <= records.position <= head

    def test_a_subscription_ends_when_closed_by_another_thread(self, log: EventLog) -> None:
        """Closing a subscription ends the iteration of a thread that waits in it, at once."""
        records = log.subscribe(poll_seconds=30)
        ended = threading.Event()

        def follow() -> None:
            assert list(records) == []
            ended.set()

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        time.sleep(0.05)
        records.close()
        assert ended.wait(10)

    def test_an_async_subscription_catches_up_and_follows(self, backend: Backend, log: EventLog) -> None:
        """An asyncio task gives what is there, then what other threads append, and ends when closed by one of them."""
        append(backend, notes("a", "b"))
        found: list[int] = []

        async def follow() -> None:
            records = log.subscribe(poll_seconds=30 if self._rings_at_once else 0.05)
            others = threading.Thread(target=write, args=(records,))
            others.start()
            async for record in records:
                found.append(record.position)  # noqa: PERF401 - the other thread watches the list grow
            others.join()

        def write(records: Subscription) -> None:
            _wait_for(lambda: len(found) >= 2)
            for _ in range(5):
                log.append([NoteAdded("c")], stream="notes")
            _wait_for(lambda: len(found) >= 7)
            records.close()

        asyncio.run(asyncio.wait_for(follow(), 20))
        assert found == list(range(1, 8))

    _rings_at_once = True  # set False for a backend whose ``listen`` may miss commits of its own process

    def test_listeners_are_called_until_they_end_it(self, backend: Backend, clock: FakeClock) -> None:
        """``listen`` calls back after a commit, when its records can be read, and no more once it was ended."""
        heads: list[int] = []
        stop = backend.listen(lambda: heads.append(backend.head()))
        append(backend, notes("a"))
        _wait_for(lambda: bool(heads))
        assert heads
        assert set(heads) == {1}
        stop()
        stop()
        time.sleep(0.05)
        count = len(heads)
        append(backend, notes("b"))
        time.sleep(0.05)
        assert len(heads) == count
