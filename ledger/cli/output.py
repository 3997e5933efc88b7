"""How results leave: tables for people, JSON, JSON lines and CSV for programs.

JSON is UTF-8 whatever the locale; keys are the field names; a value that JSON cannot say is tagged as in
``ledger.values.to_json``; a missing one (None, NaN in a table, no time) is null; times are ISO 8601 in UTC.
"""

from __future__ import annotations

import csv
import datetime as dt
import enum
import io
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ledger.records import Record, iso_nanoseconds
from ledger.transfer.jsonlines import RECORD_KEYS as RECORD_KEYS
from ledger.transfer.jsonlines import record_json as record_json
from ledger.transfer.plain import plain as plain
from ledger.values import to_json

if TYPE_CHECKING:
    from rich.console import Console

_encode = msgspec.json.Encoder().encode
_CELL_WIDTH = 48
_MOST_BITS = 10_000  # of an int whose decimal digits Python writes
_GAP = 2
_NO_TERMINAL_WIDTH = 100_000  # what is piped is never cut

STATUS_STYLES = {
    "PENDING": "dim", "READY": "cyan", "RUNNING": "cyan", "SUCCEEDED": "green", "FAILED": "red", "PRUNED": "yellow",
    "CANCELED": "yellow", "TIMED_OUT": "red", "LOST": "magenta", "ABANDONED": "yellow",
}  # fmt: skip


class Format(enum.StrEnum):
    """How a command prints many rows."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


class LineFormat(enum.StrEnum):
    """How a command prints rows as they come."""

    TABLE = "table"
    JSONL = "jsonl"


class ObjectFormat(enum.StrEnum):
    """How a command prints one thing."""

    TABLE = "table"
    JSON = "json"


# ----------------------------------------------------------------------------------------------------- for programs


def print_json_line(value: Any) -> None:
    """Print one value as a line of JSON."""
    write_bytes(_encode(value) + b"\n")


def write_bytes(data: bytes) -> None:
    """Write to standard output past its text layer, whose encoding depends on the locale."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)


def json_line(value: Any) -> bytes:
    """Return one value as a line of JSON."""
    return _encode(value) + b"\n"


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], form: Format) -> None:
    """Print rows in one of the forms; values are as a table or an event holds them."""
    if form is Format.TABLE:
        print_table(columns, list(rows))
    elif form is Format.CSV:
        _print_csv(columns, rows)
    else:
        _print_objects((dict(zip(columns, map(json_cell, row), strict=True)) for row in rows), form)


def print_records(records: Iterable[Record], form: Format) -> None:
    """Print records for programs: JSON, JSON lines, or CSV with the event as JSON text."""
    if form is Format.CSV:
        rows = (record_json(record) for record in records)
        _print_csv(RECORD_KEYS, (list(row.values()) for row in rows))
    else:
        _print_objects((record_json(record) for record in records), form)


def _print_objects(objects: Iterable[Mapping[str, Any]], form: Format) -> None:
    if form is Format.JSONL:
        for item in objects:
            print_json_line(item)
        return
    separator = b"[\n"
    for item in objects:
        write_bytes(separator + _encode(item))
        separator = b",\n"
    write_bytes(b"[]\n" if separator == b"[\n" else b"\n]\n")


def _print_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_csv_cell(json_cell(value)) for value in row])
        write_bytes(text.getvalue().encode(errors="backslashreplace"))
        text.seek(0)
        text.truncate()
    write_bytes(text.getvalue().encode(errors="backslashreplace"))


def _csv_cell(value: Any) -> Any:
    if isinstance(value, bool | dict | list):
        return _encode(value).decode()
    return value


def json_cell(value: Any) -> Any:
    """Return a table's value for JSON: null for a missing one, ISO 8601 for a time of a column.

    >>> json_cell(float("nan")), json_cell((1, 2))
    (None, {'$tuple': [1, 2]})
    """
    kind = type(value)
    if kind is float and value != value:
        return None
    if kind.__module__ == "numpy" and hasattr(value, "item"):
        return json_cell(value.item())
    if kind.__name__ in ("NaTType", "NAType"):
        return None
    if kind.__name__ == "Timestamp":
        return iso_nanoseconds(value.as_unit("ns").value)
    return to_json(plain(value))


# ------------------------------------------------------------------------------------------------------- for people


def printable(text: str) -> str:
    r"""Return the text as one line that a terminal shows as it is: no control characters, no lone surrogates.

    >>> printable("a\x1b[31mb\nc")
    'a\\x1b[31mb c'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c in "\n\r\t" else c.encode("unicode_escape").decode() for c in text)


def shown(value: Any) -> str:
    """Return a value as people read it in a table.

    >>> shown(5.23456789), shown(None), shown([1, "a"]), shown(True)
    ('5.235', '', '[1,"a"]', 'true')
    >>> shown(("fast", "baseline")), shown(dt.timedelta(minutes=90))
    ('fast, baseline', '1:30:00')
    >>> shown(float("-inf")), shown(2**70)
    ('-inf', '1180591620717411303424')
    """
    if isinstance(value, dt.datetime) and type(value).__name__ == "Timestamp":
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, dt.timedelta):
        return str(dt.timedelta(0, value.total_seconds()))  # as Python says it, also of pandas' own
    if isinstance(value, list | tuple) and value and all(type(item) is str for item in value):
        return printable(", ".join(value))
    if not _is_plain_number(value):
        value = json_cell(value)
    if value is None or value == []:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}" if abs(value) < 1e15 else repr(value)
    if isinstance(value, str):
        return printable(value)
    return printable(_encode(value).decode()) if isinstance(value, dict | list) else str(value)


def _is_plain_number(value: Any) -> bool:
    """Say whether a value is a number that people read as it is: also one for which JSON has no word."""
    return (type(value) is float and value == value) or (type(value) is int and value.bit_length() < _MOST_BITS)


def yes_or_no(is_so: bool) -> str:
    """Return a flag of the ledger's own as a word, where ``shown`` gives the bool that somebody recorded.

    >>> yes_or_no(True), yes_or_no(False)
    ('yes', 'no')
    """
    return "yes" if is_so else "no"


def shown_time(nanoseconds: int | None) -> str:
    """Return a time for people, in UTC to the millisecond.

    >>> shown_time(1_500_000_000_123_456_789)
    '2017-07-14 02:40:00.123Z'
    """
    if nanoseconds is None:
        return ""
    return iso_nanoseconds(nanoseconds)[:23].replace("T", " ") + "Z"


def console() -> Console:
    """Return the console of standard output, which leaves texts as they are."""
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            """Leave it to the one place that knows how to end quietly (rich would exit with 1)."""
            raise BrokenPipeError

    made = Plain(file=sys.stdout, markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        made.width = _NO_TERMINAL_WIDTH
    return made


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str = "", whole: str = "--format csv") -> None:
    """Print a table for people; on a terminal too narrow for it the last columns are left out, and named below it.

    ``whole`` is the option that shows them.
    """
    from rich.table import Table
    from rich.text import Text

    out = console()
    cells = [[_cut(shown(value)) if out.is_terminal else shown(value) for value in row] for row in rows]
    count = _fitting(columns, cells, out.width)
    table = Table(
        box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold", title=title or None, title_justify="left"
    )
    for index, name in enumerate(columns[:count]):
        numbers = all(
            isinstance(row[index], int | float) or _is_number(cell[index]) for row, cell in zip(rows, cells, strict=True)
        )
        table.add_column(Text(_header(name)), no_wrap=True, justify="right" if numbers and rows else "left")
    for row in cells:
        table.add_row(*(Text(cell, style=STATUS_STYLES.get(cell, "")) for cell in row[:count]))
    print_lines(out, table)
    if count < len(columns):
        hidden = ", ".join(columns[count:])
        out.print(Text(f"not shown here: {hidden} ({whole} has all)", style="dim"), soft_wrap=True)


def print_lines(out: Console, renderable: Any) -> None:
    """Print without the spaces that would fill up the lines."""
    from rich.segment import Segment, Segments

    for line in out.render_lines(renderable, out.options.update(width=out.width), pad=False):
        while line and not line[-1].text.strip():
            line.pop()
        if line:
            line[-1] = Segment(line[-1].text.rstrip(), line[-1].style)
        out.print(Segments([*line, Segment.line()]), soft_wrap=True, end="")


def _is_number(cell: str) -> bool:
    return not cell or cell.replace(",", "").replace(".", "", 1).isdigit()


def _header(name: str) -> str:
    """Break ``result.latency_ms`` after the dot: the longest part makes a column no wider than it must be."""
    return name.replace(".", ".\n", 1)


def _cut(text: str) -> str:
    return text if len(text) <= _CELL_WIDTH else text[: _CELL_WIDTH - 1] + "…"


def _fitting(columns: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> int:
    from rich.cells import cell_len

    total = 0
    for index, name in enumerate(columns):
        total += max([*map(cell_len, _header(name).split("\n")), *(cell_len(row[index]) for row in cells)]) + (
            _GAP if index else 0
        )
        if total > width:
            return max(index, 1)
    return len(columns)


def print_fields(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print one thing for people: a name and a value to a line, values below each other; empty ones are left out."""
    from rich.text import Text

    out = console()
    kept = [(name, text) for name, value in pairs if (text := value if isinstance(value, Text) else Text(shown(value)))]
    width = max((len(name) for name, _ in kept), default=0)
    for name, text in kept:
        if not text.style:
            text.stylize(STATUS_STYLES.get(text.plain, ""))
        out.print(Text(name.ljust(width + 2), style="bold") + text, soft_wrap=True)


def flattened(prefix: str, values: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the items of a dict with the prefix before their names, in their order."""
    for key, value in values.items():
        yield f"{prefix}.{printable(str(key))}", value
