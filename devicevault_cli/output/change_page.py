"""The result of a changing command as one sentence, green if all was done, yellow if something was left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from devicevault_cli.output.table import position, show, shown_time, text
from devicevault_cli.output.view import Cell, View
from devicevault_cli.plural import number

Answer: TypeAlias = Mapping[str, Any]
LISTED = 10
"""Lines of details at most."""
NAMED = 5
"""Ids and names that a sentence lists at most."""


class Result(NamedTuple):
    """What was done, as a sentence; what was not, as parts of it."""

    done: str
    left: Sequence[str] = ()

    @property
    def sentence(self) -> str:
        """Both together."""
        return "; ".join([self.done, *filter(None, self.left)]) + "."


def result_lines(command: str, answer: Answer, view: View) -> Iterator[str]:
    """The result of a command. A dry run has none: its plan stands above."""
    if answer["applied"]:
        result = RESULTS[command](answer)
        yield from view.folded(result.sentence, "yellow" if any(result.left) else "green", "  ")
    else:
        yield "Dry run: no changes made."
    yield from _details(answer, view)


def _details(answer: Answer, view: View) -> Iterator[str]:
    """What neither the plan nor the sentence says."""
    found = answer.get("conflicting")
    if isinstance(found, list):
        for identity in found[:LISTED]:
            rows = ", ".join(map(str, identity["rows"]))
            name = text(identity["task_identifier"])
            yield from view.folded(f"  task_identifier: {name}, rows: {rows}", indent="    ")
        if len(found) > LISTED:
            yield f"  and {len(found) - LISTED:,} more; -o json lists them"


def result_sentence(command: str, answer: Answer) -> str:
    """The result of a change, by the command as the journal names it, which may have options and names behind it."""
    words = next((words for words in RESULTS if f"{command} ".startswith(f"{words} ")), None)
    return RESULTS[words](answer).sentence if words else ""


def index_lines(answer: Answer, view: View) -> Iterator[str]:
    """The result of `db index`."""
    if answer["created"]:
        yield view.paint(f"Created the unique index {text(answer['index'])}.", "green")
    else:
        yield "No changes made."
    if answer["duplicates"]:
        heads = {"TASK IDENTIFIER": False, "ROWS": False}
        rows = [(text(one["task_identifier"]), " ".join(map(str, one["rows"]))) for one in answer["duplicates"]]
        yield from view.table(heads, rows)


def init_lines(answer: Answer, view: View) -> Iterator[str]:
    """The result of `db init`."""
    if answer["applied"]:
        created = f"{number(answer['tables'], 'table')} and {number(answer['devices'], 'device')}"
        yield view.paint(f"Created {created}.", "green")
    else:
        yield "Dry run: no changes made."


def published_lines(stream: str, answer: Answer, view: View) -> Iterator[str]:
    """The result of `publish`."""
    count = number(answer["published"], "message")
    yield from view.folded(f"Published {count} to {text(stream)}.", "green" if answer["published"] else "", "  ")
    first, last = answer["first_id"], answer["last_id"]
    if first is not None:
        ids = {"first": first, "last": last} if first != last else {"id": first}
        yield from view.grid([(Cell(name, "bold"), key, shown_time(key)) for name, key in ids.items()])


def exported_lines(size: int | None, revealed: bool, answer: Answer, view: View) -> Iterator[str]:
    """The result of `export`. size: of the file, in bytes."""
    if answer["file"] is None:
        yield "Nothing was exported."
        return
    about = f" ({show('bytes', size)}, mode 0600)" if size is not None else ""
    sentence = f"Exported {_entries(answer['exported'])} to {text(answer['file'])}{about}."
    yield from view.folded(sentence, "green" if answer["exported"] else "", "  ")
    if answer["exported"] and not revealed:
        yield from view.folded("Without device_config; --reveal includes it.", "", "  ")
    if unknown := _unknown(answer) if answer.get("unknown") else "":
        yield from view.folded(unknown, "yellow", "  ")


def _entries(count: int) -> str:
    return number(count, "entry", "entries")


def _some(names: Sequence[object]) -> str:
    shown = ", ".join(text(name) for name in names[:NAMED])
    return f"{shown} and {len(names) - NAMED:,} more" if len(names) > NAMED else shown


def _reasons(counts: Mapping[str, int] | None) -> str:
    """` (unknown-device 2, malformed-log 1)`; nothing without any."""
    return f" ({', '.join(f'{text(name)} {count:,}' for name, count in counts.items())})" if counts else ""


def _parts(*parts: tuple[int | None, str]) -> str:
    """Counts that are not 0, in a list."""
    return ", ".join(f"{count:,} {words}" for count, words in parts if count)


def _unknown(answer: Answer) -> str:
    unknown = answer["unknown"]
    return f"not found: {_some(unknown)}" if unknown else ""


def _drop(answer: Answer) -> Result:
    return Result(f"Dropped {number(answer['dropped'], 'dead letter')}", [_unknown(answer)])


def _dispatched(answer: Answer) -> str:
    count = answer.get("dispatched")
    return "" if count is None else f"; dispatched {number(count, 'configuration')}"


def _not_dispatched(answer: Answer) -> str:
    missing = answer.get("not_dispatched")
    return f"not dispatched: {sum(missing.values()):,}{_reasons(missing)}" if missing else ""


def _retry(answer: Answer) -> Result:
    parts = _parts((answer["persisted"], "persisted"), (answer["duplicates"], "had their row already"),
                   (answer["skipped"], "skipped"))  # fmt: skip
    dead = f"{answer['still_dead']:,} stay dead{_reasons(answer['reasons'])}" if answer["still_dead"] else ""
    done = f"Retried {number(answer['retried'], 'dead letter')}{': ' * bool(parts)}{parts}{_dispatched(answer)}"
    return Result(done, [dead, _not_dispatched(answer), _unknown(answer)])


def _claim(answer: Answer) -> Result:
    moved, released, gone = (len(answer[name]) for name in ("claimed", "released", "gone"))
    done = f"Moved {_entries(moved)}" if moved else f"Released {_entries(released)}"
    cleared = f" and cleared {_entries(gone)} no longer on the stream" if gone else ""
    left = answer["selected"] - moved - released - gone
    return Result(done + cleared, [f"{left:,} no longer pending" if left > 0 else "", _unknown(answer)])


def _ack(answer: Answer) -> Result:
    return Result(f"Acknowledged {_entries(len(answer['acked']))}", [_unknown(answer)])


def _retire(answer: Answer) -> Result:
    retired = answer["retired"]
    names = f" ({_some(retired)})" if retired else ""
    moved = f" and moved {_entries(answer['moved'])} to {text(answer['to'])}" if answer["moved"] else ""
    done = f"Retired {number(len(retired), 'consumer')}{names}{moved}"
    spared = answer.get("spared")
    gone = f", cleared {_entries(answer['gone'])} no longer on the stream" if answer.get("gone") else ""
    return Result(done + gone, [f"active again, not retired: {_some(spared)}" if spared else "", _unknown(answer)])


def _reset(answer: Answer) -> Result:
    moved = f"Moved group {text(answer['group'])} from {position(answer['from'])} to {position(answer['to'])}"
    return Result(f"{moved}: {_entries(answer['redelivered'])} come again")


def _destroy(answer: Answer) -> Result:
    deleted = f"Deleted group {text(answer['group'])}"
    if not answer.get("gone", True):
        return Result(deleted, ["a consumer has created it again"])
    return Result(f"{deleted} with {number(answer['pending_lost'], 'pending entry', 'pending entries')}")


def _restore(answer: Answer) -> Result:
    lost = answer["unrestorable"]
    acknowledged = answer["acknowledged"]
    restored = f"Gave {_entries(answer['restored'])} of group {text(answer['group'])} back"
    if answer["whole"]:
        at = f"Restored group {text(answer['group'])} at {position(answer['to'])}"
        restored = f"{at} with {_entries(answer['restored'])} pending"
    return Result(
        restored,
        [
            f"{_entries(len(lost))} no longer on the stream: {_some(lost)}" if lost else "",
            f"{_entries(acknowledged)} acknowledged since" if acknowledged else "",
        ],
    )


def _replay(answer: Answer) -> Result:
    if "republished" in answer:
        refused = answer["refused"]
        left = f"{refused:,} not copied: republished too often" if refused else ""
        return Result(f"Published {number(answer['republished'], 'copy', 'copies')}", [left, _unknown(answer)])
    parts = _parts((answer["inserted"], "inserted"), (answer["duplicates"], "have their row already"),
                   (answer["overwritten"], "of these overwritten"), (answer["skipped"], "skipped"))  # fmt: skip
    rejected = sum(answer["rejected"].values())
    why = f"{rejected:,} rejected{_reasons(answer['rejected'])}" if rejected else ""
    some_of = f"{answer['selected'] - rejected:,} of " if rejected else ""
    done = f"Replayed {some_of}{_entries(answer['selected'])}{': ' * bool(parts)}{parts}{_dispatched(answer)}"
    return Result(done, [why, _not_dispatched(answer), _unknown(answer)])


def _trim(answer: Answer) -> Result:
    exported = f", exported to {text(answer['file'])} before" if answer.get("file") else ""
    return Result(f"Removed {_entries(answer['removed'])}{exported}")


def _restore_rows(answer: Answer) -> Result:
    renumbered = f"{answer['renumbered']:,} with a new id" if answer["renumbered"] else ""
    present = f", {answer['present']:,} were there already" if answer["present"] else ""
    return Result(f"Put {number(answer['restored'], 'row')} back into {text(answer['table'])}{present}", [renumbered])


def _prune(answer: Answer) -> Result:
    return Result(f"Deleted {number(len(answer['deleted']), 'snapshot')}, kept {answer['kept']:,}")


def _index(answer: Answer) -> Result:
    return Result(f"Created the unique index {text(answer['index'])}" if answer["created"] else "No changes made")


def _init(answer: Answer) -> Result:
    return Result(f"Created {number(answer['tables'], 'table')} and {number(answer['devices'], 'device')}")


def _acknowledge(answer: Answer) -> Result:
    return Result(f"Acknowledged {number(len(answer['acknowledged']), 'incident')}", [_unknown(answer)])


def _dispatch(answer: Answer) -> Result:
    stored = f", {answer['already_stored']:,} already stored" if answer["already_stored"] else ""
    done = f"Dispatched {answer['dispatched']:,} of {number(answer['selected'], 'configuration')}{stored}"
    return Result(done, [_not_dispatched(answer), _unknown(answer)])


def _dedupe(answer: Answer) -> Result:
    saved = f", saved in {text(answer['snapshot'])}" if answer["snapshot"] else ""
    count = len(answer["conflicting"])
    have = number(count, "identity has", "identities have")
    conflicting = f"{have} rows that contradict each other" if count else ""
    return Result(f"Removed {number(answer['removed'], 'duplicate row')}{saved}", [conflicting])


def _repair(answer: Answer) -> Result:
    done = answer["repaired"]
    parts = _parts((done["inserted"], "inserted"), (done["duplicates"], "had their row already"),
                   (done["dead_lettered"], "dead-lettered"), (done["left"], "left to their consumers"))  # fmt: skip
    return Result(f"Repaired lost entries{': ' * bool(parts)}{parts}")


def _accept(answer: Answer) -> Result:
    if answer["timeline"] is None or answer["timeline_before"] is None:
        return Result("No change was necessary")
    return Result(f"Timeline {answer['timeline']} of cluster {text(answer['system'])} is accepted")


RESULTS: dict[str, Callable[[Answer], Result]] = {
    "dlq drop": _drop,
    "dlq retry": _retry,
    "claim": _claim,
    "ack": _ack,
    "consumers retire": _retire,
    "reset-group": _reset,
    "destroy-group": _destroy,
    "restore-group": _restore,
    "replay": _replay,
    "trim": _trim,
    "incidents acknowledge": _acknowledge,
    "dispatch": _dispatch,
    "db dedupe": _dedupe,
    "db restore": _restore_rows,
    "db accept": _accept,
    "snapshots prune": _prune,
    "db index": _index,
    "db init": _init,
    "verify --repair": _repair,
}
"""By the words of each command."""
