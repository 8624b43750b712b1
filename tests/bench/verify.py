"""verify over a million entries of 2 KB: its rate beside a bare scan, and its memory beside that of ten thousand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from tests.bench.commands import scanned
from tests.bench.ground import Ground
from tests.bench.measure import Figure, Run, compared
from tests.bench.messages import GROUP, STREAM, message
from tests.support.schema import DEVICES

FEW, MANY = 10_000, 1_000_000
LOST = 1000
"""The newest of them, in a row: as after an outage."""
LEAST, MEMORY_MB = 0.85, 30
IDENTIFIER = "collect:bench:"

# The server makes the entries, from one message: a client would take longer than the measurement.
_ENTRIES = """
local fields = {}
for n = 1, #ARGV do fields[n] = ARGV[n] end
local first, last, devices, identifier = tonumber(fields[1]), tonumber(fields[2]), tonumber(fields[3]), fields[4]
for n = first, last do
  fields[6] = string.format('%08x-0000-4000-8000-000000000000', n)
  fields[8] = identifier .. n
  fields[10] = tostring(n % devices + 1)
  redis.call('XADD', KEYS[1], string.format('%.0f-%d', 1768000000000 + math.floor(n / 10), n % 10), unpack(fields, 5))
end"""
_ROWS = """
INSERT INTO devices_devicebackupresult (task_id, task_identifier, device_id, status, timestamp, log)
SELECT lpad(to_hex(n), 8, '0') || '-0000-4000-8000-000000000000', '{identifier}' || n, n % {devices} + 1, 'success',
  now(), '["' || repeat('x', 500) || '"]' FROM generate_series(1, {rows}) AS n"""


def figures(ground: Ground) -> Iterator[Figure]:
    """The rate over many entries, and how much more memory they take than few."""
    with seeded(ground, FEW) as url:
        few = looked(ground, url, FEW, [])
    runs: list[Run] = []
    with seeded(ground, MANY) as url:
        ours = partial(looked, ground, url, MANY, runs)
        scan = partial(scanned, ground, MANY)
        yield compared("verify, a million", ours, scan, "XRANGE", count=MANY, least=LEAST, whole=True)
    few_mb, many_mb = few.peak_mb, max(run.peak_mb for run in runs)
    met = many_mb - few_mb < MEMORY_MB
    yield Figure(
        "its peak memory", many_mb, "MB", f"of {FEW:,}", few_mb, many_mb / few_mb, f"< {MEMORY_MB} MB more", met
    )


@contextmanager
def seeded(ground: Ground, count: int) -> Iterator[str]:
    """A stream of so many entries, and the URL of a table with all rows but the last LOST."""
    entries(ground, count)
    with ground.table() as url:
        rows = _ROWS.format(identifier=IDENTIFIER, devices=DEVICES, rows=count - LOST)
        ground.postgres.execute(rows, "VACUUM ANALYZE devices_devicebackupresult", "CHECKPOINT", database=url)
        yield url


def entries(ground: Ground, count: int) -> None:
    """A stream of so many entries, all delivered and acknowledged."""
    ground.client.flushall()
    page = 20_000
    parts = [part for pair in message(0).items() for part in pair]
    for first in range(1, count + 1, page):
        last = min(first + page - 1, count)
        ground.client.eval(_ENTRIES, 1, STREAM, first, last, DEVICES, IDENTIFIER, *parts)
    ground.client.xgroup_create(STREAM, GROUP, "$")


def looked(ground: Ground, url: str, count: int, runs: list[Run]) -> Run:
    """One run, which must find what was seeded, and is kept."""
    ran = ground.dvctl("verify", "-o", "json", database_url=url, code=3)
    classes = ran.said["classes"]
    assert (classes["persisted"], classes["lost"]) == (count - LOST, LOST), ran.said
    runs.append(ran)
    return ran
