"""Least privilege as docs/operations.md writes it, TLS to both servers, and no password in anything that is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

from tests.support.certificates import write_certificates
from tests.support.messages import Sent, mixed, publish
from tests.support.oracle import GROUP, STREAM, TABLE, assert_everything
from tests.support.postgres_server import PostgresServer
from tests.support.process import Dvctl
from tests.support.redis_server import RedisServer
from tests.support.rows import select

pytestmark = [pytest.mark.acceptance]

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"
LOOKING = (
    ("status",),
    ("pending",),
    ("verify",),
    ("consumers",),
    ("dlq", "list"),
    ("dlq", "stats"),
    ("trim", "--dry-run"),
)
ROLE = "dvctl"


# --- Redis


def documented_user(name: str) -> list[str]:
    """The words of `ACL SETUSER name ...` as documented, with a password."""
    text = DOCUMENT.read_text()
    rule = text[text.index(f"ACL SETUSER {name} ") :]
    return rule[: rule.index("```")].replace("PASSWORD", "acl-secret").split()


@pytest.fixture
def limited(redis_server: RedisServer) -> Iterator[Callable[[str], str]]:
    """Make a documented user; its URL."""
    made: list[str] = []
    client: Any = redis_server.client()

    def make(name: str) -> str:
        client.execute_command(*_for_version(documented_user(name), redis_server.kind.version))
        made.append(name)
        return redis_server.url_for(name, "acl-secret")

    yield make
    for name in made:
        client.execute_command("ACL", "DELUSER", name)


def _for_version(words: list[str], version: str) -> list[str]:
    """Redis 6.2 has no selectors and no %R: the keys and the commands of both lists, as documented."""
    if version >= "7":
        return words
    return [re.sub(r"^\(?%R?W?~", "~", word).rstrip(")") for word in words if word != "-@all"]


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


def test_the_documented_consumer_may_all_that_consuming_needs(
    dvctl: Dvctl, redis_server: RedisServer, postgres_url: str, limited: Callable[[str], str]
) -> None:
    with redis_server.client() as client:
        sent = awkward(client)
        url = limited("dvctl-consumer")
        dvctl.use(url, postgres_url)
        answer = dvctl.ok("consume", "--drain", "--claim-idle", "100ms", "--max-wait", "20s", "--verbose", "-o", "json")
        assert "permit" not in answer.stderr
        assert answer.json()["gone"] == 1
        assert_everything(redis_server.url, postgres_url, sent)
        assert client.xinfo_consumers(STREAM, GROUP)[0]["name"] == b"dead", "the consumer retires itself"
        client.xgroup_destroy(STREAM, GROUP)
        publish(client, mixed(0, seed=2))
        again = dvctl.json("consume", "--drain", "--on-reject", "drop")
        assert again["dropped"] > 0, "a group that is missing is made, a discard recorded"


def test_the_documented_consumer_may_not_change_the_stream(
    redis_server: RedisServer, limited: Callable[[str], str]
) -> None:
    with redis_server.client() as client:
        client.xadd(STREAM, {"device_id": "1"})
    commands = [
        ("DEL", STREAM),
        ("XTRIM", STREAM, "MAXLEN", "0"),
        ("XDEL", STREAM, "1-1"),
        ("KEYS", "*"),
        ("FLUSHALL",),
    ]
    if redis_server.kind.version >= "7":
        commands.append(("XADD", STREAM, "*", "device_id", "1"))
    with redis.Redis.from_url(limited("dvctl-consumer")) as client:
        for command in commands:
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command)


def test_the_documented_reader_may_look_and_nothing_else(
    dvctl: Dvctl, redis_server: RedisServer, postgres_url: str, limited: Callable[[str], str]
) -> None:
    with redis_server.client() as client:
        awkward(client)
    dvctl.use(redis_server.url, postgres_url).ok("consume", "--drain", "--claim-idle", "100ms")
    dvctl.use(limited("dvctl-reader"))
    for words in LOOKING:
        answer = dvctl.run(*words, "-o", "json", "--verbose")
        assert answer.code == 0, (words, answer.stderr)
        assert "permit" not in answer.stderr
    with redis_server.client() as client:
        newest = client.xinfo_stream(STREAM)["last-generated-id"].decode()
    assert dvctl.json("show", newest)["entries"][0]["state"] in {"persisted", "dead"}
    refused = dvctl.run("trim", "--yes", "--max-length", "0")
    assert refused.code == 77, refused.stderr


# --- PostgreSQL


def documented_grants() -> list[str]:
    """The GRANT statements of the document's SQL block."""
    text = DOCUMENT.read_text()
    block = text[text.index("```sql") + 6 :]
    return [line.rstrip(";") for line in block[: block.index("```")].splitlines() if line.startswith("GRANT")]


@pytest.fixture
def role(postgres_server: PostgresServer, postgres_url: str) -> Iterator[str]:
    """A database with a role that has no right yet; its URL as that role."""
    postgres_server.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD 'role-secret'")
    yield postgres_server.url_for(postgres_url.rpartition("/")[2], ROLE, "role-secret")
    postgres_server.execute(f"DROP OWNED BY {ROLE}", database=postgres_url)
    postgres_server.execute(f"DROP ROLE {ROLE}")


def test_the_documented_grants_suffice(
    dvctl: Dvctl, redis_server: RedisServer, postgres_server: PostgresServer, postgres_url: str, role: str
) -> None:
    postgres_server.execute(*documented_grants(), database=postgres_url)
    with redis_server.client() as client:
        sent = awkward(client)
    dvctl.use(redis_server.url, role).ok("consume", "--drain", "--claim-idle", "100ms", "--max-wait", "20s")
    assert_everything(redis_server.url, postgres_url, sent)
    for words in LOOKING:
        dvctl.ok(*words, "-o", "json")


def test_who_only_looks_needs_select_alone(
    dvctl: Dvctl, redis_server: RedisServer, postgres_server: PostgresServer, postgres_url: str, role: str
) -> None:
    tables = (TABLE, "devices_device")
    postgres_server.execute(*(f"GRANT SELECT ON {table} TO {ROLE}" for table in tables), database=postgres_url)
    with redis_server.client() as client:
        publish(client, mixed(20))
    dvctl.use(redis_server.url, postgres_url).ok("consume", "--drain")
    dvctl.use(database_url=role)
    for words in LOOKING:
        dvctl.ok(*words, "-o", "json")
    refused = dvctl.run("consume", "--drain")
    assert refused.code == 77
    assert f"GRANT INSERT ON {TABLE} TO {ROLE}" in refused.stderr


@pytest.mark.parametrize("right", [("SELECT", TABLE), ("INSERT", TABLE), ("SELECT", "devices_device")])
def test_each_missing_grant_is_named_with_its_remedy(
    right: tuple[str, str],
    dvctl: Dvctl,
    redis_server: RedisServer,
    postgres_server: PostgresServer,
    postgres_url: str,
    role: str,
) -> None:
    privilege, table = right
    revoke = f"REVOKE {privilege} ON {table} FROM {ROLE}"
    postgres_server.execute(*documented_grants(), revoke, database=postgres_url)
    refused = dvctl.use(redis_server.url, role).run("consume", "--drain")
    assert refused.code == 77
    assert f"GRANT {privilege} ON {table} TO {ROLE};" in refused.stderr


# --- TLS


def test_redis_over_tls_trusts_only_its_own_authority(
    dvctl: Dvctl, new_redis: Callable[..., RedisServer], sqlite_url: str, certificates: Path, tmp_path: Path
) -> None:
    server = new_redis(tls=certificates, password="tls-secret")
    with server.client() as client:
        sent = publish(client, mixed(20))
    dvctl.use(server.url, sqlite_url).ok("consume", "--drain")
    assert_everything(server.url, sqlite_url, sent)
    stranger = write_certificates(tmp_path / "stranger")
    answer = dvctl.use(server.url.replace(str(certificates), str(stranger))).run("status", "--verbose")
    assert answer.code == 69
    assert "CERTIFICATE_VERIFY_FAILED" in answer.stderr
    assert "tls-secret" not in answer.stderr


def test_postgres_over_tls_trusts_only_its_own_authority(
    dvctl: Dvctl,
    redis_server: RedisServer,
    new_postgres: Callable[..., PostgresServer],
    certificates: Path,
    tmp_path: Path,
) -> None:
    server = new_postgres(tls=certificates, password="tls-secret")
    database = server.database()
    url = f"{database}?sslmode=verify-full&sslrootcert={certificates / 'ca.pem'}"
    with redis_server.client() as client:
        sent = publish(client, mixed(20))
    stranger = write_certificates(tmp_path / "stranger")
    dvctl.use(redis_server.url, url.replace(str(certificates), str(stranger)))
    answer = dvctl.run("consume", "--drain", "--verbose")
    assert answer.code in {69, 77, 78}
    assert "certificate" in answer.stderr
    assert "tls-secret" not in answer.stderr
    assert not select(database, f"SELECT 1 FROM {TABLE}")
    dvctl.use(database_url=url).ok("consume", "--drain")
    assert_everything(redis_server.url, database, sent)


# --- passwords


def test_no_password_is_written_anywhere(
    dvctl: Dvctl, new_redis: Callable[..., RedisServer], new_postgres: Callable[..., PostgresServer]
) -> None:
    passwords = {"redis": "redis-hush", "database": "database-hush", "wrong": "wrong-hush"}
    cache, server = new_redis(password=passwords["redis"]), new_postgres(password=passwords["database"])
    database = server.database()
    with cache.client() as client:
        publish(client, mixed(20))
    dvctl.use(cache.url, database)
    dvctl.ok("consume", "--drain", "--verbose", "--log-format", "json", "-o", "json")
    for words in (("config",), ("config", "-o", "json"), ("status", "--verbose"), ("verify", "--verbose")):
        dvctl.ok(*words)
    dvctl.ok("destroy-group", "--confirm", GROUP, "--verbose", "--force")
    closed = {"redis_url": cache.url.replace(f":{cache.port}/", ":1/"), "database_url": ""}
    for broken in (
        closed,
        {"redis_url": cache.url_for(password=passwords["wrong"])},
        {"redis_url": cache.url, "database_url": database.replace(passwords["database"], passwords["wrong"])},
        {"database_url": database.replace(f":{server.port}/", ":1/")},
        {"database_url": database.replace(f":{server.port}/", ":no-port/")},
        {"database_url": f"{database}?nonsense=1"},
        {"database_url": database, "redis_url": cache.url.replace(f":{cache.port}/", ":no-port/")},
    ):
        assert dvctl.use(**broken).run("consume", "--drain", "--verbose").code in {69, 77, 78}
    server.execute("DROP TABLE devices_devicebackupresult", database=database)
    assert dvctl.use(cache.url, database).run("verify", "--verbose").code not in {0, 3}
    assert not written(dvctl.directory, *passwords.values())


def test_a_password_with_special_characters_is_hidden_in_both_spellings(dvctl: Dvctl) -> None:
    password = "p@ss/w:rd%hush"
    spelled = quote(password, safe="")
    dvctl.use(f"redis://:{spelled}@127.0.0.1:1/0", f"postgresql://dvctl:{spelled}@127.0.0.1:1/devicevault")
    dvctl.ok("config", "-o", "json")
    assert dvctl.run("consume", "--drain", "--verbose").code == 69
    assert dvctl.run("status", "--verbose").code == 69
    assert not written(dvctl.directory, password, spelled, "rd%hush")


def written(directory: Path, *secrets: str) -> list[tuple[Path, str]]:
    """Every file below the directory (outputs, logs, journal, snapshots) that holds one of the secrets."""
    files = [(path, path.read_bytes()) for path in directory.rglob("*") if path.is_file()]
    assert files, "nothing was written, so nothing was proven"
    return [(path, secret) for path, content in files for secret in secrets if secret.encode() in content]
