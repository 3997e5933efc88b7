"""Interrupts, closing and slow readers: what one thread suffers must not stop or harm the others."""

from __future__ import annotations

import _thread
import os
import random
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import ledger
from ledger.backends.lmdb import LmdbBackend


def test_interrupts_at_any_moment_stop_nobody_else(ledger_path: Path, script: Callable) -> None:
    """After each of hundreds of Ctrl-C at random moments of an append, other threads still append, and none hangs."""
    done = script(
        """
        import random, signal, sys, threading, _thread, ledger

        random_ = random.Random(5)
        acknowledged = 0
        interrupted = 0
        with ledger.open(sys.argv[1], durability="relaxed") as book:
            book.log.append([ledger.NoteAdded("first")], stream="main")
            for round_ in range(300):
                def alarm(delay=random_.uniform(0.00002, 0.002)):
                    signal.setitimer(signal.ITIMER_REAL, delay)
                signal.signal(signal.SIGALRM, signal.default_int_handler)
                try:
                    alarm()
                    while True:
                        book.log.append([ledger.NoteAdded("main")], stream="main")
                        acknowledged += 1
                except KeyboardInterrupt:
                    interrupted += 1
                other = threading.Thread(target=lambda: book.log.append([ledger.NoteAdded("other")], stream="other"))
                other.start()
                other.join(20)
                assert not other.is_alive(), f"hangs after {interrupted} interrupts"
            assert book.log.version("other") == 300
            assert book.log.version("main") >= acknowledged
        print(interrupted)
        """,
        ledger_path,
    )
    assert done.finish() == ["300"]


def test_interrupts_at_any_moment_leave_a_subscription_that_closes(ledger_path: Path, script: Callable) -> None:
    """After each of hundreds of Ctrl-C at random moments of following, the subscription can be closed, and does not hang."""
    done = script(
        """
        import faulthandler, random, signal, sys, ledger

        random_ = random.Random(7)
        interrupted = 0
        with ledger.open(sys.argv[1], durability="relaxed") as book:
            book.log.append([ledger.NoteAdded("first")], stream="main")
            signal.signal(signal.SIGALRM, signal.default_int_handler)
            for round_ in range(400):
                faulthandler.dump_traceback_later(20, exit=True)
                records = book.subscribe(after=0)
                try:
                    signal.setitimer(signal.ITIMER_REAL, random_.uniform(0.00002, 0.001))
                    while True:
                        records.next(timeout=0.00001)
                except KeyboardInterrupt:
                    interrupted += 1
                records.close()
                assert records.next(timeout=1) is None
        faulthandler.cancel_dump_traceback_later()
        print(interrupted)
        """,
        ledger_path,
    )
    assert done.finish() == ["400"]


def test_closing_while_others_append_harms_no_file_and_no_append(tmp_path: Path) -> None:
    """An append that races with close is recorded and says so, or is refused by LedgerClosed; descriptors stay their own."""
    innocent = tmp_path / "innocent"
    innocent.write_bytes(b"untouched")
    path = tmp_path / "l"
    acknowledged = 0
    for _ in range(25):
        book = ledger.open(path, durability="relaxed")
        outcomes: list[object] = []
        go = threading.Barrier(5)

        def work(book: ledger.Ledger = book, outcomes: list[object] = outcomes, go: threading.Barrier = go) -> None:
            go.wait()
            try:
                for _ in range(200):
                    outcomes.append(book.log.append([ledger.NoteAdded("x")], stream="s").position)  # noqa: PERF401 - one by one
            except BaseException as error:
                outcomes.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        go.wait()
        time.sleep(random.Random(_).uniform(0, 0.01))
        book.close()
        files = [innocent.open("r+b") for _ in range(8)]
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        for file in files:
            file.close()
        assert {type(outcome) for outcome in outcomes if not isinstance(outcome, int)} <= {ledger.LedgerClosed}
        acknowledged += sum(isinstance(outcome, int) for outcome in outcomes)
    assert innocent.read_bytes() == b"untouched"
    with ledger.open(path) as book:
        assert book.log.head == acknowledged


def test_closing_under_an_open_view_holds_up_no_other_ledger(ledger_path: Path, tmp_path: Path) -> None:
    """While one ledger waits for a view to end before it closes, another can be opened."""
    book = ledger.open(ledger_path)
    with book.log.backend.view():
        closing = threading.Thread(target=book.close)
        closing.start()
        begun = time.monotonic()
        ledger.open(tmp_path / "other").close()
        assert time.monotonic() - begun < 30
        assert closing.is_alive()
    closing.join(30)
    assert not closing.is_alive()


def test_a_command_that_appends_is_refused(book: ledger.Ledger) -> None:
    """It would wait for itself."""

    def command(view: ledger.View) -> list:
        book.log.append([ledger.NoteAdded("inner")], stream="s")
        return []

    with pytest.raises(ledger.CommandRefused, match="Return the events"):
        book.log.execute(command)
    assert book.log.append([ledger.NoteAdded("x")], stream="s").position == 1


def test_a_listener_that_raises_is_its_own_trouble(book: ledger.Ledger) -> None:
    """The append has been committed and says so."""

    def broken() -> None:
        raise RuntimeError("reader's trouble")

    book.log.backend.listen(broken)
    assert book.log.append([ledger.NoteAdded("x")], stream="s").position == 1


def test_a_warning_made_an_error_does_not_stop_the_background(ledger_path: Path) -> None:
    """Leases are renewed and metrics flushed although a skewed clock's warning is an error to the program."""
    now = [time.time_ns()]
    with ledger.open(ledger_path, clock=lambda: now[0]) as book:
        exp = book.experiment("e")
        exp.new_trial({})
        job = exp.claim(lease_seconds=0.3)
        assert job is not None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            now[0] -= 3_600_000_000_000
            deadline = time.monotonic() + 20
            while sum(r.type == "LeaseRenewed" for r in job.history(renewals=True)) < 3:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        job.complete()


def test_subscriptions_that_are_dropped_are_forgotten(book: ledger.Ledger) -> None:
    """A subscription that was not closed keeps nothing alive."""
    for _ in range(50):
        book.subscribe()
    backend = book.log.backend
    assert isinstance(backend, LmdbBackend)
    assert len(backend._doorbell._listeners) == 0


def test_a_claim_whose_handle_is_dropped_is_lost_in_time(book: ledger.Ledger) -> None:
    """Nobody can end it, so it is not renewed for ever."""
    exp = book.experiment("e")
    exp.new_trial({})
    assert exp.claim(worker="forgetful", lease_seconds=0.2) is not None
    deadline = time.monotonic() + 20
    while (job := exp.claim(worker="next")) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    job.complete()


def test_descriptors_and_threads_are_given_back(tmp_path: Path) -> None:
    """Opening, subscribing and closing many times leaves nothing behind."""

    def cycle() -> None:
        with ledger.open(tmp_path / "l") as book, book.subscribe() as records:
            book.log.append([ledger.NoteAdded("x")], stream="s")
            assert records.next(timeout=10) is not None

    cycle()
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(30):
        cycle()
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


def test_an_interrupt_of_the_main_thread_reaches_it(book: ledger.Ledger) -> None:
    """A command that interrupts the main thread is seen there as KeyboardInterrupt, and the log goes on."""

    def command(view: ledger.View) -> list:
        _thread.interrupt_main()
        for _ in range(1000):
            pass
        return []

    with pytest.raises(KeyboardInterrupt):
        book.log.execute(command)
        time.sleep(1)
    assert book.log.append([ledger.NoteAdded("x")], stream="s").position == 1
