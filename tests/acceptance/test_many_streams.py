"""`dvctl consume` on sixteen streams: several processes read all of them, and one is killed."""

from __future__ import annotations

import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.pages import pattern, steps, typed
from tests.support.process import Dvctl, Running
from tests.support.redis_server import RedisServer
from tests.support.rows import select
from tests.support.server import WAIT_S, free_port, wait_until

RANGE = "device:results:{0..15}"
NAMES = [f"device:results:{{{number}}}" for number in range(16)]
GROUP = "devicevault"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Any]:
    with redis_server.client() as client:
        yield client


@pytest.fixture
def many(dvctl: Dvctl, redis_url: str, postgres_url: str) -> Dvctl:
    return dvctl.use(redis_url, postgres_url, DEVICEVAULT_RESULTS_STREAM=RANGE).on_its_own_host()


class Producer:
    """Publishes evenly on the streams, each message by its device, in a thread of its own."""

    def __init__(self, client: Any) -> None:
        self.sent: set[str] = set()
        self._client = client
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="producer")

    def __enter__(self) -> Producer:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._ended.wait(0.005):
            publish(self._client, number)
            self.sent.add(f"job-{number}")
            number += 1


def publish(client: Any, number: int, **more: str) -> None:
    device = str(number % 50 + 1)
    fields = {"device_id": device, "status": "success", "log": "[]", "task_identifier": f"job-{number}", **more}
    client.xadd(NAMES[crc32(device.encode()) % len(NAMES)], fields)


def identities(url: str) -> list[str]:
    return [name for (name,) in select(url, "SELECT task_identifier FROM devices_devicebackupresult")]


def pending(client: Any) -> int:
    return sum(client.xpending(name, GROUP)["pending"] for name in NAMES if client.exists(name))


def name_of(running: Running) -> str:
    """The name that a process has in the group."""
    return running.stderr.partition(") as ")[2].split()[0]


def start(many: Dvctl, *words: str) -> Running:
    running = many.start("consume", "--claim-idle", "1s", *words)
    running.wait_for(f"consuming 16 streams ({RANGE})")
    return running


def test_everything_once_beside_a_process_that_is_killed(many: Dvctl, client: Any, postgres_url: str) -> None:
    processes = [start(many) for _ in range(4)]
    with Producer(client) as producer:
        wait_until(lambda: len(identities(postgres_url)) > 100, what="rows")
        processes[0].kill9()
        client.delete(NAMES[3])  # what is on it has its row or is lost; the group is created again
        wait_until(lambda: len(producer.sent) > 600, what="more messages")
    kept = {
        fields[b"task_identifier"].decode() for name in NAMES for _, fields in client.xrange(name)
    }  # what was on the deleted stream may be lost
    wait_until(lambda: set(identities(postgres_url)) >= kept, what="a row for each message", timeout=2 * WAIT_S)
    wait_until(lambda: pending(client) == 0, what="every acknowledgement", timeout=2 * WAIT_S)
    rows = identities(postgres_url)
    assert len(rows) == len(set(rows))
    assert len(kept) > 300
    for running in processes[1:]:
        answer = running.sigterm()
        assert answer.code == 0, answer.stderr[-2000:]
    left = {row["name"].decode() for name in NAMES for row in client.xinfo_consumers(name, GROUP)}
    assert left <= {name_of(processes[0])}


def test_processes_on_one_host_have_names_of_their_own(many: Dvctl, client: Any) -> None:
    first, second = start(many), start(many)
    names = [name_of(running) for running in (first, second)]
    assert len(set(names)) == 2
    third = many.start("consume", "--stream", NAMES[5])
    third.wait_for("consuming device:results:{5} as ")
    assert third.stderr.partition("} as ")[2].split()[0] not in names


def test_metrics_are_those_of_each_stream(many: Dvctl, client: Any, postgres_url: str) -> None:
    port = free_port()
    running = start(many, "--metrics-port", f"127.0.0.1:{port}")
    for number in range(100):
        publish(client, number)
    wait_until(lambda: len(identities(postgres_url)) == 100, what="rows")

    def persisted() -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            families = text_string_to_metric_families(answer.read().decode())
        return {
            sample.labels["stream"]: sample.value
            for family in families
            for sample in family.samples
            if sample.name == "dvctl_messages_total" and sample.labels["outcome"] == "persisted"
        }

    wait_until(lambda: sum(persisted().values()) == 100, what="the counters")
    assert set(persisted()) == set(NAMES)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as ready:
        assert ready.status == 200
    assert "read 100, persisted 100" in running.sigterm().stderr


def test_two_pipelines_each_with_streams_of_their_own(many: Dvctl, client: Any, postgres_url: str) -> None:
    for number in range(40):
        publish(client, number)
    for part in range(2):
        fields = {
            "device_id": "1",
            "status": "success",
            "log": "[]",
            "operation": "store",
            "task_identifier": f"s-{part}",
        }
        client.xadd(f"stored:{{{part}}}", fields | {"storage_backend": "fs", "storage_ref": "x"})
    many.use(DEVICEVAULT_STORAGE_RESULTS_STREAM="stored:{0..1}")
    document = many.json("consume", "--pipeline", "results,storage", "--drain", "--max-wait", "2m")
    assert {name: summary["persisted"] for name, summary in document["pipelines"].items()} == {
        "results": 40,
        "storage": 2,
    }


def test_an_idle_consumer_ends_at_once(many: Dvctl) -> None:
    running = start(many)
    running.wait_for("created consumer group", times=16)
    began = time.monotonic()
    assert running.sigterm().code == 0
    assert time.monotonic() - began < WAIT_S


def test_the_page(many: Dvctl, client: Any) -> None:
    """What docs/many-streams.md shows, on a system that is as the page says."""
    many.use(DEVICEVAULT_RESULTS_STREAM="device:results:{0..3}")
    for number in range(10):
        device = str(number + 1 if number < 8 else 999_990 + number)
        fields = {"device_id": device, "status": "success", "log": "[]", "task_identifier": f"job-{number}"}
        client.xadd(NAMES[crc32(device.encode()) % 4], fields)
    many.ok("consume", "--drain", "-q")
    for command, shown in steps((ROOT / "docs" / "many-streams.md").read_text()):
        printed = typed(many, command)
        assert re.fullmatch(pattern(shown), printed), f"{command}\n{printed}"
