"""The storage's place in mlos_bench's config schema, which names the classes that there may be."""

from __future__ import annotations

from typing import Any

from mlos_bench.config.schemas import ConfigSchema

#: The names that a config may give the class.
CLASS_NAMES = ("ledger.integrations.mlos.LedgerStorage", "ledger.integrations.mlos.storage.LedgerStorage")

#: What may be in its config.
CONFIG: dict[str, Any] = {
    "type": "object",
    "properties": {
        "database": {
            "description": "The directory of the ledger, made when there is none; ':memory:' for one that ends with the process.",
            "type": "string",
            "minLength": 1,
            "examples": ["runs.ledger", ":memory:"],
        },
        "drivername": {
            "description": "Shown, and nothing else: so that a config of SqlStorage needs another class only.",
            "type": "string",
        },
        "lazy_schema_create": {"description": "Open the ledger when it is used first, not before.", "type": "boolean"},
        "log_sql": {"description": "Without effect: there is no SQL.", "type": "boolean"},
        "durability": {
            "description": "'relaxed': a power cut may take the last commits.",
            "enum": ["full", "relaxed"],
        },
        "lease_seconds": {
            "description": "For how long a trial stays with a process that is not heard of any more.",
            "type": "number",
            "exclusiveMinimum": 0,
        },
    },
    "unevaluatedProperties": False,
    "required": ["database"],
}

_PATHS = {"anyOf": [{"const": "database"}, {"type": "array", "items": {"const": "database"}}]}


def register() -> None:
    """Add the class to the schema in memory, so that every check of mlos_bench's configs stays on; again does nothing.

    >>> register()
    >>> ConfigSchema.STORAGE.validate({"class": CLASS_NAMES[0], "config": {"database": ":memory:"}})
    """
    schema = ConfigSchema.STORAGE.schema
    known = schema["properties"]["class"]["enum"]
    if CLASS_NAMES[0] in known:
        return
    known.extend(CLASS_NAMES)
    schema["oneOf"].append(
        {
            "if": {"properties": {"class": {"enum": list(CLASS_NAMES)}}, "required": ["class"]},
            "then": {"properties": {"config": CONFIG, "resolve_config_property_paths": _PATHS}},
            "else": False,
        }
    )


register()
