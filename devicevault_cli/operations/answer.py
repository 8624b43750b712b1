"""What operations answer: frozen dataclasses whose fields are the keys of the JSON output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from devicevault_cli.streams.model import EntryId


def optional() -> Any:
    """A field whose key is left out of the JSON output while it is None."""
    return field(default=None, kw_only=True, metadata={"optional": True})


@dataclass(frozen=True, slots=True)
class Answer:
    """Base of every answer. A field is a key of the JSON output, in the order of declaration; `from_` is `from`.

    LAST: keys that come after those of a subclass.
    """

    LAST: ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON types: nested answers as dicts, entry ids as strings, tuples as lists."""
        declared = {field.name: field for field in fields(self)}
        ordered = [*(name for name in declared if name not in self.LAST), *self.LAST]
        values = ((declared[name], getattr(self, name)) for name in ordered)
        return {
            field.name.removesuffix("_"): _plain(value)
            for field, value in values
            if value is not None or "optional" not in field.metadata
        }


@dataclass(frozen=True, slots=True)
class ChangeAnswer(Answer):
    """Base of the answers of commands that change something. `applied`: False after a dry run."""

    LAST: ClassVar[tuple[str, ...]] = ("applied",)

    applied: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class ChosenAnswer(ChangeAnswer):
    """Base of the answers about chosen items. `unknown`: chosen ids and names that do not exist."""

    LAST: ClassVar[tuple[str, ...]] = ("unknown", "applied")

    unknown: tuple[str, ...] = field(default=(), kw_only=True)


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
