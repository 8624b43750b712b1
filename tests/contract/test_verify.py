"""verify on real servers: every database and every Redis, beside consumers at work, after DeviceVault's own losses."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from urllib.parse import urlsplit

import psycopg
import pytest

from devicevault_cli.consumer.demo import bad_messages
from devicevault_cli.consumer.options import ConsumeOptions
from devicevault_cli.consumer.shutdown import Stop
from devicevault_cli.consumer.worker import Worker
from devicevault_cli.errors import MissingGroup
from devicevault_cli.operations.entries.claim import ClaimFilter, plan_claim
from devicevault_cli.operations.verify.repair import plan_repair
from devicevault_cli.operations.verify.result import VerifyResult
from devicevault_cli.operations.verify.scan import Scope
from devicevault_cli.operations.verify.verify import list_findings, verify
from devicevault_cli.pipelines import RESULTS, STORAGE
from devicevault_cli.repository import open_repository, tables
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.connect import connect
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.stream import Stream
from tests.support.consuming import GROUP, good
from tests.support.postgres_server import PostgresServer
from tests.support.records import execute_through
from tests.support.recovering import apply
from tests.support.verifying import Seeded, seed

PATIENCE_S = float(os.environ.get("DVCTL_TEST_SOAK_S", "12"))
"""How long verify may run beside consumers; RUNS of them take about a minute on two cores."""
RUNS = 100


@pytest.fixture
def repository(database_url: str) -> Iterator[Repository]:
    with closing(open_repository(database_url, tables.RESULTS)) as opened:
        yield opened


def check_seeded(seeded: Seeded) -> None:
    """Every number is the seeded one, and repair leaves nothing lost."""
    answer = verify(seeded.group, seeded.pipeline, seeded.repository, deep=True).to_dict()
    assert answer["classes"] == seeded.expected
    assert answer["lost_reasons"] == dict(seeded.reasons)
    assert answer["pending_gone"] == 2
    rows = {"rows": seeded.rows, "duplicate_rows": 0, "conflicting": 0}
    rows |= dict.fromkeys(("rows_without_entry", "rows_without_entry_in_range"), 0)
    assert answer["rows"] == rows
    assert answer["columns_differing"] == {}
    repaired = apply(lambda: plan_repair(seeded.group, seeded.pipeline, seeded.repository, Scope()))
    assert repaired["repaired"] == {"inserted": 7, "duplicates": 0, "dead_lettered": 4, "left": 0}
    assert (repaired["classes"]["lost"], repaired["classes"]["lost_invalid"]) == (0, 0)


def test_on_every_database(stream: Stream, repository: Repository) -> None:
    check_seeded(seed(stream, repository))


def test_storage_on_every_database(stream: Stream, database_url: str) -> None:
    with closing(open_repository(database_url, tables.STORAGE)) as repository:
        check_seeded(seed(stream, repository, STORAGE))


def test_rows_on_every_database(stream: Stream, repository: Repository) -> None:
    """Twice, contradicting, and without an entry."""
    seeded = seed(stream, repository)
    trimmed = good(4)
    seeded.save(seeded.add("trimmed", trimmed), trimmed)
    stream.call("XDEL", stream.key, *map(str, seeded.ids.pop("trimmed")))
    name, columns = repository.spec.name, ", ".join(repository.spec.columns)
    execute_through(
        repository,
        f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {name} WHERE id IN (5, 6, 22)",
        f"UPDATE {name} SET status = 'failure' WHERE id = 7",
        f"UPDATE {name} SET device_id = 9 WHERE id = 8",
    )
    answer = verify(seeded.group, RESULTS, repository, deep=True).to_dict()
    rows = {"rows": seeded.rows + 3, "duplicate_rows": 3, "conflicting": 2}
    rows |= {"rows_without_entry": 4, "rows_without_entry_in_range": 0}
    assert answer["rows"] == rows
    assert answer["classes"] == seeded.expected
    assert answer["columns_differing"] == {"status": 1, "device_id": 1}
    assert sorted(each["ids"][0] for each in answer["duplicates"]) == [5, 6, 22]


def test_on_every_redis(each_redis_url: str, stream_key: str, sqlite_url: str) -> None:
    with (
        closing(connect(each_redis_url)) as client,
        closing(open_repository(sqlite_url, tables.RESULTS)) as repository,
    ):
        check_seeded(seed(Stream(client, stream_key), repository))


def test_rights_to_read_suffice(stream: Stream, redis_url: str, stream_key: str, postgres_url: str) -> None:
    with closing(open_repository(postgres_url, tables.RESULTS)) as repository:
        seeded = seed(stream, repository)
        expected = seeded.expected
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"CREATE ROLE \"reader-{name}\" LOGIN PASSWORD 'reading'")
        connection.execute(f'GRANT SELECT ON ALL TABLES IN SCHEMA public TO "reader-{name}"')
    parts = urlsplit(redis_url)
    stream.call("ACL", "SETUSER", "reader", "on", ">reading", "~*", "+@read", "+select", "+ping")
    reading = urlsplit(postgres_url)
    database = f"postgresql://reader-{name}:reading@{reading.netloc.rpartition('@')[2]}{reading.path}"
    try:
        with (
            closing(connect(f"redis://reader:reading@{parts.hostname}:{parts.port}{parts.path}")) as client,
            closing(open_repository(database, tables.RESULTS)) as repository,
        ):
            answer = verify(Group(Stream(client, stream_key), GROUP), RESULTS, repository, deep=True).to_dict()
    finally:
        stream.call("ACL", "DELUSER", "reader")
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f'DROP OWNED BY "reader-{name}"')
            connection.execute(f'DROP ROLE "reader-{name}"')
    assert answer["classes"] == expected


def test_identities_that_a_collation_equates_are_told_apart(stream: Stream, repository: Repository) -> None:
    seeded = Seeded(stream, repository)
    repository.check()
    (base,) = good(1)
    names = [b"Job:1", b"job:1", b"job:1 ", "jo\u0308b:1".encode(), "j\u00f6b:1".encode()]
    messages = [dict(base) | {b"task_identifier": name} for name in names]
    seeded.save(seeded.add("persisted", messages[:1]), messages[:1])
    seeded.add("lost", messages[1:])
    seeded.read()
    seeded.group.acknowledge([key for ids in seeded.ids.values() for key in ids])
    assert verify(seeded.group, RESULTS, repository).to_dict()["classes"] == seeded.expected


def produce(redis_url: str, stream_key: str, stop: Stop) -> None:
    """Good and bad messages, until told to stop."""
    with closing(connect(redis_url)) as client:
        while not stop.wait(0.02):
            Stream(client, stream_key).add([*good(20), *(message for _, message in bad_messages())])


def consume(redis_url: str, stream_key: str, database_url: str, name: str, stop: Stop) -> None:
    """Replaced every 400 messages, it takes over what others seem to have left, and is soon suspicious of an entry."""
    options = ConsumeOptions(claim_idle_s=0.05, max_messages=400, batch_size=50, max_deliveries=1)
    while not stop.is_set():
        with (
            closing(connect(redis_url)) as client,
            closing(open_repository(database_url, tables.RESULTS)) as repository,
        ):
            group = Group(Stream(client, stream_key), GROUP)
            Worker(GroupConsumer(group, name), repository, RESULTS, options, stop).run()


def meddle(redis_url: str, stream_key: str, stop: Stop) -> None:
    """An operator who takes entries from one consumer for another, and releases them, again and again."""
    with closing(connect(redis_url)) as client:
        group = Group(Stream(client, stream_key), GROUP)
        while not stop.wait(0.05):
            for to in ("worker-1", None):
                with suppress(MissingGroup):
                    plan_claim(group, ClaimFilter(), to).apply()


def test_beside_consumers_at_work_nothing_is_called_lost(redis_url: str, stream_key: str, postgres_url: str) -> None:
    stop = Stop()
    threads = [threading.Thread(target=produce, args=(redis_url, stream_key, stop))]
    threads += [threading.Thread(target=meddle, args=(redis_url, stream_key, stop))]
    threads += [
        threading.Thread(target=consume, args=(redis_url, stream_key, postgres_url, f"worker-{number}", stop))
        for number in range(3)
    ]
    for thread in threads:
        thread.start()
    findings, persisted, runs = [], 0, 0
    try:
        with (
            closing(connect(redis_url)) as client,
            closing(open_repository(postgres_url, tables.RESULTS)) as repository,
        ):
            group = Group(Stream(client, stream_key), GROUP)
            deadline = time.monotonic() + PATIENCE_S
            while runs < RUNS:
                runs += 1
                answer = verify(group, RESULTS, repository).to_dict()
                persisted = answer["classes"]["persisted"]
                if not answer["ok"]:
                    findings.append({name: answer[name] for name in ("classes", "rows", "pending_gone", "examples")})
                if time.monotonic() > deadline and persisted > 500:
                    break
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert findings == []
    assert persisted > 500
    print(f"{runs} runs, {persisted} rows at the end")


def consume_as_devicevault(group: Group, url: str) -> None:
    """Its policy in a few lines: a message is acknowledged whatever happened, and only new ones are read."""
    for entry in GroupConsumer(group, "consumer-4711").read_new(1000):
        try:
            with psycopg.connect(url) as connection:
                values = [entry.fields.get(name, b"").decode() for name in NAMES]
                connection.execute(INSERT, values)
        except psycopg.Error:
            pass
        group.acknowledge([entry.id])


NAMES = (b"task_id", b"task_identifier", b"device_id", b"status", b"log")
INSERT = f"""INSERT INTO {RESULTS.table} (task_id, task_identifier, device_id, status, log, timestamp)
VALUES (%s, %s, %s, %s, %s, now())"""


def test_what_devicevault_eats_in_an_outage_is_named_and_brought_back(
    stream: Stream, new_postgres: Callable[..., PostgresServer]
) -> None:
    server = new_postgres()
    url = server.database()
    group = Group(stream, GROUP)
    group.create()
    stream.add(good(10))
    consume_as_devicevault(group, url)
    server.stop()
    bad = [message for _, message in bad_messages()]
    eaten = stream.add([*good(15), *bad])
    consume_as_devicevault(group, url)
    server.start()
    stream.add(good(12))
    consume_as_devicevault(group, url)
    with closing(open_repository(url, tables.RESULTS)) as repository:
        named = [
            str(found.id)
            for wanted in ("lost", "lost_invalid")
            for found in list_findings(group, RESULTS, repository, Scope(), wanted, VerifyResult())
        ]
        assert sorted(named) == sorted(map(str, eaten))
        repaired = apply(lambda: plan_repair(group, RESULTS, repository, Scope()))
        assert (repaired["repaired"]["inserted"], repaired["repaired"]["dead_lettered"]) == (15, len(bad))
        answer = verify(group, RESULTS, repository).to_dict()
    assert answer["ok"] is True
    assert (answer["classes"]["persisted"], answer["classes"]["dead"]) == (37, len(bad))
