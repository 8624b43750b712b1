"""The entries that this process has in hand: read, and not acknowledged yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import Lock

from devicevault_cli.streams.model import EntryId


class InHand:
    """Ids of entries, each with the delivery count that was found. The loop changes it, the heartbeat reads it.

    `generation` counts how often the stream was replaced: ids of an older generation may now name other entries.
    """

    def __init__(self) -> None:
        self.generation = 0
        self._counts: dict[EntryId, int] = {}
        self._lock = Lock()

    def add(self, counts: Mapping[EntryId, int]) -> None:
        """Take entries that were just read."""
        with self._lock:
            self._counts.update(counts)

    def remove(self, ids: Iterable[EntryId]) -> None:
        """Let go of entries that have reached an outcome."""
        with self._lock:
            for key in ids:
                self._counts.pop(key, None)

    def begin_generation(self) -> None:
        """The stream was replaced: let go of everything."""
        with self._lock:
            self._counts.clear()
            self.generation += 1

    def counts(self) -> dict[EntryId, int]:
        """A copy."""
        with self._lock:
            return self._counts.copy()

    def __contains__(self, key: EntryId) -> bool:
        return key in self._counts

    def __len__(self) -> int:
        return len(self._counts)
