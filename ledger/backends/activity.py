"""Activity: who is in a transaction now, and moments when nobody is."""

from __future__ import annotations

import threading


class Activity:
    """Count the transactions of one process on an environment, and hold them off while it must be quiet.

    A visit is any object; entering and leaving are each one step that an interrupt cannot split, and leaving twice, or
    without having entered, does nothing.
    """

    def __init__(self) -> None:
        # The raw lock is taken, not the condition: `with` on it is a single step, on a condition it is Python code.
        self._lock = threading.Lock()
        self._change = threading.Condition(self._lock)
        self._visits: set[object] = set()
        self._quiet = False

    def enter(self, visit: object) -> None:
        """Begin a visit; waits while it must be quiet."""
        with self._lock:
            while self._quiet:
                self._change.wait()
            self._visits.add(visit)

    def leave(self, visit: object) -> None:
        """End a visit."""
        with self._lock:
            self._visits.discard(visit)
            if not self._visits:
                self._change.notify_all()

    def quiesce(self, timeout: float) -> bool:
        """Keep new visits out and wait for those under way; say whether it is quiet. ``resume`` ends it."""
        with self._lock:
            if not self._change.wait_for(lambda: not self._quiet, timeout):
                return False
            self._quiet = True
            if self._change.wait_for(lambda: not self._visits, timeout):
                return True
            self._quiet = False
            self._change.notify_all()
            return False

    def resume(self) -> None:
        """Let visits in again."""
        with self._lock:
            self._quiet = False
            self._change.notify_all()
