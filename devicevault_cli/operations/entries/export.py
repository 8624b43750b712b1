"""Messages and dead letters as a sealed JSONL file, which `replay --file` and `publish --file` read."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from devicevault_cli.operations.changes.plan import Answer, Progress, quietly
from devicevault_cli.operations.entries import checksummed
from devicevault_cli.operations.entries.message_files import BASE64
from devicevault_cli.operations.entries.show import SECRET_FIELDS
from devicevault_cli.streams.dead_letters import DeadLetter
from devicevault_cli.streams.model import Entry, EntryId, pairs_of


def export_entries(
    target: Path | TextIO,
    pages: Iterable[list[Entry]],
    *,
    reveal: bool = False,
    replace: bool = False,
    progress: Progress = quietly,
) -> Answer:
    """Write entries to a file or an open stream, secret fields only if revealed. -> `exported` and `file`"""
    lines = (_line(entry.id, entry.fields, reveal) for page in pages for entry in page)
    return _written(target, counted(lines, progress), replace=replace)


def export_letters(
    target: Path | TextIO,
    letters: Iterable[DeadLetter],
    *,
    reveal: bool = False,
    replace: bool = False,
    progress: Progress = quietly,
) -> Answer:
    """Write dead letters by their first ids, with why they are dead. -> `exported` and `file`"""
    lines = (
        _line(letter.id, letter.fields, reveal)
        | {"dead": {"reason": letter.reason, "detail": letter.detail, "at": letter.at, "attempts": letter.attempts}}
        for letter in letters
    )
    return _written(target, counted(lines, progress), replace=replace)


def _written(target: Path | TextIO, lines: Iterable[dict[str, Any]], *, replace: bool) -> Answer:
    if isinstance(target, Path):
        return {"exported": checksummed.write_sealed(target, lines, replace=replace), "file": str(target)}
    return {"exported": checksummed.write_sealed_text(target, lines), "file": "-"}


def _line(key: EntryId, fields: dict[bytes, bytes], reveal: bool) -> dict[str, Any]:
    """`fields` as an object, or as a list of names and values where a name stands more than once."""
    pairs = [(_name(name), _value(value)) for name, value in pairs_of(fields) if reveal or name not in SECRET_FIELDS]
    shown = dict(pairs)
    return {"id": str(key), "fields": shown if len(shown) == len(pairs) else pairs}


def _name(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _value(value: bytes) -> str | dict[str, str]:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {BASE64: base64.b64encode(value).decode()}


def counted(lines: Iterable[dict[str, Any]], progress: Progress) -> Iterator[dict[str, Any]]:
    """Pass lines through, reporting how many there were."""
    for number, line in enumerate(lines, 1):
        yield line
        progress(number)
