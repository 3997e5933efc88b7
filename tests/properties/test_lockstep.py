"""LMDB and memory, driven side by side: whatever is asked of both, they answer the same.

The submissions are made here, with equal append ids and salts, so that bytes, hashes and tree must be equal too. The
limits of blocks and posting lists are lowered, so that a few records seal, split and spill as thousands do in use.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from ledger import claims, commands
from ledger import events as ev
from ledger.backends import blocks, postings
from ledger.backends.base import Appended, Backend, Command, Entry, Staged, Submission, View, config_digest
from ledger.backends.check import LogCheck
from ledger.backends.environment import Options
from ledger.backends.lmdb import LmdbBackend
from ledger.backends.memory import MemoryBackend
from ledger.codec import encode_state
from ledger.records import Context
from ledger.state import TrialState
from ledger.streams import experiment_stream, trial_stream
from ledger.testing import FakeClock

EXPERIMENTS = [UUID(int=n << 64 | 0x8000_0000_0000_0000) for n in (7, 3, 5)]  # not in the order of their ids
NAMES = ["a", "b", "ü" * 300]
STREAMS = ["s", "s1", "s10", "x" * 400]
TRIALS = [1, 2, 3, 4, 5, 0, 20]
TYPES = ["NoteAdded", "TrialCreated", "TrialClaimed", "ExperimentRenamed"]
CONFIGS: list[dict[str, Any]] = [{"lr": 1}, {"lr": 1.0}, {"pair": (1, 2**70)}]

#: One thing to ask of the log: a function from the machine (for what is true now) to a submission.
Op = Callable[["Lockstep"], Submission]

_spec = importlib.util.spec_from_file_location("correction_ops", Path(__file__).with_name("correction_ops.py"))
assert _spec is not None
correction_ops: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(correction_ops)  # type: ignore[union-attr]

experiments = st.sampled_from([*EXPERIMENTS[:1] * 6, *EXPERIMENTS[1:]])
names = st.sampled_from(NAMES)
trials = st.sampled_from([*TRIALS[:5] * 2, *TRIALS[5:]])
results = st.dictionaries(st.sampled_from(["loss", "time"]), st.integers(-3, 3) | st.just((1, 2)), max_size=2)
attempts = st.sampled_from([0, 0, 0, 0, -1, 1, None])  # against the trial's current one; None: without
contexts = st.none() | st.builds(
    Context, occurred_at=st.none() | st.integers(0, 2**62), reason=st.sampled_from([None, "why"]), correlation_id=st.just("c")
)


@st.composite
def appends(draw: st.DrawFn) -> Op:
    """An append to streams, with expectations that are often right, and records' own ids now and then."""
    places = draw(st.lists(st.sampled_from(STREAMS), min_size=1, max_size=12))
    content = tuple((stream, ev.NoteAdded(f"{i}")) for i, stream in enumerate(places))
    expect = draw(st.dictionaries(st.sampled_from(STREAMS), st.sampled_from([0, 0, 0, -1, 1]), max_size=2))
    own = draw(st.sampled_from([0, 0, 0, 1, 2]))
    context = draw(contexts)

    def make(machine: Lockstep) -> Submission:
        wanted = {stream: max(machine.version(stream) + delta, 0) for stream, delta in expect.items()}
        ids = tuple(machine.new_id() for _ in content) if own else ()
        if own == 2 and machine.known_ids:
            ids = (machine.known_ids[-1], *ids[1:])
        machine.known_ids += ids
        return machine.submission(lambda view: content, context, record_ids=ids, expect=wanted, content=content)

    return make


@st.composite
def retries(draw: st.DrawFn) -> Op:
    """An append that was made before, as it was or changed."""
    number = draw(st.integers(0, 30))
    change = draw(st.sampled_from(["nothing", "nothing", "salt", "text", "stream", "fewer", "more", "reason", "by record ids"]))

    def make(machine: Lockstep) -> Submission:
        before = machine.asked[number % len(machine.asked)]
        content = before.content
        if content is None or change == "nothing":
            return before
        stream, event = content[-1]
        if change == "salt":
            return msgspec.structs.replace(before, salt=machine.new_id(), actor="another")
        if change == "reason":
            return msgspec.structs.replace(before, context=Context(reason="other"))
        if change == "by record ids":
            return msgspec.structs.replace(before, append_id=machine.new_id())
        other: dict[str, tuple[Staged, ...]] = {
            "text": (*content[:-1], (stream, ev.NoteAdded("changed"))),
            "stream": (*content[:-1], (stream + "'", event)),
            "fewer": content[:-1] or (*content, *content),
            "more": (*content, content[0]),
        }
        return msgspec.structs.replace(before, command=lambda view: other[change], content=other[change])

    return make


def command_op(build: Callable[[Lockstep], Command], context: Context | None = None) -> Op:
    """Return the op that runs a command."""
    return lambda machine: machine.submission(build(machine), context)


def attempt_of(machine: Lockstep, experiment: UUID, trial: int, delta: int | None) -> int | None:
    """Return the trial's current attempt, or one beside it."""
    if delta is None:
        return None
    with machine.memory.view() as view:
        state = view.trial(experiment, trial)
    return max((state.attempt if state else 1) + delta, 0)


@st.composite
def experiment_ops(draw: st.DrawFn) -> Op:
    """Something about an experiment."""
    experiment, name = draw(experiments), draw(names)
    event: Any = draw(
        st.sampled_from(
            [
                ev.ExperimentCreated(name),
                ev.ExperimentRenamed(name),
                ev.ExperimentDescribed(name),
                ev.ExperimentPaused(),
                ev.ExperimentResumed(),
                ev.ExperimentResumed(),
            ]
        )
        | st.builds(ev.TagsChanged, st.lists(st.sampled_from("ab")), st.lists(st.sampled_from("ab")))
        | st.builds(
            ev.AttributesSet, st.dictionaries(st.sampled_from("xy"), st.none() | st.just((1,))), st.sampled_from(["", "n"])
        )
    )
    return command_op(lambda machine: commands.record_on_experiment(experiment, event))


@st.composite
def creations(draw: st.DrawFn) -> Op:
    """New trials."""
    experiment = draw(experiments)
    count = draw(st.sampled_from([1, 1, 1, 3]))
    fields = [
        (draw(st.sampled_from(CONFIGS)), draw(st.sampled_from([0, 0, -1, 5])), draw(st.sampled_from([None, None, 0, 3, 12, 40])))
        for _ in range(count)
    ]
    number = draw(st.none() | st.none() | trials)
    most = draw(st.sampled_from([1, 2, 3]))
    arms = draw(st.sampled_from([[], [ev.Arm({"a": 1}, 0.5, "0_0")]]))
    workers = [draw(st.sampled_from(["", "", "w1", "w2"])) for _ in range(count)]
    # Also of the other experiment, of trials that do not exist, and, unchecked, of themselves or of ones made later.
    before = [
        [trial_stream(e, n) for e, n in draw(st.lists(st.tuples(experiments, trials), max_size=2, unique=True))]
        if draw(st.booleans())
        else []
        for _ in range(count)
    ]
    is_checked = draw(st.booleans())

    def build(machine: Lockstep) -> Command:
        created = [
            commands.trial_created(
                config, arms=arms, priority=priority, max_attempts=most,
                scheduled_at=None if later is None else machine.clock() + later * 1_000_000_000,
                assigned_to=worker, depends_on=depends_on,
            )
            for (config, priority, later), worker, depends_on in zip(fields, workers, before, strict=True)
        ]  # fmt: skip
        if is_checked:
            return commands.create_trials(experiment, created, number)
        staged = [(trial_stream(experiment, (number or 1) + i), event) for i, event in enumerate(created)]
        return lambda view: staged

    return command_op(build, draw(contexts))


@st.composite
def trial_ops(draw: st.DrawFn) -> Op:
    """Something that happens to one trial, allowed or not."""
    experiment, trial, delta = draw(experiments), draw(trials), draw(attempts)
    values, status = draw(results), draw(st.sampled_from([*map(str, commands.Status), "NONSENSE"]))
    kind = draw(st.sampled_from(["start", "renew", "release", "finish", "finish", "cancel", "requeue", "force", "record", "raw"]))
    end = draw(st.sampled_from([ev.TrialCompleted, ev.TrialPruned, ev.TrialTimedOut, ev.TrialFailed]))
    extra = draw(
        st.sampled_from(
            [
                ev.ResultsReported(values),
                ev.TrialConfigured(values),
                ev.TagsChanged(["t"]),
                ev.TrialAbandoned(),
                ev.TrialAssigned("w1"),
                ev.TrialAssigned(),
            ]
        )
    )

    def build(machine: Lockstep) -> Command:
        attempt = attempt_of(machine, experiment, trial, delta)
        own = attempt or 0
        final = end(results=values) if end is not ev.TrialFailed else ev.TrialFailed(ev.ErrorInfo("E", "m", "t"), values)
        raw = [
            ev.TrialStarted(own),
            ev.TrialClaimed("raw", own + 1, 5.0, machine.clock() + 5_000_000_000),
            ev.TrialLost(own, "w", 1),
        ]
        table: dict[str, Callable[[], Command]] = {
            "start": lambda: commands.start(experiment, trial, attempt, "w", 10.0),
            "renew": lambda: commands.renew(experiment, trial, own),
            "release": lambda: commands.release(experiment, trial, own),
            "finish": lambda: commands.finish(experiment, trial, attempt, final, "w"),
            "cancel": lambda: commands.cancel(experiment, trial),
            "requeue": lambda: commands.requeue(experiment, trial),
            "force": lambda: commands.force_status(experiment, trial, ev.StatusForced(status, values), "repair"),
            "record": lambda: commands.record_on_trial(experiment, trial, extra),
            "raw": lambda: commands.record_on_trial(experiment, trial, *raw[: own + 1]),
        }
        return table[kind]()

    return command_op(build)


@st.composite
def claim_ops(draw: st.DrawFn) -> Op:
    """A claim of the next trial, or of the first of some that were found before."""
    experiment, worker = draw(experiments), draw(st.sampled_from(["w1", "w2"]))
    lease = draw(st.sampled_from([1.0, 10.0, 100.0]))
    wanted = draw(st.none() | st.lists(trials, max_size=3))

    def build(machine: Lockstep) -> Command:
        if wanted is None:
            return claims.claim(experiment, worker, lease)
        with machine.memory.view() as view:
            seen = [state for number in wanted if (state := view.trial(experiment, number)) is not None]
        return claims.claim(experiment, worker, lease, seen)

    return command_op(build)


def _refuse(view: View) -> list[Staged]:
    raise KeyError("refused")


corrections = correction_ops.make(command_op, correction_ops.Places(EXPERIMENTS, TRIALS, NAMES))
ops: st.SearchStrategy[Op] = st.one_of(
    appends(), retries(), experiment_ops(), creations(), creations(), trial_ops(), trial_ops(), trial_ops(),
    claim_ops(), claim_ops(), corrections, corrections,
    st.just(command_op(lambda machine: _refuse)), st.just(command_op(lambda machine: lambda view: [])),
)  # fmt: skip


groups = st.lists(ops, min_size=1, max_size=4)


class Lockstep(RuleBasedStateMachine):
    """Both backends, and what was asked of them."""

    def __init__(self) -> None:
        super().__init__()
        self._patches = contextlib.ExitStack()
        for module, name, value in (
            (blocks, "SEAL_RECORDS", 7), (blocks, "MAX_BLOCK_RECORDS", 5), (postings, "TAIL_POSITIONS", 4),
        ):  # fmt: skip
            self._patches.enter_context(mock.patch.object(module, name, value))
        self.directory = Path(tempfile.mkdtemp(prefix="lockstep-"))
        self.clock = FakeClock()
        self.lmdb: Backend = self._open()
        self.memory = MemoryBackend(self.clock, self.lmdb.ledger_id)
        self.numbers = itertools.count(1)
        self.known_ids: list[bytes] = []
        self.asked: list[Submission] = []

    def _open(self) -> LmdbBackend:
        return LmdbBackend(self.directory / "log", clock=self.clock, options=Options("relaxed"))

    def new_id(self) -> bytes:
        return (next(self.numbers) << 80 | 0x7000_8000_0000_0000_0000).to_bytes(16, "big")

    def submission(self, command: Command, context: Context | None = None, **more: Any) -> Submission:
        return Submission(command, self.new_id(), self.new_id(), "actor", context, **more)

    def version(self, stream: str) -> int:
        with self.memory.view() as view:
            return view.version(stream)

    # -- rules

    @initialize()
    def begin(self) -> None:
        """Have something to work with: two experiments; trials of which one is done, one waits for its time, one for another."""
        first = EXPERIMENTS[0]
        self._commit(
            [
                command_op(lambda machine, e=e: commands.record_on_experiment(e, ev.ExperimentCreated(str(e))))
                for e in EXPERIMENTS[:2]
            ]
        )
        created = [commands.trial_created({"lr": i}, priority=i % 2, max_attempts=2) for i in range(3)]
        later = commands.trial_created({}, scheduled_at=self.clock() + 5_000_000_000)
        self._commit([command_op(lambda machine: commands.create_trials(first, [*created, later], None))])
        after = [commands.trial_created({}, depends_on=[trial_stream(first, n) for n in on]) for on in ((1,), (1, 2))]
        self._commit([command_op(lambda machine: commands.create_trials(first, after, None))])
        done = ev.TrialCompleted({"loss": 1})
        self._commit([command_op(lambda machine: commands.finish(first, 1, None, done, "w"))])
        self._commit([command_op(lambda machine: claims.claim(first, "w0", 10.0))])

    # Several rules that do the same: Hypothesis leaves some of the rules out of each run.

    @rule(group=groups)
    def commit(self, group: list[Op]) -> None:
        """A group is answered the same by both."""
        self._commit(group)

    @rule(group=groups)
    def commit_another(self, group: list[Op]) -> None:
        """Another group is answered the same by both."""
        self._commit(group)

    @rule(group=groups, seconds=st.sampled_from([1, 5, 10]))
    def wait_and_commit(self, group: list[Op], seconds: float) -> None:
        """A group later is answered the same by both."""
        self.clock.advance(seconds)
        self._commit(group)

    @rule(group=groups, offset=st.sampled_from([-1, 0, 1]), which=st.integers(0, 5))
    def commit_at_a_deadline(self, group: list[Op], offset: int, which: int) -> None:
        """A group at the very end of a lease, or of the wait for a trial's time, is answered the same by both."""
        with self.memory.view() as view:
            states = [state for e in EXPERIMENTS[:2] for t in TRIALS if (state := view.trial(e, t)) is not None]
            moments = sorted({m for state in states for m in (state.deadline, state.scheduled_at) if m and m > view.now + 1})
        if moments:
            self.clock.set(moments[which % len(moments)] + offset)
        self._commit([*group, command_op(lambda machine: claims.claim(EXPERIMENTS[0], "w3", 10.0))])

    def _commit(self, group: list[Op]) -> None:
        submissions = [op(self) for op in group]
        one, two = self.lmdb.commit(submissions), self.memory.commit(submissions)
        assert [_plain(answer) for answer in one] == [_plain(answer) for answer in two]
        self.asked += submissions

    @rule(seconds=st.sampled_from([0.001, 1, 5, 11, 60, -2, -7]))
    def wait(self, seconds: float) -> None:
        """Time passes, or the clock is set back a little."""
        with self.memory.view() as view:
            if self.clock() + seconds * 1e9 > view.now - 50e9:
                self.clock.advance(seconds)

    @rule()
    def reopen(self) -> None:
        """The files are closed and opened again."""
        self.lmdb.close()
        self.lmdb = self._open()

    @rule(after=st.integers(0, 60), types=st.none() | st.frozensets(st.sampled_from(TYPES)))
    def read_pages(self, after: int, types: frozenset[str] | None) -> None:
        """Pages from anywhere hold the same records, without a gap."""
        assert _pages(self.lmdb, after, types) == _pages(self.memory, after, types)

    @rule(positions=st.lists(st.integers(1, 80), unique=True))
    def read_positions(self, positions: list[int]) -> None:
        """Records by position are the same."""
        assert self.lmdb.read_positions(positions) == self.memory.read_positions(positions)

    @rule(after=st.integers(0, 60))
    def read_entries(self, after: int) -> None:
        """Records as bytes, with their salts and hashes, are the same."""
        assert _entries(self.lmdb, after) == _entries(self.memory, after)

    @rule()
    def look(self) -> None:
        """Views answer every question the same."""
        with self.lmdb.view() as one, self.memory.view() as two:
            assert _answers(one) == _answers(two)

    @rule()
    def compare_indexes(self) -> None:
        """Streams, experiments and configs have the same positions."""
        trial_streams = [trial_stream(e, t) for e in EXPERIMENTS for t in TRIALS]
        for stream in (*STREAMS, "none", *map(experiment_stream, EXPERIMENTS), *trial_streams):
            assert list(self.lmdb.stream_positions(stream)) == list(self.memory.stream_positions(stream)), stream
        for experiment in (*EXPERIMENTS, UUID(int=0)):
            assert list(self.lmdb.experiment_positions(experiment)) == list(self.memory.experiment_positions(experiment))
        for digest in map(config_digest, (*CONFIGS, {})):
            assert list(self.lmdb.config_positions(digest)) == list(self.memory.config_positions(digest))

    @invariant()
    def same_head_tree_and_queues(self) -> None:
        """Head, tree, and who is next or late, are equal after every step."""
        assert self.lmdb.head() == self.memory.head()
        assert self.lmdb.tree_head() == self.memory.tree_head()
        assert self.lmdb.redactions().total == self.memory.redactions().total
        with self.lmdb.view() as one, self.memory.view() as two:
            for experiment in EXPERIMENTS[:2]:
                assert one.ready(experiment, "w1", limit=9) == two.ready(experiment, "w1", limit=9)
                assert one.next_due(experiment) == two.next_due(experiment)
                assert one.expired(experiment, 9) == two.expired(experiment, 9)
                assert one.first_leased(experiment) == two.first_leased(experiment)

    def teardown(self) -> None:
        try:
            self.look()
            self.compare_indexes()
            self.read_entries(0)
            self._copy()
            assert _pages(self.lmdb, 0, None) == _pages(self.memory, 0, None)
            check = LogCheck(self.directory / "log")
            check.run()
            check.close()
            assert check.problems == []
            assert (check.position, check.edge.root()) == self.memory.tree_head()
            self.memory.check()
        finally:
            self.lmdb.close()
            self._patches.close()
            shutil.rmtree(self.directory)

    def _copy(self) -> None:
        """A copy made from the entries is the same ledger."""
        assert isinstance(self.lmdb, LmdbBackend)
        copy = LmdbBackend(self.directory / "copy", clock=self.clock, options=Options("relaxed"), identity=self.lmdb.identity)
        try:
            copy.adopt(_entries(self.memory, 0))
            copy.check()
            assert copy.tree_head() == self.memory.tree_head()
            assert _entries(copy, 0) == _entries(self.memory, 0)
            with copy.view() as one, self.memory.view() as two:
                assert _answers(one) == _answers(two)
        finally:
            copy.close()


def _entries(backend: Backend, after: int) -> list[Entry]:
    found: list[Entry] = []
    while page := backend.read_entries(after + len(found)):
        found += page
    return found


def _plain(answer: Appended | Exception) -> Any:
    """Return an answer in a form to compare: errors by type and message."""
    return (type(answer), str(answer)) if isinstance(answer, Exception) else answer


def _pages(backend: Backend, after: int, types: frozenset[str] | None) -> list[Any]:
    found: list[Any] = []
    while True:
        page, reached = backend.read_page(after, types)
        assert all(after < record.position <= reached for record in page)
        found += page
        if reached <= after:
            return found
        after = reached


def _answers(view: View) -> dict[str, Any]:
    """Ask a view everything; states are compared as bytes, too."""
    ready = {(e, w): view.ready(e, w, limit=3) for e in EXPERIMENTS for w in ("", "w2")}
    states: dict[str, TrialState | None] = {trial_stream(e, t): view.trial(e, t) for e in EXPERIMENTS for t in TRIALS}
    return {
        "now": view.now,
        "experiments": [encode_state(state) for state in view.experiments()],
        "experiment": [view.experiment(e) for e in EXPERIMENTS],
        "names": {name: view.experiment_named(name) for name in (*NAMES, "none")},
        "trials": states,
        "bytes": {stream: encode_state(state) for stream, state in states.items() if state is not None},
        "first_ready": ready,
        "expired": [view.expired(e, limit) for e in EXPERIMENTS for limit in (1, 10)],
        "leased": [view.first_leased(e) for e in EXPERIMENTS],
        "next_due": [view.next_due(e) for e in EXPERIMENTS],
        "after": [view.ready(e, "w1", after=s, limit=2) for e in EXPERIMENTS for s in list(states.values())[:4] if s is not None],
        "versions": {stream: view.version(stream) for stream in (*STREAMS, *states)},
        "records": [view.record(stream, version) for stream in ("s", "x", *list(states)[:2]) for version in (0, 1, 3)],
    }


def test_lmdb_and_memory_answer_alike() -> None:
    """After any sequence of groups, waits, reopenings and reads, both backends hold and answer the same."""
    print("derandomized: the same sequences in every run")
    run_state_machine_as_test(
        Lockstep,
        settings=settings(
            max_examples=120, stateful_step_count=40, deadline=None, derandomize=True, database=None, print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
