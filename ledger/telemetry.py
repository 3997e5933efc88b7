"""Buffered metrics: many points to an event, so that logging costs a microsecond and not a disk flush.

Points wait in memory for at most a second or 4096 values, and are flushed at the end of a run, by ``flush()``, before a
fork, and at exit. What a kill -9 or a power cut can lose is therefore the points of the last second, and nothing else.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from ledger.background import Background
from ledger.errors import InvalidValue
from ledger.events import MetricsLogged, Points, TelemetryLogged
from ledger.identity import new_uuid7
from ledger.records import to_nanoseconds
from ledger.values import check_text, with_article

FLUSH_SECONDS = 1.0
FLUSH_VALUES = 4096
FLUSH_BYTES = 128 * 1024
_WAITING_BATCHES = 64  # more than this and the caller flushes himself: a slow disk must not fill the memory
_MAX_NAME = 1_000
_MAX_TEXT = 4_000
_MAX_ROW_BYTES = 256 * 1024

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


class Batch(NamedTuple):
    """Points on their way into one event, with the append id that makes a second try safe."""

    points: list[Points]
    append_id: UUID
    is_first_try: bool = True


class PointBuffer:
    """Collect points and hand them on in batches.

    ``append`` gets the batches that wait, and records them durably; when it raises, they are kept, and the error is raised by
    the next ``add`` or ``flush``. ``check`` is called at the beginning of each batch, and raises when nothing could be
    recorded now. Any thread may call anything.
    """

    def __init__(
        self, append: Callable[[list[Batch]], object], background: Background,
        check: Callable[[], object] = lambda: None,
    ) -> None:  # fmt: skip
        self._append, self._check = append, check
        self.background = background
        self._lock = threading.Lock()
        self._flush_lock = threading.Lock()
        self._rows: dict[tuple[str, ...], _Rows] = {}
        self._count = self._size = 0
        self._batches: deque[Batch] = deque()
        self._error: Exception | None = None
        _buffers.add(self)

    def add(self, step: Any, values: Mapping[str, Any], at: Any = None) -> None:
        """Take one row in: values by name, at a step and a time (datetime with time zone, or ns; now when None).

        Raises InvalidValue for what is no point; then nothing of the row is taken.
        """
        names, row, size = _checked_row(values)
        step = step if type(step) in (float, type(None)) else check_step(step)
        now = time.time_ns() if at is None else to_nanoseconds(at, "at") or 0
        if self._count == 0:
            self._check()
        with self._lock:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            begun = self._count == 0
            self._take(names, row, step, now)
            self._count += len(row)
            self._size += size
            full = self._count >= FLUSH_VALUES or self._size >= FLUSH_BYTES
            if full:
                self._close_batch()
        if full and len(self._batches) > _WAITING_BATCHES:
            self.flush()
        elif full:
            self.background.schedule(self, 0.0, self._flush_in_background)
        elif begun:
            self.background.schedule(self, FLUSH_SECONDS, self._flush_in_background)

    def _take(self, names: tuple[str, ...], row: list[Any], step: float | None, now: int) -> None:
        rows = self._rows.get(names)
        if rows is None:
            rows = self._rows[names] = _Rows(len(names))
        rows.steps.append(step)
        rows.times.append(now - rows.last)
        rows.last = now
        for column, value in zip(rows.values, row, strict=True):
            column.append(value)

    def _close_batch(self) -> None:
        if self._rows:
            points = [Points(list(names), rows.steps, rows.times, rows.values) for names, rows in self._rows.items()]
            self._batches.append(Batch(points, new_uuid7()))
        self._rows = {}
        self._count = self._size = 0

    def flush(self) -> None:
        """Return when every point added before is recorded durably; raise what kept them from it."""
        with self.flushing() as batches:
            if batches:
                self._append(batches)

    @contextlib.contextmanager
    def flushing(self) -> Iterator[list[Batch]]:
        """Hand out the batches that wait; the block records them. When it raises they are kept, for another try."""
        with self._flush_lock:
            with self._lock:
                self._close_batch()
                self._error = None
            batches = list(self._batches)
            try:
                yield batches
            except BaseException:
                with self._lock:
                    self._batches = deque(batch._replace(is_first_try=False) for batch in self._batches)
                raise
            for _ in batches:
                self._batches.popleft()

    def _flush_in_background(self) -> float | None:
        try:
            self.flush()
        except Exception as error:  # noqa: BLE001 - kept for the thread that logs: it can act on it
            self._error = error
        return FLUSH_SECONDS if self._count or self._batches else None

    def discard(self) -> None:
        """Forget what is buffered (in a forked child: it is the parent's)."""
        self._rows, self._count, self._size = {}, 0, 0
        self._batches.clear()
        self._lock, self._flush_lock = threading.Lock(), threading.Lock()


def _checked_row(values: Mapping[str, Any]) -> tuple[tuple[str, ...], list[Any], int]:
    """Return the names, the values as they are recorded, and about how many bytes they take."""
    names = tuple(values)
    row = []
    size = 10 * len(names)
    for name, value in values.items():
        if type(name) is not str or not name:
            raise InvalidValue(f"a metric is named by a text that is not empty, not {name!r}.")
        if not name.isascii() or len(name) > _MAX_NAME:
            check_name(name)
        if type(value) is not float:
            value = check_scalar(f"the metric {name!r}", value)
            size += 4 * len(value) if type(value) is str else 0
        row.append(value)
        size += len(name)
    if size > _MAX_ROW_BYTES:
        raise InvalidValue(f"a row of {len(names):,} metrics takes about {size:,} bytes; log it in parts of {_MAX_ROW_BYTES:,}.")
    return names, row, size


def check_name(name: str) -> None:
    """Refuse a name of a metric that is no text or too long."""
    check_text(name, "the metric's name")
    if len(name) > _MAX_NAME:
        raise InvalidValue(f"the metric's name {name[:40]!r}... has {len(name):,} characters; at most {_MAX_NAME} are kept.")


def check_scalar(what: str, value: Any) -> Any:
    """Return the value of a point as it is recorded; InvalidValue when it cannot be one."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()  # a numpy scalar, or an array or tensor of no dimensions
    kind = type(value)
    if kind is str:
        if len(value) > _MAX_TEXT:
            raise InvalidValue(f"{what} is a text of {len(value):,} characters; record more than {_MAX_TEXT:,} as a note.")
        return check_text(value, what)
    if kind is int and not -(2**63) <= value < 2**64:
        raise InvalidValue(f"{what} is {value!r}; an int of a point has 64 bits. Log float(value), or its text.")
    if kind in _SCALARS:
        return value
    raise InvalidValue(
        f"{what} is {with_article(kind.__qualname__)}; a point is a number, a text, a bool or None. "
        "Log one name for each part, or keep the whole as an artifact."
    )


def check_step(step: Any) -> int | float | None:
    """Return a step as it is recorded; InvalidValue when it is no number."""
    value = check_scalar("step", step)
    if type(value) not in (int, float, type(None)):
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
    """Flush every buffer that uses this background thread, which is to say, belongs to this ledger.

    All are tried; the first error is raised.
    """
    first: Exception | None = None
    for buffer in list(_buffers):
        if buffer.background is background:
            try:
                buffer.flush()
            except Exception as error:  # noqa: BLE001 - the others are to be flushed too
                first = first or error
    if first is not None:
        raise first


def flush_before_fork() -> None:
    """Flush every buffer, keeping what goes wrong for the threads that log: a fork cannot be refused."""
    for buffer in list(_buffers):
        buffer._flush_in_background()


def discard_in_child() -> None:
    """Forget every buffer: what was not flushed is the parent's."""
    for buffer in list(_buffers):
        buffer.discard()
