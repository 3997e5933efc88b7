"""The contract of appending: places, times, expectations, the tree."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import warnings
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from ledger import events as ev
from ledger.backends.base import Backend
from ledger.errors import (
    InvalidValue,
    LedgerClosed,
    WrongExpectedVersion,
)
from ledger.events import NoteAdded
from ledger.log import NO_STREAM, EventLog
from ledger.records import Context
from ledger.testing.clock import FakeClock
from ledger.testing.tools import (
    ACTOR,
    EXPERIMENT,
    ContractBase,
    Trace,
    append,
    ask,
    commit,
    first_ready,
    notes,
    read_all,
    refusal,
    submission,
    texts,
    with_experiment,
    with_trials,
)
from ledger.tree import EMPTY_ROOT, root_of

RETRIED = UUID(int=0x0189_0000_0000_7000_8000_0000_0000_1000)


class AppendContract(ContractBase):
    """How records come into the log."""

    # -- places and times

    def test_an_empty_log_has_head_0_and_the_empty_tree(self, backend: Backend) -> None:
        """A new log ends at position 0; its tree has no leaf and the root that the RFC gives for none."""
        assert backend.head() == 0
        assert backend.tree_head() == (0, EMPTY_ROOT)
        assert backend.read_page(0) == ([], 0)

    def test_positions_are_dense_from_1(self, backend: Backend) -> None:
        """Records have the positions 1, 2, 3 ... in the order of their appends, whatever streams they go to."""
        for size in (1, 3, 1, 700, 2):
            append(backend, [(f"s{i % 3}", NoteAdded(str(i))) for i in range(size)])
        assert [record.position for record in read_all(backend)] == list(range(1, 708))
        assert backend.head() == 707

    def test_versions_are_dense_from_1_in_each_stream(self, backend: Backend) -> None:
        """Records have the versions 1, 2, 3 ... in their stream, also within one append."""
        append(backend, [*notes("a", stream="x"), *notes("b", stream="y"), *notes("c", stream="x")])
        append(backend, [*notes("d", stream="y"), *notes("e", stream="x")])
        places = [(record.stream, record.version) for record in read_all(backend)]
        assert places == [("x", 1), ("y", 1), ("x", 2), ("y", 2), ("x", 3)]
        assert ask(backend, lambda view: (view.version("x"), view.version("y"), view.version("z"))) == (3, 2, 0)

    def test_the_answer_says_where_the_records_are(self, backend: Backend) -> None:
        """An append is answered with its id, the positions of its first and last record, its time and its events."""
        append(backend, notes("before"))
        answer = append(backend, notes("a", "b"), append_id=RETRIED)
        assert (answer.append_id, answer.position, answer.head) == (RETRIED, 2, 3)
        assert answer.events == (("notes", NoteAdded("a")), ("notes", NoteAdded("b")))
        assert {record.recorded_at for record in read_all(backend, after=1)} == {answer.recorded_at}

    def test_streams_of_any_text_are_kept_apart(self, backend: Backend) -> None:
        """Streams whose names are alike, numbered, not ASCII or long do not share versions."""
        names = [
            "a",
            "a1",
            "a01",
            "a10",
            "a\x01",
            "a\x011",
            "1",
            "01",
            "é",
            "e\u0301",
            "日本/1",
            "x" * 400,
            "x" * 399,
            "a" * 300 + "9" * 60,
        ]
        for name in names:
            append(backend, notes("first", stream=name), expect={name: NO_STREAM})
        for place, name in enumerate(names, start=1):
            assert list(backend.stream_positions(name)) == [place]

    def test_recorded_at_is_the_clocks_time(self, backend: Backend, clock: FakeClock) -> None:
        """A record carries the time that the injected clock shows at its commit."""
        for seconds in (0.0, 1.5, 86_400.0):
            clock.advance(seconds)
            assert append(backend, notes("x")).recorded_at == clock()

    def test_recorded_at_never_falls_when_the_clock_is_set_back(self, backend: Backend, clock: FakeClock) -> None:
        """A clock set back by seconds leaves times standing until it has caught up."""
        for seconds in (0, -30, -20, 45, 10):
            clock.advance(seconds)
            append(backend, notes("x"))
        times = [record.recorded_at for record in read_all(backend)]
        assert times == sorted(times)
        assert len(times) == 5
        assert times[-1] == clock()

    def test_a_clock_far_behind_is_recorded(self, backend: Backend, clock: FakeClock) -> None:
        """A clock over a minute behind the log gives one warning and a ClockSkewed event, and no time falls."""
        append(backend, notes("before"))
        clock.advance(-3600)
        append(backend, notes("after"))
        assert "before the newest record" in (backend.take_warning() or "")
        assert backend.take_warning() is None
        records = read_all(backend)
        assert [record.type for record in records] == ["NoteAdded", "ClockSkewed", "NoteAdded"]
        assert (records[1].event.raw_time, records[1].event.behind_seconds) == (clock(), 3600.0)
        assert len({record.recorded_at for record in records}) == 1

    def test_a_skew_is_recorded_though_its_warning_is_an_error(self, log: EventLog, clock: FakeClock) -> None:
        """Where warnings are errors, a clock far behind costs no append and no ClockSkewed event: a retry has both once."""
        log.append([NoteAdded("before")], stream="notes")
        clock.advance(-3600)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for _ in range(2):
                with contextlib.suppress(UserWarning):
                    log.append([NoteAdded("after")], stream="notes", append_id=RETRIED)
        assert [record.type for record in log.read()] == ["NoteAdded", "ClockSkewed", "NoteAdded"]

    def test_a_views_time_is_never_before_the_newest_record(self, backend: Backend, clock: FakeClock) -> None:
        """With the clock set back, a view says the time that the next record will carry."""
        recorded_at = append(backend, notes("x")).recorded_at
        clock.advance(-20)
        assert ask(backend, lambda view: view.now) == recorded_at

    def test_a_view_is_of_one_moment(self, backend: Backend) -> None:
        """What is appended while somebody looks is in the next view, not in this one; and this one is asked after that, too."""
        append(backend, notes("a"))
        with backend.view() as view:
            assert view.version("notes") == 1
            with_experiment(backend)
            with_trials(backend, ev.TrialCreated({}))
            append(backend, notes("b"))
            assert ask(backend, lambda later: (later.version("notes"), len(list(later.experiments())))) == (2, 1)
            assert (view.version("notes"), list(view.experiments()), view.trial(EXPERIMENT, 1)) == (1, [], None)

    # -- expected versions

    def test_the_right_expected_version_is_accepted(self, backend: Backend) -> None:
        """An append that expects the version that its stream has goes through; NO_STREAM is that of none."""
        append(backend, notes("a"), expect={"notes": NO_STREAM})
        append(backend, notes("b", "c"), expect={"notes": 1})
        append(backend, notes("d"), expect={"notes": 3})
        assert texts(backend) == ["a", "b", "c", "d"]

    @pytest.mark.parametrize("expected", [NO_STREAM, 1, 3, 1000])
    def test_a_wrong_expected_version_is_refused(self, backend: Backend, expected: int) -> None:
        """An append that expects another version is refused with both versions named, and writes nothing."""
        append(backend, notes("a", "b"))
        before = Trace(backend, "notes")
        error = refusal(backend, submission(notes("c"), expect={"notes": expected}))
        assert isinstance(error, WrongExpectedVersion)
        assert (error.stream, error.expected_version, error.version) == ("notes", expected, 2)
        assert Trace(backend, "notes") == before

    def test_versions_of_streams_not_appended_to_can_be_expected(self, backend: Backend) -> None:
        """Expectations may name any streams: one that is wrong refuses the append, whatever it appends to."""
        append(backend, notes("a", stream="x"))
        append(backend, notes("b", stream="y"), expect={"x": 1, "z": NO_STREAM})
        error = refusal(backend, submission(notes("c", stream="y"), expect={"y": 1, "x": 0}))
        assert isinstance(error, WrongExpectedVersion)
        assert error.stream == "x"
        assert texts(backend) == ["a", "b"]

    def test_a_version_is_expected_after_those_before_in_the_group(self, backend: Backend) -> None:
        """Of two submissions of one group that expect the same version, the first wins."""
        answers = backend.commit([submission(notes(str(i)), expect={"notes": 0}) for i in range(2)])
        assert isinstance(answers[1], WrongExpectedVersion)
        assert texts(backend) == ["0"]

    # -- the log above

    def test_threads_that_append_at_once_all_get_their_own_answer(self, backend: Backend) -> None:
        """Appends of many threads share commits, and each is answered with its own records."""
        log = EventLog(backend, ACTOR)
        answers: dict[int, list[int]] = {}

        def work(number: int) -> None:
            answers[number] = [log.append(notes_of(f"{number}/{i}"), stream=f"t{number}").position for i in range(12)]

        def notes_of(text: str) -> list[NoteAdded]:
            return [NoteAdded(text)]

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        by_position = {record.position: record.event.text for record in read_all(backend)}
        found = {position: f"{number}/{i}" for number, places in answers.items() for i, position in enumerate(places)}
        assert by_position == found
        assert len(found) == 96

    def test_an_empty_append_is_refused(self, log: EventLog) -> None:
        """There must be something to append."""
        with pytest.raises(InvalidValue, match="nothing to append"):
            log.append([], stream="notes")

    def test_who_and_why_must_be_text(self, log: EventLog) -> None:
        """An actor, a reason or an id that is no valid text is refused, and nothing is written."""
        for more in ({"actor": 5}, {"actor": "\ud800"}, {"reason": 5}, {"reason": "\udc00"}, {"correlation_id": b"x"}):
            with pytest.raises(InvalidValue):
                log.append([NoteAdded("a")], stream="notes", **more)
        with pytest.raises(InvalidValue):
            log.append([NoteAdded("a")], stream="notes", ids=["no UUID"])  # type: ignore[list-item]
        with pytest.raises(InvalidValue):
            log.append([NoteAdded("a")], stream="notes", append_id="no UUID")  # type: ignore[arg-type]
        assert log.head == 0

    # -- the tree, the check, the end

    def test_the_tree_head_is_the_root_over_the_records(self, backend: Backend) -> None:
        """The tree's root is that of the leaf hashes made anew, from the records read and the salts of their appends."""
        asked = [
            submission(notes(*map(str, range(n))), context=Context(reason="r") if n % 2 else None) for n in (1, 2, 300, 1, 600)
        ]
        commit(backend, *asked[:3])
        commit(backend, *asked[3:])
        salts = {each.append_id: each.salt for each in asked}
        leaves = []
        for record in read_all(backend):
            group, place = divmod(record.ordinal, 512)
            stream = hashlib.shake_128(salts[record.append_id] + group.to_bytes(8, "big")).digest(16 * (place + 1))
            header = msgspec.msgpack.encode(
                (record.type, record.schema, record.position, record.stream, record.version, record.recorded_at,
                 record.append_id, record.ordinal, record.actor, record.context, b""), order="deterministic",
            )  # fmt: skip
            content = msgspec.msgpack.encode(record.event, order="deterministic")
            digest = hashlib.sha256(stream[-16:] + content).digest()
            leaves.append(hashlib.sha256(b"\x00" + header[:-2] + b"\xc4\x20" + digest).digest())
        assert backend.tree_head() == (904, root_of(leaves))

    def test_a_whole_log_passes_its_check(self, backend: Backend, clock: FakeClock) -> None:
        """A log with appends of all sizes, experiments and trials in every status passes ``check``."""
        backend.check()
        with_experiment(backend)
        with_trials(backend, *(ev.TrialCreated({"lr": i}, priority=i) for i in range(5)))
        for size in (1, 20, 600, 1100):
            append(backend, notes(*["x"] * size))
            clock.advance(1)
        backend.check()

    def test_a_closed_backend_raises_ledger_closed(self, backend: Backend) -> None:
        """After ``close``, which may be called again, every method raises LedgerClosed."""
        append(backend, notes("a"))
        backend.close()
        backend.close()
        calls = [
            backend.check_usable, lambda: backend.commit([submission(notes("b"))]), backend.head, lambda: backend.read_page(0),
            lambda: backend.read_positions([1]), lambda: backend.stream_positions("notes"),
            lambda: backend.experiment_positions(EXPERIMENT), lambda: backend.config_positions(b"\0" * 16), backend.tree_head,
            lambda: ask(backend, lambda view: view.now), lambda: backend.listen(lambda: None), backend.check,
        ]  # fmt: skip
        open_still = []
        for number, call in enumerate(calls):
            try:
                call()
                open_still.append(number)
            except LedgerClosed:
                pass
        assert open_still == [], f"calls {open_still} did not raise LedgerClosed"

    def test_what_was_appended_is_there_after_reopening(self, backend: Backend, tmp_path: Path, clock: FakeClock) -> None:
        """A log opened again has the same id, records, tree, versions, states and known ids."""
        with_experiment(backend)
        with_trials(backend, ev.TrialCreated({"lr": 1}), ev.TrialCreated({"lr": 2}))
        append(backend, notes(*["x"] * 600), append_id=RETRIED)
        identity, before = backend.ledger_id, Trace(backend, "notes")
        backend.close()
        again = self.reopen(tmp_path, clock)
        try:
            assert (again.ledger_id, Trace(again, "notes")) == (identity, before)
            assert append(again, notes(*["x"] * 600), append_id=RETRIED).position == 4
            assert ask(again, lambda view: first_ready(view, EXPERIMENT)).id == 1
            assert append(again, notes("next")).position == 604
            again.check()
        finally:
            again.close()
