"""Ids and names from the command line that do not exist: reported with the nearest that do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devicevault_cli.errors import NothingMatched
from devicevault_cli.nearest import listed, nearest, quoted, suggestion
from devicevault_cli.operations.wording import some
from devicevault_cli.streams.model import EntryId

if TYPE_CHECKING:
    from devicevault_cli.streams.dead_letters import DeadLetters
    from devicevault_cli.streams.group import Group
    from devicevault_cli.streams.stream import Stream


@dataclass(frozen=True, slots=True)
class Named:
    """Ids or names that were typed and do not exist (`unknown`), and one sentence about them.

    nothing: whether none of those that were typed exists.
    """

    unknown: tuple[str, ...] = ()
    says: str = ""
    hint: str | None = None
    nothing: bool = False

    def error(self) -> NothingMatched:
        """What to raise where none of them exists."""
        return NothingMatched(self.says, hint=self.hint)


NO_NAMES = Named()


def unknown_name(name: str, says: str, hint: str | None = None) -> Named:
    """The one name that was typed does not exist."""
    return Named((name,), says, hint, nothing=True)


def named_entries(
    where: str, stream: Stream | None, ids: Iterable[EntryId] | None, unknown: Sequence[EntryId]
) -> Named:
    """Entries of a stream; `stream` is None for those of a file."""
    if not unknown:
        return NO_NAMES
    says = f"{where} has no {_entry(unknown)}"
    if stream is None:
        return _named(ids, unknown, says, None)
    near = [str(entry.id) for entry in (*stream.last(1, end=unknown[0]), *stream.range(unknown[0], count=1))]
    says += f"; nearest: {', '.join(near)}" if near else "; it has no entries at all"
    return _named(ids, unknown, says, "run `dvctl tail --no-follow` to see the newest entries")


def named_pending(group: Group, ids: Iterable[EntryId] | None, unknown: Sequence[EntryId]) -> Named:
    if not unknown:
        return NO_NAMES
    verb = "is" if len(unknown) == 1 else "are"
    pending = group.summary()
    there = f"{pending.total:,} pending, from {pending.first_id} to {pending.last_id}"
    says = f"{_entry(unknown)} {verb} not pending in group {group.name}; "
    says += there if pending.total else "nothing is pending"
    return _named(ids, unknown, says, "run `dvctl pending` to list the pending entries")


def named_letters(letters: DeadLetters, ids: Iterable[EntryId] | None, unknown: Sequence[EntryId]) -> Named:
    """Dead letters of a group. They are not in the order of these ids, so the nearest is found by reading all."""
    if not unknown:
        return NO_NAMES
    target = unknown[0]
    near: list[EntryId] = []
    for page in letters.pages():
        found = [*near, *(letter.id for letter in page)]
        near = sorted(found, key=lambda key: (abs(key.ms - target.ms), abs(key.seq - target.seq)))[:2]
    there = f"nearest: {', '.join(map(str, sorted(near)))}" if near else "there are none"
    says = f"no dead letter {listed([*map(str, unknown)])}; {there}"
    return _named(ids, unknown, says, "run `dvctl dlq list` to list the dead letters")


def named_consumers(group: Group, names: Sequence[str], known: Iterable[str]) -> Named:
    there = list(known)
    unknown = [name for name in dict.fromkeys(names) if name not in there]
    if not unknown:
        return NO_NAMES
    subject = some([*map(quoted, unknown)])
    says = f"group {group.name} has no consumer {subject}; {suggestion(unknown[0], there, 'consumers')}"
    hint = "run `dvctl consumers` to list the consumers"
    return Named(tuple(unknown), says, hint, nothing=len(unknown) == len(set(names)))


def new_consumer(group: Group, name: str, known: Iterable[str], *, typed: bool = True) -> list[str]:
    """A line for a plan that gives entries to a consumer that does not exist yet; none where it does.

    typed: whether somebody typed the name, which may be a mistake then.
    """
    there = list(known)
    if name in there:
        return []
    close = nearest(name, there) if typed else []
    meant = f"; did you mean {' or '.join(map(quoted, close))}?" if close else ""
    return [f"group {group.name} has no consumer {quoted(name)}: it will be created{meant}"]


def named_group(group: Group) -> Named:
    """The group itself, where the stream has others; a stream without any group is new."""
    known = [info.name for info in group.stream.groups()]
    if not known or group.name in known:
        return NO_NAMES
    return unknown_name(group.name, no_group(group, known), "run `dvctl status` to list the groups")


def no_group(group: Group, known: Iterable[str]) -> str:
    return f"{group.stream.key} has no group {quoted(group.name)}; {suggestion(group.name, known, 'groups')}"


def _named(ids: Iterable[EntryId] | None, unknown: Sequence[EntryId], says: str, hint: str | None) -> Named:
    nothing = len(unknown) >= len(set(ids or ()))
    return Named(tuple(map(str, unknown)), f"not found: {says}", hint, nothing=nothing)


def _entry(ids: Sequence[EntryId]) -> str:
    return f"{'entry' if len(ids) == 1 else 'entries'} {listed([*map(str, ids)])}"
