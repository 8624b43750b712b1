"""When entries were lost: counts by minute, or by longer spans where there would be too many."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from devicevault_cli.operations.answer import Answer
from devicevault_cli.times import Milliseconds, iso

SPANS_MS = (60_000, 600_000, 3_600_000, 86_400_000, 7 * 86_400_000, 365 * 86_400_000)
MOST = 240


@dataclass(frozen=True, slots=True)
class LossSpan(Answer):
    """The entries lost in one span of time. `start`: ISO 8601."""

    start: str
    lost: int


@dataclass(slots=True)
class Timeline:
    """A bounded histogram: whatever is added, it holds at most MOST spans of equal length."""

    span_ms: Milliseconds = SPANS_MS[0]
    counts: Counter[int] = field(default_factory=Counter)

    def add(self, moment: Milliseconds) -> None:
        self.counts[moment // self.span_ms] += 1
        while len(self.counts) > MOST:
            wider = next((span for span in SPANS_MS if span > self.span_ms), self.span_ms * 10)
            merged: Counter[int] = Counter()
            for number, count in self.counts.items():
                merged[number * self.span_ms // wider] += count
            self.span_ms, self.counts = wider, merged

    def rows(self) -> tuple[LossSpan, ...]:
        """The spans with a loss, oldest first."""
        return tuple(LossSpan(iso(number * self.span_ms), count) for number, count in sorted(self.counts.items()))
