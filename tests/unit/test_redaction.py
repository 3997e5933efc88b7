"""Redaction: the payload goes, from record, states, indexes and tables; everything that proves the record stays."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import ledger
import projections
from ledger.backends.base import Backend, Entry
from ledger.codec import decode_envelopes, encode_state
from ledger.events import VOCABULARY
from ledger.redaction import CONTENT, remainder_of
from ledger.registry import find_type
from ledger.streams import subject_of
from ledger.values import with_article

_spec = importlib.util.spec_from_file_location("leaky", Path(__file__).with_name("leaky.py"))
assert _spec is not None
leaky: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(leaky)  # type: ignore[union-attr]
SECRET = leaky.SECRET
HISTORY = leaky.everything()


@ledger.event
class KeyLeaked(ledger.Event):
    """A type of the caller's own."""

    key: str


#: Fields that hold text or bytes and stay when their record is redacted, and what makes them none of people's content.
OWN_FIELDS = {
    "status": "one of ledger.Status",
    "parents": "streams, checked",
    "worker": "who did it, like the record's actor",
    "assigned_to": "who may do it, like the worker",
    "depends_on": "streams, checked",
    "source": "a ledger's id",
    "root": "a hash",
    "experiments": "streams",
    "type": "a record's type, checked",
    "kind": "one of ledger.rules.ARTIFACT_KINDS, or of a capture a word of 40 letters at most: checked",
    "digest": "a hash",
    "captures": "hashes by kind, checked",
    "after": "hashes by kind, checked",
    "before": "hashes by kind, checked",
    "remainder": "made and checked by ledger.redaction",
}


@pytest.fixture(params=["memory:", "directory"])
def book(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ledger.Ledger]:
    """A ledger of each kind, which checks itself at the end."""
    place = "memory:" if request.param == "memory:" else str(tmp_path / "runs.ledger")
    with ledger.open(place, durability="relaxed") as opened:
        yield opened
        opened.log.backend.check()


@pytest.fixture
def full(book: ledger.Ledger) -> ledger.Ledger:
    """A ledger with a record of every type, in one append."""
    book.log.append_many(HISTORY)
    return book


def _entries(backend: Backend) -> list[Entry]:
    found: list[Entry] = []
    while page := backend.read_entries(len(found)):
        found += page
    return found


def _states(book: ledger.Ledger) -> list[Any]:
    streams = dict.fromkeys(stream for stream, _ in HISTORY if stream != "ledger")
    with book.log.backend.view() as view:
        subjects = [subject for stream in streams if (subject := subject_of(stream))]
        return [view.trial(*s) if s.trial_id is not None else view.experiment(s.experiment_id) for s in subjects]  # type: ignore[arg-type]


def _bones(state: Any) -> dict[str, Any]:
    """Return what of a state no redaction may change."""
    names = (
        "status", "attempt", "lost", "deadline", "worker", "lease_seconds", "created_at", "started_at", "ended_at", "priority",
        "max_attempts", "parents", "is_amended", "deleted_at", "sealed_at", "next_trial_id", "id",
        "assigned_to", "depends_on", "paused_at",
    )  # fmt: skip
    return {name: getattr(state, name) for name in names if hasattr(state, name)}


# --------------------------------------------------------------------------------------------- the whole vocabulary


def test_the_history_has_every_type() -> None:
    """What is tested below is tested for all of the vocabulary."""
    assert leaky.types_in(HISTORY) == VOCABULARY


@pytest.mark.parametrize("name", sorted(VOCABULARY))
def test_each_type_says_which_of_its_fields_people_fill(name: str) -> None:
    """A field that can hold text is either dropped by a redaction or known to hold none of people's: new ones must choose."""
    kind = find_type(name)
    assert kind is not None
    dropped = CONTENT.get(kind.cls, {})
    for field in msgspec.structs.fields(kind.cls):
        if field.type not in (int, float, bool, int | None):
            assert field.name in dropped or field.name in OWN_FIELDS, field.name
    assert set(dropped) <= set(kind.cls.__struct_fields__)


@pytest.mark.parametrize("name", sorted(VOCABULARY - {"PayloadRedacted"}))
def test_redaction_drops_the_payload_and_nothing_else(full: ledger.Ledger, name: str) -> None:
    """Place, id, hash and tree stay; the rest has none of the content; statuses and times of all states are the same."""
    backend = full.log.backend
    before, states, head = _entries(backend), _states(full), full.log.head
    tree = backend.tree_head()
    target = next(record for record in full.log.read(types=name))
    event = target.event
    if type(event) not in CONTENT:
        assert SECRET.encode() not in before[target.position - 1].raw
        with pytest.raises(ledger.CommandRefused, match=f"{with_article(name)} holds numbers and names .* nothing to redact"):
            full.redact(target.position, reason="leaked")
        assert full.log.head == head
        return
    assert SECRET.encode() in before[target.position - 1].raw
    assert full.redact(target.position, reason="leaked") == [head + 1]
    record = next(full.log.read(after=target.position - 1))
    assert (record.position, record.id, record.stream, record.version, record.recorded_at, record.type, record.actor) == (
        target.position, target.id, target.stream, target.version, target.recorded_at, name, target.actor,
    )  # fmt: skip
    assert record.is_redacted
    after = _entries(backend)
    assert SECRET.encode() not in after[target.position - 1].raw
    assert [entry.leaf for entry in after[:head]] == [entry.leaf for entry in before]
    assert [entry.raw for i, entry in enumerate(after[:head], 1) if i != target.position] == [
        entry.raw for i, entry in enumerate(before, 1) if i != target.position
    ]
    why = next(full.log.read(after=head))
    assert (why.type, why.reason, why.event.version, why.event.type) == ("PayloadRedacted", "leaked", target.version, name)
    assert [_bones(state) for state in _states(full)] == [_bones(state) for state in states]
    assert backend.tree_head()[0] == tree[0] + 1
    assert backend.redactions().total == 1


def test_all_at_once_leaves_no_secret(full: ledger.Ledger) -> None:
    """Every record with content redacted in one call: no record, state, name or table holds the secret any more."""
    head = full.log.head
    positions = [record.position for record in full.log.read() if type(record.event) in CONTENT]
    bones = [_bones(state) for state in _states(full)]
    tables = projections.Tables(full)
    exp = full.get_experiment(leaky.EXPERIMENT)
    assert SECRET in f"{tables.trials(exp.id).to_dict()}{tables.configs(exp.id).to_dict()}{tables.experiments().to_dict()}"
    assert full.redact(*reversed(positions), reason="leaked") == list(range(head + 1, head + 1 + len(positions)))
    assert not any(SECRET.encode() in entry.raw for entry in _entries(full.log.backend))
    assert not any(SECRET.encode() in encode_state(state) for state in _states(full))
    assert [_bones(state) for state in _states(full)] == bones
    for frame in (tables.trials(exp.id), tables.trials(exp.id, amended=False), tables.configs(exp.id), tables.experiments()):
        assert SECRET not in str(frame.to_dict())
    for as_of in range(0, full.log.head, 7):
        assert SECRET not in str(tables.experiments(as_of=as_of).to_dict())
    assert full.log.backend.redactions().total == len(positions)
    assert exp.name == f"redacted {exp.id}"


# ------------------------------------------------------------------------------------------------------- other types


def test_own_and_unknown_types_keep_nothing(book: ledger.Ledger) -> None:
    """Of a type that is not the package's own the whole payload goes; neighbours in the append are read as before."""
    unknown = ledger.UnknownEvent("FromElsewhere", 3, {"key": SECRET})
    book.log.append([KeyLeaked("a"), KeyLeaked(SECRET), unknown, KeyLeaked("b"), ledger.NoteAdded("c")], stream="mine")
    book.redact(2, 3, reason="leaked")
    one, two, three, four, five, *_ = book.log.read(stream="mine")
    assert [one.event, four.event, five.event] == [KeyLeaked("a"), KeyLeaked("b"), ledger.NoteAdded("c")]
    for record, kind in ((two, "KeyLeaked"), (three, "FromElsewhere")):
        assert (record.type, record.event.type, record.event.data, record.is_redacted) == (kind, kind, None, True)
    assert [record.position for record in book.log.read(types=KeyLeaked)] == [1, 2, 4]
    with pytest.raises(ledger.CommandRefused, match="redacted already"):
        book.redact(2, reason="again")


# ------------------------------------------------------------------------------------------------- what is refused


def test_what_cannot_be_redacted_stops_the_whole_call(full: ledger.Ledger) -> None:
    """One bad position among good ones, and nothing is redacted."""
    (note,) = (record.position for record in full.log.read(types="NoteAdded"))
    (started,) = (record.position for record in full.log.read(types="ExperimentSealed"))
    backend, head = full.log.backend, full.log.head
    before = _entries(backend)
    for bad, error in ((0, ledger.InvalidValue), (-1, ledger.InvalidValue), (head + 1, ledger.InvalidValue),
                       (2**70, ledger.InvalidValue), (started, ledger.CommandRefused)):  # fmt: skip
        with pytest.raises(error):
            full.redact(note, bad, reason="leaked")
    assert _entries(backend) == before
    (why,) = full.redact(note, note, reason="leaked")  # named twice is meant once
    for position, words in ((note, "redacted already"), (why, "what was redacted and why; it stays")):
        with pytest.raises(ledger.CommandRefused, match=words):
            full.redact(position, reason="leaked")
    assert full.log.head == head + 1
    assert full.redact(reason="nothing") == []
    assert full.log.head == head + 1


def test_a_redaction_cannot_be_forged(full: ledger.Ledger) -> None:
    """A raw PayloadRedacted with another version, type or remainder is refused; so is one of its own append."""
    note = next(full.log.read(types="NoteAdded"))
    good = ledger.PayloadRedacted(note.version, "NoteAdded", remainder_of(note.stream, note.event))
    bad = [
        msgspec.structs.replace(good, **change)
        for change in ({"version": 999}, {"version": 0}, {"type": "NoteAmended"}, {"remainder": b"\xc0"}, {"remainder": b""})
    ]
    head = full.log.head
    for event in bad:
        with pytest.raises(ledger.InvalidValue):
            full.log.append([event], stream=note.stream)
    for elsewhere in ("mine", leaky.STREAM):
        with pytest.raises(ledger.InvalidValue):
            full.log.append([good], stream=elsewhere)
    own = ledger.PayloadRedacted(1, "NoteAdded", good.remainder)
    with pytest.raises(ledger.InvalidValue):
        full.log.append([ledger.NoteAdded("x"), own], stream="mine")
    assert full.log.head == head
    full.log.append([good], stream=note.stream)
    assert next(full.log.read(after=note.position - 1)).is_redacted


def test_one_append_does_not_redact_twice(full: ledger.Ledger) -> None:
    """Two raw redactions of one record in one append are refused as a whole."""
    note = next(full.log.read(types="NoteAdded"))
    event = ledger.PayloadRedacted(note.version, "NoteAdded", remainder_of(note.stream, note.event))
    head = full.log.head
    with pytest.raises(ledger.CommandRefused, match=r"twice|already"):
        full.log.append([event, event], stream=note.stream)
    assert (full.log.head, full.log.backend.redactions().total) == (head, 0)


# ------------------------------------------------------------------------------------- retries, indexes, names, states


def test_a_retry_of_a_redacted_append_is_answered(book: ledger.Ledger) -> None:
    """Its id is known for ever; what it held can no longer be compared, but its place and its neighbours are."""
    identifier = ledger.new_uuid7()
    content = [ledger.NoteAdded("a"), ledger.NoteAdded(SECRET)]
    first = book.log.append(content, stream="s", append_id=identifier)
    book.redact(2, reason="leaked")
    again = book.log.append(content, stream="s", append_id=identifier)
    assert (again.position, again.head) == (first.position, first.head)
    assert again.events[1][1] == ledger.NoteAdded("")
    for changed in ([ledger.NoteAdded("x"), content[1]], content[:1]):
        with pytest.raises(ledger.AppendIdReused):
            book.log.append(changed, stream="s", append_id=identifier)
    assert book.log.head == 3


def test_the_config_index_forgets(book: ledger.Ledger) -> None:
    """A redacted trial is not found by its config, nor by an empty one; others with the same config are."""
    exp = book.experiment("e")
    config = {"api_key": SECRET}
    exp.new_trials([config] * 6)
    exp.new_trial({})
    assert len(list(book.log.read(config=config))) == 6
    book.redact(2, 5, 7, reason="leaked")
    assert [record.position for record in book.log.read(config=config)] == [3, 4, 6]
    assert [record.position for record in book.log.read(config={})] == [8]
    book.redact(3, 4, 6, reason="leaked")
    assert list(book.log.read(config=config)) == []
    exp.new_trial(config)
    assert [record.position for record in book.log.read(config=config)] == [book.log.head]


def test_a_redacted_name_is_free_and_can_be_given_anew(book: ledger.Ledger) -> None:
    """The experiment is found as "redacted <id>" and by id; the name is free for another; a rename works as ever."""
    exp = book.experiment(SECRET)
    exp.note("x")
    book.redact(1, reason="leaked")
    hidden = f"redacted {exp.id}"
    assert (exp.name, book.get_experiment(hidden).id, book.get_experiment(exp.id).id) == (hidden, exp.id, exp.id)
    with pytest.raises(ledger.UnknownExperiment):
        book.get_experiment(SECRET)
    other = book.experiment(SECRET)
    assert other.id != exp.id
    exp.rename("new")
    assert [each.name for each in book.experiments()] == ["new", SECRET]
    exp.delete()
    exp.restore(hidden)
    assert book.get_experiment(hidden).id == exp.id


def test_an_older_name_redacted_changes_nothing_now(book: ledger.Ledger) -> None:
    """The name of now is the last one, whichever before it was redacted, also while deleted and under another's nose."""
    exp = book.experiment("a")
    exp.rename(SECRET)
    exp.rename("c")
    other = book.experiment(SECRET)
    book.redact(2, reason="leaked")
    assert (exp.name, other.name) == ("c", SECRET)
    assert {book.get_experiment(name).id for name in ("c", SECRET)} == {exp.id, other.id}
    other.delete()
    book.redact(4, reason="leaked")
    other.restore()
    assert other.name == f"redacted {other.id}"
    assert book.get_experiment(other.name).id == other.id


def test_no_two_experiments_get_one_name_by_a_redaction(book: ledger.Ledger) -> None:
    """The name that a redaction would give is not to be had by another experiment."""
    exp = book.experiment(SECRET)
    with pytest.raises(ledger.InvalidValue, match="redacted"):
        book.experiment(f"redacted {exp.id}")
    other = book.experiment("other")
    with pytest.raises(ledger.InvalidValue, match="redacted"):
        other.rename(f"redacted {exp.id}")
    book.redact(1, reason="leaked")
    names = [each.name for each in book.experiments()]
    assert len(set(names)) == 2
    assert [book.get_experiment(name).id for name in names] == [exp.id, other.id]


def test_states_of_unfinished_trials_are_made_again(book: ledger.Ledger) -> None:
    """A waiting and a running trial forget what was redacted, are claimed and ended as before, and keep what was not."""
    exp = book.experiment("e")
    exp.new_trials([{"key": SECRET, "n": 1}, {"key": SECRET, "n": 2}])
    job = exp.claim(worker="w")
    assert job is not None
    job.configure({"more": 3})
    job.report({"loss": SECRET})
    book.redact(2, 3, 6, reason="leaked")
    assert (job.state.config, job.state.results, job.state.worker) == ({"more": 3}, {}, "w")
    assert exp.trial(2).state.config == {}
    job.complete({"loss": 1})
    second = exp.claim()
    assert second is not None
    assert (second.id, second.config) == (2, {})
    second.configure({"key": "new"})
    assert second.state.config == {"key": "new"}


def test_amendments_redacted_give_back_the_first_values(book: ledger.Ledger) -> None:
    """What an amendment said is gone, that there was one is not; its status stays."""
    trial = book.experiment("e").new_trial({"a": 1})
    trial.complete({"loss": 1})
    trial.amend(results={"loss": SECRET}, status="FAILED", reason="r")
    trial.note("x")
    trial.amend_note(trial.notes()[0].version, SECRET, reason="r")
    amended = [record.position for record in trial.history() if record.type in ("TrialAmended", "NoteAmended")]
    book.redact(*amended, reason="leaked")
    assert (trial.results, trial.status, trial.state.is_amended) == ({"loss": 1}, "FAILED", True)
    assert [(note.text, note.first_text) for note in trial.notes()] == [("", "x")]


# ------------------------------------------------------------------------------------------------------------ tables


def test_tables_kept_before_are_made_again(book: ledger.Ledger) -> None:
    """Tables that were folded with the secret show it no more, as of no position; a projection of one's own is refused."""
    exp = book.experiment("e")
    exp.new_trial({"key": SECRET}, label=SECRET).complete({"x": 1})
    tables = projections.Tables(book)
    own = projections.build(projections.Experiments(), book.log)
    assert SECRET in str(tables.trials("e").to_dict())
    book.redact(2, reason="leaked")
    assert SECRET not in str(tables.trials("e").to_dict())
    assert SECRET not in str(tables.trials("e", as_of=2).to_dict())
    assert SECRET not in str(tables.configs("e", as_of=2).to_dict())
    with pytest.raises(ledger.InvalidValue, match=r"redacted since .* Build a new one"):
        projections.build(own, book.log)
    assert SECRET not in str(projections.build(projections.Experiments(), book.log).trials(exp.id, now=0).to_dict())


def test_what_was_redacted_is_read_like_anything_else(full: ledger.Ledger) -> None:
    """Envelopes, pages, subscriptions and reads by position give the remainder, and say that it is one."""
    (position,) = (record.position for record in full.log.read(types="NoteAdded"))
    full.redact(position, reason="leaked")
    (by_position,) = full.log.backend.read_positions([position])
    with full.subscribe(after=position - 1) as records:
        followed = records.next(timeout=10)
    assert by_position == followed == next(full.log.read(after=position - 1))
    assert by_position.event == ledger.NoteAdded("")
    (envelope,) = decode_envelopes(b"\x91" + _entries(full.log.backend)[position - 1].raw)
    assert envelope.payload_digest == by_position.payload_digest
    assert len(envelope.payload_digest or b"") == 32
