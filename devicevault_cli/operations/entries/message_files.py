"""Messages from JSON Lines: one object of wire fields per line, or an export, from a file, a pipe or stdin."""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from devicevault_cli.directories import needing_tmpdir, temporary_file
from devicevault_cli.errors import Usage
from devicevault_cli.messages import FIRST_ID
from devicevault_cli.operations.changes.change import Progress, quietly
from devicevault_cli.operations.entries import checksummed
from devicevault_cli.operations.entries.checksummed import reading
from devicevault_cli.streams.model import EntryId, fields_of

Message = Mapping[bytes, bytes]
EXPORTED = b'{"id":"'
"""The beginning of every line of `dvctl export`: of an incomplete export, nothing is published."""
BASE64 = "_base64"
"""In a JSON line, `{"_base64": "..."}` is a value that is not UTF-8."""
STDIN = Path("-")


class Numbered(NamedTuple):
    """A message and the number of its line, from 1."""

    line: int
    message: Message


@contextmanager
def opened(path: Path, stdin: TextIO, start: int = 1, progress: Progress = quietly) -> Iterator[Iterator[Numbered]]:
    """The messages from line `start` on. Raises Usage, and Damaged for an incomplete export.

    A file is checked to its end before the first message is returned. A pipe or stdin (`-`) is read only once, unless
    it is an export, which is copied to a temporary file.
    """
    with _opened_once(path, stdin) as lines:
        if lines is None:
            yield _checked(path, path.name, start, progress)
            return
        name = "stdin" if path == STDIN else path.name
        first = [*islice(lines, 1)]
        everything = chain(first, lines)
        if not (first and first[0].startswith(EXPORTED)):
            yield _numbered(everything, name, start)
            return
        with _spooled(everything) as copy:
            yield _checked(copy, name, start, progress)


@contextmanager
def readable_twice(path: Path, stdin: TextIO) -> Iterator[Path]:
    """The file itself, or a temporary copy of a pipe or stdin (`-`). Raises Usage, DvctlError."""
    with _opened_once(path, stdin) as lines:
        if lines is None:
            yield path
            return
        with _spooled(lines) as copy:
            yield copy


@contextmanager
def _opened_once(path: Path, stdin: TextIO) -> Iterator[Iterator[bytes] | None]:
    """The lines of a pipe or of stdin; None for a file, which can be read again."""
    if path == STDIN:
        binary = getattr(stdin, "buffer", None)
        lines = (line.encode("utf-8", "surrogateescape") for line in stdin) if binary is None else binary
        yield _readable(lines, Path("stdin"))
        return
    with reading(path):
        regular = stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 - follows /dev/fd/63 to what it is
        file = None if regular else path.open("rb")
    if file is None:
        yield None
        return
    with file:
        yield _readable(file, path)


def _readable(lines: Iterable[bytes], path: Path) -> Iterator[bytes]:
    with reading(path):
        yield from lines


@contextmanager
def _spooled(lines: Iterable[bytes]) -> Iterator[Path]:
    with temporary_file(named=True) as file:
        with needing_tmpdir():
            file.writelines(lines)
            file.flush()
        yield Path(file.name)


def _checked(path: Path, name: str, start: int, progress: Progress) -> Iterator[Numbered]:
    """Check the whole file, then read it again. Raises Usage and Damaged before the first message is returned."""
    for number, _ in _read_file(path, name, start):
        progress(number)
    return _read_file(path, name, start)


def _read_file(path: Path, name: str, start: int) -> Iterator[Numbered]:
    with reading(path), path.open("rb") as lines:
        if lines.read(len(EXPORTED)) == EXPORTED:
            checksummed.check(path, name)
        lines.seek(0)
        yield from _numbered(lines, name, start)


def _numbered(lines: Iterable[bytes], name: str, start: int) -> Iterator[Numbered]:
    for number, line in enumerate(lines, 1):
        if number >= start and line.strip() and not line.startswith(checksummed.CHECKSUM_LINE):
            yield Numbered(number, parse_line(line, f"{name}, line {number}"))


def parse_line(line: bytes, where: str) -> Message:
    """One JSON object of wire fields; in an export it is `fields`, beside `id`. Raises Usage.

    `fields` is a list of names and values if a name occurs more than once.
    """
    try:
        return _message(json.loads(line))
    except (ValueError, RecursionError) as error:
        raise Usage(f"{where}: not JSON") from error
    except Usage as error:
        raise Usage(f"{where}: {error}", hint=error.hint) from None


def _message(value: Any) -> Message:
    fields = value.get("fields", value) if isinstance(value, dict) else None
    if not isinstance(fields, (dict, list)) or not fields:
        raise Usage("not an object of wire fields")
    listed = fields.items() if isinstance(fields, dict) else map(_pair, fields)
    # In names, `export` writes bytes that are not UTF-8 as lone surrogates.
    pairs = [(_encoded(name, "surrogateescape", "a field's name is no text"), _wire(part)) for name, part in listed]
    if fields is not value and isinstance(value.get("id"), str) and not any(name == FIRST_ID for name, _ in pairs):
        pairs.append((FIRST_ID, str(EntryId.parse(value["id"])).encode()))
    return fields_of(pairs)


def _pair(part: Any) -> tuple[str, Any]:
    if isinstance(part, list) and len(part) == 2 and isinstance(part[0], str):
        return part[0], part[1]
    raise Usage("not a list of names and values")


def _encoded(text: str, errors: str, why_not: str) -> bytes:
    try:
        return text.encode("utf-8", errors)
    except UnicodeEncodeError as error:
        raise Usage(why_not) from error


def _wire(value: Any) -> bytes:
    if isinstance(value, str):
        return _encoded(value, "strict", "a value is no text")
    if isinstance(value, dict) and isinstance(value.get(BASE64), str):
        try:
            return base64.b64decode(value[BASE64], validate=True)
        except ValueError as error:
            raise Usage(f"{BASE64} is not base64") from error
    raise Usage(f"a field's value is neither text nor {BASE64}")
