"""DeviceVault's config.yaml and dvctl's profiles: what is read, and what is refused without quoting it."""

from __future__ import annotations

from pathlib import Path

import pytest

from devicevault_cli.config_files import from_config_yaml, load_config_yaml, load_profile
from devicevault_cli.errors import BadConfig
from devicevault_cli.repository.url import parse_url


def read(folder: Path, text: str, pipeline: str = "results") -> dict[str, str]:
    path = folder / "app" / "config" / "config.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return from_config_yaml(load_config_yaml(path), path, pipeline)


def test_a_relative_sqlite_name_is_relative_to_the_folder_above_the_files_own(tmp_path: Path) -> None:
    url = read(tmp_path, "database: {engine: sqlite, name: data/db 1.sqlite3}")["database_url"]
    assert parse_url(url).name == str(tmp_path / "app" / "data" / "db 1.sqlite3")


def test_an_absolute_sqlite_name_stays(tmp_path: Path) -> None:
    url = read(tmp_path, "database: {engine: sqlite, name: /srv/db.sqlite3}")["database_url"]
    assert parse_url(url).name == "/srv/db.sqlite3"


def test_odd_characters_survive_the_way_through_the_url(tmp_path: Path) -> None:
    text = """
database: {engine: postgres, name: 'd v/1', user: 'us@er', password: 'p:/?#[]@ %', host: db.example, port: 5433}
"""
    parsed = parse_url(read(tmp_path, text)["database_url"])
    assert (parsed.dialect, parsed.name, parsed.user, parsed.password, parsed.host, parsed.port) == (
        "postgresql",
        "d v/1",
        "us@er",
        "p:/?#[]@ %",
        "db.example",
        5433,
    )


def test_numbers_are_taken_as_text_and_missing_parts_left_out(tmp_path: Path) -> None:
    parsed = parse_url(read(tmp_path, "database: {engine: mysql, name: 2026, user: u, password: 1234}")["database_url"])
    assert (parsed.dialect, parsed.name, parsed.user, parsed.password, parsed.port) == (
        "mysql",
        "2026",
        "u",
        "1234",
        None,
    )


@pytest.mark.parametrize("text", ["storage_results_stream: mine", "redis: {storage_results_stream: mine}"])
def test_the_stream_may_stand_at_the_top_or_below_redis(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text, "storage")["stream"] == "mine"
    assert "stream" not in read(tmp_path, text)


def test_results_stream_is_no_setting(tmp_path: Path) -> None:
    assert "stream" not in read(tmp_path, "results_stream: mine")


def test_an_empty_file_means_the_database_that_devicevault_falls_back_to(tmp_path: Path) -> None:
    assert read(tmp_path, "") == {"database_url": f"sqlite:///{tmp_path / 'app' / 'devicevault.sqlite3'}"}


@pytest.mark.parametrize(
    "text",
    [
        "redis: !!python/object/apply:os.system ['touch hidden']",
        "redis: !vault {url: hidden}",
        "redis: {url: [hidden",
        "- hidden",
        "redis: hidden",
        "redis: {url: [hidden]}",
        "redis: {url: true}",
        "database: {engine: oracle, name: hidden}",
        "database: {engine: postgres, password: [hidden]}",
        "redis: {url: hidden}\n\x00",
        "a: " + "[" * 5000,
    ],
)
def test_what_is_not_plain_is_refused_without_quoting_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadConfig) as caught:
        read(tmp_path, text)
    assert "hidden" not in f"{caught.value} {caught.value.hint}".replace(str(tmp_path), "")
    assert not list(tmp_path.rglob("hidden"))


def test_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"redis: {url: '\xff'}")
    with pytest.raises(BadConfig):
        load_config_yaml(path)


@pytest.mark.parametrize("text", ["[a]\nstream = [1]", "[a]\nstream = true", "[a\n", "a = 1", "[b]\nstream = 'x'"])
def test_a_profile_is_a_table_of_plain_values(tmp_path: Path, text: str) -> None:
    (tmp_path / "dvctl").mkdir()
    (tmp_path / "dvctl" / "config.toml").write_text(text)
    with pytest.raises(BadConfig):
        load_profile("a", {"XDG_CONFIG_HOME": str(tmp_path)})


@pytest.mark.parametrize(
    ("host", "port", "shown"),
    [
        ("'one,two'", "5433", "one:5433,two:5433"),
        ("'one, two'", "'1,2'", "one:1,two:2"),
        ("'one,two'", "''", "one,two"),
    ],
)
def test_several_hosts_of_the_database(tmp_path: Path, host: str, port: str, shown: str) -> None:
    """As libpq takes them from Django: one port is that of every host."""
    url = read(tmp_path, f"database: {{engine: postgres, name: vault, host: {host}, port: {port}}}")["database_url"]
    assert parse_url(url).shown == f"PostgreSQL {shown}/vault"
