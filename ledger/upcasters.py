"""Upcasters: read the records of older schema versions as the present ones.

An upcaster takes the content of one version, as a dict, and returns that of the next. Records are never rewritten:
the step runs when they are read, and hashes stay those of the bytes as recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ledger.errors import InvalidValue

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

_steps: dict[tuple[str, int], Upcaster] = {}


def upcaster(type_name: str, from_schema: int) -> Callable[[Upcaster], Upcaster]:
    """Register the step from ``from_schema`` to the version after it.

    >>> import ledger
    >>> @ledger.upcaster("ModelPublished", 1)
    ... def add_region(data):
    ...     return {**data, "region": "eu"}
    """

    def register(step: Upcaster) -> Upcaster:
        _steps[type_name, from_schema] = step
        return step

    return register


def upcast(type_name: str, schema: int, to_schema: int, data: dict[str, Any]) -> dict[str, Any]:
    """Take the content from one version to another, one step each.

    Raises InvalidValue when a step is missing, or when the record is newer than the class.
    """
    if schema > to_schema:
        raise InvalidValue(
            f"{type_name} was recorded with schema {schema}, newer than {to_schema} here; upgrade the code that defines it."
        )
    for version in range(schema, to_schema):
        step = _steps.get((type_name, version))
        if step is None:
            raise InvalidValue(
                f"no upcaster for {type_name} from schema {version} to {version + 1}; register one with "
                f"@ledger.upcaster({type_name!r}, {version})."
            )
        data = step(data)
    return data
