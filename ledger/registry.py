"""Event types: how a class becomes one, and what is known of each.

The registry maps the type's name, which is what the log stores, to its class. A name that is not registered is read as
``UnknownEvent`` and carried through, so that a ledger can always be read, copied and proved without its writer's code.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast, dataclass_transform, overload

import msgspec

from ledger.errors import InvalidValue
from ledger.values import check_text, unpack_extension

if TYPE_CHECKING:
    # What type checkers should know: subclasses are frozen dataclasses without having to say so.
    @dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
    class Event:
        __struct_fields__: ClassVar[tuple[str, ...]]

        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

        def __init_subclass__(cls, *, omit_defaults: bool = False, kw_only: bool = False) -> None: ...

else:

    class Event(msgspec.Struct, frozen=True, gc=False):
        """Base of all event types: a fact, named in the past tense, that never changes.

        Fields may be str, int, float, bool, bytes, None, lists, dicts, tuples, Decimal, UUID, datetime, or ``Any`` of these.
        Give a field that you add later a default, so that older records can be read; for any other change raise the
        schema version and register an upcaster.

        >>> import ledger
        >>> @ledger.event
        ... class CheckpointSaved(ledger.Event):
        ...     path: str
        ...     step: int = 0
        >>> CheckpointSaved("model-7.bin", step=7)
        CheckpointSaved(path='model-7.bin', step=7)
        """


class UnknownEvent(Event):
    """What a record holds when its type is not registered here, or its content does not fit the registered class.

    ``data`` is the content as far as it can be read without its class; ``problem`` says what did not fit (empty for a type
    that is not registered); ``raw`` is the content as recorded, byte for byte, so that a copy is the same event again.
    """

    type: str
    schema: int
    data: Any
    problem: str = ""
    raw: bytes = b""


class EventType(msgspec.Struct, frozen=True):
    """What the package knows of one event type."""

    name: str
    schema: int
    cls: type[Event]
    open_fields: dict[str, Any]  # name -> annotation of those that hold values of any type, packed one by one
    decoder: Any  # msgspec decoder of the payload
    tuple_fields: tuple[str, ...] = ()  # names of those typed as tuples, for which a list may be given

    @property
    def key(self) -> tuple[str, int]:
        """The type as blocks name it: its name and its schema version."""
        return self.name, self.schema


_by_name: dict[str, EventType] = {}
_by_class: dict[type, EventType] = {}
_generation = 0

E = TypeVar("E", bound=type[Event])


@overload
def event(cls: E) -> E: ...
@overload
def event(*, schema: int = 1, name: str | None = None) -> Callable[[E], E]: ...
def event(cls: E | None = None, *, schema: int = 1, name: str | None = None) -> E | Callable[[E], E]:
    """Register a class as an event type, under its own name.

    ``schema`` is its version: raise it when the meaning or the fields change, and register an upcaster from the
    version before (``ledger.upcaster``). Registering a class again from the same module replaces it (a notebook cell
    run twice); the same name from another module is refused.

    Raises InvalidValue for a class that is not an Event or whose fields cannot be recorded.
    """

    def register(cls: E) -> E:
        global _generation
        if not (isinstance(cls, type) and issubclass(cls, Event)):
            raise InvalidValue(f"{cls!r} is not an Event; write `class Name(ledger.Event)` under @ledger.event.")
        type_name = cls.__name__ if name is None else name
        check_type(type_name, schema)
        known = _by_name.get(type_name)
        if known is not None and known.cls.__module__ != cls.__module__:
            raise InvalidValue(
                f"the event type {type_name!r} is registered by {known.cls.__module__}; "
                f"register {cls.__module__}.{cls.__qualname__} with another name=."
            )
        try:
            decoder = msgspec.msgpack.Decoder(cls, ext_hook=unpack_extension)
            entry = EventType(type_name, schema, cls, open_fields(cast("Any", cls)), decoder, typed_tuples(cast("Any", cls)))
        except TypeError as error:
            raise InvalidValue(f"the fields of event type {type_name!r} cannot be recorded: {error}") from error
        _by_name[type_name] = _by_class[cls] = entry
        _generation += 1
        return cls

    return register if cls is None else register(cls)


_OPEN_HINTS = (Any, object, dict, list, tuple)
MAX_TYPE_BYTES = 120  # so that the header of a block with 512 types fits


def check_type(name: Any, schema: Any) -> None:
    """Refuse a type's name or schema version that no record could carry."""
    if type(name) is not str or not 0 < len(check_text(name, "the event type's name").encode()) <= MAX_TYPE_BYTES:
        raise InvalidValue(f"an event type is named {name!r:.150}; give a text of 1 to {MAX_TYPE_BYTES} bytes.")
    if type(schema) is not int or not 1 <= schema < 2**31:
        raise InvalidValue(f"the event type {name!r} has schema {schema!r}; give an int from 1.")


@functools.cache
def open_fields(cls: Any) -> dict[str, Any]:
    """Return the annotations of a struct's fields that hold values of any type, themselves or further down."""
    hints = typing.get_type_hints(cls)
    fields: tuple[str, ...] = cls.__struct_fields__
    return {field: hints[field] for field in fields if _mentions_any(hints[field], (cls,))}


@functools.cache
def typed_tuples(cls: Any) -> tuple[str, ...]:
    """Return the fields of a struct that are typed as tuples: arrays on disk, as those typed as lists are."""
    return tuple(name for name, hint in typing.get_type_hints(cls).items() if typing.get_origin(hint) is tuple)


def _mentions_any(hint: Any, seen: tuple[Any, ...]) -> bool:
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct) and hint not in seen:
        return any(_mentions_any(part, (*seen, hint)) for part in typing.get_type_hints(hint).values())
    return hint in _OPEN_HINTS or any(_mentions_any(part, seen) for part in typing.get_args(hint))


def type_of(event: Event) -> EventType:
    """Return what is known of the event's type; InvalidValue when it was not registered."""
    entry = _by_class.get(type(event))
    if entry is None:
        what = f"{type(event).__module__}.{type(event).__qualname__}"
        cure = "Put @ledger.event above its class." if isinstance(event, Event) else "Make it a class derived from ledger.Event."
        raise InvalidValue(f"{what} is not a registered event type. {cure}")
    return entry


def type_name(kind: str | type[Event]) -> str:
    """Return the name under which a class was registered; a name is returned as it is."""
    if isinstance(kind, str):
        return kind
    entry = _by_class.get(kind)
    return kind.__name__ if entry is None else entry.name


def type_names(types: str | type[Event] | Iterable[str | type[Event]] | None) -> frozenset[str] | None:
    """Return the names of types given as names or classes, one or several; None stays None."""
    if types is None:
        return None
    return frozenset(type_name(kind) for kind in ([types] if isinstance(types, str | type) else types))


def find_type(name: str) -> EventType | None:
    """Return the type registered under the name, or None."""
    return _by_name.get(name)


def all_types() -> dict[str, EventType]:
    """Return every registered type by name."""
    return dict(_by_name)


def generation() -> int:
    """Return a number that changes with every registration (decoders built from the registry depend on it)."""
    return _generation
