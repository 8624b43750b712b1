"""What each command shows to people, whole, at 80 columns: on a terminal in colour, and the same without in a pipe."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from devicevault_cli.operations.monitoring.incidents import Incident
from devicevault_cli.operations.monitoring.status import (
    ConsumerStatus,
    DeadLettersStatus,
    GroupStatus,
    StatusAnswer,
    StreamStatus,
    TableStatus,
)
from devicevault_cli.operations.monitoring.verdict import verdict
from devicevault_cli.output.entries_page import tail_lines
from devicevault_cli.output.status_page import status_lines
from devicevault_cli.output.view import View
from devicevault_cli.streams.model import EntryId
from tests.cli.conftest import CLOSED_DATABASE, Answer, Cli
from tests.support.incidents import STAGED
from tests.support.looks import assert_looks, still, tagged
from tests.support.process import Dvctl
from tests.support.recovering import group_on, table_at
from tests.support.screen import on_a_terminal

COLOUR = re.compile(r"\x1b\[[\d;]+m")


@pytest.fixture
def seen(at: Cli) -> Callable[..., Answer]:
    """Run a command in a pipe, without colours, and on a terminal. -> stdout of the latter, stderr of the former"""

    def run(*words: str, at: Cli = at, typed: str = "") -> Answer:
        piped = at(*words)
        assert "\x1b" not in piped.out + piped.err
        # A path to copy is not folded.
        assert max((len(line) for line in piped.out.splitlines() if "/" not in line), default=0) <= 80
        coloured = replace(at.typing(typed), environ=at.environ | {"TERM": "xterm-256color"})(*words)
        return replace(coloured, err=piped.err)  # without a moving line of progress

    return run


@pytest.fixture
def staged(redis_url: str, sqlite_url: str) -> Iterator[Callable[[str], None]]:
    """Stages an incident by its name."""
    with group_on(redis_url) as group, table_at(sqlite_url) as table:
        yield lambda name: STAGED[name](group, table)


@pytest.mark.parametrize("incident", ["stuck-system", "dead-letters", "rebuild-group", "redis-flushed", "none"])
def test_status(seen: Callable[..., Answer], staged: Callable[[str], None], incident: str) -> None:
    if incident != "none":
        staged(incident)
    answer = seen("status")
    assert answer.code == 0
    assert_looks(f"status-{incident}", answer.out + answer.err)


def test_status_without_database(seen: Callable[..., Answer], staged: Callable[[str], None], at: Cli) -> None:
    staged("dead-letters")
    answer = seen("status", "--no-dispatch", at=at.at(database_url=CLOSED_DATABASE))
    assert answer.code == 69
    assert_looks("status-no-database", answer.out)


@pytest.mark.parametrize("incident", ["stuck-system", "lost-results", "duplicates", "redis-flushed", "dead-letters"])
def test_verify(seen: Callable[..., Answer], staged: Callable[[str], None], incident: str) -> None:
    staged(incident)
    answer = seen("verify")
    assert_looks(f"verify-{incident}", answer.out + answer.err)


@pytest.mark.parametrize("incident", ["stuck-system", "duplicates"])
def test_doctor(seen: Callable[..., Answer], staged: Callable[[str], None], incident: str) -> None:
    staged(incident)
    answer = seen("doctor")
    # The checks of the servers themselves differ from server to server.
    pages = re.split(r"(?m)^(?=\S)", answer.out)
    assert_looks(
        f"doctor-{incident}", "".join(page for page in pages if not re.search(r" (redis-\w+|database) ", page))
    )


@pytest.mark.parametrize(
    "words",
    [["pending"], ["pending", "--summary"], ["pending", "-n", "2"], ["dlq", "list"], ["dlq", "stats"]],
    ids=" ".join,
)
@pytest.mark.parametrize("incident", ["stuck-pending", "dead-letters"])
def test_lists(seen: Callable[..., Answer], staged: Callable[[str], None], words: list[str], incident: str) -> None:
    staged(incident)
    answer = seen(*words)
    assert_looks(f"{'-'.join(words)}-{incident}", answer.out + answer.err)


ENTRIES = [
    ("stuck-pending", "tail --no-follow -n 4"),
    ("stuck-pending", "consumers"),
    ("dead-consumer", "consumers"),
    ("none", "consumers"),
    ("dead-letters", "tail --no-follow -n 12"),
]


@pytest.mark.parametrize(("incident", "words"), ENTRIES)
def test_entries_and_consumers(
    seen: Callable[..., Answer], staged: Callable[[str], None], incident: str, words: str
) -> None:
    if incident != "none":
        staged(incident)
    answer = seen(*words.split())
    assert answer.code == 0
    name = re.sub(r"\W+", "-", words)
    assert_looks(f"{name}-{incident}", answer.out)


def test_entries_whole(seen: Callable[..., Answer], staged: Callable[[str], None], at: Cli) -> None:
    staged("stuck-pending")
    ids = at("tail", "--no-follow", "-n", "1", "-o", "ids").out.split()
    assert_looks("show-stuck-pending", seen("show", "1767225600000-0", *ids).out)


def test_dead_letters_whole(seen: Callable[..., Answer], staged: Callable[[str], None], at: Cli) -> None:
    staged("dead-letters")
    first = at("dlq", "list", "-o", "ids").out.split()[:2]
    shown = re.sub(r"(?<=  )\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ(?=, after)", "AT", seen("dlq", "show", *first).out)
    assert_looks("dlq-show-dead-letters", shown)


def test_wide_terminals_show_the_log(at: Cli, staged: Callable[[str], None]) -> None:
    staged("stuck-pending")
    entries = [json.loads(line) for line in at("tail", "--no-follow", "-n", "3", "-o", "jsonl").out.splitlines()]
    shown = list(tail_lines(entries, View(140, coloured=True)))
    assert_looks("tail-140", "\n".join(shown) + "\n")
    for width in (40, 80, 119, 120, 200):
        assert max(map(len, tail_lines(entries, View(width, coloured=False)))) <= max(width, 70)


def test_what_was_exported_and_published(
    seen: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    nothing = seen("export", "x.jsonl", "--replace")
    published = seen("publish", "-n", "3", "--device", "7")
    exported = seen("export", "x.jsonl", "--replace")
    ids = re.compile(r"\d{13}-\d+ *\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ")
    shown = ids.sub("ID AT", f"{nothing.out}----\n{published.out}----\n{exported.out}")
    assert_looks("export-publish", shown)


@pytest.mark.parametrize("words", ["config", "config --profile staging --no-dispatch"])
def test_config(seen: Callable[..., Answer], cli: Cli, words: str) -> None:
    path = Path(cli.environ["XDG_CONFIG_HOME"]) / "dvctl" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text('[staging]\nredis-url = "redis://:secret@redis.example/1"\nstream = "staging:results"\n')
    at = cli.at("redis://localhost:6379/1", "postgresql://dv@db.example/devicevault")
    assert_looks(re.sub(r"\W+", "-", words), seen(*words.split(), at=at).out)


def test_history(seen: Callable[..., Answer], staged: Callable[[str], None], at: Cli, tmp_path: Path) -> None:
    """What was changed, and what can be restored."""
    staged("stuck-pending")
    for words in (
        "claim --idle 0 --to backup-2-0",
        "ack 1767225600000-0 --why retired",
        "destroy-group --force --confirm devicevault",
        "claim --idle 0 --yes",
        "db init",
    ):
        at(*words.split(), *([] if "--confirm" in words else ["--yes"]))
    (newest, *_) = at("snapshots", "-o", "json").json["snapshots"]
    for name in ("journal", "snapshots"):
        shown = re.sub(r"\S+@\S+", "USER@HOST", seen(name).out)
        shown = re.sub(r"SQLite file\s+\S+(?=\s)", "DATABASE", shown)  # where it is folded depends on its length
        shown = re.sub(re.escape(str(tmp_path)) + r"(?!\S*\.jsonl)", "FOLDER", shown)
        assert_looks(name, re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "YYYY-MM-DD hh:mm:ssZ", shown))
    with Path(newest["file"]).open("a", encoding="utf-8") as file:
        file.write("{}")
    assert "DAMAGED" in seen("snapshots").out


@pytest.mark.parametrize("words", [["--help"], ["dlq", "--help"], ["help", "dlq", "retry"]], ids=" ".join)
def test_help(words: list[str], dvctl: Dvctl) -> None:
    with on_a_terminal(words, dvctl.environment, rows=80) as screen:
        assert screen.code() == 0
        screen.watch(0.2)
        lines = [line.rstrip() for line in still(tagged(screen.raw.decode().replace("\r\n", "\n"))).splitlines()]
    assert_looks("-".join(["help", *(word for word in words if word.isalpha() and word != "help")]), "\n".join(lines))


CHANGES = [
    ("dead-letters", "dlq drop --all"),
    ("dead-letters", "dlq drop --reason malformed-log"),
    ("dead-letters", "dlq retry --all"),
    ("dead-letters", "dlq retry --reason unknown-device --set device_id=12"),
    ("dead-letters", "replay --from start"),
    ("dead-consumer", "consumers retire backup-1-0 --to backup-2-0"),
    ("stuck-pending", "claim --idle 0 --to backup-2-0"),
    ("stuck-pending", "claim --idle 10m"),
    ("stuck-pending", "ack 1767225600000-0"),
    ("rebuild-group", "reset-group --to 2026-01-01T00:00:10Z"),
    ("rebuild-group", "destroy-group"),
    ("rebuild-group", "trim --max-length 12"),
    ("duplicates", "db dedupe"),
    ("duplicates", "db index"),
    ("lost-results", "verify --repair"),
    ("lost-results", "replay --missing"),
    ("redis-flushed", "incidents acknowledge"),
]


@pytest.mark.parametrize(("incident", "words"), CHANGES)
def test_plans_and_results(
    seen: Callable[..., Answer], staged: Callable[[str], None], at: Cli, incident: str, words: str
) -> None:
    """The plan of a dry run, then the change itself."""
    staged(incident)
    dry = seen(*words.split(), "--dry-run")
    consent = ["--confirm", "devicevault"] if words == "destroy-group" else ["--yes"]
    coloured = replace(at.typing(""), environ=at.environ | {"TERM": "xterm-256color"})
    done = coloured(*words.split(), *consent)
    name = re.sub(r"\W+", "-", words)
    assert_looks(f"change-{name}-{incident}", f"{dry.err}{dry.out}----\n{done.out}")


HEALTHY = StatusAnswer(
    StreamStatus("device:results", 1_204_500, EntryId(1_767_225_600_000, 0), EntryId(1_767_312_000_000, 0),
                 EntryId(1_767_312_000_000, 0), 1_204_500, 450_000_000),
    [GroupStatus("devicevault", 2, 40, 1200, "redis", 1.5, EntryId(1, 0), EntryId(1, 0), 900, 0)],
    [ConsumerStatus("devicevault", f"backup-{n}-0", 20 * n, 12, None, True) for n in (1, 2)],
    TableStatus("devices_devicebackupresult", 1_203_000, "2026-01-02T00:00:00.000000Z"),
    DeadLettersStatus("{device:results}:dead", 0, 0),
    0,
    [],
)  # fmt: skip


def shown(answer: StatusAnswer, *, coloured: bool = True) -> list[str]:
    facts = answer.to_dict() | {"table": answer.table and answer.table.summary}
    found = verdict(answer, "device:results", "devicevault")
    return list(status_lines(facts, View(80, coloured), *found, "off (no broker is configured)"))


def test_the_verdict_is_green_when_all_is_well() -> None:
    assert_looks("status-healthy", "\n".join(shown(HEALTHY)) + "\n")
    assert [COLOUR.sub("", line) for line in shown(HEALTHY)] == shown(HEALTHY, coloured=False)


def test_the_verdict_names_what_is_worst_first() -> None:
    dead = replace(HEALTHY.consumers[0], alive=False, idle_ms=2_000_000)
    late = replace(HEALTHY.groups[0], lag=12_000, lag_s=2040.0, oldest_pending_age_ms=2_040_000)
    lost = Incident(1, "2026-01-01T00:00:00Z", "stream-restarted", "device:results", "devicevault", "it restarted")

    def said(**changes: object) -> tuple[str, str]:
        return verdict(replace(HEALTHY, **changes), "device:results", "devicevault")  # type: ignore[arg-type]

    assert said() == ("ok", "1,200 entries behind, 40 pending, 2 consumers alive")
    assert said(consumers=[dead, HEALTHY.consumers[1]], groups=[late]) == (
        "problem", "1 of 2 consumers is dead, 12,000 entries behind (34m), 40 pending"
    )  # fmt: skip
    assert said(consumers=[replace(dead, pending=0), HEALTHY.consumers[1]])[0] == "warning"
    assert said(incidents=[lost])[1].startswith("1 incident")
    assert said(groups=[replace(HEALTHY.groups[0], lag=None, lag_s=None)])[0] == "warning"
    assert said(groups=[], consumers=[]) == ("problem", "no group devicevault: 1,204,500 entries wait")
    assert said(dead=replace(HEALTHY.dead, length=3))[0] == "warning"


def test_status_is_watched_until_q(
    dvctl: Dvctl, redis_url: str, sqlite_url: str, staged: Callable[[str], None]
) -> None:
    dvctl.use(redis_url, sqlite_url)
    with on_a_terminal(["status", "--watch", "--every", "200ms"], dvctl.environment) as screen:
        screen.wait_for("there is no stream device:results yet")
        staged("dead-letters")
        screen.wait_for("4 dead letters")
        screen.type("q")
        assert screen.code() == 0
    answer = dvctl.run("status", "--watch")
    assert (answer.code, answer.stdout) == (2, "")
    assert "needs a terminal" in answer.stderr
