"""How the server of a stream is found, by nodes and Sentinels that say what the test wants."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

import pytest

from devicevault_cli.consumer import retry
from devicevault_cli.errors import BadConfig, Unavailable
from devicevault_cli.redis_url import parse_redis_url
from devicevault_cli.streams import topology
from devicevault_cli.streams.connect import connect, place, separate
from devicevault_cli.streams.stream import Stream
from tests.field.other_servers import answering

STREAM = "device:results"


def bulk(*parts: object) -> bytes:
    """An array of RESP: integers, texts, arrays."""
    return b"*%d\r\n" % len(parts) + b"".join(
        part if isinstance(part, bytes) else b":%d\r\n" % part if isinstance(part, int) else text(str(part))
        for part in parts
    )


def text(value: str) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(value), value.encode())


@dataclass
class Node:
    """What a server answers to each command, and which commands it was sent."""

    answers: dict[str, bytes] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    port: int = 0

    def __call__(self, command: str) -> bytes | None:
        self.sent.append(command)
        return self.answers.get(command, b"+OK\r\n")

    def asked(self, command: str) -> int:
        return self.sent.count(command)


@pytest.fixture
def start() -> Iterator[Callable[..., Node]]:
    """Start a server: `start(EXISTS=b":1\\r\\n")`."""
    with ExitStack() as running:

        def started(**answers: bytes) -> Node:
            node = Node(answers)
            url = running.enter_context(answering(node))
            node.port = int(url.rpartition(":")[2])
            return node

        yield started


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts connections and says nothing, as a process that is stopped does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ASK_TIMEOUT_S", "SILENCE_S"):
        monkeypatch.setattr(topology, name, 0.3)


def slots(port: int, host: str = "127.0.0.1") -> bytes:
    return bulk(bulk(0, 16383, bulk(host, port, "id")))


def master(port: int, flags: str = "master", others: int = 2) -> bytes:
    return bulk("ip", "127.0.0.1", "port", port, "flags", flags, "num-other-sentinels", str(others)).replace(
        b":%d\r\n" % port, text(str(port))
    )


def cluster(*ports: int) -> str:
    return "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports)


def sentinels(*ports: int) -> str:
    return "redis+sentinel://" + ",".join(f"127.0.0.1:{port}" for port in ports) + "/main"


def test_the_node_that_serves_the_slot_is_used(start: Callable[..., Node]) -> None:
    serving, asked = start(EXISTS=b":1\r\n"), start()
    low = topology.slot_of(STREAM)
    other = bulk(0, low - 1, bulk("127.0.0.1", asked.port, "a")), bulk(low + 1, 16383, bulk("127.0.0.1", 1, "c"))
    asked.answers["CLUSTER"] = bulk(other[0], bulk(low, low, bulk("127.0.0.1", serving.port, "b")), other[1])
    with closing(connect(cluster(asked.port), STREAM)) as client:
        Stream(client, STREAM).ping()
        Stream(client, STREAM).ping()
        assert place(client) == f"127.0.0.1:{serving.port} (Redis Cluster)"
    assert (serving.asked("EXISTS"), asked.asked("CLUSTER")) == (2, 1), "asked when connecting, not for each command"


@pytest.mark.parametrize("host", ["", "?"])
def test_a_node_that_does_not_know_its_address_is_the_one_that_was_asked(start: Callable[..., Node], host: str) -> None:
    node = start(EXISTS=b":1\r\n")
    node.answers["CLUSTER"] = slots(node.port, host)
    with closing(connect(cluster(node.port), STREAM)) as client:
        Stream(client, STREAM).ping()


def test_a_silent_node_is_waited_for_once(start: Callable[..., Node], silent: int) -> None:
    node = start(EXISTS=b":1\r\n")
    node.answers["CLUSTER"] = slots(node.port)
    with closing(connect(cluster(silent, node.port), STREAM)) as client:
        Stream(client, STREAM).ping()
        client.connection_pool.disconnect()
        begun = time.monotonic()
        topology.topology_of(client).find()  # type: ignore[union-attr]
        assert time.monotonic() - begun < topology.ASK_TIMEOUT_S
    assert node.asked("CLUSTER") == 2


@pytest.mark.parametrize(
    "error",
    ["MOVED 5192 127.0.0.1:1", "ASK 5192 127.0.0.1:1", "READONLY You can't write against a read only replica.",
     "NOREPLICAS Not enough good replicas to write.", "MASTERDOWN Link with MASTER is down", "LOADING Redis is loading",
     "CLUSTERDOWN Hash slot not served", "UNBLOCKED force unblock from blocking operation",
     "ERR Error running script: @user_script: -READONLY You can't write"],
)  # fmt: skip
def test_after_such_an_answer_the_server_is_looked_up_again(start: Callable[..., Node], error: str) -> None:
    """Also by the other connections, those of another thread included."""
    old, new = start(EXISTS=b":1\r\n"), start(EXISTS=b":1\r\n")
    asked = start(CLUSTER=slots(old.port))
    with closing(connect(cluster(asked.port), STREAM)) as client, closing(separate(client, 5.0)) as beside:
        for separated in (client, beside):
            Stream(separated, STREAM).ping()
        old.answers["EXISTS"] = f"-{error}\r\n".encode()
        asked.answers["CLUSTER"] = slots(new.port)
        with pytest.raises(Unavailable) as caught:
            Stream(beside, STREAM).ping()
        assert caught.value.server == "redis"
        assert "fail-over" in str(caught.value.hint) or "loading" in str(caught.value.hint)
        for separated in (client, beside):
            Stream(separated, STREAM).ping()
    assert new.asked("EXISTS") == 2


def test_an_ordinary_error_keeps_the_connection(start: Callable[..., Node]) -> None:
    node = start(EXISTS=b"-WRONGTYPE no\r\n")
    node.answers["CLUSTER"] = slots(node.port)
    with closing(connect(cluster(node.port), STREAM)) as client:
        for _ in range(2):
            with pytest.raises(Exception, match="another type"):
                Stream(client, STREAM).ping()
    assert node.asked("CLUSTER") == 1


def test_a_server_that_falls_silent_is_left_once_another_has_taken_over(start: Callable[..., Node]) -> None:
    """Long before the time-out of the read."""
    old, new = start(EXISTS=b""), start(EXISTS=b":1\r\n")
    asked = start(CLUSTER=slots(old.port))
    with closing(connect(cluster(asked.port), STREAM, socket_timeout=30)) as client:
        begun = time.monotonic()
        with pytest.raises(Unavailable, match="does not answer"):
            _use_and_move(client, asked, new)
        assert time.monotonic() - begun < 15
        Stream(client, STREAM).ping()
    assert new.asked("EXISTS") == 1


def _use_and_move(client: object, asked: Node, new: Node) -> None:
    first = asked.answers["CLUSTER"]

    class Moving(dict[str, bytes]):
        def get(self, command: str, default: bytes = b"") -> bytes:  # type: ignore[override]
            if command == "CLUSTER":
                return slots(new.port) if asked.asked("CLUSTER") > 2 else first
            return default

    asked.answers = Moving()
    Stream(client, STREAM).ping()  # type: ignore[arg-type]


def test_a_server_that_is_only_slow_is_waited_for(start: Callable[..., Node]) -> None:
    node = start(EXISTS=b"")
    asked = start(CLUSTER=slots(node.port))
    with (
        closing(connect(cluster(asked.port), STREAM, socket_timeout=1.0)) as client,
        pytest.raises(Unavailable, match="does not answer"),
    ):
        Stream(client, STREAM).ping()
    assert node.asked("EXISTS") == 1
    assert asked.asked("CLUSTER") >= 3


def test_another_node_is_asked_where_the_one_named_is_away(start: Callable[..., Node]) -> None:
    """A node that is cut off goes on naming a master that is dead."""
    new = start(EXISTS=b":1\r\n")
    behind, knowing = start(CLUSTER=slots(1)), start(CLUSTER=slots(new.port))
    with closing(connect(cluster(behind.port, knowing.port), STREAM)) as client:
        with pytest.raises(Unavailable, match="cannot be reached"):
            Stream(client, STREAM).ping()
        Stream(client, STREAM).ping()


def test_a_sentinel_that_is_alone_or_sees_the_master_down_is_passed_over(start: Callable[..., Node]) -> None:
    new = start(EXISTS=b":1\r\n", ROLE=bulk("master", 1, bulk()))
    alone, behind = start(SENTINEL=master(1, others=0)), start(SENTINEL=master(1, "master,s_down"))
    knowing = start(SENTINEL=master(new.port))
    with closing(connect(sentinels(alone.port, behind.port, knowing.port), STREAM)) as client:
        Stream(client, STREAM).ping()
        assert place(client) == f"127.0.0.1:{new.port} (master main)"
    with (
        closing(connect(sentinels(alone.port, behind.port), STREAM)) as client,
        pytest.raises(Unavailable, match="names no master main"),
    ):
        Stream(client, STREAM).ping()


def test_what_the_sentinels_name_must_be_a_master(start: Callable[..., Node]) -> None:
    replica = start(EXISTS=b":1\r\n", ROLE=bulk("slave", "127.0.0.1", 1, "connected", 1))
    sentinel = start(SENTINEL=master(replica.port))
    with closing(connect(sentinels(sentinel.port), STREAM)) as client:
        with pytest.raises(Unavailable, match="is not a master now"):
            Stream(client, STREAM).ping()
        replica.answers["ROLE"] = b"-NOPERM this user has no permissions to run the 'role' command\r\n"
        Stream(client, STREAM).ping()


def test_an_old_master_that_still_answers_is_left(start: Callable[..., Node], monkeypatch: pytest.MonkeyPatch) -> None:
    """While the Sentinels move a master that is well, it takes commands for seconds."""
    role = bulk("master", 1, bulk())
    old, new = start(EXISTS=b":1\r\n", ROLE=role), start(EXISTS=b":1\r\n", ROLE=role)
    sentinel = start(SENTINEL=master(old.port))
    with closing(connect(sentinels(sentinel.port), STREAM)) as client:
        Stream(client, STREAM).ping()
        sentinel.answers["SENTINEL"] = master(new.port)
        Stream(client, STREAM).ping()
        assert new.asked("EXISTS") == 0, "not asked for each command"
        monkeypatch.setattr(topology, "LOOK_S", 0.0)
        topology.topology_of(client).find()  # type: ignore[union-attr]
        time.sleep(0.01)
        Stream(client, STREAM).ping()
        sentinel.answers["SENTINEL"] = b"-ERR cannot say\r\n"
        Stream(client, STREAM).ping()
    assert (old.asked("EXISTS"), new.asked("EXISTS")) == (2, 2)


def test_streams_are_looked_for_on_every_node(start: Callable[..., Node]) -> None:
    def page(*names: str) -> bytes:
        return bulk("0", bulk(*names))

    mine, other = start(SCAN=page("a", "a:dead")), start(SCAN=page("b"))
    low = topology.slot_of(STREAM)
    told = bulk(
        bulk(0, low, bulk("127.0.0.1", mine.port, "m")),
        bulk(low + 1, 16000, bulk("127.0.0.1", other.port, "o")),
        bulk(16001, 16383, bulk("127.0.0.1", 1, "away")),
    )
    mine.answers["CLUSTER"] = told
    with closing(connect(cluster(mine.port), STREAM)) as client:
        assert Stream(client, STREAM).neighbours() == ["a", "b"]


def test_redis_is_asked_again_within_five_seconds() -> None:
    of_redis, of_database = Unavailable("away"), Unavailable("away")
    of_redis.server = "redis"
    assert retry._longest_wait_s(of_redis) == 5.0
    assert retry._longest_wait_s(of_database) == 30.0


def test_names_that_would_leave_the_slot_are_refused() -> None:
    for name in ("a}b", "{}x", "a{}{b}"):
        with pytest.raises(BadConfig, match="another hash slot"):
            connect("redis+cluster://h", name)


def test_what_a_url_says() -> None:
    found = parse_redis_url("rediss+sentinel://u:p%2Cw@a,[::1]:5/m%2Fn/2?sentinel_password=x%26y&socket_timeout=3")
    assert found.plain == "rediss://u:p%2Cw@a/2?socket_timeout=3"
    assert (found.kind, found.nodes) == ("sentinel", (("a", 26379), ("::1", 5)))
    assert (found.service, found.sentinel_username, found.sentinel_password) == ("m/n", None, "x&y")
    assert found.places == "a:26379,[::1]:5"
    single = parse_redis_url("redis://h/1")
    assert (single.kind, single.plain, single.meaning) == ("single", "redis://h/1", "")
