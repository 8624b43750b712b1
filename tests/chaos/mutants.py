"""Consumers with one known mistake each, for a chaos run to catch: `python -m tests.chaos.mutants NAME WORDS...`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def acknowledge_first() -> None:
    """Acknowledge what was decoded before it is committed."""
    from devicevault_cli.consumer.batch import Batch
    from devicevault_cli.consumer.worker import Worker

    read_next = Worker._next

    def mutant(self: Worker, *before: Any) -> Any:
        batch = read_next(self, *before)
        if isinstance(batch, Batch) and batch.record_ids:
            self._retry(lambda: self.consumer.group.acknowledge(list(batch.record_ids)))
        return batch

    Worker._next = mutant  # type: ignore[method-assign,assignment]


def no_lock() -> None:
    """Look identities up and insert without the lock that keeps other writers out meanwhile."""
    from devicevault_cli.repository.dialects.postgresql import statements

    settings = statements.settings

    def mutant(*times: int, lock: int | None, timeline: bool = False) -> str:
        return settings(*times, lock=None, timeline=timeline)

    statements.settings = mutant  # type: ignore[assignment]


def no_reclaim() -> None:
    """Never take over what a dead consumer held; the own entries of an earlier life are found."""
    from devicevault_cli.consumer.reader import EntryReader

    take_pages = EntryReader._take_pages

    def mutant(self: EntryReader, *where: Any, own: bool) -> Any:
        return take_pages(self, *where, own=own) if own else None

    EntryReader._take_pages = mutant  # type: ignore[method-assign,assignment]


MUTANTS: dict[str, Callable[[], None]] = {
    "acknowledge-first": acknowledge_first,
    "no-lock": no_lock,
    "no-reclaim": no_reclaim,
}


if __name__ == "__main__":
    from devicevault_cli.cli.app import run

    MUTANTS[sys.argv[1]]()
    sys.exit(run(sys.argv[2:]))
