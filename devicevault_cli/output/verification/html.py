"""The report of a verification as one HTML page, to be attached to an incident: no script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from html import escape

from devicevault_cli.output.escapes import visible
from devicevault_cli.output.verification.words import (
    Answer,
    Step,
    Table,
    busiest,
    devices,
    losses,
    number,
    span_name,
    summary,
    tables,
)
from devicevault_cli.times import iso

BARS = 240
"""Bars narrower than the chart's width divided by this could not be seen."""
FEWEST = 24
"""A chart has room for so many spans at least: a single bar shall not look like a wall."""
FINDINGS = ("lost", "lost_invalid", "pending gone", "duplicate rows")

KEPT = ("class", "id", "time", "device", "what", "rows", "reason", "column")
"""Columns of short words and numbers: broken over lines they could not be read, nor copied."""

_STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1b1d21; --dim: #595f69; --line: #d9dce1; --soft: #f3f4f6;
  --bad: #b3261e; --good: #1a6b3c; --on: #fff }
@media (prefers-color-scheme: dark) { :root { --back: #14161a; --text: #e6e8eb; --dim: #a3a9b3; --line: #363b44;
  --soft: #20242b; --bad: #f2a19a; --good: #8fd3a9; --on: #14161a } }
* { box-sizing: border-box }
html { background: var(--back); color: var(--text); font: 16px/1.5 system-ui, "Segoe UI", Roboto, sans-serif;
  -webkit-text-size-adjust: 100% }
body { margin: 0 auto; padding: 1rem; max-width: 64rem; overflow-wrap: anywhere }
h1 { font-size: 1.3rem; margin: 0 0 .8rem } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem }
.verdict { margin: 0; padding: .7rem 1rem; border-radius: .4rem; font-size: 1.1rem; font-weight: 600;
  background: var(--bad); color: var(--on) }
.verdict.ok { background: var(--good) }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .6rem; margin: .6rem 0 0 }
.facts div { padding: .5rem .8rem; border-radius: .4rem; background: var(--soft) }
.facts dt, figcaption, .axis, .why, footer { color: var(--dim); font-size: .85rem }
.facts dd { margin: 0; font-size: 1.15rem; font-weight: 600; font-variant-numeric: tabular-nums }
.facts dd small { display: block; font-size: .85rem; font-weight: 400 }
figure { margin: 0 }
.plot { border-bottom: 1px solid var(--dim); border-top: 1px dotted var(--line); margin-top: .3rem }
svg { display: block; width: 100%; height: 9rem } svg rect { fill: var(--bad) }
.axis { display: flex; justify-content: space-between; font-variant-numeric: tabular-nums }
table { border-collapse: collapse; width: 100% } th { font-size: .85rem; color: var(--dim); font-weight: 600 }
td, th { padding: .25rem .8rem .25rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; width: 1% }
td.k, th { white-space: nowrap } td.k { width: 1% } td.share { width: 40% } .shares th.n { text-align: left }
tr.none td { color: var(--dim) } tr.bad td { color: var(--bad); font-weight: 600 }
.many tr.bad td:not(:first-child) { color: inherit; font-weight: inherit }
.bar { display: block; min-width: 1px; height: .35rem; margin-top: .2rem; background: var(--bad) }
ol { margin: 0; padding: 0; list-style: none } li { margin: 0 0 .7rem }
code { display: block; padding: .45rem .7rem; border-radius: .4rem; background: var(--soft); white-space: pre-wrap;
  font: .95rem/1.4 ui-monospace, Menlo, Consolas, monospace }
summary { cursor: pointer; color: var(--dim); font-size: .85rem; margin-top: .5rem } footer { margin-top: 2rem }
@media (max-width: 40rem) {
  .many tr:first-child { display: none } .many td { display: block; border: 0; padding: 0; width: auto }
  .many td.k { white-space: normal }
  .many tr { display: block; border-bottom: 1px solid var(--line); padding: .4rem 0 }
  td.share { width: 25% }
  .many td:empty { display: none } .many td::before { content: attr(data-name) " "; color: var(--dim) }
}
@media print { body { max-width: none; padding: 0 } h2, figure, li { break-inside: avoid } }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Should markup of a message ever get into the page, nothing of it is run or fetched."""


def html(answer: Answer, about: Mapping[str, str], steps: Sequence[Step]) -> str:
    """The page. `about`: what was verified, in a few names and values."""
    return "\n".join(_page(answer, about, steps)) + "\n"


def _page(answer: Answer, about: Mapping[str, str], steps: Sequence[Step]) -> Iterator[str]:
    title = f"dvctl verify: {about.get('stream', '')}"
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f'<link rel="icon" href="data:,">\n<title>{_inert(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>'
    yield f"<h1>{_inert(title)}</h1>"
    yield f'<p class="verdict{" ok" if answer["ok"] else ""}">{_inert(summary(answer))}</p>'
    yield from _facts(answer)
    yield from _steps(steps)
    yield from _when(losses(answer))
    if table := devices(answer):
        yield from _shares(table)
    for each in tables(answer):
        yield from _table(each)
    yield from _table(Table("What was verified", [], [[name, value] for name, value in about.items()]))
    yield f"<footer>Identities of entries and rows were compared in {answer['elapsed_s']:,.1f} s.</footer>"
    yield "</body>\n</html>"


def _inert(value: object) -> str:
    """Text of messages: neither markup nor control characters, nor what reorders the letters around it."""
    return escape(visible(str(value)))


def _facts(answer: Answer) -> Iterator[str]:
    """The few numbers that are looked for first."""
    lost, classes = losses(answer), losses(answer)["classes"]
    if not lost["lost_since"]:
        return
    invalid = f"<small>{classes['lost_invalid']:,} would be rejected</small>" if classes["lost_invalid"] else ""
    facts = {
        "lost before the repair" if lost is not answer else "lost": f"{_lost(lost):,}{invalid}",
        "devices affected": f"{lost['devices_affected']:,}",
        "first loss": _moment(lost["lost_since"]),
        "last loss": _moment(lost["lost_until"]),
    }
    shown = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    yield f'<dl class="facts">{shown}</dl>'


def _lost(answer: Answer) -> int:
    classes: Mapping[str, int] = answer["classes"]
    return classes["lost"] + classes["lost_invalid"]


def _moment(text: str) -> str:
    """A time of the answer as a person reads it."""
    return f"{text[11:19]}<small>{text[:10]} UTC</small>"


def _steps(steps: Sequence[Step]) -> Iterator[str]:
    if steps:
        yield "<h2>What to type next</h2>\n<ol>"
        yield from (
            f'<li><code>{_inert(each.command)}</code><span class="why">{_inert(each.why)}</span></li>' for each in steps
        )
        yield "</ol>"


def _when(lost: Answer) -> Iterator[str]:
    timeline, span_s = lost["timeline"], lost["timeline_span_s"]
    if not timeline:
        return
    span, most = span_name(span_s), busiest(timeline)
    yield "<h2>When</h2>"
    yield f"<figure><figcaption>Losses by {span}; most of them, {most['lost']:,}, in the {span} from "
    yield f"{_inert(most['start'][:16].replace('T', ' '))} UTC</figcaption>"
    yield from _chart(timeline, span_s)
    yield f"</figure>\n<details><summary>{number(len(timeline), 'span')} with losses</summary>"
    rows = [[each["start"], each["lost"]] for each in timeline]
    yield from _rows(Table("", [f"{span} from", "lost"], rows))
    yield "</details>"


def _chart(timeline: Sequence[Answer], span_s: int) -> Iterator[str]:
    """Bars, one a span, where they belong in time."""
    starts = [datetime.fromisoformat(each["start"]).timestamp() for each in timeline]
    slots = max(FEWEST, round((starts[-1] - starts[0]) / span_s) + 1)
    most, width = busiest(timeline)["lost"], max(0.9, slots / BARS)
    bars = "".join(
        f'<rect x="{min((start - starts[0]) / span_s, slots - width):.2f}" y="{100 - height:.2f}" width="{width:.2f}" '
        f'height="{height:.2f}"><title>{_inert(each["start"])}: {each["lost"]:,}</title></rect>'
        for start, each in zip(starts, timeline, strict=True)
        for height in [max(1.5, 100 * each["lost"] / most)]
    )
    box = f'viewBox="0 0 {slots} 100" preserveAspectRatio="none"'
    yield f'<div class="plot"><svg {box} role="img" aria-label="losses by {span_name(span_s)}">{bars}</svg></div>'
    ends = [iso(round((starts[0] + slots * span_s * part / 2) * 1000)) for part in range(3)]
    yield f'<div class="axis">{"".join(f"<span>{_tick(each, slots * span_s)}</span>" for each in ends)}</div>'


def _tick(moment: str, length_s: int) -> str:
    """A time on the axis, as exactly as the length of the axis lets one read it."""
    if length_s <= 86_400:
        return moment[11:16]
    return moment[:10] if length_s > 7 * 86_400 else f"{moment[5:10]} {moment[11:16]}"


def _shares(table: Table) -> Iterator[str]:
    """A table whose last column is a number, with a bar for each."""
    most = max(row[-1] for row in table.rows if isinstance(row[-1], int))
    yield f'<h2>{_inert(table.title)}</h2>\n<table class="shares">{_heads(table)}'
    for *row, count in table.rows:
        bar = f'<span class="bar" style="width:{100 * int(count or 0) / most:.1f}%"></span>'
        cells = "".join(map(_cell, row, table.head))
        yield f'<tr>{cells}<td class="share">{count:,}{bar}</td></tr>'
    yield "</table>"


def _table(table: Table) -> Iterator[str]:
    yield f"<h2>{_inert(table.title)}</h2>"
    yield from _rows(table)


def _rows(table: Table) -> Iterator[str]:
    """More than three columns become a list on a phone, their headings before the values."""
    many = ' class="many"' if len(table.head) > 3 else ""
    yield f"<table{many}>{_heads(table)}"
    for row in table.rows:
        names = table.head or [""] * len(row)
        yield f"<tr{_mood(row)}>{''.join(map(_cell, row, names))}</tr>"
    yield "</table>"


def _heads(table: Table) -> str:
    numbers = [isinstance(value, int) for value in table.rows[0]]
    cells = (f"<th{_aligned(n)}>{escape(name)}</th>" for name, n in zip(table.head, numbers, strict=False))
    return f"<tr>{''.join(cells)}</tr>" if table.head else ""


def _cell(value: str | int | None, name: str = "") -> str:
    named = f' data-name="{escape(name)}"' if name else ""
    shown = "" if value is None else f"{value:,}" if isinstance(value, int) else _inert(value)
    kept = ' class="k"' if name in KEPT else ""
    return f"<td{_aligned(isinstance(value, int)) or kept}{named}>{shown}</td>"


def _aligned(is_number: bool) -> str:
    return ' class="n"' if is_number else ""


def _mood(row: Sequence[str | int | None]) -> str:
    """Zeros step back; what is lost or surplus stands out."""
    if row[1:2] == [0]:
        return ' class="none"'
    return ' class="bad"' if row[0] in FINDINGS else ""
