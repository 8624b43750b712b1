"""Storage dispatch by processes that are killed, stopped or refused: every success reaches the storage workers."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests.support.amqp_proxy import AmqpProxy
from tests.support.brokers import AmqpBroker, Broker, RedisBroker
from tests.support.celery_worker import StorageWorker
from tests.support.deadly import CONFIRMED, CONFIRMING, DISPATCHING
from tests.support.dispatching import assert_in_queues, assert_stored_once, assign, copies, jobs, to_be_stored
from tests.support.messages import good, publish
from tests.support.oracle import GROUP, STREAM, assert_everything, held, position
from tests.support.process import END_S, Dvctl
from tests.support.rabbitmq_server import RabbitServer
from tests.support.redis_server import RedisServer
from tests.support.rows import read_rows
from tests.support.server import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.acceptance]

ROOT = Path(__file__).parents[2]
SEED = 12
DRAIN = ("consume", "--drain", "--claim-idle", "100ms", "--batch-size", "50")


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """Every device but the last five has a location."""
    assign(sqlite_url)
    return sqlite_url


@pytest.fixture
def client(redis_url: str) -> redis.Redis:
    return redis.Redis.from_url(redis_url)


# --- deaths


@pytest.mark.parametrize("point", [DISPATCHING, CONFIRMING])
def test_a_death_between_commit_and_acknowledgement(
    point: str, broker: Broker, dvctl: Dvctl, redis_url: str, database_url: str, client: redis.Redis
) -> None:
    """The rows are there, and nothing, or a part, was confirmed: the next consumer hands over all that is pending."""
    sent = publish(client, jobs(45), together=True)
    dvctl.use(redis_url, database_url, CELERY_BROKER_URL=broker.url)
    command = [sys.executable, "-m", "tests.support.deadly", point, *DRAIN]
    ended = subprocess.run(command, env=dvctl.environment, cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(read_rows(database_url)) == client.xpending(STREAM, GROUP)["pending"] == 45
    before = copies(broker).total()
    assert before == 0 if point == DISPATCHING else before >= CONFIRMED
    answer = dvctl.json(*DRAIN)
    assert (answer["persisted"], answer["duplicates"], answer["dispatched"]) == (0, 45, 45)
    assert_everything(redis_url, database_url, sent)
    assert_in_queues(broker, sent, most=2)


@pytest.mark.slow
def test_consumers_and_workers_that_are_killed_at_random(
    broker: Broker,
    dvctl: Dvctl,
    redis_url: str,
    database_url: str,
    client: redis.Redis,
    storage_worker: Callable[..., StorageWorker],
) -> None:
    """Each success ends with one row and one stored backup, whoever died when."""
    chance = random.Random(SEED)
    dvctl.use(redis_url, database_url, CELERY_BROKER_URL=broker.url)
    worker = storage_worker(broker.url, redis_url, visibility_timeout=2)
    sent = publish(client, [*good(250, seed=SEED), *good(20, seed=SEED)])
    daemon = ("consume", "--claim-idle", "200ms", "--batch-size", "10", "--rate", "150")
    for turn in range(5):
        consumers = [dvctl.start(*daemon) for _ in range(2)]
        for consumer in consumers:
            consumer.wait_for("consuming device:results")
        time.sleep(chance.uniform(0.1, 0.4))
        for consumer in consumers:
            consumer.kill9()
        if turn in (1, 3):
            worker.restart()
    dvctl.ok(*DRAIN)
    assert_everything(redis_url, database_url, sent)
    wanted = {str(identity) for identity in to_be_stored(sent)}
    wait_until(lambda: wanted <= {result["task_identifier"] for result in worker.results()}, what="all results")
    dvctl.ok("consume", "--drain", "--pipeline", "storage")
    assert assert_stored_once(database_url, sent) == len(wanted) > 150


# --- starts and ends


def test_a_broker_that_is_away_at_the_start(
    dvctl: Dvctl, redis_url: str, database_url: str, rabbitmq_url: str, client: redis.Redis
) -> None:
    """A short run ends and names it; a daemon waits for it, and acknowledges nothing meanwhile."""
    sent = publish(client, jobs(45))
    with AmqpProxy(rabbitmq_url) as proxy:
        proxy.refuse = True
        dvctl.use(redis_url, database_url, CELERY_BROKER_URL=proxy.url)
        for words in (("--drain",), ("--max-messages", "1")):
            answer = dvctl.run("consume", *words)
            assert (answer.code, answer.stdout) == (69, "")
            assert f"RabbitMQ 127.0.0.1:{proxy.port}/" in answer.stderr
            assert "secret" not in answer.stderr
        daemon = dvctl.start("consume")
        with held(redis_url):
            daemon.wait_for("waiting for it")
            daemon.wait_for("next try in", times=2)
        assert read_rows(database_url) == []
        proxy.refuse = False
        wait_until(lambda: client.exists(STREAM) and client.xinfo_groups(STREAM), what="the group")
        wait_until(lambda: position(client) == (0, False), timeout=END_S, what="the backlog to be worked off")
        assert daemon.sigterm().code == 0
    assert_in_queues(AmqpBroker(rabbitmq_url), sent)


@pytest.mark.parametrize("how", ["blocked", "frozen"])
def test_a_signal_while_the_broker_takes_nothing(
    how: str,
    dvctl: Dvctl,
    redis_url: str,
    database_url: str,
    breakable_rabbitmq: RabbitServer,
    breakable_url: str,
    client: redis.Redis,
) -> None:
    """It ends within the ten seconds that systemd gives it at the least, and its entries stay pending."""
    dvctl.use(redis_url, database_url, CELERY_BROKER_URL=breakable_url)
    sent = publish(client, jobs(45), together=True)
    daemon = dvctl.start("consume")
    wait_until(lambda: client.xlen(STREAM) and copies(AmqpBroker(breakable_url)).total() == 45, what="the first batch")
    breakable_rabbitmq.freeze() if how == "frozen" else breakable_rabbitmq.control.memory_alarm(True)
    sent += publish(client, jobs(45, start=45), together=True)
    wait_until(lambda: len(read_rows(database_url)) == 90, what="the rows")
    if how == "blocked":
        daemon.wait_for("takes no messages now")
    began = time.monotonic()
    answer = daemon.sigterm(timeout=12)
    assert answer.code in (0, 130)
    assert time.monotonic() - began < 12
    assert client.xpending(STREAM, GROUP)["pending"] == 45
    breakable_rabbitmq.thaw()
    breakable_rabbitmq.control.memory_alarm(False)
    assert dvctl.json(*DRAIN)["dispatched"] == 45
    assert_in_queues(AmqpBroker(breakable_url), sent, most=2)


def test_a_signal_while_a_redis_broker_is_frozen(
    dvctl: Dvctl, redis_url: str, database_url: str, new_redis: Callable[..., RedisServer], client: redis.Redis
) -> None:
    server = new_redis()
    dvctl.use(redis_url, database_url, CELERY_BROKER_URL=server.url)
    sent = publish(client, jobs(45), together=True)
    daemon = dvctl.start("consume")
    wait_until(lambda: copies(RedisBroker(server.url)).total() == 45, what="the first batch")
    server.freeze()
    sent += publish(client, jobs(45, start=45), together=True)
    wait_until(lambda: len(read_rows(database_url)) == 90, what="the rows")
    assert daemon.sigterm(timeout=12).code in (0, 130)
    assert client.xpending(STREAM, GROUP)["pending"] == 45
    server.thaw()
    assert dvctl.json(*DRAIN)["dispatched"] == 45
    assert_in_queues(RedisBroker(server.url), sent, most=3)


def test_two_consumers_at_once(
    broker: Broker, dvctl: Dvctl, redis_url: str, database_url: str, client: redis.Redis
) -> None:
    """Without a fault each success is handed over exactly once, also where its identity comes twice."""
    once = jobs(400)
    sent = publish(client, [message for pair in zip(once, once, strict=True) for message in pair])
    dvctl.use(redis_url, database_url, CELERY_BROKER_URL=broker.url)
    drains = [dvctl.start("consume", "--drain", "--batch-size", "30", "-o", "json") for _ in range(2)]
    answers = [drain.wait() for drain in drains]
    assert [answer.code for answer in answers] == [0, 0]
    assert sum(answer.json()["dispatched"] for answer in answers) == 400
    assert_in_queues(broker, sent)
