"""Commands that run programs as trials: worker, run."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Annotated, Any

import typer

from ledger.cli.app import INTERRUPTED, NO, command
from ledger.cli.completion import complete_experiments
from ledger.cli.corrections import Pairs, split_pairs, value_of
from ledger.cli.opening import ExperimentArgument, PathArgument, find_experiment, open_book
from ledger.cli.output import LineFormat, print_json_line, printable, shown
from ledger.errors import InvalidValue, UnknownExperiment
from ledger.trial import LEASE_SECONDS, Trial
from ledger.values import check_text, to_json
from ledger.worker.attempt import RELEASED, Outcome, WorkerFault
from ledger.worker.output import Show
from ledger.worker.results import ResultSource
from ledger.worker.settings import Settings
from ledger.worker.template import Template
from ledger.worker.worker import Worker

_MEBIBYTE = 1 << 20
_ERROR_WIDTH = 200

Words = Annotated[list[str], typer.Argument(metavar="CMD...", help="The program and its arguments; {lr} is the parameter lr.")]
Experiments = Annotated[
    list[str],
    typer.Option(
        "--experiment", "-e", help="Whose trials; repeat for more, of which the first goes first.",
        autocompletion=complete_experiments,
    ),
]  # fmt: skip
Timeout = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="End a program that takes longer: TIMED_OUT.", show_default=False)
]
Grace = Annotated[float, typer.Option(metavar="SECONDS", help="From SIGTERM to SIGKILL.")]
Source = Annotated[ResultSource, typer.Option("--results", help="Where results come from.")]
AllowEmpty = Annotated[bool, typer.Option("--allow-empty-results", help="A program without results has SUCCEEDED, too.")]
Directory = Annotated[str | None, typer.Option("--cwd", metavar="DIR", help="Where programs run.", show_default=False)]
Shell = Annotated[bool, typer.Option("--shell", help="CMD is a line for /bin/sh, its values quoted.")]
IsCapture = Annotated[bool, typer.Option("--capture/--no-capture", help="Record machine, git state of the directory, command.")]
MaxOutput = Annotated[int, typer.Option(min=0, metavar="MIB", help="Keep so much of each output, and its end.")]
IsShown = Annotated[bool, typer.Option("--show", help="Copy output to the terminal, lines marked with the trial.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Lease = Annotated[float, typer.Option(metavar="SECONDS", help="After so long without a sign of the worker a trial is LOST.")]
Name = Annotated[
    str | None, typer.Option("--worker", metavar="NAME", help="Its name; this process if left out.", show_default=False)
]
Lines = Annotated[LineFormat, typer.Option("--format", help="For people, or a line of JSON for each trial that has ended.")]


@command(
    "ledger worker runs.ledger -e sqlite-tuning -- ./bench --cache {cache_mb} --journal={journal}",
    "ledger worker runs.ledger -e sqlite-tuning --jobs 4 --timeout 600 --retries 2 -- ./bench {config}",
)
def worker(
    path: PathArgument,
    words: Words,
    experiments: Experiments,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=256, help="Programs at once.")] = 1,
    name: Name = None,
    where: Annotated[
        Pairs, typer.Option(metavar="NAME=VALUE", help="Only with this in the config; repeat for more.", show_default=False)
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Stay, and wait for more.")] = False,
    max_trials: Annotated[int | None, typer.Option(min=1, help="Claim so many at most.", show_default=False)] = None,
    retries: Annotated[int, typer.Option(min=0, help="Let a trial that FAILED wait again, so often.")] = 0,
    timeout: Timeout = None,
    grace: Grace = 10.0,
    lease_seconds: Lease = LEASE_SECONDS,
    results: Source = ResultSource.AUTO,
    allow_empty_results: AllowEmpty = False,
    directory: Directory = None,
    shell: Shell = False,
    capture: IsCapture = True,
    max_output: MaxOutput = 256,
    show: IsShown = False,
    quiet: Quiet = False,
    form: Lines = LineFormat.TABLE,
) -> None:  # fmt: skip
    """Run a program for each trial that waits.

    {name} in CMD is a parameter; {{name}} stands for {name}, and other braces for themselves. {trial}, {attempt},
    {experiment}, {config} (the config as a JSON file) and {output} (a directory that is kept as an artifact) are the
    worker's own. The program finds the same in LEDGER_TRIAL, LEDGER_CONFIG and so on, and each parameter in
    LEDGER_PARAM_NAME. Its results are the last line that it prints with a brace in front, or the file $LEDGER_RESULTS: a
    JSON object. "status": "PRUNED" in it ends the trial so, without its objectives; "FAILED" does as well. What the program
    prints is kept, see `ledger logs`.

    Exit code 0 of the program is SUCCEEDED, any other, or a signal, FAILED. Ends when nothing waits, is scheduled, or runs
    anywhere; with exit code 1 when a trial has neither SUCCEEDED nor been PRUNED. Ctrl-C and SIGTERM end the programs and hand
    their trials back (a second one at once), with exit code 130. When the worker is killed its programs end, too, and others
    get the trials.
    """
    template = Template(words, shell=shell)
    settings = Settings(
        lease_seconds=lease_seconds, timeout=timeout, grace=grace, retries=retries, results=results,
        allow_empty_results=allow_empty_results, capture=capture, directory=directory, max_output_bytes=max_output * _MEBIBYTE,
    )  # fmt: skip
    wanted = {key: value_of(text) for key, text in split_pairs(where, "--where")} or None
    said = _Printer(form, quiet=quiet, show=show)
    with open_book(path) as book:
        chosen = [find_experiment(book, each) for each in dict.fromkeys(experiments)]
        said.names_experiments = len(chosen) > 1
        found = Worker(
            chosen, template, settings, said, name=name, jobs=jobs, where=wanted, wait=wait,
            max_trials=max_trials,
        )  # fmt: skip
        _guarded(found.run, "The trial was handed back.")
        said.conclude(found)
    _exit(found)


@command(
    "ledger run runs.ledger sqlite-tuning --param cache_mb=64 --param journal=wal -- ./bench --cache {cache_mb}",
    "ledger run runs.ledger quick --timeout 60 -- ./bench",
)
def run(
    path: PathArgument,
    experiment: ExperimentArgument,
    words: Words,
    parameters: Annotated[
        Pairs, typer.Option("--param", "-p", metavar="NAME=VALUE", help="Of the config; repeat for more.", show_default=False)
    ] = None,
    name: Name = None,
    timeout: Timeout = None,
    grace: Grace = 10.0,
    lease_seconds: Lease = LEASE_SECONDS,
    results: Source = ResultSource.AUTO,
    allow_empty_results: AllowEmpty = False,
    directory: Directory = None,
    shell: Shell = False,
    capture: IsCapture = True,
    max_output: MaxOutput = 256,
    show: IsShown = False,
    quiet: Quiet = False,
    form: Lines = LineFormat.TABLE,
) -> None:  # fmt: skip
    """Run a program once, as a new trial.

    As `ledger worker` does, which explains CMD and the results. No other worker can take the trial. An experiment that does
    not exist is created. VALUE is JSON, and a text where it is none.
    """
    template = Template(words, shell=shell)
    settings = Settings(
        lease_seconds=lease_seconds, timeout=timeout, grace=grace, results=results, allow_empty_results=allow_empty_results,
        capture=capture, directory=directory, max_output_bytes=max_output * _MEBIBYTE,
    )  # fmt: skip
    config: dict[str, Any] = {key: value_of(text) for key, text in split_pairs(parameters, "--param")}
    template.check(config)
    said = _Printer(form, quiet=quiet, show=show)
    with open_book(path) as book:
        try:
            found = find_experiment(book, experiment)
        except UnknownExperiment:
            found = book.experiment(check_text(experiment, "the experiment's name"))
            print(f"note: created the experiment {printable(experiment)}.", file=sys.stderr)
        runner = Worker([found], template, settings, said, name=name)
        _guarded(lambda: runner.run_new(config), "The trial is CANCELED.")
    _exit(runner)


def _guarded(run: Callable[[], None], what_then: str) -> None:
    try:
        run()
    except WorkerFault as fault:
        raise InvalidValue(f"{fault} {what_then}") from fault


def _exit(worker: Worker) -> None:
    if worker.is_stopped:
        raise typer.Exit(INTERRUPTED)
    if not worker.is_all_well:
        raise typer.Exit(NO)


class _Printer:
    """Says what a worker does; for programs on standard output, for people too, warnings and notes on standard error."""

    def __init__(self, form: LineFormat, *, quiet: bool, show: bool) -> None:
        self._form, self._quiet, self._show = form, quiet, show
        self.names_experiments = False  # of trials, where they are of several
        self._lock = threading.Lock()

    def began(self, trial: Trial) -> tuple[Show, Show] | None:
        """Say that a trial is run."""
        config = " ".join(f"{printable(name)}={shown(value)}" for name, value in trial.config.items())
        attempt = f" (attempt {trial.attempt})" if (trial.attempt or 1) > 1 else ""
        name = self._name(trial.experiment.name, trial.id)
        self._say(f"trial {name}{attempt} began: {config}" if config else f"trial {name}{attempt} began")
        if not self._show:
            return None
        return _Marked(f"{name} | ", self._lock), _Marked(f"{name} ! ", self._lock)

    def ended(self, outcome: Outcome) -> None:
        """Say what has become of it."""
        if self._form is LineFormat.JSONL:
            with self._lock:
                print_json_line(_fields(outcome))
                sys.stdout.flush()
            return
        parts = [f"trial {self._name(outcome.experiment, outcome.trial_id)} {outcome.status} in {outcome.seconds:.1f} s"]
        if outcome.results:
            parts.append(", ".join(f"{printable(name)}={shown(value)}" for name, value in outcome.results.items()))
        if outcome.error:
            text = printable(outcome.error)
            parts.append(text if len(text) <= _ERROR_WIDTH else f"{text[: _ERROR_WIDTH - 1]}…")
        self._say(": ".join(parts) + (" (it waits again)" if outcome.is_requeued else ""))

    def conclude(self, worker: Worker) -> None:
        """Say what was done in all."""
        counts = ", ".join(f"{count} {status}" for status, count in sorted(worker.counts.items()))
        self._say(f"{counts}." if counts else "Nothing to do.")
        if worker.counts[RELEASED]:
            self._say("Those RELEASED wait for another worker.")
        if worker.is_paused and not self._quiet:
            which = "an" if self.names_experiments else "the"
            print(f"note: {which} experiment is paused; `ledger pause --undo` resumes it.", file=sys.stderr)

    def _name(self, experiment: str, trial_id: int) -> str:
        return f"{printable(experiment)}/{trial_id}" if self.names_experiments else str(trial_id)

    def _say(self, line: str) -> None:
        if self._form is LineFormat.TABLE and not self._quiet:
            with self._lock:
                print(line, flush=True)


class _Marked:
    """Copies output to standard error, line by line, each marked with where it comes from."""

    def __init__(self, mark: str, lock: threading.Lock) -> None:
        self._mark, self._lock = mark, lock
        self._rest = b""

    def __call__(self, data: bytes) -> None:
        """Show the lines that are whole; nothing: what is left."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._rest and (not data or len(self._rest) > _MEBIBYTE):
            lines, self._rest = [*lines, self._rest], b""
        with self._lock:
            for line in lines:
                print(self._mark + printable(line.decode(errors="backslashreplace")), file=sys.stderr)


def _fields(outcome: Outcome) -> dict[str, Any]:
    return {
        "experiment": outcome.experiment, "trial_id": outcome.trial_id, "attempt": outcome.attempt, "status": outcome.status,
        "exit_code": outcome.exit_code, "signal": outcome.signal, "seconds": outcome.seconds,
        "results": to_json(outcome.results), "error": outcome.error, "is_requeued": outcome.is_requeued,
    }  # fmt: skip
