"""Processor time a message of what dvctl does, and of what it is compared with at the same moment, in one process.

`python -m tests.support.cost REDIS_URL DATABASE_URL` prints microseconds as JSON: of a bare loop that only reads and
acknowledges, of `consume` and `verify` over as many messages, and of decoding a page by column and one by one. Of
several rounds each has its lowest value: other programs make a round more expensive, never cheaper.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from devicevault_cli.cli.app import run
from devicevault_cli.consumer.batch import decode, decode_page
from devicevault_cli.output.terminal import Terminal
from devicevault_cli.pipelines import RESULTS
from devicevault_cli.records import INT4_MAX
from devicevault_cli.streams.connect import connect
from devicevault_cli.streams.page import page
from devicevault_cli.streams.replies import entries
from tests.bench.messages import message, publish
from tests.support.recovering import table_at

COUNT, ROUNDS, PAGES = 10_000, 4, 100
MS = 1_767_225_600_000
READ = 128
"""Entries of a read, as in `consume`."""


class Lowest(dict[str, float]):
    """The lowest microseconds a message by name."""

    def measure(self, name: str, work: Callable[[], object], count: int) -> None:
        """Processor time of this process for so many messages."""
        begun = time.process_time()
        work()
        micros = 1e6 * (time.process_time() - begun) / count
        self[name] = min(micros, self.get(name, micros))

    def decode(self) -> None:
        """A page takes less than the time until another process has its turn: a quiet moment is found in any case."""
        reply: list[Any] = [[b"%d-0" % (MS + number), parts(message(number))] for number in range(READ)]
        for _ in range(PAGES):
            self.measure("decode", lambda: [*decode_page(page(reply), RESULTS, INT4_MAX)], READ)
            self.measure("one by one", lambda: decode(entries(reply), RESULTS.decode, INT4_MAX), READ)


def parts(fields: dict[str, str]) -> list[bytes]:
    """Names and values as Redis sends them."""
    return [part.encode() for pair in fields.items() for part in pair]


def drain(client: Any) -> None:
    """The bare loop."""
    command = "XREADGROUP", "GROUP", RESULTS.group, "bare", "COUNT", READ, "STREAMS", RESULTS.stream, ">"
    while found := client.execute_command(*command):
        client.xack(RESULTS.stream, RESULTS.group, *[key for key, _ in found[0][1]])


def dvctl(*words: str) -> None:
    """A command, in this process."""
    terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO(), dict(os.environ))
    code = run([*words, "-q", "-o", "json"], terminal)
    assert code == 0, words


def main(redis_url: str, database_url: str) -> None:
    """Measure in turn, so that a busy moment meets all of them."""
    os.environ |= {"DEVICEVAULT_REDIS_URL": redis_url, "DEVICEVAULT_DATABASE_URL": database_url}
    client: Any = connect(redis_url)
    source, lowest = f"{RESULTS.stream}:source", Lowest()
    publish(client, source, COUNT)

    def undelivered() -> None:
        client.copy(source, RESULTS.stream, replace=True)
        client.xgroup_create(RESULTS.stream, RESULTS.group, "0")

    with table_at(database_url) as table:
        for _ in range(ROUNDS):
            lowest.decode()
            undelivered()
            lowest.measure("drain", lambda: drain(client), COUNT)
            table.remove(table.ids_after(0, COUNT))
            undelivered()
            lowest.measure("consume", lambda: dvctl("consume", "--drain"), COUNT)
            assert table.count() == COUNT
            lowest.measure("verify", lambda: dvctl("verify"), COUNT)
    print(json.dumps(lowest))


if __name__ == "__main__":
    main(*sys.argv[1:])
