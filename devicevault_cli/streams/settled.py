"""What became of single entries: which have a dead letter or were given up; and letters that are owed to them."""

from __future__ import annotations

from collections.abc import Sequence

from devicevault_cli.streams import keys, scripts
from devicevault_cli.streams.connect import translated
from devicevault_cli.streams.dead_letters import read_discard
from devicevault_cli.streams.delivery import now
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId
from devicevault_cli.streams.stream import entry_id, raw


def with_letter(group: Group, ids: Sequence[EntryId]) -> set[EntryId]:
    """Those of the first ids that have a dead letter of the group now."""
    if not ids:
        return set()
    stream = group.stream
    members = [raw(keys.member(each, group.name)) for each in ids]

    def parse(reply: list[bytes | None]) -> list[tuple[EntryId, EntryId]]:
        return [(first, entry_id(letter)) for first, letter in zip(ids, reply, strict=True) if letter]

    candidates = stream.read(parse, "HMGET", keys.dead_ids(stream.key), *members)
    dead = keys.dead(stream.key)
    found = stream.call_many(("XRANGE", dead, str(letter), str(letter)) for _, letter in candidates)
    return {first for (first, _), there in zip(candidates, found, strict=True) if there}


def given_up(group: Group, ids: Sequence[EntryId]) -> set[EntryId]:
    """Those of the ids that stand among the group's discards now."""
    key = keys.discarded(group.stream.key)
    with translated(group.stream.client):
        replies = group.stream.call_many(("ZRANGEBYSCORE", key, each.ms, each.ms) for each in ids)
        noted = {read_discard(member, group.name) for reply in replies for member in reply}
    return {each for each in ids if each in noted}


def write_late_letter(group: Group, key: EntryId, first: EntryId, reason: str, detail: str) -> bool:
    """Write the dead letter of an entry that was acknowledged without one; twice is once. -> whether it stands

    False where the entry is pending (its consumer will decide) or gone.
    """
    stream = group.stream.key
    names = [stream, keys.dead(stream), keys.dead_ids(stream)]
    about = (raw(group.name), str(key), str(first), "dvctl verify", reason, detail.encode("utf-8", "replace"), now())
    return group.stream.eval(int, scripts.LATE_LETTER, names, *about) == 1
