"""Options by the kind of their value, and the parsers: text from a command line in, a value out."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import typer

from devicevault_cli.errors import Usage
from devicevault_cli.streams.model import EntryId
from devicevault_cli.times import parse_duration


def parsed(read: Callable[[str], Any], least: float | None = None, unit: str = "") -> Callable[[Any], Any]:
    """A `parser=` for typer.Option around `read`, which raises Usage or ValueError. `least` in `unit` is for numbers.

    A value that is no text is a default, and is passed through.
    """

    def parse(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            result = read(value)
        except Usage as error:
            raise typer.BadParameter(str(error)) from error
        except ValueError:
            raise typer.BadParameter(f"{value[:60]!r} is not {_EXPECTED.get(read, 'usable')}") from None
        if least is not None and result < least:
            raise typer.BadParameter(f"{value[:60]} is less than {least:g}{unit}")
        return result

    parse.__name__ = "str"  # which help shows as the type of an argument
    return parse


def whole(text: str) -> int:
    """A whole number of at most 64 bits, as Redis and the databases hold it. Raises Usage, ValueError."""
    if not re.fullmatch(r"[+-]?[0-9]+", text, re.ASCII):  # int() also takes 1_000, spaces and other scripts' digits
        raise ValueError
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise Usage(f"{text[:60]} is out of range")
    return int(text)


def finite(text: str) -> float:
    """A finite decimal number. Raises Usage where it overflows, ValueError for anything else."""
    if not re.fullmatch(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", text, re.ASCII):
        raise ValueError
    if not math.isfinite(float(text)):
        raise Usage(f"{text[:60]} is out of range")
    return float(text)


_EXPECTED: dict[Callable[[str], Any], str] = {whole: "a whole number", finite: "a number"}


def parse_name(text: str) -> str:
    """A name that Redis makes a consumer of. Raises Usage."""
    from devicevault_cli.settings import name_problem

    if problem := name_problem(text):
        raise Usage(f"the name {problem}")
    return text


def duration(*names: str, text: str, **more: Any) -> Any:
    """An option for a duration, in milliseconds."""
    return typer.Option(*names, help=text, metavar="DURATION", parser=parsed(parse_duration), **more)


def whole_number(*names: str, text: str, least: int, **more: Any) -> Any:
    """An option for a whole number of at least `least`."""
    return typer.Option(*names, help=text, metavar="N", parser=parsed(whole, least), **more)


class StreamEntry(NamedTuple):
    """An entry as it was typed where several streams are read: `STREAM ID`."""

    stream: str
    id: EntryId


def parse_entry(text: str) -> EntryId | StreamEntry:
    """`1767225600000-0`, or with its stream before it. Raises Usage."""
    stream, _, key = text.strip().rpartition(" ")
    return StreamEntry(stream.strip(), EntryId.parse(key)) if stream.strip() else EntryId.parse(text)


def placed(entry: EntryId | StreamEntry, streams: Sequence[str]) -> StreamEntry:
    """The entry with its stream, which must be named where there are several. Raises Usage."""
    if isinstance(entry, EntryId):
        if len(streams) > 1:
            where = f"the stream of {entry} is not named, and {len(streams)} are configured"
            raise Usage(where, hint=f"write the stream and the id, in quotes: '{streams[0]} {entry}'")
        return StreamEntry(streams[0], entry)
    if entry.stream not in streams:
        raise Usage(f"{entry.stream} is not a stream of this command", hint=f"name it: --stream '{entry.stream}'")
    return entry
