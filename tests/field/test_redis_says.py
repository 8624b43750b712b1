"""What Redis says when it refuses, or is no usable Redis: in words to act on, never with a part of a command."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis

from devicevault_cli.errors import BadConfig, DvctlError
from devicevault_cli.output.traces import chain
from devicevault_cli.streams.connect import connect, translated
from devicevault_cli.streams.stream import Stream
from tests.cli.conftest import Answer, Cli
from tests.field.other_servers import (
    address_from_outside,
    answering,
    cluster_of_two,
    sentinel,
    web_server,
)
from tests.support import servers
from tests.support.daemon import consuming
from tests.support.messages import mixed
from tests.support.process import Dvctl
from tests.support.proxy import RedisProxy
from tests.support.redis_server import RedisKind, RedisServer
from tests.support.server import wait_until

SECRET = "T0PS3CR3T"
STREAM = "device:results"


@pytest.fixture(params=servers.redis_params())
def own_redis(request: pytest.FixtureRequest, new_redis: Callable[..., RedisServer]) -> Callable[..., RedisServer]:
    """`new_redis` of each version there is."""
    kind: RedisKind | None = request.param
    return lambda *args, **options: new_redis(*args, kind=kind, **options)


def said(answer: Answer, code: int, *words: str) -> None:
    """One error that says these words, with this exit code."""
    assert answer.code == code, answer
    assert answer.err.count("error: ") == 1, answer.err
    for word in words:
        assert word in answer.err, answer.err
    assert SECRET not in answer.err + answer.out


# --- no part of a command in any error


def messages() -> list[dict[str, str]]:
    """A message for each place in which the configuration can stand, and one that is a secret throughout."""
    fields = {
        "task_id": "t-1",
        "task_identifier": "collect:1:x",
        "device_id": "1",
        "status": "success",
        "log": "[]",
        "collection_duration_ms": "5",
        "initiated_at": "",
    }
    names = list(fields)
    orders = [[*names[:place], "device_config", *names[place:]] for place in range(len(names) + 1)]
    secret = {"device_config": f"enable {SECRET}\n of pipeline caused error: {SECRET}", "enable": SECRET}
    found = [{name: (fields | secret)[name] for name in order} for order in orders]
    return [*found, {f"{SECRET}{number}": f"'{SECRET}'" for number in range(9)}, {f"{SECRET}": f"`{SECRET}` caused"}]


def nothing_told(answers: list[Answer], folder: Path, given: set[Path]) -> None:
    """Neither in what was said nor in what was written (journal, snapshots)."""
    for answer in answers:
        assert answer.code != 0, answer
        assert SECRET not in answer.out + answer.err, answer
        assert "-- KEYS" not in answer.err, "the text of a script is part of a command too"
        assert "an error in dvctl" not in answer.err
    for path in folder.rglob("*"):
        if path.is_file() and path not in given:
            assert SECRET.encode() not in path.read_bytes(), path


@contextmanager
def _acl(server: RedisServer) -> Iterator[str]:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-xadd", "-eval")
    yield server.url_for("u", "p")


@contextmanager
def _replica(server: RedisServer) -> Iterator[str]:
    with server.client() as client:
        client.config_set("replica-serve-stale-data", "yes")
        client.replicaof("127.0.0.1", "1")
        yield server.url
        client.replicaof("NO", "ONE")
        client.execute_command("DEBUG", "CHANGE-REPL-ID")  # it forgets that it was one


@contextmanager
def _full(server: RedisServer) -> Iterator[str]:
    with server.client() as client:
        client.config_set("maxmemory", "1")
        yield server.url
        client.config_set("maxmemory", "0")


@contextmanager
def _exhausted(server: RedisServer) -> Iterator[str]:
    """Of the streams that are written to, the last id is the largest."""
    last = f"{2**64 - 1}-{2**64 - 1}"
    with server.client() as client:
        for key in (STREAM, "{device:results}:dead"):
            client.xadd(key, {"a": "b"})
            client.execute_command("XSETID", key, last)
        yield server.url


@contextmanager
def _wrong_type(server: RedisServer) -> Iterator[str]:
    with server.client() as client:
        client.delete(STREAM, "{device:results}:dead")
        client.set(STREAM, "x")
        client.set("{device:results}:dead", "x")
        yield server.url
        client.flushall()


@contextmanager
def _unsaved(server: RedisServer) -> Iterator[str]:
    """MISCONF: the last snapshot failed."""
    in_the_way = server.directory / "dump.rdb"
    in_the_way.mkdir()
    with server.client() as client:
        client.config_set("save", "3600 1000000")
        client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", what="the snapshot to fail")
        yield server.url
        client.config_set("save", "")
    in_the_way.rmdir()


WAYS = (_acl, _replica, _full, _exhausted, _unsaved, _wrong_type)


def test_publish_tells_nothing_of_a_message_that_redis_refuses(
    cli: Cli, own_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    server = own_redis()
    answers = []
    files = set()
    for way in WAYS:
        with way(server) as url:
            for number, message in enumerate(messages()):
                path = tmp_path / f"messages-{number}.jsonl"
                path.write_text(json.dumps(message) + "\n")
                files.add(path)
                answers.append(cli.at(url)("publish", "--file", str(path), "--verbose"))
                answers.append(cli.at(url)("publish", "--file", str(path), "-o", "json"))
    nothing_told(answers, tmp_path, files)
    assert {answer.code for answer in answers} == {1, 69, 77}


def test_publish_tells_nothing_where_the_command_is_not_known(
    cli: Cli, own_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    """Redis itself repeats the arguments of a command that it does not know."""
    server = own_redis("--rename-command", "XADD", "", "--rename-command", "EVAL", "")
    path = tmp_path / "messages.jsonl"
    answers = []
    for message in messages():
        path.write_text(json.dumps(message) + "\n")
        answers.append(cli.at(server.url)("publish", "--file", str(path), "--verbose"))
        said(answers[-1], 77, "XADD", "rename-command")
    nothing_told(answers, tmp_path, {path})


def test_the_installed_command_tells_nothing_either(
    dvctl: Dvctl, new_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    primary = new_redis()
    replica = new_redis("--replicaof", "127.0.0.1", str(primary.port))
    with replica.client() as client:
        wait_until(lambda: client.info("replication")["master_link_status"] == "up", what="the replica to follow")
    path = tmp_path / "messages.jsonl"
    path.write_text("".join(json.dumps(message) + "\n" for message in messages()))
    answer = dvctl.use(replica.url).run("publish", "--file", str(path), "-v")
    assert (answer.code, "it is a replica" in answer.stderr) == (69, True), answer.stderr
    assert SECRET not in answer.stdout + answer.stderr


def test_repairs_tell_nothing_of_what_they_write(
    cli: Cli, own_redis: Callable[..., RedisServer], sqlite_url: str, tmp_path: Path
) -> None:
    """Scripts: dead letters, their repair, copies; also in the journal."""
    server = own_redis()
    for way in WAYS:
        with server.client() as client:
            client.flushall()
            client.xadd(STREAM, {"device_id": "999", "device_config": SECRET, "task_identifier": "a"})
        at = cli.at(server.url, sqlite_url)
        assert at("consume", "--drain").code == 0
        with server.client() as client:
            client.xadd(STREAM, {"device_id": "998", "device_config": SECRET, "task_identifier": "b"})
        with way(server) as url:
            at = cli.at(url, sqlite_url)
            words = ["--yes", "--verbose"]
            answers = [
                at("dlq", "retry", "--all", "--set", f"device_config={SECRET}", "--set", "device_id=997", *words),
                at("replay", "--from", "0", "--republish", *words),
                at("consume", "--drain", "--max-wait", "1s", "--verbose"),
            ]
            for answer in answers:
                assert SECRET not in answer.out + answer.err, (way, answer)
                assert "-- KEYS" not in answer.err
                assert "an error in dvctl" not in answer.err, (way, answer)
    nothing_told([], tmp_path, set())


def test_nothing_of_a_transaction_or_a_pipeline_is_told(own_redis: Callable[..., RedisServer]) -> None:
    """Whatever way a later command takes to Redis: the error has lost the command, and so has its cause."""
    server = own_redis("--rename-command", "ZADD", "")
    with server.client() as plain:
        plain.set("text", "x")
    commands = (("XADD", "text", "*", SECRET, SECRET), ("ZADD", "z", "1", SECRET), ("XADD", STREAM, "0-0", "a", SECRET))
    with closing(connect(server.url)) as client:
        for command in commands:
            for transaction in (True, False):
                pipeline = client.pipeline(transaction=transaction)
                pipeline.execute_command("SET", "text2", SECRET)
                pipeline.execute_command(*command)
                with pytest.raises(DvctlError) as caught, translated(client):
                    pipeline.execute()
                assert SECRET not in "\n".join([*chain(caught.value), str(caught.value.__cause__)])
        with pytest.raises(DvctlError) as caught:
            Stream(client, "text").call_many([("XADD", "text", "*", "a", SECRET)])
        assert SECRET not in "\n".join(chain(caught.value))


def test_a_rejected_record_is_not_told(cli: Cli, redis_url: str, database_url: str, tmp_path: Path) -> None:
    """A database quotes the value that it refuses, PostgreSQL the whole row."""
    with redis.Redis.from_url(redis_url) as client:
        for log in (f'["{SECRET}"]', f'"{SECRET}"', SECRET, f'["{SECRET}\\u0000"]', f'["{SECRET}" \x00]'):
            client.xadd(STREAM, {"device_id": "1", "status": "success", "log": log, "task_id": SECRET * 20})
    at = cli.at(redis_url, database_url)
    answers = [at("consume", "--drain", "-v"), at("dlq", "list", "-v"), at("dlq", "retry", "--all", "--yes", "-v")]
    assert all(SECRET not in answer.out + answer.err for answer in answers), answers


# --- what is no usable Redis


def test_a_sentinel_is_called_one(cli: Cli, own_redis: Callable[..., RedisServer], sqlite_url: str) -> None:
    with sentinel(own_redis()) as url:
        for place in (f"{url}/0", f"{url}/1", url.replace("//", f"//:{SECRET}@") + "/1"):
            for words in (["status"], ["consume"], ["publish"], ["verify"]):
                said(cli.at(place, sqlite_url)(*words, "-v"), 78, "Sentinel", "primary", "redis+sentinel://")


def test_a_cluster_without_slots_and_its_databases_are_told(cli: Cli, own_redis: Callable[..., RedisServer]) -> None:
    server = own_redis("--cluster-enabled", "yes")
    said(cli.at(server.url)("status"), 69, "Redis Cluster")
    said(cli.at(server.url_for(db=1))("status"), 78, "Redis Cluster")


def test_a_node_that_points_elsewhere_is_told(cli: Cli, new_redis: Callable[..., RedisServer], sqlite_url: str) -> None:
    with cluster_of_two(new_redis) as (first, second):
        for words in (["status"], ["publish"], ["consume"], ["consume", "--drain"], ["pending"], ["doctor"]):
            hint = f"redis+cluster://127.0.0.1:{first.port}"
            said(cli.at(first.url, sqlite_url)(*words, "-v"), 78, "Redis Cluster node", hint)
        with first.client() as one, second.client() as two:
            slot = two.execute_command("CLUSTER", "KEYSLOT", STREAM)
            target = one.execute_command("CLUSTER", "MYID").decode()
            two.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target)
            with pytest.raises(redis.exceptions.AskError):
                two.exists(STREAM)
        said(cli.at(second.url, sqlite_url)("status", "-v"), 78, "Redis Cluster node")


@pytest.mark.parametrize("error", ["MOVED 1 127.0.0.1:1", "ASK 1 127.0.0.1:1", "ERR unknown command 'EVAL'"])
def test_a_consumer_at_work_waits_for_a_redis_that_says_so(redis_url: str, sqlite_url: str, error: str) -> None:
    """At the start a wrong address is an error; of one that was right it is an outage."""
    with RedisProxy(redis_url) as proxy, consuming(redis_url, sqlite_url, through=proxy.url) as daemon:
        daemon.publish(mixed(20))
        daemon.wait_settled()
        proxy.error = f"-{error}\r\n".encode()
        daemon.hold(mixed(30, seed=2))
        proxy.error = b""
        daemon.all_once()


def test_no_room_for_another_client_is_told(cli: Cli, own_redis: Callable[..., RedisServer], sqlite_url: str) -> None:
    server = own_redis("--maxclients", "1")
    with server.client() as only:
        # The connection that asked whether it was ready may not be gone yet.
        wait_until(lambda: _answers(only), what="the only place to be free")
        for place in (server.url, server.url_for(db=1), server.url_for(password=SECRET)):
            for words in (["status"], ["consume", "--drain"]):
                said(cli.at(place, sqlite_url)(*words), 69, "maximum number of clients", "maxclients")


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def test_without_scripts_nothing_begins(cli: Cli, own_redis: Callable[..., RedisServer], sqlite_url: str) -> None:
    """Else it fails at the first dead letter, when entries are in hand already."""
    server = own_redis("--rename-command", "EVAL", "")
    with server.client() as client:
        client.xadd(STREAM, {"device_id": "999"})
        for words in (["consume"], ["consume", "--drain"]):
            said(cli.at(server.url, sqlite_url)(*words), 77, "EVAL", "rename-command")
        assert client.xinfo_groups(STREAM) == [], "nothing was changed"
    found = _checks(cli.at(server.url, sqlite_url))["redis-scripts"]
    assert found["status"] == "problem"
    assert "EVAL" in found["detail"]


def test_without_the_right_to_scripts_nothing_begins(
    cli: Cli, own_redis: Callable[..., RedisServer], sqlite_url: str
) -> None:
    server = own_redis()
    with server.client() as client:
        client.xadd(STREAM, {"device_id": "999"})
        client.execute_command("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-eval")
        at = cli.at(server.url_for("u", "p"), sqlite_url)
        said(at("consume"), 77, "eval", "ACL SETUSER u +eval")
        assert client.xinfo_groups(STREAM) == [], "nothing was changed"
    found = _checks(at)["redis-scripts"]
    assert (found["status"], "+eval" in found["fix"]) == ("warning", True)


def _checks(at: Cli) -> dict[str, dict[str, str]]:
    answer = at("doctor", "-o", "json")
    assert answer.code in {0, 3}, answer
    return {row["name"]: row for row in answer.json["checks"]}


def test_doctor_finds_scripts_where_they_are(cli: Cli, redis_url: str) -> None:
    assert _checks(cli.at(redis_url))["redis-scripts"]["status"] == "ok"


def test_the_login_is_told_for_what_it_is(cli: Cli, own_redis: Callable[..., RedisServer]) -> None:
    open_, locked = own_redis(), own_redis(password="right")
    said(cli.at(locked.url_for(password=""))("status"), 77, "password", "none is given")
    said(cli.at(locked.url_for(password="", db=1))("status"), 77, "none is given")
    said(cli.at(locked.url_for(password=SECRET))("status", "-v"), 77, "user name or password is wrong")
    said(cli.at(locked.url_for("nobody", "right"))("status"), 77, "user name or password is wrong")
    said(cli.at(open_.url_for(password=SECRET))("status", "-v"), 77, "the default user has none")


DENIED = (
    b"-DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the"
    b" default user. In this mode connections are only accepted from the loopback interface.\r\n"
)


def test_protected_mode_is_told_with_what_to_do(
    cli: Cli, new_redis: Callable[..., RedisServer], sqlite_url: str
) -> None:
    """Redis says so and hangs up, so that redis-py often sees no more than a broken connection."""
    with answering(lambda command: None, DENIED) as url:
        places = [f"{url}/0", f"{url}/1"]
        if address := address_from_outside():
            server = new_redis("--bind", "0.0.0.0", "--protected-mode", "yes")
            places += [f"redis://{address}:{server.port}/0", f"redis://:{SECRET}@{address}:{server.port}/1"]
        for place in places:
            for words in (["status"], ["consume"]):
                said(cli.at(place, sqlite_url)(*words), 77, "protected mode", "requirepass")


def test_tls_spoken_on_one_side_only_is_told(
    cli: Cli, new_redis: Callable[..., RedisServer], certificates: Path
) -> None:
    plain, encrypted = new_redis(), new_redis(tls=certificates)
    for database in (0, 1):
        url = f"redis://127.0.0.1:{encrypted.port}/{database}"
        said(cli.at(url)("status"), 78, "speaks TLS", "rediss://")
    url = f"rediss://127.0.0.1:{plain.port}/0?socket_connect_timeout=1&socket_timeout=1"
    said(cli.at(url)("status"), 78, "does not speak TLS", "redis://")
    assert cli.at(encrypted.url)("status").code == 0


def test_another_kind_of_server_is_told(cli: Cli, sqlite_url: str) -> None:
    with web_server() as place:
        for url in (f"redis://{place}/0", f"redis://:{SECRET}@{place}/1", f"rediss://{place}/0"):
            for words in (["status"], ["consume"]):
                said(cli.at(url, sqlite_url)(*words, "-v"), 78, "web server", "not Redis")
    with answering(lambda command: b"nonsense\r\n", b"SSH-2.0-OpenSSH_9.2\r\n") as url:
        said(cli.at(url)("status"), 78, "SSH server")
    with answering(lambda command: b"nonsense\r\n") as url:
        said(cli.at(url)("status"), 78, "not Redis")


def test_a_redis_that_is_too_old_is_told(cli: Cli, sqlite_url: str) -> None:
    """There is none to start any more: what Redis 5.0 says, word for word."""
    info = b"# Server\r\nredis_version:5.0.14\r\nredis_mode:standalone\r\n"
    answers = {
        "INFO": b"$%d\r\n%s\r\n" % (len(info), info),
        "EXISTS": b":1\r\n",
        "XPENDING": b"-ERR syntax error\r\n",
        "CLIENT": b"-ERR Unknown subcommand or wrong number of arguments for 'SETINFO'. Try CLIENT HELP\r\n",
    }
    unknown = b"-ERR unknown command `ACL`, with args beginning with: `%s`, \r\n" % SECRET.encode()
    with answering(lambda command: answers.get(command, unknown)) as url:
        for words in (["status"], ["pending"], ["publish"]):
            said(cli.at(url, sqlite_url)(*words, "-v"), 78, "5.0.14", "too old", "6.2")


def test_a_server_that_is_away_is_not_taken_for_another_one(cli: Cli) -> None:
    """The questions about what else may listen there are asked of what answered only."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    said(cli.at(f"redis://127.0.0.1:{port}/0")("status"), 69, "cannot be reached")
    with answering(lambda command: None) as url:
        said(cli.at(url)("status"), 69, "cannot be reached")


def test_the_errors_of_a_client_that_had_answers_are_not_looked_into(redis_url: str) -> None:
    """A connection that breaks in the middle of the work is an outage, whatever answers there next."""
    with RedisProxy(redis_url) as proxy, closing(connect(proxy.url)) as client:
        stream = Stream(client, STREAM)
        stream.ping()
        proxy.refuse = True
        proxy.cut()
        with pytest.raises(DvctlError) as caught:
            stream.ping()
        assert not isinstance(caught.value, BadConfig)
        proxy.heal()
        stream.ping()
