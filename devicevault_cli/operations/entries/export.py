"""dvctl export: messages or dead letters as checksummed JSON Lines, which `replay --file` and `publish --file` read."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from devicevault_cli.operations.answer import Answer
from devicevault_cli.operations.changes.change import Progress, quietly
from devicevault_cli.operations.entries import checksummed
from devicevault_cli.operations.entries.fields import SECRET_FIELDS
from devicevault_cli.operations.entries.message_files import BASE64
from devicevault_cli.streams.letters import DeadLetter
from devicevault_cli.streams.model import Entry, EntryId, pairs_of


@dataclass(frozen=True, slots=True)
class ExportAnswer(Answer):
    """The answer of `export`. `file`: `-` is stdout, None if nothing was exported."""

    exported: int
    file: str | None


def export_entries(
    target: Path | TextIO,
    pages: Iterable[Sequence[Entry]],
    *,
    reveal: bool = False,
    replace: bool = False,
    progress: Progress = quietly,
) -> ExportAnswer:
    """Write entries to a file or an open stream, secret fields only if revealed."""
    lines = (_line(entry.id, entry.fields, reveal) for page in pages for entry in page)
    return _written(target, lines, replace, progress)


def export_letters(
    target: Path | TextIO,
    letters: Iterable[DeadLetter],
    *,
    reveal: bool = False,
    replace: bool = False,
    progress: Progress = quietly,
) -> ExportAnswer:
    """Write dead letters by their first ids, with their reasons."""
    lines = (
        _line(letter.id, letter.fields, reveal)
        | {"dead": {"reason": letter.reason, "detail": letter.detail, "at": letter.at, "attempts": letter.attempts}}
        for letter in letters
    )
    return _written(target, lines, replace, progress)


def _written(target: Path | TextIO, lines: Iterable[dict[str, Any]], replace: bool, progress: Progress) -> ExportAnswer:
    lines = _counted(lines, progress)
    if isinstance(target, Path):
        return ExportAnswer(checksummed.write(target, lines, replace=replace), str(target))
    return ExportAnswer(checksummed.write_text(target, lines), "-")


def _line(key: EntryId, fields: dict[bytes, bytes], reveal: bool) -> dict[str, Any]:
    """`fields` as an object, or as a list of names and values if a name occurs more than once."""
    pairs = [
        (name.decode("utf-8", "surrogateescape"), _value(value))
        for name, value in pairs_of(fields)
        if reveal or name not in SECRET_FIELDS
    ]
    shown = dict(pairs)
    return {"id": str(key), "fields": shown if len(shown) == len(pairs) else pairs}


def _value(value: bytes) -> str | dict[str, str]:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {BASE64: base64.b64encode(value).decode()}


def _counted(lines: Iterable[dict[str, Any]], progress: Progress) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        yield line
        progress(number)
