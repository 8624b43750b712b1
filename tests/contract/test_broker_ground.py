"""The test ground of storage dispatch: the private RabbitMQ node does what the tests of dispatch rely on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import amqp
import pytest

from tests.support import amqp_queues
from tests.support.rabbitmq_server import Control, RabbitServer
from tests.support.server import wait_until

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
    amqp_queues.declare(rabbitmq_url, "full", arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
    with pytest.raises(amqp.exceptions.MessageNacked):
        amqp_queues.publish(rabbitmq_url, "full", "one")
    amqp_queues.declare(rabbitmq_url, "quorum", arguments={"x-queue-type": "quorum"})
    amqp_queues.publish(rabbitmq_url, "quorum", "one")
    wait_until(lambda: amqp_queues.length(rabbitmq_url, "quorum") == 1)


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
