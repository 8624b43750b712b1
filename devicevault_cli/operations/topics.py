"""dvctl help TOPIC: the runbooks, one topic a page, as the wheel ships them or as they are in a checkout."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import devicevault_cli
from devicevault_cli.operations.answer import Answer

_LINK = re.compile(r"\[([^\]]+)\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
"""`[text](page.md#heading)`"""


@dataclass(frozen=True, slots=True)
class TopicTitle(Answer):
    """An element of `topics[]`. `title`: the symptom, or the task."""

    topic: str
    title: str


@dataclass(frozen=True, slots=True)
class TopicList(Answer):
    topics: Sequence[TopicTitle]


@dataclass(frozen=True, slots=True)
class Topic(Answer):
    """`text`: Markdown; links to other pages are the commands that print them."""

    topic: str
    title: str
    text: str


def names() -> list[str]:
    """Every topic, sorted."""
    return sorted(path.stem for path in _directory().glob("*.md") if path.stem != "README")


def every_topic() -> TopicList:
    """Every topic with its title."""
    return TopicList([TopicTitle(name, read(name).title) for name in names()])


def read(name: str) -> Topic:
    """The page of one of `names()`."""
    text = (_directory() / f"{name}.md").read_text("utf-8")
    title = text.partition("\n")[0].removeprefix("# ")
    return Topic(name, title, _LINK.sub(lambda link: _reference(link[1], link[2]), text))


def _directory() -> Path:
    """docs/runbooks, which the build copies into the package."""
    package = Path(devicevault_cli.__file__).parent
    shipped = package / "runbooks"
    return shipped if shipped.is_dir() else package.parent / "docs" / "runbooks"


def _reference(text: str, target: str) -> str:
    """A link as words that make sense where nothing can be clicked."""
    page = Path(target)
    if "://" in target:
        return f"{text} ({target})"
    if page.parent == Path() and page.stem != "README":
        return f"`dvctl help {page.stem}`" if text == page.stem else f"{text} (`dvctl help {page.stem}`)"
    return f"{text} ({Path('docs', page.relative_to('..') if page.parts[0] == '..' else Path('runbooks', page))})"
