"""Each exit code, and the order in which reasons are found: usage, configuration, confirmation, reachability."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from devicevault_cli.cli.app import COMMANDS as ALL
from tests.cli.conftest import CLOSED, CLOSED_DATABASE, Answer, Cli
from tests.support.entries import entries

CHANGING = [words for words in ALL if ALL[words].needs.changes]
WITH_REDIS = [words for words in ALL if ALL[words].needs.redis]
WITH_DATABASE = [words for words in ALL if ALL[words].needs.database]

NEEDED = {
    "show": ["1-0"],
    "ack": ["1-0"],
    "claim": ["--idle", "1m"],
    "consumers retire": ["ghost"],
    "reset-group": ["--to", "start"],
    "restore-group": ["no-such-snapshot"],
    "replay": ["--id", "1-0"],
    "dispatch": ["1-0", "--broker-url", "redis://127.0.0.1:1"],
    "dlq show": ["1-0"],
    "dlq retry": ["--all"],
    "dlq drop": ["--all"],
    "trim": ["--keep", "7d"],
    "export": ["no-such-folder/export.jsonl"],
    "consume": ["--drain"],
    "db restore": ["no-such-file"],
    "snapshots prune": ["--keep", "30d"],
}
"""Words without which the command line would not be whole."""


def line(words: str, *more: str) -> list[str]:
    return [*words.split(), *NEEDED.get(words, []), *more]


def consent(words: str) -> list[str]:
    needs = ALL[words].needs
    return (["--confirm", "devicevault"] if needs.typed else ["--yes"]) if needs.changes else []


def one_line_and_a_hint(answer: Answer) -> None:
    """One `error:` line, perhaps a hint; no traceback, no secret, nothing on stdout."""
    errors = [each for each in answer.err.splitlines() if each.startswith("error: ")]
    assert len(errors) == 1, answer.err
    assert "Traceback" not in answer.err
    assert "hidden" not in answer.err
    assert answer.out == ""


def test_0_done(cli: Cli) -> None:
    assert cli("config").code == 0


def test_1_a_damaged_snapshot(cli: Cli, redis_url: str, tmp_path: Path) -> None:
    damaged = tmp_path / "snapshot.jsonl"
    damaged.write_text('{"dvctl": "snapshot"}\n')
    answer = cli.at(redis_url)("restore-group", str(damaged), "--yes")
    assert answer.code == 1
    one_line_and_a_hint(answer)


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["--redis-url"],
        ["--nonsense", "pending"],
        ["pending", "--nonsense"],
        ["pending", "--count", "many"],
        ["pending", "--min-idle", "soon"],
        ["pending", "--from", "yesterday"],
        ["pending", "--pipeline", "nonsense"],
        ["pending", "-o", "xml"],
        ["config", "-o", "ids"],
        ["show", "12x"],
        ["db", "nonsense"],
        ["dlq", "nonsense"],
    ],
)
def test_2_usage(cli: Cli, words: list[str]) -> None:
    answer = cli.at(CLOSED)(*words)
    assert answer.code == 2, answer.err
    one_line_and_a_hint(answer)


@pytest.mark.parametrize("words", CHANGING)
def test_2_a_changing_command_without_consent_does_not_even_connect(cli: Cli, words: str) -> None:
    answer = cli.at(CLOSED, CLOSED_DATABASE)(*line(words))
    assert answer.code == 2, answer.err
    assert ("--confirm" if ALL[words].needs.typed else "--yes") in answer.err
    one_line_and_a_hint(answer)


def test_3_verify_finds_a_loss(cli: Cli, redis_url: str, sqlite_url: str) -> None:
    there = cli.at(redis_url, sqlite_url)
    assert there("publish", "--count", "1").code == 0
    assert there("consume", "--drain").code == 0
    lost = there("publish", "--count", "1", "-o", "json").json["first_id"]
    # What DeviceVault's own consumer does to a message that fails: read, and acknowledged without a row.
    assert there("reset-group", "--to", "end", "--yes").code == 0
    answer = there("verify", "-o", "json")
    assert (answer.code, answer.json["classes"]["lost"]) == (3, 1)
    assert there("verify", "--show", "lost", "-o", "ids").out == f"{lost}\n"


@pytest.mark.parametrize(
    "words",
    [each for each in ALL if each in WITH_REDIS + WITH_DATABASE and each not in {"restore-group", "check", "top"}],
)
def test_69_nobody_answers(cli: Cli, words: str) -> None:
    """But for `check`, which answers as monitoring does: 3, unknown."""
    answer = cli.at(CLOSED, CLOSED_DATABASE)(*line(words, *consent(words)))
    assert answer.code == 69, answer.err
    one_line_and_a_hint(answer)
    assert "127.0.0.1" in answer.err, "it says where"


def test_77_a_wrong_password(cli: Cli, new_redis: object) -> None:
    server = new_redis(password="right")  # type: ignore[operator]
    answer = cli.at(server.url_for(password="hidden"))("pending")
    assert answer.code == 77
    one_line_and_a_hint(answer)


@pytest.mark.parametrize("words", WITH_DATABASE)
def test_78_no_database_is_found_before_anything_is_asked(cli: Cli, words: str) -> None:
    answer = cli.at(CLOSED)(*line(words))
    assert answer.code == 78, answer.err
    one_line_and_a_hint(answer)


@pytest.mark.parametrize("words", [words for words in WITH_REDIS if words != "check"])
def test_78_a_url_that_cannot_be_read(cli: Cli, words: str) -> None:
    answer = cli.at("http://:hidden@h", CLOSED_DATABASE)(*line(words))
    assert answer.code == 78, answer.err
    one_line_and_a_hint(answer)


def test_130_interrupted(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("devicevault_cli.operations.entries.pending.pending", interrupt)
    answer = cli.at(CLOSED)("pending")
    assert (answer.code, answer.err) == (130, "")


def test_usage_is_found_before_configuration(cli: Cli) -> None:
    assert cli("pending", "--count", "x", "--profile", "absent").code == 2
    assert cli("pending", "--count", "1", "--profile", "absent").code == 78


def test_an_error_of_its_own_is_one_line_too_and_verbose_shows_where(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("cannot parse redis://:hidden@h/1\nDETAIL: Failing row contains (hidden)")

    monkeypatch.setattr("devicevault_cli.operations.entries.pending.pending", broken)
    answer = cli.at(CLOSED)("pending")
    assert answer.code == 1
    one_line_and_a_hint(answer)
    loud = cli.at(CLOSED)("pending", "--verbose")
    assert "test_exit_codes.py" in loud.err
    assert "RuntimeError" in loud.err
    assert "hidden" not in loud.err


def test_verbose_shows_the_chain_of_causes(cli: Cli) -> None:
    answer = cli.at(CLOSED)("pending", "--verbose")
    assert "ConnectionError" in answer.err
    assert "which led to:" in answer.err


def test_a_person_is_asked_and_may_say_no(cli: Cli, redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    client.xadd("device:results", {"device_id": "1"})
    client.xgroup_create("device:results", "devicevault", "0")
    client.xreadgroup("devicevault", "ghost", {"device:results": ">"})
    for typed, code, left in [("n\n", 1, 1), ("", 1, 1), ("y\n", 0, 0)]:
        answer = cli.at(redis_url).typing(typed)("ack", _first_id(client))
        assert (answer.code, client.xpending("device:results", "devicevault")["pending"]) == (code, left), answer.err
        assert "[y/N]" in answer.err


def _first_id(client: redis.Redis) -> str:
    return entries(client, "device:results")[0][0].decode()
