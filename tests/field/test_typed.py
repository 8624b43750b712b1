"""What people type: positions on a stream, times, options that mean nothing together, and usage errors in one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.cli.conftest import Answer, Cli
from tests.support.entries import entries
from tests.support.process import Dvctl

STREAM, GROUP = "device:results", "devicevault"
SECOND, MILLISECOND = "1768193220", "1768193220000"
"""2026-01-12T04:47:00Z."""


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """Four entries around that moment, all held by a consumer; four dead letters, written now."""
    ids = ["1767225600000-0", "1768193219999-7", "1768193220000-0", "1768193220000-5"]
    with redis.Redis.from_url(redis_url) as client:
        for key in ids:
            client.xadd(STREAM, {"device_id": "1", "status": "success", "task_identifier": key}, id=key)
            about = {"_dvctl.id": key, "_dvctl.group": GROUP, "_dvctl.reason": "unknown-device"}
            client.xadd("{device:results}:dead", {"device_id": "7777", **about})
        client.xgroup_create(STREAM, GROUP, "0")
        client.xreadgroup(GROUP, "worker-1", {STREAM: ">"})
        yield client


def usage(answer: Answer) -> str:
    """The one line of a usage error."""
    assert (answer.code, answer.out) == (2, ""), answer.err
    assert "Traceback" not in answer.err
    (line,) = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    return line


def chosen(at: Cli, name: str, folder: Path, *bounds: str) -> int:
    """How many entries a command chooses."""
    if name == "pending":
        return len(at("pending", *bounds, "-o", "ids").out.split())
    if name == "replay":
        return int(at("replay", *bounds, "--dry-run", "-o", "json").json["selected"])
    if name == "export":
        answer = at("export", str(folder / "x.jsonl"), "--replace", *bounds, "-o", "json")
        return int(answer.json["exported"])
    if name == "tail":
        return len(at("tail", "--no-follow", *bounds, "-o", "ids").out.split())
    if name == "dlq":
        return int(at("dlq", "list", *bounds, "-o", "json").json["total"])
    return int(at("verify", *bounds, "-o", "json").json["stream"]["entries"])


RANGES = {
    ("start", "end"): 4,
    ("-", "+"): 4,
    ("0", "+"): 4,
    ("0-0", "18446744073709551615-18446744073709551615"): 4,
    ("end", "end"): 0,
    ("1768193219999-7", "1768193220000-0"): 2,
    (MILLISECOND, MILLISECOND): 2,
    ("2026-01-12T04:47:00Z", "2026-01-12T04:47:00Z"): 2,
    ("2026-01-12T04:47", "2026-01-12 04:47:00"): 2,
    ("2026-01-12 05:47:00+01:00", "end"): 2,
    ("20260112T044700Z", "end"): 2,
    ("2026-01-12", "2026-01-13"): 3,
    ("20260112", "20260113"): 3,
    ("2026-W03-1", "2026-W03-2"): 3,
    ("5-5", "1767225600000"): 1,
    ("-1000w", "-0"): 4,
}


@pytest.mark.parametrize("bounds", RANGES, ids=" to ".join)
@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("pending", "--from", "--to"),
        ("replay", "--from", "--to"),
        ("export", "--from", "--to"),
        ("verify", "--since", "--until"),
    ],
)
def test_a_range_is_written_alike_everywhere(
    name: str, first: str, last: str, bounds: tuple[str, str], at: Cli, client: redis.Redis, tmp_path: Path
) -> None:
    start, end = bounds
    assert chosen(at, name, tmp_path, first, start, last, end) == RANGES[bounds]


@pytest.mark.parametrize(
    ("since", "tailed", "letters"),
    [
        ("start", 4, 4),
        ("-", 4, 4),
        ("0-0", 4, 4),
        ("end", 0, 0),
        (MILLISECOND, 2, 4),
        ("2026-01-12", 3, 4),
        ("2026-W03-1", 3, 4),
        ("1768193220000-5", 1, 4),
        ("-1h", 0, 4),
    ],
)
def test_since_too(since: str, tailed: int, letters: int, at: Cli, client: redis.Redis, tmp_path: Path) -> None:
    assert chosen(at, "tail", tmp_path, "--since", since) == tailed
    assert chosen(at, "replay", tmp_path, "--since", since) == tailed
    assert chosen(at, "dlq", tmp_path, "--since", since) == letters


BOUNDS = [
    *(["pending", "--from"], ["pending", "--to"], ["replay", "--from"], ["replay", "--to"], ["replay", "--since"]),
    *(["export", "x", "--from"], ["export", "x", "--to"], ["export", "x", "--since"], ["tail", "--since"]),
    *(["dlq", "list", "--since"], ["dlq", "drop", "--since"], ["verify", "--since"], ["verify", "--until"]),
    ["reset-group", "--to"],
]
"""Every option that takes a position."""


@pytest.mark.parametrize("words", BOUNDS, ids=" ".join)
def test_seconds_and_unfinished_times_are_usage_errors(words: list[str], at: Cli) -> None:
    for typed in (SECOND, f"{SECOND}-0"):
        line = usage(at(*words, typed, "--yes") if words[0] == "reset-group" else at(*words, typed))
        assert words[-1] in line or words[0] == "reset-group"
        assert f"looks like seconds; write {MILLISECOND} or 2026-01-12T04:47:00Z" in line
    for typed in ("2026-01", "2026", "yesterday", "2026-13-01", "", "(5-5", "1-18446744073709551616"):
        usage(at(*words, typed, "--yes") if words[0] == "reset-group" else at(*words, typed))


def test_times_in_the_future_are_said(at: Cli, client: redis.Redis) -> None:
    for words in (["pending", "--from"], ["tail", "--no-follow", "--since"], ["dlq", "list", "--since"]):
        answer = at(*words, "2199-01-01")
        assert answer.code == 0
        assert f"warning: {words[-1]}: 2199-01-01T00:00:00.000Z is in the future" in answer.err
        assert "future" not in at(*words, "end").err
        assert "future" not in at(*words, "2026-01-12").err


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("consume --max-wait 5s", "--max-wait needs --drain or --max-messages"),
        ("consume --drain --instance 2 --consumer me", "--instance and --consumer exclude each other"),
        ("pending --from 5-5 --to 4-4", "--from 5-5 is after --to 4-4"),
        ("replay --from 2026-02-01 --to 2026-01-01 --yes", "is after --to"),
        ("export x --since 9-9 --to 8-8", "is after --to"),
        ("verify --since 9-9 --until 8-8", "--since 9-9 is after --until 8-8"),
        ("verify --every 5s", "--every needs --watch"),
        ("verify --yes", "--repair"),
        ("verify --dry-run", "--repair"),
        ("verify --counts --since -1h", "--counts counts everything"),
        ("verify --deep --watch", "--deep does not combine"),
        ("replay 5-5 --max-copies 2 --yes", "--max-copies needs --republish"),
        ("replay --yes", "no entries are chosen"),
        ("dlq drop 5-5 --all --yes", "either ids or --all"),
        ("dlq drop --yes", "no dead letters are chosen"),
        ("claim --yes", "no entries are chosen"),
        ("ack --yes", "missing argument ID..."),
        ("consumers retire --yes", "either names of consumers or --dead-for"),
        ("consumers retire a --dead-for 1h --yes", "either names of consumers or --dead-for"),
        ("export", "missing argument FILE"),
        ("reset-group --yes", "missing option --to"),
        ("restore-group --yes", "missing argument FILE; snapshots: none"),
        ("show", "missing argument ID..."),
        ("reset-group --to + --yes", "not a position"),
    ],
)
def test_what_means_nothing_is_said_in_its_own_words(line: str, told: str, at: Cli) -> None:
    assert told in usage(at(*line.split()))


def test_a_trim_without_a_limit_says_what_it_would_do(at: Cli, client: redis.Redis) -> None:
    client.xack(STREAM, GROUP, *[key for key, _ in entries(client, STREAM)])
    answer = at("trim", "--dry-run")
    assert answer.code == 0
    assert "neither --keep nor --max-length is given" in answer.err
    assert "add --export FILE" in answer.err
    answer = at("trim", "--keep", "0", "--dry-run", "--ignore-group", "devicevalt")
    assert "neither" not in answer.err
    assert 'no group "devicevalt"; did you mean "devicevault"?' in answer.err
    assert client.xlen(STREAM) == 4


@pytest.mark.parametrize(
    "line",
    [
        "{v}",
        "{v} staus",
        "{v} status --nonsense",
        "staus {v}",
        "pending {v} --nonsense",
        "pending --nonsense {v}",
        "pending --count x {v}",
        "pending {v} --from 1768193220",
        "pending --from 2199-13-01 {v}",
        "show 12x {v}",
        "ack 5-5 {v}",
        "restore-group {v}",
        "dlq nonsense {v}",
        "db {v}",
        "consume {v} --max-wait 5s",
        "config -o ids {v}",
    ],
)
def test_a_usage_error_never_prints_a_traceback(line: str, dvctl: Dvctl, redis_url: str, sqlite_url: str) -> None:
    """The installed command, so that nothing between the shell and the error can print one either."""
    dvctl.use(redis_url, sqlite_url)
    answer = dvctl.run(*line.format(v="-v" if len(line) % 2 else "--verbose").split())
    assert (answer.code, answer.stdout) == (2, ""), answer.stderr
    first, *rest = answer.stderr.splitlines()
    assert first.startswith("error: "), answer.stderr
    assert len(rest) <= 1, answer.stderr
    assert "Traceback" not in answer.stderr
    assert "which led to" not in answer.stderr
