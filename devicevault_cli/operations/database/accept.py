"""db accept: let consumers write to a database server that they refuse: an old primary, or another cluster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from devicevault_cli.operations.answer import ChangeAnswer
from devicevault_cli.operations.changes.change import Change, stale
from devicevault_cli.operations.changes.undo import impossible
from devicevault_cli.operations.database.fail_over import refusal
from devicevault_cli.repository.model import Server
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams import written_to
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.written_to import WrittenTo

UNDO = impossible("once the other server answers again, run `dvctl db accept` for that one")


@dataclass(frozen=True, slots=True)
class AcceptAnswer(ChangeAnswer):
    """The answer of `db accept`: identifier of the cluster and timeline, of the server that answers and of the one that
    was written to before. None where they are not known."""

    system: str | None
    timeline: int | None
    system_before: str | None
    timeline_before: int | None


def plan_accept(group: Group, repository: Repository) -> Change[AcceptAnswer]:
    """Accept the server that answers now, if consumers of the group would refuse it."""
    found, stored = repository.server(), written_to.read(group)
    known = stored.known
    why = refusal(known, found, repository.where, group.name) if known and found else None
    answer = AcceptAnswer(
        found.system if found else None, found.timeline if found else None,
        known.system if known else None, known.timeline if known else None,
    )  # fmt: skip

    def apply() -> AcceptAnswer:
        now = repository.server()
        if known is None or found is None or now is None or not now.is_same(found):
            raise stale()
        accepted = replace(known, system=found.system, timeline=found.timeline, position=found.position, unchecked=True)
        if not written_to.remember(group, stored, accepted):
            raise stale()
        return answer

    return Change(
        command="db accept", says=tuple(_says(group, repository.where, known, found, refused=why is not None)),
        undo=UNDO, answer=answer, size=int(why is not None), apply=apply,
        still_true=lambda: written_to.read(group).known == known,
    )  # fmt: skip


def _says(group: Group, where: str, known: WrittenTo | None, found: Server | None, *, refused: bool) -> Iterator[str]:
    if found is None:
        yield f"{where} is no PostgreSQL primary: there is nothing to accept"
    elif known is None:
        yield f"group {group.name} has not written to a PostgreSQL server yet: there is nothing to accept"
    elif not refused:
        yield f"{where} may be written to: there is nothing to accept"
    else:
        yield f"group {group.name} has written to {_server(known.system, known.timeline)}"
        yield f"{where} is {_server(found.system, found.timeline)}: consumers would write to it from now on"
        yield "they look recent entries up again first (--recheck); for everything before, run `dvctl verify`"


def _server(system: str, timeline: int) -> str:
    return f"cluster {system or '(unknown)'}, timeline {timeline}"
