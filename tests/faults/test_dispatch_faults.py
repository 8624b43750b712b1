"""Storage dispatch while the broker is away, frozen, full or refusing: held meanwhile, then everything."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

import pytest

from devicevault_cli.broker import connection, publisher
from tests.support import amqp_queues
from tests.support.amqp_proxy import AmqpProxy
from tests.support.broker_samples import payload
from tests.support.brokers import AmqpBroker, RedisBroker
from tests.support.daemon import Daemon, consuming
from tests.support.dispatching import assert_in_queues, assign, job, jobs, locate
from tests.support.oracle import held
from tests.support.proxy import DatabaseProxy
from tests.support.rabbitmq_server import Control, RabbitServer
from tests.support.records import execute
from tests.support.redis_server import AOF, RedisServer
from tests.support.rows import read_rows
from tests.support.server import wait_until

pytestmark = [pytest.mark.faults]

GIT, FS = "storage.git", "storage.fs"


@pytest.fixture(autouse=True)
def _short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each silence of the broker lasts 15 s."""
    monkeypatch.setattr(publisher, "CONFIRM_S", 1.0)
    monkeypatch.setattr(connection, "IO_S", 1.0)
    monkeypatch.setattr(connection, "CONNECT_S", 1.0)


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """Every device but the last five has a location."""
    assign(sqlite_url)
    return sqlite_url


def broker_up(daemon: Daemon) -> bool | None:
    return daemon.worker.counters.broker_up


def say(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Wait until the log says so."""
    wait_until(lambda: text in caplog.text, what=f"the log to say {text!r}")


# --- away, and back again


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "orderly"])
def test_a_restart_of_rabbitmq(
    kill: bool, redis_url: str, database_url: str, breakable_rabbitmq: RabbitServer, breakable_url: str
) -> None:
    """In the middle of some batches: what the broker had confirmed it still has; what it had not comes again."""
    with consuming(redis_url, database_url, broker=breakable_url, batch_size=40) as daemon:
        daemon.publish(jobs(600, log='["' + "x" * 500 + '"]'))
        wait_until(lambda: daemon.worker.counters.dispatched >= 40, what="a dispatch")
        breakable_rabbitmq.restart(kill=kill)
        daemon.publish(jobs(100, start=600))
        daemon.all_once()
        assert daemon.worker.counters.dispatched == len(daemon.sent)
    assert_in_queues(AmqpBroker(breakable_url), daemon.sent, most=2)


def test_a_restart_of_a_redis_broker(redis_url: str, database_url: str, new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis(*AOF[:2], "--appendfsync", "always")
    with consuming(redis_url, database_url, broker=server.url, batch_size=40) as daemon:
        daemon.publish(jobs(600))
        wait_until(lambda: daemon.worker.counters.dispatched >= 40, what="a dispatch")
        server.kill9()
        daemon.hold(jobs(100, start=600), times=2)
        server.start()
        daemon.all_once()
    assert_in_queues(RedisBroker(server.url), daemon.sent, most=2)


def test_a_frozen_rabbitmq(
    redis_url: str,
    database_url: str,
    breakable_rabbitmq: RabbitServer,
    breakable_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing is confirmed: given up after the time limit, tried again on new connections, which hear nothing too."""
    with consuming(redis_url, database_url, broker=breakable_url) as daemon:
        daemon.publish(jobs(45))
        daemon.wait_settled()
        breakable_rabbitmq.freeze()
        daemon.hold(jobs(50, start=45), times=2)
        assert broker_up(daemon) is False
        breakable_rabbitmq.thaw()
        daemon.all_once()
        assert broker_up(daemon) is True
    assert "confirmed nothing for" in caplog.text
    assert_in_queues(AmqpBroker(breakable_url), daemon.sent, most=3)


def test_a_frozen_redis_broker(redis_url: str, database_url: str, new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis()
    with consuming(redis_url, database_url, broker=server.url) as daemon:
        daemon.publish(jobs(10))
        daemon.wait_settled()
        server.freeze()
        daemon.hold(jobs(50, start=10), times=2)
        server.thaw()
        daemon.all_once()
    assert_in_queues(RedisBroker(server.url), daemon.sent, most=8)


def test_the_next_of_a_list_takes_over(
    redis_url: str, database_url: str, rabbitmq_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The first is dead from the beginning; later the second dies too, while the first has come to life."""
    with AmqpProxy(rabbitmq_url) as first, AmqpProxy(rabbitmq_url) as second:
        first.refuse = True
        with consuming(redis_url, database_url, broker=f"{first.url};{second.url}", batch_size=40) as daemon:
            daemon.publish(jobs(100))
            daemon.wait_settled()
            assert daemon.worker.counters.deferred_retries == 0
            first.refuse, second.refuse = False, True
            second.cut()
            daemon.publish(jobs(100, start=100))
            daemon.all_once()
    assert f"127.0.0.1:{first.port}" in caplog.text
    assert_in_queues(AmqpBroker(rabbitmq_url), daemon.sent, most=2)


@pytest.mark.parametrize("then", ["cut", "silence"])
def test_a_lost_confirm(then: str, redis_url: str, database_url: str, rabbitmq_url: str) -> None:
    """The messages have arrived, nobody knows: they come again, under the same ids."""
    with AmqpProxy(rabbitmq_url) as proxy:
        loss = proxy.lose_confirm(nth=2, then=then)  # type: ignore[arg-type]
        with consuming(redis_url, database_url, broker=proxy.url, batch_size=20) as daemon:
            daemon.publish(jobs(100))
            loss.wait()
            daemon.all_once()
            assert daemon.worker.counters.deferred_retries >= 1
            assert daemon.worker.counters.dispatched == 100
    # Two batches of 20 may be unconfirmed; on a busy machine the broker may take longer than the second it is given.
    found = assert_in_queues(AmqpBroker(rabbitmq_url), daemon.sent, most=4)
    assert 1 <= found.total() - 100 <= 120


# --- out of memory, full


@pytest.mark.parametrize(
    ("count", "size", "before"),
    [(1500, 200, True), (60, 700_000, True), (60, 700_000, False)],
    ids=["small", "large", "large-during"],
)
def test_a_memory_alarm(
    count: int,
    size: int,
    before: bool,
    redis_url: str,
    database_url: str,
    breakable_rabbitmq: RabbitServer,
    breakable_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """While it is on nothing is acknowledged, and the log says so; after it there are hardly any copies."""
    control = breakable_rabbitmq.control
    if before:
        control.memory_alarm(True)
    with consuming(redis_url, database_url, broker=breakable_url) as daemon:
        if not before:
            daemon.publish(jobs(20))
            daemon.wait_settled()
            control.memory_alarm(True)
        daemon.hold(jobs(count, start=20, device_config="x" * size), times=5)
        assert "takes no messages now" in caplog.text
        assert "rabbitmqctl list_alarms" in caplog.text
        control.memory_alarm(False)
        daemon.all_once()
    found = assert_in_queues(AmqpBroker(breakable_url), daemon.sent, most=8)
    assert found.total() - len(daemon.sent) <= 20
    assert "cannot be reached" not in caplog.text, "one connection waits for the end of the alarm"


def test_a_full_queue(redis_url: str, database_url: str, rabbitmq_url: str, caplog: pytest.LogCaptureFixture) -> None:
    amqp_queues.declare(rabbitmq_url, GIT, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    with consuming(redis_url, database_url, broker=rabbitmq_url) as daemon:
        daemon.publish([job(number) for number in range(4)])
        with held(redis_url):
            say(caplog, f"does not take messages for {GIT}")
            daemon.wait_deferred(2)
        taken: set[str] = set()

        def all_taken() -> bool:
            taken.update(payload(message)["task_id"] for message in amqp_queues.messages(rabbitmq_url, GIT))
            return len(taken) == 4

        wait_until(all_taken, every=0.1, what="all four, as room is made")
        wait_until(lambda: amqp_queues.messages(rabbitmq_url, GIT) or daemon.worker.counters.dispatched == 4)
        daemon.all_once()
    assert "x-max-length" in caplog.text


# --- queues and rights


def test_a_queue_that_is_deleted(
    redis_url: str, database_url: str, rabbitmq_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is swallowed: the message comes back, and the queue is created again."""
    with consuming(redis_url, database_url, broker=rabbitmq_url) as daemon:
        daemon.publish(jobs(45))
        daemon.wait_settled()
        amqp_queues.remove_queues(rabbitmq_url)
        first, daemon.sent = daemon.sent, []
        daemon.publish(jobs(45, start=45))
        daemon.wait_settled()
    say(caplog, "the message was returned (312)")
    assert_in_queues(AmqpBroker(rabbitmq_url), daemon.sent, most=2)
    assert len(read_rows(database_url)) == len(first) + 45


def test_a_user_who_may_not_write(
    redis_url: str, database_url: str, rabbitmq_url: str, rabbitmq: Control, caplog: pytest.LogCaptureFixture
) -> None:
    amqp_queues.declare(rabbitmq_url)
    reader = rabbitmq.user(rabbitmq_url, configure="", write="", read="")
    with consuming(redis_url, database_url, broker=reader) as daemon:
        daemon.hold(jobs(10))
        permit(rabbitmq, caplog.text)
        daemon.all_once()
    assert "secret" not in caplog.text
    assert_in_queues(AmqpBroker(rabbitmq_url), daemon.sent)


def test_a_user_who_may_not_create_the_queue(
    redis_url: str, database_url: str, rabbitmq_url: str, rabbitmq: Control, caplog: pytest.LogCaptureFixture
) -> None:
    writer = rabbitmq.user(rabbitmq_url, configure="", write=".*", read="")
    with consuming(redis_url, database_url, broker=writer) as daemon:
        daemon.hold(jobs(10))
        assert f"queue {GIT} does not exist" in caplog.text
        assert "may not create it" in caplog.text
        permit(rabbitmq, caplog.text)
        daemon.all_once()
    assert_in_queues(AmqpBroker(rabbitmq_url), daemon.sent)


def test_an_exchange_of_another_type(redis_url: str, database_url: str, rabbitmq_url: str) -> None:
    """Nothing is published to it: the queue is created without."""
    with amqp_queues.channel(rabbitmq_url) as channel:
        channel.exchange_declare(GIT, "topic", durable=True, auto_delete=False)
    with consuming(redis_url, database_url, broker=rabbitmq_url) as daemon:
        daemon.publish(jobs(10))
        daemon.all_once()
        assert daemon.worker.counters.deferred_retries == 0
    assert_in_queues(AmqpBroker(rabbitmq_url), daemon.sent)


def test_a_redis_broker_that_grants_too_little(
    redis_url: str, database_url: str, new_redis: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the rights, and these suffice."""
    server = new_redis()
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "dispatcher", "on", ">secret", "+ping", "resetkeys")
        with consuming(redis_url, database_url, broker=server.url_for("dispatcher", "secret")) as daemon:
            daemon.hold(jobs(10))
            found = re.search(r"as an administrator: (ACL SETUSER dispatcher .*?)\)", caplog.text)
            assert found, caplog.text
            client.execute_command(*shlex.split(found[1]))
            daemon.all_once()
    assert "secret" not in caplog.text
    assert_in_queues(RedisBroker(server.url), daemon.sent)


def test_a_redis_broker_without_memory(
    redis_url: str, database_url: str, new_redis: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = new_redis("--maxmemory-policy", "noeviction")
    with server.client() as client, consuming(redis_url, database_url, broker=server.url) as daemon:
        daemon.publish(jobs(45))
        daemon.wait_settled()
        client.config_set("maxmemory", "1")
        daemon.hold(jobs(45, start=45))
        client.config_set("maxmemory", "0")
        daemon.all_once()
    assert "maxmemory" in caplog.text
    assert_in_queues(RedisBroker(server.url), daemon.sent)


def permit(control: Control, log: str) -> None:
    """Do what the log says."""
    found = re.search(r"`rabbitmqctl set_permissions -p (\S+) (\S+) '(.*?)' '(.*?)' '(.*?)'`", log)
    assert found, log
    vhost, user, *rights = (f'<<"{text}">>' for text in found.groups())
    rights = [right.replace("\\", "\\\\") for right in rights]
    control.evaluate(f'rabbit_auth_backend_internal:set_permissions({user}, {vhost}, {", ".join(rights)}, <<"test">>)')


def test_a_message_that_is_too_large(
    redis_url: str,
    database_url: str,
    breakable_rabbitmq: RabbitServer,
    breakable_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Refused for good, by its channel's end: its neighbours arrive, its row stays, it is acknowledged."""
    breakable_rabbitmq.control.evaluate("application:set_env(rabbit, max_message_size, 65536)")
    try:
        with consuming(redis_url, database_url, broker=breakable_url) as daemon:
            daemon.publish(jobs(30))
            small = list(daemon.sent)
            daemon.publish([job(1000, device_config="x" * 70_000)])
            daemon.publish(jobs(30, start=30))
            daemon.publish([job(1001, 40, device_config="x" * 70_000)])
            small += daemon.sent[31:61]
            daemon.all_once()
            assert daemon.worker.counters.not_dispatched == {"too-large": 2}
            assert daemon.worker.counters.deferred_retries == 0
    finally:
        breakable_rabbitmq.control.evaluate("application:set_env(rabbit, max_message_size, 134217728)")
    assert "the broker refuses its configuration for good" in caplog.text
    assert_in_queues(AmqpBroker(breakable_url), small, most=8)


# --- the database and the stream meanwhile


@pytest.fixture
def dispatching_database(database: str, execute: Callable[..., list[tuple[object, ...]]]) -> str:
    """A PostgreSQL that may break, with the rights and the locations that dispatch needs."""
    from tests.support.schema import ASSIGN_LOCATIONS

    execute(ASSIGN_LOCATIONS, "GRANT SELECT ON locations_backuplocation, backups_storedbackup TO app")
    return database


@pytest.mark.parametrize("containing", [b"COMMIT", b"locations_backuplocation"])
def test_an_answer_of_the_database_is_lost(
    containing: bytes, redis_url: str, dispatching_database: str, rabbitmq_url: str
) -> None:
    """The rows are there and are found as duplicates; or they are known, and not where to. All are handed over."""
    with DatabaseProxy(dispatching_database) as proxy:
        if containing != b"COMMIT":
            proxy.complete = b""  # the answer to a query does not end a transaction
        with consuming(redis_url, dispatching_database, database_through=proxy.url, broker=rabbitmq_url) as daemon:
            daemon.publish(jobs(5))
            daemon.wait_settled()
            # The first COMMIT ends the look-up of the locations, the second one saves the rows.
            loss = proxy.lose_reply(containing, nth=2 if containing == b"COMMIT" else 1)
            daemon.publish(jobs(100, start=5))
            loss.wait()
            daemon.all_once()
    assert_in_queues(AmqpBroker(rabbitmq_url), daemon.sent)


def test_the_database_and_the_stream_restart_while_the_broker_is_away(
    dispatching_database: str,
    breakable: object,
    rabbitmq_url: str,
    new_redis: Callable[..., RedisServer],
) -> None:
    """After COMMIT and before the dispatch, one after the other."""
    server = new_redis(*AOF[:2], "--appendfsync", "always")
    with AmqpProxy(rabbitmq_url) as proxy, consuming(server.url, dispatching_database, broker=proxy.url) as daemon:
        daemon.publish(jobs(5))
        daemon.wait_settled()
        proxy.refuse = True
        proxy.cut()
        daemon.hold(jobs(100, start=5), times=2)
        wait_until(lambda: len(read_rows(dispatching_database)) == 105, what="the rows")
        breakable.restart()  # type: ignore[attr-defined]
        server.kill9()
        server.start()
        daemon.wait_deferred(2)
        proxy.heal()
        daemon.all_once()
    assert_in_queues(AmqpBroker(rabbitmq_url), daemon.sent)


def test_a_location_that_changes_while_it_runs(redis_url: str, sqlite_url: str, rabbitmq_url: str) -> None:
    locate(sqlite_url, 1, "git", '{"branch": "old"}')
    locate(sqlite_url, 2, "s3")
    with consuming(redis_url, sqlite_url, broker=rabbitmq_url) as daemon:
        daemon.publish([job(1), job(2, 2)])
        daemon.wait_settled()
        execute(sqlite_url, "UPDATE locations_backuplocation SET location_type = 'FS', config = '{\"path\": \"new\"}'")
        daemon.publish([job(3), job(4, 2)])
        daemon.all_once()
    broker = AmqpBroker(rabbitmq_url)
    assert [payload(message)["storage_config"] for message in broker.messages(GIT)] == [{"branch": "old"}]
    assert [payload(message)["storage_config"] for message in broker.messages(FS)] == [{"path": "new"}] * 2
