"""Processes that die again and again: of one message, or of the world. Only the first is that message's fault."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.messages import Message, good, mixed, publish
from tests.support.oracle import GROUP, STREAM, TABLE, assert_everything, held
from tests.support.process import Dvctl

pytestmark = [pytest.mark.faults, pytest.mark.acceptance]

ROOT = Path(__file__).parents[2]
MOST_DELIVERIES = 2
RESTARTS = 20


def test_a_message_that_kills_each_process_that_touches_it(dvctl: Dvctl, redis_url: str, sqlite_url: str) -> None:
    """Every death is a real one (SIGKILL). Its neighbours are not held up, and in the end it is a letter."""
    poison = Message(good(1, seed=9)[0].fields | {b"task_identifier": b"poison"}, "max-deliveries")
    with redis.Redis.from_url(redis_url) as client:
        sent = publish(client, [*mixed(30), poison, *good(30, seed=2)])
    dvctl.use(redis_url, sqlite_url)
    words = ("consume", "--drain", "--max-deliveries", str(MOST_DELIVERIES), "--claim-idle", "100ms")
    command = [sys.executable, "-m", "tests.support.deadly", "poison", *words]
    deaths = 0
    while (code := subprocess.run(command, env=dvctl.environment, cwd=ROOT, check=False).returncode) != 0:
        assert code == -signal.SIGKILL
        deaths += 1
        assert deaths < 12, "it kills for ever"
    assert deaths >= MOST_DELIVERIES + 3, "three more chances alone"
    assert_everything(redis_url, sqlite_url, sent)


@pytest.mark.slow
def test_an_outage_with_twenty_restarts_counts_no_delivery(
    dvctl: Dvctl, redis_url: str, database: str, execute: Callable[..., Any]
) -> None:
    """The database answers and takes no row, so each process takes the same entries in hand again, and is killed."""
    dvctl.use(redis_url, database)
    execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = '53100'; END $$",
        f"CREATE TRIGGER fail BEFORE INSERT ON {TABLE} EXECUTE FUNCTION fail()",
    )
    limit = ("--max-deliveries", str(MOST_DELIVERIES), "--claim-idle", "100ms")
    with redis.Redis.from_url(redis_url) as client:
        sent = publish(client, mixed(60))
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
