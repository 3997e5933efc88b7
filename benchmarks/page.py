"""Draw the page from the kept JSON: ``python -m benchmarks.page RESULT.json`` writes README.md and the plots beside it."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.payload import DESCRIPTION
from benchmarks.result import Result, RowResult, load_result
from benchmarks.rivals import RIVALS
from benchmarks.row import Bound, Line
from benchmarks.rows import ROWS

_HERE = Path(__file__).parent
_NAMED = (
    "experiment-ledger", "lmdb", "LMDB (of lmdb)", "msgspec", "zstandard", "watchdog", "umadb", "eventsourcing", "optuna",
    "SQLite (of Python)", "mlos-bench", "SQLAlchemy", "wandb", "trackio", "tensorboardX", "aim", "matplotlib",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Write the page; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description="Draw the page of a result.")
    parser.add_argument("result", type=Path)
    parser.add_argument("--output", type=Path, default=_HERE / "README.md", help="the page (default: benchmarks/README.md)")
    options = parser.parse_args(arguments)
    try:
        result = load_result(options.result)
    except (OSError, ValueError) as error:
        print(f"{options.result} cannot be read: {error}", file=sys.stderr)
        return 2
    plots: list[Path] = []
    if importlib.util.find_spec("matplotlib") is None:
        print("matplotlib is not installed: the page has no plots.", file=sys.stderr)
    else:
        from benchmarks.plots import draw

        plots = draw(result, options.output.parent / "plots")
    options.output.write_text("\n".join(_page(result, options, plots)) + "\n", encoding="utf-8")
    print(f"{options.output}, {len(plots)} plots")
    return 0


def _page(result: Result, options: argparse.Namespace, plots: list[Path]) -> Iterator[str]:
    kept = options.result.resolve()
    place = options.output.parent.resolve()
    name = kept.relative_to(place) if kept.is_relative_to(place) else kept.name
    yield from (
        "# Benchmarks", "",
        "The ledger measured beside what one would pick instead, and beside the physical limit: in the same run, taking turns in",
        "every round. Figures are medians over the rounds, with the least and the largest below. Drawn from",
        f"[{name}]({name}) by `python -m benchmarks.page`; do not edit it by hand.", "",
        "```console", "$ pip install -e '.[bench]'",
        "$ python -m benchmarks --size full     # everything; or rows by name",
        "$ python -m benchmarks --list          # the rows and the rivals",
        "$ python -m benchmarks.page benchmarks/results/full.json",
        "```", "", "## The table", "",
    )  # fmt: skip
    yield from _table(result)
    for plot in plots:
        yield from ("", f"![{plot.stem}]({plot.relative_to(options.output.parent)})")
    yield from ("", "## What is appended", "", DESCRIPTION, "")
    yield from ("## Row by row", "")
    for row in result.rows:
        yield from _row(row)
    yield from _conditions(result)


# ----------------------------------------------------------------------------------------------------------- the table


def _table(result: Result) -> Iterator[str]:
    yield "| work | ledger | beside it | times | must reach | holds |"
    yield "|---|---|---|---|---|---|"
    for row in result.rows:
        for line in row.lines:
            if line.must:
                yield _line(row, line)


def _line(row: RowResult, line: Line) -> str:
    first, *others = row.labels
    own = row.spread(first, line.figure)
    beside = []
    for each in others:
        spread = row.spread(each, line.figure)
        said = number(spread.median) if spread else "missing" if each in row.missing else "failed" if each in row.errors() else ""
        if said:
            beside.append(f"{row.labels[each]} {said}")
    verdicts = [row.verdict(line, bound) for bound in line.must]
    times = "<br>".join("" if verdict.ratio is None else f"{verdict.ratio:.2f}" for verdict in verdicts)
    must = "<br>".join(_must(row, line, bound) for bound in line.must)
    holds = "<br>".join({True: "yes", False: "**no**", None: "not measured"}[verdict.holds] for verdict in verdicts)
    value = f"{number(own.median)} {line.unit}" if own else "not measured"
    what = line.title if line.title.startswith(row.title) else f"{row.title}: {line.title}"
    title = what + (f" (aim: {line.aim})" if line.aim else "")
    return f"| {title} | {value} | {'<br>'.join(beside)} | {times} | {must} | {holds} |"


def _must(row: RowResult, line: Line, bound: Bound) -> str:
    least = "at least" if line.better == "more" else "at most"
    if not bound.than:
        return f"{least} {number(bound.factor)} {line.unit}"
    return f"{least} {bound.factor:.3g} times {row.labels.get(bound.than, bound.than)}"


def number(value: float) -> str:
    """Return a number as people read it: three digits that count, thousands set apart."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return "0" if size == 0 else f"{value:.3g}"


# ------------------------------------------------------------------------------------------------------------ the rows


def _row(row: RowResult) -> Iterator[str]:
    yield from (f"### {row.name}: {row.title}", "", row.work, "")
    rounds = max((sample.round for sample in row.samples), default=0)
    load = max((sample.load for sample in row.samples), default=0.0)
    figures = _figures(row)
    if figures:
        yield f"| | {' | '.join(_heading(row, figure) for figure in figures)} |"
        yield f"|---|{'---|' * len(figures)}"
        for contestant, label in row.labels.items():
            cells = [_cell(row, contestant, figure) for figure in figures]
            if any(cells):
                yield f"| {label} | {' | '.join(cells)} |"
        yield ""
    if any(row.verdict(line, bound).holds is False for line in row.lines for bound in line.must) and row.name in ROWS:
        yield from (f"What keeps it from more: {ROWS[row.name].limit}", "") if ROWS[row.name].limit else ()
    absent = {row.labels[each]: why for each, why in row.missing.items()}
    failed = {row.labels[each]: why for each, why in row.errors().items()}
    for what, found in (("Missing", absent), ("Failed", failed)):
        if found:
            yield from (f"{what}: {'; '.join(f'{label} ({why})' for label, why in found.items())}.", "")
    when = f"{row.began_at}, {rounds} round{'s' if rounds != 1 else ''}, {row.seconds:,.0f} s, load at most {load:.1f}"
    yield from (f"{when}, commit {row.commit or 'unknown'}: `{row.command or 'not from the command line'}`", "")


def _figures(row: RowResult) -> list[str]:
    """Return the figures of a row: those of its lines first, then the others."""
    known = [line.figure for line in row.lines]
    others = [figure for sample in row.samples for figure in sample.figures]
    seen = {figure for sample in row.samples for figure in sample.figures}
    return [figure for figure in dict.fromkeys([*known, *others]) if figure in seen]


def _heading(row: RowResult, figure: str) -> str:
    unit = next((line.unit for line in row.lines if line.figure == figure), "")
    return f"{figure} ({unit})" if unit and not figure.endswith(f"_{unit}") else figure


def _cell(row: RowResult, contestant: str, figure: str) -> str:
    spread = row.spread(contestant, figure)
    if spread is None:
        return ""
    if spread.least == spread.most:
        return number(spread.median)
    return f"{number(spread.median)} ({number(spread.least)} to {number(spread.most)})"


# ------------------------------------------------------------------------------------------------------ the conditions


def _conditions(result: Result) -> Iterator[str]:
    machine = result.machine
    yield from ("## How each is driven", "")
    for rival in RIVALS.values():
        yield f"- **{rival.title}**: {rival.driven}"
    yield from (
        "",
        "The stores are made anew for each measurement, on the same disk, and closed; servers are stopped. Each measurement has",
        "a process of its own, a warm-up that is not counted, and a time limit. Large stores are built once. Before each, what",
        "others have left to be written is written out (`sync`). NumPy is told not to ask for huge pages",
        "(`NUMPY_MADVISE_HUGEPAGE=0`): the host of a virtual machine may take large blocks of free memory away, and who comes",
        "next waits until it has one again.", "",
        "## Machine", "",
        f"- {machine.cpu}, {machine.cores} cores, {machine.memory_gb} GB; {machine.system}, kernel {machine.kernel}",
        f"- {machine.filesystem}: {machine.mount}; 4 KiB written and flushed in {machine.flush_ms} ms (median, before the run)",
        f"- {machine.python}",
        f"- {', '.join(f'{name} {result.versions[name]}' for name in _NAMED if name in result.versions)}",
        f"- size {result.size.name}; the exact numbers of operations, every sample and all versions are in the JSON", "",
        "## Caveats", "",
        "- One machine, one disk. A virtual disk's flush is as honest as its host; ratios travel better than figures.",
        "- UmaDB is a server: its figures contain a round trip over loopback, and its work runs on another core.",
        "- A read of a store that was just built comes from the page cache, for everyone.",
        "- Each row says the load under which it was measured. Above 5 or so, other programs used the machine at that time: its",
        "  figures are low for everyone, and those of sizes that were measured one after the other cannot be compared.",
    )  # fmt: skip
    for caveat in result.caveats:
        yield f"- {caveat}"


if __name__ == "__main__":
    sys.exit(main())
