"""Attributes: values that Optuna hands over, as values that can be recorded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ledger.errors import InvalidValue
from ledger.events import AttributesSet
from ledger.values import pack


def recordable(value: Any, what: str) -> Any:
    """Return the value, or the one that JSON makes of it where it cannot be recorded as it is (a subclass of str, say).

    Raises InvalidValue for what is neither.

    >>> from collections import OrderedDict
    >>> recordable((1, "a"), "x"), recordable(OrderedDict(a=1), "x")
    ((1, 'a'), {'a': 1})
    """
    try:
        pack(value, what)
    except InvalidValue:
        try:
            return json.loads(json.dumps(value))
        except (TypeError, ValueError, RecursionError):
            pass
        raise
    return value


def attributes_set(attributes: Mapping[str, Any], namespace: str) -> AttributesSet:
    """Return the event that sets attributes to the values, of which None is one."""
    values = {name: recordable(value, f"the attribute {name!r}") for name, value in attributes.items()}
    return AttributesSet(values, namespace, [name for name, value in values.items() if value is None])
