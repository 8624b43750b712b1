"""dvctl help TOPIC: the runbooks in the terminal, and that each topic which dvctl names exists."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from devicevault_cli.cli.app import COMMANDS, SUB_APPS
from devicevault_cli.cli.complete import help_words
from devicevault_cli.operations import topics
from devicevault_cli.operations.monitoring.continuity import Kind
from devicevault_cli.operations.monitoring.group_checks import TOPICS
from tests.cli.conftest import Cli
from tests.support.looks import assert_looks

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"
NAMED = re.compile(r"dvctl help ([a-z][a-z-]*)")


def named_in(*patterns: str) -> dict[str, str]:
    """Each word after `dvctl help`, and a file that has it."""
    files = [path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()]
    return {word: str(path) for path in files for word in NAMED.findall(path.read_text("utf-8"))}


def test_every_topic_that_is_named_exists() -> None:
    named = named_in("devicevault_cli/**/*.py", "docs/**/*.md", "README.md", "deploy/**/*.*")
    assert len(named.keys() & set(topics.names())) >= 8
    unknown = named.keys() - set(topics.names()) - COMMANDS.keys() - SUB_APPS.keys()
    assert not unknown, [(word, named[word]) for word in unknown]


def test_every_kind_of_incident_has_its_topic() -> None:
    assert set(TOPICS) == set(get_args(Kind))
    assert set(TOPICS.values()) <= set(topics.names())


def test_no_topic_is_a_command() -> None:
    assert not set(topics.names()) & {word for words in [*COMMANDS, *SUB_APPS] for word in words.split()[:1]}


def test_every_page_stands_in_the_index_and_its_links_lead_somewhere() -> None:
    index = (RUNBOOKS / "README.md").read_text("utf-8")
    for name in topics.names():
        assert f"({name}.md)" in index
        text = (RUNBOOKS / f"{name}.md").read_text("utf-8")
        assert text.startswith("# ")
        for target in re.findall(r"\]\(([^)#:]+)[^)]*\)", text):
            assert (RUNBOOKS / target).resolve().is_file(), (name, target)


def test_the_list(cli: Cli) -> None:
    answer = cli("help", "-o", "json")
    listed = {item["topic"]: item["title"] for item in answer.json["topics"]}
    assert list(listed) == topics.names()
    assert listed["stuck-pending"] == "Entries stay pending"
    shown = cli("help")
    assert all(f"{name} " in shown.out for name in listed)
    assert "dvctl help TOPIC" in shown.err


def test_a_page_in_a_pipe_is_markdown_whose_links_are_commands(cli: Cli) -> None:
    for name in topics.names():
        answer = cli("help", name)
        assert answer.code == 0
        page = (RUNBOOKS / f"{name}.md").read_text("utf-8")
        assert answer.out.count("\n") == page.count("\n")
        assert "](" not in answer.out
    said = cli("help", "stream-trimmed").out
    assert "rights (docs/operations.md)" in said
    assert "needed (`dvctl help large-stream`)" in said


def test_a_page_on_a_terminal(cli: Cli) -> None:
    terminal = replace(cli.typing(""), environ=cli.environ | {"TERM": "xterm-256color"})
    for name in topics.names():
        for line in terminal("help", name).out.splitlines():
            assert len(re.sub(r"\x1b\[\d+m", "", line)) <= 80 or line.startswith("  "), "only what is copied is longer"
    assert_looks("help-topic", terminal("help", "group-destroyed").out)
    assert "\x1b" not in terminal("help", "group-destroyed", "--color", "never").out


def test_topics_and_commands_are_completed() -> None:
    def offered(*words: str) -> list[str]:
        context: Any = SimpleNamespace(params={"words": list(words[:-1])})
        return help_words(context, words[-1])

    assert offered("dead-") == ["dead-consumer", "dead-letters"]
    assert offered("du") == ["duplicates"]
    assert offered("dlq", "ret") == ["retry"]
    assert offered("verify", "") == []
    assert {*topics.names(), "status", "dlq"} <= set(offered(""))


@pytest.mark.parametrize(
    ("typed", "meant"), [("stuck-pendig", "stuck-pending"), ("database", "database-down"), ("statsu", "status")]
)
def test_an_unknown_topic_has_near_ones(cli: Cli, typed: str, meant: str) -> None:
    answer = cli("help", typed)
    assert (answer.code, answer.out) == (1, "")
    assert f'there is no topic or command "{typed}"; did you mean' in answer.err
    assert meant in answer.err
