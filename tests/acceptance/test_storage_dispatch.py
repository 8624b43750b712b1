"""Storage dispatch from end to end: the installed dvctl, a real Celery worker, and stored backups in their table."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from devicevault_cli.broker.store_task import MASKED
from tests.support.amqp_queues import exists
from tests.support.brokers import AmqpBroker, Broker
from tests.support.celery_worker import StorageWorker
from tests.support.dispatching import assert_in_queues, assert_stored_once, assign, job, jobs, locate, to_be_stored
from tests.support.messages import mixed, publish
from tests.support.oracle import STREAM, assert_everything
from tests.support.process import Dvctl
from tests.support.rows import read_rows
from tests.support.server import wait_until

pytestmark = [pytest.mark.acceptance]

IMAGES, IMAGE_BYTES, MOST_MB = 60, 1_400_000, 250


def test_every_success_is_stored(
    broker: Broker,
    dvctl: Dvctl,
    redis_url: str,
    postgres_url: str,
    storage_worker: Callable[..., StorageWorker],
) -> None:
    """The storage workers are stopped at first: `consume` does not wait for them."""
    assign(postgres_url)
    dvctl.use(redis_url, postgres_url, CELERY_BROKER_URL=broker.url)
    sent = publish(redis.Redis.from_url(redis_url), mixed(300))
    wanted = to_be_stored(sent)
    answer = dvctl.json("consume", "--drain")
    assert answer["dispatched"] == len(wanted) > 100
    assert set(answer["not_dispatched"]) <= {"no-location"}
    assert_everything(redis_url, postgres_url, sent)
    assert_in_queues(broker, sent)
    worker = storage_worker(broker.url, redis_url)
    wait_until(lambda: len(worker.results()) == len(wanted), what="a result of each task")
    assert len(worker.received()) == len(wanted)
    assert {received.headers["argsrepr"] for received in worker.received()} == {MASKED}
    assert "location-secret" not in worker.log.read_text()
    storage = dvctl.json("consume", "--drain", "--pipeline", "storage")
    assert storage["persisted"] == len(wanted)
    assert assert_stored_once(postgres_url, sent) == len(read_rows(postgres_url, "backups_storedbackup"))
    assert dvctl.json("consume", "--drain")["dispatched"] == 0


@pytest.mark.parametrize("small", [0, 200], ids=["at the start", "after small ones"])
def test_firmware_images_do_not_pile_up(
    small: int, dvctl: Dvctl, redis_url: str, sqlite_url: str, rabbitmq_url: str
) -> None:
    """Also where small messages came before, so that the reader asks for many at once."""
    assign(sqlite_url)
    dvctl.use(redis_url, sqlite_url, CELERY_BROKER_URL=rabbitmq_url)
    client = redis.Redis.from_url(redis_url)
    broker = AmqpBroker(rabbitmq_url)
    image = "QUJD" * (IMAGE_BYTES // 4)
    images = [job(number, device_config=image) for number in range(small, small + IMAGES)]
    if small:
        daemon = dvctl.start("consume")
        publish(client, [job(number) for number in range(small)])
        wait_until(lambda: broker.length("storage.git") == small, what="the small ones in the queue")
        publish(client, images, together=True)
    else:
        publish(client, images, together=True)
        daemon = dvctl.start("consume")
    wait_until(lambda: broker.length("storage.git") == small + IMAGES, what="all images in the queue")
    [peak] = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{daemon.pid}/status").read_text())
    assert daemon.sigterm().code == 0
    client.delete(STREAM)
    print(f"peak RSS {int(peak) // 1024} MB")
    assert int(peak) / 1024 < MOST_MB


# --- nothing starts in silence


def test_without_a_broker_it_does_not_start(dvctl: Dvctl, redis_url: str, sqlite_url: str) -> None:
    """Where no device needs one it does; else the operator chooses between two options."""
    dvctl.use(redis_url, sqlite_url)
    locate(sqlite_url, 1, "s3")
    assert dvctl.json("consume", "--drain")["dispatched"] == 0
    locate(sqlite_url, 2, "Git")
    publish(redis.Redis.from_url(redis_url), jobs(1))
    for words in ((), ("--drain",)):
        answer = dvctl.run("consume", *words)
        assert (answer.code, answer.stdout) == (78, "")
        assert "--broker-url" in answer.stderr
        assert "--no-dispatch" in answer.stderr
    assert read_rows(sqlite_url) == []


@pytest.mark.parametrize("by", ["option", "environment"])
def test_without_dispatch(by: str, dvctl: Dvctl, redis_url: str, sqlite_url: str, rabbitmq_url: str) -> None:
    """A broker may be configured: it is not used, and need not be there."""
    assign(sqlite_url)
    publish(redis.Redis.from_url(redis_url), jobs(50))
    dvctl.use(redis_url, sqlite_url, CELERY_BROKER_URL=rabbitmq_url.replace("127.0.0.1", "127.0.0.1.invalid"))
    env = {"DVCTL_NO_DISPATCH": "1"} if by == "environment" else {}
    words = ["--no-dispatch"] if by == "option" else []
    answer = dvctl.ok("consume", "--drain", *words, "-o", "json", env=env)
    assert (answer.json()["persisted"], answer.json()["dispatched"]) == (50, 0)
    source = "DVCTL_NO_DISPATCH" if by == "environment" else "--no-dispatch"
    assert f"storage dispatch is off ({source})" in answer.stderr
    assert not exists(rabbitmq_url, "storage.git")


def test_without_the_extra(dvctl: Dvctl, redis_url: str, sqlite_url: str, tmp_path: Path) -> None:
    """kombu cannot be imported: the message says how to install it."""
    (tmp_path / "kombu.py").write_text('raise ModuleNotFoundError("No module named kombu", name="kombu")\n')
    assign(sqlite_url)
    publish(redis.Redis.from_url(redis_url), jobs(1))
    dvctl.use(redis_url, sqlite_url, PYTHONPATH=str(tmp_path))
    answer = dvctl.run("consume", "--drain", "--broker-url", "amqp://127.0.0.1:1")
    assert answer.code == 78
    assert "pip install 'dvctl[dispatch]'" in answer.stderr
    assert dvctl.json("consume", "--drain", "--no-dispatch")["persisted"] == 1
