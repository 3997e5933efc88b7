"""Results of a program: its last line of standard output that is a JSON object, or a file that it writes."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

TAIL_BYTES = 1 << 20  # so much of the end of standard output is looked at; a record holds half of it
_SHOWN = 200
_STATUS = "status"
_STATUSES = frozenset({"SUCCEEDED", "FAILED", "PRUNED"})


class BadResults(Exception):
    """What the program gave as its results cannot be taken; the message says what, and how to do it right."""


class Results(NamedTuple):
    """What a program gave: its results, and the status of its trial, which it may choose."""

    values: dict[str, Any]
    status: str = "SUCCEEDED"


class ResultSource(enum.StrEnum):
    """Where results come from; ``auto``: the file if the program has written one, else standard output."""

    AUTO = "auto"
    STDOUT = "stdout"
    FILE = "file"
    NONE = "none"


def read_results(
    source: ResultSource, stdout: Path, file: Path, objectives: Iterable[str], *, allow_empty: bool = False
) -> Results:
    """Return the results of a program that has ended well, and the status that it gives its trial.

    That is a member ``status`` with the value PRUNED, FAILED or SUCCEEDED; any other value is a result as the others are.

    Raises BadResults for what is no JSON object, and, unless ``allow_empty``, where an objective is missing or no number, or
    where there are none at all though the source was named.
    """
    if source is ResultSource.NONE:
        return Results({})
    found: dict[str, Any] | None = None
    if source is not ResultSource.STDOUT and file.exists():
        found = _parsed(file.read_bytes(), "the result file")
    elif source is not ResultSource.FILE:
        found = last_object(_tail(stdout))
    status = "SUCCEEDED"
    if found is not None and isinstance(found.get(_STATUS), str) and found[_STATUS] in _STATUSES:
        status = found.pop(_STATUS)
    if allow_empty or status != "SUCCEEDED":
        return Results(found or {}, status)
    if found is None and source is not ResultSource.AUTO:
        wanted = "wrote no file $LEDGER_RESULTS" if source is ResultSource.FILE else "printed no line that is a JSON object"
        raise BadResults(f"the program {wanted}; --allow-empty-results takes that for a success.")
    _check_objectives(found, objectives)
    return Results(found or {})


def _check_objectives(found: dict[str, Any] | None, objectives: Iterable[str]) -> None:
    missing = [name for name in objectives if found is None or name not in found]
    if missing:
        gave = "no results" if found is None else f"results without {', '.join(map(repr, missing))}"
        example = json.dumps(dict.fromkeys(missing, 0.5))
        raise BadResults(
            f"the program gave {gave}, an objective of the experiment. Let it print a last line such as {example}, or write "
            "that to the file $LEDGER_RESULTS; --allow-empty-results takes it for a success."
        )
    for name in objectives:
        value = (found or {})[name]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadResults(f"the objective {name!r} came as {json.dumps(value):.{_SHOWN}}, which is no number.")


def last_object(text: bytes) -> dict[str, Any] | None:
    """Return the last line that is a JSON object, None when there is none; lines without a brace in front are passed over.

    Raises BadResults when that line does not parse: an earlier one in its place would be a wrong result.

    >>> last_object(b'loading\\n{"loss": 0.5}\\nbye\\n')
    {'loss': 0.5}
    """
    for line in reversed(text.splitlines()):
        if line.lstrip().startswith(b"{"):
            return _parsed(line.strip(), "the last line of standard output with a brace in front")
    return None


def _parsed(data: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        shown = data.decode(errors="backslashreplace")[:_SHOWN]
        raise BadResults(f"{what} is no JSON ({error}): {shown}") from None
    if not isinstance(found, dict):
        raise BadResults(f'{what} is a JSON {type(found).__name__}; give an object such as {{"loss": 0.5}}.')
    return found


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - TAIL_BYTES, 0))
        return file.read()
