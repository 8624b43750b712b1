"""The proxy loses what it is told to lose, nothing else, and reports its own death."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import psycopg
import pymysql
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.proxy import DatabaseProxy, Proxy, RedisProxy
from tests.support.resp import Frames, command_name

INSERT = (
    "INSERT INTO devices_devicebackupresult (task_id, task_identifier, device_id, status, timestamp, log)"
    " VALUES ('', 'job', 1, 'success', '2026-01-01', '[]')"
)


def client(url: str, **options: object) -> redis.Redis:
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **({"socket_timeout": 60} | options))


def soon_tired(url: str) -> redis.Redis:
    """Where no answer is expected."""
    return client(url, socket_timeout=0.5, socket_connect_timeout=60)


@pytest.fixture
def proxy(redis_url: str) -> Iterator[RedisProxy]:
    with RedisProxy(redis_url) as made:
        yield made


@pytest.mark.parametrize("step", [1, 2, 7, 10_000])
def test_frames_are_cut_wherever_the_bytes_are_split(step: int) -> None:
    frames = [
        b"*2\r\n$4\r\nXLEN\r\n$3\r\na\r\n\r\n",
        b"+OK\r\n",
        b"*-1\r\n",
        b"$-1\r\n",
        b"$0\r\n\r\n",
        b"*0\r\n",
        b"%1\r\n+a\r\n*2\r\n:1\r\n*1\r\n$1\r\nx\r\n",
        b">2\r\n+push\r\n_\r\n",
        b"-ERR no\r\n",
        b"*2\r\n*0\r\n*1\r\n*1\r\n:5\r\n",
    ]
    data, cutter, found = b"".join(frames), Frames(), []
    for start in range(0, len(data), step):
        found += cutter.feed(data[start : start + step])
    assert found == frames
    assert command_name(frames[0]) == "XLEN"


def test_what_is_no_resp_is_an_error() -> None:
    with pytest.raises(ValueError, match="no RESP"):
        Frames().feed(b"GET / HTTP/1.1\r\n")


@pytest.mark.parametrize("protocol", [2, 3])
def test_everything_passes(proxy: RedisProxy, protocol: int) -> None:
    with client(proxy.url, protocol=protocol) as through:
        big = b"\r\n$x" * 100_000
        through.xadd("stream", {"field": big})
        assert through.xrange("stream")[0][1][b"field"] == big
        with through.pipeline() as pipeline:
            assert pipeline.set("a", 1).get("a").execute() == [True, b"1"]


@pytest.mark.parametrize("then", ["cut", "silence"])
def test_the_reply_of_the_second_xadd_is_lost_but_it_happened(proxy: RedisProxy, redis_url: str, then: str) -> None:
    loss = proxy.lose_reply("XADD", nth=2, then=then)  # type: ignore[arg-type]
    with client(proxy.url) as through, client(redis_url) as direct:
        through.xadd("stream", {"n": 1})
        with (
            soon_tired(proxy.url) as hearing_nothing,
            pytest.raises(redis.ConnectionError if then == "cut" else redis.TimeoutError),
        ):
            hearing_nothing.xadd("stream", {"n": 2})
        loss.wait()
        assert direct.xlen("stream") == 2
        through.xadd("stream", {"n": 3})
        assert direct.xlen("stream") == 3


def test_only_the_frame_with_the_given_bytes_is_lost(proxy: RedisProxy) -> None:
    proxy.lose_reply("XADD", containing=b"second")
    with client(proxy.url) as through:
        through.xadd("stream", {"n": "first"})
        with pytest.raises(redis.ConnectionError):
            through.xadd("stream", {"n": "second"})


def test_a_blackhole_answers_nothing_until_it_is_healed(proxy: RedisProxy) -> None:
    proxy.blackhole()
    with soon_tired(proxy.url) as hearing_nothing, pytest.raises(redis.TimeoutError):
        hearing_nothing.ping()
    proxy.heal()
    with client(proxy.url) as through:
        assert through.ping()


def test_a_cut_connection_is_reset(proxy: RedisProxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port)) as speaker:
        speaker.sendall(b"*1\r\n$4\r\nPING\r\n")
        assert speaker.recv(100) == b"+PONG\r\n"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            speaker.recv(100)


def test_connections_are_refused_until_it_is_healed(proxy: RedisProxy) -> None:
    proxy.refuse = True
    with client(proxy.url) as through:
        with pytest.raises(redis.ConnectionError):
            through.ping()
        proxy.heal()
        assert through.ping()


def test_its_own_death_is_reported(redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError, match="the proxy failed"):
        _break_a_proxy(redis_url)
    assert "no RESP" in capsys.readouterr().err


def _break_a_proxy(redis_url: str) -> None:
    with RedisProxy(redis_url) as proxy, socket.create_connection(("127.0.0.1", proxy.port)) as speaker:
        speaker.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises(ConnectionError):
            speaker.recv(1)


def test_the_reply_of_a_commit_is_lost_but_the_row_is_there(postgres_url: str) -> None:
    with DatabaseProxy(postgres_url) as proxy:
        loss = proxy.lose_reply(b"COMMIT")
        with psycopg.connect(proxy.url) as connection:
            connection.execute(INSERT)
            with pytest.raises(psycopg.OperationalError):
                connection.commit()
        loss.wait()
    assert rows(postgres_url) == 1


def test_the_reply_of_a_pipeline_that_commits_itself_is_lost(postgres_url: str) -> None:
    with DatabaseProxy(postgres_url) as proxy:
        loss = proxy.lose_reply(b"INSERT INTO")
        with (
            psycopg.connect(proxy.url, autocommit=True) as connection,
            pytest.raises(psycopg.OperationalError),
            connection.pipeline(),
        ):
            connection.execute(INSERT)
        loss.wait()
    assert rows(postgres_url) == 1


def test_the_reply_of_mariadb_is_lost_likewise(mariadb_url: str) -> None:
    with DatabaseProxy(mariadb_url) as proxy:
        loss = proxy.lose_reply(b"\x03COMMIT")
        database = mariadb_url.rpartition("/")[2]
        connection = pymysql.connect(host="127.0.0.1", port=proxy.port, user="root", database=database)
        connection.cursor().execute(INSERT)
        with pytest.raises(pymysql.err.OperationalError):
            connection.commit()
        loss.wait()


def rows(url: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT count(*) FROM devices_devicebackupresult").fetchone()
    assert found is not None
    return int(found[0])


def test_a_plain_proxy_forwards(redis_url: str) -> None:
    with Proxy(redis_url) as proxy, client(proxy.url) as through:
        assert through.ping()
