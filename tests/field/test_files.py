"""Exports, snapshots and files of messages: any file system, any entry id, pipes, and commands that end half-way."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.cli.conftest import Cli
from tests.support import messages, servers
from tests.support.entries import entries
from tests.support.oracle import GROUP, STREAM, state
from tests.support.process import DVCTL, Answer, Dvctl, Running
from tests.support.redis_server import RedisServer
from tests.support.rows import read_rows
from tests.support.server import wait_until

DEAD = f"{{{STREAM}}}:dead"
MAX = 2**64 - 1
OTHER = "other:results"


def lines(count: int, *, bad: int = 0) -> list[str]:
    """A file of messages, one line of which is no JSON."""
    made = [json.dumps({"device_id": "1", "task_identifier": f"job-{number}"}) for number in range(1, count + 1)]
    if bad:
        made[bad - 1] = '{"device_id": "1", '
    return made


def write(path: Path, content: list[str]) -> str:
    path.write_text("".join(f"{line}\n" for line in content))
    return str(path)


def identifiers(client: redis.Redis, stream: str = STREAM) -> list[str]:
    """What stands on the stream, in its order."""
    return [fields[b"task_identifier"].decode() for _, fields in entries(client, stream)]


def jobs(first: int, last: int) -> list[str]:
    return [f"job-{number}" for number in range(first, last + 1)]


def piped(dvctl: Dvctl, line: str) -> subprocess.CompletedProcess[str]:
    """A line for bash, in which `dvctl` is the installed one."""
    environ = dvctl.environment | {"PATH": f"{Path(DVCTL).parent}:/usr/bin:/bin"}
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        env=environ, cwd=dvctl.directory, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


# --- a file system without hard links


@pytest.fixture
def here(tmp_path: Path, redis_url: str, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Command lines in this process."""
    monkeypatch.chdir(tmp_path)
    return Cli({"HOME": str(tmp_path), "TERM": "dumb"}).at(redis_url, sqlite_url)


@pytest.mark.parametrize("number", ["EPERM", "EOPNOTSUPP", "ENOSYS", "EINVAL", "EACCES", "EMLINK"])
def test_a_file_system_without_hard_links(
    here: Cli, redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    code = getattr(errno, number)

    def link(*names: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", link)
    client = redis_server.client()
    messages.publish(client, messages.good(20))
    client.xgroup_create(STREAM, GROUP, "0")
    client.xreadgroup(GROUP, "away", {STREAM: ">"}, count=5)
    assert here("export", "all.jsonl").code == 0
    assert (tmp_path / "all.jsonl").stat().st_mode & 0o777 == 0o600
    before = (tmp_path / "all.jsonl").read_bytes()
    assert here("export", "all.jsonl").code == 2
    assert (tmp_path / "all.jsonl").read_bytes() == before
    for words in (["reset-group", "--to", "end", "--yes"], ["destroy-group", "--confirm", GROUP]):
        answer = here(*words, "--force", "-o", "json")
        assert answer.code == 0, answer.err
        assert here("restore-group", answer.json["snapshot"], "--yes").code == 0
    assert [each["consumer"] for each in client.xpending_range(STREAM, GROUP, "-", "+", 100)] == [b"away"] * 5
    assert here("replay", "--file", "all.jsonl", "--yes").code == 0
    (tmp_path / "cut.jsonl").write_bytes(before[: len(before) // 2])
    assert here("replay", "--file", "cut.jsonl", "--yes").code == 1
    assert sorted(path.name for path in tmp_path.iterdir() if "jsonl" in path.name) == ["all.jsonl", "cut.jsonl"]


def test_another_process_was_quicker(
    here: Cli, redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without hard links the name is claimed, never overwritten; and nothing is left where renaming fails."""
    messages.publish(redis_server.client(), messages.good(3))

    def quicker(source: Any, target: Path) -> None:
        target.write_text("theirs")
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", quicker)
    assert here("export", "taken.jsonl").code == 1
    assert (tmp_path / "taken.jsonl").read_text() == "theirs"

    def refused(*names: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(os, "rename", refused)
    answer = here("export", "broken.jsonl")
    assert (answer.code, "Input/output error" in answer.err) == (1, True)
    assert [path.name for path in tmp_path.iterdir() if "jsonl" in path.name] == ["taken.jsonl"]


# --- ids up to 2^64-1

IDS = (
    f"1-{MAX}", "5-10000000000000000000", f"1767225600000-{MAX}", "9007199254740993-1", "9007199254740993-2",
    f"{2**63 - 1}-{2**63}", f"{10**19}-{2**63}", f"{MAX}-{MAX - 1}", f"{MAX}-{MAX}",
)  # fmt: skip


@servers.two_redis(0)
def test_ids_of_twenty_digits(dvctl: Dvctl, each_redis_server: RedisServer, sqlite_url: str, tmp_path: Path) -> None:
    """Consumed, looked at, exported, replayed, published, given up, restored: each is itself everywhere."""
    client = each_redis_server.client()
    for number, key in enumerate(IDS, 1):
        client.xadd(STREAM, {"device_id": "1", "task_identifier": f"job-{number}"}, id=key)
    client.xgroup_create(STREAM, GROUP, "0")
    client.xreadgroup(GROUP, "away", {STREAM: ">"})
    dvctl.use(each_redis_server.url, sqlite_url)
    destroyed = dvctl.json("destroy-group", "--confirm", GROUP, "--force")
    assert destroyed["pending_lost"] == len(IDS)
    dvctl.ok("restore-group", destroyed["snapshot"], "--yes")
    held: Any = client.xpending_range(STREAM, GROUP, "-", "+", 100)
    assert [each["message_id"].decode() for each in held] == list(IDS)
    assert [each["id"] for each in dvctl.json("pending")["entries"]] == list(IDS)
    dvctl.ok("ack", IDS[3], IDS[-1], "--yes")
    dvctl.ok("claim", IDS[4], "--to", "away", "--yes")
    dvctl.ok("consume", "--drain", "--claim-idle", "0")
    classes = dvctl.json("verify")["classes"]
    assert (classes["discarded"], classes["persisted"], classes["lost"]) == (2, len(IDS) - 2, 0)
    stored = times(sqlite_url)
    assert len(stored) == len(IDS) - 2
    path = str(tmp_path / "all.jsonl")
    assert dvctl.json("export", path)["exported"] == len(IDS)
    assert [json.loads(line)["id"] for line in Path(path).read_text().splitlines()[:-1]] == list(IDS)
    assert dvctl.json("export", path, "--replace", "--from", IDS[-2], "--to", IDS[-1])["exported"] == 2
    dvctl.ok("export", path, "--replace")
    replayed = dvctl.json("replay", "--file", path, "--yes")
    assert (replayed["inserted"], replayed["duplicates"]) == (2, len(IDS) - 2)
    shown = dvctl.json("show", *IDS)["entries"]
    assert [each["state"] for each in shown] == ["persisted"] * len(IDS)
    assert {each["time"][:4] for each in shown} == {"1970", "2026", "9999"}
    stored = times(sqlite_url)
    dvctl.ok("publish", "--file", path, "--stream", OTHER)
    assert [fields[b"_dvctl.id"].decode() for _, fields in entries(client, OTHER)] == list(IDS)
    forget(sqlite_url)
    dvctl.ok("consume", "--drain", "--stream", OTHER)
    assert times(sqlite_url) == stored, "the copies keep the times of their first ids"


def times(url: str) -> list[tuple[str, int]]:
    return sorted((row.task_identifier, row.timestamp) for row in read_rows(url))


def forget(url: str) -> None:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database, database:
        database.execute("DELETE FROM devices_devicebackupresult")


def test_an_id_that_no_stream_has_is_refused(dvctl: Dvctl, redis_server: RedisServer, tmp_path: Path) -> None:
    dvctl.use(redis_server.url)
    for key in (f"{MAX + 1}-0", f"0-{MAX + 1}", "5-x"):
        path = write(tmp_path / "x.jsonl", [*lines(2), json.dumps({"id": key, "fields": {"device_id": "1"}})])
        answer = dvctl.run("publish", "--file", path)
        assert (answer.code, "x.jsonl, line 3: not an entry id" in answer.stderr) == (2, True), answer
    assert redis_server.client().exists(STREAM) == 0


# --- publishing a file that is bad, or half-way


def test_a_file_with_a_bad_line_is_not_published(dvctl: Dvctl, redis_server: RedisServer, tmp_path: Path) -> None:
    client = redis_server.client()
    dvctl.use(redis_server.url)
    path = write(tmp_path / "bad.jsonl", lines(800, bad=700))
    answer = dvctl.run("publish", "--file", path)
    assert answer.code == 2
    assert "error: bad.jsonl, line 700: not JSON; nothing was published\n" in answer.stderr
    assert client.exists(STREAM) == 0
    for broken in ('{"device_id": 7}', "[]", '{"device_id": {"_base64": "?"}}', '{"id": "1-1", "fields": [["a"]]}'):
        content = lines(600)
        content[599] = broken
        answer = dvctl.run("publish", "--file", write(tmp_path / "worse.jsonl", content))
        assert (answer.code, "line 600: " in answer.stderr, client.exists(STREAM)) == (2, True, 0), answer
    dvctl.ok("publish", "--file", path, "--from-line", "701")
    assert identifiers(client) == jobs(701, 800)
    assert dvctl.run("publish", "--from-line", "2").code == 2


def line_to_continue(text: str) -> int:
    """What the hint says."""
    found = re.findall(r"continue with --from-line (\d+)", text)
    assert len(found) == 1, text
    return int(found[0])


@pytest.mark.parametrize("source", ["cat bad.jsonl | dvctl publish --file -", "dvctl publish --file <(cat bad.jsonl)"])
def test_what_cannot_be_read_twice_says_how_far_it_came(
    dvctl: Dvctl, redis_server: RedisServer, tmp_path: Path, source: str
) -> None:
    client = redis_server.client()
    dvctl.use(redis_server.url)
    write(tmp_path / "bad.jsonl", lines(1200, bad=1100))
    answer = piped(dvctl, source)
    assert answer.returncode == 2, answer
    assert "line 1100: not JSON; 1,000 messages were published, up to line 1000\n" in answer.stderr
    assert identifiers(client) == jobs(1, 1000)
    write(tmp_path / "bad.jsonl", lines(1200))
    done = piped(dvctl, f"{source} --from-line {line_to_continue(answer.stderr)} -o json")
    assert json.loads(done.stdout)["published"] == 200, done
    assert identifiers(client) == jobs(1, 1200)


def publishing(dvctl: Dvctl, client: redis.Redis, *words: str) -> Running:
    """A slow publish that has begun."""
    running = dvctl.start("publish", *words, "--rate", "200")
    wait_until(lambda: client.exists(STREAM) and client.xlen(STREAM) > 40, what="messages on the stream")
    return running


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_publish_says_where_to_continue(
    dvctl: Dvctl, redis_server: RedisServer, tmp_path: Path, number: signal.Signals
) -> None:
    client = redis_server.client()
    dvctl.use(redis_server.url)
    path = write(tmp_path / "many.jsonl", lines(5000))
    running = publishing(dvctl, client, "--file", path)
    running.send(number)
    answer = running.wait(30)
    sent = client.xlen(STREAM)
    assert answer.code == 130
    assert f"error: interrupted; {sent} messages were published, up to line {sent}\n" in answer.stderr
    assert line_to_continue(answer.stderr) == sent + 1
    dvctl.ok("publish", "--file", path, "--from-line", str(sent + 1))
    assert identifiers(client) == jobs(1, 5000)


def test_an_interrupted_publish_of_made_up_messages_counts_them(dvctl: Dvctl, redis_server: RedisServer) -> None:
    client = redis_server.client()
    dvctl.use(redis_server.url)
    running = publishing(dvctl, client, "--count", "100000")
    running.send(signal.SIGINT)
    answer = running.wait(30)
    assert (answer.code, f"{client.xlen(STREAM)} messages were published\n" in answer.stderr) == (130, True), answer


def test_a_redis_that_is_full_half_way(dvctl: Dvctl, new_redis: Callable[..., RedisServer], tmp_path: Path) -> None:
    """It refuses one message of a page; those before it are on the stream, and counted."""
    server = new_redis("--maxmemory", "4mb", "--maxmemory-policy", "noeviction")
    client = server.client()
    dvctl.use(server.url)
    content = [json.dumps({"task_identifier": f"job-{number}", "log": "x" * 2000}) for number in range(1, 5001)]
    path = write(tmp_path / "many.jsonl", content)
    answer = dvctl.run("publish", "--file", path)
    sent = client.xlen(STREAM)
    assert 0 < sent < 5000
    assert answer.code == 69
    assert f"; {sent:,} messages were published, up to line " in answer.stderr
    following = line_to_continue(answer.stderr)
    assert identifiers(client)[: following - 1] == jobs(1, following - 1)
    assert "job-" not in answer.stderr
    client.config_set("maxmemory", "0")
    dvctl.ok("publish", "--file", path, "--from-line", str(following))
    assert set(identifiers(client)) == set(jobs(1, 5000))


def test_a_redis_that_goes_away_half_way(dvctl: Dvctl, new_redis: Callable[..., RedisServer], tmp_path: Path) -> None:
    server = new_redis("--appendonly", "yes", "--appendfsync", "always")
    dvctl.use(server.url)
    path = write(tmp_path / "many.jsonl", lines(5000))
    running = publishing(dvctl, server.client(), "--file", path)
    server.kill9()
    answer = running.wait(60)
    assert answer.code == 69
    assert "messages were published, up to line " in answer.stderr
    following = line_to_continue(answer.stderr)
    server.start()
    dvctl.ok("publish", "--file", path, "--from-line", str(following))
    found = identifiers(server.client())
    assert found[: following - 1] == jobs(1, following - 1)
    assert set(found) == set(jobs(1, 5000)), "nothing is missing, whatever became of the page that was on its way"


def test_a_replay_reads_its_file_through_first(
    dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str, tmp_path: Path
) -> None:
    """A checksummed file that another program wrote, with a line that is no message."""
    from devicevault_cli.operations.entries import checksummed

    made: list[dict[str, Any]] = [{"id": f"{number}-0", "fields": {"device_id": "1"}} for number in range(1, 2501)]
    made[2399] = {"id": "2400-0", "fields": {"device_id": 7}}
    checksummed.write(tmp_path / "bad.jsonl", made)
    dvctl.use(redis_server.url, sqlite_url)
    answer = dvctl.run("replay", "--file", str(tmp_path / "bad.jsonl"), "--yes")
    assert (answer.code, "bad.jsonl, line 2400: " in answer.stderr) == (2, True), answer
    assert read_rows(sqlite_url) == []


def test_an_interrupted_replay_says_how_far_it_came(
    dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str, tmp_path: Path
) -> None:
    client = redis_server.client()
    messages.publish(client, messages.good(3000, size=1), together=True)
    dvctl.use(redis_server.url, sqlite_url)
    running = dvctl.start("replay", "--since", "-1d", "--yes", "--rate", "500")
    wait_until(lambda: len(read_rows(sqlite_url)) > 300, what="rows")
    running.send(signal.SIGTERM)
    answer = running.wait(30)
    assert answer.code == 130, answer
    told = re.search(
        r"warning: at least ([\d,]+) entries were replayed; run the command again to continue", answer.stderr
    )
    assert told, answer
    assert 0 < int(told[1].replace(",", "")) <= len(read_rows(sqlite_url)) < 3000
    journal = dvctl.directory / "xdg_state_home" / "dvctl" / "journal.jsonl"
    assert json.loads(journal.read_text().splitlines()[-1])["result"] == {"interrupted": "KeyboardInterrupt"}
    dvctl.ok("replay", "--since", "-1d", "--yes")
    assert len(read_rows(sqlite_url)) == 3000


# --- stdin and stdout


def test_stdout_and_stdin_are_files(dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str) -> None:
    client = redis_server.client()
    dvctl.use(redis_server.url, sqlite_url)
    messages.publish(client, messages.good(70))
    exported = dvctl.ok("export", "-")
    assert [json.loads(line).get("id") for line in exported.stdout.splitlines()][:-1] == [
        key.decode() for key, _ in entries(client, STREAM)
    ]
    assert json.loads(exported.stdout.splitlines()[-1])["lines"] == "70"
    assert "exported: 70" in exported.stderr
    dvctl.ok("export", "same.jsonl")
    assert (dvctl.directory / "same.jsonl").read_text() == exported.stdout
    assert dvctl.ok("export", "--file", "-", "-o", "json").stdout == exported.stdout
    done = piped(dvctl, "dvctl export - --reveal 2>/dev/null | dvctl replay --file - --yes -o json")
    assert json.loads(done.stdout)["inserted"] == 70, done
    done = piped(dvctl, f"dvctl export - 2>/dev/null | dvctl publish --file - --stream {OTHER} -o json")
    assert json.loads(done.stdout)["published"] == client.xlen(OTHER) == 70, done
    before = state(redis_server.url, sqlite_url)
    for command in ("publish --file -", "replay --file - --yes", "replay --file <(head -n 40) --yes"):
        cut = piped(dvctl, f"dvctl export - 2>/dev/null | head -n 40 | dvctl {command}")
        assert cut.returncode == 1, cut
        assert re.search(r"error: (stdin|\d+) has no checksum at its end", cut.stderr), cut
        assert "Traceback" not in cut.stderr
    assert state(redis_server.url, sqlite_url) == before
    with Path("/dev/full").open("w") as full:
        environ = dvctl.environment | {"PYTHONUNBUFFERED": ""}
        answer = subprocess.run(
            [DVCTL, "export", "-"], env=environ, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (answer.returncode, "No space left on device" in answer.stderr) == (1, True)


def has_socket(pid: int) -> bool:
    """Whether a process has an open socket."""
    return any(
        os.path.realpath(fd).rpartition("/")[2].startswith("socket:") for fd in Path(f"/proc/{pid}/fd").iterdir()
    )


def test_an_export_that_ends_half_way_leaves_nothing(
    dvctl: Dvctl, new_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    server = new_redis()
    messages.publish(server.client(), messages.good(500))
    dvctl.use(server.url)
    target = tmp_path / "target"
    target.mkdir()
    server.freeze()
    running = dvctl.start("export", str(target / "x.jsonl"))
    wait_until(lambda: has_socket(running.pid), what="the export to ask Redis")
    assert not (target / "x.jsonl").exists()
    running.send(signal.SIGTERM)
    assert running.wait(30).code == 130
    server.thaw()
    assert list(target.iterdir()) == []
    limited = f"ulimit -f 8; trap '' XFSZ; dvctl export {target}/x.jsonl"
    full = piped(dvctl, limited)
    assert (full.returncode, "File too large" in full.stderr, list(target.iterdir())) == (1, True, []), full


# --- field names that stand twice

TWICE = [b"device_id", b"7777", b"task_identifier", b"twice", b"device_id", b"8888", b"device_config", b"one"]
TWICE += [b"log", b"[]", b"device_config", b"two", b"\xff", b"x", b"\xff", b"\xfe"]


def raw(client: redis.Redis, stream: str) -> list[list[bytes]]:
    """The fields of every entry as Redis sends them."""
    connection = client.connection_pool.get_connection()
    connection.send_command("XRANGE", stream, "-", "+")
    reply = connection.read_response()
    client.connection_pool.release(connection)
    return [fields for _, fields in reply]


def pairs(fields: list[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(fields[::2], fields[1::2], strict=True))


def own(fields: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Without what dvctl adds."""
    return [pair for pair in pairs(fields) if not pair[0].startswith(b"_dvctl.")]


@servers.two_redis(1)
def test_a_field_name_that_stands_twice_keeps_both(
    dvctl: Dvctl, each_redis_server: RedisServer, sqlite_url: str
) -> None:
    client = each_redis_server.client()
    dvctl.use(each_redis_server.url, sqlite_url)
    key = client.execute_command("XADD", STREAM, "*", *TWICE).decode()
    (entry,) = dvctl.json("show", key)["entries"]
    assert entry["fields"]["device_id"] == ["7777", "8888"]
    assert "8888" in entry["would"] or entry["would"] == "reject: unknown-device"
    shown = dvctl.ok("show", key).stdout
    assert ("7777" in shown, "8888" in shown, "one" in shown) == (True, True, False)
    dvctl.ok("consume", "--drain")
    assert [own(fields) for fields in raw(client, DEAD)] == [pairs(TWICE)]
    (letter,) = dvctl.json("dlq", "show", key)["entries"]
    assert letter["fields"]["device_id"] == ["7777", "8888"]
    assert "8888" in letter["detail"], "the last one counts"
    assert "7777" in dvctl.ok("dlq", "show", key).stdout
    for words in (["--reveal"], ["--reveal", "--dead"]):
        path = str(dvctl.directory / "x.jsonl")
        dvctl.ok("export", path, "--replace", *words)
        dvctl.ok("publish", "--file", path, "--stream", OTHER)
    assert [own(fields) for fields in raw(client, OTHER)] == [pairs(TWICE)] * 2
    hidden = dvctl.ok("export", "-").stdout
    assert ("7777" in hidden, "one" in hidden, "two" in hidden) == (True, False, False)
    dvctl.ok("replay", "--id", key, "--republish", "--yes")
    assert own(raw(client, STREAM)[1]) == pairs(TWICE)


def test_a_repair_keeps_both_originals(dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str) -> None:
    client = redis_server.client()
    dvctl.use(redis_server.url, sqlite_url)
    client.execute_command("XADD", STREAM, "*", *TWICE)
    dvctl.ok("consume", "--drain")
    dvctl.run("dlq", "retry", "--all", "--set", "device_id=9999", "--yes")
    ((fields),) = raw(client, DEAD)
    assert [value for name, value in pairs(fields) if name == b"_dvctl.original.device_id"] == [b"7777", b"8888"]
    assert [value for name, value in pairs(fields) if name == b"device_id"] == [b"9999"]
    assert [value for name, value in pairs(fields) if name == b"\xff"] == [b"x", b"\xfe"]
    answer: Answer = dvctl.run("dlq", "retry", "--all", "--set", "device_id=1", "--yes")
    assert answer.code == 0, answer
    assert [row.device_id for row in read_rows(sqlite_url)] == [1]
    assert client.xlen(DEAD) == 0
