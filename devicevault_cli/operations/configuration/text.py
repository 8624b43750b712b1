"""Edits the text of config.toml: a profile is added or replaced, the default is set, the rest stays as it is."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any, NamedTuple

from devicevault_cli.config_files import DEFAULT_PROFILE
from devicevault_cli.errors import BadConfig
from devicevault_cli.settings import Given

_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_HEADER = re.compile(r"^[ \t]*\[", re.MULTILINE)
DEFAULT_KEY = DEFAULT_PROFILE.replace("_", "-")
_DEFAULT = re.compile(
    rf"^[ \t]*{DEFAULT_PROFILE.replace('_', '[-_]')}[ \t]*=[ \t]*(?:\"[^\"\n]*\"|'[^'\n]*')(.*)\n?", re.MULTILINE
)
_COMMENT = re.compile(r"""^(?:"[^"\n]*"|'[^'\n]*'|[^"'#\n])*#""", re.MULTILINE)
_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


class Edited(NamedTuple):
    """The new text. `lost`: comments of the profile that was replaced."""

    text: str
    lost: int = 0


def with_profile(text: str, name: str, values: Mapping[str, Given]) -> Edited:
    """The text with this profile, in the place of one of the same name, else at the end.

    Raises BadConfig for a text that cannot be edited without a risk to what else is in it.
    """
    body = "".join(f"{key.replace('_', '-')} = {_written(value)}\n" for key, value in values.items())
    section = f"[{name if _BARE.fullmatch(name) else _quoted(name)}]\n{body}"
    before = tomllib.loads(text)
    if name not in before:
        edited = Edited(f"{text.rstrip()}\n\n{section}" if text.strip() else section)
    else:
        start, end = _section_of(text, name)
        replaced = text[start:end]
        edited = Edited(f"{text[:start]}{section}{text[end:]}", len(_COMMENT.findall(replaced)))
    _require(edited.text, {**before, name: dict(_dashed(values))})
    return edited


def with_default(text: str, name: str | None) -> str:
    """The text in which this profile is the default; None: no profile is. Raises BadConfig as `with_profile`."""
    wanted = {key: value for key, value in tomllib.loads(text).items() if not _is_default(key)}
    if name is not None:
        wanted[DEFAULT_KEY] = name
    header = _HEADER.search(text)
    end = header.start() if header else len(text)
    found = _DEFAULT.search(text, 0, end)
    if found:
        line = "" if name is None else f"{DEFAULT_KEY} = {_quoted(name)}{found[1]}\n"
        edited = text[: found.start()] + line + text[found.end() :]
    else:
        edited = text if name is None else f"{DEFAULT_KEY} = {_quoted(name)}\n\n{text}"
    _require(edited, wanted)
    return edited.lstrip("\n")


def _is_default(key: str) -> bool:
    return key.replace("-", "_") == DEFAULT_PROFILE


def _section_of(text: str, name: str) -> tuple[int, int]:
    """Where a table begins and ends; comments above the next table belong to that one."""
    spelled = "|".join(re.escape(word) for word in {name, _quoted(name), f"'{name}'"})
    header = re.search(rf"^[ \t]*\[[ \t]*(?:{spelled})[ \t]*\].*\n?", text, re.MULTILINE)
    if header is None:
        raise _by_hand(name)
    following = _HEADER.search(text, header.end())
    end = following.start() if following else len(text)
    lines = text[header.start() : end].splitlines(keepends=True)
    if following:
        while len(lines) > 1 and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
            lines.pop()
    return header.start(), header.start() + len("".join(lines))


def _dashed(values: Mapping[str, Given]) -> Mapping[str, Any]:
    return {key.replace("_", "-"): value if isinstance(value, str) else list(value) for key, value in values.items()}


def _written(value: Given) -> str:
    """A value of TOML: a string, or a list of strings."""
    return _quoted(value) if isinstance(value, str) else f"[{', '.join(map(_quoted, value))}]"


def _require(text: str, wanted: Mapping[str, Any]) -> None:
    """Raises BadConfig where the text does not say exactly what it should."""
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise _by_hand() from None
    if found != wanted:
        raise _by_hand()


def _by_hand(name: str = "") -> BadConfig:
    what = f"profile {name!r}" if name else "the file"
    return BadConfig(f"{what} is written in a way that dvctl cannot edit safely", hint="edit the file by hand")


def _quoted(value: str) -> str:
    """A basic string of TOML."""
    return '"' + "".join(_SHORT.get(one) or (one if one.isprintable() else f"\\U{ord(one):08x}") for one in value) + '"'
