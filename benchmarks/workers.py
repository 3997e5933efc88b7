"""Processes and threads that start together."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

_START_SECONDS = 60.0

#: Called in the worker: it gets ready and returns the work, which is called when everyone is ready.
Prepare = Callable[..., Callable[[], Any]]


class Done(NamedTuple):
    """When a worker began and ended (system-wide monotonic ns), and what it returned."""

    begun: int
    ended: int
    answer: Any


def run_processes(prepare: Prepare, arguments: Sequence[tuple[Any, ...]], limit_seconds: float) -> list[Done]:
    """Run one new process for each tuple of arguments, let them begin together, and return what they did.

    They are spawned, so that none inherits an open handle. Raises TimeoutError when one does not finish in time; then all
    are killed.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(len(arguments))
    started = []
    try:
        for each in arguments:
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(prepare, each, barrier, there), daemon=True)
            process.start()
            there.close()
            started.append((process, here))
        deadline = time.monotonic() + limit_seconds
        return [_receive(here, deadline) for _, here in started]
    finally:
        for process, here in started:
            here.close()
            if process.is_alive():
                process.join(2.0)
            if process.is_alive():
                process.kill()
            process.join()


def _work(prepare: Prepare, arguments: tuple[Any, ...], barrier: Any, answer: Connection) -> None:
    work = prepare(*arguments)
    barrier.wait(_START_SECONDS)
    begun = time.monotonic_ns()
    result = work()
    answer.send(Done(begun, time.monotonic_ns(), result))
    answer.close()


def _receive(answer: Connection, deadline: float) -> Done:
    if not answer.poll(max(deadline - time.monotonic(), 0.0)):
        raise TimeoutError("a worker process did not finish in time")
    try:
        done: Done = answer.recv()
    except EOFError:
        raise ChildProcessError("a worker process died; its error is above") from None
    return done


def run_threads(work: Sequence[Callable[[], Any]]) -> float:
    """Run each piece of work in a thread, let them begin together, and return the seconds until the last has ended."""
    barrier = threading.Barrier(len(work) + 1)
    errors: list[BaseException] = []

    def run(piece: Callable[[], Any]) -> None:
        barrier.wait(_START_SECONDS)
        try:
            piece()
        except BaseException as error:  # noqa: BLE001 - it is raised by the thread that measures
            errors.append(error)

    threads = [threading.Thread(target=run, args=(piece,), daemon=True) for piece in work]
    for thread in threads:
        thread.start()
    barrier.wait(_START_SECONDS)
    begun = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begun
    if errors:
        raise errors[0]
    return seconds


def span_seconds(done: Sequence[Done]) -> float:
    """Return the seconds from the first worker's begin to the last one's end."""
    return (max(each.ended for each in done) - min(each.begun for each in done)) / 1e9
