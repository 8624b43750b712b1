"""docs/storage-dispatch.md: the rights it grants on the broker suffice, and none is too many."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from devicevault_cli.broker import open_publisher
from devicevault_cli.broker.store_task import StoreTask, task_uuid
from devicevault_cli.errors import Refused, Unavailable
from tests.support import amqp_queues
from tests.support.rabbitmq_server import Control
from tests.support.redis_server import ExternalRedis, RedisServer

TEXT = (Path(__file__).parents[2] / "docs" / "storage-dispatch.md").read_text("utf-8")
QUEUES_EXIST, QUEUES_MISSING = re.findall(r"rabbitmqctl set_permissions -p VHOST dvctl '(.*)' '(.*)' '(.*)'", TEXT)
(ACL,) = re.findall(r"ACL SETUSER dvctl-broker on >PASSWORD resetkeys(.*?)```", TEXT, re.DOTALL)


def hand_over(url: str) -> None:
    """A task for each queue. Raises Refused."""
    with closing(open_publisher(url)) as publisher:
        publisher.check()
        made = [
            StoreTask(task_uuid("device:results", f"{number}-0"), "t", "job", 1, backend, {}, b"hostname a")
            for number, backend in enumerate(("git", "fs"))
        ]
        delivery = publisher.deliver(dict(enumerate(made)))
        while not delivery.advance(5):
            pass


def limited(control: Control, url: str, rights: tuple[str, ...]) -> str:
    configure, write, read = (text.replace("\\", "\\\\") for text in rights)
    return control.user(url, configure=configure, write=write, read=read)


@pytest.mark.parametrize("rights", [QUEUES_EXIST, QUEUES_MISSING], ids=["exist", "missing"])
def test_the_rights_suffice(rabbitmq: Control, rabbitmq_url: str, rights: tuple[str, ...]) -> None:
    if rights is QUEUES_EXIST:
        amqp_queues.declare(rabbitmq_url)
    hand_over(limited(rabbitmq, rabbitmq_url, rights))
    assert [amqp_queues.length(rabbitmq_url, queue) for queue in amqp_queues.QUEUES] == [1, 1]


@pytest.mark.parametrize("taken", range(3), ids=["configure", "write", "read"])
def test_each_right_is_needed(rabbitmq: Control, rabbitmq_url: str, taken: int) -> None:
    rights = [*QUEUES_MISSING]
    rights[taken] = ""
    with pytest.raises(Refused):
        hand_over(limited(rabbitmq, rabbitmq_url, tuple(rights)))


def test_without_queues_the_smaller_rights_are_refused(rabbitmq: Control, rabbitmq_url: str) -> None:
    with pytest.raises(Refused, match="may not create it"):
        hand_over(limited(rabbitmq, rabbitmq_url, QUEUES_EXIST))


@pytest.fixture
def admin(redis_server: RedisServer | ExternalRedis) -> Iterator[Any]:
    with closing(redis.Redis.from_url(redis_server.url)) as client:
        yield client
        client.acl_deluser("dvctl-broker")


def broker_as(admin: Any, url: str, rules: list[str]) -> str:
    admin.acl_deluser("dvctl-broker")
    admin.execute_command("ACL", "SETUSER", "dvctl-broker", "on", ">secret", "resetkeys", *rules)
    return url.replace("redis://", "redis://dvctl-broker:secret@")


def test_each_right_on_redis_is_needed_and_they_suffice(admin: Any, redis_server: RedisServer) -> None:
    url, rules = redis_server.url_for(db=1), ACL.split()
    hand_over(broker_as(admin, url, rules))
    with closing(redis.Redis.from_url(url)) as client:
        assert [client.llen(queue) for queue in amqp_queues.QUEUES] == [1, 1]
    for rule in rules:
        if rule != "-@all":
            with pytest.raises((Refused, Unavailable)):
                hand_over(broker_as(admin, url, [other for other in rules if other != rule]))
