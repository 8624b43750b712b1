"""The rows' side: duplicates, and with `--deep` every stored column and the rows that no entry accounts for."""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from devicevault_cli.directories import reserve, temporary_file
from devicevault_cli.messages import Decoded
from devicevault_cli.operations.verify.classes import Judged

if TYPE_CHECKING:
    from devicevault_cli.repository.repository import Repository

APART = frozenset(("timestamp", "overall_duration_ms"))
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
        """Add an id, 0 or more."""
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
        """Remove the file."""
        self._bits.close()
        self._file.close()


class Deep:
    """What `--deep` looks at besides. Rows inserted after it was made are not judged."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.last_id = repository.last_id()
        self.differing: Counter[str] = Counter()
        self._accounted = IdSet()

    def add(self, page: Sequence[Judged]) -> None:
        """Note the rows of the entries, and compare the first row of each with its entry, column by column."""
        for each in page:
            for row in each.rows:
                self._accounted.add(row.id)
        rows = self.repository.fetch([each.rows[0].id for each in page if each.rows])
        for each in page:
            stored = rows.get(each.rows[0].id) if each.rows else None
            if stored is not None and isinstance(each.decision, Decoded):
                for column, value in each.decision.record._asdict().items():
                    self.differing[column] += stored[column] != value

    def without_entry(self) -> Iterator[int]:
        """The ids of rows whose identity no judged entry has."""
        after = 0
        while page := self.repository.ids_after(after):
            yield from (each for each in page if each not in self._accounted and each <= self.last_id)
            after = page[-1]
            if after >= self.last_id:
                return

    def answer(self) -> dict[str, Any]:
        """Which columns differ how often; times apart."""
        found = {column: count for column, count in self.differing.items() if count}
        return {
            "columns_differing": {column: count for column, count in found.items() if column not in APART},
            "times_differing": {column: count for column, count in found.items() if column in APART},
        }

    def close(self) -> None:
        """Remove the temporary file."""
        self._accounted.close()


def surplus_ids(repository: Repository, limit: int) -> list[dict[str, Any]]:
    """Identities that stand more than once, with the ids of their rows: the first one's row is the one that counts."""
    return [
        {"identity": each.identity if isinstance(each.identity, str) else list(each.identity), "ids": each.ids}
        for each in repository.duplicates(limit)
    ]
