"""Export: tables as files for other programs, no value of them lost.

======== ========================== ==============================================================================
format   ends of names              what a file of it says
======== ========================== ==============================================================================
parquet  .parquet                   columns with their types; ``read_table`` gives the same table again
arrow    .arrow .feather            the same, as Arrow's file format (Feather 2), to be mapped into memory
csv      .csv                       texts; types are not told
jsonl    .jsonl .ndjson             one JSON object a row
json     .json                      one JSON array of them
======== ========================== ==============================================================================

A column of one type is a column of that type, and a missing value is null (in CSV an empty cell; an empty text is ``""``
there). A ``float64`` column does not tell NaN from missing; both are null. Columns of objects become:

================================ ========================= ============================== ==================================
values                           in Parquet and Arrow      in JSON lines and JSON         in CSV
================================ ========================= ============================== ==================================
texts                            string                    as they are                    as they are
bytes                            binary                    tagged                         JSON, tagged
lists (tuples) of texts          list of string            an array; a tuple of a config  JSON
                                                           or result is tagged
ints beyond 64 bits, UUIDs,      string, the text of each  tagged                         the text of each
Decimals
everything else, several kinds   string, JSON of each,     JSON, tagged where JSON        JSON, tagged; a text is in
                                 tagged                    cannot say it                  quotation marks of JSON
================================ ========================= ============================== ==================================

In CSV and JSON times and durations are texts in ISO 8601; so is a time of a table's own among other values (in a table of
changes). Tagged means as
``ledger.values.to_json`` does, so that ``from_json`` gives the value again: ``{"$float": "nan"}``. In Parquet and Arrow each
field's metadata names which of these it was (``ledger.encoding``).
"""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import msgspec
import pandas as pd

from ledger.errors import InvalidValue
from ledger.partial import partial_file
from projections.columns import TEXT, text_column
from projections.encoding import Encoding, csv_cells, decode_column, encode_column, encoding_of, json_cells

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 16_384
_ENCODING, _DTYPE = b"ledger.encoding", b"ledger.dtype"
_CATEGORIES, _CATEGORIES_DTYPE = b"ledger.categories", b"ledger.categories.dtype"
_json = msgspec.json.Encoder()


class FileFormat(enum.StrEnum):
    """What a table can be written as."""

    PARQUET = "parquet"
    ARROW = "arrow"
    CSV = "csv"
    JSONL = "jsonl"
    JSON = "json"


_ENDS = {
    ".parquet": FileFormat.PARQUET, ".arrow": FileFormat.ARROW, ".feather": FileFormat.ARROW, ".csv": FileFormat.CSV,
    ".jsonl": FileFormat.JSONL, ".ndjson": FileFormat.JSONL, ".json": FileFormat.JSON,
}  # fmt: skip


def format_of(path: str | os.PathLike[str]) -> FileFormat:
    """Return the format that a file's name tells; raises InvalidValue for one that tells none.

    >>> format_of("trials.parquet").value
    'parquet'
    """
    end = Path(path).suffix.lower()
    if end not in _ENDS:
        raise InvalidValue(f"{str(path)!r} does not tell a format: let it end in one of {', '.join(_ENDS)}, or name the format.")
    return _ENDS[end]


def write_table(frame: pd.DataFrame, path: str | os.PathLike[str], *, file_format: FileFormat | str | None = None) -> Path:
    """Write a table to a file, which appears, or takes the place of another, when it is whole.

    ``file_format`` is told by the name's end if left out. A named index comes first, as columns. Parquet and Arrow need the extra
    ``parquet``. Raises InvalidValue for a format or column that cannot be, OSError when the file cannot be written.

    >>> import ledger, projections, tempfile, os
    >>> book = ledger.open("memory:")
    >>> book.experiment("demo").new_trial({"lr": 0.1}).complete({"loss": 0.5})
    >>> trials = projections.Tables(book).trials("demo")[["trial_id", "config.lr"]]
    >>> with tempfile.TemporaryDirectory() as place:
    ...     write_table(trials, os.path.join(place, "trials.csv")).read_text()
    'trial_id,config.lr\\n1,0.1\\n'
    """
    form = format_of(path) if file_format is None else _format_named(file_format)
    with partial_file(path) as file:
        write_to(frame, file, form)
    return Path(path)


def write_to(frame: pd.DataFrame, file: BinaryIO, file_format: FileFormat | str) -> None:
    """Write a table to an open binary file; as ``write_table``.

    >>> import io
    >>> file = io.BytesIO()
    >>> write_to(pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": ["x", ""]}), file, "csv")
    >>> file.getvalue()
    b'a,b\\n1,x\\n,""\\n'
    """
    form = _format_named(file_format)
    frame = flat(frame)
    try:
        if form in (FileFormat.PARQUET, FileFormat.ARROW):
            _write_arrow(to_arrow(frame), file, form)
        else:
            is_array = form is FileFormat.JSON
            file.writelines(csv_pieces(frame) if form is FileFormat.CSV else json_pieces(frame, is_array=is_array))
    except InvalidValue as error:
        names = [name for name in frame.columns if not _can_be_written(frame[name])]
        if not names:
            raise
        raise InvalidValue(
            f"not every value of the column {names[0]!r} can be written: {str(error).partition('. ')[0]}. "
            f"Leave out what is no value: frame.drop(columns={names!r})."
        ) from error


def _can_be_written(series: pd.Series[Any]) -> bool:
    try:
        encode_column(series, encoding_of(series))
    except InvalidValue:
        return False
    return True


def read_table(path: str | os.PathLike[str], *, file_format: FileFormat | str | None = None) -> pd.DataFrame:
    """Read a table that ``write_table`` wrote as Parquet or Arrow: the same values of the same types.

    Raises InvalidValue for the other formats, which do not tell types: pandas.read_csv and read_json read them.
    """
    form = format_of(path) if file_format is None else _format_named(file_format)
    _need_pyarrow()
    if form is FileFormat.PARQUET:
        import pyarrow.parquet as pq

        with open(path, "rb") as file:
            return from_arrow(pq.read_table(file))
    if form is FileFormat.ARROW:
        import pyarrow as pa

        with open(path, "rb") as file, pa.ipc.open_file(file) as reader:
            return from_arrow(reader.read_all())
    raise InvalidValue(f"a file of {form} does not tell the types of its columns; read it with pandas (read_csv, read_json).")


def _format_named(name: FileFormat | str) -> FileFormat:
    try:
        return FileFormat(name)
    except ValueError:
        raise InvalidValue(f"{name!r} is no format of a file; use one of {', '.join(FileFormat)}.") from None


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table with a named index as columns, and every column named by one text, no two by the same.

    >>> flat(pd.DataFrame({("loss", "min"): [1]}, index=pd.Index([7], name="trial_id"))).columns.tolist()
    ['trial_id', 'loss.min']
    """
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index(allow_duplicates=True)  # a metric may be called as the index is
    names = [".".join(map(str, label)) if isinstance(label, tuple) else str(label) for label in frame.columns]
    names = [name.rstrip(".") if isinstance(label, tuple) else name for name, label in zip(names, frame.columns, strict=True)]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise InvalidValue(f"two columns are called {twice[0]!r}; rename one (frame.rename(columns=...)).")
    return frame.set_axis(names, axis="columns")


# ------------------------------------------------------------------------------------------------ Arrow and Parquet


def _need_pyarrow() -> None:
    import importlib.util

    if importlib.util.find_spec("pyarrow") is None:
        raise InvalidValue(
            "Parquet and Arrow need pyarrow: pip install 'experiment-ledger[parquet]'. Or write CSV or JSON lines."
        )


def to_arrow(frame: pd.DataFrame) -> pa.Table:
    """Return a table as Arrow's, as it would be in a file; ``from_arrow`` makes it again.

    >>> to_arrow(pd.DataFrame({"mixed": [1, "a", None]})).column("mixed").to_pylist()
    ['1', '"a"', None]
    """
    _need_pyarrow()
    import pyarrow as pa

    frame = flat(frame)
    fields, arrays = [], []
    for place, name in enumerate(frame.columns):
        series = frame.iloc[:, place]
        encoding = encoding_of(series)
        metadata = {_DTYPE: str(series.dtype).encode(), _ENCODING: encoding.value.encode()}
        if isinstance(series.dtype, pd.CategoricalDtype):
            metadata[_CATEGORIES] = _json.encode([str(each) for each in series.cat.categories])
            metadata[_CATEGORIES_DTYPE] = str(series.cat.categories.dtype).encode()
        array = pa.array(encode_column(series, encoding), type=_arrow_type(encoding), from_pandas=True)
        arrays.append(array)
        fields.append(pa.field(name, array.type, metadata=metadata))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _arrow_type(encoding: Encoding) -> Any:
    import pyarrow as pa

    types: dict[Encoding, Any] = {
        Encoding.PLAIN: None, Encoding.BYTES: pa.binary(), Encoding.LISTS: pa.list_(pa.string()),
        Encoding.TUPLES: pa.list_(pa.string()),
    }  # fmt: skip
    return types.get(encoding, pa.string())


def from_arrow(table: pa.Table) -> pd.DataFrame:
    """Return the table that ``to_arrow`` was given; columns from elsewhere as pandas has them."""
    columns = []
    for field in table.schema:
        column, metadata = table.column(field.name), field.metadata or {}
        encoding = Encoding(metadata.get(_ENCODING, b"plain").decode())
        if encoding is not Encoding.PLAIN:
            columns.append(decode_column(column.to_pylist(), encoding))
        else:
            columns.append(_typed(column, metadata))
    return pd.concat(columns, axis="columns", keys=table.column_names) if columns else pd.DataFrame(index=range(table.num_rows))


def _typed(column: Any, metadata: dict[bytes, bytes]) -> pd.Series[Any]:
    dtype = metadata.get(_DTYPE, b"").decode()
    if dtype == "category":
        known = msgspec.json.decode(metadata.get(_CATEGORIES, b"[]"))
        kind = metadata.get(_CATEGORIES_DTYPE, b"string").decode()
        categories = pd.Index(known, dtype=cast("Any", TEXT if kind == "string" else kind))
        return pd.Series(pd.Categorical(column.to_pylist(), categories=categories))
    if dtype == "string":
        return text_column(column.to_pylist())
    if dtype.startswith(("Int", "UInt", "boolean", "Float", "str")):
        return pd.Series(pd.array(column.to_pylist(), dtype=dtype))  # by way of floats, large ints would be rounded
    series: pd.Series[Any] = column.to_pandas()
    return series.astype(cast("Any", dtype)) if dtype and dtype != str(series.dtype) else series


def _write_arrow(table: pa.Table, file: BinaryIO, form: FileFormat) -> None:
    if form is FileFormat.PARQUET:
        import pyarrow.parquet as pq

        pq.write_table(table, file, compression="zstd", version="2.6")
        return
    import pyarrow as pa

    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


# --------------------------------------------------------------------------------------------------------- CSV, JSON

#: A text that would be read as something else, or as nothing, without quotation marks.
_QUOTED = re.compile(
    r"|.*[,\"\r\n].*|\s.*|.*\s|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?i:inf|infinity|nan|true|false)", re.DOTALL
)


def csv_pieces(frame: pd.DataFrame) -> Iterator[bytes]:
    """Yield a table as CSV, in pieces.

    >>> b"".join(csv_pieces(pd.DataFrame({"a": pd.array(["x", "", None, "1"], dtype="string")})))
    b'a\\nx\\n""\\n\\n"1"\\n'
    """
    yield (",".join(map(_csv_text, frame.columns)) + "\n").encode()
    for rows in _rows_of(frame, csv_cells):
        yield "".join(",".join(map(_csv_cell, row)) + "\n" for row in rows).encode()


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return _csv_text(value)
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _csv_text(text: str) -> str:
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if _QUOTED.fullmatch(text) else text


def json_pieces(frame: pd.DataFrame, *, is_array: bool) -> Iterator[bytes]:
    """Yield a table as JSON, in pieces: a line for each row, or one array of them.

    >>> b"".join(json_pieces(pd.DataFrame({"a": [1.5, None]}), is_array=False))
    b'{"a":1.5}\\n{"a":null}\\n'
    """
    names = list(frame.columns)
    separator = b"[\n"
    for rows in _rows_of(frame, json_cells):
        for row in rows:
            line = _json.encode(dict(zip(names, row, strict=True)))
            yield separator + line if is_array else line + b"\n"
            separator = b",\n"
    if is_array:
        yield b"[]\n" if separator == b"[\n" else b"\n]\n"


def _rows_of(frame: pd.DataFrame, cells: Callable[[pd.Series[Any]], Callable[[Any], Any]]) -> Iterator[Iterable[tuple[Any, ...]]]:
    """Yield rows of cells, some thousands at a time."""
    series = [frame.iloc[:, place] for place in range(frame.shape[1])]
    said = [cells(each) for each in series]
    for start in range(0, len(frame), _ROWS):
        parts = [each.iloc[start : start + _ROWS].astype(object).tolist() for each in series]
        yield zip(*[map(cell, part) for cell, part in zip(said, parts, strict=True)], strict=True)
