"""What operations answer: frozen dataclasses whose fields are the keys of the JSON output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, ClassVar

from devicevault_cli.streams.model import EntryId

OPTIONAL = {"optional": True}
"""Metadata of a field whose key is left out of the JSON output while it is None."""
INLINED = {"inlined": True}
"""Metadata of a field that is an answer: its keys stand among those of the answer that has it."""


def optional() -> Any:
    """A field with this metadata that is None unless it is given by name."""
    return field(default=None, kw_only=True, metadata=OPTIONAL)


@dataclass(frozen=True, slots=True)
class Answer:
    """Base of every answer. A field is a key of the JSON output, in the order of declaration; `from_` is `from`.

    LAST: keys that come after those of a subclass.
    """

    LAST: ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON types: nested answers as dicts, entry ids and errors as strings, tuples as lists."""
        facts: dict[str, Any] = {}
        answer: Any = type(self)  # mypy takes a class with fields that compare for unhashable
        for name, key, options in _keys(answer):
            value = getattr(self, name)
            if "inlined" in options:
                facts |= value.to_dict()
            elif value is not None or "optional" not in options:
                facts[key] = _plain(value)
        return facts


@cache
def _keys(answer: Any) -> tuple[tuple[str, str, Mapping[str, bool]], ...]:
    """The fields in their order: name, key, and options."""
    declared = {field.name: field for field in fields(answer)}
    ordered = [*(name for name in declared if name not in answer.LAST), *answer.LAST]
    return tuple((name, name.removesuffix("_"), declared[name].metadata) for name in ordered)


def keys_of(answer: type[Answer]) -> tuple[str, ...]:
    """The keys that every answer of a class has."""
    hashable: Any = answer
    return tuple(key for _, key, options in _keys(hashable) if "optional" not in options)


@dataclass(frozen=True, slots=True)
class ChangeAnswer(Answer):
    """Base of the answers of commands that change something. `applied`: False after a dry run.

    `undo`: the command that undoes the change, once it is made.
    """

    LAST: ClassVar[tuple[str, ...]] = ("undo", "applied")

    undo: str | None = field(default=None, kw_only=True, metadata=OPTIONAL)
    applied: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class ChosenAnswer(ChangeAnswer):
    """Base of the answers about chosen items. `unknown`: chosen ids and names that do not exist."""

    LAST: ClassVar[tuple[str, ...]] = ("unknown", "undo", "applied")

    unknown: tuple[str, ...] = field(default=(), kw_only=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Answer):
        return value.to_dict()
    if isinstance(value, EntryId | Exception):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
