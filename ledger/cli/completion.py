"""What the shell offers when Tab is pressed: experiments and trials of the ledger at PATH, event types, statuses.

Nothing here may raise or print: the shell would show it in the middle of what is being typed. A ledger that is not there,
cannot be read or is damaged offers nothing. Answers come from the indexes, without pandas and without reading the log.
"""

from __future__ import annotations

import functools
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeGuard

import typer

import ledger
from ledger.registry import all_types
from ledger.streams import trial_stream

_MOST = 200  # a longer list helps nobody
_MOST_LOOKED_AT = 10_000


Offer = Callable[[typer.Context, str], list[str]]


def _quietly(offer: Offer) -> Offer:
    """Offer nothing where anything goes wrong."""

    @functools.wraps(offer)  # typer looks at the signature
    def safe(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            with _no_output():
                return offer(ctx, incomplete)[:_MOST]
        except Exception:  # noqa: BLE001 - whatever it is, the person who types cannot do anything about it here
            return []

    return safe


@contextmanager
def _no_output() -> Iterator[None]:
    """Send what anything would print or warn of to nowhere, at the level of the process."""
    sys.stderr.flush()
    kept = os.dup(2)
    devnull = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, 2)
        yield
        sys.stderr.flush()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(devnull)


def _open(ctx: typer.Context) -> ledger.Ledger:
    path = next(filter(_is_ledger, [ctx.params.get("path"), *_typed_words()]))
    return ledger.open(path, create=False, readonly=True, lock_timeout=0.2)


def _typed_words() -> list[str]:
    """Return the words of the line: where the value of an option is to be completed, typer has not parsed the arguments."""
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or ""
    try:
        return shlex.split(line)
    except ValueError:  # a quotation mark that is not closed yet
        return line.split()


def _is_ledger(path: object) -> TypeGuard[str]:
    return isinstance(path, str) and os.path.isfile(os.path.join(path, "data.mdb"))


@_quietly
def complete_experiments(ctx: typer.Context, incomplete: str) -> list[str]:
    """Name the experiments of the ledger at PATH that begin with what was typed, the newest first."""
    with _open(ctx) as book, book.log.backend.view() as view:
        names = [state.name for state in view.experiments() if state.deleted_at is None]
    fitting = [name for name in reversed(names) if name.startswith(incomplete) and name.isprintable()]
    # bash puts in what it is given as it is; the other shells quote it themselves.
    return [shlex.quote(name) for name in fitting] if os.environ.get("_LEDGER_COMPLETE") == "complete_bash" else fitting


@_quietly
def complete_trials(ctx: typer.Context, incomplete: str) -> list[str]:
    """Name the numbers of trials of the EXPERIMENT that begin with what was typed, the newest first."""
    offered: list[str] = []
    with _open(ctx) as book, book.log.backend.view() as view:
        experiment = view.experiment_named(ctx.params["experiment"])
        state = None if experiment is None else view.experiment(experiment)
        last = -1 if state is None else state.next_trial_id - 1
        for number in range(last, max(last - _MOST_LOOKED_AT, -1), -1):  # numbers that the caller brings may have gaps
            if str(number).startswith(incomplete) and state is not None and view.version(trial_stream(state.id, number)):
                offered.append(str(number))
                if len(offered) == _MOST:
                    break
    return offered


@_quietly
def complete_types(ctx: typer.Context, incomplete: str) -> list[str]:
    """Name the event types of the package that begin with what was typed."""
    return sorted(name for name in all_types() if name.startswith(incomplete))
