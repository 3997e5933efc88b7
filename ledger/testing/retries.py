"""The contract of retrying: the same append again is recorded once, another under its id never."""

from __future__ import annotations

from uuid import UUID

import pytest

from ledger import events as ev
from ledger.backends.base import Backend, Staged, View
from ledger.errors import AppendIdReused, InvalidValue
from ledger.events import NoteAdded
from ledger.identity import uuid7_bytes
from ledger.records import Context
from ledger.testing.clock import FakeClock
from ledger.testing.tools import ContractBase, append, asking, commit, notes, read_all, refusal, submission, texts

ID_1, ID_2, ID_3 = (UUID(int=0x0189_0000_0000_7000_8000_0000_0000_1000 + i) for i in range(3))


class RetryContract(ContractBase):
    """How an append is repeated whose outcome is not known."""

    @pytest.mark.parametrize("together", [False, True], ids=["later", "in one group"])
    def test_an_append_id_repeated_gives_the_first_answer(self, backend: Backend, clock: FakeClock, together: bool) -> None:
        """The same append again is recorded once and answered as the first time, also when its expectation is past."""
        first = submission(notes("a", "b"), append_id=ID_1, expect={"notes": 0})
        again = submission(notes("a", "b"), append_id=ID_1, expect={"notes": 0})
        if together:
            answers = commit(backend, submission(notes("x", stream="other")), first, submission(notes("c")), again)
            one, two = answers[1], answers[3]
        else:
            one = commit(backend, first)[0]
            clock.advance(5)
            append(backend, notes("c"))
            two = commit(backend, again)[0]
        assert two == one
        assert texts(backend)[-3:] == ["a", "b", "c"]

    @pytest.mark.parametrize("delay_seconds", [0, 0.9, 30], ids=["at once", "soon", "late"])
    @pytest.mark.parametrize("count", [1, 3, 1300], ids=["one", "some", "many"])
    def test_an_append_is_known_by_its_id_for_ever(
        self, backend: Backend, clock: FakeClock, count: int, delay_seconds: float
    ) -> None:
        """An append is recorded once however much is appended after it, and however long after its id it was made."""
        made_at = clock() // 1_000_000
        clock.advance(delay_seconds)
        append_id = UUID(bytes=uuid7_bytes(made_at, bytes(10)))
        content = notes(*map(str, range(count)))
        append(backend, notes("before"))
        first = append(backend, content, append_id=append_id)
        for after in range(5):
            for _ in range(130):
                append(backend, notes("after"))
            clock.advance(2)
            assert append(backend, content, append_id=append_id) == first, f"after {after} times 130 more"
        unknown = UUID(bytes=uuid7_bytes(made_at, b"\1" * 10))
        assert append(backend, notes("new"), append_id=unknown).position == backend.head() == count + 652

    def test_a_command_repeated_is_not_run_again(self, backend: Backend) -> None:
        """A command with a known append id is answered as the first time, whatever it would decide now."""
        runs: list[int] = []

        def command(view: View) -> list[Staged]:
            runs.append(view.version("notes"))
            return notes(str(view.version("notes")))

        asked = asking(command)
        one = commit(backend, asked)[0]
        assert commit(backend, asked)[0] == one
        assert texts(backend) == ["0"]
        assert len(runs) == 1

    @pytest.mark.parametrize("together", [False, True], ids=["later", "in one group"])
    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            pytest.param(notes("a", "z"), "why", id="content"),
            pytest.param(notes("a"), "why", id="count"),
            pytest.param(notes("a", "b", "c"), "why", id="larger count"),
            pytest.param(notes("a", "b", stream="other"), "why", id="stream"),
            pytest.param([("notes", ev.TagsChanged()), ("notes", NoteAdded("b"))], "why", id="type"),
            pytest.param(notes("a", "b"), "other", id="reason"),
            pytest.param(notes("a", "b"), None, id="no reason"),
        ],
    )
    def test_an_append_id_with_other_content_is_refused(
        self, backend: Backend, content: list[Staged], reason: str | None, together: bool
    ) -> None:
        """A known append id with another content, number of events, stream or reason raises AppendIdReused."""
        first = submission(notes("a", "b"), append_id=ID_1, context=Context(reason="why"))
        other = submission(content, append_id=ID_1, context=Context(reason=reason))
        if not together:
            commit(backend, first)
        error = refusal(backend, *([first, other] if together else [other]))
        assert isinstance(error, AppendIdReused)
        assert (error.append_id, error.position) == (ID_1, 1)
        assert texts(backend) == ["a", "b"]

    def test_a_refused_append_id_may_be_used_again(self, backend: Backend) -> None:
        """An id whose append was refused is not known: it may be used with any content."""
        append(backend, notes("a"))
        refusal(backend, submission(notes("b"), append_id=ID_1, expect={"notes": 0}))
        assert append(backend, notes("c", "d"), append_id=ID_1).position == 2

    def test_records_by_the_callers_own_ids_are_recorded_once(self, backend: Backend) -> None:
        """An append whose records' own ids are all known is answered as the first time, though its append id is new."""
        one = append(backend, notes("a", "b"), append_id=ID_1, record_ids=[ID_2, ID_3])
        append(backend, notes("c"))
        assert append(backend, notes("a", "b"), record_ids=[ID_2, ID_3]) == one
        assert texts(backend) == ["a", "b", "c"]
        assert [record.id for record in read_all(backend)][:2] == [str(ID_2), str(ID_3)]

    def test_one_of_the_callers_ids_may_be_repeated_alone(self, backend: Backend) -> None:
        """A retry of part of an append by its records' own ids is answered with that part."""
        append(backend, notes("a", "b"), record_ids=[ID_2, ID_3])
        assert append(backend, notes("b"), record_ids=[ID_3]).position == 2
        assert backend.head() == 2

    def test_ids_of_which_some_are_known_are_refused(self, backend: Backend) -> None:
        """An append of known and new ids together raises AppendIdReused and writes nothing."""
        append(backend, notes("a"), record_ids=[ID_1])
        for ids in ([ID_1, ID_2], [ID_2, ID_1]):
            error = refusal(backend, submission(notes("a", "b"), record_ids=ids))
            assert isinstance(error, AppendIdReused)
        assert texts(backend) == ["a"]

    def test_known_ids_with_other_content_are_refused(self, backend: Backend) -> None:
        """A known record's own id with another content raises AppendIdReused."""
        append(backend, notes("a", "b"), record_ids=[ID_1, ID_2])
        assert isinstance(refusal(backend, submission(notes("a", "c"), record_ids=[ID_1, ID_2])), AppendIdReused)
        assert isinstance(refusal(backend, submission(notes("a"), record_ids=[ID_2])), AppendIdReused)
        assert texts(backend) == ["a", "b"]

    @pytest.mark.parametrize("ids", [[ID_1, ID_3], [ID_3, ID_1]], ids=["in order", "swapped"])
    def test_ids_known_from_several_appends_never_answer_with_other_records(self, backend: Backend, ids: list[UUID]) -> None:
        """Ids recorded by different appends, given together, are answered with their own records or refused."""
        for identifier, text in ((ID_1, "1"), (ID_2, "2"), (ID_3, "3")):
            append(backend, notes(text), record_ids=[identifier])
        own = {ID_1: "1", ID_3: "3"}
        answer = backend.commit([submission(notes(*(own[i] for i in ids)), record_ids=ids)])[0]
        if isinstance(answer, Exception):
            assert isinstance(answer, AppendIdReused)
        else:
            assert [event.text for _, event in answer.events if isinstance(event, NoteAdded)] == [own[i] for i in ids]
        assert backend.head() == 3

    def test_an_id_given_twice_is_refused(self, backend: Backend) -> None:
        """Two records of one append cannot have the same id: InvalidValue, and nothing is written."""
        assert isinstance(refusal(backend, submission(notes("a", "b"), record_ids=[ID_1, ID_1])), InvalidValue)
        assert backend.head() == 0

    def test_as_many_ids_as_events_are_needed(self, backend: Backend) -> None:
        """Own ids are given for each event of an append or for none."""
        assert isinstance(refusal(backend, submission(notes("a", "b"), record_ids=[ID_1])), InvalidValue)
        assert backend.head() == 0

    def test_an_append_id_that_is_also_a_records_own_answers_whole(self, backend: Backend) -> None:
        """An append id used for one of its own records too is refused, or a retry is answered with the whole append."""
        first = backend.commit([submission(notes("a", "b"), append_id=ID_1, record_ids=[ID_1, ID_2])])[0]
        again = backend.commit([submission(notes("a", "b"), append_id=ID_1, record_ids=[ID_1, ID_2])])[0]
        assert isinstance(first, InvalidValue) or again == first
        assert backend.head() in (0, 2)
