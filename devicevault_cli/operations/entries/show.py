"""Single entries: whole, where each stands, and what consuming it would do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any

from devicevault_cli.errors import MissingGroup
from devicevault_cli.messages import Decision, Decoded, Rejected, first_id
from devicevault_cli.operations.entries.pending import shown
from devicevault_cli.operations.monitoring.followed import Followed
from devicevault_cli.operations.monitoring.status import iso
from devicevault_cli.operations.save import UNENCODABLE
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.dead_letters import PACKED, DeadLetters
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import Entry, EntryId, pairs_of
from devicevault_cli.streams.stream import Stream

SECRET_FIELDS = frozenset({b"device_config", b"_dvctl.original.device_config", PACKED})
"""The configuration, also where a repair keeps it, and where a damaged letter has it among all that it holds."""


def shown_fields(fields: Mapping[bytes, bytes], reveal: bool = False) -> dict[str, str | list[str]]:
    """Fields as text; a secret one as its size and the beginning of its SHA-256 unless revealed.

    Where a name stands more than once, a list of its values: consuming takes the last.
    """
    shown: dict[str, str | list[str]] = {}
    for name, value in pairs_of(fields):
        label, text = name.decode("utf-8", "backslashreplace"), _shown_value(name, value, reveal)
        before = shown.get(label)
        if before is None:
            shown[label] = text
        else:
            shown[label] = [*before, text] if isinstance(before, list) else [before, text]
    return shown


def field_lines(fields: Mapping[str, str | list[str]]) -> Iterator[tuple[str, str]]:
    """What `shown_fields` gave, a name and value each; of a repeated name with a note which of them counts."""
    for name, value in fields.items():
        if isinstance(value, str):
            yield name, value
            continue
        for number, text in enumerate(value, 1):
            yield name, f"{text}  ({number} of {len(value)} values{', used' if number == len(value) else ''})"


def _shown_value(name: bytes, value: bytes, reveal: bool) -> str:
    if reveal or name not in SECRET_FIELDS or not value:
        return value.decode("utf-8", "backslashreplace")
    return f"<{len(value)} bytes, sha256 {sha256(value).hexdigest()[:12]}>"


def show(
    ids: Iterable[EntryId],
    group: Group,
    letters: DeadLetters,
    pipeline: Pipeline,
    repository: Repository,
    *,
    reveal: bool = False,
) -> tuple[list[dict[str, Any]], list[EntryId]]:
    """The entries of `show -o json`, an object per id in the order given, and the ids that nothing is known of."""
    wanted = list(ids)
    repository.check(writing=False)
    entries = group.stream.get(wanted)
    try:
        held = group.pending_ids(wanted)
    except MissingGroup:
        held = {}
    info = group.info()
    dead, discarded = letters.ids(), letters.discarded_ids()
    answers = []
    unknown = [key for key in wanted if key not in entries and key not in held and key not in dead | discarded]
    for key in wanted:
        entry = entries.get(key)
        answer: dict[str, Any] = {"id": str(key), "time": iso(key.ms * 1000), "fields": {}, "row": None}
        if entry is None:
            state = "gone"
            would = f"not found: the stream has no entry {key}"
        else:
            answer["fields"] = shown_fields(entry.fields, reveal)
            decision = pipeline.decode(key.ms, key.seq, entry.fields, repository.device_id_max)
            rows = repository.find([decision.record]) if isinstance(decision, Decoded) else [[]]
            answer["row"] = rows[0][0]._asdict() if rows[0] else None
            would = _would(decision, bool(rows[0]), repository)
            first = EntryId(*(first_id(entry.fields) or key))
            if rows[0]:
                state = "persisted"
            elif first in dead:
                state = "dead"
            elif first in discarded or key in discarded:
                state = "discarded"
            elif key in held:
                state = "pending"
            elif info is None or key > info.last_delivered_id:
                state = "undelivered"
            else:
                state = "skipped" if would == "skip" else "lost" if would == "insert" else "lost_invalid"
        answer |= {"state": state, "would": would}
        if key in held:
            answer["pending"] = {
                "consumer": held[key].consumer,
                "idle_ms": held[key].idle_ms,
                "deliveries": held[key].deliveries,
            }
        answers.append(answer)
    return answers, unknown


def _would(decision: Decision, there: bool, repository: Repository) -> str:
    """`insert`, `duplicate`, `skip` or `reject: REASON (DETAIL)`."""
    if isinstance(decision, Rejected):
        return f"reject: {decision.reason} ({decision.detail})"
    if not isinstance(decision, Decoded):
        return "skip"
    if not repository.known_devices([decision.record.device_id]):
        return "reject: unknown-device"
    if not all(repository.encodable([decision.record])):
        return f"reject: {UNENCODABLE.reason} ({UNENCODABLE.detail})"
    return "duplicate" if there else "insert"


def line(entry: Entry) -> dict[str, Any]:
    """An entry as `tail` shows it: small, without its configuration."""
    return {
        "id": str(entry.id),
        "time": iso(entry.id.ms * 1000),
        "device_id": shown(entry.fields, b"device_id"),
        "task_identifier": shown(entry.fields, b"task_identifier"),
        "status": shown(entry.fields, b"status"),
        "log": (shown(entry.fields, b"log") or "")[:500],
        "bytes": sum(map(len, entry.fields.values())),
    }


def follow(
    stream: Stream,
    since: EntryId | None,
    last: int,
    device: str | None,
    status: str | None,
    *,
    forever: bool = True,
    tell: Callable[[str], None] = lambda text: None,
) -> Iterator[dict[str, Any]]:
    """Entries from `since` (else the newest `last`), then those that come, as lines; read-only.

    `tell` is told of a stream that restarted, which is then followed from where it begins again.
    """

    def wanted(entry: Entry) -> bool:
        return (device is None or shown(entry.fields, b"device_id") == device) and (
            status is None or (shown(entry.fields, b"status") or "failure") == status
        )

    info = stream.info()
    position = info.last_id if info else EntryId(0, 0)
    old = stream.pages(since, position) if since is not None else iter([stream.last(last)] if last else [])
    for page in old:
        yield from (line(entry) for entry in page if wanted(entry))
    followed = Followed(stream, info)
    while forever:
        for entry in stream.wait_for(position, 1000):
            position = entry.id
            if wanted(entry):
                yield line(entry)
        if (restart := followed.restart(position)) is not None:
            tell(restart.detail)
            position = restart.again
