"""Small named checks, each with a fix: is everything around the consumer as it should be?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from devicevault_cli.errors import DvctlError, Refused, TableAtFault, Unavailable, UnknownCommand
from devicevault_cli.operations.monitoring import stream_checks
from devicevault_cli.operations.monitoring.checks import Check, Finding, examine
from devicevault_cli.operations.monitoring.lag import lag_of, trimmed_unread
from devicevault_cli.operations.monitoring.liveness import devicevaults, liveness_of, who_waits
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.clients import clients_of, is_unnamed, user_of
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.group import Group

STUCK_MS = 60_000
POISON = 5
"""Deliveries after which an entry looks as if it kills its consumers."""
LOOKED_AT = 10_000
"""Pending entries that are examined, oldest first."""


def diagnose(
    group: Group,
    repository: Repository | None,
    overridden: Sequence[str] = (),
    without_effect: Sequence[str] = (),
    *,
    redis_error: DvctlError | None = None,
    database_error: DvctlError | None = None,
) -> dict[str, Any]:
    """The answer of `doctor -o json`. A check that cannot be made is `unknown`; a server that is away is one problem.

    The errors are what is known to be the matter before any check is made.
    """
    known = None if database_error else repository
    found = [
        *examine([*_redis_checks(group), *_group_checks(group), *_stream_checks(group, known)], "Redis", redis_error),
        *examine(_database_checks(repository), "the database", database_error),
        *examine([("settings", lambda: _settings(overridden, without_effect))], ""),
    ]
    return {"checks": [{"name": name, **finding._asdict()} for name, finding in found]}


def has_problem(answer: dict[str, Any]) -> bool:
    """Whether something is to be repaired; warnings and unknowns alone are not."""
    return any(each["status"] == "problem" for each in answer["checks"])


# --- Redis -----------------------------------------------------------------------------------------------------------


def _redis_checks(group: Group) -> Iterator[tuple[str, Check]]:
    yield "redis-version", lambda: _redis_version(group)
    yield "redis-persistence", lambda: _persistence(group)
    yield "redis-eviction", lambda: _eviction(group)
    yield "redis-clients", lambda: _clients(group)
    yield "redis-scripts", lambda: _scripts(group)


def _redis_version(group: Group) -> Finding:
    about = group.stream.server_info("server")
    if "valkey_version" in about:
        # Every Valkey has the commands of Redis 7.2, which it gives as its redis_version.
        return Finding("ok", f"Valkey {about['valkey_version']}")
    version = about.get("redis_version", "0")
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < (6, 2):
        return Finding("problem", f"Redis {version} lacks commands that dvctl needs", "upgrade to Redis 6.2 or newer")
    return Finding("ok", f"Redis {version}")


def _persistence(group: Group) -> Finding:
    about = group.stream.server_info("persistence")
    if about.get("aof_enabled") == "1":
        return Finding("ok", "the append-only file is on")
    fix = "set appendonly yes"
    if about.get("rdb_last_bgsave_status", "ok") != "ok":
        return Finding("problem", "the last snapshot failed, and there is no append-only file", fix)
    return Finding("warning", "no append-only file: a crash of Redis loses what came since its last snapshot", fix)


def _eviction(group: Group) -> Finding:
    policy = group.stream.eviction_policy()
    if not policy:
        return Finding("unknown", "Redis does not tell its eviction policy")
    if policy.startswith("allkeys"):
        return Finding("problem", f"maxmemory-policy {policy} may evict the stream", "set maxmemory-policy noeviction")
    return Finding("ok", f"maxmemory-policy {policy}")


def _clients(group: Group) -> Finding:
    client = group.stream.client
    fix = f"as an administrator: ACL SETUSER {user_of(client)} +client|setname +client|list"
    if clients_of(group.stream) is None:
        detail = "CLIENT LIST is not permitted: dvctl does not see whether a consumer waits for messages"
        return Finding("warning", detail, fix)
    if is_unnamed(client):
        detail = "CLIENT SETNAME is not permitted: dvctl's waiting consumers are taken for DeviceVault's"
        return Finding("warning", detail, fix)
    return Finding("ok", "CLIENT LIST and CLIENT SETNAME are permitted")


def _scripts(group: Group) -> Finding:
    try:
        group.stream.check_scripts()
    except UnknownCommand as error:
        return Finding("problem", f"scripts cannot run: {error}", error.hint or "")
    except Refused as error:  # right for a user that only looks, who runs doctor too
        return Finding("warning", f"this user cannot consume, which takes scripts: {error}", error.hint or "")
    return Finding("ok", "scripts (EVAL) are allowed")


# --- the group -------------------------------------------------------------------------------------------------------


def _group_checks(group: Group) -> Iterator[tuple[str, Check]]:
    yield "group", lambda: _group(group)
    yield "consumers", lambda: _consumers(group)
    yield "devicevault-consumer", lambda: _its_own_consumer(group)
    yield "dangling-pending", lambda: _dangling(group)
    yield "poison", lambda: _poison(group)
    yield "trimmed-unread", lambda: _trimmed(group)
    yield "dead-letters", lambda: _dead_letters(group)


def _group(group: Group) -> Finding:
    info = group.stream.info()
    if info is None:
        return Finding("warning", f"there is no stream {group.stream.key} yet", "it appears with the first message")
    about = group.info()
    if about is None:
        return stream_checks.group_is_missing(group, info)
    return Finding("ok", f"{group.name} is at {about.last_delivered_id.shown}, {about.pending:,} pending")


def _consumers(group: Group) -> Finding:
    if group.info() is None:
        return Finding("ok", "none")
    liveness = liveness_of(group)
    consumers = liveness.consumers
    stuck = [each.name for each in consumers if each.pending and each.idle_ms >= STUCK_MS]
    if stuck:
        held = sum(each.pending for each in consumers if each.name in stuck)
        detail = f"{held:,} entries are held by consumers that are dead or stuck: {', '.join(stuck[:5])}"
        return Finding(
            "problem", detail, "start `dvctl consume`, which takes them over; `dvctl consumers retire` tidies"
        )
    dead = [each.name for each in consumers if each.idle_ms >= 3_600_000 and not liveness.alive(each)]
    if dead:
        detail = f"{len(dead)} consumers hold nothing and were idle for an hour: {', '.join(dead[:5])}"
        return Finding("warning", detail, "dvctl consumers retire --dead-for 1h")
    alive = sum(liveness.alive(each) is True for each in consumers)
    return Finding("ok" if alive else "warning", f"{alive} alive", "" if alive else "start `dvctl consume`")


def _its_own_consumer(group: Group) -> Finding:
    if group.info() is None:
        return Finding("ok", "not running")
    liveness = liveness_of(group)
    named = devicevaults(liveness)
    fix = "stop it; until then `dvctl db index` keeps rows single"
    alive = [each.name for each in named if liveness.alive(each)]
    if alive:
        detail = f"DeviceVault's own consumer is alive in this group: {alive[0]}; it acknowledges what failed"
        return Finding("problem", detail, fix)
    if waits := who_waits(liveness):
        its_own = liveness.candidates and all(each in named for each in liveness.candidates)
        left = "; names left behind go with `dvctl consumers retire NAME --force`"
        return Finding("problem" if its_own else "unknown", waits, f"if that is DeviceVault's consumer, {fix}{left}")
    if liveness.clients is None:
        return Finding("unknown", "CLIENT LIST is not permitted: a consumer that waits for messages is not seen")
    return Finding("ok", "not running" if not named else f"not running ({len(named)} names left behind)")


def _dangling(group: Group) -> Finding:
    if group.info() is None:
        return Finding("ok", "nothing is pending")
    looked = gone = 0
    for page in islice(group.pending_pages(), LOOKED_AT // 1000):
        looked += len(page)
        gone += len(page) - len(group.stream.get(each.id for each in page))
    if gone:
        detail = f"{gone:,} of {looked:,} pending entries are gone from the stream"
        return Finding("problem", detail, "dvctl claim --release --idle 0 clears them; trim with `dvctl trim`")
    return Finding("ok", f"{looked:,} pending entries, all on the stream")


def _poison(group: Group) -> Finding:
    if group.info() is None:
        return Finding("ok", "nothing is pending")
    found = [each for page in islice(group.pending_pages(), LOOKED_AT // 1000) for each in page]
    often = [each for each in found if each.deliveries >= POISON]
    if often:
        detail = f"{len(often):,} entries were delivered {POISON} times or more, e.g. {often[0].id}"
        return Finding("warning", detail, f"dvctl show {often[0].id}")
    return Finding("ok", "no entry was delivered often")


def _trimmed(group: Group) -> Finding:
    info, about = group.stream.info(), group.info()
    if info is None or about is None:
        return stream_checks.removed_without_group(group, info)
    number = trimmed_unread(info, about, lag_of(group.stream, info, about))
    if number is None:
        return Finding("unknown", "Redis does not record whether the entries that left the stream were read")
    if number:
        detail = f"{number:,} entries left the stream before the group read them"
        return Finding("problem", detail, "they are lost; let `dvctl trim` do the trimming, it knows how far it may go")
    return Finding("ok", "nothing was trimmed unread")


def _dead_letters(group: Group) -> Finding:
    number = sum(len(page) for page in DeadLetters(group.stream, group.name).pages())
    if number:
        return Finding("warning", f"{number:,} dead letters wait for somebody", "dvctl dlq stats")
    return Finding("ok", "none")


def _stream_checks(group: Group, repository: Repository | None) -> Iterator[tuple[str, Check]]:
    yield "incidents", lambda: stream_checks.incidents(group, repository)
    yield "side-keys", lambda: stream_checks.side_keys(group.stream)


# --- the database ----------------------------------------------------------------------------------------------------


def _database_checks(repository: Repository | None) -> Iterator[tuple[str, Check]]:
    if repository is None:
        missing = Finding("unknown", "no database is configured", "give --database-url")
        yield "database", lambda: missing
        return
    yield "database", lambda: _database(repository)
    yield "database-rights", lambda: _rights(repository)
    yield "table", lambda: _table(repository)
    if repository.dialect == "postgresql":
        yield "row-level-security", lambda: _row_security(repository)
    yield "unique-index", lambda: _index(repository)
    yield "duplicates", lambda: _duplicates(repository)


def _database(repository: Repository) -> Finding:
    try:
        repository.check(writing=False)
    except Unavailable:
        raise
    except DvctlError as error:
        return Finding("problem", str(error), error.hint or "")
    return Finding("ok", f"{repository.where} has {repository.spec.name} with every column")


def _rights(repository: Repository) -> Finding:
    try:
        repository.check()
    except TableAtFault:
        return Finding("ok", "the rights are there; why no row can be written: see `table`")
    except Unavailable:
        raise
    except DvctlError as error:
        return Finding("problem", str(error), error.hint or "")
    return Finding("ok", "reading and writing are allowed")


def _table(repository: Repository) -> Finding:
    repository.check(writing=False)
    for fault in repository.faults():
        return Finding("problem" if fault.refuses else "warning", str(fault.error), fault.error.hint or "")
    return Finding("ok", f"{repository.spec.name} took a test row, which was undone")


def _row_security(repository: Repository) -> Finding:
    says = repository.row_security()
    if says:
        fix = "as the owner: change the policies, or ALTER ROLE ... BYPASSRLS;"
        return Finding("problem", "; ".join(says), fix)
    return Finding("ok", "no policy hides or refuses rows")


def _index(repository: Repository) -> Finding:
    repository.check(writing=False)
    if name := repository.equating_index:
        detail = f"the unique index {name} takes different identifiers for equal: messages may become dead letters"
        return Finding("warning", detail, f"DROP INDEX {name}; then `dvctl db index`")
    if repository.unique_index:
        return Finding("ok", "task_identifier is unique: the faster way is taken")
    if repository.dialect == "mysql":
        return Finding("ok", "not possible on MySQL or MariaDB, and not needed")
    return Finding("warning", "no unique index: a lock around each batch keeps rows single", "dvctl db index --dry-run")


def _duplicates(repository: Repository) -> Finding:
    surplus = repository.surplus()
    if surplus:
        return Finding("problem", f"{surplus:,} rows beyond one for each identity", "dvctl db dedupe --dry-run")
    return Finding("ok", "every identity stands once")


def _settings(overridden: Sequence[str], without_effect: Sequence[str]) -> Finding:
    details, fixes = [], []
    if overridden:
        details.append(f"DeviceVault's config.yaml says otherwise about: {', '.join(overridden)}")
        fixes.append("`dvctl config` shows where each value comes from")
    if without_effect:
        details.append(f"{' and '.join(without_effect)} in config.yaml has no effect: the workers do not read it")
        fixes.append("set DEVICEVAULT_RESULTS_STREAM for the workers and dvctl")
    if details:
        return Finding("warning", "; ".join(details), "; ".join(fixes))
    return Finding("ok", "nothing contradicts DeviceVault's config.yaml")
