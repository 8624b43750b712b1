"""`dvctl consume --pipeline results,storage`: two consumers in one process, which share nothing but its end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.test_metrics import OF_THE_PROCESS, reader
from tests.support.messages import good, publish, storage
from tests.support.postgres_server import PostgresServer
from tests.support.process import END_S, Dvctl, Running
from tests.support.redis_server import RedisServer
from tests.support.rows import select
from tests.support.screen import on_a_terminal
from tests.support.server import wait_until

BOTH = ("consume", "--pipeline", "results,storage")
STREAMS = {"results": "device:results", "storage": "storage:results"}
GROUPS = {"results": "devicevault", "storage": "devicevault-storage"}
HEAD = ("time", "level", "logger", "message")
TABLES = {"results": "devices_devicebackupresult", "storage": "backups_storedbackup"}


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Any]:
    with redis_server.client() as client:
        yield client


def publish_both(client: Any, results: int, stored: int) -> None:
    publish(client, good(results))
    publish(client, storage(stored), stream=STREAMS["storage"])


def rows(url: str) -> dict[str, int]:
    return {name: select(url, f"SELECT count(*) FROM {table}")[0][0] for name, table in TABLES.items()}


def reading(client: Any, many: int = 2) -> Callable[[], bool]:
    """Both wait for entries."""
    return lambda: sum("b" in row["flags"] and row["cmd"] == "xreadgroup" for row in client.client_list()) == many


def start(dvctl: Dvctl, client: Any, *words: str) -> Running:
    running = dvctl.start(*BOTH, *words)
    for name, stream in STREAMS.items():
        running.wait_for(f"{name}: consuming {stream}")
    wait_until(reading(client), what="both to read")
    return running


def test_both_are_drained_and_counted_apart(dvctl: Dvctl, client: Any, redis_url: str, database_url: str) -> None:
    publish_both(client, 300, 40)
    dvctl.use(redis_url, database_url, DVCTL_PIPELINE="storage,results")
    alone = dvctl.json("consume", "--drain", "--pipeline", "results", "--max-messages", "10")
    answer = dvctl.json("consume", "--drain")
    assert list(answer) == ["pipelines"]
    assert list(answer["pipelines"]) == ["results", "storage"]
    for summary in answer["pipelines"].values():
        assert list(summary) == list(alone)
        assert summary["stopped_by"] == "drained"
    persisted = {name: summary["persisted"] for name, summary in answer["pipelines"].items()}
    assert persisted == {"results": 290, "storage": 40}
    assert rows(database_url) == {"results": 300, "storage": 40}
    for name, stream in STREAMS.items():
        assert client.xpending(stream, GROUPS[name])["pending"] == 0
        assert client.xinfo_consumers(stream, GROUPS[name]) == []


@pytest.mark.parametrize("output", ["table", "jsonl", "csv"])
def test_other_formats_say_which_is_which(
    dvctl: Dvctl, client: Any, redis_url: str, sqlite_url: str, output: str
) -> None:
    publish_both(client, 3, 2)
    answer = dvctl.use(redis_url, sqlite_url).ok(*BOTH, "--drain", "-o", output)
    if output == "jsonl":
        counts = [(line["pipeline"], line["persisted"]) for line in answer.jsonl()]
        assert counts == [("results", 3), ("storage", 2)]
    elif output == "csv":
        head, *lines = answer.stdout.splitlines()
        assert head.startswith("pipeline,read,persisted,")
        assert [line.split(",")[:3] for line in lines] == [["results", "3", "3"], ["storage", "2", "2"]]
    else:
        lines = [" ".join(line.split()) for line in answer.stdout.splitlines()]
        assert "results persisted 3" in lines
        assert "storage persisted 2" in lines
        assert "storage stopped by drained" in lines


def test_each_ends_by_its_own_rule(dvctl: Dvctl, client: Any, redis_url: str, sqlite_url: str) -> None:
    """The one has its messages at once, the other waits for its last; the process is alive and ready meanwhile."""
    publish_both(client, 5, 2)
    dvctl.use(redis_url, sqlite_url)
    running = dvctl.start(*BOTH, "--max-messages", "3", "--metrics-port", "127.0.0.1:0", "-o", "json")
    running.wait_for("results: max-messages: read 3")
    read = reader(running)
    wait_until(lambda: rows(sqlite_url)["storage"] == 2, what="the rows of the other")
    assert (read("/healthz")[0], read("/readyz")[0]) == (200, 200)
    publish(client, storage(1, start=2), stream=STREAMS["storage"])
    ended = running.wait()
    assert ended.code == 0
    assert {name: one["read"] for name, one in ended.json()["pipelines"].items()} == {"results": 3, "storage": 3}
    late = dvctl.run(*BOTH, "--max-messages", "2", "--max-wait", "500ms", "-o", "json")
    assert late.code == 1
    assert "error: storage: fewer than 2 messages read within --max-wait" in late.stderr
    assert "dvctl pending --pipeline storage" in late.stderr
    reasons = {name: one["stopped_by"] for name, one in late.json()["pipelines"].items()}
    assert reasons == {"results": "max-messages", "storage": "max-wait"}


def test_one_signal_ends_both_and_lines_say_of_which_they_are(
    dvctl: Dvctl, client: Any, redis_url: str, postgres_url: str
) -> None:
    dvctl.use(redis_url, postgres_url)
    running = dvctl.start(*BOTH, "--log-format", "json", "-o", "json", "--metrics-port", "127.0.0.1:0")
    wait_until(reading(client), what="both to read")
    publish_both(client, 20, 10)
    wait_until(lambda: rows(postgres_url) == {"results": 20, "storage": 10}, what="all rows")
    connections = select(postgres_url, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'dvctl%'")
    assert connections == [(2,)]
    ended = running.sigterm()
    assert ended.code == 0
    assert {one["stopped_by"] for one in ended.json()["pipelines"].values()} == {"signal"}
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    about = {line.get("pipeline") for line in lines if line["message"].startswith(("consuming", "signal: read"))}
    assert about == {"results", "storage"}
    (process,) = [line for line in lines if line["message"].startswith("metrics are served on")]
    assert "pipeline" not in process


def test_with_one_pipeline_lines_are_as_before(dvctl: Dvctl, redis_url: str, sqlite_url: str) -> None:
    answer = dvctl.use(redis_url, sqlite_url).ok("consume", "--drain", "--log-format", "json", "--pipeline", "storage")
    lines = [json.loads(line) for line in answer.stderr.splitlines()]
    assert lines
    for line in lines:
        assert [name for name in line if name in HEAD] == list(HEAD)
        assert "pipeline" not in line


def test_every_series_says_of_which_pipeline_it_is(dvctl: Dvctl, client: Any, redis_url: str, sqlite_url: str) -> None:
    publish_both(client, 7, 5)
    running = dvctl.use(redis_url, sqlite_url).start(*BOTH, "--metrics-port", "127.0.0.1:0")
    read = reader(running)
    wait_until(lambda: rows(sqlite_url) == {"results": 7, "storage": 5}, what="all rows")
    wait_until(lambda: 'persisted",pipeline="storage' in read("/metrics")[1], what="the outcomes")
    families = list(text_string_to_metric_families(read("/metrics")[1]))
    assert len(families) == len({family.name for family in families})
    samples = [sample for family in families for sample in family.samples]
    assert len(samples) == len({(sample.name, *sorted(sample.labels.items())) for sample in samples})
    dropped = [sample for sample in samples if sample.name == "dvctl_log_lines_dropped_total"]
    assert [(sample.labels, sample.value) for sample in dropped] == [({}, 0)]
    for sample in samples:
        if sample not in dropped and not sample.name.startswith(OF_THE_PROCESS):
            name = sample.labels["pipeline"]
            assert (sample.labels["stream"], sample.labels["group"]) == (STREAMS[name], GROUPS[name])
    persisted = {
        sample.labels["pipeline"]: sample.value
        for sample in samples
        if sample.name == "dvctl_messages_total" and sample.labels["outcome"] == "persisted"
    }
    assert persisted == {"results": 7, "storage": 5}
    assert running.sigterm().code == 0


def test_not_ready_while_one_of_them_cannot_work(dvctl: Dvctl, client: Any, redis_url: str, sqlite_url: str) -> None:
    """A stream that is no stream holds up its own pipeline only."""
    client.set(STREAMS["storage"], "text")
    running = dvctl.use(redis_url, sqlite_url).start(*BOTH, "--metrics-port", "127.0.0.1:0")
    read = reader(running)
    publish(client, good(4))
    wait_until(lambda: rows(sqlite_url)["results"] == 4, what="the rows of the other")
    assert (read("/healthz")[0], read("/readyz")[0]) == (200, 503)
    client.delete(STREAMS["storage"])
    wait_until(lambda: read("/readyz")[0] == 200, timeout=END_S, what="both to be ready")
    assert running.sigterm().code == 0


def test_a_missing_group_of_one_ends_both(dvctl: Dvctl, client: Any, redis_url: str, sqlite_url: str) -> None:
    publish(client, good(4))
    client.xgroup_create(STREAMS["results"], GROUPS["results"], "0")
    dvctl.use(redis_url, sqlite_url)
    ended = dvctl.run(*BOTH, "--on-missing-group", "fail", "-o", "json")
    assert ended.code == 1
    reasons = {name: one["stopped_by"] for name, one in ended.json()["pipelines"].items()}
    assert reasons == {"results": "other-pipeline", "storage": "missing-group"}
    assert client.xpending(STREAMS["results"], GROUPS["results"])["pending"] == 0
    assert not client.exists(STREAMS["storage"])


def test_a_right_that_one_lacks_ends_both_with_its_exit_code(
    dvctl: Dvctl, client: Any, redis_server: RedisServer, sqlite_url: str
) -> None:
    publish(client, good(4))
    allowed = ("~device:results", "~{device:results}:*", "+@all")
    client.execute_command("ACL", "SETUSER", "half", "on", ">half", "resetkeys", *allowed)
    try:
        ended = dvctl.use(redis_server.url_for("half", "half"), sqlite_url).run(*BOTH)
    finally:
        client.execute_command("ACL", "DELUSER", "half")
    assert (ended.code, ended.stdout) == (77, "")
    assert "storage: " in ended.stderr
    assert "the other pipeline ends too" in ended.stderr
    assert "results: other-pipeline: read" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert client.xpending(STREAMS["results"], GROUPS["results"])["pending"] == 0


def test_a_database_that_stands_still_holds_up_neither_end(
    dvctl: Dvctl, client: Any, redis_url: str, new_postgres: Callable[..., PostgresServer]
) -> None:
    """Both are interrupted after the grace period, and end in order."""
    postgres = new_postgres()
    url = postgres.database()
    running = start(dvctl.use(redis_url, url), client, "-o", "json")
    postgres.freeze()
    publish_both(client, 20, 10)
    for name, stream in STREAMS.items():
        wait_until(lambda: client.xpending(stream, GROUPS[name])["pending"], what="a batch in hand")  # noqa: B023
    ended = running.sigterm(40)
    assert (ended.code, len(ended.json()["pipelines"])) == (0, 2)
    postgres.thaw()
    dvctl.ok(*BOTH, "--drain", "--claim-idle", "100ms")
    assert rows(url) == {"results": 20, "storage": 10}


def test_names_of_both_come_from_the_environment(dvctl: Dvctl, client: Any, redis_url: str, sqlite_url: str) -> None:
    own = {
        "DEVICEVAULT_RESULTS_STREAM": "my:results",
        "DEVICEVAULT_RESULTS_GROUP": "one",
        "DEVICEVAULT_STORAGE_RESULTS_GROUP": "two",
        "DEVICEVAULT_STORAGE_RESULTS_CONSUMER": "second",
    }
    publish(client, good(2), stream="my:results")
    running = dvctl.use(redis_url, sqlite_url, **own).start(*BOTH)
    running.wait_for("results: consuming my:results as")
    running.wait_for("storage: consuming storage:results as second in group two into backups_storedbackup")
    wait_until(lambda: rows(sqlite_url)["results"] == 2, what="the rows")
    names = {row["name"].removeprefix("dvctl:consume:").partition(">")[0] for row in client.client_list()}
    assert "second" in names
    assert running.sigterm().code == 0


def test_one_line_of_progress_for_both(dvctl: Dvctl, client: Any, redis_url: str, sqlite_url: str) -> None:
    publish_both(client, 400, 100)
    dvctl.use(redis_url, sqlite_url, TERM="xterm")
    with on_a_terminal([*BOTH, "--drain", "--rate", "100"], dvctl.environment, columns=120) as screen:
        screen.wait_for("/500")
        screen.wait_for("results lag")
        screen.wait_for("storage lag")  # each becomes known by itself
        (line,) = [line for line in screen.lines if line.startswith("consuming")]
        assert "results: consuming" not in line
        assert screen.code(END_S) == 0
        assert not [line for line in screen.lines if line.startswith("consuming")]


@pytest.mark.parametrize("words", [("consume",), BOTH])
def test_an_idle_consumer_ends_soon_after_sigterm(
    dvctl: Dvctl, client: Any, redis_url: str, postgres_url: str, words: tuple[str, ...]
) -> None:
    """DeviceVault's scripts kill a process two seconds after SIGTERM; the best of three, on a busy machine."""
    dvctl.use(redis_url, postgres_url)
    took = []
    for _ in range(3):
        running = dvctl.start(*words)
        running.wait_for("consuming", times=2 if words == BOTH else 1)
        wait_until(reading(client, words.count("results,storage") + 1), what="it to read")
        began = time.monotonic()
        assert running.sigterm().code == 0
        took.append(time.monotonic() - began)
    assert min(took) < 1.5, took
