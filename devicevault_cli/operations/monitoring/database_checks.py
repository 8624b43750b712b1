"""Checks of `dvctl doctor` on the database: rights, table, row-level security, unique index, duplicates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from devicevault_cli.errors import DvctlError, IndexRequired, Refused, TableAtFault, Unavailable
from devicevault_cli.operations.database.fail_over import refusal
from devicevault_cli.operations.monitoring.checks import Check, Finding, problem
from devicevault_cli.plural import number
from devicevault_cli.streams import written_to
from devicevault_cli.streams.group import Group

if TYPE_CHECKING:
    from devicevault_cli.repository.repository import Repository


def database_checks(repository: Repository | None, group: Group) -> Iterator[tuple[str, Check]]:
    """The checks of the database (None: not configured, or unusable), by name. `group`: that writes to it."""
    if repository is None:
        missing = Finding("unknown", "no database is configured", "give --database-url")
        yield "database", lambda: missing
        return
    yield "database", lambda: _database(repository)
    yield "database-rights", lambda: _rights(repository)
    yield "table", lambda: _table(repository)
    if repository.dialect == "postgresql":
        yield "row-level-security", lambda: _row_security(repository)
        yield "database-server", lambda: _server(repository, group)
        yield "synchronous-standby", lambda: _standbys(repository)
    yield "unique-index", lambda: _unique_index(repository)
    yield "duplicates", lambda: _duplicates(repository)


def _fault(repository: Repository, *, writing: bool) -> DvctlError | None:
    try:
        repository.check(writing=writing)
    except TableAtFault as error:
        return error
    except Unavailable:
        raise
    except DvctlError as error:
        return error
    return None


def _database(repository: Repository) -> Finding:
    if error := _fault(repository, writing=False):
        return problem(error)
    return Finding("ok", f"{repository.where} has {repository.spec.name} with every column")


def _rights(repository: Repository) -> Finding:
    error = _fault(repository, writing=True)
    if isinstance(error, TableAtFault):
        return Finding("ok", "the rights are sufficient; for why no row can be written, see `table`")
    if error:
        return problem(error)
    try:
        repository.require_replacing()
    except Refused as refused:
        return problem(refused)._replace(status="warning")
    return Finding("ok", "reading and writing are allowed")


def _table(repository: Repository) -> Finding:
    repository.check(writing=False)
    for fault in repository.faults():
        finding = problem(fault.error)
        return finding if fault.refuses else finding._replace(status="warning")
    return Finding("ok", f"{repository.spec.name} accepted a test row, which was rolled back")


def _row_security(repository: Repository) -> Finding:
    policies = repository.row_security()
    if policies:
        fix = "as the owner: change the policies, or ALTER ROLE ... BYPASSRLS;"
        return Finding("problem", "; ".join(policies), fix)
    return Finding("ok", "no policy hides or refuses rows")


def _server(repository: Repository, group: Group) -> Finding:
    found = repository.server()
    if found is None:
        return Finding("unknown", f"{repository.where} is a standby, or does not tell its timeline")
    try:
        known = written_to.read(group).known
    except DvctlError:
        known = None  # Redis is examined elsewhere
    if known and (error := refusal(known, found, repository.where, group.name)):
        return problem(error)
    promoted = known is not None and known.timeline < found.timeline
    after = "; consumers will look up recent entries again, since a standby was promoted" if promoted else ""
    return Finding("ok", f"{repository.where} is a primary on timeline {found.timeline}{after}")


def _standbys(repository: Repository) -> Finding:
    found = repository.standbys()
    if found is None:
        return Finding("ok", "commits wait for no standby (synchronous_standby_names, synchronous_commit)")
    names = f"synchronous_standby_names = '{found.names}'"
    waiting = f"; {number(found.waiting, 'commit waits', 'commits wait')} now" if found.waiting else ""
    if found.synchronous is None and found.connected >= found.needed:
        grant = "GRANT pg_read_all_stats to the user to see whether they are synchronous"
        return Finding(
            "unknown", f"{names}; {number(found.connected, 'standby', 'standbys')} connected{waiting}", grant
        )
    there = found.synchronous or 0
    if there < found.needed:
        detail = f"{names}, but {there} of {found.needed} synchronous standbys are connected: commits hang{waiting}"
        fix = "start the standby, or change synchronous_standby_names on the primary and reload it"
        return Finding("problem", detail, fix)
    return Finding("ok", f"{names}; {there} connected{waiting}")


def _unique_index(repository: Repository) -> Finding:
    repository.check(writing=False)
    if name := repository.equating_index:
        detail = f"the unique index {name} treats different identifiers as equal: messages may become dead letters"
        return Finding("warning", detail, f"DROP INDEX {name}; then `dvctl db index`")
    if repository.unique_index:
        fast = ": the fast path is used" if repository.dialect == "postgresql" else ""
        return Finding("ok", f"task_identifier is unique{fast}")
    try:
        repository.require_single_writer()
    except IndexRequired as error:
        return problem(error)
    if obstacle := repository.index_obstacle():
        return Finding("ok", f"a lock around each batch prevents duplicate rows; {obstacle}")
    detail = "no unique index: a lock around each batch prevents duplicate rows"
    return Finding("warning", detail, "dvctl db index --dry-run")


def _duplicates(repository: Repository) -> Finding:
    surplus = repository.surplus()
    if surplus:
        return Finding(
            "problem", number(surplus, "duplicate row"), "run `dvctl db dedupe --dry-run`; see `dvctl help duplicates`"
        )
    return Finding("ok", "no duplicate rows")
