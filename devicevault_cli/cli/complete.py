"""Live values for the shells' completion: groups, consumers, ids, profiles. Silent where there are none."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from devicevault_cli.settings import NAMES, Settings, load

if TYPE_CHECKING:
    from devicevault_cli.streams.stream import Stream

TIMEOUT_S = 1.0
MOST = 100

_HARMLESS = re.compile(r"\w[\w.:@%+,/={}-]*")
"""Names a shell neither breaks up nor runs: bash expands the words that it is offered."""


def main(words: Sequence[str]) -> int:
    """Print the values of one kind, one a line: `groups WORD...`, the words being those of the command line so far."""
    if not words or words[0] not in KINDS:
        return 2
    try:
        # The value that is being typed is none yet: there is no profile `pro`.
        given = _settings_in(words[1:]) | {words[0].removesuffix("s"): None}
        settings = load(given, os.environ)
        text = "".join(f"{value}\n" for value in KINDS[words[0]](settings) if _HARMLESS.fullmatch(value))
    except Exception:  # noqa: BLE001 - at a prompt half typed, no message is of use: there is nothing to offer
        return 1
    sys.stdout.write(text)
    return 0


def _settings_in(words: Sequence[str]) -> dict[str, str | None]:
    """The settings among words that need not be a whole command line yet."""
    found: dict[str, str | None] = {}
    for number, word in enumerate(words):
        option, given, value = word.partition("=")
        name = option.removeprefix("--").replace("-", "_")
        if option.startswith("--") and name in NAMES:
            found[name] = value if given else words[number + 1] if number + 1 < len(words) else None
    # An empty value is one that is being typed.
    return {name: value or None for name, value in found.items()}


def _profiles(_: Settings) -> Iterable[str]:
    import tomllib

    from devicevault_cli.config_files import profiles_path

    tables = tomllib.loads(profiles_path(os.environ).read_text("utf-8"))
    return [name for name, table in tables.items() if isinstance(table, dict)]


def _groups(settings: Settings) -> Iterable[str]:
    return [group.name for group in _stream(settings).groups()]


def _consumers(settings: Settings) -> Iterable[str]:
    from devicevault_cli.streams.group import Group

    return [each.name for each in Group(_stream(settings), settings.group).consumers()]


def _ids(settings: Settings) -> Iterable[str]:
    """Pending entries, oldest first; where there are none, the newest entries."""
    from devicevault_cli.errors import MissingGroup
    from devicevault_cli.streams.group import Group

    stream = _stream(settings)
    try:
        pending = Group(stream, settings.group).pending(count=MOST)
    except MissingGroup:
        pending = []
    return [str(each.id) for each in pending or stream.last(MOST)]


def _dead_ids(settings: Settings) -> Iterable[str]:
    from devicevault_cli.streams.dead_letters import DeadLetters

    letters = (letter for page in DeadLetters(_stream(settings), settings.group).pages() for letter in page)
    return [str(letter.id) for letter in islice(letters, MOST)]


def _stream(settings: Settings) -> Stream:
    from devicevault_cli.streams.connect import connect
    from devicevault_cli.streams.stream import Stream

    return Stream(connect(settings.redis_url, socket_timeout=TIMEOUT_S), settings.stream)


KINDS: dict[str, Callable[[Settings], Iterable[str]]] = {
    "groups": _groups,
    "consumers": _consumers,
    "ids": _ids,
    "dead-ids": _dead_ids,
    "profiles": _profiles,
}
