"""What operations answer: frozen dataclasses whose fields are the keys of the JSON output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from devicevault_cli.streams.model import EntryId


@dataclass(frozen=True, slots=True)
class Answer:
    """Base of every answer. A field is a key of the JSON output, in the order of declaration."""

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON types: nested answers as dicts, entry ids as strings, tuples as lists."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


def _plain(value: Any) -> Any:
    if isinstance(value, Answer):
        return value.to_dict()
    if isinstance(value, EntryId):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
