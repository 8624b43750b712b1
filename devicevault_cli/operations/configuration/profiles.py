"""dvctl config init and use: profiles are written to dvctl's config.toml, which then only its owner can read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from urllib.parse import urlsplit

from devicevault_cli.config_files import ProfilesFile, read_profiles
from devicevault_cli.errors import BadConfig, DvctlError, NothingMatched
from devicevault_cli.nearest import suggestion
from devicevault_cli.operations.answer import Answer
from devicevault_cli.operations.configuration.checks import ProfileCheck
from devicevault_cli.operations.configuration.text import with_default, with_profile
from devicevault_cli.settings import Given, check_value, name_problem, setting_of

WRITTEN: tuple[str, ...] = ("pipeline", "redis_url", "database_url", "stream", "group", "broker_url", "no_dispatch")
"""The settings that `config init` writes, in this order."""


@dataclass(frozen=True, slots=True)
class WrittenSetting(Answer):
    """An element of `settings[]`. `value`: without a password."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class InitAnswer(Answer):
    """The answer of `config init`. `default`: whether the profile is the default now; `secrets`: it holds a password.

    `lost_comments`: lines of comments in the profile that was replaced.
    """

    profile: str
    file: str
    settings: Sequence[WrittenSetting]
    checks: Sequence[ProfileCheck]
    replaced: bool
    default: bool
    secrets: bool
    lost_comments: int


@dataclass(frozen=True, slots=True)
class UseAnswer(Answer):
    """The answer of `config use`. None: no profile is the default."""

    profile: str | None
    before: str | None
    file: str


def existing(path: Path) -> ProfilesFile:
    """The profiles that there are; none where there is no file. Raises BadConfig."""
    return read_profiles(path) if path.exists() else ProfilesFile(path, "", {})


def check_name(name: str) -> str:
    """The name of a profile. Raises BadConfig."""
    if problem := name_problem(name):
        raise BadConfig(f"the name of the profile {problem}")
    return name


def check_values(values: Mapping[str, Given]) -> None:
    """Raises BadConfig for the first value that could not be used."""
    for name, value in values.items():
        check_value(setting_of(name, value, name.replace("_", "-")))


def write_profile(
    path: Path, name: str, values: Mapping[str, Given], checks: Sequence[ProfileCheck], *, default: bool
) -> InitAnswer:
    """Add the profile or replace the one of that name. Raises BadConfig, DvctlError."""
    before = existing(path)
    edited = with_profile(before.text, name, values)
    text = with_default(edited.text, name) if default else edited.text
    _write(path, text)
    return InitAnswer(
        name,
        str(path),
        [WrittenSetting(key, setting_of(key, value, "").shown or "") for key, value in values.items()],
        checks,
        name in before.names,
        default or before.default == name,
        any(holds_password(key, value) for key, value in values.items()),
        edited.lost,
    )


def use_profile(path: Path, name: str | None) -> UseAnswer:
    """Make a profile the default; None: no profile is. Raises NothingMatched, BadConfig, DvctlError."""
    if not path.exists():
        raise BadConfig(f"there is no file {path}", hint="write a profile with `dvctl config init`")
    file = read_profiles(path)
    if name is not None and name not in file.names:
        raise NothingMatched(f"there is no profile {name!r} in {path}", hint=suggestion(name, file.names, "profiles"))
    before = file.default
    if name != before:
        _write(path, with_default(file.text, name))
    return UseAnswer(name, before, str(path))


def holds_password(name: str, value: Given) -> bool:
    """Whether a URL among the settings has a password in it."""
    if not (name.endswith("_url") and isinstance(value, str)):
        return False
    try:
        return any(urlsplit(part).password or "password=" in part for part in value.split(";"))
    except ValueError:
        return True


def _write(path: Path, text: str) -> None:
    """Replace the file whole, mode 0600; a link stays one, and what it points to is replaced. Raises DvctlError."""
    try:
        target = path.resolve()
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = target.with_name(f".dvctl-{token_hex(8)}")
        try:
            with open(partial, "x", encoding="utf-8", newline="", opener=_private) as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise DvctlError(f"{path} cannot be written: {error.strerror}") from error


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)
