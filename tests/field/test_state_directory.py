"""Users without a home, full and read-only state directories, no temporary directory: nothing fails after a change."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from devicevault_cli.directories import NoStateDirectory, state_directory, temporary_directory, temporary_file
from tests.support import messages
from tests.support.entries import read_new
from tests.support.oracle import GROUP, STREAM
from tests.support.process import DVCTL, Answer, Dvctl
from tests.support.redis_server import RedisServer

NOBODY = 12345
"""A user id that no passwd file lists."""
UNJOURNALLED = "this change will not be journalled: "
Run = Callable[..., Answer]


def nobody() -> list[str]:
    """Runs a command as a user that is not listed anywhere. It may read what root may, but not write."""
    if os.geteuid():
        return ["env", "HOME=/nonexistent"]
    may_read = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")
    return ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", *may_read]


@pytest.fixture
def homeless(dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str) -> Iterator[Run]:
    """Runs dvctl as that user, without a variable that names a directory; the database may be written."""
    messages.publish(redis_server.client(), messages.mixed(5, seed=2))
    dvctl.use(redis_server.url, sqlite_url)
    database = Path(sqlite_url.removeprefix("sqlite:///"))
    database.parent.chmod(0o777)
    database.chmod(0o666)
    kept = {name: value for name, value in dvctl.environment.items() if name != "HOME" and not name.startswith("XDG_")}

    def run(*words: str, limit: int | None = None, stdin: str = "", **environ: str) -> Answer:
        done = subprocess.run(
            [*nobody(), DVCTL, *words],
            env=kept | environ,
            cwd="/",
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            preexec_fn=None if limit is None else lambda: limited(limit),
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    yield run
    database.parent.chmod(0o700)


def limited(size: int) -> None:
    """No file of this process grows beyond a size: what a full disk looks like to it."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def pending(client: redis.Redis) -> list[Any]:
    """What the group holds."""
    return client.xpending_range(STREAM, GROUP, "-", "+", 100)


def test_without_a_state_directory_changes_are_made_and_not_journalled(
    homeless: Run, redis_server: RedisServer
) -> None:
    """Each was applied and then reported as an internal error."""
    client = redis_server.client()
    client.xgroup_create(STREAM, GROUP, "0")
    ids = [key.decode() for key, _ in read_new(client, STREAM, GROUP, "away", count=3)]
    client.xgroup_createconsumer(STREAM, GROUP, "idle")
    changes = [
        ("ack", ids[0]),
        ("claim", ids[1], "--to", "heir"),
        ("claim", "--release", ids[1]),
        ("consumers", "retire", "idle"),
        ("replay", "--since", "-1d"),
    ]
    for words in changes:
        answer = homeless(*words, "--yes")
        assert (answer.code, answer.stderr.count(UNJOURNALLED)) == (0, 1), (words, answer)
        assert "XDG_STATE_HOME" in answer.stderr
        assert "error" not in answer.stderr
    held = [(each["message_id"].decode(), each["consumer"]) for each in pending(client)]
    assert held[0] == (ids[1], b"heir")
    assert ids[0] not in dict(held)
    drained = homeless("consume", "--drain", "--claim-idle", "0")
    assert drained.code == 0, drained
    dead = client.xlen(f"{{{STREAM}}}:dead")
    assert dead > 1
    assert UNJOURNALLED in homeless("dlq", "retry", "--all", "--yes").stderr
    dropped = homeless("dlq", "drop", "--all", "--yes", "-o", "json")
    assert (dropped.code, dropped.json()["dropped"], client.xlen(f"{{{STREAM}}}:dead")) == (0, dead, 0)
    assert homeless("trim", "--keep", "0", "--yes").code == 0
    assert UNJOURNALLED in homeless("db", "index", "--yes").stderr
    assert client.xlen(STREAM) < dead


def group_state(client: redis.Redis) -> Any:
    """What must not change."""
    return client.xinfo_groups(STREAM), [(each["message_id"], each["consumer"]) for each in pending(client)]


@pytest.mark.parametrize(
    "environ",
    [{}, {"HOME": "/nonexistent"}, {"HOME": "/"}, {"XDG_STATE_HOME": "/proc/1"}, {"STATE_DIRECTORY": "/nonexistent"}],
    ids=lambda environ: " ".join(f"{name}={value}" for name, value in environ.items()) or "no home",
)
def test_without_a_state_directory_no_group_state_is_discarded(
    homeless: Run, redis_server: RedisServer, environ: dict[str, str]
) -> None:
    client = redis_server.client()
    client.xgroup_create(STREAM, GROUP, "0")
    client.xreadgroup(GROUP, "away", {STREAM: ">"}, count=3)
    before = group_state(client)
    for words in (["reset-group", "--to", "end", "--yes"], ["destroy-group", "--confirm", GROUP]):
        answer = homeless(*words, "--force", **environ)
        assert answer.code == 1, answer
        assert "\nhint: set XDG_STATE_HOME to a directory" in answer.stderr
        assert "an error in dvctl" not in answer.stderr
        assert group_state(client) == before
        asked = homeless(
            words[0], *(["--to", "end"] if words[0] == "reset-group" else []), "--force", "--dry-run", **environ
        )
        assert (asked.code, "would be REFUSED" in asked.stderr, "XDG_STATE_HOME" in asked.stderr) == (0, True, True)


def test_surplus_rows_stay_where_they_cannot_be_kept(homeless: Run, sqlite_url: str) -> None:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as database, database:
        row = "('t', 'same', 1, 'success', '2026-01-01 00:00:00', '[]')"
        database.execute(
            "INSERT INTO devices_devicebackupresult (task_id, task_identifier, device_id, status, timestamp, log) "
            f"VALUES {row}, {row}"
        )
    answer = homeless("db", "dedupe", "--yes")
    assert (answer.code, "XDG_STATE_HOME" in answer.stderr) == (1, True), answer
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as database:
        assert database.execute("SELECT count(*) FROM devices_devicebackupresult").fetchone() == (2,)


def test_the_directory_of_a_service_holds_snapshots_and_journal(
    homeless: Run, redis_server: RedisServer, tmp_path: Path
) -> None:
    redis_server.client().xgroup_create(STREAM, GROUP, "0")
    own = tmp_path / "service"
    own.mkdir(mode=0o777)
    own.chmod(0o777)
    words = ("reset-group", "--to", "end", "--yes", "-o", "json")
    answer = homeless(*words, STATE_DIRECTORY=f"{own}:/nonexistent")
    assert answer.code == 0, answer
    assert Path(answer.json()["snapshot"]).parent == own / "snapshots"
    assert [json.loads(line)["command"] for line in (own / "journal.jsonl").read_text().splitlines()] == [
        f"reset-group {GROUP}"
    ]
    assert UNJOURNALLED not in answer.stderr
    undone = homeless("restore-group", answer.json()["snapshot"], "--yes", STATE_DIRECTORY=str(own))
    assert undone.code == 0, undone


def test_which_directory_is_taken() -> None:
    known = {"XDG_STATE_HOME": "/x", "STATE_DIRECTORY": "/s:/t", "HOME": "/h"}
    found = []
    while known:
        found.append(str(state_directory(known)))
        known.pop(next(iter(known)))
    assert found == ["/x/dvctl", "/s", "/h/.local/state/dvctl"]


def test_a_user_that_is_not_listed_has_no_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: NOBODY)
    with pytest.raises(NoStateDirectory):
        state_directory({})


def test_a_full_disk_under_the_journal_loses_no_line(homeless: Run, redis_server: RedisServer, tmp_path: Path) -> None:
    """The journal takes the beginning of a line; the whole one is on stderr, and the next one is not glued to it."""
    client = redis_server.client()
    client.xgroup_create(STREAM, GROUP, "0")
    ids = [key.decode() for key, _ in read_new(client, STREAM, GROUP, "away", count=3)]
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o777)
    assert homeless("ack", ids[0], "--yes", XDG_STATE_HOME=str(state)).code == 0
    journal = state / "dvctl" / "journal.jsonl"
    full = homeless("ack", ids[1], "--yes", XDG_STATE_HOME=str(state), limit=journal.stat().st_size + 20)
    assert full.code == 0, full
    (told,) = [line for line in full.stderr.splitlines() if "cannot be written: File too large" in line]
    assert json.loads(told.partition("its line: ")[2])["plan"]
    assert ids[1] in told
    assert homeless("ack", ids[2], "--yes", XDG_STATE_HOME=str(state)).code == 0
    first, torn, last = journal.read_text().splitlines()
    assert (ids[0] in first, ids[2] in last, len(torn)) == (True, True, 20)
    assert json.loads(last)["command"] == json.loads(first)["command"]
    assert pending(client) == []


def test_a_journal_of_somebody_else_is_told_before_the_change(homeless: Run, redis_server: RedisServer) -> None:
    client = redis_server.client()
    client.xgroup_create(STREAM, GROUP, "0")
    ((key, _),) = read_new(client, STREAM, GROUP, "away", count=1)
    answer = homeless("ack", key.decode(), "--yes", XDG_STATE_HOME="/proc/1")
    assert (answer.code, pending(client)) == (0, []), answer
    assert f"{UNJOURNALLED}/proc/1/dvctl cannot be written: " in answer.stderr


def test_profiles_need_a_home(homeless: Run) -> None:
    if os.geteuid():
        pytest.skip("only root can be a user who is not listed")
    for words in (["consume", "--profile", "x"], ["status", "--profile", "x"]):
        answer = homeless(*words)
        assert (answer.code, "hint: set XDG_CONFIG_HOME" in answer.stderr) == (78, True), answer
    answer = homeless("status", "--config", "~/config.yaml")
    assert (answer.code, "hint: set HOME" in answer.stderr) == (78, True), answer
    typed = {"COMP_WORDS": "dvctl status --profile ", "COMP_CWORD": "3", "_DVCTL_COMPLETE": "complete_bash"}
    completed = homeless(**typed)
    assert (completed.stdout.strip(), completed.stderr) == ("", "")


def test_without_a_temporary_directory(homeless: Run) -> None:
    """No file can be created anywhere."""
    export = '{"id":"1-1","fields":{"device_id":"1"}}\n'
    for words in (["verify", "--deep"], ["demo"], ["publish", "--file", "-"], ["replay", "--file", "-", "--dry-run"]):
        answer = homeless(*words, limit=0, stdin=export)
        assert answer.code == 1, answer
        assert "error: a temporary file cannot be written: No usable temporary directory" in answer.stderr
        assert "\nhint: set TMPDIR" in answer.stderr


def test_temporary_files_go_to_the_cache_directory_of_a_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd's CacheDirectory= may be the only large place that a service can write to."""
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setenv("CACHE_DIRECTORY", f"{tmp_path}:/elsewhere")
    with temporary_file(named=True) as file, temporary_directory() as directory:
        assert (Path(file.name).parent, Path(directory).parent) == (tmp_path, tmp_path)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)  # what it found before
    with temporary_file(named=True) as file:
        assert Path(file.name).parent == tmp_path / "tmp"
