"""dvctl config validate: what is wrong with dvctl's config.toml, and with the servers that its profiles name."""

from __future__ import annotations

import stat
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from devicevault_cli.broker.inspection import inspect_broker
from devicevault_cli.broker.store_task import QUEUES
from devicevault_cli.config_files import DEFAULT_PROFILE, ProfilesFile
from devicevault_cli.errors import DvctlError
from devicevault_cli.nearest import listed, nearest
from devicevault_cli.operations.answer import Answer
from devicevault_cli.operations.dispatch.state import DispatchState
from devicevault_cli.plural import number
from devicevault_cli.repository.repository import Repository
from devicevault_cli.settings import OF_PROFILES, Setting, Settings, check_value, setting_of
from devicevault_cli.streams.connect import place, topology_of
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import StreamInfo

State: TypeAlias = Literal["ok", "warning", "problem", "unknown"]
LIMIT_S = 8.0
"""How long the broker may take to answer."""
READ_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class ProfileCheck(Answer):
    """An element of `checks[]`. `profile` is None for the file itself; `setting`: a key, or the server asked."""

    profile: str | None
    setting: str
    status: State
    detail: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class ValidateAnswer(Answer):
    """The answer of `config validate`. `connected`: whether the servers were asked."""

    file: str
    default: str | None
    connected: bool
    ok: bool
    checks: Sequence[ProfileCheck]


Opened: TypeAlias = tuple[Settings, DispatchState, Sequence[Callable[[], Group]], Callable[[], Repository]]
"""The settings of a pipeline, and what opens its group on each of its streams, and its table."""


def file_checks(file: ProfilesFile) -> Iterator[ProfileCheck]:
    """Keys above the tables, the default profile, and who else can read passwords."""
    for key, value in file.content.items():
        if not isinstance(value, dict) and key.replace("-", "_") != DEFAULT_PROFILE:
            yield ProfileCheck(None, key, "problem", "unknown key above the profiles", _move(key))
    try:
        default = file.default
    except DvctlError as error:
        yield _problem(None, DEFAULT_PROFILE, error)
    else:
        if default is not None and default not in file.names:
            fix = f"`dvctl config use NAME`; there are: {listed(file.names) or 'none'}"
            yield ProfileCheck(None, DEFAULT_PROFILE, "problem", f"there is no profile {default!r}", fix)
    mode = stat.S_IMODE(file.path.stat().st_mode)
    if mode & READ_BY_OTHERS and any(_secrets(file)):
        detail = f"other users can read the passwords in it (mode {mode:04o})"
        yield ProfileCheck(None, "file", "warning", detail, f"chmod 600 {file.path}")


def _move(key: str) -> str:
    return f"move {key} below [NAME] of its profile" if key.replace("-", "_") in OF_PROFILES else "remove it"


def _secrets(file: ProfilesFile) -> Iterator[bool]:
    for name in file.names:
        for key, value in file.content[name].items():
            setting = Setting(key.replace("-", "_"), value if isinstance(value, str) else None, "profile")
            yield setting.shown != setting.value


def profile_checks(file: ProfilesFile, name: str) -> Iterator[ProfileCheck]:
    """Unknown keys of a profile and values that cannot be used; one check that is ok where there are none."""
    problems = list(_problems(file, name))
    yield from problems
    if not problems:
        yield ProfileCheck(name, "settings", "ok", f"{number(len(file.content[name]), 'setting')}, all usable")


def _problems(file: ProfilesFile, name: str) -> Iterator[ProfileCheck]:
    table: Mapping[str, object] = file.content[name]
    seen = set()
    for key in table:
        setting = key.replace("-", "_")
        if setting not in OF_PROFILES:
            close = nearest(setting, OF_PROFILES, 1)
            fix = f"did you mean {close[0].replace('_', '-')}?" if close else f"known are: {listed([*OF_PROFILES], 20)}"
            yield ProfileCheck(name, key, "problem", "unknown setting", fix)
            continue
        if setting in seen:
            yield ProfileCheck(name, key, "problem", "stands twice, once with - and once with _", "remove one")
        seen.add(setting)
        try:
            check_value(setting_of(setting, file.value(name, key), f"profile {name}"))
        except DvctlError as error:
            yield _problem(name, key, error)


def _problem(profile: str | None, setting: str, error: DvctlError) -> ProfileCheck:
    return ProfileCheck(profile, setting, "problem", str(error), error.hint or "")


class ServerChecks:
    """Asks the servers of one pipeline's settings. `error`: the first that a server or the database answered with."""

    def __init__(self, profile: str | None, opened: Opened, only: Container[str] | None = None) -> None:
        """only: the settings whose servers are asked (all); Redis is asked in any case."""
        self.profile = profile
        self._only: Container[str] = OF_PROFILES if only is None else only
        self.settings, self.dispatch, self._groups, self._repository = opened
        self.error: DvctlError | None = None

    def run(self) -> Iterator[ProfileCheck]:
        """Redis, stream and group, the database, the broker."""
        yield from self._asked("redis", self._redis)
        if "database_url" in self._only:
            yield from self._asked("database", self._database)
        if "broker_url" in self._only:
            yield from self._asked("broker", self._broker)

    def _asked(self, name: str, ask: Callable[[], Iterator[ProfileCheck]]) -> Iterator[ProfileCheck]:
        try:
            yield from ask()
        except DvctlError as error:
            self.error = self.error or error
            yield _problem(self.profile, name, error)

    def _said(self, name: str, status: State, detail: str, fix: str = "") -> ProfileCheck:
        return ProfileCheck(self.profile, name, status, detail, fix)

    def _redis(self) -> Iterator[ProfileCheck]:
        for position, open_group in enumerate(self._groups):
            group = open_group()
            stream = group.stream.info()
            found = f": {place(group.stream.client)}" if topology_of(group.stream.client) else ""
            if position == 0 or found:
                yield self._said("redis", "ok", f"{self.settings['redis_url'].shown} answers{found}")
            yield from self._stream(group, stream)

    def _stream(self, group: Group, stream: StreamInfo | None) -> Iterator[ProfileCheck]:
        if stream is None:
            yield self._said("stream", "warning", f"there is no stream {group.stream.key} yet")
            return
        yield self._said("stream", "ok", f"{group.stream.key}: {number(stream.length, 'entry', 'entries')}")
        info = group.info()
        if info is None:
            yield self._said("group", "warning", f"there is no group {group.name} yet; `dvctl consume` creates it")
        else:
            yield self._said("group", "ok", f"{group.name}: {number(info.consumers, 'consumer')}")

    def _database(self) -> Iterator[ProfileCheck]:
        if not self.settings.has_database:
            yield self._said("database", "warning", "no database is configured", "add database-url")
            return
        repository = self._repository()
        repository.check(writing=False)
        yield self._said("database", "ok", f"{repository.where}: {repository.spec.name} has its columns")

    def _broker(self) -> Iterator[ProfileCheck]:
        if self.dispatch.why == "no-configurations":
            return
        url = self.settings.broker_url
        if url is None or not self.dispatch.on:
            yield self._said("broker", "warning" if url else "ok", self.dispatch.line, self.dispatch.hint or "")
            return
        state = inspect_broker(url, QUEUES, LIMIT_S)
        missing = [queue.name for queue in state.queues if queue.messages is None and queue.error is None]
        queues = f"; {', '.join(missing)} not there yet" if missing else ""
        yield self._said("broker", "ok", f"{state.answered} answers{queues}")
