"""A million pending entries: `python -m tests.bench.million`; how long the repairs take, and their peak memory."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import redis

from tests.bench.__main__ import line
from tests.bench.measure import Figure, Run, run
from tests.bench.messages import GROUP, STREAM
from tests.support.entries import read_new
from tests.support.redis_server import RedisServer, redis_kinds

DVCTL = Path(sys.executable).parent / "dvctl"
GHOSTS = 4
MOST_MB, FIRST_PAGE_S = 200, 1.0

FILL = """
for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'task_identifier', 'j' .. i, 'device_id', '1') end
"""


def main() -> None:
    """Fill a Redis and let the commands loose on it, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.million", description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--redis", choices=[kind.short for kind in redis_kinds()], help="which version")
    options = parser.parse_args()
    kinds = [kind for kind in redis_kinds() if options.redis in (None, kind.short)]
    server = RedisServer(kinds[0])
    with TemporaryDirectory() as folder:
        try:
            server.start()
            print(f"{kinds[0].name}, {options.entries:,} pending entries of {GHOSTS} consumers", file=sys.stderr)
            for figure in figures(server, options.entries, Path(folder)):
                print(line(figure), flush=True)
        finally:
            server.remove()


def figures(server: RedisServer, count: int, folder: Path) -> Iterator[Figure]:
    """Each command's time, then its memory."""
    fill(server.client(socket_timeout=60), count)
    env = {"DEVICEVAULT_REDIS_URL": server.url, "XDG_STATE_HOME": str(folder)}

    def dvctl(*words: str) -> Run:
        return run(DVCTL, *words, env=env)

    first = dvctl("pending", "-o", "json")
    assert (first.said["total"], len(first.said["entries"])) == (count, 100)
    yield Figure("pending, first page", first.wall_s, "s", target="< 1 s", met=first.wall_s < FIRST_PAGE_S)
    yield memory("pending", first)
    ghosts = [f"ghost-{number}" for number in range(GHOSTS)]
    retired = dvctl("consumers", "retire", *ghosts, "--to", "heir", "--yes", "-o", "json")
    yield from measured("consumers retire", retired, count, lambda said: said["moved"])
    destroyed = dvctl("destroy-group", "--force", "--confirm", GROUP, "-o", "json")
    yield from measured("destroy-group", destroyed, count, lambda said: said["pending_lost"])
    restored = dvctl("restore-group", destroyed.said["snapshot"], "--yes", "-o", "json")
    yield from measured("restore-group", restored, count, lambda said: said["restored"])
    # Last what answers with a million ids: a child's peak counts from what this process holds at its birth.
    claimed = dvctl("claim", "--from", "heir", "--to", "other", "--yes", "-o", "json")
    yield from measured("claim", claimed, count, lambda said: len(said["claimed"]))
    yield from measured("pending -o ids", dvctl("pending", "-o", "ids"), count, lambda said: len(said.split()))


def fill(client: redis.Redis, count: int) -> None:
    """Entries, all of them delivered to ghosts that hold a quarter each."""
    for _ in range(count // 10_000):
        client.eval(FILL, 1, STREAM, 10_000)
    client.xgroup_create(STREAM, GROUP, "0")
    for number in range(GHOSTS):
        left = count // GHOSTS
        while left:
            left -= len(read_new(client, STREAM, GROUP, f"ghost-{number}", count=min(left, 10_000)))


def measured(name: str, ran: Run, count: int, done: Any) -> Iterator[Figure]:
    """Time and memory of a command that did its whole work."""
    assert done(ran.said) == count, name
    yield Figure(f"{name} ({count:,})", ran.wall_s, "s")
    yield memory(name, ran)


def memory(name: str, ran: Run) -> Figure:
    """Peak memory of a command."""
    return Figure(f"{name}, memory", ran.peak_mb, "MB", target="< 200 MB", met=ran.peak_mb < MOST_MB)


if __name__ == "__main__":
    main()
