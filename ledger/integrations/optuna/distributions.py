"""Distributions: those of parameters as values that can be recorded, and the same again."""

from __future__ import annotations

import functools
import warnings
from typing import Any, NamedTuple

from optuna import distributions as optuna_distributions
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from ledger.integrations.optuna.attributes import recordable
from ledger.values import encode_value

_CLASSES: dict[str, type[Any]] = {cls.__name__: cls for cls in optuna_distributions.DISTRIBUTION_CLASSES}
_PLAIN = (type(None), bool, int, float, str)
_MOST_KEPT = 16_384
_made: dict[bytes, BaseDistribution | None] = {}


class Described(NamedTuple):
    """A distribution as a value that can be recorded, which nobody changes."""

    value: dict[str, Any]
    encoded: bytes  # the value's bytes: equal for those that are equal, types and all

    def is_same(self, other: Any) -> bool:
        """Say whether another value describes the same distribution."""
        return bool(other == self.value) and (self.value["name"] not in _MIXED or encode_value(other) == self.encoded)


#: Distributions whose attributes may be equal and yet of other types (1, 1.0 and True).
_MIXED = frozenset({CategoricalDistribution.__name__})


def describe(distribution: BaseDistribution) -> Described:
    """Return the distribution as a value: its class and what that is made with.

    >>> from optuna.distributions import FloatDistribution
    >>> sorted(describe(FloatDistribution(0.0, 1.0)).value["attributes"].items())
    [('high', 1.0), ('log', False), ('low', 0.0), ('step', None)]
    """
    cls = type(distribution)
    if cls is FloatDistribution or cls is IntDistribution:  # most of them, again and again
        return _describe_numbers(cls, distribution.low, distribution.high, distribution.log, distribution.step)
    return _described(cls, dict(distribution._asdict()))


@functools.lru_cache(maxsize=1024, typed=True)
def _describe_numbers(cls: type[Any], low: Any, high: Any, log: Any, step: Any) -> Described:
    return _described(cls, {"low": low, "high": high, "log": log, "step": step})


def _described(cls: type[Any], attributes: dict[str, Any]) -> Described:
    value = {"name": cls.__name__, "attributes": recordable(attributes, "the distribution")}
    return Described(value, encode_value(value))


def distribution_of(description: Any) -> BaseDistribution | None:
    """Return the distribution again, the same object for equal descriptions, which nobody changes; None for no description."""
    key = encode_value(description, "the distribution")
    if key not in _made:
        if len(_made) >= _MOST_KEPT:
            _made.clear()
        _made[key] = _make(description)
    return _made[key]


def _make(description: Any) -> BaseDistribution | None:
    try:
        cls, attributes = _CLASSES[description["name"]], dict(description["attributes"])
        if cls is CategoricalDistribution:
            attributes["choices"] = tuple(attributes["choices"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said when it was made first: of choices that no other storage could keep
            return cls(**attributes)
    except (KeyError, TypeError, ValueError, AssertionError):
        return None  # it is an attribute like others: somebody may have set it to anything


def stand_in(value: Any, known: BaseDistribution | None) -> BaseDistribution | None:
    """Return the distribution of a parameter of which only the study's is recorded: that one, if the value is of its kind.

    Else, for a value that somebody has added by hand, the categorical one of this value; None for a value that can be no
    parameter of Optuna's.
    """
    kind = type(value)
    if known is not None:
        if type(known) is not CategoricalDistribution:
            if kind is float or kind is int:
                return known
        elif _has_choice(known, value):
            return known
    return CategoricalDistribution((value,)) if kind in _PLAIN else None


def _has_choice(distribution: CategoricalDistribution, value: Any) -> bool:
    try:
        distribution.to_internal_repr(value)
    except ValueError:
        return False
    return True


def internal_of(distribution: BaseDistribution, value: Any) -> float:
    """Return the internal representation of a value: of equal choices (1, True) that of its own type."""
    if type(distribution) is CategoricalDistribution:
        for index, choice in enumerate(distribution.choices):
            if type(choice) is type(value) and choice == value:
                return index
    return distribution.to_internal_repr(value)  # type: ignore[no-any-return]
