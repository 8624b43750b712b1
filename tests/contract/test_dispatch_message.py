"""What is handed to the storage workers, and what is not: DeviceVault's own messages, byte for byte."""

from __future__ import annotations

import json
import re
from typing import Any

import amqp
import pytest
import redis

from devicevault_cli.broker.store_task import StoreTask, origin, reply_to
from devicevault_cli.consumer.dispatch import EncryptedBackups
from devicevault_cli.pipelines import STORAGE
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.stream import Stream
from tests.support import amqp_queues, consuming, redis_queues
from tests.support.broker_samples import celery_id, payload, sample_bindings
from tests.support.brokers import AmqpBroker, Broker, RedisBroker
from tests.support.dispatching import (
    assert_in_queues,
    assign,
    config_text,
    copies,
    drain,
    job,
    locate,
    publisher_at,
    read_as,
    rows_by_another_group,
    store_rows,
    task_id,
)
from tests.support.messages import Message, Sent, publish
from tests.support.records import DISTINCT, execute
from tests.support.recovering import table_at
from tests.support.redis_server import RedisServer
from tests.support.rows import read_rows

GIT, FS = "storage.git", "storage.fs"
NESTED = {"url": "ssh://git/x.git", "options": {"z": [1, None, {"b": True, "a": 1.5}], "é ☃": ""}, "depth": 0}


@pytest.fixture
def redis_broker(redis_server: RedisServer) -> RedisBroker:
    """For tests that would be the same on RabbitMQ."""
    return RedisBroker(redis_server.url_for(db=1))


def put(stream: Stream, *messages: Message) -> list[Sent]:
    return publish(stream.client, messages, stream=stream.key)


def payloads(broker: Broker, queue: str = GIT) -> dict[int, dict[str, Any]]:
    """The payloads in a queue, by device."""
    return {(found := payload(message))["device_id"]: found for message in broker.messages(queue, keep=True)}


# --- the message


def test_a_message_is_that_of_devicevault(broker: Broker, stream: Stream, sqlite_url: str) -> None:
    """Byte for byte: body, headers, properties, their order, and on Redis the whole of the raw JSON."""
    for sample, kind in zip(broker.samples(), ("git", "filesystem"), strict=True):
        locate(sqlite_url, sample.payload["device_id"], kind, json.dumps(sample.payload["storage_config"]))
    fields = ("task_id", "task_identifier", "device_config")
    sent = put(
        stream,
        *(
            job(0, sample.payload["device_id"], **{name: sample.payload[name] for name in fields})
            for sample in broker.samples()
        ),
    )
    worker = drain(stream, sqlite_url, broker.url)
    assert (worker.counters.dispatched, worker.counters.not_dispatched) == (2, {})
    for sample, entry in zip(broker.samples(), sent, strict=True):
        assert broker.texts(sample.queue) == [sample.text]
        [message] = broker.messages(sample.queue)
        assert (celery_id(message), payload(message)) == (task_id(entry.id), sample.payload)
        headers = json.loads(message)["headers"] if isinstance(message, bytes) else message.headers
        assert (headers["argsrepr"], headers["origin"]) == ("[...]", origin())
    assert re.fullmatch(r"gen\d+@\S+", origin())
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-3[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", reply_to())


def test_queues_are_created_on_redis_as_celery_does(redis_broker: RedisBroker, stream: Stream, sqlite_url: str) -> None:
    assign(sqlite_url)
    put(stream, job(1, 1), job(2, 31))
    drain(stream, sqlite_url, redis_broker.url)
    with redis.Redis.from_url(redis_broker.url) as client:
        assert redis_queues.bindings(client) == sample_bindings()
        assert sorted(client.keys()) == sorted([*map(str.encode, sample_bindings()), GIT.encode(), FS.encode()])


def test_queues_are_created_on_rabbitmq_as_celery_does(rabbitmq_url: str, stream: Stream, sqlite_url: str) -> None:
    """Only the one that is needed; declaring it as Celery does is then no conflict, and its exchange leads to it."""
    assign(sqlite_url)
    put(stream, job(1))
    drain(stream, sqlite_url, rabbitmq_url)
    assert not amqp_queues.exists(rabbitmq_url, FS)
    amqp_queues.declare(rabbitmq_url, GIT)
    with amqp_queues.channel(rabbitmq_url, confirm_publish=True) as channel:
        channel.basic_publish(amqp.Message("bound"), GIT, GIT, mandatory=True, confirm_timeout=20)
    assert [message.body for message in amqp_queues.messages(rabbitmq_url, GIT)][1:] == [b"bound"]


@pytest.mark.parametrize("arguments", [{"x-queue-type": "quorum"}, {"x-max-priority": 5, "x-message-ttl": 3_600_000}])
def test_a_queue_with_other_arguments_is_used_as_it_is(
    arguments: dict[str, Any], rabbitmq_url: str, stream: Stream, sqlite_url: str
) -> None:
    assign(sqlite_url)
    amqp_queues.declare(rabbitmq_url, GIT, arguments=arguments)
    sent = put(stream, *(job(number) for number in range(20)))
    worker = drain(stream, sqlite_url, rabbitmq_url)
    assert worker.counters.deferred_retries == 0
    assert_in_queues(AmqpBroker(rabbitmq_url), sent)


def test_the_id_stays_over_a_redelivery_and_a_republication(
    broker: Broker, redis_url: str, stream: Stream, group: Group, sqlite_url: str
) -> None:
    assign(sqlite_url)
    [first] = put(stream, job(1))
    assert read_as(redis_url) == [first.id]
    drain(stream, sqlite_url, broker.url)
    put(stream, job(2, **{"_dvctl.id": "77-3"}))
    drain(stream, sqlite_url, broker.url)
    assert copies(broker) == {task_id(first.id): 1, task_id("77-3"): 1}


# --- which configuration, and where to


def test_types_of_locations(broker: Broker, stream: Stream, sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each device twice: one warning a device for those whose configurations nobody stores."""
    kinds = ["git", "Git", "GIT", "fs", "FileSystem", "filesystem", "s3", "azure", "", "git "]
    for device, kind in enumerate(kinds, start=1):
        locate(sqlite_url, device, kind)
    put(stream, *(job(20 * turn + device, device) for turn in (0, 1) for device in range(1, 12)))
    worker = drain(stream, sqlite_url, broker.url)
    assert (broker.length(GIT), broker.length(FS)) == (6, 6)
    assert {found["storage_backend"] for found in payloads(broker).values()} == {"git"}
    assert {found["storage_backend"] for found in payloads(broker, FS).values()} == {"fs"}
    assert (set(payloads(broker)), set(payloads(broker, FS))) == ({1, 2, 3}, {4, 5, 6})
    assert worker.counters.not_dispatched == {"unsupported-location": 8, "no-location": 2}
    warnings = [record.getMessage() for record in caplog.records if "backup location" in record.getMessage()]
    assert len(warnings) == 5
    assert sum("device 11 has no backup location" in warning for warning in warnings) == 1
    assert len(read_rows(sqlite_url)) == 22


def test_the_config_of_a_location_on_every_database(
    redis_broker: RedisBroker, stream: Stream, database_url: str
) -> None:
    """`null` and `{}` are {}; nested values arrive as the database gives them back, in its order of the keys."""
    for device, config in enumerate(["null", "{}", json.dumps(NESTED), json.dumps(NESTED, ensure_ascii=False)], 1):
        locate(database_url, device, "git", config)
    put(stream, *(job(device, device) for device in range(1, 5)))
    drain(stream, database_url, redis_broker.url)
    found = payloads(redis_broker)
    assert (found[1]["storage_config"], found[2]["storage_config"]) == ({}, {})
    for device in (3, 4):
        assert found[device]["storage_config"] == NESTED
        assert json.dumps(found[device]["storage_config"]) == json.dumps(config_text(database_url, 100 + device))


def test_devices_that_ask_for_encrypted_backups(redis_broker: RedisBroker, stream: Stream, database_url: str) -> None:
    """The worker is told; the keys that it answers with, dvctl cannot store yet, so it leaves the answers alone."""
    assign(database_url)
    execute(database_url, "ALTER TABLE devices_device ADD COLUMN encrypt_backups bool NOT NULL DEFAULT false")
    with table_at(database_url, STORAGE.table) as table:
        assert not consuming.drain(stream, table, "me", pipeline=STORAGE).counters.read
        execute(database_url, "UPDATE devices_device SET encrypt_backups = true WHERE id = 2")
        with pytest.raises(EncryptedBackups) as refused:
            consuming.drain(stream, table, "me", pipeline=STORAGE)
    assert refused.value.exit_code == 78
    put(stream, job(1, 1), job(2, 2))
    drain(stream, database_url, redis_broker.url)
    found = payloads(redis_broker)
    assert [found[device]["encrypt_backup"] for device in (1, 2)] == [False, True]
    assert list(found[2])[-1] == "encrypt_backup"


def test_a_configuration_is_handed_over_as_it_came(broker: Broker, stream: Stream, sqlite_url: str) -> None:
    """Absent and empty are ''. What is not UTF-8 is no text: its row is there, it is acknowledged, and not sent."""
    assign(sqlite_url)
    texts = {1: "é ☃ 😀 \x00 \x1b[31m \"'\\ </script>\r\n\ttab", 2: "", 3: None, 4: "QUJD" * 50_000, 5: b"\xff\xfe\x00"}
    put(stream, *(job(device, device, device_config=text) for device, text in texts.items()))
    worker = drain(stream, sqlite_url, broker.url)
    found = {device: one["device_config"] for device, one in payloads(broker).items()}
    assert found == {1: texts[1], 2: "", 3: "", 4: texts[4]}
    assert (worker.counters.dispatched, worker.counters.not_dispatched) == (4, {"undecodable-config": 1})
    assert len(read_rows(sqlite_url)) == 5


def test_only_a_success_is_handed_over(broker: Broker, stream: Stream, sqlite_url: str) -> None:
    assign(sqlite_url)
    statuses = ["success", "Success", "SUCCESS", "partial", "failure", "", "success "]
    put(stream, *(job(number, status=status) for number, status in enumerate(statuses)))
    worker = drain(stream, sqlite_url, broker.url)
    assert [payload(message)["task_id"] for message in broker.messages(GIT)] == ["task-0"]
    assert (worker.counters.persisted, worker.counters.dispatched) == (7, 1)
    assert worker.counters.not_dispatched == {}


def test_a_location_that_changes_is_read_afresh(redis_broker: RedisBroker, stream: Stream, sqlite_url: str) -> None:
    locate(sqlite_url, 1, "git", '{"branch": "old"}')
    put(stream, job(1))
    drain(stream, sqlite_url, redis_broker.url)
    locate(sqlite_url, 2, "fs", '{"path": "new"}')
    execute(sqlite_url, "UPDATE devices_device SET backup_location_id = 102 WHERE id = 1")
    put(stream, job(2))
    drain(stream, sqlite_url, redis_broker.url)
    assert payloads(redis_broker)[1]["storage_config"] == {"branch": "old"}
    assert payloads(redis_broker, FS)[1]["storage_config"] == {"path": "new"}


def test_a_confirm_counts_for_its_own_message(broker: Broker) -> None:
    """Delivery tags count on where one connection is used for batch after batch, each here of one message."""
    with publisher_at(broker.url) as publisher:
        for number in range(3):
            task = StoreTask(task_id(str(number)), "task", "job", 1, "git", {}, b"hostname r1")
            delivery = publisher.deliver({number: task})
            assert delivery.advance(5.0)
            assert delivery.confirmed == [number]
            assert broker.length(GIT) == number + 1


# --- once more, or not


def test_what_is_dispatched_again_on_every_database(
    redis_broker: RedisBroker, redis_url: str, stream: Stream, group: Group, database_url: str
) -> None:
    """A redelivered entry whose row is there: unless a backup is stored, by its identifier, byte for byte, or its task.

    Every identifier here is one that some collation equates with another: the backup of one is not that of the other.
    """
    assign(database_url)
    wanted = [job(number, task_identifier=name) for number, name in enumerate(DISTINCT)]
    anonymous = [job(100 + number, task_identifier="") for number in range(2)]
    sent = put(stream, *wanted, *anonymous)
    rows_by_another_group(stream, database_url)
    stored = sent[:3], sent[len(DISTINCT)]
    store_rows(database_url, [("other", one.message.fields[b"task_identifier"].decode()) for one in stored[0]])
    store_rows(database_url, [(task_id(stored[1].id), "storage:2026")])
    assert len(read_as(redis_url)) == len(sent)
    worker = drain(stream, database_url, redis_broker.url)
    kept = {one.id for one in (*stored[0], stored[1])}
    assert copies(redis_broker) == {task_id(one.id): 1 for one in sent if one.id not in kept}
    assert worker.counters.duplicates == len(sent)


def test_a_new_delivery_of_what_has_its_row_is_no_news(
    redis_broker: RedisBroker, stream: Stream, group: Group, sqlite_url: str
) -> None:
    """Nor is one identity twice in a batch."""
    assign(sqlite_url)
    sent = put(stream, job(1), job(1), job(2))
    drain(stream, sqlite_url, redis_broker.url)
    again = put(stream, job(1), job(2), job(3))
    worker = drain(stream, sqlite_url, redis_broker.url)
    assert copies(redis_broker) == {task_id(one.id): 1 for one in (sent[0], sent[2], again[2])}
    assert worker.counters.duplicates == 2
