"""A stream that is flushed, deleted, replaced, trimmed or rolled back: noticed, said, and shown until acknowledged."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from devicevault_cli.streams.model import EntryId
from devicevault_cli.times import iso
from tests.cli.conftest import Cli, cli
from tests.support import servers
from tests.support.process import Dvctl, Running
from tests.support.redis_server import RedisServer, redis_kinds
from tests.support.server import wait_until

__all__ = ["cli"]

STREAM, GROUP, TABLE = "device:results", "devicevault", "devices_devicebackupresult"
SEEN, INCIDENTS, DEAD = (f"{{{STREAM}}}:{name}" for name in ("seen", "incidents", "dead"))


def message(name: str, **fields: str) -> dict[Any, Any]:
    return {"task_id": "t", "task_identifier": name, "device_id": "1", "status": "success"} | fields


def add(client: Any, names: range | list[str], **fields: str) -> list[str]:
    """Messages with these identifiers. -> their ids"""
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.xadd(STREAM, message(f"job-{name}", **fields))
    return [key.decode() for key in pipe.execute()]


def identifiers(sqlite_url: str) -> set[str]:
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), timeout=30)) as database:
        return {name for (name,) in database.execute(f"SELECT task_identifier FROM {TABLE}")}


def seen(client: Any) -> dict[str, Any]:
    """The marker of the group."""
    return dict(json.loads(client.hget(SEEN, GROUP) or "{}"))


def incidents(client: Any) -> list[dict[str, Any]]:
    """The recorded incidents."""
    found = {int(name): json.loads(text) for name, text in client.hgetall(INCIDENTS).items() if name != b"next"}
    return [found[number] for number in sorted(found)]


def wait_for_marker(client: Any, last: str) -> None:
    wait_until(lambda: seen(client).get("last_id") == last, what=f"the consumer to have seen {last}")


@contextmanager
def database_away(sqlite_url: str) -> Iterator[None]:
    """No table to write to: the consumer keeps what it has in hand, and tries again."""
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), timeout=30)) as database:
        database.execute(f"ALTER TABLE {TABLE} RENAME TO elsewhere")
        yield
        database.execute(f"ALTER TABLE elsewhere RENAME TO {TABLE}")


# --- while a consumer runs -------------------------------------------------------------------------------------------


def metrics(daemon: Running) -> dict[str, float]:
    from tests.acceptance.test_metrics import numbers, reader

    return numbers(reader(daemon)("/metrics")[1])


@servers.two_redis(0)
def test_a_flush_while_consuming_is_an_incident_until_it_is_acknowledged(
    dvctl: Dvctl, each_redis_server: RedisServer, sqlite_url: str
) -> None:
    """Field case 21: nothing says OK while 13,000 messages are gone, and the log says what is known."""
    with each_redis_server.client() as client:
        last = add(client, range(3000))[-1]
        dvctl.use(each_redis_server.url, sqlite_url)
        daemon = dvctl.start("consume", "--rate", "200", "--batch-size", "20", "--metrics-port", "127.0.0.1:0")
        wait_until(lambda: (seen(client).get("left") or 3000) < 3000, what="the marker to follow the consumer")
        client.flushdb()
        daemon.wait_for("never read by group devicevault")
        daemon.wait_for('created consumer group "devicevault" on stream "device:results", which is empty')
        add(client, range(5000, 5010))
        wait_until(lambda: {f"job-{n}" for n in range(5000, 5010)} <= identifiers(sqlite_url), what="it goes on")
        (line,) = [line for line in daemon.stderr.splitlines() if "never read" in line]
        assert " error " in line
        assert f"its last id went from {last}" in line
        assert "length before 3,000" in line
        (count,) = re.findall(r"(?:at least|about) ([\d,]+) entries were never read", line)
        unread, saved = int(count.replace(",", "")), len(identifiers(sqlite_url)) - 10
        assert 0 < unread <= 3000
        if each_redis_server.kind.version >= "7":
            assert "at least" in line
            assert unread + saved == 3000, "everything is saved or counted"
        assert "no longer pending" not in daemon.stderr
        assert "3,000 entries will be delivered" in daemon.stderr
        wait_until(lambda: metrics(daemon).get("dvctl_incidents_unacknowledged") == 1, what="the gauge")
        figures = metrics(daemon)
        counted = figures["dvctl_stream_restarts_total"], figures["dvctl_entries_never_read_total"]
        assert counted == (1.0, float(unread))
        shown_until_acknowledged(dvctl, unread)
        wait_until(lambda: metrics(daemon)["dvctl_incidents_unacknowledged"] == 0, what="the gauge to fall")
        assert daemon.sigterm().code == 0
        assert len(incidents(client)) == 1, "one flush is one incident"


def shown_until_acknowledged(dvctl: Dvctl, unread: int) -> None:
    """By every command that looks, and by none any more once an operator has said so."""
    (incident,) = dvctl.json("status")["incidents"]
    assert (incident["kind"], incident["unread"], incident["id"]) == ("stream-restarted", unread, 1)
    check = dvctl.run("check", "--max-lag", "100000")
    assert (check.code, check.stdout.count("\n")) == (2, 1)
    assert f"{unread:,} entries were never read" in check.stdout
    doctor = dvctl.run("doctor", "-o", "json")
    found = {one["name"]: one["status"] for one in doctor.json()["checks"]}
    assert (doctor.code, found["incidents"]) == (3, "problem")
    verified = dvctl.run("verify", "-o", "json")
    assert (verified.code, verified.json()["ok"]) == (3, False)
    assert verified.json()["classes"]["persisted"] == 10

    assert dvctl.run("incidents", "acknowledge").code == 2
    assert dvctl.run("incidents", "acknowledge", "7", "--yes").code == 1
    assert dvctl.json("incidents", "acknowledge", "--dry-run")["applied"] is False
    assert dvctl.run("check").code == 2
    assert dvctl.json("incidents", "acknowledge", "1", "--yes")["acknowledged"] == [1]
    assert dvctl.run("check").code == 0
    assert dvctl.json("status")["incidents"] == []
    assert dvctl.ok("verify").code == 0
    (kept,) = dvctl.json("incidents", "--all")["incidents"]
    assert kept["acknowledged_at"]
    journal = Path(dvctl.environment["XDG_STATE_HOME"]) / "dvctl" / "journal.jsonl"
    assert "incidents acknowledge" in journal.read_text()


def test_two_consumers_notice_one_incident(dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str) -> None:
    with redis_server.client() as client:
        dvctl.use(redis_server.url, sqlite_url)
        last = add(client, range(50))[-1]
        daemons = [dvctl.start("consume", "--consumer", name, "--claim-idle", "5s") for name in ("one", "two")]
        for daemon in daemons:
            daemon.wait_for("consuming device:results")
        wait_for_marker(client, last)  # it says what was seen, not what was read
        wait_until(lambda: len(identifiers(sqlite_url)) == 50, what="the first to be saved")
        wait_until(lambda: seen(client)["consumers"] == 2, what="both to be there")
        client.delete(STREAM)
        for daemon in daemons:
            daemon.wait_for("its last id went from")
        add(client, range(50, 60))
        wait_until(lambda: len(identifiers(sqlite_url)) == 60, what="both to go on")
        assert len(incidents(client)) == 1
        for daemon in daemons:
            assert daemon.sigterm().code == 0
        assert len(incidents(client)) == 1


@pytest.mark.parametrize("how", ["small ids", "renamed", "old dump", "last id set", "last id set and used"])
def test_whatever_makes_a_stream_fall_back_is_noticed(
    how: str, dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str
) -> None:
    """Field case 10 for consume: what comes next is read, also below the position that the group had."""
    falls_back(how, dvctl, redis_server, sqlite_url)


@servers.two_redis(1)
def test_a_stream_that_restarts_with_small_ids_is_consumed(
    dvctl: Dvctl, each_redis_server: RedisServer, sqlite_url: str
) -> None:
    falls_back("small ids", dvctl, each_redis_server, sqlite_url)


def falls_back(how: str, dvctl: Dvctl, server: RedisServer, sqlite_url: str) -> None:
    with server.client() as client:
        dvctl.use(server.url, sqlite_url)
        add(client, range(3))
        daemon = dvctl.start("consume")
        wait_until(lambda: len(identifiers(sqlite_url)) == 3, what="the first to be saved")
        old = client.dump(STREAM)
        last = add(client, range(3, 6))[-1]
        wait_for_marker(client, last)
        transaction = client.pipeline(transaction=True)
        if how == "small ids":
            transaction.delete(STREAM)
            transaction.xadd(STREAM, message("new-1"), id="1-1")
            transaction.xadd(STREAM, message("new-2"), id="2-1")
        elif how == "renamed":
            transaction.xadd("other", message("new-1"), id="1-1")
            transaction.xadd("other", message("new-2"), id="2-1")
            transaction.rename("other", STREAM)
        elif how == "old dump":
            transaction.restore(STREAM, 0, old, replace=True)
        else:
            transaction.xtrim(STREAM, maxlen=0, approximate=False)
            transaction.execute_command("XSETID", STREAM, "1000-0")
            if how == "last id set and used":
                transaction.xadd(STREAM, message("new-1"), id="1000-1")
                transaction.xadd(STREAM, message("new-2"), id="2000-1")
        transaction.execute()
        daemon.wait_for(f"its last id went from {last} to ")
        if how == "old dump":
            add(client, ["new-1", "new-2"])
        elif how == "last id set":
            daemon.wait_for("beyond the end")
            client.xadd(STREAM, message("new-1"), id="1000-1")
            client.xadd(STREAM, message("new-2"), id="2000-1")
        wait_until(lambda: len([name for name in identifiers(sqlite_url) if "new-" in name]) == 2, what="the new ones")
        assert daemon.sigterm().code == 0
        assert [one["kind"] for one in incidents(client)] == ["stream-restarted"]
        assert dvctl.run("check").code == 2


def test_nothing_is_acknowledged_by_an_id_of_the_stream_before(
    dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str
) -> None:
    """A batch is in hand while the stream is made anew with the same ids: the new entries are other messages."""
    with redis_server.client() as client:
        for number in (1, 2, 3):
            client.xadd(STREAM, message(f"old-{number}"), id=f"{number}-1")
        dvctl.use(redis_server.url, sqlite_url)
        daemon = dvctl.start("consume", "--claim-idle", "2s")
        wait_until(lambda: len(identifiers(sqlite_url)) == 3, what="the old ones to be saved")
        wait_for_marker(client, "3-1")
        with database_away(sqlite_url):
            client.xadd(STREAM, message("in-hand"), id="4-1")
            wait_until(lambda: client.xpending(STREAM, GROUP)["pending"] == 1, what="a batch in hand")
            wait_for_marker(client, "4-1")
            client.delete(STREAM)
            client.xgroup_create(STREAM, GROUP, "0", mkstream=True)
            for number in (1, 4):
                client.xadd(STREAM, message(f"new-{number}"), id=f"{number}-1")
            client.xreadgroup(GROUP, "another", {STREAM: ">"})
            daemon.wait_for("restarted", timeout=60)
        wait_until(lambda: "in-hand" in identifiers(sqlite_url), timeout=60, what="the batch to be saved")
        wait_until(lambda: {"new-1", "new-4"} <= identifiers(sqlite_url), timeout=60, what="the new ones")
        assert daemon.sigterm().code == 0


@servers.two_redis(1)
def test_a_key_of_another_type_is_waited_out(dvctl: Dvctl, each_redis_server: RedisServer, sqlite_url: str) -> None:
    """Field case 11: the daemon defers with an alarm, however long it lasts, and goes on when the stream is back."""
    with each_redis_server.client() as client:
        dvctl.use(each_redis_server.url, sqlite_url)
        add(client, range(3))
        daemon = dvctl.start("consume")
        wait_until(lambda: len(identifiers(sqlite_url)) == 3, what="the first to be saved")
        spoils: list[tuple[object, ...]] = [("SET", STREAM, "x")]
        if each_redis_server.kind == redis_kinds()[0]:
            spoils += [("HSET", STREAM, "a", "b"), ("RPUSH", STREAM, "x")]
        for number, spoil in enumerate(spoils, 1):
            with client.pipeline() as both:  # in between the daemon would create the stream again
                both.delete(STREAM).execute_command(*spoil)
                both.execute()
            daemon.wait_for("key device:results is no stream", times=number)
            client.delete(STREAM)
            add(client, range(10 * number, 10 * number + 3))
            wait_until(lambda so_far=3 + 3 * number: len(identifiers(sqlite_url)) == so_far, what="it goes on")  # type: ignore[misc]
        assert "holds another type of value (device:results)" in daemon.stderr
        assert daemon.sigterm().code == 0
        assert {one["kind"] for one in incidents(client)} <= {"stream-replaced", "stream-restarted"}


def test_a_key_of_another_type_at_the_start(dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str) -> None:
    with redis_server.client() as client:
        dvctl.use(redis_server.url, sqlite_url)
        client.set(STREAM, "x")
        for words in (["--drain"], ["--max-messages", "1"]):
            refused = dvctl.run("consume", *words)
            assert refused.code == 1
            assert "holds another type of value (device:results)" in refused.stderr
            assert "Traceback" not in refused.stderr
        daemon = dvctl.start("consume")
        daemon.wait_for("waiting for it")
        client.delete(STREAM)
        add(client, range(3))
        try:
            wait_until(lambda: len(identifiers(sqlite_url)) == 3, timeout=90, what="it goes on")
        except TimeoutError as error:
            raise AssertionError(daemon.stderr) from error
        assert daemon.sigterm().code == 0


def test_a_group_destroyed_by_hand_is_an_incident(dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str) -> None:
    with redis_server.client() as client:
        dvctl.use(redis_server.url, sqlite_url)
        last = add(client, range(5))[-1]
        daemon = dvctl.start("consume")
        wait_for_marker(client, last)
        wait_until(lambda: len(identifiers(sqlite_url)) == 5, what="all to be saved")
        client.xgroup_destroy(STREAM, GROUP)
        daemon.wait_for("group devicevault of stream device:results is gone")
        daemon.wait_for("5 entries will be delivered; messages that already have a row are skipped")
        assert daemon.sigterm().code == 0
        assert [one["kind"] for one in incidents(client)] == ["group-gone"]
        assert dvctl.run("check").code == 2
        verified = dvctl.ok("verify")
        assert "is gone: it was at" in verified.stderr, "nothing is lost, but it is said"


def test_a_backlog_trimmed_while_the_consumers_are_frozen_is_counted(
    dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str
) -> None:
    """The group is destroyed as well, before they look."""
    with redis_server.client() as client:
        dvctl.use(redis_server.url, sqlite_url)
        last = add(client, range(5))[-1]
        daemons = [dvctl.start("consume", "--consumer", name) for name in ("one", "two")]
        wait_for_marker(client, last)
        wait_until(lambda: len(identifiers(sqlite_url)) == 5, what="all to be saved")
        wait_until(lambda: (seen(client)["pending"], seen(client)["consumers"]) == (0, 2), what="the marker")
        for daemon in daemons:
            daemon.freeze()
        add(client, range(5, 305))
        client.xtrim(STREAM, maxlen=100, approximate=False)
        client.xgroup_destroy(STREAM, GROUP)
        for daemon in daemons:
            daemon.thaw()
        wait_until(lambda: len(identifiers(sqlite_url)) >= 105, what="what is left to be saved")
        assert {daemon.sigterm().code for daemon in daemons} == {0}
        (incident,) = incidents(client)
        assert incident["kind"] == "group-gone"
        saved_of_removed = len(identifiers(sqlite_url)) - 105  # Redis had handed an entry to each that waited
        assert 200 - 2 <= incident["unread"] <= 200
        assert saved_of_removed <= 2
        assert dvctl.run("verify").code == 3


@servers.two_redis(2)
def test_a_trim_of_unread_entries_is_counted(dvctl: Dvctl, each_redis_server: RedisServer, sqlite_url: str) -> None:
    """While the database is away, somebody trims what waits."""
    with each_redis_server.client() as client:
        dvctl.use(each_redis_server.url, sqlite_url)
        add(client, range(10))
        dvctl.ok("consume", "--drain")
        daemon = dvctl.start("consume", "--batch-size", "1", "--rate", "1")
        last = add(client, range(10, 500))[-1]
        wait_until(lambda: len(identifiers(sqlite_url)) > 10, what="it to begin")
        with database_away(sqlite_url):
            daemon.wait_for("no such table", times=3)
            wait_for_marker(client, last)
            held = client.xpending(STREAM, GROUP)["max"].decode()
            wait_until(lambda: seen(client)["position"] == held, what="the marker to have come so far")
            client.xtrim(STREAM, maxlen=100, approximate=False)
            daemon.wait_for("removed from stream device:results before group devicevault read them", timeout=60)
        daemon.kill9()
        (incident,) = incidents(client)
        assert incident["kind"] == "entries-removed"
        if each_redis_server.kind.version >= "7":
            assert 300 < incident["unread"] <= 390
        else:
            assert incident["unread"] >= 1
            assert "at least" in incident["detail"]
        assert dvctl.run("check").code == 2


# --- while no consumer runs ------------------------------------------------------------------------------------------


@pytest.fixture
def at(cli: Cli, each_redis_server: RedisServer, sqlite_url: str) -> Cli:
    return cli.at(each_redis_server.url, sqlite_url)


def states(at: Cli) -> dict[str, tuple[str, str, str]]:
    """What doctor found."""
    return {
        one["name"]: (one["status"], one["detail"], one["fix"]) for one in at("doctor", "-o", "json").json["checks"]
    }


def drained(at: Cli, client: Any, count: int) -> None:
    add(client, range(count))
    assert at("consume", "--drain").code == 0


@pytest.mark.parametrize("how", ["deleted", "deleted and filled again", "trimmed", "trimmed, group destroyed"])
def test_what_happened_meanwhile_is_noticed_by_those_that_only_look(
    how: str, at: Cli, each_redis_server: RedisServer
) -> None:
    """The marker outlived it: status, check, doctor and verify say it, and the next consumer records it once."""
    with each_redis_server.client() as client:
        drained(at, client, 20)
        add(client, range(20, 30))
        assert at("consume", "--max-messages", "1").code == 0, "the marker knows of nine that wait"
        if how.startswith("deleted"):
            client.delete(STREAM)
        else:
            client.xtrim(STREAM, maxlen=2, approximate=False)
        if how == "trimmed, group destroyed":
            client.xgroup_destroy(STREAM, GROUP)
        if how == "deleted and filled again":
            add(client, range(30, 33))
        unread = 7 if how.startswith("trimmed") else 9
        (found,) = at("status", "-o", "json").json["incidents"]
        assert found["id"] is None
        if each_redis_server.kind.version >= "7":
            assert found["unread"] == unread
        check = at("check")
        assert check.code == 2, check.out
        assert "device:results" in check.out
        doctor = states(at)
        assert doctor["incidents"][0] == "problem"
        assert doctor["trimmed-unread"][0] in ("problem", "unknown")
        assert at("verify").code == 3
        assert at("consume", "--drain").code == 0
        (recorded,) = at("status", "-o", "json").json["incidents"]
        assert (recorded["id"], recorded["kind"], recorded["unread"]) == (1, found["kind"], found["unread"])
        assert at("check").code == 2
        assert at("incidents", "acknowledge", "--yes").code == 0
        assert at("check").code == 0
        assert at("consume", "--drain").code == 0
        assert len(incidents(client)) == 1


@pytest.mark.parametrize("how", ["trimmed first", "destroyed first", "everything trimmed"])
def test_a_backlog_that_nobody_saw_is_trimmed_and_the_group_destroyed(
    how: str, at: Cli, each_redis_server: RedisServer
) -> None:
    """Published, trimmed and the group destroyed after the last look: only the counters of the stream tell."""
    with each_redis_server.client() as client:
        drained(at, client, 20)
        assert seen(client)["left"] == 0
        read, added = seen(client)["position"], add(client, range(20, 50))
        if how == "destroyed first":
            client.xgroup_destroy(STREAM, GROUP)
        left = 0 if how == "everything trimmed" else 10
        client.xtrim(STREAM, maxlen=left, approximate=False)
        if how != "destroyed first":
            client.xgroup_destroy(STREAM, GROUP)
        counted = each_redis_server.kind.version >= "7"
        for number in (None, 1):
            (found,) = at("incidents", "-o", "json").json["incidents"]
            assert (found["id"], found["unread"]) == (number, 30 - left if counted else None)
            if counted:
                assert found["kind"] == "group-gone"
                (between,) = re.findall(r"[(]added between (\S+) and (\S+)[)]", found["detail"])
                assert between[0] == iso(EntryId.parse(read).ms)
                assert left == 0 or between[1] == iso(EntryId.parse(added[-left]).ms)
                assert f"{30 - left} entries after that position were removed" in found["detail"]
            else:
                assert "how many were added and removed unread after that is unknown" in found["detail"]
            verified = at("verify")
            assert verified.code == 3, verified.out
            assert "OK:" not in verified.out
            assert at("consume", "--drain").code == 0
        assert len(incidents(client)) == 1
        assert at("incidents", "acknowledge", "--yes").code == 0
        verified = at("verify")
        assert verified.code == (0 if left else 3)
        assert "1 acknowledged incident in which entries were lost: see `dvctl incidents --all`" in verified.err


@pytest.mark.parametrize("how", ["trimmed", "deleted", "one left", "trimmed, read again"])
def test_removing_what_was_read_is_no_loss_when_the_group_is_destroyed(
    how: str, at: Cli, each_redis_server: RedisServer
) -> None:
    with each_redis_server.client() as client:
        ids = add(client, range(20))
        assert at("consume", "--drain").code == 0
        add(client, range(20, 30))
        if how == "trimmed":
            client.xtrim(STREAM, minid=ids[19], approximate=False)
        elif how == "deleted":
            client.xdel(STREAM, *ids[3:15])
        elif how == "one left":
            client.xdel(STREAM, *ids[1:])
        else:
            client.xtrim(STREAM, minid=ids[15], approximate=False)
            assert at("consume", "--drain").code == 0
        client.xgroup_destroy(STREAM, GROUP)
        (found,) = at("incidents", "-o", "json").json["incidents"]
        assert (found["kind"], found["unread"]) == ("group-gone", 0), found["detail"]
        assert at("consume", "--drain").code == 0
        (recorded,) = incidents(client)
        assert recorded["unread"] == 0
        assert "added between" not in recorded["detail"]
        assert at("incidents", "acknowledge", "--yes").code == 0
        verified = at("verify")
        assert verified.code == 0
        assert "acknowledged incident" not in verified.err, "nothing was lost"


def test_without_a_group_nothing_is_said_to_be_well(at: Cli, each_redis_server: RedisServer) -> None:
    """Field case 22: no marker, because no dvctl ever ran; what was unread is unknown, never ok."""
    with each_redis_server.client() as client:
        add(client, range(40))
        assert at("check").code == 2, "a stream with entries and nobody who reads it"
        assert "no group devicevault: 40 entries wait, start `dvctl consume`" in at("check").out
        assert at("status").out.startswith("PROBLEM: no group devicevault: 40 entries wait")
        client.xgroup_create(STREAM, GROUP, "0")
        client.xreadgroup(GROUP, "somebody", {STREAM: ">"}, count=10)
        client.xtrim(STREAM, maxlen=5, approximate=False)
        client.xgroup_destroy(STREAM, GROUP)
        check = at("check")
        assert check.code == 2
        assert "no group devicevault: 5 entries wait" in check.out
        found = states(at)
        assert found["trimmed-unread"][0] == "unknown"
        if each_redis_server.kind.version >= "7":
            assert "35 entries were removed; without a group dvctl cannot tell" in found["trimmed-unread"][1]
        assert found["group"][0] == "problem"
        assert at("doctor").code == 3


def test_what_dvctl_itself_does_is_no_incident(at: Cli, each_redis_server: RedisServer) -> None:
    with each_redis_server.client() as client:
        drained(at, client, 20)
        assert at("trim", "--max-length", "5", "--yes").code == 0
        for words in (
            ["reset-group", "--to", "start", "--force", "--yes"],
            ["consume", "--drain"],
            ["destroy-group", "--force", "--confirm", GROUP],
        ):
            assert at(*words).code == 0, words
            assert at("incidents", "-o", "json").json == {"incidents": []}, words
        assert at("check").code == 2, "no group"
        assert at("consume", "--drain").code == 0
        assert at("trim", "--max-length", "0", "--yes").code == 0
        assert at("check").code == 0
        add(client, range(20, 25))
        assert at("consume", "--drain").code == 0
        assert at("verify").code == 0
        assert incidents(client) == []


@servers.two_redis(2)
@pytest.mark.parametrize("how", ["flushed", "old dump"])
def test_the_table_tells_of_a_stream_that_nobody_saw_go(how: str, at: Cli, each_redis_server: RedisServer) -> None:
    """Flushed, or restored with the marker of that time, while no consumer ran: the rows are newer than the stream."""
    with each_redis_server.client() as client:
        drained(at, client, 10)
        old = {key: client.dump(key) for key in (STREAM, SEEN)}
        end = int(seen(client)["last_id"].partition("-")[0]) + 1000
        wait_until(lambda: client.time()[0] * 1000 > end, what="a second")
        add(client, range(10, 20))
        assert at("consume", "--drain").code == 0
        assert at("doctor", "-o", "json").code == 0
        client.flushdb()
        if how == "old dump":
            for key, dump in old.items():
                client.restore(key, 0, dump)
        (found,) = at("status", "-o", "json").json["incidents"]
        assert (found["kind"], found["id"]) == ("table-ahead", None)
        assert "the stream may have been flushed, or restored from an old dump" in found["detail"]
        assert states(at)["incidents"][0] == "warning"
        if how == "flushed":
            assert at("check").code == 1
            assert at("verify").code == 3
        else:
            assert "newer than the last entry" in at("verify").err
        assert at("consume", "--drain").code == 0
        assert [one["kind"] for one in incidents(client)] == ["table-ahead"], "noted before it can be seen no more"
        assert at("incidents", "acknowledge", "--yes").code == 0
        for words in (["check"], ["consume", "--drain"]):
            assert at(*words).code == 0, words
        assert at("status", "-o", "json").json["incidents"] == []


def test_rows_of_devicevault_itself_are_no_evidence(at: Cli, sqlite_url: str, each_redis_server: RedisServer) -> None:
    """Its consumer writes the time of consumption, its scheduler rows of its own: both are newer than any entry."""
    with each_redis_server.client() as client:
        drained(at, client, 10)
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as database:
        database.execute(f"UPDATE {TABLE} SET timestamp = '2999-01-01 00:00:00.123' || (399 + id * 7 % 500)")
        database.execute(
            f"INSERT INTO {TABLE} (task_id, task_identifier, device_id, status, timestamp, log)"
            " VALUES ('', 'missed', 1, 'missed_window', '2999-01-01 00:00:01', '[]')"
        )
        database.commit()
    assert at("status", "-o", "json").json["incidents"] == []
    assert states(at)["incidents"][0] == "ok"
    assert at("verify").code == 0


def test_verify_has_nothing_to_give_an_all_clear_for(at: Cli, each_redis_server: RedisServer) -> None:
    """Field case 23."""
    with each_redis_server.client() as client:
        drained(at, client, 10)
        for more in ([], ["--counts"], ["--show", "lost"]):
            answer = at("verify", "--stream", "device:result", *more)
            assert answer.code == 3, more
            said = 'nothing to verify: there is no stream "device:result"; streams there are: device:results'
            assert said in " ".join((answer.out + answer.err).split()), more
            assert "OK" not in answer.out, more
        answer = at("verify", "--stream", "device:result", "-o", "json")
        assert (answer.code, answer.json["ok"], answer.json["stream"]["entries"]) == (3, False, 0)
        assert answer.json["classes"]["lost"] == 0
        client.xtrim(STREAM, maxlen=0, approximate=False)
        answer = at("verify")
        assert answer.code == 3
        said = 'stream "device:results" is empty, but the table holds 10 rows'
        assert said in " ".join((answer.out + answer.err).split())
        assert "accounted for" not in answer.out.replace("not accounted for", "")


# --- the keys beside the stream --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["dead", "dead:ids", "discarded", "alone", "seen", "incidents"])
def test_a_side_key_of_another_type_stops_nothing(
    suffix: str, dvctl: Dvctl, cli: Cli, redis_server: RedisServer, sqlite_url: str
) -> None:
    key = f"{{{STREAM}}}:{suffix}"
    looking = cli.at(redis_server.url, sqlite_url)
    with redis_server.client() as client:
        client.set(key, "x")
        dvctl.use(redis_server.url, sqlite_url)
        held = add(client, ["tried"])[0]
        client.xgroup_create(STREAM, GROUP, "0")
        client.xreadgroup(GROUP, "dead", {STREAM: ">"})
        for _ in range(11):
            client.xclaim(STREAM, GROUP, "dead", 0, [held])
        add(client, ["bad"], device_id="abc")
        add(client, range(5))
        reject = "drop" if suffix == "discarded" else "dead-letter"
        daemon = dvctl.start("consume", "--claim-idle", "100ms", "--on-reject", reject)
        wait_until(lambda: len(identifiers(sqlite_url)) >= 5, what="the good ones to be saved")
        if suffix in ("seen", "incidents"):
            client.delete(STREAM)
            daemon.wait_for("its last id went from")
            daemon.wait_for("cannot be written")
        else:
            daemon.wait_for("cannot be counted" if suffix == "alone" else "stays pending")
        add(client, ["later"])
        wait_until(lambda: "job-later" in identifiers(sqlite_url), what="it goes on")
        (found,) = [one for one in looking("doctor", "-o", "json").json["checks"] if one["name"] == "side-keys"]
        assert (found["status"], "holds a string" in found["detail"]) == ("problem", True)
        for words in (["status"], ["check"], ["incidents"], ["verify"]):
            assert "Traceback" not in looking(*words).err
        client.delete(key)
        if suffix in ("seen", "incidents"):
            wait_until(lambda: len(incidents(client)) == 1, what="the incident to be recorded late")
        else:
            wait_until(lambda: client.xpending(STREAM, GROUP)["pending"] == 0, timeout=60, what="nothing to be left")
        assert daemon.sigterm().code == 0
        assert daemon.stderr.count("Traceback") == 0


@servers.two_redis(0)
def test_without_a_right_on_the_marker_it_warns_once_and_goes_on(
    dvctl: Dvctl, each_redis_server: RedisServer, sqlite_url: str
) -> None:
    with each_redis_server.client() as client:
        own = [STREAM, *(f"{{{STREAM}}}:{name}" for name in ("dead", "dead:ids", "discarded", "alone"))]
        client.execute_command("ACL", "SETUSER", "old", "on", ">secret", *(f"~{key}" for key in own), "+@all")
        try:
            dvctl.use(each_redis_server.url_for("old", "secret"), sqlite_url)
            last = add(client, range(5))[-1]
            daemon = dvctl.start("consume")
            wait_until(lambda: len(identifiers(sqlite_url)) == 5, what="all to be saved")
            client.delete(STREAM)
            daemon.wait_for(f"its last id went from {last}")
            add(client, range(5, 8))
            wait_until(lambda: len(identifiers(sqlite_url)) == 8, what="it goes on")
            answer = daemon.sigterm()
            assert answer.code == 0
            assert answer.stderr.count("will not be recorded") == 1
            check = dvctl.run("check")
            assert (check.code, "cannot be read" in check.stdout) == (3, True), "what it may not see is unknown, not ok"
        finally:
            client.execute_command("ACL", "DELUSER", "old")


def test_a_time_to_live_is_a_problem(at: Cli, each_redis_server: RedisServer) -> None:
    with each_redis_server.client() as client:
        drained(at, client, 3)
        assert states(at)["side-keys"][0] == "ok"
        for key in (STREAM, SEEN):
            client.expire(key, 86_400)
            status, detail, fix = states(at)["side-keys"]
            assert status == "problem"
            assert f"{key} expires in" in detail
            assert "PERSIST" in fix
            assert key in fix
            assert at("doctor").code == 3
            client.persist(key)
        assert states(at)["side-keys"][0] == "ok"


def test_a_marker_that_dvctl_did_not_write_is_passed_over(at: Cli, each_redis_server: RedisServer) -> None:
    with each_redis_server.client() as client:
        for text in (
            "",
            "{",
            "[]",
            '{"last_id": "x"}',
            '{"at_ms": 1, "last_id": "1-1", "first_id": 5}',
            "null",
            "\xff",
        ):
            client.hset(SEEN, GROUP, text)
            client.hset(INCIDENTS, "5", text)
            client.hset(INCIDENTS, "hello", text)
            add(client, range(2))
            assert at("status").code == 0
            assert at("consume", "--drain").code == 0
            assert at("check").code == 0
            client.delete(SEEN, INCIDENTS)


def test_hostile_names_in_incidents_are_inert(cli: Cli, redis_server: RedisServer) -> None:
    evil = "\x1b]0;title\x07\u202e|\n"
    with redis_server.client() as client:
        client.xadd(STREAM, message("one"))
        marker = {"at_ms": 1, "kind": "stream", "length": 9, "first_id": "1-1", "last_id": f"{2**64 - 1}-1", "added": 9}
        marker |= {"position": "1-1", "read": 1, "pending": 0, "consumers": 1, "left": 8, "next_id": "2-1", "epoch": 0}
        client.hset(SEEN, evil.encode(), json.dumps(marker))
        for words in (["status"], ["check", "--group", evil], ["doctor"], ["incidents"], ["incidents", "-o", "csv"]):
            answer = cli.at(redis_server.url)(*words)
            assert "\x1b" not in answer.out + answer.err, words
            assert "\u202e" not in answer.out + answer.err, words
        assert cli.at(redis_server.url)("check", "--group", evil).out.count("\n") == 1


def test_a_trim_that_the_group_has_passed_already(at: Cli, each_redis_server: RedisServer) -> None:
    """Nobody looked in between. Redis 7.0 still counts it; others do not, and nothing is made up."""
    with each_redis_server.client() as client:
        drained(at, client, 10)
        add(client, range(10, 100))
        client.xtrim(STREAM, maxlen=20, approximate=False)
        client.xreadgroup(GROUP, "another", {STREAM: ">"}, count=5)
        found = at("status", "-o", "json").json["incidents"]
        if each_redis_server.kind.version.startswith("7.0"):
            (incident,) = found
            assert incident["kind"] == "entries-removed"
            assert 60 < incident["unread"] <= 70
            assert incident["detail"].startswith("at least ")
        else:
            assert found == []
