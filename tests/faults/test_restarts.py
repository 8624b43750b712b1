"""Processes that die again and again: of one message, or of the world. Only the first is that message's fault."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

import devicevault_cli
from devicevault_cli.repository.dialects import sqlite
from tests.support.daemon import consuming
from tests.support.deadly import ACKNOWLEDGING
from tests.support.messages import Message, good, mixed, publish
from tests.support.oracle import GROUP, STREAM, TABLE, assert_everything, held
from tests.support.process import Dvctl
from tests.support.rows import read_rows
from tests.support.sqlite_database import locked

pytestmark = [pytest.mark.faults, pytest.mark.acceptance]

ROOT = Path(__file__).parents[2]
PACKAGE = Path(str(devicevault_cli.__file__)).parent
MOST_DELIVERIES = 2
RESTARTS = 20
SEED = 1


def deadly(dvctl: Dvctl, *words: str) -> int:
    """Run a `dvctl` that may kill itself. -> its exit code"""
    command = [sys.executable, "-m", "tests.support.deadly", *words]
    return subprocess.run(command, env=dvctl.environment, cwd=ROOT, check=False).returncode


def test_a_death_between_commit_and_xack(dvctl: Dvctl, redis_url: str, database: str) -> None:
    dvctl.use(redis_url, database)
    with redis.Redis.from_url(redis_url) as client:
        sent = publish(client, good(60), together=True)
        assert deadly(dvctl, ACKNOWLEDGING, "consume", "--drain") == -signal.SIGKILL
        assert len(read_rows(database)) == client.xpending(STREAM, GROUP)["pending"] == 60
    answer = dvctl.json("consume", "--drain", "--claim-idle", "100ms")
    assert (answer["persisted"], answer["duplicates"]) == (0, 60)
    assert_everything(redis_url, database, sent)


def test_a_message_that_kills_each_process_that_touches_it(dvctl: Dvctl, redis_url: str, sqlite_url: str) -> None:
    """Every death is a real one (SIGKILL). Its neighbours are not held up, and in the end it is a letter."""
    poison = Message(good(1, seed=9)[0].fields | {b"task_identifier": b"poison"}, "max-deliveries")
    with redis.Redis.from_url(redis_url) as client:
        sent = publish(client, [*mixed(30), poison, *good(30, seed=2)])
    dvctl.use(redis_url, sqlite_url)
    words = ("consume", "--drain", "--max-deliveries", str(MOST_DELIVERIES), "--claim-idle", "100ms")
    deaths = 0
    while (code := deadly(dvctl, "poison", *words)) != 0:
        assert code == -signal.SIGKILL
        deaths += 1
        assert deaths < 12, "it kills for ever"
    assert deaths >= MOST_DELIVERIES + 3, "three more chances alone"
    assert_everything(redis_url, sqlite_url, sent)


@pytest.mark.slow
def test_an_outage_with_twenty_restarts_counts_no_delivery(
    dvctl: Dvctl, redis_url: str, database: str, execute: Callable[..., Any]
) -> None:
    """The database takes the row that dvctl tries at its start, and no other: so each process takes the same entries in
    hand again, and is killed.
    """
    dvctl.use(redis_url, database)
    execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = '53100'; END $$",
        f"CREATE TRIGGER fail BEFORE INSERT ON {TABLE} FOR EACH ROW"
        f" WHEN (NEW.task_id LIKE '{SEED:08x}-%') EXECUTE FUNCTION fail()",
    )
    limit = ("--max-deliveries", str(MOST_DELIVERIES), "--claim-idle", "100ms")
    with redis.Redis.from_url(redis_url) as client:
        sent = publish(client, mixed(60, seed=SEED))
        client.xgroup_create(STREAM, GROUP, "0")
        with held(redis_url):
            for _ in range(RESTARTS):
                daemon = dvctl.start("consume", *limit)
                # Once it waits for the second time, it has put the counts back.
                daemon.wait_for("next try in", times=2)
                daemon.kill9()
            counts = {each["times_delivered"] for each in client.xpending_range(STREAM, GROUP, "-", "+", 1000)}
    assert counts == {1}
    execute("DROP FUNCTION fail CASCADE")
    dvctl.ok("consume", "--drain", *limit)
    assert_everything(redis_url, database, sent)


def test_a_clock_that_jumps_changes_nothing(redis_url: str, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock jumps by up to a day, back or forth, at each look; what is waited for is measured by another."""
    chance, real = random.Random(7), time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + chance.randint(-(10**14), 10**14))
    monkeypatch.setattr(time, "time", lambda: time.time_ns() / 1e9)
    monkeypatch.setattr(sqlite, "BUSY_S", 0.1)
    with consuming(redis_url, sqlite_url, claim_idle_s=0.5) as daemon:
        daemon.publish(mixed(60))
        daemon.wait_settled()
        with locked(sqlite_url):
            daemon.hold(mixed(60, seed=2))
        daemon.all_once()
        assert daemon.worker.counters.reclaimed == 0, "nothing grew old"


WALL_CLOCK = {
    "times.py": "what a user types, as -1h, and ages that are shown",
    "operations/entries/publish.py": "initiated_at of a sample",
    "operations/groups/snapshots.py": "the name of a file",
    "repository/faults.py": "the time of a test row, which is rolled back",
}


def test_only_what_is_shown_or_stored_reads_the_wall_clock() -> None:
    """Intervals are measured with time.monotonic; a module that is not listed here reads no other clock."""
    wall = re.compile(r"\btime\.time(_ns)?\(|datetime\.(now|utcnow|today)\(|date\.today\(")
    reading = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if wall.search(path.read_text())}
    assert reading == set(WALL_CLOCK)
