"""What a run of the consumer did, in numbers: the keys of its summary, and its metrics."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, NamedTuple

SUMMARY = (
    *("read", "persisted", "duplicates", "conflicting", "replaced", "dead_lettered", "skipped"),
    *("dropped", "gone", "reclaimed", "dispatched", "not_dispatched"),
    *("deferred_retries", "stream_restarts", "entries_never_read", "rechecked", "recovered", "reasons", "notes"),
)
IF_ANY = (
    *("duplicates", "conflicting", "replaced", "dead_lettered", "skipped", "dropped", "gone"),
    *("dispatched", "deferred_retries", "recovered"),
)
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metric(NamedTuple):
    """Declares a field a metric too, as `dvctl_` and the name of the field, unless `name` says another one.

    `label`: of a dict, what its keys are.
    """

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    name: str = ""
    label: str = ""


@dataclass(slots=True)
class Durations:
    """Durations by size. `counts`: how many are at most as long as each of BOUNDS_S and longer than the bound before,
    then how many are longer than all. `total_s`: their sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    total_s: float = 0.0

    def add(self, seconds: Iterable[float]) -> None:
        """Count durations."""
        for duration in seconds:
            self.counts[bisect_left(BOUNDS_S, duration)] += 1
            self.total_s += duration


@dataclass(slots=True)
class Counters:
    """Counts of entries by outcome, changed by the loop alone; other threads read them.

    `taken`: entries read from the stream, with or without an outcome. `waiting`: nothing was read yet, or not since the
    last outage. `lag`: as it was looked up last.
    """

    persisted: int = 0
    duplicates: int = 0
    replaced: int = 0
    dead_lettered: int = 0
    skipped: int = 0
    dropped: int = 0
    gone: int = 0
    taken: int = 0
    waiting: bool = True
    lag: int | None = None
    started: float = field(default_factory=time.monotonic)
    conflicting: Annotated[int, Metric("counter", "Duplicates whose row has another device or status.")] = 0
    reclaimed: Annotated[int, Metric("counter", "Entries taken over from consumers that died.")] = 0
    dispatched: Annotated[int, Metric("counter", "Configurations handed to the storage task.")] = 0
    not_dispatched: Annotated[
        dict[str, int], Metric("counter", "Configurations of successes that no storage worker gets.", label="reason")
    ] = field(default_factory=dict)
    confirm_seconds: Annotated[
        Durations,
        Metric("histogram", "From sending a configuration to its confirmation.", name="dispatch_confirm_seconds"),
    ] = field(default_factory=Durations)
    broker_up: Annotated[
        bool | None,
        Metric("gauge", "1 while the broker takes configurations, 0 while not; only with storage dispatch."),
    ] = None
    deferred_retries: Annotated[
        int, Metric("counter", "Attempts that failed because a server was away, and were repeated.")
    ] = 0
    stream_restarts: Annotated[
        int, Metric("counter", "Times that the stream was found flushed, deleted, replaced or fallen back.")
    ] = 0
    entries_never_read: Annotated[
        int, Metric("counter", "Entries that left the stream before the group read them, as far as that was noticed.")
    ] = 0
    rechecked: Annotated[int, Metric("counter", "Entries looked up again after a fail-over of the database.")] = 0
    recovered: Annotated[
        int, Metric("counter", "Rows and dead letters restored because a fail-over of the database had lost rows.")
    ] = 0
    reasons: Annotated[
        dict[str, int], Metric("counter", "Dead letters written, by reason.", name="rejected", label="reason")
    ] = field(default_factory=dict)
    notes: Annotated[
        dict[str, int],
        Metric(
            "counter",
            "Fields stored as NULL or clamped, because their value is unusable or implausible.",
            name="unusable_fields",
            label="field",
        ),
    ] = field(default_factory=dict)
    in_hand: Annotated[int, Metric("gauge", "Entries that this process has read and that have no outcome yet.")] = 0
    table_refuses_rows: Annotated[
        bool,
        Metric("gauge", "1 while the table refuses rows for a reason that is not in the messages: it needs repair."),
    ] = False
    dead_letters: Annotated[
        int | None, Metric("gauge", "Dead letters beside the stream, of every group: `dvctl dlq list`.")
    ] = None
    incidents_unacknowledged: Annotated[
        int | None, Metric("gauge", "Incidents of the stream that nobody has acknowledged: `dvctl incidents`.")
    ] = None

    @property
    def read(self) -> int:
        """Entries that reached an outcome: their sum, so that none is missing from it."""
        return sum(self.outcomes().values())

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def outcomes(self) -> dict[str, int]:
        """Entries by outcome, as the metrics name it."""
        return {
            "persisted": self.persisted,
            "duplicate": self.duplicates,
            "replaced": self.replaced,
            "dead_lettered": self.dead_lettered,
            "skipped": self.skipped,
            "dropped": self.dropped,
            "gone": self.gone,
        }

    def summary(self, stopped_by: str) -> dict[str, object]:
        """The answer of `consume -o json`."""
        elapsed = self.elapsed_s
        return {
            **{name: getattr(self, name) for name in SUMMARY},
            "elapsed_s": round(elapsed, 3),
            "rate_per_s": round(self.read / elapsed, 1) if elapsed else 0.0,
            "stopped_by": stopped_by,
        }

    def counts(self) -> dict[str, object]:
        """The counts of the summary, for the log."""
        return {"read": self.read} | {name: getattr(self, name) for name in SUMMARY if name not in ("reasons", "notes")}

    def line(self) -> str:
        """The counts for people, without those that are 0."""
        parts = [f"read {self.read}", f"persisted {self.persisted}"]
        parts += [f"{name.replace('_', ' ')} {count}" for name in IF_ANY if (count := getattr(self, name))]
        if missed := sum(list(self.not_dispatched.values())):  # which the loop may add to
            parts.append(f"not dispatched {missed}")
        return ", ".join(parts)


def summed(several: Iterable[Counters]) -> Counters:
    """The counters of several streams as one: sums, of which one is None only where none is known."""
    each = list(several)
    total = Counters(started=min(one.started for one in each), waiting=any(one.waiting for one in each))
    for declared in fields(Counters):
        name = declared.name
        values = [value for one in each if (value := getattr(one, name)) is not None]
        if name not in ("started", "waiting") and values:
            setattr(total, name, _sum(values))
    return total


def _sum(values: list[Any]) -> Any:
    if isinstance(values[0], bool):
        return any(values)
    if isinstance(values[0], dict):
        counts: dict[str, int] = {}
        for value in values:
            for key, count in dict(value).items():
                counts[key] = counts.get(key, 0) + count
        return counts
    if isinstance(values[0], Durations):
        counted = zip(*(value.counts for value in values), strict=True)
        return Durations(list(map(sum, counted)), sum(value.total_s for value in values))
    return sum(values)
