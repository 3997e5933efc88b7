"""What the installed mlos_bench's interface has: it grows, and its version does not tell."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


@functools.lru_cache(maxsize=64)
def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def accepts(function: Callable[..., Any], parameter: str) -> bool:
    """Say whether a function takes the parameter.

    >>> accepts(sorted, "key"), accepts(sorted, "trial_runner_id")
    (True, False)
    """
    return parameter in _parameters(function)


def accepted(function: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
    """Return those of the arguments that a function takes."""
    names = _parameters(function)
    return {name: value for name, value in arguments.items() if name in names}
