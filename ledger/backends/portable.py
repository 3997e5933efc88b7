"""Portable commands: those that another process may run, because they are named and made from values alone.

A process that waits for the write lock asks the one that has it to run its commands along with its own; see
``ledger.backends.delegation``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import msgspec

from ledger.backends.base import Command, Staged, View
from ledger.codec import decode_event, encode_event
from ledger.errors import InvalidValue, LedgerError
from ledger.registry import Event, UnknownEvent
from ledger.values import decode_value, encode_value

P = ParamSpec("P")

_makers: dict[str, Callable[..., Command]] = {}


class PortableCommand:
    """A command, with the portable function that makes it elsewhere and what that is given there."""

    __slots__ = ("_command", "arguments", "name")

    def __init__(self, make: Callable[..., Command], arguments: tuple[Any, ...], command: Command) -> None:
        self.name, self.arguments, self._command = _name_of(make), arguments, command

    def __call__(self, view: View) -> Sequence[Staged]:
        return self._command(view)


def portable(make: Callable[P, Command]) -> Callable[P, Command]:
    """Let other processes run the commands that a function makes: it is given positions only, events or recordable values.

    Commands made from anything else work as well, in the process that made them alone.

    >>> from ledger import NoteAdded
    >>> @portable
    ... def note(stream, text):
    ...     return lambda view: [(stream, NoteAdded(text))]
    >>> decode_command(encode_command(note("diary", "hello")))(None)
    [('diary', NoteAdded(text='hello'))]
    """
    _makers[_name_of(make)] = make

    @functools.wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> Command:
        command = make(*args, **kwargs)
        return command if kwargs else PortableCommand(make, args, command)

    return made


def _name_of(make: Callable[..., Command]) -> str:
    return f"{make.__module__}.{make.__qualname__}"


class _EventGiven(msgspec.Struct, array_like=True, tag_field="given", tag="event"):
    name: str
    schema: int
    data: bytes


class _ValueGiven(msgspec.Struct, array_like=True, tag_field="given", tag="value"):
    data: bytes


class _Call(msgspec.Struct, array_like=True):
    name: str
    arguments: list[_EventGiven | _ValueGiven]


_encoder, _calls = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(_Call)


def encode_command(command: Command) -> bytes | None:
    """Return a portable command as bytes; None for one that cannot be run elsewhere."""
    if type(command) is not PortableCommand:
        return None
    try:
        return _encoder.encode(_Call(command.name, [_given(argument) for argument in command.arguments]))
    except LedgerError:  # what cannot be recorded: it is refused where the command is run
        return None


def decode_command(data: bytes) -> Command | None:
    """Make the command again; None for one that this process does not know, or not in this form."""
    try:
        call = _calls.decode(data)
        arguments = [_taken(argument) for argument in call.arguments]
        make = _makers.get(call.name)
        return None if make is None else make(*arguments)
    except Exception:  # noqa: BLE001 - what another process, of another version, has said must not fail this one's commit
        return None


def _given(argument: Any) -> _EventGiven | _ValueGiven:
    if isinstance(argument, Event):
        payload = encode_event(argument)
        return _EventGiven(payload.type.name, payload.type.schema, payload.data)
    return _ValueGiven(encode_value(argument))


def _taken(argument: _EventGiven | _ValueGiven) -> Any:
    if isinstance(argument, _EventGiven):
        return decode_same(argument.name, argument.schema, argument.data)
    return decode_value(argument.data)


def decode_same(name: str, schema: int, data: bytes) -> Event:
    """Decode an event that this process would record in the very same bytes; InvalidValue for any other.

    Its class here may be an older one, which knows fewer of its fields.
    """
    event = decode_event(name, schema, data)
    payload = encode_event(event)
    if type(event) is UnknownEvent or (payload.type.schema, payload.data) != (schema, data):
        raise InvalidValue(f"{name} is another event in this process.")
    return event
