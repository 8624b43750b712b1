"""Settings as people really write them: URLs, names, numbers, precedence, DeviceVault's config.yaml and profiles."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from devicevault_cli.cli.app import COMMANDS
from tests.cli.conftest import CLOSED, CLOSED_DATABASE, Answer, Cli
from tests.cli.test_exit_codes import consent, line
from tests.support.command_line import Taken, taken
from tests.support.process import Dvctl
from tests.support.redis_server import RedisServer
from tests.support.sqlite_database import SqliteFiles

SECRET = "hu5h"
HOST = "redis-host.invalid"


def refused(answer: Answer, code: int, *words: str) -> None:
    """One line that says these words, with this exit code; nothing secret, no address, no traceback."""
    assert answer.code == code, answer
    errors = [text for text in answer.err.splitlines() if text.startswith("error: ")]
    assert len(errors) == 1, answer.err
    for word in words:
        assert word in errors[0], answer.err
    assert "an error in dvctl" not in answer.err
    assert "Traceback" not in answer.err
    assert SECRET not in answer.err + answer.out
    assert answer.out == ""


# --- URLs and names

REDIS_URLS = [
    (f"redis://{HOST}/production", "database"),
    (f"redis://{HOST}/1x", "database"),
    (f"redis://{HOST}/-1", "database"),
    (f"redis://{HOST}/+1", "database"),
    (f"redis://{HOST}/1.0", "database"),
    (f"redis://{HOST}/1e1", "database"),
    (f"redis://{HOST}/٣", "database"),
    (f"redis://{HOST}/99999999999", "database"),
    (f"redis://{HOST}//", "database"),
    (f"redis://{HOST}/0/1", "more than one part"),
    (f"redis://{HOST}/?db=x", "database"),
    (f"redis://{HOST}?db=-1", "database"),
    (f"redis://{HOST}?db=", "database"),
    (f"redis://{HOST}/1?db=1", "gives db more than once"),
    (f"redis://{HOST}?db=1&db=2", "gives db more than once"),
    (f"redis://:{SECRET}@{HOST}?password={SECRET}", "gives password more than once"),
    (f"redis://{HOST}/1?nonsense={SECRET}", "nonsense"),
    (f"redis://{HOST}/1?protocol=3", "protocol"),
    (f"redis://{HOST}/1?decode_responses=true", "decode_responses"),
    (f"redis://{HOST}/1?socket_timeout=soon", "socket_timeout"),
    (f"redis://{HOST}/1?socket_timeout=inf", "socket_timeout"),
    (f"redis://{HOST}/1?socket_timeout=nan", "socket_timeout"),
    (f"redis://{HOST}/1?socket_timeout=-1", "socket_timeout"),
    (f"redis://{HOST}/1?socket_connect_timeout=1e400", "socket_connect_timeout"),
    (f"redis://{HOST}/1?socket_keepalive=maybe", "socket_keepalive"),
    (f"redis://{HOST}/1?health_check_interval=-5", "health_check_interval"),
    (f"redis://{HOST}/1?max_connections=0", "max_connections"),
    (f"redis://{HOST}/1?ssl_cert_reqs=none", "rediss://"),
    (f"rediss://{HOST}/1?ssl_cert_reqs=sometimes", "ssl_cert_reqs"),
    (f"rediss://{HOST}/1?ssl_min_version=12", "ssl_min_version"),
    (f"rediss://{HOST}/1?ssl_ca_certs=", "ssl_ca_certs"),
    (f"redis://{HOST}:0/1", "port"),
    (f"redis://{HOST}:65536/1", "port"),
    (f"redis://{HOST}:\uff16\uff13/1", "port"),
    (f"redis://a:1,{HOST}:2/1", "port"),
    (f"redis://{HOST}\n", "ends with a line break"),
    (f"redis://{HOST}/1\r\n", "ends with a line break"),
    (f"redis://:{SECRET}\n@{HOST}/1", "control character"),
    (f"redis://{HOST}/1 ", "space"),
    (f"redis://{HOST}/1\t", "control character"),
    (f"\ufeffredis://{HOST}/1", "control character"),
    ("unix:///tmp/redis.sock?db=x", "database"),
    ("unix:///tmp/redis.sock?db=0&db=1", "gives db more than once"),
    ("unix://tmp/redis.sock", "third slash"),
    ("unix://", "no path"),
    (f"redis+cluster://{HOST}:1,b:2/1", "database other than 0"),
    (f"redis+cluster://{HOST}:1?db=1", "database other than 0"),
    (f"redis+cluster://{HOST}:1,:2", "no host"),
    (f"redis+cluster://{HOST}:1,b:0", "port"),
    (f"rediss+cluster://{HOST},", "no host"),
    (f"redis+cluster://{HOST}?sentinel_password={SECRET}", "sentinel_password"),
    (f"redis+cluster://{HOST}?ssl_cert_reqs=none", "rediss://"),
    (f"redis+cluster://:{SECRET}/@{HOST}:1", "no password, host or option"),
    (f"redis+sentinel://{HOST}:1", "names no service"),
    (f"redis+sentinel://{HOST}:1//0", "names no service"),
    (f"redis+sentinel://{HOST}:1/main/x", "database"),
    (f"redis+sentinel://{HOST}:1/main/0/1", "more than one part"),
    (f"redis+sentinel://{HOST}:1/main?sentinel_password=", "sentinel_password"),
    (f"redis+sentinel://{HOST}/main?sentinel_username=a&sentinel_username=b", "more than once"),
    (f"redis+sentinel://{HOST}/main?sentinel_port=1", "sentinel_port"),
]


@pytest.mark.parametrize(("url", "part"), [pytest.param(*pair, id=ascii(pair[0])) for pair in REDIS_URLS])
def test_a_redis_url_is_refused_by_the_name_of_its_part(cli: Cli, url: str, part: str) -> None:
    for answer in (cli.at(url)("status", "-v"), cli("status", "--redis-url", url)):
        refused(answer, 78, "Redis URL", part)
        assert HOST not in answer.err
    assert cli.at(url)("config").code == 0, "what explains settings works with wrong ones"


@pytest.mark.parametrize("name", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
def test_a_certificate_that_is_not_there_is_no_outage(cli: Cli, name: str) -> None:
    url = f"rediss://127.0.0.1:1/1?{name}=/nowhere/x.pem"
    for words in (["status"], ["publish"]):
        refused(cli.at(url)(*words, "-v"), 78, name, "No such file")


def test_the_server_does_not_have_the_database(cli: Cli, redis_url: str, sqlite_url: str) -> None:
    url = redis_url.replace("/0", "/99")
    for words in (["status"], ["consume"], ["publish"], ["pending"]):
        refused(cli.at(url, sqlite_url)(*words, "-v"), 78, "database 99")
    assert cli.at(url, sqlite_url)("doctor").code == 78


def test_urls_that_are_right_stay_right(cli: Cli, redis_server: RedisServer, sqlite_url: str) -> None:
    base = f"redis://127.0.0.1:{redis_server.port}"
    urls = (
        *(base, f"{base}/", f"{base}/15", f"{base}/1/", f"{base}?db=3", redis_server.unix_url),
        f"{base}/2?socket_timeout=20&socket_keepalive=yes&health_check_interval=30&max_connections=1",
    )
    for url in urls:
        answer = cli.at(url, sqlite_url)("publish", "--count", "1")
        assert answer.code == 0, (url, answer.err)


@pytest.mark.parametrize(
    "url",
    ["sqlite:////tmp/none.sqlite3\n", "postgresql://u@h/d\r\n", "mysql://u@h/d\n", f"postgresql://u:{SECRET}\n@h/d"],
)
def test_a_line_break_in_a_database_url_is_said(cli: Cli, redis_url: str, url: str) -> None:
    for answer in (cli.at(redis_url, url)("verify"), cli.at(redis_url)("verify", "--database-url", url)):
        refused(answer, 78, "database URL")
        assert "line break" in answer.err or "control character" in answer.err


@pytest.mark.parametrize("name", ["device:results\n", "mine\r\n", "\nmine", "mine ", "\t", " ", "mine\x85"])
@pytest.mark.parametrize("kind", ["stream", "group", "consumer"])
def test_a_name_that_nobody_typed_so_is_refused(cli: Cli, redis_url: str, tmp_path: Path, kind: str, name: str) -> None:
    at = cli.at(redis_url)
    refused(at("status", f"--{kind}", name), 2, kind, f"--{kind}")
    variable = f"DEVICEVAULT_RESULTS_{kind.upper()}"
    refused(at.at(**{variable: name})("status"), 78, kind, variable)
    profiles(
        tmp_path, f'[p]\n{kind} = "{name.encode("unicode_escape").decode().replace(chr(92) + "x", chr(92) + "u00")}"\n'
    )
    refused(at("status", "--profile", "p"), 78, kind, "profile")


def test_an_empty_name_is_refused_but_an_empty_variable_is_not_set(cli: Cli, redis_url: str, tmp_path: Path) -> None:
    at = cli.at(redis_url)
    refused(at("status", "--stream", ""), 2, "--stream")
    profiles(tmp_path, '[p]\nstream = ""\n')
    refused(at("status", "--profile", "p"), 78, "stream")
    assert cli.at(redis_url, DEVICEVAULT_RESULTS_STREAM="")("publish").code == 0


def test_no_consumer_is_made_of_a_name_that_nobody_typed_so(cli: Cli, redis_url: str) -> None:
    for words in (["claim", "--idle", "0", "--to", "heir\n"], ["consumers", "retire", "a", "--to", "heir\n"]):
        refused(cli.at(redis_url)(*words, "--yes"), 2, "--to", "line break")


# --- numbers


def _numbers(parameter: Taken) -> tuple[str, ...]:
    """What is no number of the kind that this option takes."""
    everywhere = ("inf", "-inf", "nan", "NaN", "infinity", "1e400", "-1", "1_000", "٣", "9" * 400)
    if not parameter.names:
        return ()
    if "DURATION" in parameter.metavar:
        return ("infs", "nand", "1e9d", "-5s", "999999999d", "999999999w", "٣s", "1e400s", "1_0s", "s")
    if parameter.kind is float:
        return (*everywhere, "0")
    if parameter.kind is int or parameter.metavar == "[WARN:]N":
        return (*everywhere, "1.5")
    return ("65536", "inf", "-1", "nan", "1e3") if "PORT" in parameter.metavar else ()


def _typed() -> Iterator[tuple[str, str, str]]:
    for words in COMMANDS:
        for parameter in taken(words, own=True):
            # A moment may lie any time back: `--since` with a number of years is right.
            if "TIME" not in parameter.metavar:
                yield from ((words, parameter.label, text) for text in _numbers(parameter))


NUMBERS = list(_typed())


@pytest.mark.parametrize("words", sorted({words for words, _, _ in NUMBERS}))
def test_what_is_no_number_is_a_usage_error(cli: Cli, words: str) -> None:
    at = cli.at(CLOSED, CLOSED_DATABASE)
    for _, option, text in (given for given in NUMBERS if given[0] == words):
        answer = at(*line(words, *consent(words), option, text))
        assert answer.code == (3 if words == "check" and answer.code == 3 else 2), (option, text, answer)
        assert "an error in dvctl" not in answer.err
        assert option in answer.err + answer.out, (text, answer)


def test_the_numbers_of_the_issue_are_among_them() -> None:
    """The test above is only as good as what it finds in the table of commands."""
    found = {(words, option) for words, option, _ in NUMBERS}
    assert {
        *(("consume", "--rate"), ("publish", "--rate"), ("replay", "--rate"), ("publish", "--count")),
        *(("check", "--max-lag"), ("check", "--max-age"), ("consume", "--claim-idle"), ("top", "--interval")),
        *(("consume", "--metrics-port"), ("consume", "--max-wait"), ("pending", "--min-idle"), ("trim", "--keep")),
    } <= found


@pytest.mark.parametrize("rate", ["0.001", "5e3", "1.5", "1000000"])
def test_a_rate_that_is_one_is_taken(cli: Cli, redis_url: str, rate: str) -> None:
    assert cli.at(redis_url)("publish", "--rate", rate).code == 0


# --- precedence


def profiles(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "config" / "dvctl" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def config_yaml(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "app" / "config" / "config.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def settings(answer: Answer) -> dict[str, tuple[str, str, str]]:
    assert answer.code == 0, answer.err
    return {row["name"]: (row["value"], row["source"], row["detail"]) for row in answer.json["settings"]}


def test_each_source_outweighs_those_below_it_in_config(cli: Cli, tmp_path: Path) -> None:
    path = config_yaml(tmp_path, "redis: {url: 'redis://yaml/1'}\n")
    profiles(tmp_path, '[prod]\nredis-url = "redis://profile/1"\n')
    variable = {"DEVICEVAULT_REDIS_URL": "redis://environment/1"}
    named = {"DVCTL_PROFILE": "prod"}
    show = ("config", "-o", "json")
    found = [
        settings(cli(*show))["redis_url"],
        settings(cli(*show, "--config", str(path)))["redis_url"],
        settings(cli.at(**named)(*show, "--config", str(path)))["redis_url"],
        settings(cli.at(**named, **variable)(*show, "--config", str(path)))["redis_url"],
        settings(cli.at(**variable)(*show, "--config", str(path), "--profile", "prod"))["redis_url"],
        settings(cli.at(**variable, **named)(*show, "--profile", "prod", "--redis-url", "redis://flag/1"))["redis_url"],
    ]
    assert found == [
        ("redis://localhost:6379/1", "default", ""),
        ("redis://yaml/1", "config.yaml", str(path)),
        ("redis://profile/1", "profile", 'profile "prod" (DVCTL_PROFILE)'),
        ("redis://environment/1", "environment", "DEVICEVAULT_REDIS_URL"),
        ("redis://profile/1", "profile", 'profile "prod" (--profile), overrides DEVICEVAULT_REDIS_URL'),
        ("redis://flag/1", "flag", "--redis-url"),
    ]


def test_the_precedence_holds_for_every_setting(cli: Cli, tmp_path: Path) -> None:
    given = {
        "redis_url": ("redis://p/1", "redis://e/1"),
        "database_url": ("sqlite:////p", "sqlite:////e"),
        "stream": ("p-stream", "e-stream"),
        "group": ("p-group", "e-group"),
        "consumer": ("p-consumer", "e-consumer"),
        "pipeline": ("storage", "results"),
    }
    lines = "".join(f'{name.replace("_", "-")} = "{profile}"\n' for name, (profile, _) in given.items())
    profiles(tmp_path, f"[p]\n{lines}")
    for typed in (True, False):
        prefix = "DEVICEVAULT_STORAGE_RESULTS" if typed else "DEVICEVAULT_RESULTS"
        names = {name: f"{prefix}_{name.upper()}" for name in ("stream", "group", "consumer")}
        names |= {"pipeline": "DVCTL_PIPELINE", "redis_url": "DEVICEVAULT_REDIS_URL"}
        names["database_url"] = "DEVICEVAULT_DATABASE_URL"
        environ = {names[name]: environment for name, (_, environment) in given.items()}
        words = ["--profile", "p"] if typed else []
        at = cli.at(**environ, **({} if typed else {"DVCTL_PROFILE": "p"}))
        shown = settings(at("config", "-o", "json", *words))
        for name, pair in given.items():
            assert shown[name][:2] == (pair[0 if typed else 1], "profile" if typed else "environment"), name


def test_a_repair_reaches_the_redis_of_the_profile_that_was_typed(cli: Cli, redis_url: str, tmp_path: Path) -> None:
    profiles(tmp_path, f'[prod]\nredis-url = "{redis_url}"\n')
    exported = cli.at(CLOSED)
    assert exported("publish", "--profile", "prod").code == 0
    assert exported.at(DVCTL_PROFILE="prod")("publish").code == 69
    table = exported("config", "--profile", "prod").out
    assert "DEVICEVAULT_REDIS_URL" in table, "what is overridden is said"
    assert exported("config", "--profile", "prod", "-o", "csv").out.splitlines()[0] == "name,value,source"


# --- config.yaml: what DeviceVault makes of it


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", "sqlite:///{above}/devicevault.sqlite3"),
        ("redis: {url: 'redis://h/1'}\n", "sqlite:///{above}/devicevault.sqlite3"),
        ("database:\n", "sqlite:///{above}/devicevault.sqlite3"),
        ("database: {user: u}\n", "sqlite:///{above}/devicevault.sqlite3"),
        ("database: {engine: sqlite}\n", "sqlite:///{above}/devicevault.sqlite3"),
        ("database: {name: mine.sqlite3}\n", "sqlite:///{above}/mine.sqlite3"),
        ("database: {engine: postgres}\n", "postgresql://localhost/devicevault"),
        (
            "database: {engine: postgres, user: u, password: 12345, port: 5432}\n",
            "postgresql://u:***@localhost:5432/devicevault",
        ),
        ("database: {engine: mysql, host: db, name: }\n", "mysql://db/devicevault"),
    ],
)
def test_the_database_is_the_one_that_devicevault_uses(cli: Cli, tmp_path: Path, text: str, url: str) -> None:
    path = config_yaml(tmp_path, text)
    shown = settings(cli("config", "-o", "json", "--config", str(path)))["database_url"]
    assert shown[:2] == (url.format(above=tmp_path / "app"), "config.yaml")


def test_a_config_yaml_without_a_database_leads_to_the_file_above(cli: Cli, redis_url: str, tmp_path: Path) -> None:
    path = config_yaml(tmp_path, f"redis: {{url: '{redis_url}'}}\n")
    made = Path(SqliteFiles(tmp_path).database().removeprefix("sqlite:///"))
    made.rename(tmp_path / "app" / "devicevault.sqlite3")
    at = cli.at(DEVICEVAULT_CONFIG=str(path))
    assert at("publish").code == 0
    assert at("consume", "--drain", "-o", "json").json["persisted"] == 1
    with closing(sqlite3.connect(tmp_path / "app" / "devicevault.sqlite3")) as database:
        assert database.execute("SELECT count(*) FROM devices_devicebackupresult").fetchone() == (1,)


@pytest.mark.parametrize("text", ["results_stream: theirs\n", "redis: {results_stream: theirs}\n"])
def test_results_stream_is_no_source_and_doctor_says_so(cli: Cli, redis_url: str, tmp_path: Path, text: str) -> None:
    path = str(config_yaml(tmp_path, text))
    assert settings(cli("config", "-o", "json", "--config", path))["stream"][:2] == ("device:results", "default")
    found = {row["name"]: row for row in cli.at(redis_url)("doctor", "-o", "json", "--config", path).json["checks"]}
    assert found["settings"]["status"] == "warning"
    assert "results_stream" in found["settings"]["detail"]
    assert "DEVICEVAULT_RESULTS_STREAM" in found["settings"]["fix"]


def test_storage_results_stream_is_a_source(cli: Cli, tmp_path: Path) -> None:
    path = str(config_yaml(tmp_path, "storage_results_stream: theirs\nresults_stream: no\n"))
    shown = settings(cli("config", "-o", "json", "--config", path, "--pipeline", "storage"))
    assert shown["stream"][:2] == ("theirs", "config.yaml")


# --- YAML that is read otherwise than it is written

NUMBERS_OF_YAML = (
    *(
        "012345",
        "0777",
        "12:34:56",
        "1:2",
        "0x1F",
        "0b101",
        "1e3",
        "1.0e+3",
        "1_000",
        "1.10",
        "1.0e3",
        ".5",
        "1.",
        "+5",
    ),
    *(".inf", ".nan", "-.inf", "yes", "no", "on", "off", "true", "False", "TRUE", "2026-01-12", "00", "0o17"),
    *("2026-01-12T04:47:00Z", "2026-01-12 04:47:00"),
)


@pytest.mark.parametrize("text", NUMBERS_OF_YAML)
@pytest.mark.parametrize("key", ["password", "name", "host", "user", "port"])
def test_an_unquoted_value_that_does_not_read_back_is_refused(cli: Cli, tmp_path: Path, key: str, text: str) -> None:
    database = f"database:\n  engine: postgres\n  {key}: {text}\n"
    path = config_yaml(tmp_path, f"# DeviceVault\n{database}")
    answer = cli("config", "--config", str(path))
    refused(answer, 78, f"database.{key}", "line 4")
    assert "put quotes around it" in answer.err
    said = answer.err.replace(str(tmp_path), "")
    assert not re.search(rf"(?<![\w.]){re.escape(text)}(?!\w)", said), "it may be a password"
    path.write_text(database.replace(text, f'"{text}"'))
    assert cli("config", "--config", str(path)).code == 0


@pytest.mark.parametrize("text", ["12345", "0", "-5", "5432", "1.5", "s3cret", "1.2.3", "07x", "12:3x", "a#b"])
def test_what_reads_back_as_it_is_written_needs_no_quotes(cli: Cli, tmp_path: Path, text: str) -> None:
    path = config_yaml(tmp_path, f"database:\n  engine: postgres\n  name: {text}\n")
    shown = settings(cli("config", "-o", "json", "--config", str(path)))["database_url"][0]
    assert shown.rpartition("/")[2].replace("%3A", ":").replace("%23", "#") == text


def test_what_dvctl_does_not_read_may_be_written_as_one_likes(cli: Cli, tmp_path: Path) -> None:
    text = "debug: yes\nsince: 2026-01-12\nmode: 0644\nlogging: {level: 1e3, level: x}\nlogging: {}\nnames: [012, on]\n"
    path = config_yaml(tmp_path, f"{text}redis: {{url: 'redis://h/1', extra: 0x1F}}\n")
    assert settings(cli("config", "-o", "json", "--config", str(path)))["redis_url"][0] == "redis://h/1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("redis: {url: 'redis://a/1', url: 'redis://b/1'}\n", ("redis.url", "line 1", "already")),
        ("redis:\n  url: redis://a/1\ndatabase:\nredis:\n  url: redis://b/1\n", ("redis", "line 4", "line 1 already")),
        (f"database:\n  password: {SECRET}\n  password: {SECRET}2\n", ("database.password", "line 3", "line 2")),
        ("database:\n\tengine: sqlite\n", ("line 2", "tabs")),
        ("redis:\r\n  url: redis://a/1\r\n\tx: y\r\n", ("line 3", "tabs")),
        ("a: b\n- c\n", ("line 2", "not valid YAML")),
        (f"redis: {{url: [{SECRET}\n", ("not valid YAML",)),
        (f"a: 1\nredis: !vault {SECRET}\n", ("line 2", "not plain YAML")),
        (b"a: 1\nredis:\n  url: \xff\n", ("line 3", "byte 8", "UTF-8")),
        ("redis: {}\n".encode("utf-16"), ("UTF-16",)),
        ("a: 1\nb: \x00\n", ("line 2", "character")),
        ("- a\n", ("mapping",)),
    ],
)
def test_what_is_wrong_with_a_config_yaml_is_said(
    cli: Cli, tmp_path: Path, text: str | bytes, words: tuple[str, ...]
) -> None:
    refused(cli("config", "-v", "--config", str(config_yaml(tmp_path, text))), 78, *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f'[p]\nredis-url = "{SECRET}"\nredis-url = "x"\n', ("line 3", "twice")),
        (f"[p]\nredis-url = {SECRET}\n", ("line 2",)),
        ("[p]\nstream = 0x1F\n", ("stream", "p", "number")),
        ("[p]\nstream = 1_000\n", ("stream", "number")),
        ("[p]\nstream = true\n", ("stream",)),
        (b'[p]\nstream = "\xff"\n', ("line 2", "byte 11", "UTF-8")),
        ('[p]\nredis-url = "a"\nredis_url = "b"\n', ("twice",)),
    ],
)
def test_what_is_wrong_with_the_profiles_is_said(
    cli: Cli, tmp_path: Path, text: str | bytes, words: tuple[str, ...]
) -> None:
    profiles(tmp_path, text)
    refused(cli("config", "-v", "--profile", "p"), 78, *words)


def test_byte_order_marks_and_windows_line_ends_are_read(cli: Cli, tmp_path: Path) -> None:
    profiles(tmp_path, b'\xef\xbb\xbf[p]\r\nredis-url = "redis://h/1"\r\n')
    assert settings(cli("config", "-o", "json", "--profile", "p"))["redis_url"][0] == "redis://h/1"
    path = config_yaml(tmp_path, b"\xef\xbb\xbfredis:\r\n  url: redis://h/2\r\n")
    assert settings(cli("config", "-o", "json", "--config", str(path)))["redis_url"][0] == "redis://h/2"


# --- files that are none


@contextmanager
def as_somebody_else() -> Iterator[None]:
    """Without root's right to read everything; nothing changes for who is not root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_config_that_is_no_file_is_one_line(cli: Cli, tmp_path: Path, dvctl: Dvctl) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path, words in (
        (tmp_path, "a directory"),
        (tmp_path / "none.yaml", "No such file"),
        (tmp_path / "fifo" / "x", "Not a directory"),
        (Path("~nobody-of-that-name/config.yaml"), "home directory"),
        (tmp_path / ("x" * 300), "name too long"),
        (Path("/dev/null"), "no regular file"),
    ):
        refused(cli("config", "--config", str(path)), 78, words)
    # As a process: what waits for a writer waits for ever.
    answer = dvctl.run("config", "--config", str(fifo), timeout=30)
    assert (answer.code, "no regular file" in answer.stderr) == (78, True)


def test_a_config_that_may_not_be_read_is_one_line(cli: Cli, tmp_path: Path) -> None:
    files: list[tuple[Path, list[str]]] = [
        (config_yaml(tmp_path, "{}"), ["--config", str(tmp_path / "app" / "config" / "config.yaml")]),
        (profiles(tmp_path, "[p]\n"), ["--profile", "p"]),
    ]
    for path, words in files:
        assert cli("config", *words).code == 0
        path.chmod(0)
        tmp_path.chmod(0o755)
        _let_through(tmp_path)
        with as_somebody_else():
            answer = cli("config", *words)
        refused(answer, 78, "Permission denied")


def _let_through(path: Path) -> None:
    """Others may enter the folders above, as far as pytest made them."""
    for folder in (path, *path.parents):
        if folder.name.startswith("pytest-"):
            folder.chmod(0o755)
