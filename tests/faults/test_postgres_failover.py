"""PostgreSQL with a standby: host lists, promotion under load, an old primary that comes back, PgBouncer between."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple

import pytest
import redis

from devicevault_cli.consumer import failover
from devicevault_cli.consumer.failover import FailoverWatch
from devicevault_cli.errors import Unavailable
from devicevault_cli.pipelines import RESULTS
from devicevault_cli.repository import open_repository
from devicevault_cli.repository.dialects.postgresql import connection as postgres_connection
from devicevault_cli.repository.dialects.postgresql import pipeline, statements
from devicevault_cli.repository.tables import TABLES
from devicevault_cli.streams import written_to
from devicevault_cli.streams.connect import connect
from devicevault_cli.streams.stream import Stream
from tests.support import servers
from tests.support.consuming import drain
from tests.support.daemon import consuming
from tests.support.messages import good, mixed, publish
from tests.support.oracle import TABLE, assert_everything, held
from tests.support.pgbouncer import PgBouncer, pgbouncer_program
from tests.support.postgres_server import PostgresServer
from tests.support.postgres_standby import PostgresStandby, listed
from tests.support.process import Dvctl
from tests.support.recovering import group_on
from tests.support.rows import select
from tests.support.server import wait_until

pytestmark = [pytest.mark.faults]


SAFE = "synchronous_commit=on"
"""Each server keeps what it has committed when it is killed."""


class Pair(NamedTuple):
    """A primary and its standby. `url`: both, the standby first; `here`, `there`: each alone."""

    primary: PostgresServer
    standby: PostgresStandby
    url: str
    here: str
    there: str

    def fail_over(self) -> None:
        """Kill the primary, and promote the standby."""
        self.primary.kill9()
        self.standby.promote()


@pytest.fixture
def pair(new_postgres: Callable[..., PostgresServer], new_standby: Callable[..., PostgresStandby]) -> Pair:
    """A primary with a database of DeviceVault's, and an asynchronous standby that has caught up."""
    primary = new_postgres(SAFE)
    here = primary.database()
    standby = new_standby(primary, SAFE)
    standby.wait_streaming()
    database = here.rpartition("/")[2]
    return Pair(primary, standby, listed(standby, primary, database=database), here, standby.url_for(database))


def rows(url: str, server: PostgresServer) -> int:
    [(count,)] = server.execute(f"SELECT count(*) FROM {TABLE}", database=url)
    return int(count)


def test_what_the_standby_lacked_is_back(
    redis_url: str, pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No message has to come for the rows to come back; an old primary that comes back gets none."""
    monkeypatch.setattr(failover, "IDLE_LOOK_S", 0.5)
    with consuming(redis_url, pair.there, database_through=pair.url) as daemon:
        daemon.publish(mixed(100))
        daemon.wait_settled()
        pair.standby.cut_off()
        daemon.publish(mixed(300, seed=2))
        daemon.wait_settled()
        lacking = rows(pair.here, pair.primary) - rows(pair.there, pair.standby)
        assert lacking > 100
        pair.fail_over()
        counters = daemon.worker.counters
        wait_until(lambda: counters.recovered, what="the rows to be restored")
        monkeypatch.setattr(failover, "IDLE_LOOK_S", 1000.0)  # from now on the next message has to notice
        daemon.publish(mixed(100, seed=3))
        daemon.all_once()
        assert counters.recovered == lacking
        assert counters.rechecked >= lacking
        assert [record.levelname for record in caplog.records if "missing rows restored" in record.message] == ["ERROR"]
        with group_on(redis_url) as group:
            [incident] = written_to_incidents(group.stream)
        assert f"{lacking} missing rows restored" in incident
        assert f"127.0.0.1:{pair.standby.port}/" in incident, "it names the server that was found"

        pair.standby.kill9()
        pair.primary.start()
        before = rows(pair.here, pair.primary)
        daemon.hold(good(20, seed=4))
        wait_until(lambda: "is an old primary" in caplog.text, what="the alarm")
        assert rows(pair.here, pair.primary) == before
        pair.standby.start()
        daemon.all_once()
        assert rows(pair.here, pair.primary) == before
    assert counters.recovered == lacking


def written_to_incidents(stream: Stream) -> list[str]:
    """The details of the recorded incidents about restored rows."""
    from devicevault_cli.operations.monitoring.incidents import every_incident

    return [incident.detail for incident in every_incident(stream) if incident.kind == "rows-restored"]


class Died(BaseException):
    """The process ends here."""


def test_a_process_that_dies_while_it_looks_up_begins_again(
    stream: Stream, redis_url: str, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody consumed during the fail-over: where the entries begin stands beside the stream."""
    with redis.Redis.from_url(redis_url) as client, closing(open_repository(pair.url, TABLES[RESULTS.table])) as table:
        sent = publish(client, good(5))
        drain(stream, table)
        pair.standby.wait_streaming()
        pair.standby.cut_off()
        sent += publish(client, good(300, seed=2))
        drain(stream, table)
        pair.fail_over()
        table.close()
        assert rows(pair.there, pair.standby) == 5

        original = FailoverWatch._count

        def dies(watch: FailoverWatch, found: int) -> None:
            if watch._counters.rechecked:
                raise Died
            original(watch, found)

        with monkeypatch.context() as patched, pytest.raises(Died):
            patched.setattr(FailoverWatch, "_count", dies)
            drain(stream, table)
        again = drain(stream, table)
        assert 0 < again.counters.recovered < 300
        assert_everything(redis_url, pair.there, sent)
        last = drain(stream, table)
    assert last.counters.rechecked == 0, "the server is known by now"


def test_two_processes_meet_the_promoted_standby(redis_url: str, pair: Pair, dvctl: Dvctl) -> None:
    """Each restores what it finds missing, and every row is there once; the answer counts them."""
    dvctl.use(redis_url, pair.url)
    with redis.Redis.from_url(redis_url) as client:
        sent = publish(client, mixed(60))
        dvctl.ok("consume", "--drain")
        pair.standby.wait_streaming()
        for url, followed in ((pair.here, True), (pair.there, False)):
            with closing(open_repository(url, TABLES[TABLE])) as table:
                assert table.may_fail_over() is followed, "trim keeps nothing where nobody could take over"
        pair.standby.cut_off()
        sent += publish(client, mixed(400, seed=2))
        dvctl.ok("consume", "--drain")
        pair.fail_over()
        sent += publish(client, mixed(60, seed=3))
    both = [dvctl.start("consume", "--drain", "--batch-size", "20", "-o", "json") for _ in range(2)]
    answers = [running.wait() for running in both]
    assert [answer.code for answer in answers] == [0, 0], [answer.stderr for answer in answers]
    assert sum(answer.json()["recovered"] for answer in answers) > 100
    assert_everything(redis_url, pair.there, sent)
    assert dvctl.json("verify")["ok"] is True
    checks = {check["name"]: check for check in dvctl.json("doctor")["checks"]}
    assert f"127.0.0.1:{pair.standby.port}/" in checks["database"]["detail"]
    assert "timeline 2" in checks["database-server"]["detail"]
    assert checks["incidents"]["status"] == "warning"
    blocked = dvctl.json("trim", "--dry-run")["blocked_by"]
    assert any("fail-over" in block["why"] for block in blocked)


def test_every_one_of_several_streams_is_looked_up_again(redis_url: str, pair: Pair, dvctl: Dvctl) -> None:
    """By one process, whose streams share the database; each stream remembers the server that it was written to."""
    streams = [f"device:results:{{{number}}}" for number in range(2)]
    dvctl.use(redis_url, pair.url, DEVICEVAULT_RESULTS_STREAM="device:results:{0..1}")
    with redis.Redis.from_url(redis_url) as client:
        for number, stream in enumerate(streams):
            publish(client, good(20, seed=number), stream=stream)
        dvctl.ok("consume", "--drain")
        pair.standby.wait_streaming()
        pair.standby.cut_off()
        for number, stream in enumerate(streams):
            publish(client, good(150, seed=10 + number), stream=stream)
        dvctl.ok("consume", "--drain")
        assert rows(pair.here, pair.primary) == 340
        pair.fail_over()
        lacking = 340 - rows(pair.there, pair.standby)
        for number, stream in enumerate(streams):
            publish(client, good(5, seed=20 + number), stream=stream)
        answer = dvctl.json("consume", "--drain")
        assert (answer["persisted"], answer["recovered"]) == (10, lacking)
        assert rows(pair.there, pair.standby) == 350
        with closing(connect(redis_url)) as own:
            assert all(written_to_incidents(Stream(own, stream)) for stream in streams), "each tells of it"
    assert dvctl.json("verify")["ok"] is True

    pair.standby.kill9()
    pair.primary.start()
    refused = dvctl.run("consume", "--drain")
    assert (refused.code, "is an old primary" in refused.stderr) == (69, True)
    assert dvctl.run("db", "accept", "--yes").code == 2, "which stream?"
    assert dvctl.json("db", "accept", "--all-streams", "--yes")["applied"] is True
    dvctl.ok("consume", "--drain")


@pytest.fixture
def pooled(pair: Pair) -> Iterator[PgBouncer]:
    """A PgBouncer in transaction mode, which leads to the primary."""
    program = pgbouncer_program()
    if program is None:
        servers.unavailable("no pgbouncer on this machine")
    bouncer = PgBouncer(program, pair.here)
    yield bouncer
    bouncer.remove()


def test_pgbouncer_leads_to_another_server(
    redis_url: str, pair: Pair, pooled: PgBouncer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection stands, but behind it the server changes: each transaction tells its timeline."""
    monkeypatch.setattr(failover, "IDLE_LOOK_S", 1000.0)  # the transaction itself has to notice
    with consuming(redis_url, pair.there, database_through=pooled.url) as daemon:
        daemon.publish(mixed(60))
        daemon.wait_settled()
        pair.standby.cut_off()
        daemon.publish(mixed(200, seed=2))
        daemon.wait_settled()
        pair.standby.promote()
        pooled.lead_to(pair.there)
        wait_until(lambda: port_behind(pooled) == pair.standby.port, what="PgBouncer to use the other server")
        pair.primary.kill9()
        daemon.publish(mixed(60, seed=3))
        daemon.all_once()
        assert daemon.worker.counters.recovered > 50

        pair.primary.start()
        before = rows(pair.here, pair.primary)
        pooled.lead_to(pair.here)
        pair.standby.kill9()
        daemon.hold(good(20, seed=4))
        pair.standby.start()
        pooled.lead_to(pair.there)
        daemon.all_once()
    assert before <= rows(pair.here, pair.primary)


def port_behind(bouncer: PgBouncer) -> int:
    """The port of the server that PgBouncer leads to now."""
    [(port,)] = select(bouncer.url, "SELECT inet_server_port()")
    return int(port)


# --- without a standby


def test_a_frozen_host_does_not_hold_up_the_others(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert postgres_connection.CONNECT_TO_ONE_OF_SEVERAL["connect_timeout"] == "3"
    monkeypatch.setitem(postgres_connection.CONNECT_TO_ONE_OF_SEVERAL, "connect_timeout", "2")
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        place = f"127.0.0.1:{frozen.getsockname()[1]}"
        _, _, rest = postgres_url.partition("@")
        real, _, name = rest.partition("/")
        for url in (
            f"postgresql://postgres@{place},{real}/{name}",
            f"postgresql://postgres@/{name}?host={place}&host={real}",
        ):
            began = time.monotonic()
            with closing(open_repository(url, TABLES[RESULTS.table])) as table:
                table.check()
                assert table.where == f"PostgreSQL {real}/{name}"
            assert time.monotonic() - began < 30
        with closing(open_repository(f"postgresql://postgres@{place},127.0.0.1:1/{name}", TABLES[TABLE])) as table:
            with pytest.raises(Unavailable) as caught:
                table.check()
            assert f"{place}: connection timeout expired; 127.0.0.1:1: " in str(caught.value)


def test_an_old_primary_and_how_it_is_accepted(redis_url: str, postgres_url: str, dvctl: Dvctl) -> None:
    """Every command that relies on the rows refuses it; accepted, it is looked through first."""
    dvctl.use(redis_url, postgres_url)
    with redis.Redis.from_url(redis_url) as client:
        sent = publish(client, good(30))
        dvctl.ok("consume", "--drain")
        with group_on(redis_url) as group:
            stored = written_to.read(group)
            assert stored.known is not None
            assert stored.known.timeline == 1
            newer = written_to.WrittenTo("1", 3, "0/1", stored.known.recheck_ms, stored.known.marks)
            assert written_to.remember(group, stored, newer)
        sent += publish(client, good(10, seed=2))
        with held(redis_url):
            for words in (
                ["consume", "--drain"],
                ["replay", "--missing", "--yes"],
                ["trim", "--yes"],
                ["verify", "--repair", "--yes"],
            ):
                answer = dvctl.run(*words)
                assert answer.code == 69, (words, answer.stderr)
                assert "belongs to another cluster (system identifier" in answer.stderr
                assert "dvctl db accept" in answer.stderr
        doctor = dvctl.run("doctor", "-o", "json")
        assert doctor.code == 3
        assert [c["status"] for c in doctor.json()["checks"] if c["name"] == "database-server"] == ["problem"]
        with group_on(redis_url) as group:
            before = written_to.read(group)
            assert dvctl.json("db", "accept", "--dry-run")["timeline_before"] == 3
            assert written_to.read(group) == before
        told = dvctl.json("db", "accept", "--yes")
        assert (told["timeline"], told["timeline_before"], told["applied"]) == (1, 3, True)
        answer = dvctl.json("consume", "--drain")
        assert answer["rechecked"] == 30
        assert answer["recovered"] == 0
        assert "nothing to accept" in dvctl.ok("db", "accept", "--yes").stderr
    assert_everything(redis_url, postgres_url, sent)


def test_a_commit_waits_for_a_synchronous_standby(
    redis_url: str,
    new_postgres: Callable[..., PostgresServer],
    new_standby: Callable[..., PostgresStandby],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    dvctl: Dvctl,
) -> None:
    """It is no loss, and no success either, however long the server would wait: it stays an outage."""
    monkeypatch.setattr(pipeline, "ANSWER_S", 2.0)
    monkeypatch.setattr(statements, "STATEMENT_MS", 500)  # ends no commit that waits
    monkeypatch.setattr(statements, "LOCK_MS", 1000)
    server = new_postgres(SAFE)
    url = server.database()
    server.execute("ALTER SYSTEM SET synchronous_standby_names = 'backup'", "SELECT pg_reload_conf()")
    shown = "SELECT current_setting('synchronous_standby_names')"
    wait_until(lambda: server.execute(shown) == [("backup",)], what="the setting")
    with consuming(redis_url, url) as daemon:
        daemon.hold(good(20))
        assert "synchronous standby" in caplog.text
        dvctl.use(redis_url, url)
        found = {check["name"]: check for check in dvctl.run("doctor", "-o", "json").json()["checks"]}
        assert found["synchronous-standby"]["status"] == "problem"
        assert "0 of 1 synchronous standbys are connected" in found["synchronous-standby"]["detail"]
        new_standby(server, name="backup")
        daemon.all_once()
    found = {check["name"]: check for check in dvctl.run("doctor", "-o", "json").json()["checks"]}
    assert found["synchronous-standby"]["status"] == "ok"
