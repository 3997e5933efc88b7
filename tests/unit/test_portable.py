"""Portable commands: another process makes of each what its own made."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

import ledger
from ledger import claims, commands
from ledger.backends import portable
from ledger.backends.base import Command
from ledger.backends.portable import decode_command, encode_command

EXPERIMENT = uuid4()
COMPLETED = ledger.TrialCompleted({"loss": 0.5, "steps": 10**30})
NOTE = ledger.NoteAdded("n")

COMMANDS: dict[str, list[Any]] = {
    "start": [2, None, "w", 60.0],
    "renew": [1, 1],
    "release": [1, 1],
    "finish": [1, 1, COMPLETED, "w", None],
    "report": [1, 1, {"loss": (0.5, None)}, None],
    "configure": [1, 1, {"lr": 0.1}],
    "cancel": [1],
    "requeue": [3],
    "record_on_trial": [1, NOTE, ledger.TagsChanged(added=["a"])],
    "record_on_experiment": [NOTE],
    "claim": ["w", 60.0],
}


def _command(name: str, experiment: ledger.Experiment) -> Command:
    made: Command = getattr(claims if name == "claim" else commands, name)(experiment.id, *COMMANDS[name])
    return made


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_decides_the_same_in_another_process(book: ledger.Ledger, name: str) -> None:
    """What it is made of again decides the same of the same state."""
    exp = book.experiment("e")
    first, _, third = exp.new_trials([{"n": n} for n in range(3)])
    assert (job := exp.claim(worker="w")) is not None
    assert job.id == first.id
    third.complete({"loss": 1.0})
    command = _command(name, exp)
    data = encode_command(command)
    assert data is not None
    again = decode_command(data)
    assert again is not None
    with book.log.backend.view() as view:
        assert list(again(view)) == list(command(view)) != []


def test_every_portable_command_of_the_core_is_tested_here() -> None:
    """A new one belongs into the list above."""
    import ledger.integrations.optuna  # noqa: F401 - whose own commands are portable, too

    own = {name.rpartition(".")[2] for name in portable._makers if name.startswith(("ledger.commands.", "ledger.claims."))}
    assert own == set(COMMANDS)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x93", b"\x92\xa4gone\x90"])
def test_what_is_no_command_here_is_none(data: bytes) -> None:
    """Damaged bytes, and commands of another version, are declined."""
    assert decode_command(data) is None


def test_what_cannot_be_carried_is_run_in_its_own_process(book: ledger.Ledger) -> None:
    """A plain function, an argument that cannot be recorded, and an unknown event stay here."""
    assert encode_command(lambda view: []) is None
    assert encode_command(commands.configure(EXPERIMENT, 1, None, {"x": object()})) is None
    assert encode_command(commands.record_on_trial(EXPERIMENT, 1, ledger.NoteAdded(3))) is None  # type: ignore[arg-type]
    carried = encode_command(commands.record_on_trial(EXPERIMENT, 1, ledger.UnknownEvent("Later", 1, {}, "", b"\x80")))
    assert carried is None or decode_command(carried) is None
