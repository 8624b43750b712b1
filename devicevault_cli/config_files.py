"""Reads the two files that settings may stand in: dvctl's profiles (TOML) and DeviceVault's config.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from devicevault_cli.directories import config_directory, expanded
from devicevault_cli.errors import BadConfig

_SCHEMES = {
    "postgres": "postgresql",
    "postgresql": "postgresql",
    "sqlite": "sqlite",
    "sqlite3": "sqlite",
    "mysql": "mysql",
    "mariadb": "mysql",
}


def profiles_path(environ: Mapping[str, str]) -> Path:
    """Where the profiles stand: `$XDG_CONFIG_HOME/dvctl/config.toml`. Raises BadConfig."""
    return config_directory(environ) / "config.toml"


def load_profile(name: str, environ: Mapping[str, str]) -> dict[str, str]:
    """One table of the profiles file, its keys with underscores. Raises BadConfig."""
    import tomllib

    path = profiles_path(environ)
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BadConfig(
            f"profile {name!r} is asked for, but {path} cannot be read: {error.strerror}",
            hint="leave --profile and DVCTL_PROFILE out, or write the file",
        ) from None
    except ValueError:
        # The parser's own message would quote the line, and with it a password.
        raise BadConfig(f"{path} is not valid TOML") from None
    table = tables.get(name)
    if not isinstance(table, dict):
        known = ", ".join(sorted(key for key, value in tables.items() if isinstance(value, dict)))
        raise BadConfig(f"there is no profile {name!r} in {path}", hint=f"there are: {known or 'none'}")
    return {key.replace("-", "_"): _scalar(value, f"{key} of profile {name}") for key, value in table.items()}


def load_config_yaml(path: Path) -> dict[str, Any]:
    """DeviceVault's config.yaml: plain values only, tags are refused. Raises BadConfig."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise BadConfig(f"config file {path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        raise BadConfig(f"{path} is not plain YAML{line}", hint="tags such as !!python/... are refused") from None
    except (ValueError, RecursionError):
        raise BadConfig(f"{path} is not plain YAML") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise BadConfig(f"{path} does not hold a mapping")
    return content


def from_config_yaml(content: dict[str, Any], path: Path, pipeline: str) -> dict[str, str]:
    """The settings that DeviceVault's config.yaml holds, by dvctl's names."""
    redis = _section(content, "redis", path)
    stream_key = {"results": "results_stream", "storage": "storage_results_stream"}[pipeline]
    found = {
        "redis_url": redis.get("url"),
        "stream": content.get(stream_key, redis.get(stream_key)),
        "broker_url": _section(content, "celery", path).get("broker"),
        "database_url": _database_url(_section(content, "database", path), path),
    }
    return {name: _scalar(value, f"{name} in {path}") for name, value in found.items() if value not in (None, "")}


def _database_url(database: dict[str, Any], path: Path) -> str | None:
    """Built from engine, name, user, password, host and port."""
    if not database:
        return None
    values = {key: _scalar(value, f"database.{key} in {path}") for key, value in database.items() if value is not None}
    engine, name = values.get("engine", "").lower(), values.get("name", "")
    if engine not in _SCHEMES:
        raise BadConfig(f"database.engine in {path} is not one dvctl knows", hint="one of: sqlite, postgres, mysql")
    if not name:
        raise BadConfig(f"database.name is missing in {path}")
    if _SCHEMES[engine] == "sqlite":
        # DeviceVault keeps config.yaml in a folder of its own, and its database beside that folder.
        return f"sqlite:///{quote(str(path.absolute().parent.parent / expanded(name)))}"
    user, password = (quote(values.get(key, ""), safe="") for key in ("user", "password"))
    login = f"{user}:{password}@" if password else f"{user}@" if user else ""
    port = f":{values['port']}" if values.get("port") else ""
    return f"{_SCHEMES[engine]}://{login}{values.get('host') or 'localhost'}{port}/{quote(name, safe='')}"


def _section(content: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    section = content.get(name)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise BadConfig(f"{name} in {path} does not hold a mapping")
    return section


def _scalar(value: Any, what: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise BadConfig(f"{what} is neither text nor a number")
    return str(value)
