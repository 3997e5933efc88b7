"""Activity: who is in a transaction now, and moments when nobody is."""

from __future__ import annotations

import gc
import threading
import time
import weakref

_LOOK_SECONDS = 0.05


class Visit:
    """One stay in a transaction, held by whoever is in it."""

    __slots__ = ("__weakref__",)


class Activity:
    """Count the transactions of one process on an environment, and hold them off while it must be quiet.

    Entering and leaving are each one step that an interrupt cannot split, and leaving twice, or without having entered,
    does nothing. A visit is known by a weak reference: when an interrupt comes just as it is about to be left, it ends
    with the frame that held it.
    """

    def __init__(self) -> None:
        # The lock is taken, not the condition: `with` on it is a single step, on a condition it is Python code. It may be
        # taken again by the same thread: the garbage collector may close an abandoned reader, which leaves, at any moment.
        self._lock = threading.RLock()
        self._change = threading.Condition(self._lock)
        self._visits: dict[int, weakref.ref[Visit]] = {}
        self._quiet = False

    def enter(self, visit: Visit) -> None:
        """Begin a visit; waits while it must be quiet."""
        with self._lock:
            while self._quiet:
                self._change.wait()
            self._visits[id(visit)] = weakref.ref(visit)

    def leave(self, visit: Visit) -> None:
        """End a visit."""
        with self._lock:
            self._visits.pop(id(visit), None)
            if self._quiet and not self._visits:
                self._change.notify_all()

    def quiesce(self, timeout: float) -> bool:
        """Keep new visits out and wait for those under way; say whether it is quiet. ``resume`` ends it."""
        deadline = time.monotonic() + timeout
        with self._lock:
            if not self._change.wait_for(lambda: not self._quiet, timeout):
                return False
            self._quiet = True
        while not self._wait_until_empty(min(deadline - time.monotonic(), _LOOK_SECONDS)):
            if time.monotonic() >= deadline:
                self.resume()
                return False
            gc.collect()  # the frame of an interrupted visit may be in a cycle with the error that it ended with
        return True

    def _wait_until_empty(self, seconds: float) -> bool:
        with self._lock:
            return self._change.wait_for(lambda: not self._is_visited(), max(seconds, 0.0))

    def _is_visited(self) -> bool:
        self._visits = {key: visit for key, visit in self._visits.items() if visit() is not None}
        return bool(self._visits)

    def resume(self) -> None:
        """Let visits in again."""
        with self._lock:
            self._quiet = False
            self._change.notify_all()
