"""Any bytes in: a record, a reason or a skip comes out of the decoders, never an exception. Needs the extra `fuzz`."""

from __future__ import annotations

import argparse
import sys
import unicodedata
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["devicevault_cli"]):
    from devicevault_cli.messages import Decoded, Rejected, Skipped, decode_result, decode_storage
    from devicevault_cli.output.escapes import visible
    from devicevault_cli.streams.dead_letters import read_letter
    from devicevault_cli.streams.model import Entry, EntryId

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


def main() -> None:
    """Fuzz for a while; what breaks it is left in a file that the next run begins with."""
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--seconds", type=int, default=300)
    corpus = Path(".fuzz")
    corpus.mkdir(exist_ok=True)
    arguments = [sys.argv[0], str(corpus), f"-max_total_time={parser.parse_args().seconds}", "-max_len=4096"]
    atheris.Setup([*arguments, f"-artifact_prefix={corpus}/"], one_message)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
