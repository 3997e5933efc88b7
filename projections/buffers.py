"""Buffers: the columns of a projection while it grows, without an object for each cell.

============  ==================================================  ===========================
kind          cells                                               dtype of the column
============  ==================================================  ===========================
``id``        int                                                 ``int64``
``integer``   int of 64 bits, or None                             ``Int64``
``time``      ns since 1970 UTC, or None                          ``datetime64[ns, UTC]``
``flag``      bool                                                ``bool``
``text``      str, or None                                        ``string``
``status``    ``ledger.Status``, or None                          category over all of them
``value``     what can be recorded, or MISSING                    see ``projections.value_column``
============  ==================================================  ===========================
"""

from __future__ import annotations

import contextlib
import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from ledger.state import Status
from projections.columns import MISSING, NOT_A_TIME, STATUS_CODES, STATUSES, own_value, time_array
from projections.pieces import PackedArray
from projections.texts import Texts

_FIRST_CAPACITY = 64
_STATUSES = list(Status)
_MOST_UNPACKED = 2  # times, for a table each; a column that is shown again is worth its memory


class Buffer(ABC):
    """One column that grows: ``extend`` adds cells at the end, ``write`` replaces those of rows. One thread at a time."""

    kind: ClassVar[str]
    dtypes: ClassVar[tuple[str, ...]]  # of the arrays that the cells lie in
    empty: ClassVar[tuple[int, ...]]  # what a cell that was never written has in each

    def __init__(self) -> None:
        self.length = 0
        self.is_blank = True  # nothing was ever written: then no memory is taken for the cells
        self._arrays = self._blank(0)

    def _blank(self, length: int) -> list[Any]:
        pairs = zip(self.empty, self.dtypes, strict=True)
        return [np.broadcast_to(np.asarray(empty, dtype), length) for empty, dtype in pairs]

    @abstractmethod
    def encode(self, cells: Any) -> list[Any]:
        """Return cells as what ``put`` takes: for each of ``dtypes`` an array, or one value for all cells."""

    @abstractmethod
    def values(self, rows: Any) -> list[Any]:
        """Return the cells of rows, given as an array of their numbers."""

    @abstractmethod
    def array(self) -> Any:
        """Return the column as pandas takes it: memory of its own, which nothing that is written later changes."""

    def is_missing(self) -> Any:
        """Return for each cell whether there is nothing in it, as an array."""
        return self._cells() == self.empty[0]

    def extend(self, cells: Sequence[Any]) -> None:
        """Add cells at the end."""
        first = self.length
        self.resize(first + len(cells))
        self.put(slice(first, self.length), self.encode(cells))

    def write(self, rows: Any, cells: Sequence[Any]) -> None:
        """Replace the cells of rows, given as an array of their numbers."""
        self.put(rows, self.encode(cells))

    def write_parts(self, rows: Any, parts: Sequence[tuple[Any, Any]]) -> None:
        """Replace cells of rows that come in parts: which of ``rows`` each has cells for, as an array, and the cells.

        One cell stands for all of its part. What is written to a row several times is what comes last in ``rows``.
        """
        if len(parts) == 1:
            ((which, cells),) = parts
            self.put(rows[which], self.encode(cells))
            return
        arrays = [np.empty(len(rows), dtype) for dtype in self.dtypes]
        is_written = np.zeros(len(rows), np.bool_)
        for which, cells in parts:
            is_written[which] = True
            for array, new in zip(arrays, self.encode(cells), strict=True):
                array[which] = new
        (written,) = is_written.nonzero()
        self.put(rows[written], [array[written] for array in arrays])

    def put(self, rows: Any, arrays: Sequence[Any]) -> None:
        """Replace the cells of rows by what ``encode`` gave; rows are an array of their numbers, or a slice."""
        if self.is_blank:
            self._arrays, self.is_blank = [array.copy() for array in self._arrays], False
        for number, new in enumerate(arrays):
            self._unpacked(number)[rows] = new

    def resize(self, length: int) -> None:
        """Have so many cells, no fewer than before; new ones are empty."""
        if length > len(self._arrays[0]):
            self._grow(max(_FIRST_CAPACITY, length + length // 8))
        self.length = length

    def _grow(self, capacity: int) -> None:
        if self.is_blank:
            self._arrays = self._blank(capacity)
            return
        for number, empty in enumerate(self.empty):
            before = len(self._unpacked(number))
            try:
                self._arrays[number].resize(capacity)  # the system moves pages without copying, and has fewer to clear
            except ValueError:  # somebody looks at it, or it is part of another
                made = np.empty(capacity, self.dtypes[number])
                made[:before] = self._arrays[number]
                self._arrays[number] = made
            self._arrays[number][before:] = empty  # at once: to fill a few rows each time costs more than the filling

    def arrays(self) -> list[Any]:
        """Return the arrays that the cells lie in now; for who only looks at them, before anything else is written."""
        return [self._cells(number) for number in range(len(self._arrays))]

    def _cells(self, number: int = 0) -> Any:
        return self._unpacked(number)[: self.length]

    def _unpacked(self, number: int) -> Any:
        kept = self._arrays[number]
        if isinstance(kept, PackedArray):
            kept = self._arrays[number] = kept.unpack()
        return kept

    def _copied(self, number: int = 0) -> Any:
        """Return an array of cells in memory of its own; what is packed stays so, for it may never be asked for again."""
        kept = self._arrays[number]
        if isinstance(kept, PackedArray) and kept.unpacked < _MOST_UNPACKED:
            return kept.unpack()
        return self._cells(number).copy()

    def extras(self) -> list[Any]:
        """Return what a checkpoint keeps beside the arrays: values that can be recorded."""
        return []

    @classmethod
    def restore(cls, arrays: Sequence[Any], extras: list[Any]) -> Self:
        """Make the buffer again of what ``arrays`` and ``extras`` gave, or of packed ones; they are its own from then on."""
        made = cls()
        made._arrays, made.is_blank = list(arrays), False
        made.length = len(arrays[0])
        made._take_extras(extras)
        return made

    @classmethod
    def blank(cls, length: int) -> Self:
        """Make a buffer of so many empty cells."""
        made = cls()
        made.resize(length)
        return made

    def _take_extras(self, extras: list[Any]) -> None:
        assert not extras  # a buffer that has some takes them

    def take(self, rows: Any) -> Self:
        """Return another buffer with the cells of some rows: an array of numbers or of yes and no, or a slice."""
        is_view = isinstance(rows, slice)  # any other choice makes arrays of its own
        return self.restore([array[rows].copy() if is_view else array[rows] for array in self.arrays()], self.extras())


class IdBuffer(Buffer):
    """Whole numbers that are never missing."""

    kind, dtypes, empty = "id", ("int64",), (0,)

    def encode(self, cells: Any) -> list[Any]:
        return [np.asarray(cells, self.dtypes[0])]

    def values(self, rows: Any) -> list[Any]:
        return self.arrays()[0][rows].tolist()  # type: ignore[no-any-return]

    def array(self) -> Any:
        return self._copied()


class FlagBuffer(IdBuffer):
    """Yes or no."""

    kind, dtypes = "flag", ("bool",)


class IntegerBuffer(Buffer):
    """Whole numbers of 64 bits; the smallest of them stands for a missing one."""

    kind, dtypes, empty = "integer", ("int64",), (NOT_A_TIME,)

    def encode(self, cells: Any) -> list[Any]:
        try:
            return [np.array(cells, np.int64)]
        except TypeError:  # some are missing
            return [np.array([NOT_A_TIME if cell is None else cell for cell in cells], np.int64)]

    def values(self, rows: Any) -> list[Any]:
        return [None if cell == NOT_A_TIME else cell for cell in self.arrays()[0][rows].tolist()]

    def array(self) -> Any:
        data = self._copied()
        return pd.arrays.IntegerArray(data, data == NOT_A_TIME)


class TimeBuffer(IntegerBuffer):
    """Times; NaT stands for one that is missing, and for one that the dtype cannot hold."""

    kind = "time"

    def encode(self, cells: Any) -> list[Any]:
        try:
            return super().encode(cells)
        except OverflowError:
            return super().encode([cell if cell is None or -(2**63) < cell < 2**63 else None for cell in cells])

    def array(self) -> Any:
        return time_array(self._copied())


class StatusBuffer(Buffer):
    """Statuses of trials."""

    kind, dtypes, empty = "status", ("int8",), (-1,)

    def encode(self, cells: Any) -> list[Any]:
        return [np.fromiter((-1 if cell is None else STATUS_CODES[cell] for cell in cells), np.int8, len(cells))]

    def values(self, rows: Any) -> list[Any]:
        return [None if code < 0 else _STATUSES[code] for code in self.arrays()[0][rows].tolist()]

    def array(self) -> Any:
        return pd.Categorical.from_codes(self._copied(), dtype=STATUSES, validate=False)  # they are STATUS_CODES


class TextBuffer(Buffer):
    """Texts."""

    kind, dtypes, empty = "text", ("int32",), (-1,)

    def __init__(self) -> None:
        super().__init__()
        self._texts = Texts()

    def encode(self, cells: Any) -> list[Any]:
        if None not in cells:
            return [self._texts.codes(cells)]
        present = [cell for cell in cells if cell is not None]
        if not present:
            return [-1]
        codes = self._texts.codes(present)
        every = np.full(len(cells), -1, np.int32)
        every[np.fromiter((cell is not None for cell in cells), np.bool_, len(cells))] = codes
        return [every]

    def values(self, rows: Any) -> list[Any]:
        return self._texts.take(self.arrays()[0][rows]).tolist()  # type: ignore[no-any-return]

    def array(self) -> Any:
        return self._texts.array(self._cells())

    def extras(self) -> list[Any]:
        return self._texts.list

    def _take_extras(self, extras: list[Any]) -> None:
        self._texts = Texts(extras)


_ABSENT, _NONE, _INT, _FLOAT, _BOOL, _STR, _OTHER = range(7)
_PRESENT = frozenset(range(_INT, _OTHER + 1))
_TAGS = {type(MISSING): _ABSENT, type(None): _NONE, int: _INT, float: _FLOAT, bool: _BOOL, str: _STR}
_LARGEST_EXACT = 2**53
_NAN = int(np.array(np.nan).view(np.int64))


class ValueBuffer(Buffer):
    """Recorded values of any type, none of which is lost: a tag says what a cell is, and 8 bytes hold or find it.

    Where there is nothing the 8 bytes are those of NaN, so that a column of floats is as pandas takes it. Lists and dicts are
    the buffer's own: it keeps copies, and gives copies.
    """

    kind, dtypes, empty = "value", ("uint8", "int64"), (_ABSENT, _NAN)

    def __init__(self) -> None:
        super().__init__()
        self._texts = Texts()
        self._others: list[Any] = []

    def encode(self, cells: Any) -> list[Any]:
        kinds = set(map(type, cells))
        if len(kinds) == 1:
            (kind,) = kinds
            if kind is float:  # `struct` takes half of the time of `np.fromiter`
                return [_FLOAT, np.frombuffer(struct.pack(f"{len(cells)}d", *cells), np.int64)]
            if kind is str:
                return [_STR, self._texts.codes(cells)]
            if kind is bool or kind is int:
                with contextlib.suppress(struct.error):  # beyond 64 bits
                    return [_TAGS[kind], np.frombuffer(struct.pack(f"{len(cells)}q", *cells), np.int64)]
            if kind is type(MISSING):
                return [_ABSENT, _NAN]
        tags = np.fromiter((_TAGS.get(type(cell), _OTHER) for cell in cells), np.uint8, len(cells))
        bits = np.full(len(cells), _NAN)
        objects = np.fromiter(cells, object, len(cells))
        bits.view(np.float64)[tags == _FLOAT] = objects[tags == _FLOAT].astype(np.float64)
        bits[tags == _BOOL] = objects[tags == _BOOL].astype(np.bool_)
        bits[tags == _STR] = self._texts.codes(objects[tags == _STR].tolist())
        ints = objects[tags == _INT]
        try:
            bits[tags == _INT] = ints.astype(np.int64)
        except OverflowError:
            tags[tags == _INT] = np.where([-(2**63) <= cell < 2**63 for cell in ints], _INT, _OTHER)
            bits[tags == _INT] = objects[tags == _INT].astype(np.int64)
        others = objects[tags == _OTHER]
        bits[tags == _OTHER] = np.arange(len(others)) + len(self._others)
        self._others += map(own_value, others)
        return [tags, bits]

    def array(self) -> Any:
        tags = self._cells()
        lowest, highest = (int(tags.min()), int(tags.max())) if len(tags) else (_ABSENT, _ABSENT)
        kinds = {tag for tag in range(max(lowest, _INT), highest) if (tags == tag).any()} | ({highest} & _PRESENT)
        if kinds == {_INT}:
            return pd.arrays.IntegerArray(self._copied(1), tags != _INT)
        if kinds == {_FLOAT}:
            return self._copied(1).view(np.float64)
        bits = self._cells(1)
        if kinds == {_INT, _FLOAT} and _are_exact(bits[tags == _INT]):
            floats = bits.view(np.float64).copy()
            floats[tags == _INT] = bits[tags == _INT]
            return floats
        if kinds == {_BOOL}:
            return pd.arrays.BooleanArray(bits.astype(np.bool_), tags != _BOOL)
        if kinds == {_STR}:
            return self._texts.array(np.where(tags == _STR, bits, -1))
        return self._objects(tags, bits)

    def _objects(self, tags: Any, bits: Any) -> Any:
        made = np.empty(len(tags), object)
        for tag in range(_INT, _OTHER + 1):
            chosen = tags == tag
            if tag == _FLOAT:
                made[chosen] = bits.view(np.float64)[chosen].tolist()
            elif tag == _STR:
                made[chosen] = self._texts.take(bits[chosen])
            elif tag == _BOOL:
                made[chosen] = bits[chosen].astype(np.bool_).tolist()
            elif tag == _INT:
                made[chosen] = bits[chosen].tolist()
        for row in np.flatnonzero(tags == _OTHER):  # one by one: numpy would take lists of equal length for a dimension
            made[row] = own_value(self._others[bits[row]])
        return made

    def has_values(self) -> bool:
        """Say whether there is anything in any cell."""
        return bool(self._cells().any())  # ABSENT is 0

    def is_none(self) -> bool:
        """Say whether no cell has anything but None."""
        return not (self._cells() > _NONE).any()

    def clear(self, rows: Any) -> None:
        """Have nothing in the cells of rows."""
        self.put(rows, [_ABSENT, _NAN])

    def values(self, rows: Any) -> list[Any]:
        tags, bits = (array[rows] for array in self.arrays())
        made = self._objects(tags, bits).tolist()
        return [MISSING if tag == _ABSENT else value for tag, value in zip(tags.tolist(), made, strict=True)]

    def extras(self) -> list[Any]:
        return [self._texts.list, list(self._others)]

    def _take_extras(self, extras: list[Any]) -> None:
        texts, self._others = extras
        self._texts = Texts(texts)


def _are_exact(numbers: Any) -> bool:
    """Whether all ints are exact as floats."""
    return bool((np.abs(numbers) <= _LARGEST_EXACT).all()) or all(float(number) == number for number in numbers.tolist())


#: The buffers by the kind of their cells.
BUFFERS: dict[str, type[Buffer]] = {
    cls.kind: cls for cls in (IdBuffer, FlagBuffer, IntegerBuffer, TimeBuffer, StatusBuffer, TextBuffer, ValueBuffer)
}
