"""Savers: how an object becomes bytes, and an object again.

Those of the package are in ``ledger.artifacts.formats``. Others are registered by the code that knows the type.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from ledger.artifacts.formats import OCTETS, SAVERS, Load, Save, Saver, saver_of_package
from ledger.errors import InvalidValue, LedgerError, LoadError, PickleRefused
from ledger.values import check_label, with_article

_MAX_NAME = 120
_by_name: dict[str, Saver] = {}
_by_type: dict[type, Saver] = {}


def register_saver(
    name: str, cls: type | None = None, *, save: Save, load: Load, media_type: str = OCTETS, module: str | None = None
) -> None:
    """Register how objects of a class, and of classes derived from it, are saved as artifacts and loaded again.

    ``save(value, file)`` writes to a binary file, which cannot be sought in; ``load(file)`` reads from one, which can, and
    whose content has been proved. Without ``cls`` the saver is used where it is asked for: ``log_artifact(..., saver=name)``.

    Artifacts carry the saver's name and the module that registered it, ``module``, by default the one that calls this. So
    another process can load them: ``Artifact.load`` imports that module, from where this Python finds it. Do not register
    in a script that is run (``__main__``), which nobody can import.

    Registering again from the same module replaces; raises InvalidValue for a name that is taken.

    >>> import fractions, ledger
    >>> def write(value, file):
    ...     file.write(f"{value.numerator}/{value.denominator}".encode())
    >>> register_saver("fraction", fractions.Fraction, save=write, load=lambda file: fractions.Fraction(file.read().decode()))
    >>> exp = ledger.open("memory:").experiment("demo")
    >>> exp.log_artifact(fractions.Fraction(1, 3), name="share").load()
    Fraction(1, 3)
    """
    if module is None:
        module = str(sys._getframe(1).f_globals.get("__name__", "__main__"))
    if type(name) is not str or not 0 < len(check_label(name, "the saver's name")) <= _MAX_NAME:
        raise InvalidValue(f"a saver is named {name!r:.150}; give a text of 1 to {_MAX_NAME} characters.")
    if cls is not None and not isinstance(cls, type):
        raise InvalidValue(f"the saver {name!r} is for {cls!r}, which is no class; give the class itself.")
    if not callable(save) or not callable(load):
        raise InvalidValue(f"the saver {name!r} needs two functions: save(value, file) and load(file).")
    known = find_saver(name)
    if known is not None and known.module != module:
        owner = f"is registered by {known.module}" if known.module else "is the package's own"
        raise InvalidValue(f"the saver {name!r} {owner}; register this one under another name.")
    for other in [other for other, saver in _by_type.items() if saver.name == name]:
        del _by_type[other]
    saver = Saver(name, save, load, check_label(media_type, "the media type"), module)
    _by_name[name] = saver
    if cls is not None:
        _by_type[cls] = saver


def find_saver(name: str) -> Saver | None:
    """Return the saver of that name, or None."""
    return SAVERS.get(name) or _by_name.get(name)


def saver_named(name: str) -> Saver:
    """Return the saver of that name; raises InvalidValue, naming those that there are."""
    saver = find_saver(name)
    if saver is None:
        raise InvalidValue(
            f"there is no saver {name!r}; there are {', '.join([*SAVERS, *_by_name])}. ledger.register_saver adds one."
        )
    return saver


def saver_for(value: Any) -> Saver:
    """Return the saver for the value's type: a registered one for it or its nearest base, else one of the package.

    Raises InvalidValue when there is none.
    """
    for cls in type(value).__mro__:
        if cls in _by_type:
            return _by_type[cls]
    found = saver_of_package(value)
    if found is None:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise InvalidValue(
            f"no saver is known for {kind}. Register one: ledger.register_saver(name, {type(value).__qualname__}, save=..., "
            "load=...); or save a file or bytes made of it; or ask for saver='pickle', which loads with allow_pickle=True only."
        )
    return found


def write_object(saver: Saver, value: Any, file: BinaryIO, what: str) -> None:
    """Let the saver write the value; raises InvalidValue for what it cannot write."""
    try:
        saver.save(value, file)
    except (LedgerError, OSError):
        raise  # a full disk among them
    except Exception as error:
        # A saver is anybody's code, and may raise anything; so may an object that is asked to pickle itself.
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise InvalidValue(
            f"{what} is {with_article(kind)}, which the saver {saver.name!r} cannot write: {type(error).__name__}: {error}. "
            "Nothing was recorded. Save a part of it, or register a saver for its type."
        ) from error


def read_object(name: str, module: str, file: Callable[[], BinaryIO], what: str, *, allow_pickle: bool) -> Any:
    """Load what the saver of that name wrote; ``file`` opens it, proved, and is called when all else is clear.

    Raises LoadError, PickleRefused.
    """
    saver = find_saver(name) or _imported(name, module, what)
    if saver.load is None:
        raise LoadError(
            f"{what} was written by the saver {name!r}, which cannot load. Use .save_to(path), .open(), .read_bytes()."
        )
    if saver.runs_code and not allow_pickle:
        raise PickleRefused(
            f"{what} is a pickle, and loading a pickle runs whatever code is in it, as you: anybody who can write to the ledger "
            "could have put it there. If you trust all of them: .load(allow_pickle=True)."
        )
    with file() as opened:
        try:
            return saver.load(opened)
        except (LedgerError, OSError):
            raise
        except ModuleNotFoundError as error:
            needed = str(error.name).partition(".")[0]
            cure = (
                "which MLXP pickles with: pip install 'experiment-ledger[mlxp]'" if needed == "dill" else "which it was made with"
            )
            raise LoadError(
                f"{what} cannot be loaded, for the module {error.name!r} is not found. Install {needed}, {cure}; .read_bytes() "
                "returns the bytes."
            ) from error
        except Exception as error:
            # A loader is anybody's code, and may raise anything.
            raise LoadError(
                f"{what} could not be loaded by the saver {name!r}: {type(error).__name__}: {error}. Its bytes are "
                "those that were saved; .read_bytes() returns them."
            ) from error


def _imported(name: str, module: str, what: str) -> Saver:
    cure = f"Register how to load it in this process first: ledger.register_saver({name!r}, save=..., load=...)"
    if not module:
        raise LoadError(
            f"{what} is of the type {name!r} of the tool that it was imported from, or of a newer version of this package. "
            f"{cure}; .read_bytes() returns the bytes."
        )
    if module == "__main__":
        raise LoadError(
            f"{what} was written by the saver {name!r}, registered in a script that was run. {cure}; .read_bytes() returns the "
            "bytes."
        )
    try:
        importlib.import_module(module)
    except Exception as error:
        # The module is anybody's code.
        raise LoadError(
            f"{what} was written by the saver {name!r}, which the module {module!r} registers, and that cannot be imported here "
            f"({type(error).__name__}: {error}). Install it, or put it on the path; .read_bytes() returns the bytes."
        ) from error
    saver = find_saver(name)
    if saver is None:
        raise LoadError(
            f"{what} was written by the saver {name!r}, which the module {module!r} registered then, and does not now. "
            "Register it there again; .read_bytes() returns the bytes."
        )
    return saver
