"""One of several writers: offers every identity twice, first in the order of all, then in its own; counts its inserts.

It says `ready`, waits for a line, and at the end prints how many rows it inserted.
`python -m tests.support.writer URL SEED IDENTITIES BATCH [without-lock]`; the last makes a mutant that must be caught.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from devicevault_cli.errors import Unavailable
from devicevault_cli.records import Record
from devicevault_cli.repository import open_repository
from devicevault_cli.repository.dialects.postgresql import statements as postgres_sql
from devicevault_cli.repository.tables import RESULTS
from tests.support.records import result

T = TypeVar("T")


def main(url: str, seed: str, identities: str, batch: str, mutant: str = "") -> None:
    """Write until everything was offered twice."""
    if mutant == "without-lock":
        with_lock = postgres_sql.settings
        postgres_sql.settings = lambda *times, lock, **more: with_lock(*times, lock=None, **more)
    order = random.Random(seed)
    records = [_record(number) for number in range(int(identities))]
    repository = open_repository(url, RESULTS)
    _patiently(repository.check)
    print("ready", flush=True)
    sys.stdin.readline()
    inserted = 0
    for _ in range(2):
        for start in range(0, len(records), int(batch)):
            saved = _patiently(partial(repository.save, records[start : start + int(batch)]))
            inserted += sum(each.outcome == "inserted" for each in saved)
        order.shuffle(records)
    repository.close()
    print(inserted)


def _record(number: int) -> Record:
    """One in ten has no identifier; those are told apart by their task."""
    if number % 10 == 0:
        return result("", device=number % 50 + 1, task_id=f"task-{number}")
    return result(f"collect:{number}", device=number % 50 + 1)


def _patiently(attempt: Callable[[], T]) -> T:
    """As `consume` does: also the row that `check` tries may meet another writer in a deadlock."""
    while True:
        try:
            return attempt()
        except Unavailable:
            time.sleep(0.05)


if __name__ == "__main__":
    main(*sys.argv[1:])
