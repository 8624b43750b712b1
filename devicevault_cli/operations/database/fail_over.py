"""Fail-over of the database: which server may be written to, and restoring the rows that a promoted standby lacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from devicevault_cli.errors import OtherServer, Refused
from devicevault_cli.operations.monitoring.incidents import Incident
from devicevault_cli.operations.verify.classes import Classifier
from devicevault_cli.operations.verify.repair import Repaired, repair
from devicevault_cli.operations.verify.scan import Scope
from devicevault_cli.operations.wording import entries
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.plural import number
from devicevault_cli.repository.model import Server
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams import written_to
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId
from devicevault_cli.streams.written_to import WrittenTo
from devicevault_cli.times import iso, now_ms

ACCEPT = "dvctl db accept"


@dataclass(frozen=True, slots=True)
class Rechecked:
    """What looking recent entries up again has found. `since`: the first of them; None: there were none."""

    since: EntryId | None
    entries: int
    repaired: Repaired

    @property
    def restored(self) -> int:
        """Rows that were missing, and entries without a row that became dead letters."""
        return self.repaired.inserted + self.repaired.dead_lettered


def server_of(known: WrittenTo) -> Server:
    """The server that is remembered."""
    return Server(known.system, known.timeline, known.position)


def refusal(known: WrittenTo, found: Server, where: str, group: str) -> OtherServer | None:
    """Why the server must not be written to; None where it may be."""
    before = server_of(known)
    if not found.same_system(before):
        return OtherServer(
            f"{where} belongs to another cluster (system identifier {found.system}) than the one that group {group}"
            f" wrote to ({before.system}); nothing is written to it",
            hint=f"correct --database-url or DEVICEVAULT_DATABASE_URL; if the change is intended, run `{ACCEPT}`",
        )
    if found.timeline < before.timeline:
        return OtherServer(
            f"{where} is an old primary: it is on timeline {found.timeline}, and group {group} has written to timeline"
            f" {before.timeline}; nothing is written to it",
            hint="stop it, and make it a standby of the new primary (pg_rewind); only if the new primary is lost for"
            f" good, run `{ACCEPT}`; see `dvctl help database-down`",
        )
    return None


def require_current(group: Group, repository: Repository) -> None:
    """Write on the server only that the group writes to. Raises OtherServer where another one answers."""
    try:
        known = written_to.read(group).known
    except Refused:  # a user who may read no more than the stream
        return
    found = None if known is None else repository.server()
    if known is None or found is None:
        return
    if error := refusal(known, found, repository.where, group.name):
        raise error
    repository.require_server(found)


def recheck(
    group: Group, pipeline: Pipeline, repository: Repository, since: EntryId | None, progress: Callable[[int], object]
) -> Rechecked:
    """Look up again every entry that the group has finished since an id, and restore what is missing.

    May be repeated, and run beside consumers and beside another one: each record is looked up in the transaction that
    saves it. Entries that are pending or not delivered yet are left to the consumers. `progress` is called with the
    number of entries of each page.
    """
    if since is None:
        return Rechecked(None, 0, Repaired())
    looked = 0

    def count(found: int) -> None:
        nonlocal looked
        looked += found
        progress(found)

    classifier = Classifier(group, pipeline, repository)
    if classifier.position is None or classifier.position < since:
        return Rechecked(since, 0, Repaired())
    repaired = repair(classifier, Scope(since, classifier.position), count)
    return Rechecked(since, looked, repaired)


def sentence(done: Rechecked, before: Server, found: Server, where: str) -> str:
    """What happened, and what was found."""
    promoted = f"{where} is on timeline {found.timeline}; before, it was {before.timeline}: a standby was promoted"
    if found.is_same(before):
        promoted = f"{where} was accepted with `{ACCEPT}`"
    elif not found.same_system(before):
        promoted = f"{where} belongs to another cluster than before (accepted with `{ACCEPT}`)"
    elif found.timeline < before.timeline:
        promoted = f"{where} is back on timeline {found.timeline}, after {before.timeline} (accepted with `{ACCEPT}`)"
    if done.since is None:
        return f"{promoted}; no entry was looked up again"
    since = f"since {iso(done.since.ms)}" if done.since.ms else "from the start of the stream"
    looked = f"{entries(done.entries)} {since} looked up again"
    if not done.restored:
        return f"{promoted}; {looked}: no row is missing"
    letters = done.repaired.dead_lettered
    also = f", {number(letters, 'dead letter')} written" if letters else ""
    return f"{promoted}; {looked}: {number(done.repaired.inserted, 'missing row')} restored{also}"


def incident(group: Group, detail: str) -> Incident:
    """The record of rows that had been lost and are back."""
    return Incident(None, iso(now_ms()), "rows-restored", group.stream.key, group.name, detail, unread=0)
