"""Buffered metrics: many points to an event, so that logging costs a microsecond and not a disk flush.

Points wait in memory for at most a second or 256 values, and are flushed at the end of a run, by ``flush()``, before a
fork, and at exit. What a kill -9 or a power cut can lose is therefore the points of the last second, and nothing else.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from ledger.background import Background
from ledger.errors import InvalidValue
from ledger.events import MetricsLogged, Points, TelemetryLogged
from ledger.values import check_text

FLUSH_SECONDS = 1.0
FLUSH_VALUES = 256
_WAITING_BATCHES = 64  # more than this and the caller flushes himself: a slow disk must not fill the memory

_SCALARS = frozenset({int, float, str, bool, type(None)})
_buffers: weakref.WeakSet[PointBuffer] = weakref.WeakSet()


class _Rows:
    """Rows with the same names."""

    __slots__ = ("last", "steps", "times", "values")

    def __init__(self, width: int) -> None:
        self.steps: list[int | float | None] = []
        self.times: list[int] = []
        self.values: list[list[Any]] = [[] for _ in range(width)]
        self.last = 0


class PointBuffer:
    """Collect points and hand them on in batches.

    ``append`` gets a list of ``Points`` and records them durably; when it raises, the points are kept, and the error is
    raised by the next ``add`` or ``flush``. Any thread may call anything.
    """

    def __init__(self, append: Callable[[list[Points]], object], background: Background) -> None:
        self._append = append
        self._background = background
        self._lock = threading.Lock()
        self._flush_lock = threading.Lock()
        self._rows: dict[tuple[str, ...], _Rows] = {}
        self._count = 0
        self._batches: list[list[Points]] = []
        self._error: Exception | None = None
        _buffers.add(self)

    def add(self, step: float | None, values: Mapping[str, Any], at: int | None = None) -> None:
        """Take one row in: values by name, at a step and a time (ns since 1970 UTC; now when None)."""
        names = tuple(values)
        row = [value if type(value) in _SCALARS else _scalar(name, value) for name, value in values.items()]
        if type(step) not in (int, float, type(None)):
            step = _step(step)
        now = time.time_ns() if at is None else at
        with self._lock:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            rows = self._rows.get(names)
            if rows is None:
                rows = self._rows[names] = _Rows(len(names))
                _check_names(names)
            rows.steps.append(step)
            rows.times.append(now - rows.last)
            rows.last = now
            for column, value in zip(rows.values, row, strict=True):
                column.append(value)
            begun = self._count == 0
            self._count += len(row)
            full = self._count >= FLUSH_VALUES
            if full:
                self._close_batch()
                overfull = len(self._batches) > _WAITING_BATCHES
        if full and overfull:
            self.flush()
        elif full:
            self._background.schedule(self, 0.0, self._flush_in_background)
        elif begun:
            self._background.schedule(self, FLUSH_SECONDS, self._flush_in_background)

    def _close_batch(self) -> None:
        if self._rows:
            self._batches.append([Points(list(names), rows.steps, rows.times, rows.values) for names, rows in self._rows.items()])
        self._rows = {}
        self._count = 0

    def flush(self) -> None:
        """Return when every point added before is recorded durably; raise what kept them from it."""
        with self._flush_lock:
            with self._lock:
                self._close_batch()
                batches, self._batches = self._batches, []
                self._error = None
            for number, batch in enumerate(batches):
                try:
                    self._append(batch)
                except BaseException:
                    with self._lock:
                        self._batches = batches[number:] + self._batches
                    raise

    def _flush_in_background(self) -> float | None:
        try:
            self.flush()
        except Exception as error:  # noqa: BLE001 - kept for the thread that logs: it can act on it
            self._error = error
        with self._lock:
            return FLUSH_SECONDS if self._count or (self._batches and self._error is None) else None

    def discard(self) -> None:
        """Forget what is buffered (in a forked child: it is the parent's)."""
        self._rows, self._batches, self._count = {}, [], 0
        self._lock, self._flush_lock = threading.Lock(), threading.Lock()


def _check_names(names: tuple[str, ...]) -> None:
    for name in names:
        if type(name) is not str or not name:
            raise InvalidValue(f"a metric is named by a text that is not empty, not {name!r}.")
        check_text(name, "the metric's name")


def _scalar(name: str, value: Any) -> Any:
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()  # a numpy scalar, or an array or tensor of no dimensions
    if type(value) in _SCALARS:
        return value
    raise InvalidValue(
        f"the metric {name!r} is a {type(value).__qualname__}; a point is a number, a text, a bool or None. "
        "Log one name for each part, or keep the whole as an artifact."
    )


def _step(step: Any) -> int | float | None:
    value = _scalar("step", step)
    if type(value) not in (int, float):
        raise InvalidValue(f"step is {step!r}; give a number.")
    return value  # type: ignore[no-any-return]


def point_rows(event: MetricsLogged | TelemetryLogged) -> list[tuple[str, int | float | None, int, Any]]:
    """Return the points of an event as (name, step, time in ns since 1970 UTC, value)."""
    rows = []
    for points in event.points:
        at = 0
        for i, (step, delta) in enumerate(zip(points.steps, points.times, strict=True)):
            at += delta
            rows += [(name, step, at, column[i]) for name, column in zip(points.names, points.values, strict=True)]
    return rows


def flush_buffers(background: Background) -> None:
    """Flush every buffer that uses this background thread, which is to say, belongs to this ledger."""
    for buffer in list(_buffers):
        if buffer._background is background:
            buffer.flush()


def flush_before_fork() -> None:
    """Flush every buffer, keeping what goes wrong for the threads that log: a fork cannot be refused."""
    for buffer in list(_buffers):
        try:
            buffer.flush()
        except Exception as error:  # noqa: BLE001 - raised by the buffer's next add
            buffer._error = error


def discard_in_child() -> None:
    """Forget every buffer: what was not flushed is the parent's."""
    for buffer in list(_buffers):
        buffer.discard()
