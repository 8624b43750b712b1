"""What must be true after a fault: E everything once, H held, U untouched. By plain drivers, not by dvctl's code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import redis

from tests.support.messages import Fields, Sent
from tests.support.rows import count, read_rows, select

STREAM, GROUP = "device:results", "devicevault"
TABLE = "devices_devicebackupresult"
SKIPPED = "skipped"


def beside(stream: str, suffix: str) -> str:
    """The key beside a stream, in the same hash slot."""
    return f"{stream}:{suffix}" if "{" in stream else f"{{{stream}}}:{suffix}"


def identity_of(entry_id: str, fields: Fields) -> Any:
    """The identity of a good message: its identifier, else what the row will hold."""
    text = {name.decode(): value.decode("utf-8", "surrogateescape") for name, value in fields.items()}
    if named := text.get("task_identifier"):
        return named
    ms, seq = map(int, text.get("_dvctl.id", entry_id).split("-"))
    device, status, log = int(text["device_id"]), text.get("status") or "failure", text.get("log") or "[]"
    return device, text.get("task_id", ""), ms * 1000 + seq % 1000, status, log


@dataclass(slots=True)
class Findings:
    """What oracle E found. Everything but `published`, `rows` and `dead` must be empty or zero."""

    published: int = 0
    rows: int = 0
    dead: int = 0
    lost: list[str] = field(default_factory=list)
    wrongly_dead: list[str] = field(default_factory=list)
    wrongly_persisted: list[str] = field(default_factory=list)
    wrong_reason: list[str] = field(default_factory=list)
    doubled_letters: list[str] = field(default_factory=list)
    duplicates: list[Any] = field(default_factory=list)
    strangers: list[Any] = field(default_factory=list)
    pending: int = 0
    undelivered: bool = False

    @property
    def ok(self) -> bool:
        return not self.problems()

    def problems(self) -> dict[str, Any]:
        """What is wrong, with five examples of each."""
        names = [name for name in self.__slots__ if isinstance(getattr(self, name), list)]
        found: dict[str, Any] = {
            f"{name} ({len(values)})": values[:5] for name in names if (values := getattr(self, name))
        }
        if self.pending:
            found["pending"] = self.pending
        if self.undelivered:
            found["undelivered"] = True
        return found


def everything(
    redis_url: str,
    database_url: str,
    sent: Iterable[Sent],
    *,
    stream: str = STREAM,
    group: str = GROUP,
    table: str = TABLE,
) -> Findings:
    """Oracle E: each message is one row, or one dead letter with its reason; nothing pending, nothing undelivered."""
    rows = read_rows(database_url, table)
    by_identity = count(row.identity for row in rows)
    with redis.Redis.from_url(redis_url) as client:
        letters = dead_letters(client, stream, group)
        found = Findings(rows=len(rows), dead=sum(map(len, letters.values())))
        found.pending, found.undelivered = position(client, stream, group)
    expected = set()
    for one in sent:
        found.published += 1
        expected.add(_judge(one, by_identity, letters, found))
    found.duplicates = [identity for identity, number in by_identity.items() if number > 1]
    found.strangers = [identity for identity in by_identity if identity not in expected]
    found.doubled_letters = [entry_id for entry_id, reasons in letters.items() if len(reasons) > 1]
    return found


def _judge(one: Sent, rows: dict[Any, int], letters: dict[str, list[str]], found: Findings) -> Any:
    """Compare one message with what became of it; its identity if it must have a row."""
    reasons, expected = letters.get(one.id, []), one.message.reason
    if expected is None:
        identity = identity_of(one.id, one.message.fields)
        if reasons:
            found.wrongly_dead.append(f"{one.id} {reasons}")
        elif identity not in rows:
            found.lost.append(one.id)
        return identity
    if expected == SKIPPED:
        if reasons:
            found.wrongly_dead.append(f"{one.id} {reasons}")
    elif not reasons:
        named = one.message.fields.get(b"task_identifier", b"").decode("utf-8", "replace")
        (found.wrongly_persisted if named in rows else found.lost).append(one.id)
    elif reasons[0] != expected:
        found.wrong_reason.append(f"{one.id} {reasons[0]} instead of {expected}")
    return None


def assert_everything(redis_url: str, database_url: str, sent: Iterable[Sent], **names: str) -> Findings:
    """Oracle E as an assertion."""
    found = everything(redis_url, database_url, sent, **names)
    assert found.published, "nothing was published: this would prove nothing"
    assert found.ok, found.problems()
    return found


def dead_letters(client: Any, stream: str = STREAM, group: str = GROUP) -> dict[str, list[str]]:
    """The reasons of the group's dead letters by the message's first id."""
    letters: dict[str, list[str]] = {}
    for _, fields in client.xrange(beside(stream, "dead")):
        if fields[b"_dvctl.group"].decode() == group:
            letters.setdefault(fields[b"_dvctl.id"].decode(), []).append(fields[b"_dvctl.reason"].decode())
    return letters


def _group(client: redis.Redis, stream: str, group: str) -> dict[str, Any]:
    found = [info for info in client.xinfo_groups(stream) if info["name"] == group.encode()]
    assert found, f"no group {group} on {stream}"
    return dict(found[0])


def position(client: redis.Redis, stream: str = STREAM, group: str = GROUP) -> tuple[int, bool]:
    """How many are pending, and whether anything was never delivered."""
    info = _group(client, stream, group)
    last = client.xinfo_stream(stream)["last-generated-id"]
    return int(info["pending"]), info["last-delivered-id"] != last


@dataclass(frozen=True, slots=True)
class Settled:
    """How much of a stream a group is done with: what oracle H compares."""

    acknowledged: int
    dead: int


def settled(redis_url: str, *, stream: str = STREAM, group: str = GROUP) -> Settled:
    """Entries that were delivered and are no longer pending, and dead letters of any group."""
    with redis.Redis.from_url(redis_url) as client:
        if not client.exists(stream) or not client.xinfo_groups(stream):
            return Settled(0, client.xlen(beside(stream, "dead")))
        info = _group(client, stream, group)
        delivered = len(client.xrange(stream, "-", info["last-delivered-id"]))
        return Settled(delivered - int(info["pending"]), client.xlen(beside(stream, "dead")))


@contextmanager
def held(redis_url: str, *, stream: str = STREAM, group: str = GROUP) -> Iterator[None]:
    """Oracle H: in the block nothing is acknowledged and nothing dead-lettered. Redis must answer at both ends."""
    before = settled(redis_url, stream=stream, group=group)
    yield
    assert settled(redis_url, stream=stream, group=group) == before


def state(redis_url: str, database_url: str = "", *, tables: Iterable[str] = (TABLE,)) -> dict[str, Any]:
    """Oracle U: all keys, byte for byte, and all rows; to be compared before and after."""
    with redis.Redis.from_url(redis_url) as client:
        found: dict[str, Any] = {key.decode("utf-8", "replace"): client.dump(key) for key in client.scan_iter()}
    for table in tables if database_url else ():
        found[f"table {table}"] = select(database_url, f"SELECT * FROM {table} ORDER BY id")
    return found


@contextmanager
def untouched(redis_url: str, database_url: str = "", *, tables: Iterable[str] = (TABLE,)) -> Iterator[None]:
    """Oracle U as an assertion around a block."""
    tables = list(tables)
    before = state(redis_url, database_url, tables=tables)
    yield
    after = state(redis_url, database_url, tables=tables)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    assert not changed, f"changed: {changed}"
