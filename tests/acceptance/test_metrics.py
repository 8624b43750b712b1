"""`dvctl consume --metrics-port`: what Prometheus reads, and whether the process is alive and at work."""

from __future__ import annotations

import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, closing

import pytest
from prometheus_client.parser import text_string_to_metric_families

from devicevault_cli import __version__
from devicevault_cli.consumer.progress import STANDSTILL_S, ConsumerProgress
from devicevault_cli.output import metrics
from devicevault_cli.streams.connect import connect
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.stream import Stream
from tests.support import messages, servers
from tests.support.consuming import good
from tests.support.process import END_S, Dvctl, Running
from tests.support.rabbitmq_server import RabbitServer
from tests.support.records import execute
from tests.support.redis_server import RedisServer
from tests.support.schema import ASSIGN_LOCATIONS
from tests.support.server import WAIT_S, wait_until
from tests.support.tools import checked

OF_THE_PROCESS = ("process_", "dvctl_build_info")
Read = Callable[[str], tuple[int, str]]


def port_of(daemon: Running) -> int:
    """The port that its log names."""
    daemon.wait_for("metrics are served on")
    return int(re.findall(r"metrics are served on http://[\d.]+:(\d+)/metrics", daemon.stderr)[0])


def reader(daemon: Running) -> Read:
    """Asks the daemon over HTTP. -> status and body"""
    port = port_of(daemon)

    def read(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=WAIT_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    return read


def numbers(text: str) -> dict[str, float]:
    """Samples by name, or `name{value of the label that is the sample's own}`."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith(OF_THE_PROCESS):
                found[sample.name] = sample.value
                continue
            assert sample.labels["stream"], sample
            assert sample.labels["pipeline"] == "results", sample
            own = [value for name, value in sample.labels.items() if name not in ("pipeline", "stream", "group")]
            found[f"{sample.name}{{{own[0]}}}" if own else sample.name] = sample.value
    return found


@servers.two_redis(0)
def test_every_outcome_is_counted(dvctl: Dvctl, each_redis_server: RedisServer, postgres_url: str) -> None:
    client = each_redis_server.client()
    messages.publish(client, messages.mixed(1000, seed=3))
    dvctl.use(each_redis_server.url, postgres_url)
    daemon = dvctl.start("consume", "--metrics-port", "127.0.0.1:0")
    read = reader(daemon)
    wait_until(lambda: "stream_group_lag" in read("/metrics")[1], what="a first look at the lag")
    seen: dict[str, float] = {}

    def settled() -> bool:
        seen.update(numbers(read("/metrics")[1]))
        left = ("dvctl_stream_group_lag", "dvctl_stream_group_messages_pending", "dvctl_in_hand")
        return not any(seen[name] for name in left)

    wait_until(settled, what="a look after the last message")
    assert seen["dvctl_messages_total{persisted}"] == 1021
    assert seen["dvctl_messages_total{duplicate}"] == 100
    assert seen["dvctl_messages_total{dead_lettered}"] == 31
    assert seen["dvctl_rejected_total{nul-character}"] == 4
    assert seen["dvctl_rejected_total{max-deliveries}"] == seen["dvctl_not_dispatched_total{too-large}"] == 0
    assert seen["dvctl_unusable_fields_total{initiated_at}"] == 3
    wait_until(lambda: numbers(read("/metrics")[1])["dvctl_dead_letters"] == 31, what="a look at the dead letters")
    assert seen["dvctl_batch_messages_sum"] == seen["dvctl_stream_length"] == 1152
    assert seen["dvctl_batch_seconds_count"] >= 2
    assert seen["dvctl_stream_group_messages_pending"] == seen["dvctl_in_hand"] == 0
    assert time.time() - seen["dvctl_loop_moved_timestamp_seconds"] < STANDSTILL_S
    assert seen["dvctl_ready"] == seen["dvctl_redis_up"] == seen["dvctl_database_up"] == 1
    assert seen["dvctl_outage_seconds_total{redis}"] == seen["dvctl_outage_seconds_total{database}"] == 0
    assert time.time() - seen["dvctl_last_success_timestamp_seconds"] < STANDSTILL_S
    assert seen["dvctl_build_info"] == 1
    assert f'dvctl_build_info{{version="{__version__}"}}' in read("/metrics")[1]
    assert seen["process_resident_memory_bytes"] > 1_000_000
    assert time.time() - seen["process_start_time_seconds"] < END_S
    assert [read(path)[0] for path in ("/healthz", "/readyz", "/other")] == [200, 200, 404]
    taken = dvctl.run("consume", "--metrics-port", f"127.0.0.1:{port_of(daemon)}")
    assert (taken.code, "Traceback" in taken.stderr) == (78, False)
    assert daemon.sigterm().code == 0


def test_storage_dispatch_is_measured(
    dvctl: Dvctl, redis_url: str, sqlite_url: str, new_rabbitmq: Callable[..., RabbitServer]
) -> None:
    execute(sqlite_url, ASSIGN_LOCATIONS)
    node = new_rabbitmq()
    url = node.control.vhost()
    dvctl.use(redis_url, sqlite_url)
    with closing(connect(redis_url)) as client:
        stream = Stream(client, "device:results")
        stream.add([*good(7), *good(2, device=50)])
        daemon = dvctl.start("consume", "--metrics-port", "127.0.0.1:0", "--broker-url", url)
        read = reader(daemon)

        def metric(name: str) -> float | None:
            return numbers(read("/metrics")[1]).get(f"dvctl_{name}")

        wait_until(lambda: metric("dispatched_total") == 7, what="all are dispatched")
        assert metric("not_dispatched_total{no-location}") == 2
        assert metric("dispatch_confirm_seconds_count") == metric("dispatch_confirm_seconds_bucket{+Inf}") == 7
        assert 0 < (metric("dispatch_confirm_seconds_sum") or 0) < 7 * WAIT_S
        assert metric("broker_up") == 1
        node.kill9()
        stream.add(good(1))
        wait_until(lambda: metric("broker_up") == 0, what="the broker is missed")
        node.start()
        wait_until(lambda: metric("dispatched_total") == 8, timeout=END_S, what="the last is dispatched")
        assert metric("broker_up") == 1
        assert (metric("outage_seconds_total{broker}") or 0) > 0
        assert metric("outage_seconds_total{redis}") == metric("outage_seconds_total{database}") == 0
        assert "the broker is reachable again after" in daemon.stderr
    assert daemon.sigterm().code == 0
    off = dvctl.start("consume", "--metrics-port", "127.0.0.1:0", "--no-dispatch")
    assert "dvctl_broker_up" not in reader(off)("/metrics")[1]
    assert off.sigterm().code == 0


def test_promtool_has_nothing_to_say_about_them(dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str) -> None:
    messages.publish(redis_server.client(), messages.mixed(40))
    daemon = dvctl.use(redis_server.url, sqlite_url).start("consume", "--metrics-port", "127.0.0.1:0")
    read = reader(daemon)
    wait_until(
        lambda: "dvctl_stream_group_lag 0" in re.sub(r"{.*?}", "", read("/metrics")[1]), what="a look at the end"
    )
    assert checked("promtool", "check", "metrics", stdin=read("/metrics")[1]) == ""
    assert daemon.sigterm().code == 0


def test_alive_but_not_ready_while_redis_is_away(
    dvctl: Dvctl, new_redis: Callable[..., RedisServer], sqlite_url: str
) -> None:
    server = new_redis()
    dvctl.use(server.url, sqlite_url)
    daemon = dvctl.start("consume", "--metrics-port", "127.0.0.1:0")
    read = reader(daemon)
    wait_until(lambda: read("/readyz")[0] == 200, what="it is ready")
    server.kill9()
    wait_until(lambda: read("/readyz")[0] == 503, what="the outage is seen")
    assert read("/healthz")[0] == 200
    wait_until(lambda: numbers(read("/metrics")[1])["dvctl_deferred_retries_total"] > 1, what="retries are counted")
    during = numbers(read("/metrics")[1])
    assert (during["dvctl_redis_up"], during["dvctl_database_up"]) == (0, 1)
    assert during["dvctl_outage_seconds_total{redis}"] > 0
    server.start()
    wait_until(lambda: read("/readyz")[0] == 200, timeout=END_S, what="it is ready again")
    after = numbers(read("/metrics")[1])
    assert after["dvctl_redis_up"] == 1
    (seconds,) = re.findall(r"Redis is reachable again after ([\d.]+) s, \d+ attempts?\n", daemon.stderr)
    assert after["dvctl_outage_seconds_total{redis}"] == pytest.approx(float(seconds), abs=0.06)
    assert after["dvctl_outage_seconds_total{database}"] == 0
    assert daemon.sigterm().code == 0


def test_a_client_that_says_nothing_holds_up_neither_others_nor_the_end(
    dvctl: Dvctl, redis_url: str, sqlite_url: str
) -> None:
    daemon = dvctl.use(redis_url, sqlite_url).start("consume", "--metrics-port", "127.0.0.1:0")
    read = reader(daemon)
    with socket.create_connection(("127.0.0.1", port_of(daemon))):
        assert read("/healthz") == (200, "ok\n")
        assert daemon.sigterm().code == 0


def test_nor_does_the_time_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long that is: whoever waited for it here would run into the limit of the test."""
    monkeypatch.setattr(metrics._Handler, "timeout", 1000)
    numbers_of = metrics.Metrics(lambda: metrics.Health(True, True))
    with ExitStack() as until_the_end, metrics.served(numbers_of, "127.0.0.1", 0) as port:
        until_the_end.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=WAIT_S).read() == b"ok\n"


def test_a_loop_that_stands_still_is_dead(redis_url: str) -> None:
    progress = ConsumerProgress(Group(Stream(connect(redis_url), "device:results"), "devicevault"))
    progress.counters.waiting = False
    assert (progress.alive, progress.ready) == (True, True)
    progress.moved -= STANDSTILL_S
    assert (progress.alive, progress.ready) == (False, False)
    progress.update()
    assert (progress.alive, progress.ready) == (True, True)
