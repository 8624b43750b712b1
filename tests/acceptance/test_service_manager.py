"""`dvctl consume` as a service of systemd: what it notifies, and what the journal gets."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devicevault_cli.cli.service_manager import notified
from devicevault_cli.consumer import progress as progress_module
from devicevault_cli.consumer.progress import ConsumerProgress
from devicevault_cli.consumer.shutdown import Stop
from devicevault_cli.errors import MissingGroup
from devicevault_cli.output.systemd import watchdog_s
from tests.support.daemon import consuming
from tests.support.messages import bad, good, publish
from tests.support.notify_socket import ServiceManager, service_manager
from tests.support.postgres_server import PostgresServer
from tests.support.process import DVCTL, END_S, Answer, Dvctl
from tests.support.redis_server import RedisServer
from tests.support.server import wait_until


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServiceManager]:
    with service_manager(tmp_path, abstract=request.param == "abstract") as listening:
        yield listening


def test_ready_alive_through_an_outage_and_stopping(
    dvctl: Dvctl, manager: ServiceManager, new_redis: Callable[..., RedisServer], sqlite_url: str
) -> None:
    server = new_redis()
    dvctl.use(server.url, sqlite_url, **manager.environment(watchdog_s=0.6))
    daemon = dvctl.start("consume")
    manager.wait_for("READY=1")
    assert "consuming device:results" in daemon.stderr
    manager.wait_for("STATUS=consuming: read 0")
    manager.wait_for("WATCHDOG=1", times=3)
    server.kill9()
    manager.wait_for("STATUS=waiting for Redis for")
    manager.forget()
    manager.wait_for("WATCHDOG=1", times=3)
    server.start()
    daemon.wait_for("Redis is reachable again after", timeout=END_S)
    manager.wait_for("STATUS=consuming: read 0")
    assert not any(state.startswith(("READY", "STOPPING", "EXTEND")) for state in manager.received())
    assert daemon.sigterm().code == 0
    assert "STOPPING=1" in manager.received()


def test_a_start_during_an_outage_takes_its_time(
    dvctl: Dvctl, redis_url: str, new_postgres: Callable[..., PostgresServer], tmp_path: Path
) -> None:
    """Else systemd would end a service that does nothing wrong, again and again."""
    postgres = new_postgres()
    url = postgres.database()
    postgres.stop()
    with service_manager(tmp_path) as manager:
        daemon = dvctl.use(redis_url, url, **manager.environment(watchdog_s=30)).start("consume")
        manager.wait_for("STATUS=waiting for the database for")
        manager.wait_for("EXTEND_TIMEOUT_USEC=60000000", times=2)
        assert "READY=1" not in manager.received()
        assert daemon.stderr.count("; waiting for it") == 1, "not once a check"
        assert "once every server answers: consuming device:results" in daemon.stderr
        postgres.start()
        manager.wait_for("READY=1", timeout=END_S)
        daemon.wait_for("the database is reachable again after")
        assert daemon.sigterm().code == 0


def test_a_start_that_fails_ends_with_its_cause_as_status(
    dvctl: Dvctl, redis_url: str, sqlite_url: str, manager: ServiceManager
) -> None:
    """Nothing follows it: systemd keeps the last status of a service that failed."""
    refused = redis_url.replace("redis://", "redis://nobody:wrong@")
    failed = dvctl.use(refused, sqlite_url, **manager.environment(watchdog_s=30)).run("consume")
    assert failed.code == 77
    received = manager.received()
    assert "STATUS=starting" in received
    stopping, status = received[-2:]
    assert (stopping, status.startswith("STATUS=failed: ")) == ("STOPPING=1", True), received
    assert status.removeprefix("STATUS=failed: ") in failed.stderr
    assert received.count("STOPPING=1") == 1
    assert not any(state.startswith("STATUS=consuming") for state in received)


@pytest.mark.parametrize("woken", [False, True], ids=["in order", "woken at the end"])
def test_nothing_follows_the_last_status(tmp_path: Path, woken: bool) -> None:
    """Also where the end of the process wakes whoever waits for a stop."""
    progress, stop = {"results": ConsumerProgress()}, Stop()
    with service_manager(tmp_path) as manager:
        with (
            pytest.raises(MissingGroup),
            notified(progress, stop, manager.environment(watchdog_s=0.03)),
        ):
            manager.wait_for("WATCHDOG=1", times=3)
            raise MissingGroup("stream S has no group\nG")
        assert manager.received()[-2:] == ["STOPPING=1", "STATUS=failed: stream S has no group\\nG"]
        if woken:
            stop.wake()
        wait_until(lambda: all(thread.name != "service-manager" for thread in threading.enumerate()), what="its end")
        assert manager.received()[-1].startswith("STATUS=failed: ")


def test_before_the_first_read_it_is_starting(tmp_path: Path) -> None:
    consumers: dict[str, ConsumerProgress] = {}
    stop = Stop()
    with service_manager(tmp_path) as manager, notified(consumers, stop, manager.environment(watchdog_s=0.03)):
        manager.wait_for("STATUS=starting")
        consumers["results"] = progress = ConsumerProgress()
        manager.wait_for("WATCHDOG=1", times=5)
        assert {state for state in manager.states if state.startswith(("READY", "STATUS"))} == {"STATUS=starting"}
        progress.has_read, progress.counters.waiting = True, False
        manager.wait_for("READY=1")
        manager.wait_for("STATUS=consuming: read 0")
        progress.stopped_by = "missing-group"
        manager.wait_for("STATUS=stopped (missing-group): read 0")


def test_a_loop_that_is_stuck_is_not_said_to_be_alive(
    new_redis: Callable[..., RedisServer], sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen Redis holds the loop in a call, here for longer than a loop may stand still."""
    monkeypatch.setattr(progress_module, "STANDSTILL_S", 1.5)
    server = new_redis()
    with service_manager(tmp_path) as manager, consuming(server.url, sqlite_url, socket_timeout=END_S) as daemon:
        progress, stop = daemon.worker.progress, Stop()
        with notified({"results": progress}, stop, manager.environment(watchdog_s=0.6)):
            manager.wait_for("READY=1")
            manager.wait_for("WATCHDOG=1", times=3)
            server.freeze()
            wait_until(lambda: not progress.alive, what="the loop to stand still")
            manager.wait_for("STATUS=stuck in a call")
            manager.forget()
            five_steps = time.monotonic() + 5 * 0.2
            wait_until(lambda: time.monotonic() > five_steps, what="the time of five signs of life")
            assert manager.received() == []
            server.thaw()
            manager.wait_for("STATUS=consuming")
            manager.wait_for("WATCHDOG=1")
            stop.set()


def test_both_pipelines_have_to_move(
    dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str, manager: ServiceManager
) -> None:
    """READY=1 comes once both read: the key of one of them is no stream at first."""
    client = redis_server.client()
    client.set("storage:results", "text")
    dvctl.use(redis_server.url, sqlite_url, **manager.environment(watchdog_s=0.6))
    daemon = dvctl.start("consume", "--pipeline", "results,storage")
    manager.wait_for("STATUS=results: consuming: read 0")
    manager.wait_for("WATCHDOG=1", times=3)
    assert "READY=1" not in manager.received()
    assert any("storage: waiting for Redis" in state for state in manager.states)
    client.delete("storage:results")
    manager.wait_for("READY=1", timeout=END_S)
    assert daemon.sigterm().code == 0


def test_the_watchdog_of_another_process_is_not_ours() -> None:
    assert watchdog_s({"WATCHDOG_USEC": "30000000"}) == 30
    assert watchdog_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}) == 30
    assert watchdog_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}) is None
    assert watchdog_s({"WATCHDOG_USEC": "soon"}) is None
    assert watchdog_s({}) is None


def test_without_a_service_manager_nothing_is_sent(dvctl: Dvctl, redis_url: str, sqlite_url: str) -> None:
    """Also where the socket that is named does not exist."""
    dvctl.use(redis_url, sqlite_url, NOTIFY_SOCKET="/nonexistent/notify", WATCHDOG_USEC="1000000")
    assert dvctl.json("consume", "--drain")["stopped_by"] == "drained"


def drained(dvctl: Dvctl, tmp_path: Path, *words: str, journal: bool = True) -> Answer:
    """`consume --drain` with stderr as the journal gives it: a socket or file named by device and inode."""
    log = tmp_path / "journal"
    with log.open("wb") as stderr:
        status = os.fstat(stderr.fileno())
        named = f"{status.st_dev}:{status.st_ino if journal else status.st_ino + 1}"
        environment = dvctl.environment | {"JOURNAL_STREAM": named}
        command: list[str | Path] = [DVCTL, "consume", "--drain", *words]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, check=False)
    return Answer(done.returncode, done.stdout.decode(), log.read_text())


def test_the_journal_gets_priorities_and_no_time(
    dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str, tmp_path: Path
) -> None:
    publish(redis_server.client(), [*good(3), *bad(1)])
    answer = drained(dvctl.use(redis_server.url, sqlite_url), tmp_path)
    assert answer.code == 0
    lines = answer.stderr.splitlines()
    assert lines
    assert all(re.match(r"<[346]>(?!\d{4}-)", line) for line in lines), lines
    assert any(line.startswith("<6>consuming device:results") for line in lines)
    assert any(re.match(r"<4>entry \S+ dead-lettered: ", line) for line in lines)
    refused = drained(dvctl, tmp_path, "--stream", "")
    assert (refused.code, refused.stderr.startswith("<3>error: ")) == (2, True), refused
    elsewhere = drained(dvctl, tmp_path, journal=False)
    assert all(re.match(r"\d{4}-\d\d-\d\dT\S+Z (info|warning) ", line) for line in elsewhere.stderr.splitlines())


def test_as_json_the_log_is_everything_that_is_written(dvctl: Dvctl, redis_url: str, sqlite_url: str) -> None:
    """A container writes stdout and stderr to one place, where each line has to be JSON."""
    dvctl.use(redis_url, sqlite_url)
    ended = dvctl.ok("consume", "--drain", "--log-format", "json")
    assert ended.stdout == ""
    assert json.loads(ended.stderr.splitlines()[-1])["stopped_by"] == "drained"
    asked = dvctl.ok("consume", "--drain", "--log-format", "json", "-o", "table")
    assert "stopped by" in asked.stdout
    for words, code in ((["--redis-url", "redis://nobody:wrong@127.0.0.1:1/x"], 78), (["--batch-size", "none"], 2)):
        failed = dvctl.run("consume", "--drain", "--log-format=json", *words)
        lines = [json.loads(line) for line in failed.stderr.splitlines()]
        assert (failed.code, lines[-1]["exit_code"], lines[-1]["level"]) == (code, code, "error")
        assert list(lines[-1]) == ["time", "level", "logger", "hint", "exit_code", "message"]
        assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    plain = dvctl.run("consume", "--log-format", "json", "--errors", "text", "--batch-size", "none")
    assert plain.stderr.startswith("error: ")


@pytest.mark.parametrize("journal", [True, False])
def test_json_has_ids_reasons_and_counts_as_fields(
    dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str, tmp_path: Path, journal: bool
) -> None:
    sent = publish(redis_server.client(), [*good(3), *bad(1)])
    dvctl.use(redis_server.url, sqlite_url, DEVICEVAULT_RESULTS_CONSUMER="me")
    answer = drained(dvctl, tmp_path, "--log-format", "json", "-o", "json", journal=journal)
    found: list[dict[str, Any]] = []
    for line in answer.stderr.splitlines():
        prefix, start, document = line.partition("{")
        assert re.fullmatch(r"<[346]>" if journal else "", prefix), line
        found.append(json.loads(start + document))
    assert all(list(line)[:3] == ["time", "level", "logger"] and list(line)[-1] == "message" for line in found)
    whose = {"stream": "device:results", "group": "devicevault", "consumer": "me"}
    dead = [line for line in found if "dead-lettered" in line["message"]]
    assert len(dead) == answer.json()["dead_lettered"] > 0
    for letter in dead:
        assert whose.items() <= letter.items()
        assert (letter["level"], letter["entry"] in letter["message"]) == ("warning", True)
        assert letter["reason"] in answer.json()["reasons"]
    assert {line["entry"] for line in dead} <= {str(one.id) for one in sent}
    (end,) = [line for line in found if line["message"].startswith("drained: ")]
    assert (end["stopped_by"], end["read"], end["persisted"]) == ("drained", len(sent), answer.json()["persisted"])
