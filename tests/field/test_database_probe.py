"""What is looked at before anything is read: can the file be written, does the table take a row?"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis

from tests.cli.conftest import Cli
from tests.field.broken_tables import MARIADB, POSTGRES, SQLITE, run
from tests.support.daemon import consuming
from tests.support.messages import Message, good, publish
from tests.support.oracle import TABLE, assert_everything, untouched
from tests.support.postgres_server import PostgresServer
from tests.support.rows import read_rows, select
from tests.support.sqlite_database import SqliteFiles


def put(redis_url: str, messages: list[Message]) -> Any:
    with redis.Redis.from_url(redis_url) as client:
        return publish(client, messages)


def finding(at: Cli, name: str) -> tuple[str, str]:
    """The status of one of `doctor`'s checks, and all it says."""
    [check] = [check for check in at("doctor", "-o", "json").json["checks"] if check["name"] == name]
    return check["status"], f"{check['detail']} | {check['fix']}"


# --- SQLite: rights that only another user lacks

NOBODY = 65_534
AS_NOBODY = f"""
import contextlib, importlib, io, os, pkgutil, sys
import devicevault_cli
for found in pkgutil.walk_packages(devicevault_cli.__path__, "devicevault_cli."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
from devicevault_cli.cli.app import run as answer
database = os.environ["DEVICEVAULT_DATABASE_URL"]
os.environ["DEVICEVAULT_DATABASE_URL"] = "sqlite:////absent.db"
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    answer(sys.argv[1:])
os.environ["DEVICEVAULT_DATABASE_URL"] = database
if os.geteuid() == 0:
    os.setgroups([]), os.setgid({NOBODY}), os.setuid({NOBODY})
sys.exit(answer(sys.argv[1:]))
"""
"""All modules are imported first: the new user may not be able to read this checkout, nor this Python."""


class Answer(NamedTuple):
    code: int
    stdout: str
    stderr: str


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that another user can reach and write."""
    made = Path(tempfile.mkdtemp(prefix="dvctl-probe-"))
    made.chmod(0o777)
    yield made
    made.chmod(0o777)
    shutil.rmtree(made)


def as_nobody(redis_url: str, path: Path, *words: str) -> Answer:
    """Run dvctl as a user who is not root, and for whom the modes of files count."""
    environment = {"DEVICEVAULT_REDIS_URL": redis_url, "DEVICEVAULT_DATABASE_URL": f"sqlite:///{path}"}
    environment |= {"PATH": os.environ["PATH"], "HOME": "/nowhere", "XDG_RUNTIME_DIR": str(path.parent.parent)}
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, *words],
        env=environment, cwd="/", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return Answer(done.returncode, done.stdout, done.stderr)


MODES = {"the file": 0o444, "the file, to be read": 0o000, "its folder": 0o555, "to enter its folder": 0o666}


def forbid(what: str, path: Path) -> Path:
    """Take a right away. -> the file or folder that has to be named"""
    if what == "the journal":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        named = Path(f"{path}-wal")
        for suffix in ("-wal", "-shm"):
            Path(f"{path}{suffix}").touch()
        named.chmod(0o444)
        Path(f"{path}-shm").chmod(0o666)
        return named
    named = path if what.startswith("the file") else path.parent
    named.chmod(
        {"the file": 0o444, "the file, to be read": 0o000, "its folder": 0o555, "to enter its folder": 0o666}[what]
    )
    return named


@pytest.mark.parametrize("what", [*MODES, "the journal"])
def test_an_sqlite_file_that_this_user_may_not_write(what: str, redis_url: str, folder: Path) -> None:
    """Field case 7: exit 77 before anything is read, naming file and user; `doctor` agrees."""
    url = SqliteFiles(folder).database()
    path = Path(url.removeprefix("sqlite:///"))
    path.chmod(0o666)
    put(redis_url, good(5))
    named = forbid(what, path)
    user = "nobody" if os.geteuid() == 0 else str(os.geteuid())
    with untouched(redis_url):
        started = as_nobody(redis_url, path, "consume", "--drain")
        doctor = as_nobody(redis_url, path, "doctor", "-o", "json")
    assert started.code == 77, started.stderr
    assert str(named) in started.stderr
    assert user in started.stderr or os.geteuid() != 0
    problems = [check["detail"] for check in json.loads(doctor.stdout)["checks"] if check["status"] == "problem"]
    assert doctor.code == 3
    assert any(str(named) in detail for detail in problems), doctor.stdout
    for restored, mode in ((path.parent, 0o777), (path, 0o666), (named, 0o777)):
        restored.chmod(mode)
    healed = as_nobody(redis_url, path, "doctor", "-o", "json")
    states = {check["name"]: check["status"] for check in json.loads(healed.stdout)["checks"]}
    assert (states["database-rights"], states["table"]) == ("ok", "ok"), healed.stdout


# --- the probe row


def test_the_probe_leaves_nothing_and_uses_no_id(redis_url: str, database_url: str, cli: Cli) -> None:
    at = cli.at(redis_url, database_url)
    with untouched(redis_url, database_url):
        assert finding(at, "table")[0] == "ok"
        assert finding(at, "database-rights")[0] == "ok"
    sent = put(redis_url, good(3))
    assert at("consume", "--drain").code == 0
    assert_everything(redis_url, database_url, sent)
    assert [row.id for row in read_rows(database_url)] == [1, 2, 3]


def test_without_any_device_the_table_is_not_at_fault(redis_url: str, database_url: str, cli: Cli) -> None:
    run(database_url, "DELETE FROM devices_device")
    at = cli.at(redis_url, database_url)
    assert finding(at, "table")[0] == "ok"
    sent = put(redis_url, [Message(each.fields, "unknown-device") for each in good(3)])
    assert at("consume", "--drain").code == 0
    assert_everything(redis_url, database_url, sent)


def test_the_least_rights_suffice_for_the_probe(
    redis_url: str, postgres_server: PostgresServer, postgres_url: str, cli: Cli
) -> None:
    """INSERT on the columns that dvctl writes, and no right at all on the sequence behind the identity."""
    columns = "task_id, task_identifier, device_id, status, timestamp, log, initiated_at, collection_duration_ms"
    postgres_server.execute("DROP ROLE IF EXISTS probing", "CREATE ROLE probing LOGIN")
    run(
        postgres_url,
        f"GRANT SELECT, INSERT ({columns}, overall_duration_ms) ON {TABLE} TO probing",
        "GRANT SELECT ON devices_device TO probing",
    )
    url = postgres_server.url_for(postgres_url.rpartition("/")[2], "probing")
    sent = put(redis_url, good(3))
    assert cli.at(redis_url, url)("consume", "--drain").code == 0
    assert_everything(redis_url, postgres_url, sent)
    run(postgres_url, *POSTGRES["the id sequence is exhausted"].broken)
    refused = cli.at(redis_url, url)("consume", "--drain")
    assert (refused.code, "2200H" in refused.err) == (69, True), refused.err
    run(postgres_url, "DROP OWNED BY probing")


@pytest.mark.parametrize("words", [("replay", "--missing"), ("dlq", "retry", "--all"), ("verify", "--repair")])
def test_commands_end_and_give_nothing_up(words: tuple[str, ...], redis_url: str, database_url: str, cli: Cli) -> None:
    """Repairs meet the same fault: exit 69, and nothing is changed, neither letters nor rows."""
    cases = {"sqlite": SQLITE, "mysql": MARIADB}.get(database_url.partition(":")[0], POSTGRES)
    at = cli.at(redis_url, database_url)
    strange = good(1, seed=9)[0].fields | {b"device_id": b"77"}
    put(redis_url, [*good(3), Message(strange)])
    assert at("consume", "--drain").code == 0
    run(
        database_url,
        f"DELETE FROM {TABLE} WHERE id = 2",
        "INSERT INTO devices_device (id, name, ip_address, enabled) VALUES (77, 'late', '192.0.2.77', true)",
        *cases["a new column that must not be NULL"].broken,
    )
    with untouched(redis_url, database_url):
        answer = at(*words, "--yes")
    assert answer.code == 69, answer.err
    assert "tenant" in answer.err
    run(database_url, *cases["a new column that must not be NULL"].healed)
    assert at(*words, "--yes").code == 0


# --- triggers that put rows elsewhere, policies, sequences, engines


def test_rows_that_an_inheritance_trigger_puts_elsewhere_are_neither_duplicates_nor_missing(
    redis_url: str, postgres_url: str, cli: Cli
) -> None:
    run(
        postgres_url,
        f"CREATE TABLE child (CHECK (device_id > 0)) INHERITS ({TABLE})",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO child VALUES (NEW.*); RETURN NULL; END $$",
        f"CREATE TRIGGER divert BEFORE INSERT ON {TABLE} FOR EACH ROW EXECUTE FUNCTION f()",
    )
    at = cli.at(redis_url, postgres_url)
    nameless = good(1, seed=5)[0].fields | {b"task_identifier": b""}
    sent = put(redis_url, [*good(20), *good(2), Message(nameless)])
    answer = at("consume", "--drain", "-o", "json")
    assert (answer.json["persisted"], answer.json["duplicates"]) == (21, 2), answer.err
    assert_everything(redis_url, postgres_url, sent)
    assert select(postgres_url, "SELECT count(*) FROM child") == [(21,)]
    again = at("replay", "--since", "2000-01-01", "--yes", "-o", "json")
    assert (again.json["inserted"], again.json["duplicates"]) == (0, 23)
    assert at("verify", "-o", "json").json["classes"]["persisted"] == 23


def test_doctor_says_what_row_level_security_forbids(
    redis_url: str, postgres_server: PostgresServer, postgres_url: str, cli: Cli
) -> None:
    postgres_server.execute("DROP ROLE IF EXISTS confined", "CREATE ROLE confined LOGIN")
    run(
        postgres_url,
        f"GRANT SELECT, INSERT ON {TABLE} TO confined",
        "GRANT SELECT ON devices_device TO confined",
    )
    at = cli.at(redis_url, postgres_server.url_for(postgres_url.rpartition("/")[2], "confined"))
    assert finding(at, "row-level-security")[0] == "ok"
    run(
        postgres_url,
        f"ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY some_rows ON {TABLE} FOR SELECT USING (device_id < 5)",
    )
    status, says = finding(at, "row-level-security")
    assert status == "problem"
    assert "INSERT to confined" in says
    assert "some rows only" in says
    run(postgres_url, f"CREATE POLICY inserting ON {TABLE} FOR ALL USING (true)")
    assert finding(at, "row-level-security")[0] == "ok"
    run(postgres_url, "ALTER TABLE devices_device ENABLE ROW LEVEL SECURITY")
    status, says = finding(at, "row-level-security")
    assert (status, "devices_device" in says) == ("problem", True)
    put(redis_url, good(3))
    with untouched(redis_url):  # else all would be dead letters of unknown devices
        started = at("consume", "--drain")
    assert (started.code, "hides every row of devices_device" in started.err) == (69, True), started.err
    with consuming(redis_url, at.environ["DEVICEVAULT_DATABASE_URL"]) as daemon:
        daemon.wait_deferred(1)
        run(postgres_url, "CREATE POLICY all_devices ON devices_device FOR SELECT USING (true)")
        daemon.wait_settled()
        run(postgres_url, "DROP POLICY all_devices ON devices_device")
        daemon.publish(good(3, seed=2))
        daemon.wait_deferred(1)
        run(postgres_url, "ALTER TABLE devices_device DISABLE ROW LEVEL SECURITY")
        daemon.wait_settled()
    assert len(read_rows(postgres_url)) == 6
    run(postgres_url, "DROP OWNED BY confined")


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("SELECT setval('{sequence}', 2147000000)", "483,646 values left"),
        ("INSERT INTO {table} SELECT 5000, 't', 'far', 1, 'success', now(), '[]'", "setval"),
    ],
)
def test_doctor_warns_of_a_sequence_that_will_fail(
    statement: str, says: str, redis_url: str, postgres_url: str, cli: Cli
) -> None:
    """A risk stops nobody: a consumer starts."""
    run(postgres_url, statement.format(sequence=f"{TABLE}_id_seq", table=TABLE))
    at = cli.at(redis_url, postgres_url)
    status, said = finding(at, "table")
    assert (status, says in said) == ("warning", True), said
    put(redis_url, good(3))
    assert at("consume", "--drain").code == 0


def test_an_engine_without_transactions(redis_url: str, mariadb_url: str, cli: Cli) -> None:
    """A warning, and still a bad message alone is dead-lettered; an engine that keeps nothing is a fault."""
    run(mariadb_url, f"CREATE TABLE plain LIKE {TABLE}", f"DROP TABLE {TABLE}", f"RENAME TABLE plain TO {TABLE}")
    run(mariadb_url, f"ALTER TABLE {TABLE} ENGINE=MyISAM", f"ALTER TABLE {TABLE} MODIFY status varchar(7) NOT NULL")
    at = cli.at(redis_url, mariadb_url)
    status, said = finding(at, "table")
    assert (status, "MyISAM" in said, "InnoDB" in said) == ("warning", True, True)
    long = good(1, seed=9)[0].fields | {b"status": b"partially"}
    sent = put(redis_url, [*good(3), Message(long, "database-rejected"), *good(3, seed=2)])
    assert at("consume", "--drain").code == 0
    assert_everything(redis_url, mariadb_url, sent)
    run(mariadb_url, f"ALTER TABLE {TABLE} ADD COLUMN tenant integer NOT NULL")
    assert at("consume", "--drain").code == 0, "nothing to do, and no probe without transactions"
    put(redis_url, good(2, seed=3))
    with consuming(redis_url, mariadb_url) as daemon:
        daemon.wait_deferred(2)
    assert len(read_rows(mariadb_url)) == 6
