"""dlq stats: dead letters by reason and device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from devicevault_cli.operations.answer import Answer
from devicevault_cli.operations.entries.fields import field_text
from devicevault_cli.streams.dead_letters import DeadLetters

DEVICES = 10
"""The devices with most letters that are listed."""


@dataclass(frozen=True, slots=True)
class StatsAnswer(Answer):
    """The answer of `dlq stats`. `retried`: letters with at least one attempt; times: ISO 8601."""

    total: int
    reasons: Mapping[str, int]
    devices: Mapping[str, int]
    retried: int
    first_at: str | None
    last_at: str | None
    key: str
    bytes: int


def letter_stats(letters: DeadLetters) -> StatsAnswer:
    reasons: Counter[str] = Counter()
    devices: Counter[str] = Counter()
    first = last = None
    retried = 0
    for page in letters.pages():
        for letter in page:
            reasons[letter.reason] += 1
            devices[field_text(letter.fields, b"device_id") or ""] += 1
            retried += letter.attempts > 0
            first, last = first or letter.at, letter.at
    used = (letters.letters.bytes_used() or 0) if reasons else 0
    return StatsAnswer(
        reasons.total(), dict(reasons.most_common()), dict(devices.most_common(DEVICES)), retried, first, last,
        letters.letters.key, used,
    )  # fmt: skip
