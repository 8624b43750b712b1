"""What a run of the consumer did, in numbers: the keys of its summary."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Counts of entries by outcome; `read` is their sum, so that nothing can fall between two of them."""

    persisted: int = 0
    duplicates: int = 0
    conflicting: int = 0
    dead_lettered: int = 0
    skipped: int = 0
    dropped: int = 0
    gone: int = 0
    reclaimed: int = 0
    dispatched: int = 0
    deferred_retries: int = 0
    in_hand: int = 0
    """Read and not settled yet."""
    waiting: bool = True
    """Nothing was read yet, or not since the last outage."""
    table_refuses: bool = False
    """The last attempt failed because the table refuses rows, for a reason that is not in the messages."""
    stream_restarts: int = 0
    entries_never_read: int = 0
    """Entries that left the stream before the group read them, as far as that was noticed."""
    incidents: int | None = None
    """Incidents of the stream that nobody has acknowledged; None before the first look."""
    lag: int | None = None
    """As it was looked up last."""
    notes: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @property
    def read(self) -> int:
        """Entries that reached an outcome."""
        return self.persisted + self.duplicates + self.dead_lettered + self.skipped + self.dropped + self.gone

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def summary(self, stopped_by: str) -> dict[str, object]:
        """The answer of `consume -o json`."""
        elapsed = self.elapsed_s
        return {
            "read": self.read,
            "persisted": self.persisted,
            "duplicates": self.duplicates,
            "conflicting": self.conflicting,
            "dead_lettered": self.dead_lettered,
            "skipped": self.skipped,
            "dropped": self.dropped,
            "gone": self.gone,
            "reclaimed": self.reclaimed,
            "dispatched": self.dispatched,
            "deferred_retries": self.deferred_retries,
            "stream_restarts": self.stream_restarts,
            "entries_never_read": self.entries_never_read,
            "reasons": self.reasons,
            "notes": self.notes,
            "elapsed_s": round(elapsed, 3),
            "rate_per_s": round(self.read / elapsed, 1) if elapsed else 0.0,
            "stopped_by": stopped_by,
        }
