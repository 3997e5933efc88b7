"""The package's own savers: bytes, text, JSON, numpy arrays, data frames, figures, and pickle for who asks for it.

Each imports what it needs when it is used.
A value is saved by one of them only when it comes back as it was: exact types, no subclasses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

from ledger.errors import InvalidValue
from ledger.values import check_text, decode_value, encode_value, from_json, to_json

OCTETS = "application/octet-stream"

Save = Callable[[Any, BinaryIO], object]
Load = Callable[[BinaryIO], Any]


class Saver(NamedTuple):
    """How objects of a type are saved and loaded; ``module`` registers it, empty for one of the package.

    ``load`` is None where the way back is none (a picture of a plot); ``runs_code`` where loading may run what is in the
    file.
    """

    name: str
    save: Save
    load: Load | None
    media_type: str = OCTETS
    module: str = ""
    runs_code: bool = False


def _save_text(value: str, file: BinaryIO) -> None:
    file.write(check_text(value, "the text").encode())


def _save_json(value: Any, file: BinaryIO) -> None:
    import json

    exact = to_json(decode_value(encode_value(value, "the value")))  # numpy's scalars are Python's numbers then
    for piece in json.JSONEncoder(ensure_ascii=False, indent=1).iterencode(exact):
        file.write(piece.encode())
    file.write(b"\n")


def _load_json(file: BinaryIO) -> Any:
    import json

    return from_json(json.load(file))


def _save_array(value: Any, file: BinaryIO) -> None:
    import numpy as np

    if value.dtype.hasobject:
        raise InvalidValue(
            f"the array has dtype {value.dtype}, whose elements are Python objects. Give it a dtype of numbers or fixed-width "
            "texts (.astype), or save a list (.tolist())."
        )
    np.save(file, value, allow_pickle=False)


def _load_array(file: BinaryIO) -> Any:
    import numpy as np

    loaded = np.load(file, allow_pickle=False)
    return loaded if isinstance(loaded, np.ndarray) else dict(loaded)  # an archive of arrays (.npz), logged as a file


def _save_frame(value: Any, file: BinaryIO) -> None:
    import importlib.util

    if importlib.util.find_spec("pyarrow") is None:
        raise InvalidValue(
            "a data frame is saved as Parquet, which needs pyarrow: pip install 'experiment-ledger[parquet]'. Or save "
            "frame.to_csv() as text."
        )
    value.to_parquet(file, engine="pyarrow")


def _load_frame(file: BinaryIO) -> Any:
    import pandas as pd

    return pd.read_parquet(file, engine="pyarrow")


def _save_figure(value: Any, file: BinaryIO) -> None:
    value.savefig(file, format="png")


def _save_pickle(value: Any, file: BinaryIO) -> None:
    import pickle

    pickle.dump(value, file, protocol=5)


def _load_pickle(file: BinaryIO) -> Any:
    import pickle

    return pickle.load(file)


SAVERS = {
    saver.name: saver
    for saver in (
        Saver("bytes", lambda value, file: file.write(value), lambda file: file.read()),
        Saver("text", _save_text, lambda file: file.read().decode(), "text/plain; charset=utf-8"),
        Saver("json", _save_json, _load_json, "application/json"),
        Saver("numpy", _save_array, _load_array, "application/x-npy"),
        Saver("parquet", _save_frame, _load_frame, "application/vnd.apache.parquet"),
        Saver("figure", _save_figure, None, "image/png"),
        Saver("pickle", _save_pickle, _load_pickle, "application/x-python-pickle", runs_code=True),
    )
}

_JSON = {"dict", "list", "tuple", "int", "float", "bool", "NoneType"}
_BY_TYPE = {
    ("builtins", "bytes"): "bytes",
    ("builtins", "str"): "text",
    ("numpy", "ndarray"): "numpy",
    ("pandas", "DataFrame"): "parquet",
    ("matplotlib", "Figure"): "figure",
    **{("builtins", name): "json" for name in _JSON},
    ("decimal", "Decimal"): "json",
    ("uuid", "UUID"): "json",
    ("datetime", "datetime"): "json",
}


def saver_of_package(value: Any) -> Saver | None:
    """Return the package's saver for the value's exact type, or None.

    >>> saver_of_package({"a": 1}).name, saver_of_package({1, 2})
    ('json', None)
    """
    kind = type(value)
    name = _BY_TYPE.get((kind.__module__.partition(".")[0], kind.__qualname__))  # by name: nothing heavy is imported
    return None if name is None else SAVERS[name]
