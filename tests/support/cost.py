"""What a message costs: calls of functions in `consume` and `verify`, and processor time of decoding it.

`python -m tests.support.cost REDIS_URL DATABASE_URL` prints JSON. Calls are counted, C functions included: another
program on the machine changes none, while the processor time of a whole drain doubled beside busy ones. The time to
decode a page, by column and one by one, has its lowest value of many pages: one of them meets a quiet moment.
"""

from __future__ import annotations

import io
import json
import os
import sys
import threading
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

COUNT, ROUNDS, PAGES = 10_000, 2, 300
"""In the first round of each command modules are imported."""
MS = 1_767_225_600_000
READ = 128
"""Entries of a read, as in `consume`."""


def decoding() -> dict[str, float]:
    """Microseconds of processor time a message."""
    reply: list[Any] = [[b"%d-0" % (MS + number), parts(message(number))] for number in range(READ)]
    lowest = dict.fromkeys(("by column", "one by one"), 1e9)
    for _ in range(PAGES):
        for name, work in (
            ("by column", lambda: [*decode_page(page(reply), RESULTS, INT4_MAX)]),
            ("one by one", lambda: decode(entries(reply), RESULTS.decode, INT4_MAX)),
        ):
            begun = time.thread_time()
            work()
            lowest[name] = min(lowest[name], 1e6 * (time.thread_time() - begun) / READ)
    return lowest


def parts(fields: dict[str, str]) -> list[bytes]:
    """Names and values as Redis sends them."""
    return [part.encode() for pair in fields.items() for part in pair]


def calls_of(work: Callable[[], object]) -> int:
    """How many functions are called, in this thread and those that it starts."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    threading.setprofile(count)
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return calls


def dvctl(*words: str) -> None:
    """A command, in this process."""
    terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO(), dict(os.environ))
    code = run([*words, "-q", "-o", "json"], terminal)
    assert code == 0, words


def main(redis_url: str, database_url: str) -> None:
    os.environ |= {"DEVICEVAULT_REDIS_URL": redis_url, "DEVICEVAULT_DATABASE_URL": database_url}
    client: Any = connect(redis_url)
    cost = decoding()
    publish(client, RESULTS.stream, COUNT)
    with table_at(database_url) as table:
        for _ in range(ROUNDS):
            client.xgroup_create(RESULTS.stream, RESULTS.group, "0")
            cost["consume"] = calls_of(lambda: dvctl("consume", "--drain")) / COUNT
            assert table.count() == COUNT
            cost["verify"] = calls_of(lambda: dvctl("verify")) / COUNT
            client.xgroup_destroy(RESULTS.stream, RESULTS.group)
            table.remove(table.ids_after(0, COUNT))
    print(json.dumps(cost))


if __name__ == "__main__":
    main(*sys.argv[1:])
