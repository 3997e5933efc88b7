"""What the demo shows at its end: the best configs, one trial's history, the verification, what to try next."""

from __future__ import annotations

import shlex
from typing import Any

from ledger.audit import verify
from ledger.cli.care import print_report
from ledger.cli.demo_task import BASELINE
from ledger.cli.opening import progress_bar
from ledger.cli.output import console, print_table, shown
from ledger.cli.summary import event_line
from ledger.experiment import Experiment
from ledger.state import Status, TrialState

_BEST = 5
_SHORT = {"window_log": "window", "hash_log": "hash", "chain_log": "chain", "search_log": "search", "enable_ldm": "ldm"}
_RESULTS = ("ratio", "compress_mb_s", "decompress_mb_s")
_PARAMETERS = ("level", "strategy", "window_log", "hash_log", "chain_log", "search_log", "enable_ldm")


def report(path: str, experiment: Experiment, states: list[TrialState], program: str) -> bool:
    """Print the whole report; return whether the ledger was found intact."""
    succeeded = [state for state in states if state.status is Status.SUCCEEDED]
    if succeeded:
        _print_best(succeeded)
    told = most_eventful(states)
    _heading(f"The history of trial {told.id}, as recorded")
    out = console()
    for record in experiment.trial(told.id).history():
        out.print(event_line(record), no_wrap=True, overflow="ellipsis", crop=True)
    _heading("Verification")
    with progress_bar("verifying") as progress:
        answer = verify(path, progress=progress)
    print_report(answer)
    _heading("Try next")
    for line in suggestions(path, experiment.name, answer.head // 2, program):
        print(f"  {line}")
    return answer.ok


def _heading(text: str) -> None:
    from rich.text import Text

    print()
    console().print(Text(text, style="bold underline"))


def _print_best(succeeded: list[TrialState]) -> None:
    best = pareto(succeeded)
    for target, title in (("ratio", "Smallest"), ("compress_mb_s", "Fastest")):
        ranked = sorted(succeeded, key=lambda state: -float(state.results[target]))[:_BEST]
        _heading(f"{title}: the best by {target}")
        chosen = [*ranked, *(state for state in succeeded if state.config == BASELINE and state not in ranked)]
        columns = ["trial", "", *_RESULTS, *(_SHORT.get(name, name) for name in _PARAMETERS)]
        print_table(columns, [_row(state, state.id in best) for state in chosen])
    print(f"* nothing tried is both smaller and faster ({len(best)} such configs); = zstd's default, for comparison")


def _row(state: TrialState, is_best: bool) -> list[Any]:
    mark = "=" if state.config == BASELINE else ""
    results = [f"{state.results[_RESULTS[0]]:.3f}", *(f"{state.results[name]:,.1f}" for name in _RESULTS[1:])]
    return [state.id, ("*" if is_best else "") + mark, *results, *(shown(state.config.get(name)) for name in _PARAMETERS)]


def pareto(states: list[TrialState]) -> set[int]:
    """Return the numbers of the trials that no other one beats in both ratio and speed."""
    best: set[int] = set()
    fastest = 0.0
    for state in sorted(states, key=lambda state: (-state.results["ratio"], -state.results["compress_mb_s"])):
        if state.results["compress_mb_s"] > fastest:
            fastest = state.results["compress_mb_s"]
            best.add(state.id)
    return best


def most_eventful(states: list[TrialState]) -> TrialState:
    """Choose the trial worth telling of: one that was lost and tried again, else one that failed, else the best."""

    def interest(state: TrialState) -> tuple[bool, int, bool, float]:
        succeeded = state.status is Status.SUCCEEDED
        return state.lost > 0 and succeeded, state.attempt, state.status is Status.FAILED, float(state.results.get("ratio", 0))

    return max(states, key=interest)


def suggestions(path: str, experiment: str, halfway: int, program: str) -> list[str]:
    """Return three commands to try next, ready to be pasted."""
    place = shlex.quote(path)
    return [
        f"{program} trials {place} {experiment} --sort result.ratio --descending --limit 10",
        f"{program} trials {place} {experiment} --as-of {halfway}",
        f"{program} tail {place} --follow --after 0 --format jsonl",
    ]
