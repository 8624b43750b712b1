"""The Typer app: help, sub-apps, options before and after the command, and what a terminal changes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import redis
import typer
from typer.testing import CliRunner

from devicevault_cli.cli.app import COMMANDS, PANELS, SUB_APPS, app
from tests.cli.conftest import CLOSED, Cli


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        ([], "dvctl [OPTIONS] COMMAND"),
        (["--help"], "dvctl [OPTIONS] COMMAND"),
        (["-h"], "dvctl [OPTIONS] COMMAND"),
        (["help", "pending"], "dvctl pending"),
        (["pending", "--count", "5", "--help"], "dvctl pending"),
        (["pending", "-o", "json", "-h"], "dvctl pending"),
        (["--redis-url", CLOSED, "pending", "-h"], "dvctl pending"),
        (["help", "show", "1-0"], "dvctl show"),
        (["db"], "dvctl db [OPTIONS] COMMAND"),
        (["dlq", "--help"], "dvctl dlq [OPTIONS] COMMAND"),
        (["help", "dlq", "retry"], "dvctl dlq retry"),
        (["dlq", "retry", "--all", "--help"], "dvctl dlq retry"),
    ],
)
def test_help_is_found_wherever_it_is_asked_for(cli: Cli, words: list[str], usage: str) -> None:
    answer = cli(*words)
    assert (answer.code, answer.err) == (0, "")
    assert f"Usage: {usage}" in answer.out


def test_the_list_of_commands_has_all_of_them_and_marks_what_changes(cli: Cli) -> None:
    out = cli("--help").out
    assert all(panel in out for panel in PANELS)
    for words, command in COMMANDS.items():
        first, _, second = words.partition(" ")
        listed = cli(first, "--help").out if second else out
        [row] = [line for line in listed.splitlines() if line.startswith(f"│ {second or first} ")]
        assert row.rstrip("│ ").endswith(" *") == command.needs.changes, row
    assert all(len(line) <= 80 for line in out.splitlines())


def test_a_group_of_commands_may_list_by_itself(cli: Cli, redis_url: str) -> None:
    for words in ([], ["-o", "json"], ["list", "-o", "json"]):
        assert cli.at(redis_url)("consumers", *words).code == 0
    assert cli.at(redis_url)("-o", "json", "consumers").json["consumers"] == []


@pytest.mark.parametrize(("typed", "meant"), [("pendng", "pending"), ("consumer", "consumers"), ("verfy", "verify")])
def test_a_slip_is_answered_with_what_was_meant(cli: Cli, typed: str, meant: str) -> None:
    answer = cli(typed)
    assert answer.code == 2
    assert "Did you mean" in answer.err
    assert f"'{meant}'" in answer.err


def test_settings_and_output_may_stand_before_the_command(cli: Cli) -> None:
    def settings(*words: str) -> dict[str, tuple[str, str]]:
        return {each["name"]: (each["value"], each["source"]) for each in cli(*words).json["settings"]}

    before = settings("--stream", "s", "--group=g", "-o", "json", "config")
    assert (before["stream"], before["group"], before["output"]) == (("s", "flag"), ("g", "flag"), ("json", "flag"))
    assert settings("--stream", "s", "config", "--stream", "t", "-o", "json")["stream"] == ("t", "flag")
    assert cli("--pipeline", "nonsense", "config").code == 2


def test_usage_errors_are_one_sentence_and_a_hint(cli: Cli) -> None:
    for words, message, hint in (
        (["pending", "--cuont", "5"], "No such option: --cuont", "dvctl pending --help"),
        (["pending", "--count", "five"], "--count: 'five' is not a whole number", "dvctl pending --help"),
        (["pending", "--count", "0"], "--count: 0 is less than 1", "dvctl pending --help"),
        (["consume", "--rate", "nan"], "--rate: 'nan' is not a number", "dvctl consume --help"),
        (["pending", "--min-idle", "soon"], "--min-idle: not a duration", "a duration looks like"),
        (["consume", "--on-reject", "c"], "--on-reject: 'c' is not one of", "dvctl consume --help"),
        (["pending", "--pipeline", "c"], "--pipeline: 'c' is not a pipeline", "one of: results, storage"),
        (["pending", "--summary=yes"], "--summary", "--help` to see every option"),
        (["pending", "x"], "x", "dvctl pending --help"),
        (["reset-group"], "missing option --to", "dvctl reset-group --help"),
        (["restore-group"], "missing argument FILE", "dvctl restore-group --help"),
        (["completion"], "missing argument SHELL", "dvctl completion --help"),
        (["dlq", "nonsense"], "No such command 'nonsense'", "dvctl dlq --help"),
    ):
        answer = cli(*words)
        assert (answer.code, answer.out) == (2, "")
        error, hinted = answer.err.splitlines()
        assert error.startswith("error: "), error
        assert message in error, error
        assert hint in hinted, hinted


@pytest.mark.parametrize(
    ("line", "count"), [("-n 5", 5), ("-n5", 5), ("--count=5", 5), ("--count 5 --count 6", 6), ("--count +7", 7)]
)
def test_every_way_to_write_an_option(cli: Cli, redis_url: str, line: str, count: int) -> None:
    cli.at(redis_url)("publish", "--count", "9")
    client = redis.Redis.from_url(redis_url)
    client.xgroup_create("device:results", "devicevault", "0")
    client.xreadgroup("devicevault", "c", {"device:results": ">"})
    answer = cli.at(redis_url)("pending", "-o", "json", *line.split())
    assert len(answer.json["entries"]) == count


def test_values_that_look_like_options_are_values(cli: Cli, redis_url: str) -> None:
    at = cli.at(redis_url)
    at("publish", "--count", "2")
    assert len(at("tail", "--no-follow", "--since", "-2h", "-o", "json").json["entries"]) == 2


def test_it_is_a_typer_app() -> None:
    assert isinstance(app, typer.Typer)
    runner = CliRunner()
    done = runner.invoke(app, ["config", "-o", "json"])
    assert (done.exit_code, json.loads(done.stdout)["settings"][0]["name"]) == (0, "pipeline")
    assert runner.invoke(app, ["nonsense"]).exit_code == 2
    assert "Usage: dvctl" in runner.invoke(app, []).stdout
    assert runner.invoke(app, ["--version"]).stdout.startswith("dvctl ")
    assert {group.name for group in app.registered_groups if group.name} <= SUB_APPS.keys()


def test_importing_the_app_brings_no_server_library() -> None:
    heavy = [
        "redis",
        "sqlalchemy",
        "psycopg",
        "pymysql",
        "rich",
        "yaml",
        "fakeredis",
        "jinja2",
        "orjson",
        "prometheus_client",
    ]
    program = f"import sys, devicevault_cli.cli.app; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_environment_chooses_the_output(cli: Cli) -> None:
    assert cli.at(DVCTL_OUTPUT="json")("config").json["settings"]
    assert cli.at(DVCTL_OUTPUT="json")("config", "-o", "csv").out.startswith("name,value,source\n")


def test_config_shows_where_each_value_came_from_and_no_password(cli: Cli) -> None:
    there = cli.at("redis://:hidden@h:6379/1", "postgresql://u:hidden@h/d", DEVICEVAULT_RESULTS_GROUP="mine")
    settings = {
        each["name"]: (each["value"], each["source"]) for each in there("config", "-o", "json").json["settings"]
    }
    assert settings["redis_url"] == ("redis://:***@h:6379/1", "environment")
    assert settings["database_url"] == ("postgresql://u:***@h/d", "environment")
    assert settings["group"] == ("mine", "environment")
    assert settings["stream"] == ("device:results", "default")
    assert settings["output"] == ("json", "flag")
    assert "hidden" not in there("config").out


def test_a_terminal_gets_colour_and_a_pipe_does_not(cli: Cli) -> None:
    assert "\x1b[" in cli.typing("").at(TERM="xterm")("config").out
    assert "\x1b[" not in cli.typing("").at(TERM="xterm", NO_COLOR="1")("config").out
    assert "\x1b[" not in cli.at(TERM="xterm")("config").out
