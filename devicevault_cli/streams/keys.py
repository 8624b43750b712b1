"""The names of the keys beside a stream, all in the stream's own hash slot, and of their members."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from devicevault_cli.errors import Usage
from devicevault_cli.streams.model import EntryId
from devicevault_cli.times import now_iso

_HASH_TAG = re.compile(r"\{[^}]+\}")


def _beside(suffix: str) -> Callable[[str], str]:
    """Names the key of a stream: `STREAM:suffix` where the stream's name has a hash tag, else `{STREAM}:suffix`."""
    return lambda stream: f"{stream}:{suffix}" if _HASH_TAG.search(stream) else f"{{{stream}}}:{suffix}"


dead = _beside("dead")
"""The stream of dead letters."""
dead_ids = _beside("dead:ids")
"""A hash: `ID GROUP` -> the id of the dead letter, so that a message has one dead letter per group."""
discarded = _beside("discarded")
"""A sorted set of discards, see `discard`; the score is the milliseconds of the id."""
alone = _beside("alone")
"""A hash: `ID GROUP` -> how often processing of a quarantined entry alone was begun and not finished."""
seen = _beside("seen")
"""A hash: GROUP -> JSON of the stream and the group as a consumer of the group observed them last."""
written_to = _beside("database")
"""A hash: GROUP -> JSON of the database server that the group writes to, and of how far it was when."""
incidents = _beside("incidents")
"""A hash: number -> JSON of an incident; `next` is the last number used."""


def member(entry_id: object, group: str) -> str:
    """The field of an entry of a group in the hashes."""
    return f"{entry_id} {group}"


def discard(entry_id: EntryId, group: str, why: str) -> str:
    """The member of a discard in the sorted set: JSON with id, group, why, at."""
    return json.dumps({"id": str(entry_id), "group": group, "why": why, "at": now_iso()})


def discarded_id(member: bytes, group: str | None) -> EntryId | None:
    """The id in the member of a discard; None for another group's, and for what dvctl did not write."""
    try:
        found = json.loads(member)
        return EntryId.parse(found["id"]) if group in (None, found["group"]) else None
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError, Usage):
        return None
