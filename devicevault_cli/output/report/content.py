"""The content of a report in every format: meanings, a summary, tables, and the next commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from devicevault_cli.plural import number

Answer: TypeAlias = Mapping[str, Any]

MEANING = {
    "persisted": "a row with its identity exists",
    "dead": "has a dead letter",
    "discarded": "discarded on purpose",
    "pending": "delivered, not acknowledged yet",
    "undelivered": "not delivered to the group yet",
    "skipped": "not for this pipeline",
    "lost": "not accounted for; can be restored",
    "lost_invalid": "not accounted for; would be rejected",
}
GONE = "pending, but no longer on the stream"
ROWS_MEANING = {
    "rows": "in the table",
    "duplicate_rows": "with the same identity as an older row",
    "conflicting": "entries whose row has a different device or status",
    "rows_without_entry": "trimmed, or not written by dvctl",
    "rows_without_entry_in_range": "of these, newer than the first entry: lost by Redis, or deleted",
}
STORAGE_MEANING = {
    "stored": "has a stored backup",
    "store_failed": "the storage worker could not store it",
    "not_stored": "has no stored backup",
    "in_progress": "has no stored backup yet; younger than --grace",
    "not_dispatchable": "its device has no git or fs location",
}
DISPATCH = "dvctl dispatch --missing"


class Step(NamedTuple):
    """A command, and what it does."""

    command: str
    why: str


class Table(NamedTuple):
    """Rows of numbers and untrusted text under their headings."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | int | None]]


def summary(answer: Answer) -> str:
    """The result in one sentence."""
    entries, classes = answer["stream"]["entries"], answer["classes"]
    if answer["ok"]:
        stored = answer.get("storage", {}).get("stored")
        more = "" if stored is None else f"; {number(stored, 'configuration is', 'configurations are')} stored"
        return f"All {entries:,} entries are accounted for{more}."
    lost = classes["lost"] + classes["lost_invalid"]
    found = [f"{lost:,} of {number(entries, 'entry is', 'entries are')} lost"] if lost else []
    if gone := answer["pending_gone"]:
        found.append(f"{number(gone, 'pending entry is', 'pending entries are')} no longer on the stream")
    if duplicates := answer["rows"]["duplicate_rows"]:
        found.append(number(duplicates, "duplicate row"))
    if unstored := _unstored(answer):
        found.append(unstored)
    if problem := answer.get("problem"):
        left = f"all {entries:,} entries on the stream are accounted for, but " if entries and not found else ""
        found.append(left + problem)
    return f"{'; '.join(found)}."


def _unstored(answer: Answer) -> str:
    """Which configurations are missing, and the command that dispatches them again; empty where none is."""
    missing, failed = _to_dispatch(answer)
    parts = [f"{number(missing, 'configuration is', 'configurations are')} not stored"] if missing else []
    parts += [f"storing {number(failed, 'configuration')} failed"] if failed else []
    return f"{' and '.join(parts)} (repair: `{DISPATCH}`)" if parts else ""


def _to_dispatch(answer: Answer) -> tuple[int, int]:
    """How many configurations have no stored backup, and how many only failed ones."""
    storage = answer.get("storage", {})
    return storage.get("not_stored", 0), storage.get("store_failed", 0)


def next_steps(answer: Answer, options: str = "", scope: str = "") -> list[Step]:
    """The commands to run next.

    They repeat `options`, which chose the stream and the group, and `scope`, which chose a part of the stream.
    """
    return [Step(" ".join(filter(None, words)), why) for *words, why in _steps(answer, options, scope)]


def _steps(answer: Answer, options: str, scope: str) -> Iterator[tuple[str, ...]]:
    classes = answer["classes"]
    lost, invalid, dead = classes["lost"], classes["lost_invalid"], classes["dead"]
    if lost or invalid:
        effects = [f"inserts {number(lost, 'row')}"] if lost else []
        effects += [f"writes {number(invalid, 'dead letter')}"] if invalid else []
        yield "dvctl verify --repair --dry-run", scope, options, "shows the plan of the repair; changes nothing"
        yield "dvctl verify --repair", scope, options, f"{', '.join(effects)}, then verifies the result"
    if lost:
        yield "dvctl verify --show lost -o ids", scope, options, "lists the ids of all lost entries"
    if answer["pending_gone"]:
        yield "dvctl claim --idle 0", options, "clears pending entries that are no longer on the stream"
    if answer["rows"]["duplicate_rows"]:
        yield "dvctl db dedupe --dry-run", options, "shows which duplicate rows can be removed; changes nothing"
    missing, failed = _to_dispatch(answer)
    if missing or failed:
        chosen = scope.replace("--until", "--to")
        yield (
            f"{DISPATCH} --dry-run",
            chosen,
            options,
            "shows what would be dispatched; changes nothing",
        )
        yield DISPATCH, chosen, options, "hands these configurations to the storage workers"
    for count, state in ((missing, "not_stored"), (failed, "store_failed")):
        if count:
            why = f"lists the ids of {number(count, 'entry', 'entries')}"
            yield f"dvctl verify --show {state} -o ids", scope, options, why
    if dead:
        yield "dvctl dlq list", options, f"shows the reason of {number(dead, 'dead letter')}"


def losses(answer: Answer) -> Answer:
    """The part of the answer that describes the losses: after a repair, as they were before it."""
    before: Answer = answer.get("before", answer)
    return before


def tables(answer: Answer) -> Iterator[Table]:
    """The tables of a report that are not empty, except the timeline and the devices."""
    lost, classes = losses(answer), answer["classes"]
    if answer.get("applied") and "repaired" in answer:
        rows = [[name.replace("_", " "), count] for name, count in answer["repaired"].items()]
        yield Table("Repaired", ["result", "entries"], rows)
    yield Table("Entries", ["class", "entries", "meaning"], [[name, classes[name], MEANING[name]] for name in classes])
    if answer["pending_gone"]:
        yield Table("Gone", ["class", "entries", "meaning"], [["pending gone", answer["pending_gone"], GONE]])
    counts = [[name.replace("_", " "), count, ROWS_MEANING[name]] for name, count in answer["rows"].items()
              if count is not None]  # fmt: skip
    yield Table("Rows", ["rows", "count", "meaning"], counts)
    if "storage" in answer:
        states = [[name, count, STORAGE_MEANING[name]] for name, count in answer["storage"].items()]
        yield Table("Configurations of persisted successes", ["class", "entries", "meaning"], states)
    for key in ("columns_differing", "times_differing"):
        if answer.get(key):
            title = f"{key.replace('_', ' ').capitalize()} between entry and row"
            yield Table(title, ["column", "entries"], list(answer[key].items()))
    if lost["lost_reasons"]:
        title = "Why lost entries would be rejected"
        yield Table(title, ["reason", "entries"], list(lost["lost_reasons"].items()))
    if answer.get("duplicates"):
        rows = [[str(found["identity"]), ", ".join(map(str, found["ids"]))] for found in answer["duplicates"]]
        yield Table("Identities with more than one row", ["identity", "row ids"], rows)
    if lost["examples"]:
        head = ["class", "id", "time", "device", "task identifier", "details"]
        yield Table("Examples", head, [_example(entry) for entry in lost["examples"]])


def devices(answer: Answer) -> Table | None:
    """The devices that lost results, the most affected first."""
    lost = losses(answer)
    if not lost["devices"]:
        return None
    shown, total = len(lost["devices"]), lost["devices_affected"]
    more = f", the {shown} most affected" if shown < total else ""
    rows = [[str(device["device_id"]), device["name"], device["lost"]] for device in lost["devices"]]
    return Table(f"{number(total, 'device')} affected{more}", ["device", "name", "lost"], rows)


def _example(entry: Answer) -> list[str | int | None]:
    details = [f"{key} {entry[key]}" for key in ("consumer", "row") if key in entry]
    details += [f"{entry['reason']}: {entry['detail']}"] if "reason" in entry else []
    device = entry.get("device_id")
    known = (entry["class"], entry["id"], entry["time"], None if device is None else str(device))
    return [*known, entry.get("task_identifier"), ", ".join(details)]


def peak(timeline: Sequence[Answer]) -> Answer:
    """The span with the most losses; of several, the first."""
    return max(timeline, key=lambda span: int(span["lost"]))


_UNITS = (("year", 365 * 86_400), ("week", 7 * 86_400), ("day", 86_400), ("hour", 3600), ("minute", 60))


def span_name(seconds: int) -> str:
    """The length of a span of the timeline: `minute`, `10 minutes`."""
    name, length = next((unit for unit in _UNITS if seconds % unit[1] == 0), ("second", 1))
    count = seconds // length
    return name if count == 1 else f"{count} {name}s"
