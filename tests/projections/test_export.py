"""Tables as files: no value is lost, and nothing is half-written."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ledger
from ledger.errors import InvalidValue
from ledger.values import encode_value, from_json
from projections import Reader, Tables
from projections.columns import TEXT, object_column
from projections.detail_tables import KEYS
from projections.export import FileFormat, format_of, from_arrow, read_table, to_arrow, write_table, write_to
from projections.value_column import value_column

scalars = (
    st.none() | st.booleans() | st.integers() | st.integers(-(2**80), 2**80) | st.floats() | st.text() | st.binary()
    | st.decimals(allow_nan=False) | st.uuids() | st.datetimes(timezones=st.timezones())
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=6,
)
texts = st.lists(st.text(), max_size=3)
columns = st.one_of(
    st.lists(values, min_size=1),
    *[st.lists(st.none() | kind, min_size=1) for kind in (st.integers(), st.floats(), st.text(), st.booleans(), st.binary())],
    *[st.lists(st.none() | kind, min_size=1) for kind in (texts, texts.map(tuple), st.uuids(), st.integers(2**64, 2**70))],
)


def exact(series: pd.Series[Any]) -> list[bytes]:
    """Return the column's values as bytes: equal ones are equal in type, and NaN is NaN."""
    if series.dtype == np.float64:
        return [encode_value(math.nan if value != value else float(value)) for value in series]
    return [encode_value(None if value is pd.NA else value.item() if hasattr(value, "item") else value) for value in series]


@given(columns)
@settings(max_examples=200, deadline=None)
@pytest.mark.parametrize("form", [FileFormat.PARQUET, FileFormat.ARROW])
def test_a_column_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, form: FileFormat, column: list[Any]) -> None:
    """Whatever values a config or result holds: their types, NaN in a mixed column, and the column's dtype."""
    frame = pd.DataFrame({"config.x": value_column(column)})
    path = tmp_path_factory.mktemp("export") / f"table.{form}"
    write_table(frame, path)
    back = read_table(path)
    assert list(back.dtypes) == list(frame.dtypes)
    assert exact(back["config.x"]) == exact(frame["config.x"])


@given(columns)
@settings(max_examples=200, deadline=None)
def test_json_lines_say_every_value(column: list[Any]) -> None:
    """Tagged where JSON has no word; ``from_json`` gives it again."""
    frame = pd.DataFrame({"config.x": value_column(column)})
    file = io.BytesIO()
    write_to(frame, file, "jsonl")
    lines = file.getvalue().decode().split("\n")[:-1]
    found = [from_json(json.loads(line))["config.x"] for line in lines]
    if frame["config.x"].dtype == np.float64:  # which does not tell NaN from missing
        found = [math.nan if value is None else float(value) for value in found]
    assert [encode_value(value) for value in found] == exact(frame["config.x"])


def book_of_everything() -> ledger.Ledger:
    """Return a ledger with a trial of every kind of value."""
    book = ledger.open("memory:")
    exp = book.experiment("größe 🚀", objectives={"loss": "min"})
    exp.new_trial({'🚀 key.with "quotes"': 1, "mixed": 1, "nan": math.nan, "tuple": (1, 2), "a,b\n": "x"}).complete({"loss": 0.5})
    exp.new_trial({"mixed": "1", "nan": None, "tuple": [1, 2], "big": 2**80}).complete({"loss": math.inf})
    exp.new_trial({"mixed": math.nan, "raw": b"\x00", "exact": Decimal("0.10"), "a,b\n": ""}).fail(ValueError("no"))
    exp.new_trial({"mixed": None, "id": UUID(int=7), "layers": ["a", "b"]}).tag("x", "y")
    return book


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_the_tables_come_back_whole(tmp_path: Path, form: str) -> None:
    """Columns of every dtype: categories, times to the nanosecond, nullable ints, texts, objects."""
    with book_of_everything() as book:
        for frame in (Tables(book).trials("größe 🚀"), Tables(book).experiments(), Tables(book).configs("größe 🚀")):
            back = read_table(write_table(frame, tmp_path / f"table.{form}"))
            pd.testing.assert_frame_equal(back, frame)


@pytest.fixture
def rich() -> Iterator[Tables]:
    """Tables that all have rows; as of position 1 none but that of experiments has any."""
    with ledger.open("memory:") as book, Tables(book) as tables:
        exp = book.experiment("demo", objectives={"loss": "min"})
        for _ in range(2):
            trial = exp.new_trial({"lr": 0.1})
            trial.start()
            trial.capture()
            trial.log_many({"loss": [0.5, 0.25]}, steps=[1, 2])
            trial.log_telemetry_many({"cpu": [0.5]})
            trial.log_artifact([1], name="numbers")
            trial.complete({"loss": 0.5, "nan": math.nan})
            trial.amend(results={"loss": 0.25}, reason="read from the wrong line")
        yield tables


def shown(tables: Tables, name: str) -> list[pd.DataFrame]:
    """Return a table now and as of position 1, and what changed in it until then."""
    of = () if name == "experiments" else ("demo",)
    return [
        frame
        for as_of in (None, 1)
        for frame in (getattr(tables, name)(*of, as_of=as_of), tables.changes(name, *of, until=as_of))
    ]


@pytest.mark.parametrize("form", ["parquet", "arrow"])
@pytest.mark.parametrize("name", KEYS)
def test_each_table_comes_back_as_it_was(rich: Tables, tmp_path: Path, name: str, form: str) -> None:
    """With rows and without, and what changed in it, but for times, which are texts among other values."""
    for frame in shown(rich, name):
        if "after" in frame and "change" in frame:
            is_time = frame["after"].map(lambda value: isinstance(value, pd.Timestamp)).astype(bool)
            frame = frame[~is_time].reset_index(drop=True)
        pd.testing.assert_frame_equal(read_table(write_table(frame, tmp_path / f"table.{form}")), frame)


@pytest.mark.parametrize("name", KEYS)
def test_texts_are_of_one_dtype_in_all_tables(rich: Tables, name: str) -> None:
    """Be they cells or categories, in tables with rows and without."""
    for frame in shown(rich, name):
        kinds = {dtype.categories.dtype for dtype in frame.dtypes if isinstance(dtype, pd.CategoricalDtype)}
        kinds |= {dtype for dtype in frame.dtypes if isinstance(dtype, pd.StringDtype)}
        assert kinds <= {TEXT}


def test_other_programs_see_plain_types() -> None:
    """A schema of numbers, times, texts, lists; JSON only where values are mixed."""
    with book_of_everything() as book:
        schema = to_arrow(Tables(book).trials("größe 🚀")).schema
    types = {field.name: str(field.type) for field in schema}
    assert types["trial_id"] == "int64"
    assert types["created_at"] == "timestamp[ns, tz=UTC]"
    assert types["result.loss"] == "double"
    assert types["config.raw"] == "binary"
    assert types["config.layers"] == "list<item: string>" or types["config.layers"].startswith("list<")
    assert (types["config.big"], types["config.mixed"]) == ("string", "string")
    assert schema.field("config.mixed").metadata[b"ledger.encoding"] == b"json"


def test_csv_tells_a_missing_value_from_an_empty_text_and_a_number_from_a_text() -> None:
    """By quotation marks; a column of several kinds is JSON."""
    frame = pd.DataFrame(
        {
            "text": pd.array(["", None, "1", "a,b", "true", " x", "plain"], dtype="string"),
            "number": pd.array([1, None, -3, 4, 5, 6, 2**62], dtype="Int64"),
            "float": [0.1, math.nan, math.inf, 1e300, 5e-324, -0.0, 1.0],
            "config.mixed": object_column([1, "1", None, [1, "a"], True, math.nan, (1,)]),
        }
    )
    file = io.BytesIO()
    write_to(frame, file, "csv")
    assert file.getvalue().decode().split("\n") == [
        "text,number,float,config.mixed",
        '"",1,0.1,"1"',
        ',,,"""1"""',
        '"1",-3,inf,',
        '"a,b",4,1e+300,"[1,""a""]"',
        '"true",5,5e-324,"true"',
        '" x",6,-0.0,"{""$float"":""nan""}"',
        'plain,4611686018427387904,1.0,"{""$tuple"":[1]}"',
        "",
    ]


def test_changes_of_all_kinds_can_be_written(tmp_path: Path) -> None:
    """Times among numbers and texts are their texts."""
    with book_of_everything() as book:
        tables = Tables(book)
        frame = tables.changes("trials", "größe 🚀")
        created = tables.trials("größe 🚀")["created_at"][0]
    for form in FileFormat:
        write_table(frame, tmp_path / f"changes.{form}")
    lines = [json.loads(line) for line in (tmp_path / "changes.jsonl").read_text().splitlines()]
    found = [line["after"] for line in lines if (line["trial_id"], line["column"]) == (1, "created_at")]
    assert [pd.Timestamp(text) for text in found] == [created]


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1))
@settings(max_examples=200, deadline=None)
def test_csv_is_read_by_other_readers(rows: list[tuple[str, str]]) -> None:
    """Texts with commas, quotation marks and ends of lines, in names as in cells."""
    frame = pd.DataFrame(
        {name: pd.array([row[place] for row in rows], dtype="string") for place, name in enumerate(["a", '"b",\n'])}
    )
    file = io.BytesIO()
    write_to(frame, file, "csv")
    read = list(csv.reader(io.StringIO(file.getvalue().decode(), newline="")))
    assert [tuple(row) for row in read] == [("a", '"b",\n'), *rows]


def test_a_json_array_is_one_value() -> None:
    """Also an empty one."""
    file = io.BytesIO()
    write_to(pd.DataFrame({"a": [1, 2]}), file, "json")
    assert json.loads(file.getvalue()) == [{"a": 1}, {"a": 2}]
    file = io.BytesIO()
    write_to(pd.DataFrame({"a": []}), file, "json")
    assert json.loads(file.getvalue()) == []


def test_a_file_that_cannot_be_written_whole_leaves_the_old_one(tmp_path: Path) -> None:
    """Nor a partial one beside it."""
    path = write_table(pd.DataFrame({"a": [1]}), tmp_path / "table.jsonl")
    before = path.read_bytes()
    with pytest.raises(InvalidValue):
        write_table(pd.DataFrame({"config.a": object_column([1, {1, 2}])}), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["table.jsonl"]


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_what_is_no_value_is_refused_with_the_columns_to_leave_out(tmp_path: Path, form: str) -> None:
    """Artifacts in a table of the Reader, say; without those columns it is written."""
    with ledger.open("memory:") as book:
        trial = book.experiment("demo").new_trial({"lr": 0.1})
        trial.log_artifact([1], name="numbers")
        trial.log_artifact("text", name="notes/today.txt")
        with Reader(book) as reader:
            frame = reader.filter("", "pandas")
    names = [name for name in frame if name.startswith("artifact.")]
    said = f"the column {names[0]!r} can be written: an Artifact has no form in JSON. Leave out what is no value: "
    with pytest.raises(InvalidValue, match=re.escape(f"{said}frame.drop(columns={names!r}).")):
        write_table(frame, tmp_path / f"trials.{form}")
    assert write_table(frame.drop(columns=names), tmp_path / f"trials.{form}").exists()


def test_an_index_with_a_name_and_columns_of_two_levels_become_plain() -> None:
    """Two columns of one name are refused: one of them would be lost."""
    frame = pd.DataFrame({("loss", "min"): [1.0], ("loss", ""): [2.0]}, index=pd.Index([7], name="trial_id"))
    assert to_arrow(frame).column_names == ["trial_id", "loss.min", "loss"]
    with pytest.raises(InvalidValue, match="two columns are called 'a'"):
        to_arrow(pd.DataFrame([[1, 2]], columns=["a", "a"]))


def test_a_metric_that_is_called_as_the_index_is_refused_by_name() -> None:
    """Side by side with steps it would be a second column of the name; in long form it can be written."""
    with ledger.open("memory:") as book:
        book.experiment("demo").new_trial({}).log_many({"step": [7]}, steps=[1])
        with pytest.raises(InvalidValue, match="two columns are called 'step'; rename one"):
            to_arrow(Tables(book).metrics("demo", form="pivoted"))
        assert to_arrow(Tables(book).metrics("demo")).num_rows == 1


def test_an_empty_table_keeps_its_columns(tmp_path: Path) -> None:
    """A table without rows, and one without columns."""
    frame = pd.DataFrame({"a": pd.array([], dtype="Int64"), "b": pd.Categorical([], categories=["x", "y"])})
    pd.testing.assert_frame_equal(read_table(write_table(frame, tmp_path / "a.parquet")), frame)
    assert from_arrow(to_arrow(pd.DataFrame())).shape == (0, 0)


@pytest.mark.parametrize(
    ("name", "message"), [("table", "does not tell a format"), ("table.xlsx", "let it end in one of .parquet")]
)
def test_a_name_that_tells_no_format_is_refused(name: str, message: str) -> None:
    """With those that there are."""
    with pytest.raises(InvalidValue, match=message):
        format_of(name)


def test_formats_that_tell_no_types_are_not_read_back(tmp_path: Path) -> None:
    """The error says what reads them."""
    path = write_table(pd.DataFrame({"a": [1]}), tmp_path / "table.csv")
    with pytest.raises(InvalidValue, match="read_csv"):
        read_table(path)
    with pytest.raises(InvalidValue, match="'xml' is no format"):
        write_table(pd.DataFrame({"a": [1]}), path, file_format="xml")


def test_without_pyarrow_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what can be written without."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InvalidValue, match=r"experiment-ledger\[parquet\]"):
        write_table(pd.DataFrame({"a": [1]}), tmp_path / "table.parquet")
    assert os.listdir(tmp_path) == []
