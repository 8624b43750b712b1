"""The pictures of `dvctl pending` and `dvctl dlq`: one sentence, the numbers, then the list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from devicevault_cli.output.table import cell_of, heading, show, text
from devicevault_cli.output.view import Cell, View
from devicevault_cli.plural import number

Answer: TypeAlias = Mapping[str, Any]
PENDING = ("id", "consumer", "idle_ms", "age_ms", "deliveries", "state", "device_id")
LETTERS = ("id", "reason", "device_id", "attempts", "detail")


def pending_lines(answer: Answer, view: View) -> Iterator[str]:
    """How many entries are pending, whose they are, and the listed ones."""
    total, consumers, entries = answer["total"], answer["consumers"], answer.get("entries", ())
    group = text(answer["group"])
    if not total:
        yield view.state("ok", f"OK: no pending entries in group {group}")
        return
    states = Counter(entry["state"] for entry in entries)
    found = [number(total, "pending entry", "pending entries") + f" in group {group}"]
    found += [f"{states['gone']:,} gone from the stream"] if states["gone"] else []
    found += [f"{states['stuck']:,} stuck"] if states["stuck"] else []
    found += [f"{len(entries):,} listed"] if entries and len(entries) < total else []
    worst = "problem" if states["gone"] else "warning" if states["stuck"] else ""
    yield from _headline(view, worst, ", ".join(found))
    yield from _counts(view, "CONSUMER", "PENDING", consumers)
    yield from _list(view, entries, PENDING)


def letters_lines(answer: Answer, view: View) -> Iterator[str]:
    """How many dead letters there are, why, and the listed ones."""
    total, entries = answer["total"], answer["entries"]
    if not total:
        yield view.state("ok", "OK: no dead letters")
        return
    listed = f", {len(entries):,} listed" if len(entries) < total else ""
    yield from _headline(view, "warning", number(total, "dead letter") + listed)
    yield from _counts(view, "REASON", "LETTERS", answer["reasons"])
    yield from _list(view, entries, LETTERS)


def letter_stats_lines(answer: Answer, view: View) -> Iterator[str]:
    """How many dead letters there are, since when, and of which reasons and devices."""
    if not answer["total"]:
        yield view.state("ok", "OK: no dead letters")
        return
    about = f"{number(answer['total'], 'dead letter')}, {answer['retried']:,} retried, {show('bytes', answer['bytes'])}"
    yield from _headline(view, "warning", about)
    yield f"from {answer['first_at']} to {answer['last_at']}"
    yield from _counts(view, "REASON", "LETTERS", answer["reasons"])
    yield from _counts(view, "DEVICE ID", "LETTERS", answer["devices"])


def _headline(view: View, state: str, sentence: str) -> Iterator[str]:
    if state:
        for line in view.folded(f"{state.upper()}: {sentence}", indent="  "):
            yield view.state(state, line)
    else:
        yield from view.folded(sentence, "bold", "  ")


def _counts(view: View, name: str, what: str, counts: Mapping[str, int]) -> Iterator[str]:
    if counts:
        yield ""
        yield from view.table({name: False, what: True}, [(text(key), f"{count:,}") for key, count in counts.items()])


def _list(view: View, rows: Sequence[Answer], columns: Sequence[str]) -> Iterator[str]:
    if rows:
        right = {key: all(isinstance(row[key], (int, float)) for row in rows) for key in columns}
        cells: list[list[Cell]] = [[cell_of(key, row[key]) for key in columns] for row in rows]
        yield ""
        yield from view.table({heading(key): to_right for key, to_right in right.items()}, cells)
