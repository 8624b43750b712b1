"""The test ground of storage dispatch: the RabbitMQ node, the Celery worker and the samples do what tests rely on."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import amqp
import pytest

from tests.support import amqp_queues, redis_queues
from tests.support.amqp_proxy import AmqpProxy
from tests.support.broker_samples import amqp_text, celery_id, payload, redis_samples, sample_bindings
from tests.support.brokers import AmqpBroker, Broker
from tests.support.celery_worker import PREFORK, StorageWorker, send_jobs
from tests.support.rabbitmq_server import Control, RabbitServer
from tests.support.redis_server import RedisServer
from tests.support.server import wait_until

Worker = Callable[..., StorageWorker]
NewRabbit = Callable[..., RabbitServer]


def test_a_fresh_vhost_has_no_queues_and_counts_what_is_published(rabbitmq_url: str) -> None:
    assert not amqp_queues.exists(rabbitmq_url, "storage.git")
    amqp_queues.declare(rabbitmq_url)
    amqp_queues.publish(rabbitmq_url, "storage.git", "one", content_type="application/json")
    assert amqp_queues.length(rabbitmq_url, "storage.git") == 1
    assert amqp_queues.consumers(rabbitmq_url, "storage.git") == 0
    assert [message.body for message in amqp_queues.messages(rabbitmq_url, "storage.git", keep=True)] == [b"one"]
    [message] = amqp_queues.messages(rabbitmq_url, "storage.git")
    assert message.properties == {"content_type": "application/json", "content_encoding": "utf-8", "delivery_mode": 2}
    assert amqp_queues.length(rabbitmq_url, "storage.git") == 0


def test_a_user_without_the_right_to_write_is_refused(rabbitmq_url: str, rabbitmq: Control) -> None:
    amqp_queues.declare(rabbitmq_url)
    reader = rabbitmq.user(rabbitmq_url, write="")
    assert amqp_queues.length(reader, "storage.git") == 0
    with pytest.raises(amqp.AccessRefused):
        amqp_queues.publish(reader, "storage.git", "one")


def test_a_full_queue_rejects_and_a_quorum_queue_accepts(rabbitmq_url: str) -> None:
    amqp_queues.declare(rabbitmq_url, "storage.git", arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
    with pytest.raises(amqp.exceptions.MessageNacked):
        amqp_queues.publish(rabbitmq_url, "storage.git", "one")
    amqp_queues.declare(rabbitmq_url, "storage.fs", arguments={"x-queue-type": "quorum"})
    amqp_queues.publish(rabbitmq_url, "storage.fs", "one")
    wait_until(lambda: amqp_queues.length(rabbitmq_url, "storage.fs") == 1)


def test_celery_sends_what_the_samples_show(broker: Broker, redis_url: str) -> None:
    samples = broker.samples()
    assert [sample.queue for sample in samples] == ["storage.git", "storage.fs"]
    ids = send_jobs(broker.url, redis_url, *[sample.payload for sample in samples])
    for sample, sent in zip(samples, ids, strict=True):
        assert broker.texts(sample.queue) == [sample.text]
        [message] = broker.messages(sample.queue)
        assert (celery_id(message), payload(message)) == (sent, sample.payload)
        assert broker.length(sample.queue) == 0


def test_the_comparison_with_the_samples_sees_every_difference(rabbitmq_url: str, redis_url: str) -> None:
    broker = AmqpBroker(rabbitmq_url)
    sample = broker.samples()[0]
    send_jobs(broker.url, redis_url, sample.payload)
    [message] = broker.messages(sample.queue)
    assert amqp_text(message) == sample.text
    headers, properties = message.headers, message.properties
    for changed in (
        replace(message, body=message.body.replace(b", ", b",")),
        replace(message, headers=headers | {"retries": 1}),
        replace(message, headers={"task": "storage.store"} | headers),
        replace(message, properties=properties | {"delivery_mode": 1}),
        replace(message, properties=properties | {"expiration": "1000"}),
        replace(message, exchange="storage.git"),
    ):
        assert amqp_text(changed) != sample.text
    with pytest.raises(ValueError, match="one Celery id"):
        amqp_text(replace(message, properties=properties | {"correlation_id": str(uuid.uuid4())}))


def test_celery_binds_its_queues_on_redis_as_the_sample_shows(redis_server: RedisServer) -> None:
    for sample in redis_samples():
        send_jobs(redis_server.url, redis_server.url, sample.payload)
    with redis_server.client() as client:
        assert redis_queues.bindings(client) == sample_bindings()
        client.flushdb()
        redis_queues.declare(client)
        assert redis_queues.bindings(client) == sample_bindings()


def test_the_worker_stores_jobs_and_publishes_its_results(
    broker: Broker, redis_url: str, storage_worker: Worker
) -> None:
    full, empty = (sample.payload for sample in broker.samples())
    worker = storage_worker(broker.url, redis_url)
    sent = send_jobs(broker.url, redis_url, full, empty, full | {"device_id": 9, "task_identifier": ""})
    wait_until(lambda: len(worker.results()) == 3, what="three results")
    results = {result["device_id"]: result for result in worker.results()}
    assert {result["task_id"] for result in worker.results()} == set(sent)
    stored = results["7"]
    assert (stored["status"], stored["operation"], stored["storage_backend"]) == ("success", "store", "git")
    assert stored["task_identifier"] == full["task_identifier"]
    assert json.loads(stored["log"])[0]["severity"] == "INFO"
    assert (results["8"]["status"], results["8"]["storage_ref"]) == ("failure", "")
    assert results["9"]["task_identifier"].startswith("storage:20")
    assert [entry.payload for entry in worker.stored()] == [full, full | {"device_id": 9, "task_identifier": ""}]
    assert sorted(received.id for received in worker.received()) == sorted(sent)


@pytest.mark.faults
def test_a_killed_worker_gets_its_job_once_more(broker: Broker, redis_url: str, storage_worker: Worker) -> None:
    job = broker.samples()[0].payload
    worker = storage_worker(broker.url, redis_url, *PREFORK, delay_s=2, visibility_timeout=5)
    [sent] = send_jobs(broker.url, redis_url, job)
    wait_until(worker.stored, what="the job to be stored")
    worker.kill9()
    assert worker.results() == []
    worker.start()
    wait_until(worker.results, what="the result")
    assert [entry.id for entry in worker.stored()][:2] == [sent, sent]
    assert [received.redelivered for received in worker.received()][:2] == [False, True]
    assert {result["task_id"] for result in worker.results()} == {sent}


@pytest.mark.faults
def test_a_confirm_is_lost_and_its_message_is_not(rabbitmq_url: str) -> None:
    amqp_queues.declare(rabbitmq_url)
    with AmqpProxy(rabbitmq_url) as proxy:
        amqp_queues.publish(proxy.url, "storage.git", "one")
        loss = proxy.lose_confirm(nth=2)
        amqp_queues.publish(proxy.url, "storage.git", "two")
        with pytest.raises((OSError, amqp.AMQPError)):
            amqp_queues.publish(proxy.url, "storage.git", "three")
        loss.wait()
        silence = proxy.lose_confirm(then="silence")
        with (
            pytest.raises(TimeoutError),
            amqp_queues.channel(proxy.url, confirm_publish=True, read_timeout=1) as opened,
        ):
            opened.basic_publish(amqp.Message("four"), "", "storage.git", confirm_timeout=1)
        silence.wait()
    arrived = [message.body for message in amqp_queues.messages(rabbitmq_url, "storage.git")]
    assert arrived == [b"one", b"two", b"three", b"four"]


@pytest.mark.faults
@pytest.mark.slow
def test_a_node_of_ones_own(new_rabbitmq: NewRabbit, certificates: Path) -> None:
    """It keeps persistent messages over kill -9, freezes, refuses what is too large, speaks TLS, blocks publishers."""
    node = new_rabbitmq({"max_message_size": 1000}, tls=certificates)
    url = node.control.vhost()
    amqp_queues.declare(url)
    amqp_queues.publish(url, "storage.git", "one")
    with pytest.raises(amqp.PreconditionFailed):
        amqp_queues.publish(url, "storage.git", "x" * 1001)

    node.control.memory_alarm(True)
    with pytest.raises(TimeoutError), amqp_queues.channel(url, confirm_publish=True, read_timeout=1) as opened:
        opened.basic_publish(amqp.Message("blocked"), "", "storage.fs", confirm_timeout=1)
    node.control.memory_alarm(False)

    node.freeze()
    with pytest.raises(TimeoutError), amqp_queues.channel(url, connect_timeout=1, read_timeout=1):
        pass
    node.thaw()
    node.restart()
    assert [message.body for message in amqp_queues.messages(url, "storage.git", keep=True)] == [b"one"]
    node.restart(kill=False)
    assert amqp_queues.length(url, "storage.git") == 1
    trusting = {"ca_certs": str(certificates / "ca.pem"), "server_hostname": "localhost"}
    with amqp_queues.channel(node.tls_url(url), ssl=trusting) as opened:
        assert opened.queue_declare("storage.git", passive=True).message_count == 1
