"""What every telling of a verification shares: the meanings, the summary, the tables, what to type next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from devicevault_cli.plural import number

Answer: TypeAlias = Mapping[str, Any]

MEANING = {
    "persisted": "a row with its identity is there",
    "dead": "has a dead letter",
    "discarded": "given up on purpose",
    "pending": "delivered, not acknowledged yet",
    "undelivered": "the group has not come to it yet",
    "skipped": "not for this pipeline",
    "lost": "accounted for nowhere; would become a row",
    "lost_invalid": "accounted for nowhere; would be rejected",
}
GONE = "pending, but on the stream no more"
ROWS_MEANING = {
    "rows": "in the table",
    "duplicate_rows": "beyond one for each identity",
    "conflicting": "entries whose row has another device or status",
    "rows_without_entry": "that no entry accounts for (trimmed, or written otherwise)",
}


class Step(NamedTuple):
    """A command, and what it is good for."""

    command: str
    why: str


class Table(NamedTuple):
    """Rows of numbers and untrusted text under their headings."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | int | None]]


def summary(answer: Answer) -> str:
    """One sentence."""
    entries, classes = answer["stream"]["entries"], answer["classes"]
    if answer["ok"]:
        return f"All {entries:,} entries are accounted for."
    lost = classes["lost"] + classes["lost_invalid"]
    found = [f"{lost:,} of {entries:,} entries are lost"] if lost else []
    if answer["pending_gone"]:
        found.append(f"{answer['pending_gone']:,} pending entries are gone from the stream")
    if answer["rows"]["duplicate_rows"]:
        found.append(f"{answer['rows']['duplicate_rows']:,} rows are surplus")
    if problem := answer.get("problem"):
        left = f"all {entries:,} entries on the stream are accounted for, but " if entries and not found else ""
        found.append(left + problem)
    return f"{'; '.join(found)}."


def next_steps(answer: Answer, options: str = "", scope: str = "") -> list[Step]:
    """What to type next. `options` chose stream and group, `scope` the part of the stream: they are repeated."""
    return [Step(" ".join(filter(None, words)), why) for *words, why in _steps(answer, options, scope)]


def _steps(answer: Answer, options: str, scope: str) -> Iterator[tuple[str, ...]]:
    classes = answer["classes"]
    lost, invalid, dead = classes["lost"], classes["lost_invalid"], classes["dead"]
    if lost or invalid:
        does = [f"inserts {number(lost, 'row')}"] if lost else []
        does += [f"writes {number(invalid, 'dead letter')}"] if invalid else []
        yield "dvctl verify --repair --dry-run", scope, options, "shows the plan of the repair, changes nothing"
        yield "dvctl verify --repair", scope, options, f"{', '.join(does)}, and verifies again"
    if lost:
        yield "dvctl verify --show lost -o ids", scope, options, "lists the ids of all lost entries"
    if answer["pending_gone"]:
        yield "dvctl claim --idle 0", options, "clears what is pending but on the stream no more"
    if answer["rows"]["duplicate_rows"]:
        yield "dvctl db dedupe --dry-run", options, "shows which surplus rows can go, changes nothing"
    if dead:
        yield "dvctl dlq list", options, f"tells why there {'is' if dead == 1 else 'are'} {number(dead, 'dead letter')}"


def losses(answer: Answer) -> Answer:
    """Where the losses are told: after a repair, what it found."""
    before: Answer = answer.get("before", answer)
    return before


def tables(answer: Answer) -> Iterator[Table]:
    """What a report tells besides when and which devices, as far as there is any."""
    lost = losses(answer)
    if answer.get("applied") and "repaired" in answer:
        rows = [[name.replace("_", " "), count] for name, count in answer["repaired"].items()]
        yield Table("Repaired", ["what", "entries"], rows)
    classes = answer["classes"]
    yield Table("Entries", ["class", "entries", "meaning"], [[name, classes[name], MEANING[name]] for name in classes])
    if answer["pending_gone"]:
        yield Table("Gone", ["what", "entries", "meaning"], [["pending gone", answer["pending_gone"], GONE]])
    counts = [[name.replace("_", " "), count, ROWS_MEANING[name]] for name, count in answer["rows"].items()
              if count is not None]  # fmt: skip
    yield Table("Rows", ["rows", "count", "meaning"], counts)
    for key in ("columns_differing", "times_differing"):
        if answer.get(key):
            title = f"{key.replace('_', ' ').capitalize()} between entry and row"
            yield Table(title, ["column", "entries"], list(answer[key].items()))
    if lost["lost_reasons"]:
        title = "Why lost entries would be rejected"
        yield Table(title, ["reason", "entries"], list(lost["lost_reasons"].items()))
    if answer.get("duplicates"):
        rows = [[str(each["identity"]), ", ".join(map(str, each["ids"]))] for each in answer["duplicates"]]
        yield Table("Identities that stand more than once", ["identity", "ids of the rows"], rows)
    if lost["examples"]:
        yield Table("Examples", ["class", "id", "time", "device", "task identifier", "more"],
                    [_example(each) for each in lost["examples"]])  # fmt: skip


def devices(answer: Answer) -> Table | None:
    """Which devices lost results, the most affected first."""
    lost = losses(answer)
    if not lost["devices"]:
        return None
    shown, all_of_them = len(lost["devices"]), lost["devices_affected"]
    more = f", the {shown} most affected" if shown < all_of_them else ""
    rows = [[str(each["device_id"]), each["name"], each["lost"]] for each in lost["devices"]]
    return Table(f"{number(all_of_them, 'device')} affected{more}", ["device", "name", "lost"], rows)


def _example(about: Answer) -> list[str | int | None]:
    more = [f"{key} {about[key]}" for key in ("consumer", "row") if key in about]
    more += [f"{about['reason']}: {about['detail']}"] if "reason" in about else []
    device = about.get("device_id")
    plain = (about["class"], about["id"], about["time"], None if device is None else str(device))
    return [*plain, about.get("task_identifier"), ", ".join(more)]


def busiest(timeline: Sequence[Answer]) -> Answer:
    """The span with the most losses; of several the first."""
    return max(timeline, key=lambda each: int(each["lost"]))


_UNITS = (("year", 365 * 86_400), ("week", 7 * 86_400), ("day", 86_400), ("hour", 3600), ("minute", 60))


def span_name(seconds: int) -> str:
    """`minute`, `10 minutes`: the length of a span of the timeline."""
    name, length = next((each for each in _UNITS if seconds % each[1] == 0), ("second", 1))
    count = seconds // length
    return name if count == 1 else f"{count} {name}s"
