"""What a program is given: its files, and its environment variables."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ledger.worker.template import plain_json, text_of

_MOST_VARIABLE_BYTES = 64 * 1024  # Linux takes 128 KiB; what is longer is in the config file only


class Places(NamedTuple):
    """The files of one attempt, in a directory of its own."""

    directory: Path
    stdout: Path
    stderr: Path
    config: Path
    results: Path
    output: Path


def make_places(directory: Path, config: Mapping[str, Any]) -> Places:
    """Make the files of an attempt: its config as JSON, and a directory for what it makes."""
    directory.mkdir()
    names = ("stdout.txt", "stderr.txt", "config.json", "results.json", "output")
    places = Places(directory, *(directory / name for name in names))
    places.config.write_text(json.dumps(plain_json(config), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    places.output.mkdir()
    return places


def variables_for(
    places: Places, config: Mapping[str, Any], path: str, experiment: str, trial_id: int, attempt: int
) -> dict[str, str]:
    """Return the environment of the program: this process's, and what tells it of its trial."""
    own = {
        "LEDGER_PATH": path, "LEDGER_EXPERIMENT": experiment, "LEDGER_TRIAL": str(trial_id), "LEDGER_ATTEMPT": str(attempt),
        "LEDGER_CONFIG": str(places.config), "LEDGER_RESULTS": str(places.results), "LEDGER_OUTPUT": str(places.output),
    }  # fmt: skip
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_PARAM_")}
    # Else Python writes to a pipe in blocks, and nothing could be seen of it while it runs.
    return {"PYTHONUNBUFFERED": "1", **inherited, **parameter_variables(config), **own}


def parameter_variables(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters as environment variables; those that no variable can hold are left out.

    >>> parameter_variables({"lr": 0.1, "batch-size": 32, "nul": chr(0)})
    {'LEDGER_PARAM_LR': '0.1', 'LEDGER_PARAM_BATCH_SIZE': '32'}
    """
    texts = {"LEDGER_PARAM_" + re.sub(r"\W", "_", name).upper(): text_of(value) for name, value in config.items()}
    return {
        name: text for name, text in texts.items() if "\0" not in text and len(text.encode()) <= _MOST_VARIABLE_BYTES
    }  # fmt: skip
