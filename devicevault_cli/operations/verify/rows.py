"""The rows: duplicates, and with `--deep` every stored column and the rows without an entry."""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from devicevault_cli.directories import reserve, temporary_file
from devicevault_cli.operations.answer import Answer
from devicevault_cli.operations.verify.classes import ClassifiedEntry
from devicevault_cli.records import Identity
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.model import EntryId

TIMES = frozenset(("timestamp", "overall_duration_ms"))
"""DeviceVault writes the time of consumption, so these differ in every row that its own consumer wrote."""
STEP = 1 << 16


class IdSet:
    """A set of row ids as a bit each in a temporary file: 10 million rows are 1.2 MB, wherever they are kept."""

    def __init__(self) -> None:
        self._file = temporary_file()
        self._reserved = {0}
        reserve(self._file, 0, STEP)
        self._bits = mmap.mmap(self._file.fileno(), STEP)

    def add(self, number: int) -> None:
        place, bit = divmod(number, 8)
        step = place // STEP
        if step not in self._reserved:  # else a full disk would end the process with SIGBUS
            reserve(self._file, step * STEP, STEP)
            self._reserved.add(step)
            self._bits.resize(max(len(self._bits), (step + 1) * STEP))
        self._bits[place] |= 1 << bit

    def __contains__(self, number: int) -> bool:
        place, bit = divmod(number, 8)
        return place < len(self._bits) and bool(self._bits[place] >> bit & 1)

    def close(self) -> None:
        self._bits.close()
        self._file.close()


@dataclass(frozen=True, slots=True)
class IdentityIds(Answer):
    """An identity and the ids of its rows; the first is the one that counts."""

    identity: Identity
    ids: tuple[int, ...]


class Deep:
    """What `--deep` compares as well: columns, and rows without an entry. Later rows are left out."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.last_id = repository.last_id()
        self.differing: Counter[str] = Counter()
        self._with_entry = IdSet()

    def add(self, page: Sequence[ClassifiedEntry]) -> None:
        """Note the rows of the entries, and compare the first row of each with its entry, column by column."""
        for entry in page:
            for row in entry.rows:
                self._with_entry.add(row.id)
        rows = self.repository.fetch([entry.rows[0].id for entry in page if entry.rows])
        for entry in page:
            stored = rows.get(entry.rows[0].id) if entry.rows else None
            if stored is not None and entry.record is not None:
                for column, value in entry.record._asdict().items():
                    self.differing[column] += stored[column] != value

    def without_entry(self) -> Iterator[int]:
        """The ids of rows whose identity no entry of the added pages has."""
        after = 0
        while page := self.repository.ids_after(after):
            yield from (row for row in page if row not in self._with_entry and row <= self.last_id)
            after = page[-1]
            if after >= self.last_id:
                return

    def count_without_entry(self, first: EntryId | None, last: EntryId | None) -> tuple[int, int]:
        """How many rows no entry of the added pages has; and how many of these are of the time of these pages.

        What was trimmed is older than `first`, so that the second figure is what Redis lost, or somebody deleted.
        """
        after, found, within = 0, 0, 0
        start, end = (first.ms * 1000, (last.ms + 1) * 1000) if first and last else (0, 0)
        while page := self.repository.times_after(after):
            for row, moment in page:
                if row not in self._with_entry and row <= self.last_id:
                    found += 1
                    within += start <= moment < end
            after = page[-1][0]
            if after >= self.last_id:
                break
        return found, within

    def differing_in(self, *, times: bool) -> dict[str, int]:
        """How many entries differ from their row in a column, of the times or of the others."""
        return {column: count for column, count in self.differing.items() if count and (column in TIMES) == times}

    def close(self) -> None:
        self._with_entry.close()


def duplicate_identities(repository: Repository, limit: int) -> tuple[IdentityIds, ...]:
    """Identities with more than one row."""
    return tuple(IdentityIds(duplicate.identity, tuple(duplicate.ids)) for duplicate in repository.duplicates(limit))
