"""dvctl config init, validate and use: a profile is written, checked and made the default."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from devicevault_cli.errors import BadConfig
from devicevault_cli.operations.configuration.text import with_default, with_profile
from devicevault_cli.settings import load, of_other_pipeline
from tests.cli.conftest import CLOSED, CLOSED_DATABASE, Answer, Cli

SECRET = "hu5h"
COMMENTED = f"""# ours

default-profile = "old"  # for now
[old] # of last year
redis-url = "redis://:{SECRET}@old.example/1"

# the new one
[new]
group = "new-group"
"""


@pytest.fixture
def config(cli: Cli) -> Path:
    """Where the profiles stand; the folder exists."""
    path = Path(cli.environ["XDG_CONFIG_HOME"]) / "dvctl" / "config.toml"
    path.parent.mkdir(parents=True)
    return path


def found(answer: Answer) -> dict[tuple[str | None, str], str]:
    """The checks of an answer: profile and setting -> status."""
    return {(check["profile"], check["setting"]): check["status"] for check in answer.json["checks"]}


def shown(cli: Cli, *words: str) -> dict[str, tuple[str | None, str]]:
    answer = cli("config", *words, "-o", "json")
    return {setting["name"]: (setting["value"], setting["source"]) for setting in answer.json["settings"]}


# --- init ------------------------------------------------------------------------------------------------------------


def test_a_profile_is_written_from_flags(cli: Cli, redis_url: str, sqlite_url: str, config: Path) -> None:
    words = ["--redis-url", redis_url, "--database-url", sqlite_url, "--group", "g", "--use", "-o", "json"]
    answer = cli("config", "init", "production", *words)
    assert answer.code == 0, answer.err
    assert (answer.json["replaced"], answer.json["default"]) == (False, True)
    assert found(answer) == {(None, "redis"): "ok", (None, "stream"): "warning", (None, "database"): "ok"}
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    settings = shown(cli)
    assert settings["profile"] == ("production", "config.toml")
    assert settings["redis_url"] == (redis_url, "profile")
    assert settings["group"] == ("g", "profile")
    assert cli("status").code == 0, "other commands use it"


def test_a_profile_is_written_from_answers(at: Cli, config: Path) -> None:
    """Enter takes the value in force; what cannot be used is asked for again; defaults are not written."""
    typed = "mine\nredis://h:x/1\n\n\ndevice:results\n\n\nn\n"
    answer = at.typing(typed)("config", "init", "--color", "never")
    assert answer.code == 0, answer.err
    assert answer.err.count("Redis URL [") == 2
    assert "has a port that is not a number" in answer.err
    values = [at.environ[f"DEVICEVAULT_{name}_URL"] for name in ("REDIS", "DATABASE")]
    assert config.read_text() == '[mine]\nredis-url = "{}"\ndatabase-url = "{}"\n'.format(*values)
    assert "dvctl config use mine" in answer.err


@pytest.mark.parametrize("typed", ["", "mine\n", "mine\n\n\n"])
def test_nothing_is_written_where_the_answers_end(at: Cli, config: Path, typed: str) -> None:
    answer = at.typing(typed)("config", "init")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.endswith("Cancelled; no changes made.\n")
    assert not config.exists()


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        ([], 2),
        (["--redis-url", "redis://h:x/1"], 78),
        (["--redis-url", CLOSED], 69),
        (["--database-url", CLOSED_DATABASE], 69),
        (["--database-url", "sqlite:////nowhere/x.sqlite3"], 69),
        (["--broker-url", "redis://127.0.0.1:1/0"], 69),
    ],
)
def test_what_cannot_be_used_is_not_written(at: Cli, config: Path, flags: list[str], code: int) -> None:
    answer = at("config", "init", "p", *flags)
    assert (answer.code, answer.out) == (code, ""), answer.err
    assert "hidden" not in answer.err
    assert not config.exists()
    if code == 69:
        assert "the profile was not written" in answer.err
        assert at("config", "init", "p", *flags, "--no-check").code == 0
        assert "[p]" in config.read_text()


def test_on_a_terminal_an_unreachable_server_is_asked_about(at: Cli, config: Path) -> None:
    refused = at.typing("n\n")("config", "init", "p", "--redis-url", CLOSED)
    assert (refused.code, config.exists()) == (1, False)
    assert "Write the profile all the same? [y/N]" in refused.err
    assert at.typing("y\n")("config", "init", "p", "--redis-url", CLOSED).code == 0
    assert config.exists()


def test_no_profile_is_replaced_unasked(at: Cli, config: Path) -> None:
    config.write_text(COMMENTED)
    words = ["config", "init", "old", "--redis-url", at.environ["DEVICEVAULT_REDIS_URL"]]
    refused = at(*words)
    assert (refused.code, config.read_text()) == (2, COMMENTED)
    assert "--force" in refused.err
    assert (at.typing("n\n")(*words).code, config.read_text()) == (1, COMMENTED)
    replaced = at(*words, "--force", "-o", "json")
    assert (replaced.code, replaced.json["replaced"], replaced.json["lost_comments"]) == (0, True, 1)
    text = config.read_text()
    assert SECRET not in text
    assert [line for line in text.splitlines() if "#" in line] == [
        "# ours", 'default-profile = "old"  # for now', "# the new one",
    ]  # fmt: skip


def test_a_password_is_said_to_be_in_the_file_and_shown_nowhere(at: Cli, config: Path) -> None:
    url = f"redis://:{SECRET}@127.0.0.1:1/0"
    answer = at.at(url)("config", "init", "p", "--redis-url", url, "--no-check")
    assert answer.code == 0
    assert "The file holds passwords" in answer.out
    assert SECRET in config.read_text()
    validated = at("config", "validate", "--connect")
    assert SECRET not in answer.out + answer.err + validated.out + validated.err


# --- validate --------------------------------------------------------------------------------------------------------


def test_everything_wrong_in_the_file_is_listed(cli: Cli, config: Path) -> None:
    config.write_text(
        'stream = "s"\ndefault-profile = "absent"\n[a]\nredis_uri = "redis://h"\ngroup = " g"\n'
        'pipeline = "x"\nno-dispatch = "perhaps"\noutput = "xml"\nconfig = "/nowhere.yaml"\nbroker-url = "http://b"\n'
        f'[b]\nredis-url = "redis://:{SECRET}@h/1"\ndatabase-url = "x"\n[c]\ngroup = 0x10\nstream = true\n[d]\n'
    )
    config.chmod(0o644)
    answer = cli("config", "validate", "-o", "json")
    assert answer.code == 78
    assert not answer.json["ok"]
    wanted: dict[tuple[str | None, str], str] = {
        (None, "stream"): "problem", (None, "default_profile"): "problem", (None, "file"): "warning",
        **{("a", name): "problem" for name in (
            "redis_uri", "group", "pipeline", "no-dispatch", "output", "config", "broker-url")},
        ("b", "database-url"): "problem", ("c", "group"): "problem", ("c", "stream"): "problem",
        ("d", "settings"): "ok",
    }  # fmt: skip
    assert found(answer) == wanted
    fixes = {check["setting"]: check["fix"] for check in answer.json["checks"]}
    assert fixes["redis_uri"] == "did you mean redis-url?"
    assert SECRET not in answer.out + answer.err
    assert cli("config", "validate", "d", "-o", "json").code == 78, "the file itself is wrong"


def test_one_profile_or_all_are_checked(at: Cli, config: Path) -> None:
    config.write_text('[good]\nstream = "s"\n[bad]\nsteam = "s"\n')
    assert at("config", "validate", "good").code == 0
    assert at("config", "validate", "--profile", "bad").code == 78
    assert at("config", "validate").code == 78
    absent = at("config", "validate", "absent")
    assert (absent.code, absent.out) == (78, "")
    assert "there are: bad, good" in absent.err


def test_a_damaged_file_or_none_is_a_wrong_configuration(at: Cli, config: Path) -> None:
    assert at("config", "validate").code == 78
    config.write_text(f'[a]\nredis-url = "{SECRET}')
    for words in (["validate"], ["use", "a"], ["init", "b", "--group", "g", "--no-check"]):
        answer = at("config", *words)
        assert answer.code == 78, words
        assert "not valid TOML" in answer.err
        assert SECRET not in answer.err


def test_the_servers_of_a_profile_are_asked(at: Cli, config: Path) -> None:
    urls = [at.environ[f"DEVICEVAULT_{name}_URL"] for name in ("REDIS", "DATABASE")]
    config.write_text(
        '[here]\nredis-url = "{}"\ndatabase-url = "{}"\n'.format(*urls) + f'[away]\nredis-url = "{CLOSED}"\n'
    )
    assert at("publish").code == 0
    one = at("config", "validate", "here", "--connect", "-o", "json")
    assert one.code == 0
    assert found(one)[("here", "stream")] == found(one)[("here", "database")] == "ok"
    assert found(one)[("here", "group")] == "warning", "nobody has consumed yet"
    both = at("config", "validate", "--connect", "-o", "json")
    assert (both.code, found(both)[("away", "redis")], both.json["ok"]) == (69, "problem", False)


# --- use -------------------------------------------------------------------------------------------------------------


def test_a_profile_is_made_the_default(at: Cli, config: Path) -> None:
    config.write_text(COMMENTED)
    answer = at("config", "use", "new")
    assert answer.code == 0
    assert "dvctl config use old" in answer.err, "the way back"
    assert config.read_text() == COMMENTED.replace('= "old"', '= "new"')
    assert shown(at)["group"] == ("new-group", "profile")
    assert shown(at)["redis_url"][1] == "environment"
    assert at("config", "use", "old").err.count("DEVICEVAULT_REDIS_URL takes precedence") == 1
    assert shown(at, "--profile", "new")["group"] == ("new-group", "profile")
    assert shown(at.at(DVCTL_PROFILE="new"))["group"] == ("new-group", "profile")
    assert at("config", "use", "--none").code == 0
    assert shown(at)["profile"] == (None, "default")


def test_the_name_of_a_profile_is_suggested(at: Cli, config: Path) -> None:
    config.write_text(COMMENTED)
    answer = at("config", "use", "newx")
    assert (answer.code, config.read_text()) == (1, COMMENTED)
    assert 'did you mean "new"?' in answer.err
    assert at("config", "use").code == 2


def test_a_default_profile_that_is_gone_is_said_by_every_command(at: Cli, config: Path) -> None:
    config.write_text('default-profile = "gone"\n[there]\n')
    answer = at("status")
    assert answer.code == 78
    assert "there is no profile 'gone'" in answer.err
    assert at("config", "use", "there").code == 0
    assert at("status").code == 0


# --- the text --------------------------------------------------------------------------------------------------------


def test_what_else_is_in_the_file_stays() -> None:
    edited = with_profile(COMMENTED, "third", {"redis_url": 'redis://"\\é\x01'})
    assert edited.text.startswith(COMMENTED.rstrip())
    assert edited.text.endswith('[third]\nredis-url = "redis://\\"\\\\é\\U00000001"\n')
    assert with_profile(COMMENTED, "a b", {"group": "g"}).text.endswith('["a b"]\ngroup = "g"\n')
    assert with_default("", "a") == 'default-profile = "a"\n\n'
    assert with_default('default_profile = "x"\r\n[a]\r\n', None) == "[a]\r\n"


@pytest.mark.parametrize(
    "text", ["a.group = 'g'\n", "[a.b]\nx = 1\n", 'a = { group = "g" }\n', '[a]\nx = """\n[b]"""\n']
)
def test_what_cannot_be_edited_safely_is_left_to_the_operator(text: str) -> None:
    with pytest.raises(BadConfig, match="cannot edit safely"):
        with_profile(text, "a", {"group": "g"})


# --- the other pipeline, and what plans name -------------------------------------------------------------------------


def test_names_of_one_pipeline_are_not_those_of_the_other(cli: Cli, config: Path) -> None:
    config.write_text('[p]\nstream = "mine"\nredis-url = "redis://h/1"\n')
    environ = cli.environ | {"DEVICEVAULT_STORAGE_RESULTS_GROUP": "stored"}
    settings = load({"profile": "p", "group": "typed"}, environ)
    assert (settings.stream, settings.group) == ("mine", "typed")
    other = of_other_pipeline(settings, environ)
    assert (other.pipeline.name, other.stream, other.group) == ("storage", "storage:results", "stored")
    assert other.redis_url == "redis://h/1"
    assert of_other_pipeline(other, environ).pipeline.name == "results"


def test_db_init_names_the_database(cli: Cli, tmp_path: Path) -> None:
    answer = cli("db", "init", "--database-url", f"sqlite:///{tmp_path / 'new.sqlite3'}", "--dry-run")
    assert f"target: SQLite file {tmp_path / 'new.sqlite3'}\n" in answer.err


def test_the_broker_is_named_where_a_repair_dispatches(at: Cli) -> None:
    assert at("publish").code == 0
    answer = at("replay", "--from", "start", "--dispatch", "--broker-url", f"amqp://u:{SECRET}@h:1/v", "--dry-run")
    assert "RabbitMQ h:1/v" in answer.err.rpartition("target: ")[2]
    assert SECRET not in answer.err
