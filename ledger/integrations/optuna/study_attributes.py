"""Attributes of studies, imported; where they name trials by their ids, by those that the trials have in the ledger."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ledger.errors import InvalidValue
from ledger.integrations.optuna.source import SourceStudy
from ledger.integrations.optuna.storage import LedgerStorage

#: Of an experiment that was imported: where it was read, and what of its attributes was seen there.
NAMESPACE = "optuna.import"
#: System attributes with the id of a trial in their key, as optuna-dashboard writes them.
_ID_IN_KEY = re.compile(r"(dashboard:(?:artifacts:)?|preference:skip_trial:)(\d+)(:.*)?")
#: Those that hold the ids of trials: the parents of a generation, as samplers with generations remember them.
_IDS_IN_VALUE = re.compile(r".+:parent:\d+")


def set_attributes(
    storage: LedgerStorage, study_id: int, study: SourceStudy, ids: Mapping[int, int] | None = None
) -> list[str]:  # fmt: skip
    """Set what is new of the study's attributes, and return what cannot be recorded; what was changed here since stays.

    Those that name trials are set when ``ids`` are known, which maps the ids there to those here; the others before: they
    may name the objectives.
    """
    experiment = storage.experiment_of(study_id)
    setters = {"user": storage.set_study_user_attr, "system": storage.set_study_system_attr}
    seen = experiment.state.attributes.get(NAMESPACE, {}).get("seen", {})
    now, problems = dict(seen), list[str]()
    for kind, key, value in _plain(study) if ids is None else _of_trials(study, ids):
        place = f"{kind} {key}"
        now[place] = _digest(value)
        if seen.get(place) == now[place]:
            continue
        try:
            setters[kind](study_id, key, value)
        except InvalidValue as error:
            problems.append(f"the attribute {key!r:.100} cannot be recorded: {error}")
    if now != seen:
        experiment.set_attributes({"seen": now}, namespace=NAMESPACE)
    return problems


def are_as_seen(study: SourceStudy, seen: Mapping[str, str]) -> bool:
    """Say whether the attributes that were imported are those of a study; the ones that name trials are not compared."""
    now = {f"{kind} {key}": _digest(value) for kind, key, value in _plain(study)}
    return all(now.get(place) == digest for place, digest in seen.items() if not _names_trials(place.partition(" ")[2]))


def with_new_ids(key: str, value: Any, ids: Mapping[int, int]) -> tuple[str, Any] | None:
    """Return an attribute that names trials with the ids that they have in the ledger; None when its trial is not there.

    >>> with_new_ids("dashboard:7:note_ver", 1, {7: 1200}), with_new_ids("NSGAIISampler:parent:2", [7, 8], {7: 1200})
    (('dashboard:1200:note_ver', 1), ('NSGAIISampler:parent:2', [1200]))
    """
    found = _ID_IN_KEY.fullmatch(key)
    if found is not None:
        identifier = ids.get(int(found.group(2)))
        return None if identifier is None else (f"{found.group(1)}{identifier}{found.group(3) or ''}", value)
    if isinstance(value, list) and all(type(each) is int for each in value):
        return key, [ids[each] for each in value if each in ids]
    return key, value


def _names_trials(key: str) -> bool:
    return _ID_IN_KEY.fullmatch(key) is not None or _IDS_IN_VALUE.fullmatch(key) is not None


def _plain(study: SourceStudy) -> Iterator[tuple[str, str, Any]]:
    for key, value in study.user_attrs.items():
        yield "user", key, value
    for key, value in study.system_attrs.items():
        if not _names_trials(key):
            yield "system", key, value


def _of_trials(study: SourceStudy, ids: Mapping[int, int]) -> Iterator[tuple[str, str, Any]]:
    for key, value in study.system_attrs.items():
        if _names_trials(key) and (found := with_new_ids(key, value, ids)) is not None:
            yield "system", *found


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
