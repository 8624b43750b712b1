"""When entries were lost: counts by minute, or by longer spans where there would be too many."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from devicevault_cli.times import Milliseconds, iso

SPANS_MS = (60_000, 600_000, 3_600_000, 86_400_000, 7 * 86_400_000, 365 * 86_400_000)
MOST = 240


@dataclass(slots=True)
class Timeline:
    """A bounded histogram: whatever is added, it holds at most MOST spans of equal length."""

    span_ms: Milliseconds = SPANS_MS[0]
    counts: Counter[int] = field(default_factory=Counter)

    def add(self, moment: Milliseconds) -> None:
        """Count one at this time."""
        self.counts[moment // self.span_ms] += 1
        while len(self.counts) > MOST:
            self._widen()

    def _widen(self) -> None:
        wider = next((span for span in SPANS_MS if span > self.span_ms), self.span_ms * 10)
        merged: Counter[int] = Counter()
        for number, count in self.counts.items():
            merged[number * self.span_ms // wider] += count
        self.span_ms, self.counts = wider, merged

    def rows(self) -> list[dict[str, object]]:
        """`{start, lost}` each, oldest first; spans without a loss are left out."""
        return [{"start": iso(number * self.span_ms), "lost": count} for number, count in sorted(self.counts.items())]
