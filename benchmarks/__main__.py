"""Measure: ``python -m benchmarks [ROW ...] [--size small|full] [--rounds N] [--output FILE.json] [--list]``."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.disk import filesystem_of, working_directory
from benchmarks.machine import this_machine, versions
from benchmarks.result import Result, load_result
from benchmarks.rivals import RIVALS
from benchmarks.rows import ROWS
from benchmarks.runner import Runner
from benchmarks.size import SIZES, Size

RESULTS = Path(__file__).parent / "results"
_BUSY = 0.5


def main(arguments: list[str] | None = None) -> int:
    """Run the rows asked for; return the exit status."""
    options = _parser().parse_args(arguments)
    if options.list:
        _list()
        return 0
    unknown = [name for name in options.rows if name not in ROWS] + [name for name in options.rivals if name not in RIVALS]
    if unknown:
        print(f"there is no row or rival {unknown[0]!r}; --list names them.", file=sys.stderr)
        return 2
    size = SIZES[options.size]
    output = options.output or RESULTS / f"{size.name}.json"
    if options.directory is not None:
        options.directory.mkdir(parents=True, exist_ok=True)
    directory = working_directory() if options.directory is None else Path(tempfile.mkdtemp(dir=options.directory))
    try:
        result = _prepare(size, directory, output)
        if result is None:
            return 2
        _measure(options, result, directory, output)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(f"kept in {output}; draw the page with: python -m benchmarks.page {output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the ledger beside its rivals.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="rows to measure; all of them by default")
    parser.add_argument("--size", choices=list(SIZES), default="small", help="how much each row does (default: small)")
    parser.add_argument("--rounds", type=int, help="rounds, in place of the size's")
    parser.add_argument("--rivals", nargs="+", default=[], metavar="NAME", help="contestants to measure; all by default")
    parser.add_argument("--output", type=Path, help="JSON file; rows of it that are not measured now are kept")
    parser.add_argument("--directory", type=Path, help="where the stores are made, on the disk to be measured")
    parser.add_argument("--list", action="store_true", help="name the rows and the rivals, and stop")
    return parser


def _list() -> None:
    for row in ROWS.values():
        print(f"{row.name:14} {row.title}")
    print()
    for rival in RIVALS.values():
        print(f"{rival.name:14} {rival.title}{'' if rival.is_installed else f' ({rival.package} is not installed)'}")


def _prepare(size: Size, directory: Path, output: Path) -> Result | None:
    """Return what the rows are put into: a new result, or the file's when it is of this machine and size."""
    load = os.getloadavg()[0]
    made = Result(size, this_machine(directory), versions(), _caveats(directory, load))
    if not output.exists():
        return made
    known = load_result(output)
    if known.machine.kind != made.machine.kind or known.size != size:
        print(f"{output} is of another machine or size; give another --output, or remove it.", file=sys.stderr)
        return None
    made.rows, made.fixtures = known.rows, known.fixtures
    made.caveats = list(dict.fromkeys([*made.caveats, *known.caveats]))
    return made


def _caveats(directory: Path, load: float) -> list[str]:
    caveats = []
    if filesystem_of(directory).is_memory:
        caveats.append("The stores were in memory, where a flush costs nothing: no figure of a durable append means anything.")
    if load > _BUSY:
        caveats.append(f"The machine was busy when it began (load {load:.1f}).")
    return caveats


def _measure(options: argparse.Namespace, result: Result, directory: Path, output: Path) -> None:
    begun = time.monotonic()
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])

    def tell(text: str) -> None:
        print(f"{time.monotonic() - begun:7.0f} s  {text}", file=sys.stderr, flush=True)

    runner = Runner(SIZES[options.size], directory, rounds=options.rounds, command=command, only=options.rivals, tell=tell)
    wanted = options.rows or list(ROWS)
    for number, name in enumerate(wanted, 1):
        tell(f"[{number}/{len(wanted)}] {name}: {ROWS[name].title}")
        runner.run(ROWS[name], result)
        result.rows.sort(key=lambda row: list(ROWS).index(row.name))
        result.save(output)  # after each row: what is stopped has lost one row at most


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was made is removed
    sys.exit(main())
