"""Names of streams, and whom a stream is about."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from ledger.errors import InvalidValue
from ledger.values import encode_value

MAX_TRIAL_ID = 2**62
CAPTURES = "capture/"  # what the names of the streams of captures begin with


class Subject(NamedTuple):
    """Whom a stream is about: an experiment, or one trial of it."""

    experiment_id: UUID
    trial_id: int | None


def experiment_stream(experiment_id: UUID) -> str:
    """Return the name of an experiment's stream."""
    return f"experiment/{experiment_id.hex}"


def trial_stream(experiment_id: UUID, trial_id: int) -> str:
    """Return the name of a trial's stream."""
    return f"trial/{experiment_id.hex}/{trial_id}"


def capture_stream(kind: str, digest: str) -> str:
    """Return the name of the stream that holds one capture."""
    return f"{CAPTURES}{kind}/{digest}"


def capture_digest(content: Mapping[str, Any]) -> str:
    """Return the digest of a capture's content: the first 128 bits of the SHA-256 of its encoding, as hexadecimal."""
    return hashlib.sha256(encode_value(content, "the capture")).hexdigest()[:32]


@functools.lru_cache(maxsize=256)
def _experiment_id(identifier: str) -> UUID:
    found = UUID(hex=identifier)
    if found.hex != identifier:  # of the ways to write it, one is in streams
        raise ValueError(identifier)
    return found


@functools.lru_cache(maxsize=4096)
def subject_of(stream: str) -> Subject | None:
    """Say whom the stream is about; None for streams of the caller's naming.

    Raises InvalidValue for a name in the reserved spaces ``experiment/`` and ``trial/`` that is not well-formed.
    """
    kind, separator, rest = stream.partition("/")
    if not separator or kind not in ("experiment", "trial"):
        return None
    identifier, _, number = rest.partition("/")
    try:
        experiment_id = _experiment_id(identifier)
        trial_id = None if kind == "experiment" else int(number)
        is_well_formed = rest == identifier if trial_id is None else 0 <= trial_id <= MAX_TRIAL_ID and str(trial_id) == number
    except ValueError:
        is_well_formed = False
    if not is_well_formed:
        raise InvalidValue(
            f"the stream {stream!r} is not well-formed: names that begin with 'experiment/' and 'trial/' are kept for "
            "experiments and trials. Name your stream otherwise."
        )
    return Subject(experiment_id, trial_id)


def trial_number(stream: str) -> int:
    """Return the number of the trial whose stream this is; raises InvalidValue for any other stream."""
    subject = subject_of(stream)
    if subject is None or subject.trial_id is None:
        raise InvalidValue(f"{stream!r} is no stream of a trial.")
    return subject.trial_id
