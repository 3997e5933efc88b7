"""The command demo: several processes tune zstandard on Python's own source files, from one ledger."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from ledger import events as ev
from ledger.cli.app import INTERRUPTED, NO, command, fail, program_name
from ledger.cli.opening import open_book
from ledger.cli.output import printable
from ledger.errors import CommandRefused
from ledger.experiment import Experiment
from ledger.session import Ledger
from ledger.state import Status, TrialState, evolve_trial
from ledger.streams import experiment_stream, subject_of, trial_stream

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from ledger.backends.base import Staged, View
    from ledger.cli.demo_task import Corpus
    from ledger.records import Record

EXPERIMENT = "zstd-tuning"
NAMESPACE = "demo"
_OBJECTIVES = {"ratio": "max", "compress_mb_s": "max"}
_TRIALS, _MAX_TRIALS, _MAX_WORKERS = 80, 10_000, 64
_MAX_ATTEMPTS = 5
_RESTARTS = 5  # of workers that died, over the whole run
_LOOK_SECONDS = 0.2
_STOP_SECONDS = 5.0


@command("ledger demo", "ledger demo /tmp/demo.ledger --trials 20 --workers 2 --seed 7")
def demo(
    path: Annotated[str, typer.Argument(metavar="PATH", help="The ledger's directory, created when missing.")] = "./demo.ledger",
    trials: Annotated[int, typer.Option(min=1, max=_MAX_TRIALS, help="How many configs are tried.")] = _TRIALS,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=_MAX_WORKERS, help="Worker processes (the processors, at most 4).", show_default=False),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Which configs are tried (0).", show_default=False)] = None,
) -> None:
    """Try it: tune zstandard with several workers.

    The input is Python's own source files; the worker processes share one ledger, and every state change is an event.
    Stop it as you like (Ctrl-C, kill -9 of a worker or of everything) and start it again: it goes on where it was.
    """
    with open_book(path, create=True) as book:
        experiment = prepare(book, path, trials, seed)
        run = Run(book, experiment)
        begun = time.monotonic()
        if run.unfinished:
            count = workers or min(os.cpu_count() or 1, 4)
            _announce(path, run, count)
            with _stopped_cleanly(path, run):
                run.until_finished(path, count)
        _conclude(path, run, time.monotonic() - begun)


# ----------------------------------------------------------------------------------------------------------- set-up


def prepare(book: Ledger, path: str, trials: int, seed: int | None) -> Experiment:
    """Create the experiment and its trials, or find those of an earlier run; several may do so at once.

    Raises CommandRefused when the ledger holds something else, or a demo with another seed or on other input.
    """
    from ledger.cli import demo_task

    with book.log.backend.view() as view:
        others = any(state.name != EXPERIMENT for state in view.experiments())
        known = view.experiment_named(EXPERIMENT)
    if known is None and (others or book.log.head):
        raise CommandRefused(f"{path} is a ledger with other content; a demo would mix with it. Give another path.")
    corpus = demo_task.load_corpus()
    experiment = book.experiment(EXPERIMENT, objectives=_OBJECTIVES)
    environment = demo_task.describe_environment(corpus)
    book.log.execute(_describe_once(experiment.id, seed or 0, environment, corpus))
    found = experiment.state.attributes.get(NAMESPACE, {})
    _check_same(path, found, seed, corpus)
    configs = demo_task.configs(found["seed"], trials)
    book.log.execute(_add_missing_trials(experiment.id, configs))
    return experiment


def _describe_once(experiment_id: UUID, seed: int, environment: dict[str, Any], corpus: Corpus) -> Any:
    def command(view: View) -> list[Staged]:
        state = view.experiment(experiment_id)
        if state is None or state.attributes.get(NAMESPACE) or state.next_trial_id > 1:
            return []
        stream = experiment_stream(experiment_id)
        attributes = {"seed": seed, **corpus.describe()}
        return [(stream, ev.AttributesSet(attributes, NAMESPACE)), (stream, ev.EnvironmentCaptured(environment))]

    return command


def _check_same(path: str, found: dict[str, Any], seed: int | None, corpus: Corpus) -> None:
    if "seed" not in found:
        raise CommandRefused(f"{path} has an experiment {EXPERIMENT!r} that is not the demo's. Give another path.")
    if seed is not None and seed != found["seed"]:
        raise CommandRefused(
            f"{path} holds a demo with seed {found['seed']}, not {seed}. "
            f"Go on with it by --seed {found['seed']} (or none), or give another path for seed {seed}."
        )
    if found["corpus_sha256"] != corpus.sha256:
        raise CommandRefused(
            f"{path} holds a demo on other source files (another Python's), so results could not be compared. "
            "Run it with that Python, or give another path."
        )


def _add_missing_trials(experiment_id: UUID, configs: list[dict[str, Any]]) -> Any:
    def command(view: View) -> list[Staged]:
        state = view.experiment(experiment_id)
        first = state.next_trial_id if state is not None else 1
        return [
            (trial_stream(experiment_id, number), ev.TrialCreated(config, max_attempts=_MAX_ATTEMPTS))
            for number, config in enumerate(configs, start=1)
            if number >= first
        ]

    return command


# ------------------------------------------------------------------------------------------------------- supervision


class Run:
    """The trials as the log tells of them, and the workers on them."""

    def __init__(self, book: Ledger, experiment: Experiment) -> None:
        self.book, self.experiment = book, experiment
        self.states: dict[int, TrialState] = {}
        self.lost = 0
        self.position = 0
        self._workers: list[tuple[SpawnProcess, Connection]] = []
        self._started = 0
        head = book.log.head
        for record in book.log.read(as_of=head, experiment=experiment.id):
            self._take(record)
        self.position = head

    @property
    def unfinished(self) -> int:
        """How many trials have not ended for good."""
        return sum(not _is_over(state) for state in self.states.values())

    @property
    def counts(self) -> Counter[Status]:
        """How many trials have each status."""
        return Counter(state.status for state in self.states.values())

    def until_finished(self, path: str, workers: int) -> None:
        """Start the workers and follow the log until every trial has ended."""
        for _ in range(min(workers, self.unfinished)):
            self._start_worker(path)
        with _display(self) as show, self.book.subscribe(self.position, experiment=self.experiment.id) as records:
            while self.unfinished:
                record = records.next(timeout=_LOOK_SECONDS)
                if record is not None:
                    self._take(record)
                    self.position = record.position
                self._replace_dead(path, workers)
                show()
        self._dismiss()

    def _take(self, record: Record) -> None:
        subject = subject_of(record.stream)
        if subject is not None and subject.trial_id is not None:
            self.lost += record.type == "TrialLost"
            number = subject.trial_id
            self.states[number] = evolve_trial(self.states.get(number), subject, record.event, record.happened_at)

    def _start_worker(self, path: str) -> None:
        from ledger.cli.demo_worker import work

        context = multiprocessing.get_context("spawn")  # a forked child could not use this process's ledger
        self._started += 1
        name = f"w{self._started}"
        reader, writer = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(path, self.experiment.id, name, reader), name=name, daemon=True)
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: no Ctrl-C may hit the child while it imports
        try:
            process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        reader.close()
        self._workers.append((process, writer))

    def _replace_dead(self, path: str, workers: int) -> None:
        for process, writer in list(self._workers):
            if process.exitcode is None or not self.unfinished:
                continue
            self._workers.remove((process, writer))
            writer.close()
            if self._started < workers + _RESTARTS:
                self._start_worker(path)
        if not self._workers and self.unfinished:
            raise fail(
                f"all workers have ended with {self.unfinished} trials unfinished; what they said is above. "
                f"Start it again to go on: {again(path)}", NO,
            )  # fmt: skip

    def _dismiss(self) -> None:
        """Tell the workers that all is done, and wait for them."""
        for _, writer in self._workers:
            writer.close()
        for process, _ in self._workers:
            process.join(_STOP_SECONDS)
        self.stop(signal.SIGKILL)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the workers: asked first, so that they hand back their trials; killed when they take too long."""
        for process, _ in self._workers:
            if process.exitcode is None and process.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number)
        deadline = time.monotonic() + _STOP_SECONDS
        for process, _ in self._workers:
            process.join(max(deadline - time.monotonic(), 0.0))
            if process.exitcode is None:
                process.kill()
                process.join()
        self._workers.clear()


def again(path: str) -> str:
    """Return the command that goes on with the demo."""
    return f"{program_name()} demo {shlex.quote(path)}"


def _is_over(state: TrialState) -> bool:
    if state.status is Status.LOST:  # waits again with the next event, unless it was the last attempt
        return state.lost >= state.max_attempts
    return state.status.is_finished


@contextlib.contextmanager
def _stopped_cleanly(path: str, run: Run) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        run.stop()
        total = len(run.states)
        print(f"Stopped: {total - run.unfinished} of {total} trials are finished. To go on: {again(path)}")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        run.stop(signal.SIGKILL)


# ----------------------------------------------------------------------------------------------------------- display


def _announce(path: str, run: Run, workers: int) -> None:
    total, left = len(run.states), run.unfinished
    found = f"{total - left} of {total} trials are finished already; {left} to go" if left < total else f"{total} trials"
    state = run.experiment.state.attributes[NAMESPACE]
    print(f"Tuning zstandard on {state['corpus_files']} source files of Python ({state['corpus_bytes'] / 1e6:.1f} MB).")
    print(f"{found}, {min(workers, left)} workers, one ledger: {printable(path)}")
    sys.stdout.flush()


@contextlib.contextmanager
def _display(run: Run) -> Iterator[Any]:
    """Yield a function that brings the progress bar up to date; there is one on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("", total=len(run.states))

        def show() -> None:
            counts = run.counts
            running = counts[Status.RUNNING] + counts[Status.READY]
            parts = [f"[green]{counts[Status.SUCCEEDED]} done[/]", f"[cyan]{running} running[/]"]
            parts += [f"[red]{counts[Status.FAILED]} failed[/]"] if counts[Status.FAILED] else []
            parts += [f"[magenta]{run.lost} lost[/]"] if run.lost else []
            bar.update(task, completed=len(run.states) - run.unfinished, description=", ".join(parts))

        show()
        yield show


def _conclude(path: str, run: Run, seconds: float) -> None:
    from ledger.cli.demo_report import report

    counts = ", ".join(f"{count} {status}" for status, count in sorted(run.counts.items()))
    took = f" in {seconds:.1f} s" if seconds >= 0.05 else ""
    lost = f"; {run.lost} lost on the way and tried again" if run.lost else ""
    print(f"{counts}{took}{lost}; {run.book.log.head:,} events recorded.")
    if not report(path, run.experiment, list(run.states.values()), program_name()):
        raise typer.Exit(NO)
