"""What an operator on call met: sentences said twice, names that nobody typed, advice that does not apply."""

from __future__ import annotations

import os
import sys
from contextlib import closing

import pytest

from devicevault_cli.operations.groups.consumer_name import lowest_free
from devicevault_cli.operations.monitoring import liveness
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.group import Group
from tests.cli.conftest import CLOSED, Cli, cli
from tests.support.incidents import publish
from tests.support.recovering import message

__all__ = ["cli"]


@pytest.fixture
def at(cli: Cli, redis_url: str, sqlite_url: str) -> Cli:
    return cli.at(redis_url, sqlite_url)


def test_check_says_once_that_the_group_is_gone(at: Cli, group: Group) -> None:
    publish(group, map(message, range(5)))
    assert at("consume", "--drain").code == 0
    group.stream.call("XGROUP", "DESTROY", group.stream.key, group.name)
    answer = at("check")
    assert answer.code == 2
    assert answer.out.count("is gone: it was at") == 1
    assert "no group devicevault: 5 entries wait" in answer.out


def test_doctor_names_consumers_that_are_not_alive_and_hold_entries(
    at: Cli, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(group, map(message, range(5)))
    GroupConsumer(group, "vm-0").read_new(3)
    GroupConsumer(group, "vm-1").read_new(1)
    monkeypatch.setattr(liveness, "ALIVE_MS", 0)
    (found,) = [check for check in at("doctor", "-o", "json").json["checks"] if check["name"] == "consumers"]
    assert (found["status"], found["detail"]) == ("warning", "0 alive; 2 not alive, holding 4 entries: vm-0, vm-1")
    assert "`dvctl consume` takes them over once they are idle for 1m" in found["fix"]


def test_two_times_of_an_incident_are_whole_at_80_columns(at: Cli, group: Group) -> None:
    publish(group, map(message, range(5)))
    assert at("consume", "--drain").code == 0
    group.stream.call("XGROUP", "DESTROY", group.stream.key, group.name)
    assert at("incidents", "acknowledge", "--yes").code == 0
    (incident,) = at("incidents", "--all", "-o", "json").json["incidents"]
    shown = at("incidents", "--all").out
    assert incident["at"] in shown
    assert incident["acknowledged_at"] in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_help_and_hints_are_about_what_was_typed(at: Cli, group: Group) -> None:
    assert "dvctl dlq retry" in at("help", "dlq retry").out
    for words in (["claim"], ["incidents", "acknowledge"]):
        assert "parse" not in at(*words, "--help").out, words
    refused = at("destroy-group", "--yes")
    assert refused.code == 2
    assert "--confirm NAME" in refused.err
    away = at("config", "init", "p", "--redis-url", CLOSED)
    assert "the profile was not written" in away.err
    assert ".;" not in away.err


def test_retire_speaks_only_of_names_that_were_typed_or_are_used(at: Cli, group: Group) -> None:
    publish(group, map(message, range(2)))
    GroupConsumer(group, "holder").read_new(2)
    group.stream.call("XGROUP", "CREATECONSUMER", group.stream.key, group.name, "empty")
    own, lock = lowest_free(group.stream.key, group.name)  # of this host, which dvctl chooses
    lock.close()
    near = f"{own}1"
    group.stream.call("XGROUP", "CREATECONSUMER", group.stream.key, group.name, near)
    planned = at("consumers", "retire", "--dead-for", "0s", "--dry-run", "--force")
    assert "it will be created" in planned.err + planned.out
    assert "did you mean" not in planned.err + planned.out
    retired = at("consumers", "retire", "empty", near, "--force", "--yes")
    assert retired.out == f"Retired 2 consumers (empty, {near}).\n"


def test_an_instance_that_is_taken_says_by_which_process(at: Cli, group: Group) -> None:
    name, lock = lowest_free(group.stream.key, group.name)
    number = name.rpartition("-")[2]
    with closing(lock):
        refused = at("consume", "--instance", number, "--drain")
    assert refused.code == 1
    assert f"instance {number} of group {group.name} of stream {group.stream.key} is running" in refused.err
    assert "whatever its Redis" in refused.err
    assert "--consumer NAME" in refused.err
    if sys.platform == "linux":
        assert f"(pid {os.getpid()})" in refused.err
    assert at("consume", "--instance", number, "--drain").code == 0
