"""Fork, spawn, threads and asyncio on one ledger."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import ledger


def _in_fork(work: Callable[[], None]) -> str:
    """Run the work in a forked child and return what it raised, as text."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work()
            answer = "fine"
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    return answer


def test_a_handle_inherited_by_fork_refuses_everything(book: ledger.Ledger) -> None:
    """LMDB would write, silently and wrongly: each use in the child is a clear error, and none hangs."""
    exp = book.experiment("e")
    trial = exp.new_trial({"a": 1})
    subscription = book.subscribe()
    uses: list[Callable[[], object]] = [
        lambda: book.log.head,
        lambda: list(book.log.read()),
        lambda: book.log.append([ledger.NoteAdded("x")], stream="s"),
        lambda: book.experiment("f"),
        lambda: exp.claim(),
        lambda: trial.log(step=1, loss=1.0),
        lambda: trial.complete(),
        lambda: subscription.next(timeout=0),
        lambda: book.subscribe(),
    ]
    for use in uses:
        assert _in_fork(lambda use=use: use()).startswith("ForkedHandle"), use  # type: ignore[misc]
    assert _in_fork(book.close) == "fine"
    subscription.close()
    assert book.log.append([ledger.NoteAdded("x")], stream="s").position == 3


def test_a_forked_child_opens_the_ledger_for_itself(book: ledger.Ledger) -> None:
    """After a fork the child may open the same path, write and close, and the parent goes on."""
    book.log.append([ledger.NoteAdded("parent")], stream="s")

    def work() -> None:
        with ledger.open(book.path) as mine:
            mine.log.append([ledger.NoteAdded("child")], stream="s", expected_version=1)

    assert _in_fork(work) == "fine"
    book.log.append([ledger.NoteAdded("parent")], stream="s", expected_version=2)
    assert [record.event.text for record in book.log.read()] == ["parent", "child", "parent"]


def test_a_fork_in_the_middle_of_reads_and_writes_of_other_threads(book: ledger.Ledger) -> None:
    """A fork waits for a quiet moment: neither process loses a reader's slot, a lock or an event."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def work(do: Callable[[], object]) -> None:
        try:
            while not stop.is_set():
                do()
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=work, args=(lambda: book.log.append([ledger.NoteAdded("t")], stream="t"),)),
        threading.Thread(target=work, args=(lambda: list(book.log.read()),)),
    ]
    for thread in threads:
        thread.start()

    def child() -> None:
        with ledger.open(book.path) as mine:
            mine.log.append([ledger.NoteAdded("c")], stream="c")

    try:
        answers = [_in_fork(child) for _ in range(20)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert answers == ["fine"] * 20
    assert not failures
    assert book.log.version("c") == 20


def test_metrics_are_flushed_before_a_fork_and_belong_to_the_parent(book: ledger.Ledger) -> None:
    """Points logged before a fork are recorded once, by the parent."""
    trial = book.experiment("e").new_trial({})
    with trial.run():
        trial.log(step=1, loss=0.5)
        assert _in_fork(lambda: None) == "fine"
        assert [r.type for r in trial.history()][-1] == "MetricsLogged"
    assert sum(r.type == "MetricsLogged" for r in trial.history()) == 1


def _append_notes(path: str, name: str, count: int) -> None:
    with ledger.open(path) as book:
        for number in range(count):
            book.log.append([ledger.NoteAdded(f"{name}-{number}")], stream=name)


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_processes_append_together(book: ledger.Ledger, method: str) -> None:
    """Events of several processes have gapless positions, and each stream is in the order of its writer."""
    context = multiprocessing.get_context(method)
    workers = [context.Process(target=_append_notes, args=(book.path, f"w{i}", 40)) for i in range(3)]
    for worker in workers:
        worker.start()
    _append_notes(book.path, "parent", 40)
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    records = list(book.log.read())
    assert [record.position for record in records] == list(range(1, 161))
    for name in ("parent", "w0", "w1", "w2"):
        assert [r.event.text for r in book.log.read(stream=name)] == [f"{name}-{i}" for i in range(40)]


def test_threads_share_commits(book: ledger.Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Appends of many threads are recorded once each, in fewer commits than there are appends."""
    commits = []
    original = book.log.backend.commit
    monkeypatch.setattr(book.log.backend, "commit", lambda group: commits.append(len(group)) or original(group))

    def work(name: str) -> None:
        for number in range(25):
            book.log.append([ledger.NoteAdded(str(number))], stream=name, expected_version=number)

    threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert book.log.head == sum(commits) == 400
    assert len(commits) < 300


def test_a_refusal_goes_to_its_own_caller_only(book: ledger.Ledger) -> None:
    """Of threads that share commits, the one with a stale version is refused and the others are not disturbed."""
    outcomes: list[str] = []

    def work(number: int) -> None:
        try:
            book.log.append([ledger.NoteAdded("x")], stream=f"s{number % 8}", expected_version=0)
            outcomes.append("won")
        except ledger.WrongExpectedVersion:
            outcomes.append("refused")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused"] * 24 + ["won"] * 8
    assert book.log.head == 8


def test_a_subscription_follows_another_process(book: ledger.Ledger, script: Callable) -> None:
    """Every event of another process is seen once, in order, soon, and without a wake-up missed."""
    writer = script(
        """
        import sys, ledger
        with ledger.open(sys.argv[1]) as book:
            print("ready")
            sys.stdin.read(0)
            for number in range(500):
                book.log.append([ledger.NoteAdded(str(number))], stream="w")
        """,
        book.path,
    )
    with book.subscribe(poll_seconds=30.0) as records:
        assert writer.line() == "ready"
        seen = [records.next(timeout=60.0) for _ in range(500)]
    assert [record.event.text for record in seen if record] == [str(i) for i in range(500)]
    writer.finish()


def test_asyncio_tasks_append_and_follow(book: ledger.Ledger) -> None:
    """Appends run in threads of the loop's executor, a subscription is an async iterator, and closing ends it."""

    async def follow() -> list[str]:
        texts = []
        async with book.subscribe() as records:
            async for record in records:
                texts.append(record.event.text)
                if len(texts) == 20:
                    break
        return texts

    async def main() -> list[str]:
        follower = asyncio.create_task(follow())
        for number in range(20):
            await asyncio.to_thread(book.log.append, [ledger.NoteAdded(str(number))], stream="s")
        return await asyncio.wait_for(follower, 30)

    assert asyncio.run(main()) == [str(i) for i in range(20)]


def test_another_processs_write_lock_is_waited_for_and_named(ledger_path: Path, script: Callable) -> None:
    """A writer that is stopped in the middle of a commit is named after lock_timeout; nothing is written for the waiter."""
    holder = script(
        """
        import sys, time, ledger
        from ledger.backends.environment import Environment
        original = Environment.commit_transaction
        def slow(self, txn):
            print("holding")
            time.sleep(60)
            original(self, txn)
        with ledger.open(sys.argv[1]) as book:
            Environment.commit_transaction = slow
            book.log.append([ledger.NoteAdded("slow")], stream="s")
        """,
        ledger_path,
    )
    assert holder.line() == "holding"
    with ledger.open(ledger_path, lock_timeout=0.3) as book:
        begun = time.monotonic()
        with pytest.raises(ledger.LockTimeout, match=f"process {holder.process.pid}") as caught:
            book.log.append([ledger.NoteAdded("waiting")], stream="s")
        assert time.monotonic() - begun < 10
        assert caught.value.waited_seconds >= 0.3
        held = caught.value.held_seconds
        assert held is not None
        assert 0.3 <= held < 60
        assert f"has been held for {held:.1f} s by process {holder.process.pid}" in str(caught.value)
        assert book.log.head == 0
        holder.kill()
        holder.finish()
        # The abandoned one is not written later; the next one is.
        assert book.log.append([ledger.NoteAdded("after")], stream="s").position == 1
        time.sleep(0.1)
        assert [record.event.text for record in book.log.read()] == ["after"]


def test_to_take_the_write_lock_wakes_no_reader(book: ledger.Ledger, ledger_path: Path) -> None:
    """Who has taken it says since when in another file than the one that readers watch."""
    book.log.append([ledger.NoteAdded("a")], stream="s")
    rung, stamped = (ledger_path / "head").stat().st_mtime_ns, (ledger_path / "open.lock").read_bytes()
    time.sleep(0.02)  # the clock of a file system has coarse steps
    with pytest.raises(ledger.WrongExpectedVersion):
        book.log.append([ledger.NoteAdded("b")], stream="s", expected_version=0)
    assert (ledger_path / "head").stat().st_mtime_ns == rung
    assert (ledger_path / "open.lock").read_bytes() != stamped


def test_a_lock_without_its_stamp_is_named_without_a_time(ledger_path: Path, script: Callable) -> None:
    """The holder is not who stamped last: it is named, and for how long is left open."""
    with ledger.open(ledger_path, lock_timeout=0.1) as book:
        book.log.append([ledger.NoteAdded("a")], stream="s")
        holder = script(
            """
            import fcntl, sys, time
            file = open(sys.argv[1] + "/head", "r+")
            fcntl.flock(file, fcntl.LOCK_EX)
            print("held")
            time.sleep(60)
            """,
            ledger_path,
        )
        assert holder.line() == "held"
        with pytest.raises(ledger.LockTimeout, match=f"it is held by process {holder.process.pid}") as caught:
            book.log.append([ledger.NoteAdded("b")], stream="s")
        assert caught.value.held_seconds is None
        holder.kill()
        holder.finish()


def test_waiting_writers_get_the_lock_when_it_is_free(ledger_path: Path, script: Callable) -> None:
    """A short hold by another process delays an append and does not fail it."""
    with ledger.open(ledger_path) as book:
        holder = script(
            """
            import fcntl, sys, time
            file = open(sys.argv[1] + "/head", "r+")
            fcntl.flock(file, fcntl.LOCK_EX)
            print("held")
            time.sleep(0.5)
            """,
            ledger_path,
        )
        assert holder.line() == "held"
        assert book.log.append([ledger.NoteAdded("x")], stream="s").position == 1
