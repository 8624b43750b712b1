"""Processor time a message of what dvctl does, and of a bare loop that only reads and acknowledges, in one process.

`python -m tests.support.cost REDIS_URL DATABASE_URL` prints microseconds as JSON. Of several rounds each has its lowest
value: other programs make a round more expensive, never cheaper. `part` and `decode` are of a tenth of a round, for
which a quiet moment is found more often: the loop, and decoding as `consume` does.
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
from devicevault_cli.consumer.batch import decode_page
from devicevault_cli.output.terminal import Terminal
from devicevault_cli.pipelines import RESULTS
from devicevault_cli.records import INT4_MAX
from devicevault_cli.streams.connect import connect
from devicevault_cli.streams.page import page
from tests.bench.messages import publish
from tests.support.recovering import table_at

SOURCE = f"{RESULTS.stream}:source"
COUNT, ROUNDS, PARTS = 10_240, 5, 10
READ = 128
"""Entries of a read, as in `consume`."""


class Costs:
    """What is measured, and its lowest microseconds a message so far."""

    def __init__(self, redis_url: str, database_url: str) -> None:
        self.client: Any = connect(redis_url)
        self.urls = ["--redis-url", redis_url, "--database-url", database_url]
        self.lowest: dict[str, float] = {}
        publish(self.client, SOURCE, COUNT)
        self._reply = self.client.execute_command("XRANGE", SOURCE, "-", "+", "COUNT", READ)

    def undelivered(self) -> None:
        """A stream with all messages, and a group that has read none of them."""
        self.client.copy(SOURCE, RESULTS.stream, replace=True)
        self.client.xgroup_create(RESULTS.stream, RESULTS.group, "0")

    def measure(self, name: str, work: Callable[[], None], count: int = COUNT) -> float:
        """-> seconds of processor time of this process"""
        begun = time.process_time()
        work()
        seconds = time.process_time() - begun
        self._take(name, seconds, count)
        return seconds

    def drain(self) -> None:
        """The bare loop, and between its parts decoding."""
        whole = 0.0
        for _ in range(PARTS):
            whole += self.measure("part", self._read_part, COUNT // PARTS)
            self.measure("decode", self._decode_part, COUNT // PARTS)
        self._take("drain", whole, COUNT)

    def dvctl(self, *words: str) -> None:
        """A command, in this process."""
        terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO(), dict(os.environ))
        code = run([*words, "-q", "-o", "json", *self.urls], terminal)
        assert code == 0, words

    def _take(self, name: str, seconds: float, count: int) -> None:
        micros = 1e6 * seconds / count
        self.lowest[name] = min(micros, self.lowest.get(name, micros))

    def _read_part(self) -> None:
        command = "XREADGROUP", "GROUP", RESULTS.group, "bare", "COUNT", READ, "STREAMS", RESULTS.stream, ">"
        for _ in range(COUNT // PARTS // READ):
            found = self.client.execute_command(*command)
            self.client.xack(RESULTS.stream, RESULTS.group, *[key for key, _ in found[0][1]])

    def _decode_part(self) -> None:
        for _ in range(COUNT // PARTS // READ):
            for batch in decode_page(page(self._reply), RESULTS, INT4_MAX):
                assert batch.records


def main(redis_url: str, database_url: str) -> None:
    """Measure in turn, so that a busy moment meets all of them."""
    costs = Costs(redis_url, database_url)
    with table_at(database_url) as table:
        for _ in range(ROUNDS):
            costs.undelivered()
            costs.drain()
            table.remove(table.ids_after(0, COUNT))
            costs.undelivered()
            costs.measure("consume", lambda: costs.dvctl("consume", "--drain"))
            assert table.count() == COUNT
            costs.measure("verify", lambda: costs.dvctl("verify"))
    print(json.dumps(costs.lowest))


if __name__ == "__main__":
    main(*sys.argv[1:])
