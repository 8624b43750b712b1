"""The way from a command line to a command: names, help topics, and what a terminal changes."""

from __future__ import annotations

import pytest

from devicevault_cli.cli.help import help_text
from devicevault_cli.cli.table import TABLE, find, load
from devicevault_cli.errors import Usage
from tests.cli.conftest import Cli


@pytest.mark.parametrize(
    ("words", "topic"),
    [
        (["--help"], ""),
        (["help"], ""),
        (["-h"], ""),
        (["help", "pending"], "pending"),
        (["pending", "--count", "5", "--help"], "pending"),
        (["pending", "--nonsense", "-h"], "pending"),
        (["dlq", "--help"], "dlq"),
        (["help", "dlq", "retry"], "dlq retry"),
        (["dlq", "retry", "--all", "--help"], "dlq retry"),
        (["nonsense", "--help"], ""),
    ],
)
def test_help_is_found_wherever_it_is_asked_for(cli: Cli, words: list[str], topic: str) -> None:
    answer = cli(*words)
    assert (answer.code, answer.out, answer.err) == (0, help_text(topic), "")


def test_the_list_of_commands_has_all_of_them_and_marks_what_changes(cli: Cli) -> None:
    lines = cli("--help").out.splitlines()
    for words in TABLE:
        assert any(line.startswith(f"  {words} ") for line in lines), words
    assert sum(line.endswith(" *") for line in lines) == sum(load(words).changes for words in TABLE)
    assert all(len(line) <= 80 for line in lines)


def test_a_group_of_commands_may_have_a_default() -> None:
    assert find(["consumers"]) == ("consumers list", [])
    assert find(["consumers", "-o", "json"]) == ("consumers list", ["-o", "json"])
    assert find(["consumers", "retire", "x"]) == ("consumers retire", ["x"])
    with pytest.raises(Usage, match="db does nothing by itself"):
        find(["db"])


@pytest.mark.parametrize(("typed", "meant"), [("pendng", "pending"), ("consumer", "consumers"), ("verfy", "verify")])
def test_a_slip_is_answered_with_what_was_meant(cli: Cli, typed: str, meant: str) -> None:
    answer = cli(typed)
    assert answer.code == 2
    assert f"did you mean {meant}" in answer.err


def test_an_option_before_the_command_is_told_where_it_belongs(cli: Cli) -> None:
    assert "dvctl COMMAND --redis-url" in cli("--redis-url", "redis://h/1", "pending").err


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
