"""Waiting for work: woken by what other processes commit, by times that come and leases that end; never held up for long."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ledger
from ledger import waiting


@pytest.fixture
def exp(book: ledger.Ledger) -> ledger.Experiment:
    """An experiment on a fresh ledger."""
    return book.experiment("queue")


@pytest.fixture
def no_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the bell and the times wakes a waiter: a missed one would wait for minutes."""
    monkeypatch.setattr(waiting, "POLL_SECONDS", 250.0)


def _in_thread(work: Callable[[], Any]) -> Callable[[], Any]:
    """Run the work in a thread; return a function that waits for it and returns its answer."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(work()), daemon=True)
    thread.start()

    def join() -> Any:
        thread.join(60)
        assert not thread.is_alive(), "it waits for ever"
        return answers[0]

    return join


def test_wait_says_whether_there_is_work(exp: ledger.Experiment) -> None:
    """True at once when a trial can be claimed; False after the timeout when none can."""
    assert exp.wait(timeout=0) is False
    exp.new_trial({"n": 1}, worker="a")
    assert exp.wait(timeout=0) is False
    assert exp.wait(timeout=0, worker="a") is True
    assert exp.wait(timeout=0, worker="a", where={"n": 2}) is False
    exp.pause()
    assert exp.wait(timeout=0, worker="a") is False


@pytest.mark.usefixtures("no_polling")
def test_a_new_trial_wakes_a_waiter_of_this_process(exp: ledger.Experiment) -> None:
    """Also a trial that another one waited for, and an experiment that is resumed."""
    first = exp.new_trial({})
    exp.new_trial({}, depends_on=[first], worker="b")
    exp.pause()
    for wake in (exp.resume, first.complete):
        join = _in_thread(lambda: exp.wait(timeout=None, worker="b"))
        time.sleep(0.1)
        wake()
        assert join() is True
        if wake == exp.resume:
            first.start()


@pytest.mark.usefixtures("no_polling")
def test_a_trial_of_another_process_wakes_a_claim(exp: ledger.Experiment, script: Callable[..., Any]) -> None:
    """claim(timeout=) sleeps until another process adds a trial, and returns it."""
    other = script(
        """
        import sys, time, ledger
        with ledger.open(sys.argv[1]) as book:
            print("ready")
            time.sleep(0.3)
            book.get_experiment("queue").new_trial({"from": "afar"})
        """,
        exp.book.path,
    )
    assert other.line() == "ready"
    job = exp.claim(timeout=120)
    assert job is not None
    assert job.config == {"from": "afar"}
    job.release()
    other.finish()


@pytest.mark.usefixtures("no_polling")
def test_a_scheduled_time_wakes_a_waiter(exp: ledger.Experiment) -> None:
    """Nobody commits anything when the time comes."""
    at = time.time_ns() + 400_000_000
    exp.new_trial({}, scheduled_at=at)
    job = exp.claim(timeout=60)
    assert job is not None
    assert job.state.scheduled_at == at <= time.time_ns()
    job.complete()


@pytest.mark.usefixtures("no_polling")
def test_the_end_of_a_lease_wakes_a_waiter(exp: ledger.Experiment) -> None:
    """A worker that has died has said nothing: its lease runs out, and the waiter gets the trial."""
    exp.new_trial({})
    dead = exp.claim(worker="dead", lease_seconds=0.4)
    assert dead is not None
    dead.let_go()
    job = exp.claim(worker="next", timeout=60)
    assert job is not None
    assert job.attempt == 2
    job.complete()


def test_a_wait_is_over_when_the_ledger_is_closed(ledger_path: Path) -> None:
    """Closing the handle in another thread ends the wait with an error, soon."""
    book = ledger.open(ledger_path)
    exp = book.experiment("queue")

    def wait() -> str:
        try:
            return str(exp.wait())
        except ledger.LedgerClosed:
            return "closed"

    join = _in_thread(wait)
    time.sleep(0.1)
    book.close()
    assert join() == "closed"


def test_a_wait_ends_by_ctrl_c(book: ledger.Ledger, script: Callable[..., Any]) -> None:
    """SIGINT ends a process that waits for ever; nothing of it is left in the way of others."""
    book.experiment("queue")
    waiter = script(
        """
        import sys, ledger
        with ledger.open(sys.argv[1]) as book:
            print("waiting")
            try:
                book.get_experiment("queue").claim(timeout=None)
            except KeyboardInterrupt:
                print("interrupted")
        """,
        book.path,
    )
    assert waiter.line() == "waiting"
    time.sleep(0.3)
    waiter.process.send_signal(signal.SIGINT)
    assert waiter.finish() == ["interrupted"]
    exp = book.get_experiment("queue")
    exp.new_trial({}).complete()


def test_a_predicate_that_fails_holds_nobody_up(exp: ledger.Experiment) -> None:
    """What it raises is raised by claim; nothing is claimed; the ledger is written to as before."""
    exp.new_trial({"n": 0})
    with pytest.raises(ZeroDivisionError):
        exp.claim(where=lambda config: 1 / config["n"] > 0)
    with pytest.raises(ledger.InvalidValue, match="a dict of config values, or a function"):
        exp.claim(where="n=0")  # type: ignore[arg-type]
    for timeout in (-1, "5", True, float("nan")):
        with pytest.raises(ledger.InvalidValue, match="timeout is"):
            exp.claim(timeout=timeout)  # type: ignore[arg-type]
    seen = []

    def adds_a_trial(config: dict[str, Any]) -> bool:
        seen.append(exp.new_trial({}).id)  # outside of any transaction: this is no deadlock
        return True

    job = exp.claim(where=adds_a_trial)
    assert job is not None
    assert seen == [2]
    job.complete()


def test_claimers_with_one_wish_get_each_trial_once(exp: ledger.Experiment) -> None:
    """Threads that look for the same configs are each handed others, and in the end all of them."""
    exp.new_trials({"n": n, "odd": n % 2 == 1} for n in range(60))
    won: list[list[int]] = [[] for _ in range(6)]

    def work(number: int) -> None:
        while (job := exp.claim(worker=f"w{number}", where={"odd": True})) is not None:
            won[number].append(job.id)
            job.complete()

    for join in [_in_thread(lambda number=number: work(number)) for number in range(6)]:  # type: ignore[misc]
        join()
    assert sorted(number for numbers in won for number in numbers) == list(range(2, 61, 2))
