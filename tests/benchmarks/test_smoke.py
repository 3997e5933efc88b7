"""The benchmarks run, each row at a tiny size: what they find is no matter here, and nothing is asserted about time."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.machine import this_machine, versions
from benchmarks.page import main as draw_page
from benchmarks.payload import PAYLOAD_BYTES, decode, large_log, sample
from benchmarks.result import Result, RowResult, Sample, load_result
from benchmarks.rivals import RIVALS
from benchmarks.row import Bound, Line
from benchmarks.rows import ROWS
from benchmarks.rows.append import AppendOne
from benchmarks.runner import Runner
from benchmarks.size import TINY

ALWAYS = ("ledger", "bare_lmdb", "file_append", "sqlite")
OTHERS = tuple(name for name in RIVALS if name not in ALWAYS)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the stores are made; large ones serve all the tests."""
    return tmp_path_factory.mktemp("benchmarks")


@pytest.fixture(scope="module")
def result(place: Path) -> Result:
    """What the rows are put into, test by test."""
    return Result(TINY, this_machine(place), versions(), [])


@pytest.mark.parametrize("name", list(ROWS))
def test_row_gives_figures_for_the_ledger_and_the_limits(name: str, place: Path, result: Result) -> None:
    """Every row runs to its end with what is always installed, and every line of it has its figures."""
    row = ROWS[name]
    done = Runner(TINY, place, isolate=False, only=ALWAYS).run(row, result)
    assert done.errors() == {}
    assert {sample.contestant for sample in done.samples} == set(done.labels) - set(done.missing)
    for line in row.lines:
        values = [value for contestant in done.labels for value in done.values(contestant, line.figure)]
        assert values, f"{line.figure} was not measured"
        assert all(math.isfinite(value) for value in values)
    for bound in (bound for line in row.lines for bound in line.must):
        assert bound.than in ("", *done.labels), "a bound is set by someone who does not take part"


def test_result_is_kept_and_the_page_drawn_from_it(place: Path, result: Result, capsys: pytest.CaptureFixture[str]) -> None:
    """What was measured is the same after a round trip through JSON, and the page has every row and who is missing."""
    if not result.rows:
        Runner(TINY, place, isolate=False, only=ALWAYS).run(ROWS["append-1"], result)
    kept = place / "results" / "tiny.json"
    result.save(kept)
    assert load_result(kept) == result
    (place / "page").mkdir(exist_ok=True)
    assert draw_page([str(kept), "--output", str(place / "page" / "README.md")]) == 0
    page = (place / "page" / "README.md").read_text()
    for row in result.rows:
        assert f"### {row.name}: " in page
    assert "left out by --rivals" in page
    assert str(place / "page" / "README.md") in capsys.readouterr().out


@pytest.mark.parametrize("rival", OTHERS)
def test_rival_can_be_driven(rival: str, tmp_path: Path) -> None:
    """Every rival that is installed gives figures in every row that it is part of."""
    if not RIVALS[rival].is_installed:
        pytest.skip(f"{RIVALS[rival].package} is not installed")
    found = Result(TINY, this_machine(tmp_path), versions(), [])
    runner = Runner(TINY, tmp_path, only=[rival])
    for row in ROWS.values():
        if any(each.partition(":")[0] == rival for each in row.contestants(TINY)):
            done = runner.run(row, found)
            assert done.errors() == {}
            assert all(sample.figures for sample in done.samples)


def test_what_hangs_is_stopped(tmp_path: Path) -> None:
    """A measurement that does not end by its limit is ended, named in the result, and not tried again."""

    class Hurried(AppendOne):
        limit_seconds = 0.01

    found = Result(TINY, this_machine(tmp_path), versions(), [])
    done = Runner(TINY, tmp_path, rounds=3, only=["ledger"]).run(Hurried(), found)
    assert [sample.error for sample in done.samples] == ["stopped after 0 s"]


def test_every_payload_has_300_bytes() -> None:
    """All payloads have the length that the page says, and decode to what rivals of JSON are handed."""
    for step in (0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**32, 2**40):
        made = sample("a", 1, step)
        assert len(made.data) == PAYLOAD_BYTES
        assert {name: getattr(decode(made.data), name) for name in made.fields} == made.fields


def test_large_log_has_every_version_once() -> None:
    """The log that is read has as many events as asked for, each stream's versions in order."""
    seen: dict[str, int] = {}
    count = 0
    for batch in large_log(2_500):
        for each in batch:
            assert each.version == seen.get(each.stream, 0) + 1
            seen[each.stream] = each.version
            count += 1
    assert count == 2_500


@pytest.mark.parametrize(
    ("better", "own", "other", "holds"),
    [("more", [9, 10, 30], [4, 5, 6], True), ("more", [9, 9.9, 30], [4, 5, 6], False), ("less", [9, 10, 30], [4, 5, 6], True)],
)
def test_verdict_is_of_medians(better: str, own: list[float], other: list[float], holds: bool) -> None:
    """A bound of twice another's figure is held by the medians, at least or at most."""
    line = Line("rate", "rate", "1/s", better, [Bound(2.0, "other")])  # type: ignore[arg-type]
    samples = [Sample("own", i, {"rate": value}, 0.0, 0.0) for i, value in enumerate(own)]
    samples += [Sample("other", i, {"rate": value}, 0.0, 0.0) for i, value in enumerate(other)]
    row = RowResult("row", "row", "", [line], {"own": "own", "other": "other"}, samples=samples)
    assert row.verdict(line, line.must[0]).holds is holds


def test_command_keeps_rows_that_were_measured_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows are added to the file that is there, a name that is none is refused, and --list names all."""
    kept = tmp_path / "tiny.json"
    common = ["--size", "tiny", "--output", str(kept), "--directory", str(tmp_path / "stores"), "--rivals", "file_append"]
    assert main(["append-1", *common]) == 0
    assert main(["append-100", *common]) == 0
    assert [row.name for row in load_result(kept).rows] == ["append-1", "append-100"]
    assert not list((tmp_path / "stores").iterdir())
    assert main(["nothing"]) == 2
    capsys.readouterr()
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert [name for name in (*ROWS, *RIVALS) if name not in listed] == []
