"""Phrases: values and texts as the words of a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger.cli.output import printable, shown

_LONGEST_VALUE = 80
LONGEST_TEXT = 400
_MOST_PAIRS = 20


def because(reason: str | None) -> str:
    """Return the reason as the end of a sentence.

    >>> because("the fan was off."), because(None)
    (', because the fan was off', '')
    """
    text = printable(reason or "").strip().rstrip(".")
    return f", because {text}" if text else ""


def listed(values: Mapping[Any, Any]) -> str:
    """Return a dict as the words of a sentence.

    >>> listed({"cache_mb": 64, "journal": "wal", "fsync": None})
    'cache_mb=64, journal=wal, fsync=None'
    """
    pairs = [f"{printable(str(key))}={value_text(value)}" for key, value in list(values.items())[:_MOST_PAIRS]]
    if len(values) > _MOST_PAIRS:
        pairs.append(f"and {len(values) - _MOST_PAIRS} more")
    return ", ".join(pairs)


def value_text(value: Any) -> str:
    """Return one value as the word of a sentence, cut when it is long.

    >>> value_text(None), value_text(""), value_text(True), value_text("a b")
    ('None', "''", 'yes', 'a b')
    """
    return cut(shown(value), _LONGEST_VALUE) or repr(value)


def cut(text: str, longest: int) -> str:
    """Return the text, or its beginning when it is longer than that."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def quoted(text: str) -> str:
    """Return a text in quotation marks, on one line."""
    return f'"{cut(printable(text), LONGEST_TEXT)}"'
