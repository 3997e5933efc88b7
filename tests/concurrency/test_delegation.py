"""Processes that wait to write let the one that holds the gate commit for them: once each, whoever is killed or stopped."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

import ledger
from ledger import audit
from ledger.backends import mailbox as mailboxes
from ledger.backends.delegation import Asking
from ledger.backends.lmdb import LmdbBackend
from ledger.backends.mailbox import MOST_BYTES, SLOTS, Mailbox

pytestmark = pytest.mark.skipif(not mailboxes.IS_SUPPORTED, reason="it needs locks of open files, which only Linux has")

HOLDER = """
    import os, signal, sys, time, ledger
    from ledger.backends.environment import Environment
    from ledger.backends.mailbox import Mailbox, POSTED, HEADER_BYTES

    def wait_for_request(self):  # with the gate held, until somebody else wants to write
        print("holding", flush=True)
        while POSTED not in (states := self._map[64:HEADER_BYTES]):
            time.sleep(0.001)
        return states

    def end(self, *arguments):
        os.kill(os.getpid(), getattr(signal, sys.argv[3]))
        return original(self, *arguments)

    with ledger.open(sys.argv[1]) as book:
        Mailbox._gathered = wait_for_request
        owner, name = {"commit": (Environment, "commit_transaction"), "give": (Mailbox, "give")}[sys.argv[2]]
        original = getattr(owner, name)
        if sys.argv[3] != "no":
            setattr(owner, name, end)
        book.log.append([ledger.NoteAdded("holder")], stream="s")
        print("done", flush=True)
    """


@ledger.event
class KnownHereOnly(ledger.Event):
    """An event type that no other process has registered."""

    text: str


@ledger.event
class Widened(ledger.Event):
    """An event type that the other process knows with one field less."""

    text: str
    more: int = 0


def _texts(book: ledger.Ledger) -> list[str]:
    return [getattr(record.event, "text", "") for record in book.log.read(stream="s")]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many submissions another process has answered, one entry for each group."""
    counts: list[int] = []
    original = LmdbBackend._answers

    def count(self: LmdbBackend, asking: Asking) -> list:
        counts.append(sum(place is not None for place in asking.places))
        return original(self, asking)

    monkeypatch.setattr(LmdbBackend, "_answers", count)
    return counts


def test_the_holder_commits_for_who_waits(ledger_path: Path, script: Callable, taken: list[int]) -> None:
    """What a waiting process appends is in the same commit, under its own name, and it is told what was recorded."""
    with ledger.open(ledger_path, actor="waiter") as book:
        book.experiment("e")
        holder = script(HOLDER, ledger_path, "commit", "no")
        assert holder.line() == "holding"
        answer = book.log.append([ledger.NoteAdded("waiter")], stream="s", reason="because")
        assert holder.line() == "done"
        assert taken == [1]
        first, second = book.log.read(stream="s")
        assert (second.event, second.actor, second.context.reason) == (ledger.NoteAdded("waiter"), "waiter", "because")
        assert (answer.position, answer.append_id.bytes, answer.events) == (3, second.append_id, (("s", second.event),))
        assert answer.recorded_at == second.recorded_at == first.recorded_at
        assert first.actor != "waiter"


@pytest.mark.parametrize(
    ("moment", "expected"), [("commit", ["waiter"]), ("give", ["holder", "waiter"])], ids=["before", "after"]
)
def test_a_holder_killed_before_it_answers_loses_and_repeats_nothing(
    ledger_path: Path, script: Callable, moment: str, expected: list[str]
) -> None:
    """Killed before or after its commit: what it had taken for another process is recorded once."""
    with ledger.open(ledger_path) as book:
        holder = script(HOLDER, ledger_path, moment, "SIGKILL")
        assert holder.line() == "holding"
        answer = book.log.append([ledger.NoteAdded("waiter")], stream="s")
        holder.finish()
        assert _texts(book) == expected
        assert list(book.log.read())[answer.position - 1].event == ledger.NoteAdded("waiter")
        assert book.log.append([ledger.NoteAdded("next")], stream="s").position == len(expected) + 1


def test_without_the_look_for_its_records_it_would_be_repeated(
    tmp_path: Path, script: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above: it sees a waiter that takes its request back as if nobody had taken it."""
    monkeypatch.setattr(Asking, "_look_for_records", lambda self: None)
    path = tmp_path / "wrong.ledger"
    with ledger.open(path) as book:
        holder = script(HOLDER, path, "give", "SIGKILL")
        assert holder.line() == "holding"
        book.log.append([ledger.NoteAdded("waiter")], stream="s")
        holder.finish()
        assert _texts(book) == ["holder", "waiter", "waiter"]
    assert audit.verify(path).problems


@pytest.mark.parametrize(("moment", "expected"), [("commit", 2), ("give", 2)])
def test_a_holder_stopped_with_a_request_leaves_its_outcome_open(
    ledger_path: Path, script: Callable, moment: str, expected: int
) -> None:
    """After lock_timeout the waiter is told so, with the append id by which it repeats: it is recorded once."""
    with ledger.open(ledger_path, lock_timeout=0.4) as book:
        holder = script(HOLDER, ledger_path, moment, "SIGSTOP")
        assert holder.line() == "holding"
        with pytest.raises(ledger.CommitFailed, match=f"(?s)process {holder.process.pid}.*may or may not be on disk") as caught:
            book.log.append([ledger.NoteAdded("waiter")], stream="s")
        append_id = caught.value.append_id
        assert isinstance(append_id, UUID)
        with pytest.raises(ledger.LockTimeout):
            book.log.append([ledger.NoteAdded("other")], stream="s")
        os.kill(holder.process.pid, signal.SIGCONT)
        assert holder.line() == "done"
        assert book.log.append([ledger.NoteAdded("waiter")], stream="s", append_id=append_id).position == expected
        assert _texts(book) == ["holder", "waiter"]
        assert book.log.append([ledger.NoteAdded("next")], stream="s").position == 3


def test_what_the_holder_does_not_know_is_recorded_by_its_own_process(
    ledger_path: Path, script: Callable, taken: list[int]
) -> None:
    """An event type of this process alone is declined there, and recorded here."""
    with ledger.open(ledger_path) as book:
        holder = script(HOLDER, ledger_path, "commit", "no")
        assert holder.line() == "holding"
        book.log.append([KnownHereOnly("mine")], stream="s")
        assert holder.line() == "done"
        assert taken == [0]
        assert _texts(book) == ["holder", "mine"]


def test_a_field_that_the_holder_does_not_know_is_not_lost(ledger_path: Path, script: Callable, taken: list[int]) -> None:
    """Its class of the event is an older one, which would leave the new field out: it declines."""
    code = "    import ledger\n    @ledger.event\n    class Widened(ledger.Event):\n        text: str\n" + HOLDER
    with ledger.open(ledger_path) as book:
        holder = script(code, ledger_path, "commit", "no")
        assert holder.line() == "holding"
        answers = [book.log.append([Widened("a", 7)], stream="s")]
        assert holder.line() == "done"
        assert taken == [0]
        assert answers[0].events == (("s", Widened("a", 7)),)
        assert [record.event for record in book.log.read(types=[Widened])] == [Widened("a", 7)]


def test_a_process_of_another_version_declines(ledger_path: Path, script: Callable) -> None:
    """What it decides may be something else: it does nothing for this one, which does it itself."""
    code = "    from ledger.backends import delegation\n    delegation.__version__ = 'other'\n" + HOLDER
    with ledger.open(ledger_path, actor="waiter") as book:
        holder = script(code, ledger_path, "commit", "no")
        assert holder.line() == "holding"
        book.log.append([ledger.NoteAdded("waiter")], stream="s")
        assert holder.line() == "done"
        holder_record, own = book.log.read(stream="s")
        assert own.recorded_at > holder_record.recorded_at  # another commit


def test_a_holder_that_may_lose_its_commits_takes_none(ledger_path: Path, script: Callable, taken: list[int]) -> None:
    """With durability "relaxed" a commit may not be on disk when it is answered: others do theirs themselves."""
    code = """
        import sys, ledger
        with ledger.open(sys.argv[1], durability="relaxed") as book:
            print("ready", flush=True)
            for number in range(3000):
                book.log.append([ledger.NoteAdded("relaxed")], stream="r")
        """
    with ledger.open(ledger_path) as book:
        holder = script(code, ledger_path)
        assert holder.line() == "ready"
        for number in range(20):
            book.log.append([ledger.NoteAdded(str(number))], stream="s")
        holder.finish()
        assert taken == []
        assert _texts(book) == [str(number) for number in range(20)]


def test_what_was_committed_by_another_is_not_said_to_have_failed(
    ledger_path: Path, script: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two that were handed over together one is declined, and fails here: the other one is on disk, and told so."""
    with ledger.open(ledger_path) as book:
        holder = script(HOLDER, ledger_path, "commit", "no")
        assert holder.line() == "holding"
        real = LmdbBackend._commit_or_ask

        def fail(self: LmdbBackend, asking: Asking) -> object:
            if asking._mailbox is None:
                raise ledger.CommitFailed("the outcome is unknown.", None)
            return real(self, asking)

        monkeypatch.setattr(LmdbBackend, "_commit_or_ask", fail)
        pairs = [ledger.NoteAdded("carried"), KnownHereOnly("declined")]
        submissions = []
        for event in pairs:
            made = book.log.submission(lambda view, event=event: [("s", event)])  # type: ignore[misc]
            submissions.append(msgspec.structs.replace(made, content=(("s", event),)))
        done, failed = book.log.commit(submissions)
        assert holder.line() == "done"
        assert isinstance(done, ledger.Appended)
        assert isinstance(failed, ledger.CommitFailed)
        assert failed.append_id == UUID(bytes=submissions[1].append_id)
        assert _texts(book) == ["holder", "carried"]


def test_what_the_holder_refuses_raises_its_own_error_here(ledger_path: Path, script: Callable, taken: list[int]) -> None:
    """A command that may not be done raises in its own process what it raises there always."""
    with ledger.open(ledger_path) as book:
        trial = book.experiment("e").new_trial({"a": 1})
        trial.complete({"loss": 1.0})
        holder = script(HOLDER, ledger_path, "commit", "no")
        assert holder.line() == "holding"
        with pytest.raises(ledger.InvalidTransition, match="SUCCEEDED"):
            trial.cancel("too late")
        assert holder.line() == "done"
        assert taken == [0]


def test_processes_that_append_at_once_share_commits(ledger_path: Path, script: Callable) -> None:
    """Four processes: everything is there once, each one's in its own order, and most of it was committed by another."""
    code = """
        import sys, ledger
        from ledger.backends.lmdb import LmdbBackend
        original, shared = LmdbBackend._answers, 0
        def count(self, asking):
            global shared
            shared += 1
            return original(self, asking)
        LmdbBackend._answers = count
        with ledger.open(sys.argv[1]) as book:
            exp = book.get_experiment("e")
            print("ready", flush=True)
            for number in range(150):
                if number % 3:
                    book.log.append([ledger.NoteAdded(f"{sys.argv[2]} {number}")], stream="s")
                else:
                    trial = exp.claim(worker=sys.argv[2])
                    trial.complete({"by": int(sys.argv[2])})
        print(shared)
        """
    with ledger.open(ledger_path) as book:
        exp = book.experiment("e")
        exp.new_trials({"n": n} for n in range(200))
        processes = [script(code, ledger_path, number) for number in range(4)]
        shared = sum(int(process.finish()[-1]) for process in processes)
        texts = _texts(book)
        assert sorted(texts) == sorted(f"{number} {n}" for number in range(4) for n in range(150) if n % 3)
        for number in range(4):
            own = [int(text.split()[1]) for text in texts if text.startswith(f"{number} ")]
            assert own == sorted(own)
        claims = [record.stream for record in book.log.read(types=[ledger.TrialClaimed])]
        assert len(set(claims)) == len(claims) == 200
        assert shared > 50
        book.log.backend.check()


# ------------------------------------------------------------------------------------------------------------ mailbox


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Mailbox, Mailbox]]:
    """An owner and a holder: two open files, as those of two processes are."""
    file = tmp_path / "open.lock"
    file.touch()
    owner, holder = Mailbox(file), Mailbox(file)
    yield owner, holder
    owner.close()
    holder.close()


def test_a_request_is_taken_and_answered_once(two: tuple[Mailbox, Mailbox]) -> None:
    """It goes from the owner to the holder and back; then there is room for the next."""
    owner, holder = two
    for text in (b"one", b"two"):
        assert owner.post(text)
        assert owner.answer() is None
        ((slot, content),) = holder.take()
        assert content == text
        assert holder.take() == []
        assert not owner.withdraw()
        holder.give(slot, b"answer to " + text)
        owner.wait(1.0)
        assert owner.answer() == b"answer to " + text


def test_what_was_withdrawn_is_not_taken(two: tuple[Mailbox, Mailbox]) -> None:
    """An owner that gives up before anybody has taken its request knows that nobody will."""
    owner, holder = two
    assert owner.post(b"one")
    assert owner.withdraw()
    assert holder.take() == []


def test_to_withdraw_and_to_take_exclude_each_other(two: tuple[Mailbox, Mailbox]) -> None:
    """At the same moment, one of both gets the request, and the other one sees it."""
    owner, holder = two
    chance = random.Random(5)
    outcomes = set()
    for number in range(400):
        assert owner.post(b"%d" % number)
        found: list[list[tuple[int, bytes]]] = []
        pause = chance.random() * 5e-5

        def take(pause: float = pause, found: list[list[tuple[int, bytes]]] = found) -> None:
            time.sleep(pause)
            found.append(holder.take())

        thread = threading.Thread(target=take)
        thread.start()
        time.sleep(chance.random() * 5e-5)
        is_withdrawn = owner.withdraw()
        thread.join()
        if not is_withdrawn and not found[0]:  # each found the other one at it
            is_withdrawn = owner.withdraw()
        assert is_withdrawn == (not found[0])
        outcomes.add(is_withdrawn)
        owner.take_over()
    assert outcomes == {True, False}


def test_the_request_of_one_that_was_killed_is_thrown_away(two: tuple[Mailbox, Mailbox], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is done long after its process has ended, and its place is free."""
    owner, holder = two
    assert owner.post(b"late")
    monkeypatch.setattr(mailboxes, "_OLDEST_NS", 1_000)
    assert holder.take() == []
    monkeypatch.undo()
    assert holder.take() == []
    assert not owner.take_over()


def test_damaged_requests_and_answers_are_none(two: tuple[Mailbox, Mailbox], tmp_path: Path) -> None:
    """A request with a wrong byte is not taken; an answer with one is empty, and the owner looks in the log."""
    owner, holder = two
    file = tmp_path / "open.lock"

    def damage() -> None:
        data = bytearray(file.read_bytes())
        data[data.index(b"text")] ^= 1
        file.write_bytes(data)

    assert owner.post(b"text")
    damage()
    assert holder.take() == []
    assert owner.post(b"hello")
    ((slot, _),) = holder.take()
    holder.give(slot, b"text")
    damage()
    assert owner.answer() == b""


def test_places_are_limited_and_free_when_their_owners_have_ended(tmp_path: Path) -> None:
    """The 65th process waits as if there were no mailbox, until another one has ended; so does what is too large."""
    file = tmp_path / "open.lock"
    file.touch()
    boxes = [Mailbox(file) for _ in range(SLOTS + 1)]
    assert [box.post(b"x") for box in boxes] == [True] * SLOTS + [False]
    boxes[3].close()
    assert boxes[-1].post(b"y")
    assert not boxes[0].post(b"z" * (MOST_BYTES + 1))
    for box in boxes:
        box.close()


def test_without_a_file_to_write_there_is_no_mailbox(tmp_path: Path) -> None:
    """Then nothing is posted, and nothing is to be taken."""
    for box in (Mailbox(None), Mailbox(tmp_path / "none")):
        assert not box.post(b"x")
        assert box.take() == []
        box.note_company(1)
        box.wake_next()
        box.close()


def test_the_gate_works_where_there_are_no_locks_of_open_files(
    ledger_path: Path, script: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another platform each process waits for the gate, as before."""
    monkeypatch.setattr(mailboxes, "IS_SUPPORTED", False)
    code = """
        import sys, ledger
        with ledger.open(sys.argv[1]) as book:
            for number in range(100):
                book.log.append([ledger.NoteAdded(str(number))], stream="s")
        """
    with ledger.open(ledger_path) as book:
        process = script(code, ledger_path)
        for number in range(100):
            book.log.append([ledger.NoteAdded(str(number))], stream="s")
        process.finish()
        assert len(_texts(book)) == 200
