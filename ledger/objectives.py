"""Objectives: which results an experiment is about, in which direction, and within which bounds."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple, cast, get_args

from ledger.errors import InvalidValue
from ledger.events import Bounds, Direction
from ledger.values import check_text, with_article


class Objective(NamedTuple):
    """A target with bounds: a trial that reports a value outside of them is marked FAILED.

    Both bounds are acceptable values themselves; None is no bound. NaN is outside of any. Where there are no bounds the
    direction alone will do.

    >>> import ledger
    >>> book = ledger.open("memory:")
    >>> exp = book.experiment("demo", objectives={"latency_ms": ledger.Objective("min", lower=0, upper=1000)})
    >>> exp.objectives, str(exp.bounds["latency_ms"])
    ({'latency_ms': 'min'}, '0..1000')
    """

    direction: Direction
    lower: float | None = None
    upper: float | None = None


class Targets(NamedTuple):
    """Objectives as they are recorded."""

    objectives: dict[str, Direction]
    bounds: dict[str, Bounds]


def check_objectives(objectives: Mapping[str, Any] | None) -> Targets | None:
    """Return the objectives as they are recorded; InvalidValue for what is none."""
    if objectives is None:
        return None
    if not isinstance(objectives, Mapping):
        raise InvalidValue(f"the objectives are {objectives!r}; give a dict from names to 'min', 'max' or an Objective.")
    targets = Targets({}, {})
    for name, given in objectives.items():
        objective = given if isinstance(given, Objective) else Objective(given)
        if type(name) is not str or objective.direction not in get_args(Direction):
            raise InvalidValue(f"the objective {name!r} has direction {objective.direction!r}; write 'min' or 'max'.")
        check_text(name, "the objective's name")
        targets.objectives[name] = cast("Direction", str(objective.direction))
        bounds = Bounds(*(_bound(name, bound) for bound in objective[1:]))
        if bounds.lower is not None and bounds.upper is not None and bounds.lower > bounds.upper:
            raise InvalidValue(f"the objective {name!r} has the bounds {bounds}; the lower one comes first.")
        if bounds != Bounds():
            targets.bounds[name] = bounds
    return targets


def _bound(name: str, bound: Any) -> float | None:
    if bound is None:
        return None
    if isinstance(bound, bool) or not isinstance(bound, int | float) or bound != bound:
        raise InvalidValue(f"the objective {name!r} has the bound {bound!r}; give a number, or None for no bound.")
    try:
        return float(bound)
    except OverflowError:
        raise InvalidValue(f"the objective {name!r} has a bound that no float can hold; give None for no bound.") from None


def out_of_bounds(bounds: Mapping[str, Bounds], results: Mapping[str, Any]) -> str | None:
    """Say which result is outside of its bounds, or None when all are within; what is no number is outside.

    >>> out_of_bounds({"latency_ms": Bounds(upper=10)}, {"latency_ms": 12.5})
    'latency_ms = 12.5 is outside of its bounds ..10'
    """
    for name, allowed in bounds.items():
        if name in results and not _is_within(allowed, value := _plain(results[name])):
            return f"{name} = {_shown(value)} is outside of its bounds {allowed}"
    return None


def _plain(value: Any) -> Any:
    """Return the Python number of a numpy scalar, as which it is recorded; other values as they are."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def _is_within(allowed: Bounds, value: Any) -> bool:
    if isinstance(value, Decimal):
        return not value.is_nan() and allowed.contains(cast("float", value))
    return isinstance(value, int | float) and not isinstance(value, bool) and allowed.contains(value)


def _shown(value: Any) -> str:
    try:
        return f"{value!r:.100}"
    except ValueError:  # an int of so many digits that Python refuses to write it
        return f"{with_article(type(value).__name__)} too long to show"
