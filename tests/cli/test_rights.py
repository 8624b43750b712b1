"""Least privilege as docs/operations.md writes it: what each role needs for every command of its own, and no more."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from devicevault_cli.cli.app import COMMANDS as ALL
from devicevault_cli.streams import marker
from devicevault_cli.streams.connect import connect
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import ZERO
from devicevault_cli.streams.stream import Stream
from tests.cli.conftest import Answer, Cli
from tests.cli.test_every_command import World
from tests.cli.test_exit_codes import consent
from tests.support import servers
from tests.support.messages import Sent, mixed, publish
from tests.support.oracle import GROUP, STREAM, assert_everything
from tests.support.oracle import TABLE as RESULTS
from tests.support.postgres_server import PostgresServer
from tests.support.process import Dvctl
from tests.support.redis_server import RedisServer

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"
ROLE = "dvctl"


# --- Redis


def documented_user(name: str) -> list[str]:
    """The words of `ACL SETUSER name ...` as documented, with a password."""
    text = DOCUMENT.read_text()
    rule = text[text.index(f"ACL SETUSER {name} ") :]
    return rule[: rule.index("```")].replace("PASSWORD", "acl-secret").split()


@pytest.fixture
def limited(each_redis_server: RedisServer) -> Iterator[Callable[[str], str]]:
    """Make a documented user; its URL."""
    made: list[str] = []
    client: Any = each_redis_server.client()

    def make(name: str) -> str:
        client.execute_command(*_for_release(documented_user(name), each_redis_server.kind.release))
        made.append(name)
        return each_redis_server.url_for(name, "acl-secret", db=1)

    yield make
    for name in made:
        client.execute_command("ACL", "DELUSER", name)


def _for_release(words: list[str], release: tuple[int, ...]) -> list[str]:
    """Redis 6.2 has no selectors and no %R: the keys and the commands of both lists, as documented."""
    if release >= (7,):
        return words
    return [re.sub(r"^\(?(%R?W?)?~", "~", word).rstrip(")") for word in words if word != "-@all"]


def awkward(client: redis.Redis) -> list[Sent]:
    """Messages of every kind; some held by a dead consumer, one too often delivered, one gone."""
    sent = publish(client, mixed(60))
    client.xgroup_create(STREAM, GROUP, "0")
    held: Any = client.xreadgroup(GROUP, "dead", {STREAM: ">"}, count=5)
    ids = [key for key, _ in held[0][1]]
    for _ in range(11):
        client.xclaim(STREAM, GROUP, "dead", 0, [ids[0]])
    client.xdel(STREAM, ids[1])
    return [one for one in sent if one.id != ids[1].decode()]


def test_the_documented_consumer_needs_and_has_what_consuming_takes(
    dvctl: Dvctl, each_redis_server: RedisServer, sqlite_url: str, limited: Callable[[str], str]
) -> None:
    url, usage = each_redis_server.url_for(db=1), Usage(each_redis_server)
    with redis.Redis.from_url(url) as client:
        sent = awkward(client)
        usage.reset()
        dvctl.use(limited("dvctl-consumer"), sqlite_url)
        answer = dvctl.ok("consume", "--drain", "--claim-idle", "100ms", "--max-wait", "20s", "--verbose", "-o", "json")
        usage.note()
        assert "permit" not in answer.stderr
        assert answer.json()["gone"] == 1
        assert_everything(url, sqlite_url, sent)
        assert client.xinfo_consumers(STREAM, GROUP)[0]["name"] == b"dead", "the consumer retires itself"
        client.xgroup_destroy(STREAM, GROUP)
        usage.reset()
        again = dvctl.json("consume", "--drain", "--on-reject", "drop")
        usage.note()
        assert again["dropped"] > 0, "a group that is missing is made, a discard recorded"
    assert usage.granted == granted("dvctl-consumer")


def test_the_documented_consumer_may_not_change_the_stream(
    each_redis_server: RedisServer, limited: Callable[[str], str]
) -> None:
    with redis.Redis.from_url(each_redis_server.url_for(db=1)) as client:
        client.xadd(STREAM, {"device_id": "1"})
    commands = [
        ("DEL", STREAM),
        ("XTRIM", STREAM, "MAXLEN", "0"),
        ("XDEL", STREAM, "1-1"),
        ("KEYS", "*"),
        ("FLUSHALL",),
    ]
    if each_redis_server.kind.release >= (7,):
        commands.append(("XADD", STREAM, "*", "device_id", "1"))
    with redis.Redis.from_url(limited("dvctl-consumer")) as client:
        for command in commands:
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command)


def test_the_documented_consumer_may_count_the_dead_letters(
    each_redis_server: RedisServer, limited: Callable[[str], str]
) -> None:
    """For the metric, without a right of its own."""
    with redis.Redis.from_url(each_redis_server.url_for(db=1)) as client:
        client.xadd(STREAM, {"device_id": "1"})
        for _ in range(3):
            client.xadd(f"{{{STREAM}}}:dead", {"device_id": "x"})
    with closing(connect(limited("dvctl-consumer"))) as connected:
        assert marker.observe(Group(Stream(connected, STREAM), GROUP), 0).dead_letters == 3


def test_both_pipelines_take_the_keys_of_both_streams(
    dvctl: Dvctl, each_redis_server: RedisServer, sqlite_url: str, limited: Callable[[str], str]
) -> None:
    url = limited("dvctl-consumer")
    rest = DOCUMENT.read_text().partition("--pipeline results,storage` (as in the drop-in")[2]
    words = rest[rest.index("ACL SETUSER dvctl-consumer ") :].partition("\nACL")[0].split()
    admin: Any = each_redis_server.client()
    admin.execute_command(*_for_release(words, each_redis_server.kind.release))
    dvctl.use(url, sqlite_url)
    both = dvctl.json("consume", "--pipeline", "results,storage", "--drain", "--max-wait", "20s")["pipelines"]
    assert [summary["stopped_by"] for summary in both.values()] == ["drained", "drained"]


# --- every command of a role

LOOKING = [
    words
    for words in ALL
    if ALL[words].needs.redis and not ALL[words].needs.changes and words not in {"consume", "publish", "top"}
]
# `dispatch` reads the stream as `replay` does; the Redis it writes to is another one, with a user of its own.
REPAIRING = [words for words in ALL if ALL[words].needs.redis and words not in {"consume", "top", "dispatch"}]
MORE = {
    "claim": (["claim", "--idle", "0", "--to", "heir", "--yes"],),
    "replay": (
        ["replay", "--missing", "--overwrite", "--yes"],
        ["replay", "--device", "1", "--republish", "--yes"],
    ),
    "dlq retry": (["dlq", "retry", "--all", "--set", "device_id=1", "--yes"],),
    "verify": (["verify", "--deep"],),
    "check": (["check", "--max-pending", "9", "--max-age", "9h", "--max-dead", "9"],),
}
"""Further ways of a command that may need further rights."""


class Usage:
    """Which commands a Redis ran, its refusals left out."""

    def __init__(self, server: RedisServer) -> None:
        self._client: Any = server.client()
        self.commands: set[str] = set()

    def reset(self) -> None:
        self._client.config_resetstat()

    def note(self) -> None:
        stats = self._client.info("commandstats")
        self.commands |= {name.removeprefix("cmdstat_").partition("|")[0] for name in stats if stats[name]["calls"]}

    @property
    def granted(self) -> set[str]:
        """The same without what every connection does."""
        return self.commands - {"acl", "auth", "config", "hello", "client"}


def granted(name: str) -> set[str]:
    """The commands that the document gives to a user."""
    return {word.strip("(+)") for word in documented_user(name) if word.lstrip("(").startswith("+")}


def run_all(admin: Cli, limited: Cli, server: RedisServer, names: Iterable[str], folder: Path, *more: str) -> Usage:
    """Each command of the list as the limited user, in a world of its own that the administrator made."""
    usage = Usage(server)
    for words in names:
        for further in [None, *MORE.get(words, ())]:
            server.fresh()
            (folder / "export.jsonl").unlink(missing_ok=True)
            world = World(admin, server.url_for(db=1), folder)
            lose_one(world.client)
            if words.startswith("incidents"):
                world.client.xgroup_destroy(STREAM, GROUP)  # an incident that nobody has recorded
            line = further or [*world.line(words), *consent(words)]
            usage.reset()
            answer = limited(*line, *more, "--verbose")
            usage.note()
            permitted(line, answer)
    return usage


def lose_one(client: Any) -> None:
    """An entry that somebody acknowledged without a row."""
    lost = client.xadd(STREAM, {"device_id": "1", "task_identifier": "lost"})
    client.xreadgroup(GROUP, "ghost", {STREAM: ">"})
    client.xack(STREAM, GROUP, lost)


def permitted(line: list[str], answer: Answer) -> None:
    codes = {"check": {0, 1, 2, 3}, "dlq": {0, 1}}.get(line[0], {0, 3})
    assert answer.code in codes, (line, answer.err)
    assert "permit" not in answer.err, (line, answer.err)
    assert "permission" not in answer.err, (line, answer.err)


@pytest.fixture
def admin(cli: Cli, each_redis_server: RedisServer, sqlite_url: str) -> Cli:
    """Command lines with every right."""
    return cli.at(each_redis_server.url_for(db=1), sqlite_url)


@servers.two_redis(1)
def test_the_documented_reader_needs_and_has_what_looking_takes(
    admin: Cli, each_redis_server: RedisServer, limited: Callable[..., str], tmp_path: Path
) -> None:
    reader = admin.at(limited("dvctl-reader"))
    usage = run_all(admin, reader, each_redis_server, LOOKING, tmp_path)
    usage.reset()
    Stream(connect(reader.environ["DEVICEVAULT_REDIS_URL"]), STREAM).wait_for(ZERO, 10)  # what `tail` does for ever
    usage.note()
    assert usage.granted == granted("dvctl-reader")
    refused = reader("trim", "--yes", "--max-length", "0")
    assert refused.code == 77, refused.err
    assert "ACL SETUSER dvctl-reader +" in refused.err


@servers.two_redis(2)
def test_the_documented_operator_needs_and_has_what_repairing_takes(
    admin: Cli, each_redis_server: RedisServer, limited: Callable[..., str], tmp_path: Path
) -> None:
    operator = admin.at(limited("dvctl-operator"))
    usage = run_all(admin, operator, each_redis_server, REPAIRING, tmp_path)
    more = run_all(admin, operator, each_redis_server, ["verify"], tmp_path, "--repair", "--yes")
    usage.commands |= more.commands | {"xread"}  # as the reader's
    assert usage.granted == granted("dvctl-operator")


# --- PostgreSQL

IN_THE_DATABASE = [
    words
    for words in ALL
    if ALL[words].needs.database and words not in {"consume", "demo", "db init", "db index", "db restore"}
]


def documented_grants(operator: bool = False) -> list[str]:
    """The GRANT statements of the document's SQL blocks: the consumer's, and what an operator has besides."""
    text = DOCUMENT.read_text()
    blocks = [block.partition("```")[0] for block in text.split("```sql\n")[1:]]
    assert len(blocks) == 2
    lines = "".join(blocks if operator else blocks[:1]).splitlines()
    return [line.partition(";")[0] for line in lines if line.startswith("GRANT")]


@pytest.fixture
def role(postgres_server: PostgresServer, postgres_url: str) -> Iterator[str]:
    """A database with a role that has no right yet; its URL as that role."""
    postgres_server.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD 'role-secret'")
    yield postgres_server.url_for(postgres_url.rpartition("/")[2], ROLE, "role-secret")
    postgres_server.execute(f"DROP OWNED BY {ROLE}", database=postgres_url)
    postgres_server.execute(f"DROP ROLE {ROLE}")


def serial(server: PostgresServer, url: str) -> None:
    """Make the ids as Django before 4.1 did, with a sequence beside the table."""
    named = "devices_devicebackupresult_id_seq"
    server.execute(
        f"ALTER TABLE {RESULTS} ALTER id DROP IDENTITY",
        f"CREATE SEQUENCE {named} OWNED BY {RESULTS}.id",
        f"ALTER TABLE {RESULTS} ALTER id SET DEFAULT nextval('{named}')",
        database=url,
    )


def test_the_documented_grants_suffice_for_the_consumer(
    dvctl: Dvctl, redis_server: RedisServer, postgres_server: PostgresServer, postgres_url: str, role: str
) -> None:
    serial(postgres_server, postgres_url)
    postgres_server.execute(*documented_grants(), database=postgres_url)
    with redis_server.client() as client:
        sent = awkward(client)
    dvctl.use(redis_server.url, role).ok("consume", "--drain", "--claim-idle", "100ms", "--max-wait", "20s")
    assert_everything(redis_server.url, postgres_url, sent)


def test_the_documented_grants_suffice_for_the_operator(
    cli: Cli, redis_server: RedisServer, postgres_server: PostgresServer, postgres_url: str, role: str, tmp_path: Path
) -> None:
    postgres_server.execute(*documented_grants(operator=True), database=postgres_url)
    admin = cli.at(redis_server.url_for(db=1), postgres_url)
    run_all(admin, admin.at(database_url=role), redis_server, IN_THE_DATABASE, tmp_path)
    for line in awkward_rows(postgres_server, postgres_url, redis_server.url_for(db=1)):
        permitted(line, admin.at(database_url=role)(*line))
    (removed, *_) = admin("snapshots", "-o", "json").json["snapshots"]
    line = ["db", "restore", removed["file"], "--yes"]
    permitted(line, admin.at(database_url=role)(*line))


def awkward_rows(server: PostgresServer, url: str, redis_url: str) -> list[list[str]]:
    """A row that stands twice, and one that speaks of another device; -> the commands that mend that."""
    columns = "task_id, task_identifier, device_id, status, timestamp, log"
    copy = f"INSERT INTO {RESULTS} ({columns}) SELECT {columns} FROM {RESULTS} WHERE task_identifier = 'twice'"
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
        client.xadd(STREAM, {"device_id": "1", "task_identifier": "twice"})
        client.xadd(STREAM, {"device_id": "1", "task_identifier": "moved"})
    insert = f"INSERT INTO {RESULTS} ({columns}) VALUES"
    values = [f"('', '{name}', {device}, 'failure', now(), '[]')" for name, device in (("twice", 1), ("moved", 2))]
    server.execute(*(f"{insert} {each}" for each in values), copy, database=url)
    return [["replay", "--device", "1", "--overwrite", "--yes"], ["db", "dedupe", "--yes"]]


@pytest.mark.parametrize(("right", "which"), [("UPDATE", 0), ("DELETE", 1)])
def test_a_right_of_the_operator_is_named_where_it_is_missing(
    cli: Cli, redis_server: RedisServer, postgres_server: PostgresServer, postgres_url: str, role: str, right: str,
    which: int,
) -> None:  # fmt: skip
    revoke = f"REVOKE {right} ON {RESULTS} FROM {ROLE}"
    postgres_server.execute(*documented_grants(operator=True), revoke, database=postgres_url)
    line = awkward_rows(postgres_server, postgres_url, redis_server.url_for(db=1))[which]
    answer = cli.at(redis_server.url_for(db=1), role)(*line)
    assert answer.code == 77, answer
    assert f"GRANT {right} ON {RESULTS} TO {ROLE};" in answer.err


def test_who_only_looks_needs_select_alone(
    cli: Cli, redis_server: RedisServer, postgres_server: PostgresServer, postgres_url: str, role: str, tmp_path: Path
) -> None:
    tables = (RESULTS, "devices_device")
    postgres_server.execute(*(f"GRANT SELECT ON {table} TO {ROLE}" for table in tables), database=postgres_url)
    admin = cli.at(redis_server.url_for(db=1), postgres_url)
    looking = [words for words in LOOKING if words in IN_THE_DATABASE]
    run_all(admin, admin.at(database_url=role), redis_server, looking, tmp_path)
    refused = admin.at(database_url=role)("consume", "--drain")
    assert refused.code == 77
    assert f"GRANT INSERT ON {RESULTS} TO {ROLE}" in refused.err


@pytest.mark.parametrize(
    ("privilege", "name"),
    [
        *(("SELECT", RESULTS), ("INSERT", RESULTS), ("SELECT", "devices_device")),
        ("USAGE", "SEQUENCE devices_devicebackupresult_id_seq"),
    ],
)
def test_each_missing_grant_is_named_with_its_remedy(
    privilege: str, name: str, cli: Cli, redis_url: str, postgres_server: PostgresServer, postgres_url: str, role: str
) -> None:
    serial(postgres_server, postgres_url)
    revoke = f"REVOKE {privilege} ON {name} FROM {ROLE}"
    postgres_server.execute(*documented_grants(), revoke, database=postgres_url)
    refused = cli.at(redis_url, role)("consume", "--drain")
    assert refused.code == 77
    assert f"GRANT {privilege} ON {name.replace('SEQUENCE ', 'SEQUENCE public.')} TO {ROLE};" in refused.err
