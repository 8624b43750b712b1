"""The report of a verification, to be attached to an incident: Markdown, or one HTML file without anything external."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

Answer = dict[str, Any]

MEANING = {
    "persisted": "a row with its identity is there",
    "dead": "has a dead letter",
    "discarded": "given up on purpose",
    "pending": "delivered, not acknowledged yet",
    "undelivered": "the group has not come to it yet",
    "skipped": "not for this pipeline",
    "lost": "accounted for nowhere; would become a row",
    "lost_invalid": "accounted for nowhere; would be rejected",
}


def repair_commands(answer: Answer, settings: str = "") -> list[str]:
    """What to type next; `settings` are the options that chose stream and group."""
    classes, rows = answer["classes"], answer["rows"]
    tail = f" {settings}" if settings else ""
    next_steps = []
    if classes.get("lost") or classes.get("lost_invalid"):
        next_steps += [f"dvctl verify --repair --dry-run{tail}", f"dvctl verify --repair{tail}"]
    if answer.get("pending_gone"):
        next_steps.append(f"dvctl claim --release --idle 0{tail}")
    if rows.get("duplicate_rows"):
        next_steps.append(f"dvctl db dedupe --dry-run{tail}")
    if classes.get("dead"):
        next_steps.append(f"dvctl dlq list{tail}")
    return next_steps


def summary(answer: Answer) -> str:
    """One sentence."""
    entries, classes = answer["stream"]["entries"], answer["classes"]
    if answer["ok"]:
        return f"All {entries:,} entries are accounted for."
    lost = classes["lost"] + classes["lost_invalid"]
    found = [f"{lost:,} of {entries:,} entries are lost"] if lost else []
    if answer["pending_gone"]:
        found.append(f"{answer['pending_gone']:,} pending entries are gone from the stream")
    if answer["rows"]["duplicate_rows"]:
        found.append(f"{answer['rows']['duplicate_rows']:,} rows are surplus")
    return f"{'; '.join(found)}."


def markdown(answer: Answer, about: dict[str, str], commands: Sequence[str]) -> str:
    """The report as Markdown."""
    return "\n".join(_markdown(answer, about, commands)) + "\n"


def _markdown(answer: Answer, about: dict[str, str], commands: Sequence[str]) -> Iterator[str]:
    yield "# dvctl verify"
    yield from ["", f"**{summary(answer)}**", ""]
    for title, head, rows in _tables(answer, about):
        yield from ["", f"## {title}", "", f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
        yield from (f"| {' | '.join(_cell(each) for each in row)} |" for row in rows)
    if commands:
        yield from ["", "## What to type next", "", "```", *commands, "```"]


def _cell(value: object) -> str:
    """Text of messages must not end a cell or become markup."""
    shown = "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
    return "".join(f"\\{each}" if each in "\\`*_[]<>|#&" else each for each in shown).replace("\n", " ")


def _tables(answer: Answer, about: dict[str, str]) -> Iterator[tuple[str, list[str], list[list[object]]]]:
    """Title, headings and rows of every table that has any."""
    yield "What was verified", ["", ""], [[name, value] for name, value in about.items()]
    classes = answer["classes"]
    yield "Entries", ["class", "entries", "meaning"], [[name, classes[name], MEANING[name]] for name in classes]
    yield "Rows", ["", "rows"], [[name.replace("_", " "), value] for name, value in answer["rows"].items()]
    if answer["lost_reasons"]:
        yield "Why lost entries would be rejected", ["reason", "entries"], [*map(list, answer["lost_reasons"].items())]
    if answer["timeline"]:
        span = f"losses in {answer['timeline_span_s']} s"
        yield "When", ["from", span], [[each["start"], each["lost"]] for each in answer["timeline"]]
    if answer["devices"]:
        title = f"Devices ({answer['devices_affected']:,} affected)"
        yield title, ["device", "lost"], [[str(each["device_id"]), each["lost"]] for each in answer["devices"]]
    if answer["examples"]:
        keys = ["class", "id", "time", "device_id", "task_identifier", "reason"]
        yield "Examples", keys, [[_text(each.get(key)) for key in keys] for each in answer["examples"]]


def _text(value: object) -> str | None:
    return None if value is None else str(value)


_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 60rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.verdict { padding: .8rem 1rem; border-radius: .4rem; font-weight: 600; color: #fff; background: #a11 }
.verdict.ok { background: #175 }
.wide { overflow-x: auto } table { border-collapse: collapse; min-width: 50% }
td, th { padding: .2rem .8rem .2rem 0; text-align: left; border-bottom: 1px solid #8884; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums }
pre { overflow-x: auto; padding: .8rem; border-radius: .4rem; background: #8882 }
svg { width: 100%; height: 8rem; display: block } svg rect { fill: #a11 }
"""


def html(answer: Answer, about: dict[str, str], commands: Sequence[str]) -> str:
    """The report as one HTML page: no script, nothing from elsewhere, readable on a phone."""
    return "\n".join(_html(answer, about, commands)) + "\n"


def _html(answer: Answer, about: dict[str, str], commands: Sequence[str]) -> Iterator[str]:
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f'<link rel="icon" href="data:,">\n<title>dvctl verify</title>\n<style>{_STYLE}</style>\n</head>\n<body>'
    yield f'<h1>dvctl verify</h1>\n<p class="verdict{" ok" if answer["ok"] else ""}">{escape(summary(answer))}</p>'
    for title, head, rows in _tables(answer, about):
        yield f"<h2>{escape(title)}</h2>"
        if title == "When":
            yield chart(answer["timeline"], answer["timeline_span_s"])
        yield '<div class="wide"><table>'
        if any(head):
            yield f"<tr>{''.join(f'<th>{escape(each)}</th>' for each in head)}</tr>"
        yield from (f"<tr>{''.join(map(_html_cell, row))}</tr>" for row in rows)
        yield "</table></div>"
    if commands:
        yield f"<h2>What to type next</h2>\n<pre>{escape(chr(10).join(commands))}</pre>"
    yield "</body>\n</html>"


def _html_cell(value: object) -> str:
    if isinstance(value, int):
        return f'<td class="n">{value:,}</td>'
    return f"<td>{escape('-' if value is None else str(value))}</td>"


def chart(timeline: Sequence[dict[str, Any]], span_s: int) -> str:
    """Bars, one a span, where they belong in time."""
    starts = [_seconds(each["start"]) for each in timeline]
    width = max(1.0, (starts[-1] - starts[0]) / span_s + 1)
    most = max(each["lost"] for each in timeline)
    bars = "".join(
        f'<rect x="{(start - starts[0]) / span_s:.2f}" y="{100 - 100 * each["lost"] / most:.2f}" width="0.9" '
        f'height="{100 * each["lost"] / most:.2f}"><title>{escape(each["start"])}: {each["lost"]}</title></rect>'
        for start, each in zip(starts, timeline, strict=True)
    )
    label = f"losses by time, at most {most} in {span_s} s"
    box = f"0 0 {width:.2f} 100"
    return f'<svg viewBox="{box}" preserveAspectRatio="none" role="img" aria-label="{label}">{bars}</svg>'


def _seconds(moment: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(moment).timestamp()
