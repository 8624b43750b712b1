"""What is seen of a broker: queues, arguments, Redis settings; how long that takes; what its refusals say."""

from __future__ import annotations

import gc
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis

from devicevault_cli.broker import open_publisher
from devicevault_cli.broker.inspection import QueueState, RedisSettings, inspect_broker
from devicevault_cli.broker.store_task import StoreTask, task_uuid
from devicevault_cli.errors import BadConfig, DvctlError, ExitCode, Refused, Unavailable
from tests.support import amqp_queues
from tests.support.brokers import Broker
from tests.support.celery_worker import StorageWorker
from tests.support.rabbitmq_server import Control, RabbitServer
from tests.support.redis_server import AOF, RedisServer
from tests.support.server import wait_until

QUEUES = ("storage.git", "storage.fs")
SECRET = "location-secret"
LIMIT_S = 20.0
"""Of inspections here: the machine is busy."""


@pytest.fixture(autouse=True)
def forgotten_sockets() -> Iterator[None]:
    """py-amqp may leave the socket of a failed TLS connection to the garbage collector: it warns here, in no later
    test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def state(url: str, queue: str = "storage.git") -> QueueState:
    (found,) = inspect_broker(url, (queue,), LIMIT_S).queues
    return found


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def deliver(url: str, text: str = "config") -> dict[str, str]:
    """Hand over one task. -> what was too large"""
    task = StoreTask(task_uuid("s", "1-0"), "t", "i", 1, "git", {"token": SECRET}, text.encode())
    with closing(open_publisher(url)) as publisher:
        delivery = publisher.deliver({"key": task})
        while not delivery.advance(1):
            pass
        return delivery.too_large


def refusal(url: str) -> DvctlError:
    """What handing over one task ends with."""
    with pytest.raises(DvctlError) as caught:
        deliver(url)
    error = caught.value
    assert SECRET not in f"{error} {error.hint}"
    assert error.hint
    return error


# --- queues ----------------------------------------------------------------------------------------------------------


def test_looking_at_queues_counts_and_creates_nothing(rabbitmq_url: str) -> None:
    seen = inspect_broker(rabbitmq_url, QUEUES, LIMIT_S)
    assert [queue.messages for queue in seen.queues] == [None, None]
    assert seen.redis is None
    assert not any(amqp_queues.exists(rabbitmq_url, queue) for queue in QUEUES)
    amqp_queues.declare(rabbitmq_url, "storage.git")
    amqp_queues.publish(rabbitmq_url, "storage.git", "one")
    assert state(rabbitmq_url) == QueueState("storage.git", 1, 0)
    assert not amqp_queues.exists(rabbitmq_url, "storage.fs")


def test_other_arguments_are_named_and_stay(rabbitmq_url: str, rabbitmq: Control) -> None:
    amqp_queues.declare(rabbitmq_url, "storage.git", arguments={"x-max-length": 5})
    amqp_queues.declare(rabbitmq_url, "storage.fs")
    git, fs = inspect_broker(rabbitmq_url, QUEUES, LIMIT_S).queues
    assert "x-max-length" in (git.clash or "")
    assert fs == QueueState("storage.fs", 0, 0)
    assert "x-max-length" in (state(rabbitmq_url).clash or ""), "they were changed"
    unknown = state(rabbitmq.user(rabbitmq_url, configure=""))
    assert (unknown.messages, unknown.clash) == (0, None)
    assert "access to queue 'storage.git'" in unknown.unknown


def test_a_worker_on_its_queue_is_seen(
    rabbitmq_url: str, redis_url: str, storage_worker: Callable[..., StorageWorker]
) -> None:
    worker = storage_worker(rabbitmq_url, redis_url)
    assert state(rabbitmq_url).consumers == 1
    worker.kill9()
    wait_until(lambda: state(rabbitmq_url).consumers == 0, what="the node to notice")


def test_messages_of_a_redis_broker_are_counted_and_workers_are_not(redis_server: RedisServer) -> None:
    url = redis_server.url_for(db=1)
    assert state(url) == QueueState("storage.git", 0, None)
    deliver(url)
    assert state(url) == QueueState("storage.git", 1, None)


def test_what_a_redis_broker_keeps(new_redis: Callable[..., RedisServer]) -> None:
    def settings(server: RedisServer) -> RedisSettings | None:
        return inspect_broker(server.url, (), LIMIT_S).redis

    assert settings(new_redis("--save", "", "--maxmemory-policy", "allkeys-lru")) == RedisSettings(
        "allkeys-lru", append_only=False, snapshots=False
    )
    kept = new_redis(*AOF, "--save", "60 1")
    assert settings(kept) == RedisSettings("noeviction", append_only=True, snapshots=True)
    with closing(redis.Redis.from_url(kept.url)) as client:
        client.execute_command("ACL", "SETUSER", "few", "on", ">pass", "~*", "+ping", "+llen", "+multi", "+exec")
    assert inspect_broker(kept.url_for("few", "pass"), (), LIMIT_S).redis == RedisSettings(None, None, None)


# --- who answers -----------------------------------------------------------------------------------------------------


def test_the_first_of_a_list_that_answers_is_named(rabbitmq_url: str) -> None:
    seen = inspect_broker(f"amqp://u:{SECRET}@127.0.0.1:1/;{rabbitmq_url}", (), LIMIT_S)
    assert rabbitmq_url.rpartition("@")[2] in seen.answered
    (away,) = seen.away
    assert "127.0.0.1:1/ cannot be reached: Connection refused" in str(away)


@pytest.mark.parametrize("scheme", ["amqp", "amqps", "redis", "rediss"])
def test_a_silent_port_is_given_up_in_time(scheme: str) -> None:
    with silent_port() as port:
        urls = f"{scheme}://u:{SECRET}@127.0.0.1:{port}/1"
        begun = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            inspect_broker(";".join([urls] * 9), QUEUES, 1.0)
        assert time.monotonic() - begun < 10, "nine times as long as the limit"
    assert f"127.0.0.1:{port}/1" in str(caught.value)
    assert "did not answer within 1 s" in str(caught.value)
    assert SECRET not in str(caught.value)


# --- what refusals say -----------------------------------------------------------------------------------------------


def test_a_wrong_password_and_a_wrong_vhost(rabbitmq_url: str) -> None:
    for url in (rabbitmq_url.replace(":secret@", f":{SECRET}@"), f"{rabbitmq_url}x"):
        error = refusal(url)
        assert error.exit_code == ExitCode.REFUSED
        assert "virtual host in --broker-url or CELERY_BROKER_URL" in (error.hint or "")


@pytest.mark.parametrize("rights", [{"write": "storage"}, {"configure": ""}, {"write": ""}, {"read": ""}])
def test_the_hint_names_rights_that_suffice(rabbitmq_url: str, rabbitmq: Control, rights: dict[str, str]) -> None:
    limited = rabbitmq.user(rabbitmq_url, **rights)
    error = refusal(limited)
    assert isinstance(error, Refused)
    *_, configure, _, write, _, read, _ = (error.hint or "").split("'")
    user = limited.partition("//")[2].partition(":")[0]
    assert f" {user} '" in (error.hint or "")
    assert deliver(rabbitmq.user(rabbitmq_url, configure=configure, write=write, read=read)) == {}


def test_a_full_queue_and_one_that_is_too_small(rabbitmq_url: str, new_rabbitmq: Callable[..., RabbitServer]) -> None:
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    amqp_queues.declare(rabbitmq_url, "storage.git", arguments=full)
    deliver(rabbitmq_url)
    error = refusal(rabbitmq_url)
    assert isinstance(error, Unavailable)
    assert "x-max-length" in (error.hint or "")
    own = new_rabbitmq({"max_message_size": 65_536}).control.vhost()
    assert "larger than configured max size" in deliver(own, "x" * 100_000)["key"]


def test_tls_says_what_is_wrong(new_rabbitmq: Callable[..., RabbitServer], certificates: Path) -> None:
    node = new_rabbitmq(tls=certificates)
    plain = node.control.vhost()
    url = node.tls_url(plain)
    assert deliver(f"{url}?ssl_ca_certs={certificates / 'ca.pem'}") == {}
    assert deliver(f"{url}?ssl_cert_reqs=none") == {}
    for query in ("", f"?ssl_ca_certs={certificates / 'client.pem'}"):
        assert "check ssl_ca_certs" in (refusal(url + query).hint or ""), query
    assert isinstance(refusal(f"{url}?ssl_ca_certs=/none/ca.pem"), BadConfig)
    assert "does not speak TLS" in (refusal(plain.replace("amqp:", "amqps:")).hint or "")
    assert "amqps://" in (refusal(plain.replace(f":{node.port}/", f":{node.tls_port}/")).hint or "")


def test_a_redis_broker_says_what_is_wrong(new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis(password="right")
    url = server.url
    assert deliver(url) == {}
    assert isinstance(refusal(server.url_for(password=SECRET)), Refused)
    assert isinstance(refusal(server.url_for(db=99)), BadConfig)
    with closing(redis.Redis.from_url(url)) as client:
        client.execute_command("ACL", "SETUSER", "few", "on", ">pass", "-@all")
        error = refusal(server.url_for("few", "pass", db=1))
        assert isinstance(error, Refused)
        grant = (error.hint or "").partition("administrator: ")[2].replace("'", "").split()
        assert grant[:3] == ["ACL", "SETUSER", "few"]
        client.execute_command(*grant)
        assert deliver(server.url_for("few", "pass", db=1)) == {}
        client.config_set("maxmemory", 1)
        assert "maxmemory" in (refusal(url).hint or "")
        client.config_set("maxmemory", 0)
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        assert "primary" in (refusal(url).hint or "")


def test_brokers_that_are_not_there(broker: Broker) -> None:
    scheme = broker.url.partition(":")[0]
    assert "Connection refused" in str(refusal(f"{scheme}://u:{SECRET}@127.0.0.1:1/1"))
