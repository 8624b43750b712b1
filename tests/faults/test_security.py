"""TLS to both servers with an authority of its own, and no password in anything that a process writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.certificates import write_certificates
from tests.support.messages import mixed, publish
from tests.support.oracle import GROUP, TABLE, assert_everything
from tests.support.postgres_server import PostgresServer
from tests.support.process import Answer, Dvctl
from tests.support.redis_server import RedisServer
from tests.support.rows import select

pytestmark = [pytest.mark.acceptance]


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
    answer = dvctl.use(server.url.replace(str(certificates), str(stranger))).run("status")
    told_in_one_line(answer, "CERTIFICATE_VERIFY_FAILED")


def told_in_one_line(answer: Answer, *words: str) -> None:
    """One error that names the place and says what is the matter with TLS, and one hint."""
    assert answer.code in {69, 77, 78}, answer
    assert answer.stdout == ""
    [error, hint] = answer.stderr.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    assert "127.0.0.1:" in error or "dvctl.example:" in error
    assert any(word in error for word in words), error
    assert "tls-secret" not in error


def test_redis_that_asks_for_a_certificate_gets_it(
    dvctl: Dvctl, new_redis: Callable[..., RedisServer], sqlite_url: str, certificates: Path, tmp_path: Path
) -> None:
    server = new_redis("--tls-auth-clients", "yes", tls=certificates)
    mine = f"{server.url}&ssl_certfile={certificates / 'client.pem'}&ssl_keyfile={certificates / 'client.key'}"
    dvctl.use(mine, sqlite_url)
    dvctl.ok("publish")
    assert dvctl.json("consume", "--drain")["persisted"] == 1
    # Redis hangs up while the client still writes, or has told it why.
    without = dvctl.use(server.url).run("status")
    told_in_one_line(without, "CERTIFICATE_REQUIRED", "EOF", "closed", "reset", "Broken pipe")
    assert "ssl_certfile" in without.stderr
    told_in_one_line(dvctl.use(mine.replace("client.key", "no-such.key")).run("status"), "No such file")
    told_in_one_line(dvctl.use(mine.replace("client.pem", "server.key")).run("status"), "PEM")


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
    dvctl.use(redis_server.url)
    for broken, words in (
        (url.replace(str(certificates), str(stranger)), "certificate verify failed"),
        (url.replace("@127.0.0.1:", "@dvctl.example:") + "&hostaddr=127.0.0.1", "does not match host name"),
        (url.replace("ca.pem", "no-such.pem"), "does not exist"),
    ):
        told_in_one_line(dvctl.use(database_url=broken).run("verify"), words)
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
