"""Reads the two files that settings may stand in: dvctl's profiles (TOML) and DeviceVault's config.yaml."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import quote

from devicevault_cli.directories import config_directory, expanded
from devicevault_cli.errors import BadConfig
from devicevault_cli.unusable import QUOTE, Unusable

DEFAULT_PROFILE = "default_profile"
"""The key above the tables of config.toml that names the profile in force where no other is named."""

_DATABASE_KEYS = ("engine", "name", "user", "password", "host", "port")
_SCHEMES = dict.fromkeys(("postgres", "postgresql"), "postgresql")
_SCHEMES |= dict.fromkeys(("sqlite", "sqlite3"), "sqlite") | dict.fromkeys(("mysql", "mariadb"), "mysql")


def profiles_path(environ: Mapping[str, str]) -> Path:
    """Where the profiles stand: `$XDG_CONFIG_HOME/dvctl/config.toml`. Raises BadConfig."""
    return config_directory(environ) / "config.toml"


@dataclass(frozen=True, slots=True)
class ProfilesFile:
    """dvctl's config.toml as it was read: where it is, its text, and what TOML makes of that."""

    path: Path
    text: str
    content: Mapping[str, Any]

    @property
    def names(self) -> list[str]:
        """The profiles, sorted."""
        return sorted(key for key, value in self.content.items() if isinstance(value, dict))

    @property
    def default(self) -> str | None:
        """The profile in force where no other is named. Raises BadConfig."""
        key = next((key for key in self.content if key.replace("-", "_") == DEFAULT_PROFILE), None)
        value = self.content.get(key) if key else None
        if value is not None and not isinstance(value, str):
            raise BadConfig(f"{key} in {self.path} is not the name of a profile", hint=QUOTE)
        return value

    def profile(self, name: str) -> dict[str, str | tuple[str, ...]]:
        """The values of a profile by the names of settings. Raises BadConfig."""
        table = self.content.get(name)
        if not isinstance(table, dict):
            there = ", ".join(self.names) or "none"
            raise BadConfig(f"there is no profile {name!r} in {self.path}", hint=f"there are: {there}")
        found = {key.replace("-", "_"): self.value(name, key) for key in table}
        if len(found) < len(table):
            raise BadConfig(f"profile {name!r} in {self.path} holds a setting twice, once with - and once with _")
        return found

    def value(self, name: str, key: str) -> str | tuple[str, ...]:
        """The text of one value of a profile; of `stream` also a list. Raises BadConfig."""
        value = self.content[name][key]
        if key == "stream" and isinstance(value, list) and value and all(isinstance(one, str) for one in value):
            return tuple(value)
        if type(value) in {int, float}:
            written = rf"=\s*{re.escape(str(value))}\s*(?:[#,}}]|$)"
            if not re.search(written, self.text, re.M):
                what = f"{key} of profile {name} in {self.path}"
                raise BadConfig(f"{what}: TOML reads the value as another number than it looks like", hint=QUOTE)
        return _scalar(value, f"{key} of profile {name}")


def read_profiles(path: Path) -> ProfilesFile:
    """Read dvctl's config.toml. Raises BadConfig, also where there is none."""
    return _parsed(path, _read(path))


def _parsed(path: Path, text: str) -> ProfilesFile:
    import tomllib

    try:
        return ProfilesFile(path, text, tomllib.loads(text))
    except ValueError as error:
        raise BadConfig(f"{path} is not valid TOML{_toml_problem(error)}") from None


def load_profile(name: str, environ: Mapping[str, str]) -> dict[str, str | tuple[str, ...]]:
    """One table of the profiles file, its keys with underscores. Raises BadConfig."""
    path = profiles_path(environ)
    try:
        text = _read(path)
    except BadConfig as error:
        hint = error.hint or "leave --profile and DVCTL_PROFILE out, or write the file with `dvctl config init`"
        raise BadConfig(f"profile {name!r} is asked for, but {error}", hint=hint) from None
    return _parsed(path, text).profile(name)


def default_profile(environ: Mapping[str, str]) -> tuple[str, Path] | None:
    """The default profile and the file that names it; None where there is no such file or it names none.

    Raises BadConfig for a file that cannot be read as TOML.
    """
    try:
        path = profiles_path(environ)
        if not path.exists():
            return None
    except (BadConfig, OSError, ValueError):  # no home, or one that this user must not look into
        return None
    try:
        name = read_profiles(path).default
    except BadConfig as error:
        hint = error.hint or "check it with `dvctl config validate`; XDG_CONFIG_HOME names the directory of another one"
        raise BadConfig(str(error), hint=hint) from None
    return None if name is None else (name, path)


def _toml_problem(error: ValueError) -> str:
    """Where, and of what the parser says only what does not quote the file, and with it a password."""
    place = re.search(r"\((at line \d+, column \d+|at end of document)\)$", str(error))
    twice = ": a key or table stands twice" if re.match(r"Cannot (overwrite|declare|mutate)", str(error)) else ""
    return f" ({place[1]}){twice}" if place else twice


def load_config_yaml(path: Path) -> dict[str, Any]:
    """DeviceVault's config.yaml: plain values, or Unusable where YAML reads them otherwise. Raises BadConfig."""
    from devicevault_cli.yaml_file import parse_yaml

    content = parse_yaml(_read(path), str(path))
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise BadConfig(f"{path} does not hold a mapping")
    return content


def _read(path: Path) -> str:
    """The text of a file, without a byte order mark. Raises BadConfig."""
    try:
        if not path.is_file() and path.exists():  # to open a named pipe would wait for a writer
            raise BadConfig(f"{path} is {'a directory' if path.is_dir() else 'no regular file'}")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not a file name"
        raise BadConfig(f"{path} cannot be read: {why}") from None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise BadConfig(f"{path} is UTF-16", hint="save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = error.start - data.rfind(b"\n", 0, error.start)
        raise BadConfig(f"{path}, line {line}, byte {byte} of the line: not UTF-8", hint="save it as UTF-8") from None


def from_config_yaml(content: dict[str, Any], path: Path, pipeline: str) -> dict[str, str]:
    """The settings that DeviceVault's config.yaml holds, by dvctl's names.

    Its `results_stream` is none: DeviceVault's workers do not read it.
    """
    redis = _section(content, "redis", path)
    key = "storage_results_stream"
    found = {
        "redis_url": ("redis.url", redis.get("url")),
        "broker_url": ("celery.broker", _broker(_section(content, "celery", path).get("broker"), path)),
        "database_url": ("database", _database_url(_section(content, "database", path), path)),
    }
    if pipeline == "storage":
        found["stream"] = (key, content.get(key, redis.get(key)))
    present = {name: pair for name, pair in found.items() if pair[1] not in (None, "")}
    return {name: _scalar(value, f"{key} in {path}") for name, (key, value) in present.items()}


def _broker(value: Any, path: Path) -> Any:
    """A list means fail-over."""
    if not isinstance(value, list):
        return value
    return ";".join(_scalar(url, f"celery.broker in {path}") for url in value)


def without_effect(content: dict[str, Any]) -> list[str]:
    """Keys that stand in a config.yaml although neither DeviceVault's workers nor dvctl read them."""
    redis = content.get("redis")
    places = {"results_stream": content, "redis.results_stream": redis if isinstance(redis, dict) else {}}
    return [name for name, section in places.items() if "results_stream" in section]


def _database_url(database: dict[str, Any], path: Path) -> str:
    """Built from engine, name, user, password, host and port, with the defaults that DeviceVault has."""
    given = {key: value for key, value in database.items() if value is not None and key in _DATABASE_KEYS}
    values = {key: _scalar(value, f"database.{key} in {path}") for key, value in given.items()}
    engine = _SCHEMES.get(values.get("engine", "sqlite").lower())
    if engine is None:
        raise BadConfig(f"database.engine in {path} is not one dvctl knows", hint="one of: sqlite, postgres, mysql")
    if engine == "sqlite":
        name = values.get("name") or "devicevault.sqlite3"
        # DeviceVault keeps config.yaml in a folder of its own, and its database beside that folder.
        return f"sqlite:///{quote(str(path.absolute().parent.parent / expanded(name)))}"
    user, password = (quote(values.get(key, ""), safe="") for key in ("user", "password"))
    login = f"{user}:{password}@" if password else f"{user}@" if user else ""
    name = quote(values.get("name") or "devicevault", safe="")
    return f"{engine}://{login}{_places(values.get('host') or 'localhost', values.get('port') or '')}/{name}"


def _places(host: str, port: str) -> str:
    """The hosts of a URL; of several each gets its own port, or the one there is, as libpq takes them from Django."""
    hosts, ports = host.split(","), port.split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    pairs = zip_longest(hosts, ports[: len(hosts)], fillvalue="")
    return ",".join(f"{name.strip()}:{number.strip()}" if number else name.strip() for name, number in pairs)


def _section(content: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    section = content.get(name)
    if section is None:
        return {}
    if isinstance(section, Unusable):
        raise _refused(section, f"{name} in {path}")
    if not isinstance(section, dict):
        raise BadConfig(f"{name} in {path} does not hold a mapping")
    return section


def _scalar(value: Any, what: str) -> str:
    if isinstance(value, Unusable):
        raise _refused(value, what)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise BadConfig(f"{what} is neither text nor a number", hint=QUOTE if isinstance(value, bool) else None)
    return str(value)


def _refused(value: Unusable, what: str) -> BadConfig:
    return BadConfig(f"{what}, line {value.line}: {value.why}", hint=value.hint)
