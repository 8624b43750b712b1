"""Any bytes in: what reads messages, replies of Redis, letters, files, JSON and URLs never fails but in its own way.

Needs the extra `fuzz`. The first byte says which of them reads the others.
"""

from __future__ import annotations

import argparse
import json
import sys
import unicodedata
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["devicevault_cli"]):
    from devicevault_cli.errors import DvctlError
    from devicevault_cli.json_text import _is_json, list_problem
    from devicevault_cli.messages import Decoded, Rejected, Skipped, decode_result, decode_storage
    from devicevault_cli.operations.entries.message_files import parse_line
    from devicevault_cli.output.escapes import csv_cell, to_json, visible
    from devicevault_cli.redact import redact, scrub
    from devicevault_cli.repository.url import parse_url
    from devicevault_cli.streams.keys import discarded_id
    from devicevault_cli.streams.letters import read_letter, unpack
    from devicevault_cli.streams.model import Entry, EntryId
    from tests.support.replies import READERS, read

NAMES = (
    *("task_id", "task_identifier", "device_id", "status", "log", "collection_duration_ms", "initiated_at"),
    *("operation", "storage_backend", "storage_ref", "storage_duration_ms", "_dvctl.id", "_dvctl.packed", "other"),
)


BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def one_message(data: bytes) -> None:
    """Decode a message made of these bytes as each pipeline would, and as a dead letter."""
    given = atheris.FuzzedDataProvider(data)
    ms, seq = given.ConsumeIntInRange(0, 2**64 - 1), given.ConsumeIntInRange(0, 2**64 - 1)
    fields = {
        NAMES[given.ConsumeIntInRange(0, len(NAMES) - 1)].encode(): given.ConsumeBytes(given.ConsumeIntInRange(0, 200))
        for _ in range(given.ConsumeIntInRange(0, 9))
    }
    for decode in (decode_result, decode_storage):
        decision = decode(ms, seq, fields)
        assert isinstance(decision, Decoded | Rejected | Skipped), decision
    read_letter(Entry(EntryId(ms, seq), fields))
    for value in fields.values():
        shown = visible(value.decode("utf-8", "replace"))
        assert not any(unicodedata.category(one) == "Cc" or one in BIDIRECTIONAL for one in shown), ascii(shown)


def one_reply(data: bytes) -> None:
    """One reader of Redis reads these bytes as what Redis says."""
    names = list(READERS)
    with suppress(DvctlError):
        read(names[data[0] % len(names)] if data else names[0], data[1:])


def one_text(data: bytes) -> None:
    """Text as JSON, as a line of a file, as a letter's content, as a URL, and as something to be shown."""
    text = data.decode("utf-8", "surrogateescape")
    with suppress(RecursionError):
        assert (list_problem(text) is None) == _is_list(text), ascii(text)
        assert _is_json(text.strip(" \t\n\r")) == _python_reads(text), ascii(text)
    for read_bytes in (lambda: parse_line(data, "here"), lambda: unpack(data), lambda: parse_url(text)):
        with suppress(DvctlError):
            read_bytes()
    read_letter(Entry(EntryId(1, 0), {b"_dvctl.id": b"1-0", b"_dvctl.packed": data}))
    discarded_id(data, None)
    redact(text)
    scrub(text)
    assert json.loads(to_json(text)) == text
    assert not csv_cell(text).startswith(("=", "+", "-", "@", "\t", "\r"))


def _python_reads(text: str) -> bool:
    """Whether Python's own decoder takes it for JSON, without the constants that only Python knows."""

    def no_constant(name: str) -> None:
        raise ValueError(name)

    try:
        json.JSONDecoder(parse_int=str, parse_constant=no_constant).decode(text.strip(" \t\n\r"))
    except ValueError:
        return False
    return True


def _is_list(text: str) -> bool:
    return _python_reads(text) and text.lstrip(" \t\n\r").startswith("[")


TARGETS = (one_message, one_reply, one_text)


def one_of_them(data: bytes) -> None:
    """The first byte chooses."""
    TARGETS[data[0] % len(TARGETS) if data else 0](data[1:])


def main() -> None:
    """Fuzz for a while; what breaks it is left in a file that the next run begins with."""
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--seconds", type=int, default=300)
    corpus = Path(".fuzz")
    corpus.mkdir(exist_ok=True)
    arguments = [sys.argv[0], str(corpus), f"-max_total_time={parser.parse_args().seconds}", "-max_len=4096"]
    atheris.Setup([*arguments, f"-artifact_prefix={corpus}/"], one_of_them)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
