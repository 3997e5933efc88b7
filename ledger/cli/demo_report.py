"""What the demo shows at its end: the best configs, one trial's history, the verification, what to try next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import pandas as pd

from ledger.audit import verify
from ledger.cli.audit import print_report
from ledger.cli.demo_task import BASELINE_TRIAL
from ledger.cli.opening import progress_bar
from ledger.cli.output import console, print_table, shown
from ledger.cli.summary import event_line
from ledger.experiment import Experiment
from ledger.state import Status, TrialState
from projections import Tables

_BEST = 5
_SHORT = {"window_log": "window", "hash_log": "hash", "chain_log": "chain", "search_log": "search", "enable_ldm": "ldm"}
_RESULTS = ("ratio", "compress_mb_s", "decompress_mb_s")
_PARAMETERS = ("level", "strategy", "window_log", "hash_log", "chain_log", "search_log", "enable_ldm")


def report(path: str, experiment: Experiment, states: list[TrialState], program: str) -> bool:
    """Print the whole report; return whether the ledger was found intact."""
    trials = Tables(experiment.book).trials(experiment.id)
    succeeded = trials[trials["status"] == Status.SUCCEEDED.value]
    if len(succeeded):
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


def _print_best(trials: pd.DataFrame) -> None:
    best = pareto(trials)
    is_baseline = trials["trial_id"] == BASELINE_TRIAL
    for target, title in (("ratio", "Smallest"), ("compress_mb_s", "Fastest")):
        ranked = trials.sort_values(f"result.{target}", ascending=False).head(_BEST)
        chosen = pd.concat([ranked, trials[is_baseline & ~trials["trial_id"].isin(ranked["trial_id"])]])
        _heading(f"{title}: the best by {target}")
        columns = ["trial", "", *_RESULTS, *(_SHORT.get(name, name) for name in _PARAMETERS)]
        print_table(columns, [_row(row, best) for row in chosen.to_dict("records")])
    print(f"* nothing tried is both smaller and faster ({len(best)} such configs); = zstd's default, for comparison")


def _row(row: Mapping[Any, Any], best: set[int]) -> list[Any]:
    number = row["trial_id"]
    mark = ("*" if number in best else "") + ("=" if number == BASELINE_TRIAL else "")
    results = [f"{row['result.ratio']:.3f}", *(f"{row[f'result.{name}']:,.1f}" for name in _RESULTS[1:])]
    parameters = (row.get(f"config.{name}") for name in _PARAMETERS)
    return [number, mark, *results, *(shown(None if pd.isna(value) else value) for value in parameters)]


def pareto(trials: pd.DataFrame) -> set[int]:
    """Return the numbers of the trials that no other one beats in both ratio and speed."""
    ranked = trials.sort_values(["result.ratio", "result.compress_mb_s"], ascending=False)
    speed = ranked["result.compress_mb_s"]
    is_best = speed > speed.cummax().shift(fill_value=0.0)
    return set(ranked["trial_id"][is_best])


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
