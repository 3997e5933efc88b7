"""One thread per ledger for what must happen by itself: renewing leases, flushing metrics."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable

_RETRY_SECONDS = 1.0
_LONGEST_SECONDS = 3600.0
_NEVER: tuple[float, Callable[[], float | None]] = (math.inf, lambda: None)


class Background:
    """Run small tasks at their time, in one daemon thread that starts with the first task.

    A task is a function without arguments; it returns the seconds until it wants to run again, or None. Tasks keep their
    errors for the thread that can act on them; one that raises all the same is tried again a second later.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: dict[Hashable, tuple[float, Callable[[], float | None]]] = {}
        self._change = threading.Condition()
        self._wakes_at = math.inf  # when the thread looks again by itself
        self._thread: threading.Thread | None = None
        self._closed = False

    def schedule(self, key: Hashable, seconds: float, task: Callable[[], float | None]) -> None:
        """Run the task in so many seconds, in place of the one known by the key."""
        with self._change:
            if self._closed:
                return
            due = time.monotonic() + seconds
            self._tasks[key] = (due, task)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            if due < self._wakes_at:  # to wake it for what is later than that would cost every short run two switches
                self._change.notify()

    def cancel(self, key: Hashable) -> None:
        """Forget the task; one that is running finishes."""
        with self._change:
            self._tasks.pop(key, None)

    def _run(self) -> None:
        while True:
            with self._change:
                key = min(self._tasks, key=lambda k: self._tasks[k][0], default=None)
                if self._closed:
                    return
                due, task = self._tasks.get(key, _NEVER)
                wait = due - time.monotonic()
                if wait > 0:
                    self._wakes_at = due
                    self._change.wait(min(wait, _LONGEST_SECONDS))
                    continue
                self._wakes_at = -math.inf  # it looks when it is done
            try:
                again = task()
            except Exception:  # noqa: BLE001 - one task's trouble (a warning made an error, say) must not stop the others
                again = _RETRY_SECONDS
            with self._change:
                if self._tasks.get(key) == (due, task):
                    if again is None:
                        del self._tasks[key]
                    else:
                        self._tasks[key] = (time.monotonic() + again, task)

    def close(self) -> None:
        """Stop the thread and wait for the task that is running."""
        with self._change:
            self._closed = True
            self._tasks.clear()
            self._change.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(5.0)
