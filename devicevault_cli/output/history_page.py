"""The pictures of `dvctl journal` and `dvctl snapshots`: a change or a file each, and the command that undoes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from devicevault_cli.output.table import show, text
from devicevault_cli.output.view import View
from devicevault_cli.plural import number

Answer: TypeAlias = Mapping[str, Any]
OUTCOMES = {"done": "ok", "failed": "problem", "interrupted": "warning"}
"""The state by whose colour an outcome is shown."""


def journal_lines(answer: Answer, view: View) -> Iterator[str]:
    """The changes, the newest last."""
    if not answer["entries"]:
        yield f"no changes: {text(answer['file'])}"
    for number_of, entry in enumerate(answer["entries"]):
        if number_of:
            yield ""
        yield from _change(entry, view)


def _change(entry: Answer, view: View) -> Iterator[str]:
    outcome = text(entry["outcome"])
    shown = view.state(OUTCOMES[outcome], outcome) if outcome in OUTCOMES else outcome
    yield f"{_time(entry['at'])}  {text(entry['user'])}@{text(entry['host'])}  {shown}"
    typed = text(entry["line"] or f"dvctl {entry['command']}")
    yield f"  {view.paint(typed, 'bold')}"
    where = ", group ".join(text(entry[name]) for name in ("stream", "group") if entry[name])
    places = [where, *(text(entry[name]) for name in ("redis", "database") if entry[name])]
    if any(places):
        yield from _indented(view, ", ".join(filter(None, places)))
    if entry["says"]:
        yield from _indented(view, text(entry["says"]))
    if entry["undo"]:
        yield f"  undo: {text(entry['undo'])}"


def snapshots_lines(answer: Answer, view: View) -> Iterator[str]:
    """The files, the newest first."""
    found = answer["snapshots"]
    if not found:
        yield f"no snapshots: {text(answer['directory'])}"
        return
    listed = f", {len(found):,} listed" if len(found) < answer["total"] else ""
    headline = f"{number(answer['total'], 'snapshot')} of {show('bytes', answer['size'])}{listed}"
    yield from view.folded(f"{headline}, in {text(answer['directory'])}", "bold", "  ")
    for file in found:
        yield ""
        yield from _file(file, view)


def _file(file: Answer, view: View) -> Iterator[str]:
    if not file["whole"]:
        for line in view.folded(f"{_time(file['at'])}  DAMAGED: {text(file['problem'])}", indent="  "):
            yield view.state("problem", line)
        return
    if file["table"]:
        of, holds = text(file["table"]), number(file["rows"] or 0, "row")
    else:
        of = f"{text(file['stream'])}, group {text(file['group'])}"
        holds = number(file["entries"] or 0, "pending entry", "pending entries")
    words = [f"before {text(file['command'])}"] if file["command"] else []
    yield f"{_time(file['at'])}  {', '.join([*words, holds, show('bytes', file['size'])])}"
    yield from _indented(view, of)
    yield f"  {text(file['restore'])}"


def _indented(view: View, sentence: str) -> Iterator[str]:
    """A sentence below its heading. Commands are not folded: they are there to be copied."""
    yield from (f"  {line}" for line in View(view.width - 2, view.coloured).folded(sentence, indent="  "))


def _time(at: str) -> str:
    """To the second: `2026-01-12 04:47:00Z`."""
    return f"{text(at)[:19].replace('T', ' ')}Z"
