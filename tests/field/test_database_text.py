"""Text that a database cannot hold, identifiers that a collation takes for equal, and passwords beyond ASCII."""

from __future__ import annotations

import itertools
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, NamedTuple, cast
from urllib.parse import quote, urlsplit

import pymysql
import pytest
import redis

from devicevault_cli.messages import Rejected
from devicevault_cli.operations.save import save_bisecting
from devicevault_cli.repository import open_repository
from devicevault_cli.repository.repository import Repository
from devicevault_cli.repository.tables import RESULTS, STORAGE
from tests.support import schema
from tests.support.mariadb_server import MariaDbServer
from tests.support.postgres_server import PostgresServer
from tests.support.process import Dvctl
from tests.support.records import execute, result, select_through, stored
from tests.support.rows import select
from tests.support.servers import postgres_params, unavailable

TABLE = "devices_devicebackupresult"
_numbers = itertools.count(1)


class Database(NamedTuple):
    """A database in a character set of its own, an identifier that it can hold and one that it cannot."""

    url: str
    held: str
    not_held: str


def mariadb_in(server: MariaDbServer, character_set: str) -> Iterator[str]:
    """The URL of a MariaDB database with this character set."""
    url = server.database(empty=True)
    name = urlsplit(url).path[1:]
    server.execute(f"ALTER DATABASE {name} CHARACTER SET {character_set}")
    server.execute(*schema.statements("mysql"), database=name)
    yield url
    server.drop(url)


def postgres_in(server: PostgresServer, encoding: str) -> Iterator[str]:
    """The URL of a PostgreSQL database with this encoding."""
    name = f"encoded{next(_numbers)}"
    server.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'")
    url = server.url_for(name)
    server.execute(*schema.statements("postgresql"), database=name)
    yield url
    server.drop(url)


IN_MARIADB = {"utf8mb3": ("漢", "x😀"), "latin1": ("é", "x😀"), "cp1251": ("Ж", "é"), "ascii": ("x?", "é")}
IN_POSTGRES = {"LATIN1": ("é", "x😀"), "EUC_JP": ("漢", "〜"), "WIN1251": ("Ж", "é")}


@pytest.fixture(params=[*IN_MARIADB, *IN_POSTGRES])
def limited(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database that cannot hold every text."""
    name = request.param
    if name in IN_MARIADB:
        made, texts = mariadb_in(request.getfixturevalue("mariadb_server"), name), IN_MARIADB[name]
    else:
        made, texts = postgres_in(request.getfixturevalue("postgres_server"), name), IN_POSTGRES[name]
    for url in made:
        yield Database(url, *texts)


def add(redis_url: str, *messages: dict[str, str], stream: str = "device:results") -> list[str]:
    """XADD messages of device 1. -> their ids"""
    with redis.Redis.from_url(redis_url) as client:
        return [client.xadd(stream, cast(Any, {"device_id": "1"} | message)).decode() for message in messages]


def identifiers(url: str) -> list[str]:
    return sorted(_text(row[0]) for row in select(url, f"SELECT task_identifier FROM {TABLE}"))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


@pytest.fixture
def opened() -> Iterator[Callable[..., Repository]]:
    made: list[Repository] = []

    def start(url: str, spec: Any = RESULTS) -> Repository:
        made.append(open_repository(url, spec))
        made[-1].check()
        return made[-1]

    yield start
    for repository in made:
        repository.close()


def outcomes(repository: Repository, *records: Any) -> list[str]:
    saved = save_bisecting(repository, records)
    return [each.reason if isinstance(each, Rejected) else each.outcome for each in saved]


# --- text that the database cannot hold


def test_an_identity_that_cannot_be_stored_is_dead_and_its_neighbours_are_rows(
    dvctl: Dvctl, redis_url: str, limited: Database
) -> None:
    dvctl.use(redis_url, limited.url)
    texts = ["ok-1", limited.not_held, limited.held, "ok-2"]
    ids = add(redis_url, *({"task_identifier": text} for text in texts))
    done = dvctl.json("consume", "--drain", "--recheck", "0")  # so that `trim` need not wait
    assert (done["persisted"], done["dead_lettered"], done["deferred_retries"]) == (3, 1, 0)
    assert dvctl.json("dlq", "list")["reasons"] == {"database-rejected": 1}
    verified = dvctl.json("verify")
    assert (verified["ok"], verified["classes"]["persisted"], verified["classes"]["dead"]) == (True, 3, 1)
    shown = dvctl.json("show", *ids)["entries"]
    assert [entry["state"] for entry in shown] == ["persisted", "dead", "persisted", "persisted"]
    assert [entry["would"].partition(" (")[0] for entry in shown] == [
        "duplicate",
        "reject: database-rejected",
        "duplicate",
        "duplicate",
    ]
    for dry in (["--dry-run"], ["--yes"]):
        replayed = dvctl.json("replay", "--since", "2020-01-01", *dry)
        assert (replayed["duplicates"], replayed["rejected"]) == (3, {"database-rejected": 1})
        retried = dvctl.run("dlq", "retry", "--all", "-o", "json", *dry).json()
        assert (retried["persisted"], retried["still_dead"]) == (0, 1)
    reset = dvctl.json("reset-group", "--to", "start", "--dry-run")
    assert (reset["would_insert"], reset["already_persisted"]) == (0, 3)
    assert dvctl.json("trim", "--dry-run")["would_remove"] == 4
    dvctl.ok("reset-group", "--to", "start", "--yes", "--force")
    again = dvctl.json("consume", "--drain")
    assert (again["persisted"], again["duplicates"], again["dead_lettered"]) == (0, 3, 1)
    assert sorted(identifiers(limited.url)) == sorted(["ok-1", limited.held, "ok-2"])
    with redis.Redis.from_url(redis_url) as client:  # as DeviceVault's own consumer leaves it: acknowledged, no letter
        client.delete("{device:results}:dead")
    judged = dvctl.run("verify", "-o", "json").json()
    assert (judged["classes"]["lost_invalid"], judged["lost_reasons"]) == (1, {"database-rejected": 1})
    assert dvctl.run("verify", "--repair", "--yes", "-o", "json").json()["repaired"]["dead_lettered"] == 1


@pytest.mark.parametrize("limited", ["latin1", "LATIN1"], indirect=True)
def test_messages_without_an_identifier_and_text_that_is_no_identity(
    dvctl: Dvctl, redis_url: str, limited: Database
) -> None:
    dvctl.use(redis_url, limited.url)
    unnamed = [
        {"task_id": "t1"},
        {"task_id": "x😀"},
        {"task_id": "t2", "status": "😀"},
        {"log": '["😀"]'},
        {"task_id": "é"},
    ]
    named = [
        {"task_identifier": "a"},
        {"task_identifier": "a", "log": '["😀"]'},
        {"task_identifier": "b", "log": '["😀"]'},
    ]
    unknown = {"task_identifier": "x😀", "device_id": "4711"}
    add(redis_url, *unnamed, *named, unknown)
    done = dvctl.json("consume", "--drain")
    assert (done["persisted"], done["duplicates"], done["dead_lettered"]) == (3, 1, 5)
    assert dvctl.json("dlq", "stats")["reasons"] == {"database-rejected": 4, "unknown-device": 1}
    verified = dvctl.json("verify")
    assert (verified["classes"]["persisted"], verified["classes"]["dead"]) == (4, 5)
    # The row of `a` contradicts nothing but the log, which the database cannot hold: an overwrite is refused alone.
    add(redis_url, {"task_identifier": "a", "log": '["😀"]', "status": "success"}, {"task_identifier": "ok"})
    replayed = dvctl.json("replay", "--since", "2020-01-01", "--overwrite", "--yes")
    assert replayed["inserted"] == 1
    assert replayed["rejected"] == {"database-rejected": 5, "unknown-device": 1}


@pytest.mark.parametrize("column", ["task_identifier", "task_id", "status", "log"])
def test_one_column_in_another_character_set(mariadb_url: str, opened: Callable[..., Repository], column: str) -> None:
    kind = {"log": "longtext", "status": "varchar(16)"}.get(column, "varchar(128)")
    execute(mariadb_url, f"ALTER TABLE {TABLE} MODIFY {column} {kind} CHARACTER SET latin1 NOT NULL")
    repository = opened(mariadb_url)
    base: Any = result("ж" if column == "task_identifier" else "", task_id="t", log="[]", status="success")
    bad = base._replace(**{column: "ж"})
    good = [result("a"), result("", task_id="é"), result("", task_id="漢" if column != "task_id" else "ü")]
    assert outcomes(repository, good[0], bad, *good[1:]) == ["inserted", "database-rejected", "inserted", "inserted"]
    assert [len(rows) for rows in repository.find([good[0], bad, *good[1:]])] == [1, 0, 1, 1]
    assert repository.encodable([good[0], bad]) == [True, False]
    assert (repository.surplus(), repository.duplicates()) == (0, [])


def test_character_sets_of_every_kind(mariadb_url: str, opened: Callable[..., Repository]) -> None:
    """What dvctl takes for representable is what the server stores, and reads back unchanged."""
    texts = ["ok-1", "x😀", "é", "e\u0301", "Ж", "漢", "ア", "[@\\~{", "\uff5e", "\u301c", "∥", "€", "\u0130"]
    names = "ascii latin1 latin5 cp1251 swe7 sjis cp932 ujis gbk big5 binary ucs2 utf16le utf32 utf8mb3 utf8mb4"
    for name in names.split():
        column = f"task_identifier varchar(128) CHARACTER SET {name.strip()} NOT NULL"
        execute(mariadb_url, f"DELETE FROM {TABLE}", f"ALTER TABLE {TABLE} MODIFY {column}")
        repository = opened(mariadb_url)
        records = [result(text, task_id="t", log="[]") for text in texts]
        fits = repository.encodable(records)
        assert outcomes(repository, *records) == ["inserted" if fit else "database-rejected" for fit in fits], name
        expected = sorted(text for text, fit in zip(texts, fits, strict=True) if fit)
        assert identifiers(mariadb_url) == expected, name
        assert outcomes(repository, *records) == ["duplicate" if fit else "database-rejected" for fit in fits], name
        assert fits[0]
        assert fits[1] == (name.strip() in ("binary", "utf8mb4", "utf16", "utf16le", "utf32")), name


def test_nothing_is_replaced_by_a_question_mark_whatever_the_sql_mode(
    mariadb_server: MariaDbServer, mariadb_url: str, opened: Callable[..., Repository]
) -> None:
    execute(mariadb_url, f"ALTER TABLE {TABLE} CONVERT TO CHARACTER SET ascii")
    [[before]] = mariadb_server.execute("SELECT @@GLOBAL.sql_mode")
    mariadb_server.execute("SET GLOBAL sql_mode = ''")
    try:
        records = [result("x😀"), result("x?"), result("y", log='["é"]')]
        assert outcomes(opened(mariadb_url), *records) == ["database-rejected", "inserted", "database-rejected"]
    finally:
        mariadb_server.execute(f"SET GLOBAL sql_mode = '{before}'")
    assert select(mariadb_url, f"SELECT task_identifier FROM {TABLE}") == [("x?",)]


def test_a_character_set_that_changes_while_dvctl_is_connected(
    mariadb_url: str, opened: Callable[..., Repository]
) -> None:
    repository = opened(mariadb_url)
    assert outcomes(repository, result("a")) == ["inserted"]
    execute(mariadb_url, f"ALTER TABLE {TABLE} CONVERT TO CHARACTER SET latin1")
    with pytest.raises(Exception, match="Illegal mix of collations"):
        repository.find([result("x😀"), result("a")])
    assert [len(rows) for rows in repository.find([result("x😀"), result("a")])] == [0, 1]


def test_a_stored_backup_whose_collection_the_results_table_cannot_name(
    mariadb_url: str, opened: Callable[..., Repository]
) -> None:
    execute(mariadb_url, f"ALTER TABLE {TABLE} CONVERT TO CHARACTER SET latin1")
    opened(mariadb_url).save([result("a", overall_duration_ms=None)])
    assert outcomes(opened(mariadb_url, STORAGE), stored("x😀"), stored("a")) == ["inserted", "inserted"]
    assert select(mariadb_url, f"SELECT overall_duration_ms FROM {TABLE}") == [(2000,)]


@pytest.mark.parametrize("kind", postgres_params())
def test_pairs_of_characters_and_a_page_of_many(
    kind: Any, shared_servers: Any, opened: Callable[..., Repository]
) -> None:
    """EUC_JIS_2004 holds some combining marks only together with a letter; of a page the others are found."""
    for url in postgres_in(shared_servers.postgres(kind), "EUC_JIS_2004"):
        repository = opened(url)
        texts = ["か\u309a", "\u309a", "漢", *(f"{chr(0x1F600 + number % 60)}{number}" for number in range(300)), "ok"]
        records = [result(text, task_id="t") for text in texts]
        fits = [True, False, True, *[False] * 300, True]
        assert repository.encodable(records) == fits
        assert [bool(rows) for rows in repository.find(records)] == [False] * 304
        held = [record for record, fit in zip(records, fits, strict=True) if fit]
        assert outcomes(repository, *held, *held) == ["inserted"] * 3 + ["duplicate"] * 3
        assert [bool(rows) for rows in repository.find(records)] == fits
        assert outcomes(repository, *records[:2], held[0]) == ["duplicate", "database-rejected", "duplicate"]


def test_a_database_in_sql_ascii_with_rows_in_another_encoding(
    dvctl: Dvctl, redis_url: str, postgres_server: PostgresServer
) -> None:
    for url in postgres_in(postgres_server, "SQL_ASCII"):
        dvctl.use(redis_url, url)
        name = urlsplit(url).path[1:]
        columns = "(task_id, task_identifier, device_id, status, timestamp, log)"
        # As a client in Latin-1 wrote it.
        values = "(E'\\351', E'caf\\351', 1, E'd\\351j\\340', now(), '[]')"
        postgres_server.execute(f"INSERT INTO {TABLE} {columns} VALUES {values}, {values}", database=name)
        add(redis_url, {"task_identifier": "x😀"}, {"task_identifier": "café"})
        assert dvctl.json("consume", "--drain")["persisted"] == 2
        verified = dvctl.run("verify", "--deep", "-o", "json").json()
        assert (verified["classes"]["persisted"], verified["rows"]["rows"]) == (2, 4)
        assert dvctl.run("db", "index", "--dry-run").code == 0
        assert "duplicate row" in dvctl.ok("db", "dedupe", "--dry-run").stderr


# --- identifiers that a collation takes for equal


def check_exact(dvctl: Dvctl, redis_url: str, url: str) -> None:
    """Two identities each; what is published again is a duplicate; nothing counts as a duplicate row."""
    dvctl.use(redis_url, url)
    named = [{"task_identifier": "Job-A"}, {"task_identifier": "job-a"}]
    add(redis_url, *named, *named[:1])
    done = dvctl.json("consume", "--drain")
    assert (done["persisted"], done["duplicates"], done["conflicting"], done["dead_lettered"]) == (2, 1, 0, 0)
    assert identifiers(url) == ["Job-A", "job-a"]
    verified = dvctl.json("verify")
    assert (verified["ok"], verified["classes"]["persisted"], verified["rows"]["duplicate_rows"]) == (True, 3, 0)
    assert dvctl.json("db", "dedupe", "--dry-run")["removed"] == 0
    add(redis_url, {"task_identifier": "JOB-A"})
    assert dvctl.json("replay", "--since", "2020-01-01", "--missing", "--yes")["inserted"] == 1
    execute(url, f"DELETE FROM {TABLE} WHERE id IN (SELECT * FROM (SELECT max(id) FROM {TABLE}) AS x)")
    assert dvctl.run("verify", "-o", "json").json()["classes"]["undelivered"] == 1
    assert dvctl.json("consume", "--drain")["persisted"] == 1


@pytest.fixture
def loose_url(request: pytest.FixtureRequest, postgres_url: str, postgres_server: PostgresServer) -> str:
    """A PostgreSQL database whose columns (`request.param`) take texts for equal that differ in case."""
    name = urlsplit(postgres_url).path[1:]
    drop = [
        f"DROP INDEX {row[0]}"
        for row in select(postgres_url, "SELECT indexname FROM pg_indexes WHERE indexname LIKE '%_like'")
    ]
    if request.param == "citext":
        types = dict.fromkeys(("task_identifier", "task_id", "status", "log"), "citext")
        make = "CREATE EXTENSION IF NOT EXISTS citext"
        there = "SELECT 1 FROM pg_available_extensions WHERE name = 'citext'"
    else:
        columns = {"task_identifier": "varchar(128)", "task_id": "varchar(64)", "status": "varchar(16)", "log": "text"}
        types = {column: f"{kind} COLLATE nocase" for column, kind in columns.items()}
        make = "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        there = "SELECT 1 FROM pg_collation WHERE collprovider = 'i' AND collname = 'de-x-icu'"
    if not select(postgres_url, there):
        unavailable(f"this PostgreSQL has no {request.param}")
    tables = (TABLE, "backups_storedbackup")
    change = [f"ALTER TABLE {table} ALTER {column} TYPE {kind}" for table in tables for column, kind in types.items()]
    postgres_server.execute(make, *drop, *change, database=name)
    return postgres_url


loose = pytest.mark.parametrize("loose_url", ["icu", "citext"], indirect=True)


@loose
def test_identifiers_are_told_apart_by_their_bytes(dvctl: Dvctl, redis_url: str, loose_url: str) -> None:
    check_exact(dvctl, redis_url, loose_url)


@pytest.mark.parametrize("collation", ["NOCASE", "RTRIM"])
def test_identifiers_are_told_apart_by_their_bytes_on_sqlite(
    dvctl: Dvctl, redis_url: str, sqlite_url: str, collation: str
) -> None:
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
        [[made]] = connection.execute(f"SELECT sql FROM sqlite_master WHERE name = '{TABLE}'").fetchall()
        indexes = connection.execute(
            f"SELECT sql FROM sqlite_master WHERE tbl_name = '{TABLE}' AND type = 'index'"
        ).fetchall()
        connection.execute(f"DROP TABLE {TABLE}")
        connection.execute(made.replace("varchar(128)", f"varchar(128) COLLATE {collation}"))
        for (index,) in indexes:
            connection.execute(index)
    check_exact(dvctl, redis_url, sqlite_url)
    dvctl.use(redis_url, sqlite_url)
    assert dvctl.json("db", "index", "--yes")["created"] is True
    add(redis_url, {"task_identifier": "jOB-a "}, {"task_identifier": "jOB-a"}, {"task_identifier": "jOB-a"})
    done = dvctl.json("consume", "--drain")
    assert (done["persisted"], done["duplicates"]) == (2, 1)


@loose
def test_unnamed_identities_are_told_apart_by_their_bytes(loose_url: str, opened: Callable[..., Repository]) -> None:
    first = result("", task_id="t", status="ok", log='["a"]')
    records = [first, first._replace(task_id="T"), first._replace(status="OK"), first._replace(log='["A"]')]
    records += [first._replace(task_id=""), first._replace(task_id="", status="OK")]
    repository = opened(loose_url)
    assert outcomes(repository, *records, *records) == ["inserted"] * 6 + ["duplicate"] * 6
    assert [[row.id for row in rows] for rows in repository.find(records)] == [[n] for n in range(1, 7)]
    assert (repository.surplus(), repository.duplicates()) == (0, [])


@loose
def test_a_stored_backup_finds_the_collection_of_its_own_identifier(
    loose_url: str, opened: Callable[..., Repository]
) -> None:
    opened(loose_url).save([result("Job-A", overall_duration_ms=None), result("job-a", overall_duration_ms=None)])
    storage = opened(loose_url, STORAGE)
    assert outcomes(storage, stored("job-a"), stored("Job-A", status="SUCCESS")) == ["inserted", "inserted"]
    assert select(loose_url, f"SELECT overall_duration_ms FROM {TABLE} ORDER BY id") == [(None,), (2000,)]


@pytest.mark.parametrize("loose_url", ["icu"], indirect=True)
def test_the_unique_index_tells_identifiers_apart_too(dvctl: Dvctl, redis_url: str, loose_url: str) -> None:
    """An index of somebody else's on the collation cannot: its second message is dead until the index is exchanged."""
    dvctl.use(redis_url, loose_url)
    execute(loose_url, f"CREATE UNIQUE INDEX an_index ON {TABLE} (task_identifier)")
    add(redis_url, {"task_identifier": "Job-A"}, {"task_identifier": "job-a"}, {"task_identifier": "Job-A"})
    done = dvctl.json("consume", "--drain")
    assert (done["persisted"], done["duplicates"], done["dead_lettered"]) == (1, 1, 1)
    [finding] = [each for each in dvctl.run("doctor", "-o", "json").json()["checks"] if each["name"] == "unique-index"]
    assert (finding["status"], "an_index" in finding["detail"]) == ("warning", True)
    assert "an_index" in dvctl.ok("db", "index", "--dry-run").stderr
    refused = dvctl.run("db", "index", "--yes")
    assert (refused.code, "drop it first" in refused.stderr) == (1, True)
    execute(loose_url, "DROP INDEX an_index")
    assert dvctl.json("db", "index", "--yes")["created"] is True
    assert dvctl.json("dlq", "retry", "--all", "--yes")["persisted"] == 1
    add(redis_url, {"task_identifier": "JOB-A"}, {"task_identifier": "Job-A"})
    done = dvctl.json("consume", "--drain")
    assert (done["persisted"], done["duplicates"]) == (1, 1)
    assert identifiers(loose_url) == ["JOB-A", "Job-A", "job-a"]


def test_a_unique_index_with_a_collation_of_its_own(
    postgres_server: PostgresServer, postgres_url: str, opened: Callable[..., Repository]
) -> None:
    """The column compares exactly, the index does not: ON CONFLICT would swallow rows, and the batch never end."""
    if not select(postgres_url, "SELECT 1 FROM pg_collation WHERE collprovider = 'i' AND collname = 'de-x-icu'"):
        unavailable("this PostgreSQL has no icu")
    make = "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
    index = f"CREATE UNIQUE INDEX an_index ON {TABLE} (task_identifier COLLATE nocase)"
    postgres_server.execute(make, index, database=urlsplit(postgres_url).path[1:])
    repository = opened(postgres_url)
    assert (repository.unique_index, repository.equating_index) == (False, "an_index")
    records = [result("Job-A"), result("job-a"), result("Job-A")]
    assert outcomes(repository, *records) == ["inserted", "database-rejected", "duplicate"]


# --- user names and passwords


SECRETS = ("密码", "sécret", "p@:/#%?é")


@pytest.mark.parametrize("secret", SECRETS)
def test_a_password_beyond_ascii_on_mariadb(
    mariadb_server: MariaDbServer, mariadb_url: str, dvctl: Dvctl, secret: str
) -> None:
    name, user = urlsplit(mariadb_url).path[1:], f"bénutzer{next(_numbers)}"
    with mariadb_server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET NAMES utf8mb4")
        cursor.execute(f"CREATE USER '{user}'@'127.0.0.1' IDENTIFIED BY %s", [secret])
        cursor.execute(f"GRANT ALL ON {name}.* TO '{user}'@'127.0.0.1'")
    url = mariadb_server.url_for(name, quote(user), quote(secret, safe=""))
    assert "creates the unique index" in dvctl.use(database_url=url).ok("db", "index", "--dry-run").stderr
    wrong = mariadb_server.url_for(name, quote(user), quote(secret + "x", safe=""))
    refused = dvctl.run("db", "index", "--dry-run", env={"DEVICEVAULT_DATABASE_URL": wrong})
    assert (refused.code, secret in refused.stderr) == (77, False)
    mariadb_server.execute(f"DROP USER '{user}'@'127.0.0.1'")


def test_an_authentication_plugin_that_needs_a_package(
    mariadb_server: MariaDbServer, mariadb_url: str, dvctl: Dvctl
) -> None:
    """ed25519 is MariaDB's own: PyMySQL signs with PyNaCl, which need not be installed."""
    try:
        mariadb_server.execute("INSTALL SONAME 'auth_ed25519'")
    except pymysql.MySQLError:
        unavailable("this MariaDB has no auth_ed25519")
    name = urlsplit(mariadb_url).path[1:]
    mariadb_server.execute(
        "CREATE OR REPLACE USER signer@'127.0.0.1' IDENTIFIED VIA ed25519 USING PASSWORD('secret')",
        f"GRANT ALL ON {name}.* TO signer@'127.0.0.1'",
    )
    url = mariadb_server.url_for(name, "signer", "secret")
    answer = dvctl.use(database_url=url).run("db", "index", "--dry-run")
    assert answer.code in (0, 78), answer.stderr
    if answer.code:
        assert "pip install" in answer.stderr
        assert "pynacl" in answer.stderr.lower()
    mariadb_server.execute("DROP USER signer@'127.0.0.1'", "UNINSTALL SONAME 'auth_ed25519'")


def test_a_password_beyond_ascii_on_postgresql(new_postgres: Callable[..., PostgresServer], dvctl: Dvctl) -> None:
    server = new_postgres(password="admin")
    url = server.database()
    name = urlsplit(url).path[1:]
    for number, secret in enumerate(SECRETS):
        user = f"bénutzer{number}"
        server.execute(f"""CREATE ROLE "{user}" LOGIN SUPERUSER PASSWORD '{secret}'""")
        login = server.url_for(name, quote(user), quote(secret, safe=""))
        assert "creates" in dvctl.use(database_url=login).ok("db", "index", "--dry-run").stderr
        wrong = server.url_for(name, quote(user), quote("x" + secret, safe=""))
        refused = dvctl.run("db", "index", "--dry-run", env={"DEVICEVAULT_DATABASE_URL": wrong})
        assert (refused.code, secret in refused.stderr) == (77, False)


def test_a_password_beyond_ascii_on_redis(new_redis: Callable[..., Any], dvctl: Dvctl) -> None:
    server = new_redis()
    with server.client() as client:
        for number, secret in enumerate(SECRETS):
            user = f"bénutzer{number}"
            client.execute_command("ACL", "SETUSER", user, "on", f">{secret}", "~*", "&*", "+@all")
            url = server.url_for(quote(user), quote(secret, safe=""))
            assert dvctl.use(url).run("status", "-o", "json").code == 0
            assert dvctl.use(server.url_for(quote(user), quote("x" + secret, safe=""))).run("status").code == 77


# --- a port that accepts and is silent


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections, as far as the system does, and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]


SILENT = {
    "mysql": "mysql://user@127.0.0.1:{port}/vault",
    "postgresql": "postgresql://user@127.0.0.1:{port}/vault",
    "redis": "redis://127.0.0.1:{port}/1",
}


def command_against(which: str) -> tuple[list[str], str]:
    """A command that needs only this server, and the variable with its URL."""
    if which == "redis":
        return ["status"], "DEVICEVAULT_REDIS_URL"
    return ["db", "index", "--dry-run"], "DEVICEVAULT_DATABASE_URL"


@pytest.mark.slow
def test_a_silent_server_is_given_up_after_ten_seconds(dvctl: Dvctl, silent_port: int) -> None:
    """All three at once: it takes the time that it is about."""
    begun = time.monotonic()
    running = {}
    for which, url in SILENT.items():
        words, variable = command_against(which)
        running[which] = dvctl.start(*words, env={variable: url.format(port=silent_port)})
    for which, command in running.items():
        answer = command.wait(40)
        assert answer.code == 69, (which, answer.stderr)
        error, hint = answer.stderr.splitlines()
        assert error.startswith("error: ")
        assert f"127.0.0.1:{silent_port}" in error
        assert "answer" in error
        assert hint.startswith("hint: check host and port")
    assert 9 < time.monotonic() - begun < 20


@pytest.mark.parametrize("which", ["mysql", "postgresql"])
def test_the_url_says_how_long_a_silent_server_is_waited_for(dvctl: Dvctl, silent_port: int, which: str) -> None:
    words, variable = command_against(which)
    url = SILENT[which].format(port=silent_port) + "?connect_timeout=2"
    answer = dvctl.run(*words, env={variable: url}, timeout=9)
    assert (answer.code, "did not answer within 2 s" in answer.stderr) == (69, True)
    answer = dvctl.run(*words, env={variable: url.replace("=2", "=soon")}, timeout=9)
    assert (answer.code, "connect_timeout" in answer.stderr) == (78, True)


def test_a_statement_may_take_longer_than_the_login(mariadb_url: str, opened: Callable[..., Repository]) -> None:
    repository = opened(f"{mariadb_url}?connect_timeout=1")
    assert select_through(repository, "SELECT SLEEP(1.6)") == [(0,)]
