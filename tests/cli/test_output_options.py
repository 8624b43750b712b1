"""-q, --color, --errors json, and csv, whose cells are single values below a head that is always there."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.cli.conftest import CLOSED, CLOSED_DATABASE, Cli
from tests.support.incidents import STAGED
from tests.support.recovering import group_on, table_at


@pytest.fixture
def staged(at: Cli, redis_url: str, sqlite_url: str) -> Callable[[str], Cli]:
    def stage(name: str) -> Cli:
        with group_on(redis_url) as group, table_at(sqlite_url) as table:
            STAGED[name](group, table)
        return at

    return stage


def test_quiet_leaves_the_answer_and_what_is_wrong(staged: Callable[[str], Cli]) -> None:
    at = staged("dead-letters")
    loud, quiet = at("status"), at("status", "-q")
    assert "hint: " in loud.err
    assert (quiet.out, quiet.err) == (loud.out, "")
    assert "nothing is pending" in at("claim", "5-5", "--yes", "-q").err
    dropped = at("dlq", "drop", "--all", "--yes", "--quiet")
    assert (dropped.out, dropped.err) == ("Dropped 4 dead letters.\n", "")


def test_quiet_still_shows_the_plan_of_a_question(staged: Callable[[str], Cli]) -> None:
    answer = staged("dead-letters").typing("n\n")("dlq", "drop", "--all", "-q")
    assert "4 dead letters would be dropped" in answer.err
    assert "target: redis://" in answer.err


@pytest.mark.parametrize(
    ("environ", "words", "tty", "coloured"),
    [
        ({"TERM": "xterm"}, [], True, True),
        ({"TERM": "xterm"}, ["--color", "never"], True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, [], True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, ["--color=always"], True, True),
        ({"TERM": "dumb"}, [], True, False),
        ({"TERM": "xterm"}, [], False, False),
        ({"TERM": "xterm"}, ["--color", "always"], False, True),
    ],
)
def test_colours(at: Cli, environ: dict[str, str], words: list[str], *, tty: bool, coloured: bool) -> None:
    cli = replace(at.at(**environ), tty=tty)
    assert ("\x1b[1;33m" in cli("status", *words).out) == coloured
    assert ("\x1b[31m" in cli("status", "--redis-url", CLOSED, *words).err) == coloured
    assert ("\x1b[31m" in cli("nonsense", *words).err) == coloured


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["claim", "5-5", "--yes"], 1),
        (["nonsense"], 2),
        (["pending", "--count", "x"], 2),
        (["status", "--redis-url", CLOSED], 69),
        (["status", "--database-url", CLOSED_DATABASE], 69),
        (["doctor", "--redis-url", CLOSED], 69),
    ],
)
def test_errors_are_objects_when_asked(at: Cli, words: list[str], code: int) -> None:
    answer = at(*words, "--errors", "json")
    assert answer.code == code
    said = [json.loads(line) for line in answer.err.splitlines()]
    (error,) = [one for one in said if "error" in one]
    assert error["exit_code"] == code
    assert error["error"] in at(*words).err
    assert error["hint"] in at(*words).err
    assert all(len(one) == 1 for one in said if one != error)


def test_plans_and_hints_are_objects_too(staged: Callable[[str], Cli]) -> None:
    at = staged("dead-letters")
    answer = at("dlq", "drop", "--all", "--yes", "--errors", "json", "-o", "json")
    assert next(map(json.loads, answer.err.splitlines())) == {
        "plan": "4 dead letters would be dropped and recorded as discarded"
    }
    assert answer.json["dropped"] == 4


@pytest.mark.parametrize(
    ("words", "head"),
    [
        ("status", "name,consumers,pending,lag,"),
        ("pending", "id,consumer,idle_ms,age_ms,deliveries,state,device_id,task_identifier"),
        ("consumers", "name,pending,idle_ms,inactive_ms,alive"),
        ("dlq list", "id,at,reason,detail,"),
        ("incidents", "id,at,kind,stream,group,detail,"),
        ("db index --dry-run", "task_identifier,rows"),
    ],
)
def test_csv_has_its_head_without_rows_too(at: Cli, words: str, head: str) -> None:
    answer = at(*words.split(), "-o", "csv")
    assert answer.out.startswith(head)
    assert answer.out.count("\n") == 1


@pytest.mark.parametrize("words", ["verify", "dlq stats", "dlq drop --all --yes", "db dedupe --dry-run"])
def test_csv_cells_are_single_values(staged: Callable[[str], Cli], words: str) -> None:
    at = staged("dead-letters")
    head, row = csv.reader(io.StringIO(at(*words.split(), "-o", "csv").out))
    assert len(head) == len(row)
    assert not [cell for cell in row if cell.startswith(("{", "[")) and cell != "{device:results}:dead"]
    if words == "verify":
        assert dict(zip(head, row, strict=True))["classes.persisted"] == "6"
    if words == "dlq stats":
        assert dict(zip(head, row, strict=True))["reasons"] == "unknown-device=2 invalid-device-id=1 malformed-log=1"
