"""Looking commands show what can be shown; `check` always says one line; pages say what they leave out."""

from __future__ import annotations

import json
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.messages import good, publish
from tests.support.oracle import GROUP, STREAM
from tests.support.postgres_server import PostgresServer
from tests.support.process import DVCTL, Answer, Dvctl
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from tests.support.screen import Screen, on_a_terminal
from tests.support.server import wait_until
from tests.support.sqlite_database import SqliteFiles

REFUSED = "postgresql://nobody:hidden@127.0.0.1:1/none"


@pytest.fixture
def busy(redis_url: str) -> Iterator[Any]:
    """A stream with a group, and something pending and undelivered."""
    with redis.Redis.from_url(redis_url) as client:
        publish(client, good(5))
        client.xgroup_create(STREAM, GROUP, "0")
        client.xreadgroup(GROUP, "worker", {STREAM: ">"}, count=2)
        yield client


@pytest.fixture
def silent() -> Iterator[str]:
    """A database's port that accepts and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"postgresql://nobody:hidden@127.0.0.1:{listener.getsockname()[1]}/none"


def without_tables(folder: Path) -> str:
    (folder / "empty").mkdir()
    return SqliteFiles(folder / "empty").database(empty=True)


# --- the database is away


def degraded(dvctl: Dvctl, url: str, code: int) -> None:
    """`status` shows Redis's side and says once what is the matter with the database."""
    answer = dvctl.run("status", "-o", "json", env={"DEVICEVAULT_DATABASE_URL": url})
    assert answer.code == code, answer
    told = answer.json()
    assert (told["stream"]["length"], told["groups"][0]["lag"], told["groups"][0]["pending"]) == (5, 3, 2)
    assert (told["table"]["rows"], told["table"]["latest_timestamp"]) == (None, None)
    assert told["table"]["error"] in answer.stderr
    assert answer.stderr.count("error: ") == 1
    assert "hidden" not in answer.stdout + answer.stderr


def test_status_shows_redis_while_the_database_cannot_be_used(
    dvctl: Dvctl, redis_url: str, busy: Any, silent: str, tmp_path: Path
) -> None:
    dvctl.use(redis_url)
    degraded(dvctl, REFUSED, 69)
    degraded(dvctl, silent, 69)
    degraded(dvctl, without_tables(tmp_path), 78)
    degraded(dvctl, "nonsense://h/d", 78)
    people = dvctl.run("status", env={"DEVICEVAULT_DATABASE_URL": REFUSED})
    assert people.stdout.startswith("PROBLEM: database unreachable, ")
    assert ": unreachable\n" in people.stdout
    assert GROUP in people.stdout


def test_status_shows_redis_while_the_database_refuses(
    dvctl: Dvctl, redis_url: str, busy: Any, postgres_server: PostgresServer, postgres_url: str
) -> None:
    postgres_server.execute("CREATE ROLE stranger LOGIN")
    try:
        url = postgres_server.url_for(postgres_url.rpartition("/")[2], "stranger", "hidden")
        degraded(dvctl.use(redis_url), url, 77)
    finally:
        postgres_server.execute("DROP ROLE stranger")


def test_doctor_reports_a_server_that_is_away_once(
    dvctl: Dvctl, redis_url: str, busy: Any, sqlite_url: str, silent: str, tmp_path: Path
) -> None:
    for url in (REFUSED, silent, without_tables(tmp_path)):
        answer = dvctl.use(redis_url, url).run("doctor", "-o", "json")
        checks = {check["name"]: check for check in answer.json()["checks"]}
        assert (answer.code, checks["database"]["status"]) == (3, "problem")
        assert checks["database"]["detail"] not in json.dumps([c for n, c in checks.items() if n != "database"])
        assert {checks[name]["status"] for name in ("database-rights", "unique-index", "duplicates")} == {"unknown"}
        assert checks["group"]["status"] == "ok"
    away = dvctl.use("redis://127.0.0.1:1/0", sqlite_url).run("doctor", "-o", "json")
    checks = {check["name"]: check for check in away.json()["checks"]}
    assert (away.code, away.stderr.count("error: ")) == (69, 1)
    assert [name for name, check in checks.items() if check["status"] == "problem"] == ["redis-version"]
    assert (checks["database"]["status"], checks["group"]["status"]) == ("ok", "unknown")


def watched(screen: Screen) -> str:
    """What stands on it a moment later."""
    screen.watch(0.1)
    return screen.text


def test_top_says_that_the_database_is_away_and_recovers(
    dvctl: Dvctl, redis_url: str, busy: Any, postgres_url: str
) -> None:
    with Proxy(postgres_url) as proxy:
        proxy.refuse = True
        dvctl.use(redis_url, proxy.url)
        with on_a_terminal(["top", "--interval", "200ms"], dvctl.environment) as screen:
            screen.wait_for("database: unreachable (")
            screen.wait_for("3 of 5 entries")
            proxy.heal()
            wait_until(lambda: "database:" not in watched(screen), what="the line to go")
            screen.wait_for("3 of 5 entries")
            screen.type("q")
            assert screen.code() == 0
        with on_a_terminal(["top", "--interval", "200ms"], dvctl.environment) as screen:
            screen.wait_for("3 of 5 entries")
            proxy.refuse = True
            proxy.cut()
            screen.wait_for("database: unreachable (")
            screen.type("q")
            assert screen.code() == 0


# --- pages


def test_pending_counts_what_is_selected_and_names_the_next_page(dvctl: Dvctl, redis_url: str, sqlite_url: str) -> None:
    dvctl.use(redis_url, REFUSED)
    with redis.Redis.from_url(redis_url) as client:
        publish(client, good(300))
        client.xgroup_create(STREAM, "it's mine", "0")
        keys = [key for key, _ in client.xrange(STREAM)]
        client.xreadgroup("it's mine", "a b", {STREAM: ">"}, count=250)
        client.xreadgroup("it's mine", "other", {STREAM: ">"})
        client.xclaim(STREAM, "it's mine", "a b", 0, keys[:120], idle=7_200_000, justid=True)
    group = ("--group", "it's mine")
    for options, total, owners in (
        ((), 300, {"a b": 250, "other": 50}),
        (("--min-idle", "1h"), 120, {"a b": 120}),
        (("--min-idle", "3h"), 0, {}),
        (("--consumer", "other"), 50, {"other": 50}),
        (("--from", keys[260].decode()), 40, {"other": 40}),
        (("--consumer", "a b", "--from", keys[100].decode(), "--min-idle", "90m"), 20, {"a b": 20}),
    ):
        told = dvctl.json("pending", *group, *options)
        assert (told["total"], told["consumers"]) == (total, owners), options
        assert len(told["entries"]) == min(total, 100)
        summary = dvctl.json("pending", *group, *options, "--summary")
        assert (summary["total"], summary["consumers"], summary["entries"]) == (total, owners, [])
    shown: list[str] = []
    line = ["pending", *group, "--consumer", "a b", "--min-idle", "90m", "-n", "50"]
    while line:
        page = dvctl.ok(*line)
        shown += [word for word in page.stdout.split() if word.encode() in keys]
        (said,) = [text for text in page.stderr.splitlines() if " shown" in text] or [""]
        assert said or len(shown) == 120
        assert not said or f"50 of {120 - len(shown) + 50} shown" in said
        line = shlex.split(said.partition(": dvctl ")[2])
    assert shown == [key.decode() for key in keys[:120]], "the commands walk through all of them, each once"
    assert "shown" not in dvctl.ok("pending", *group, "--min-idle", "1h", "-n", "120").stderr


# --- check


def unknown(answer: Answer) -> str:
    assert answer.code == 3, answer
    assert answer.stdout.count("\n") == 1, answer
    assert answer.stdout.startswith("DVCTL UNKNOWN - "), answer
    assert "hidden" not in answer.stdout + answer.stderr
    assert "Traceback" not in answer.stderr
    return answer.stdout


def test_check_says_one_line_whatever_goes_wrong(dvctl: Dvctl, redis_url: str, tmp_path: Path) -> None:
    broken = tmp_path / "config.yaml"
    broken.write_text("redis: [\n\t: {")
    dvctl.use(redis_url)
    for line in (
        ["--bogus"],
        ["--max-lag", "9:1"],
        ["--max-age"],
        ["--format", "xml"],
        ["surplus"],
        ["-o", "xml"],
        ["--config", str(tmp_path / "absent.yaml")],
        ["--config", str(broken)],
        ["--profile", "absent"],
        ["--redis-url", "redis://127.0.0.1:1/0"],
        ["--redis-url", "http://:hidden@h"],
        ["--stream", "a|b", "--redis-url", "redis://127.0.0.1:1/0"],
        ["--bogus", "--verbose"],
    ):
        assert "|" not in unknown(dvctl.run("check", *line))
    unknown(dvctl.run("check", env={"DVCTL_OUTPUT": "nonsense"}))
    told = dvctl.run("check", "--bogus", "--format", "json")
    assert (told.code, told.json()["status"], told.json()["checks"]) == (3, "unknown", [])
    assert "--bogus" in told.json()["error"]
    told = dvctl.run("check", "--format=prometheus", "--profile", "absent")
    assert (told.code, told.stdout.splitlines()[-1]) == (3, "dvctl_check_status 3")
    assert dvctl.run("check", "--help").code == 0
    assert dvctl.run("check").code == 0


def test_check_with_a_wrong_password_or_right(dvctl: Dvctl, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", "nobody", "on", ">right", "~*", "+select")
        try:
            assert "refuses the login" in unknown(dvctl.use(redis_server.url_for("nobody", "hidden")).run("check"))
            assert "permit" in unknown(dvctl.use(redis_server.url_for("nobody", "right")).run("check"))
        finally:
            client.execute_command("ACL", "DELUSER", "nobody")


def test_check_where_stdout_takes_nothing(dvctl: Dvctl, redis_url: str) -> None:
    environment = dvctl.use(redis_url).environment
    full = [">/dev/full"] if Path("/dev/full").exists() else []
    for redirection in (*full, ">&-", "| true"):
        for options in ("", "--bogus", "--format json"):
            command = f"set -o pipefail; '{DVCTL}' check {options} {redirection}"
            done = subprocess.run(["bash", "-c", command], check=False, env=environment, capture_output=True, text=True)
            if redirection == "| true" and done.returncode == 0:
                continue  # the line was written before its reader had gone
            assert done.returncode == 3, (command, done)
            assert done.stderr.count("DVCTL UNKNOWN - ") == 1, done.stderr
            assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_check_that_is_stopped_by_a_signal(dvctl: Dvctl, number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dvctl.use(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        running = dvctl.start("check")
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(1)  # from now on it waits for an answer
            running.send(number)
            assert f"stopped by {number.name}" in unknown(running.wait())
