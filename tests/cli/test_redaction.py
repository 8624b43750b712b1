"""No secret in anything a command says or writes: every command, every format, every way to fail, with --verbose."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from redis.typing import EncodableT, FieldT

from devicevault_cli.cli.app import COMMANDS as ALL
from devicevault_cli.repository.url import parse_url
from devicevault_cli.settings import load as load_settings
from tests.cli.conftest import CLOSED, Answer, Cli
from tests.cli.test_every_command import World
from tests.cli.test_exit_codes import WITH_DATABASE, WITH_REDIS, consent, line
from tests.support.postgres_server import PostgresServer
from tests.support.redis_server import RedisServer

SECRET = "hu5h"
"""Part of every password here, whatever stands around it."""
CONFIGURATION = f"enable secret {SECRET}-configuration"
COMMANDS = [words for words in ALL if words not in {"demo", "top", "completion", "help"}]


def hidden(answers: list[Answer], folder: Path, *given: Path) -> None:
    """Nothing that was said, and no file that was written, holds the secret."""
    assert answers
    for answer in answers:
        assert SECRET not in answer.out + answer.err, answer
    for path in folder.rglob("*"):
        if path.is_file() and path not in given:
            assert SECRET.encode() not in path.read_bytes(), path


# --- everything goes well


@pytest.fixture
def locked(new_redis: Callable[..., RedisServer]) -> RedisServer:
    """A Redis whose password is a secret."""
    return new_redis(password=f"{SECRET}-redis")


def test_no_command_tells_a_secret_in_any_format(
    cli: Cli, locked: RedisServer, sqlite_url: str, tmp_path: Path
) -> None:
    at = cli.at(locked.url, sqlite_url, DEVICEVAULT_BROKER_URL=f"amqp://user:{SECRET}@127.0.0.1:1//")
    answers = []
    with locked.client() as client:
        for words in COMMANDS:
            (tmp_path / "export.jsonl").unlink(missing_ok=True)
            client.flushall()
            world = World(at, locked.url, tmp_path)
            secrets_everywhere(client)
            said = [*world.line(words), *consent(words), "--verbose"]
            once = ALL[words].needs.changes or words in {"consume", "export", "publish"}
            for output in ALL[words].needs.formats[: 1 if once else None]:
                show = ["--show", "lost"] if words == "verify" and output == "ids" else []
                answers.append(at(*said, *show, "-o", output))
                assert answers[-1].code in ({0, 1} if words == "dlq retry" else {0, 3}), (said, answers[-1].err)
        client.flushall()
        World(at, locked.url, tmp_path)
        secrets_everywhere(client)
        answers += [
            at("dlq", "show", "1-1", "1-2", "1-3", "-o", "json"),
            at("export", "--dead", str(tmp_path / "letters.jsonl")),
            at("dlq", "retry", "--all", "--set", f"device_config={SECRET}", "--yes"),
            at("dlq", "show", "1-1", "1-2", "1-3"),
        ]
    profiles = Path(cli.environ["XDG_CONFIG_HOME"]) / "dvctl" / "config.toml"
    assert stat.S_IMODE(profiles.stat().st_mode) == 0o600
    profiles.unlink()  # `config init` wrote the URL with its password there, as it says
    hidden(answers, tmp_path)
    assert SECRET in at("dlq", "show", "1-3", "--reveal").out, "asked for by name it is shown"


def secrets_everywhere(client: redis.Redis) -> None:
    """Configurations on the stream and in letters: plain ones, one that a repair kept, one in a damaged letter."""
    fields: dict[FieldT, EncodableT] = {
        "device_id": "1",
        "status": "success",
        "device_config": CONFIGURATION,
        "task_identifier": "with-secret",
    }
    client.xadd("device:results", fields)
    about: dict[FieldT, EncodableT] = {
        "_dvctl.group": "devicevault",
        "_dvctl.reason": "invalid-device-id",
        "device_id": "x",
    }
    for number, more in enumerate(
        (
            {"_dvctl.original.device_config": CONFIGURATION},
            {"_dvctl.packed": f"9999:{CONFIGURATION}"},
            {"device_config": CONFIGURATION},
        )
    ):
        client.xadd("{device:results}:dead", about | {"_dvctl.id": f"1-{number + 1}"} | more)


# --- everything goes wrong


def test_no_command_tells_a_password_when_a_server_refuses_or_is_away(
    cli: Cli, locked: RedisServer, new_postgres: Callable[..., PostgresServer], tmp_path: Path
) -> None:
    server = new_postgres(password=f"{SECRET}-postgres")
    database = server.database()
    closed = f"postgresql://dvctl:{SECRET}@127.0.0.1:1/none"
    ways = [
        (WITH_REDIS, f"redis://:{SECRET}@127.0.0.1:1/0", database),
        (WITH_REDIS, locked.url.replace("redis@", "wrong@"), database),
        (WITH_DATABASE, locked.url, closed),
        (WITH_DATABASE, locked.url, f"mysql://dvctl:{SECRET}@127.0.0.1:1/none"),
        (WITH_DATABASE, locked.url, database.replace("postgres@", "wrong@")),
        (WITH_DATABASE, locked.url, f"{database}-none"),
        (WITH_DATABASE, locked.url, server.database(empty=True)),
    ]
    answers = []
    for commands, redis_url, database_url in ways:
        at = cli.at(redis_url, database_url)
        answers += [at(*line(words), *consent(words), "--verbose") for words in commands]
    assert {69, 77, 78} <= {answer.code for answer in answers}
    hidden(answers, tmp_path)


REDIS_URLS = (
    *("redis://:{0}", "redis://user:{0}/1", "redis://:{0}@h:port/1", "redis://:12#{0}@h/1", "redis://:12?{0}@h/1"),
    *("redis://:12/{0}@h/1", "redis:{0}@h", "{0}", "http://:{0}@h", "redis://:a {0}@h/1", "redis://:{0}@h:99999999/1"),
    *("rediss://:{0}@h/1?nonsense={0}", "redis://h/1?pass%77ord={0}&db=x", "redis://:\udcff{0}@h/1", "redis://{0}@[h"),
    *("redis://:it's{0}@127.0.0.1:1/0", "redis://:{0}%@127.0.0.1:1/0", "redis://:a@{0}:b/c@127.0.0.1:1/0"),
)
DATABASE_URLS = (
    *("postgresql://u:{0}", "postgresql://u:{0}@h:port/d", "postgresql://u:12#{0}@h/d", "postgresql://u:12/{0}@h/d"),
    *("postgresql://u:12?{0}@h/d", "host=h password={0}", "{0}", "postgresql://u@127.0.0.1:1/d?password={0}"),
    *("postgresql://u:{0}@127.0.0.1:1/d?nonsense={0}", "postgresql://u@127.0.0.1:1/d?sslpassword={0}&sslmode=never"),
    *("postgresql://u:a@{0}@127.0.0.1:1/d", "postgresql://u:100%{0}@127.0.0.1:1/d", "mysql://u:{0}@127.0.0.1:port/d"),
    *("mysql://u:it's\"{0}@127.0.0.1:1/d", "oracle://u:{0}@h/d", "sqlite://{0}", "postgresql://u:\udcff{0}@h/d"),
)


@pytest.mark.parametrize("url", [pytest.param(one, id=ascii(one)) for one in REDIS_URLS])
def test_a_redis_url_is_never_echoed_with_its_password(cli: Cli, url: str, tmp_path: Path) -> None:
    at = cli.at(url.format(SECRET), "sqlite:///none")
    answers = [at("status", "--verbose"), at("config"), at("config", "-o", "json"), at("consume", "--drain")]
    answers.append(cli("status", "--redis-url", url.format(SECRET)))
    hidden(answers, tmp_path)
    assert {answers[0].code, answers[3].code, answers[4].code} <= {69, 78}
    assert all("an error in dvctl" not in each.err for each in answers)


@pytest.mark.parametrize("url", [pytest.param(one, id=ascii(one)) for one in DATABASE_URLS])
def test_a_database_url_is_never_echoed_with_its_password(cli: Cli, redis_url: str, url: str, tmp_path: Path) -> None:
    at = cli.at(redis_url, url.format(SECRET))
    answers = [at("verify", "--verbose"), at("config"), at("config", "-o", "json"), at("consume", "--drain", "-v")]
    answers.append(cli.at(redis_url)("consume", "--drain", "--database-url", url.format(SECRET)))
    hidden(answers, tmp_path)
    assert {answers[0].code, answers[3].code, answers[4].code} <= {69, 78}
    assert all("an error in dvctl" not in each.err for each in answers)


@pytest.mark.parametrize(
    "words",
    [
        ("{0}", "status"),
        ("status", "{0}"),
        ("status", "--redis", "{0}"),
        ("status", "--output", "{0}"),
        ("status", "--profile", "{0}"),
        ("status", "--config", "{0}"),
        ("show", "{0}"),
        ("show", "--ids", "{0}"),
        ("restore-group", "{0}", "--yes"),
        ("replay", "--file", "{0}", "--yes"),
        ("publish", "--file", "{0}"),
        ("pending", "--min-idle", "{0}"),
        ("dlq", "{0}"),
        ("destroy-group", "--confirm", "{0}"),
    ],
)
def test_a_url_typed_in_the_wrong_place_is_not_echoed_with_its_password(
    cli: Cli, redis_url: str, sqlite_url: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    url = f"redis://:{SECRET}@127.0.0.1:6379/1"
    answer = cli.at(redis_url, sqlite_url)(*(each.format(url) for each in words))
    assert answer.code in {1, 2, 78}, answer
    hidden([answer], tmp_path)


def test_files_that_hold_passwords_are_not_quoted(cli: Cli, tmp_path: Path) -> None:
    profiles = tmp_path / "config" / "dvctl" / "config.toml"
    profiles.parent.mkdir(parents=True)
    config = tmp_path / "config.yaml"
    answers = []
    for text in (
        f'[p]\nredis_url = "redis://:{SECRET}@h:port/1"\n',
        f'[p]\nredis_url = "redis://:{SECRET}@127.0.0.1:1/1"\ndatabase_url = "sqlite:///none"\n',
        f"[p]\nredis_url = redis://:{SECRET}@h/1\n",
        f'[p]\nredis_url = ["{SECRET}"]\n',
        f'[p]\nredis_url = "redis://:{SECRET}',
    ):
        profiles.write_text(text)
        answers += [cli("status", "--profile", "p", "--verbose"), cli("config", "--profile", "p", "-o", "json")]
    for text in (
        f"redis: {{url: redis://:{SECRET}@127.0.0.1:1/0}}\n",
        f"redis: {{url: redis://:{SECRET}@h:port}}\ncelery: {{broker: 'redis://:{SECRET}'}}\n",
        f"database: {{engine: postgres, name: d, user: u, password: '{SECRET}@/:#', host: 127.0.0.1, port: 1}}\n",
        f"database: {{engine: postgres, name: d, user: u, password: {SECRET}, host: 127.0.0.1, port: x}}\n",
        f"database: {{engine: '{SECRET}', name: d}}\n",
        f"redis: !!python/object:{SECRET} {{}}\n",
        f"redis: {{url: [{SECRET}]}}\n",
        f"redis: {{url: redis://:{SECRET}@h\n",
        f"database: {SECRET}\n",
    ):
        config.write_text(text)
        at = cli.at(DEVICEVAULT_CONFIG=str(config))
        answers += [at("consume", "--drain", "--verbose"), at("config", "-o", "json"), at("status", "-v")]
    hidden(answers, tmp_path, profiles, config)
    assert all("an error in dvctl" not in each.err for each in answers)


def test_no_repr_tells_a_password() -> None:
    environ = {
        "DEVICEVAULT_REDIS_URL": f"redis://:{SECRET}@h/1",
        "DEVICEVAULT_DATABASE_URL": f"postgresql://u:{SECRET}@h/d?password={SECRET}",
        "DEVICEVAULT_BROKER_URL": f"amqp://u:{SECRET}@h//",
    }
    settings = load_settings({}, environ)
    assert SECRET not in repr(settings) + repr(parse_url(settings.database_url)) + str(settings)
    assert SECRET in settings.redis_url, "it is there all the same"


def test_a_password_on_the_command_line_is_warned_of(cli: Cli) -> None:
    answer = cli("status", "--redis-url", CLOSED.replace("//", f"//:{SECRET}@"))
    assert "DEVICEVAULT_REDIS_URL hides it" in answer.err
    assert SECRET not in answer.err
