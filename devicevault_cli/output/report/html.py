"""The report as one HTML page without scripts or external resources, to attach to an incident."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from devicevault_cli.output.escapes import visible
from devicevault_cli.output.report.chart import chart_of
from devicevault_cli.output.report.content import (
    Answer,
    Step,
    Table,
    devices,
    losses,
    span_name,
    summary,
    tables,
)
from devicevault_cli.plural import number

if TYPE_CHECKING:
    from jinja2 import Environment

PROBLEMS = ("lost", "lost_invalid", "pending gone", "duplicate rows", "not_stored", "store_failed")
UNBROKEN = ("class", "id", "time", "device", "result", "rows", "reason", "column")
"""Headings of columns of short words and numbers, which cannot be read or copied when broken over lines."""


def html(answer: Answer, about: Mapping[str, str], steps: Sequence[Step]) -> str:
    """The page. `about`: names and values that say what was verified."""
    lost = losses(answer)
    about_table = Table("Scope", [], list(about.items()))
    return _environment().get_template("template.html.j2").render(
        title=f"dvctl verify: {about.get('stream', '')}",
        ok=answer["ok"],
        summary=summary(answer),
        facts=_facts(answer),
        steps=steps,
        chart=chart_of(lost["timeline"], lost["timeline_span_s"]),
        spans=_spans(lost),
        devices=devices(answer),
        tables=[*tables(answer), about_table],
        elapsed=f"{answer['elapsed_s']:,.1f}",
        problems=PROBLEMS,
        unbroken=UNBROKEN,
    )  # fmt: skip


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        autoescape=True,
        finalize=_shown,
        keep_trailing_newline=True,
        loader=PackageLoader("devicevault_cli.output.report", ""),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )


def _shown(value: object) -> object:
    """A value as the page shows it; without control characters and what reorders the letters around it."""
    from markupsafe import Markup

    if isinstance(value, Markup):  # what a macro of the template made
        return value
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else visible(str(value))


def _facts(answer: Answer) -> list[tuple[str, object, str]]:
    """The few numbers a reader looks for first: a name, a value, a note."""
    lost, classes = losses(answer), losses(answer)["classes"]
    if not lost["lost_since"]:
        return []
    since, until, invalid = lost["lost_since"], lost["lost_until"], classes["lost_invalid"]
    return [
        (
            "lost before the repair" if lost is not answer else "lost",
            classes["lost"] + invalid,
            f"{invalid:,} would be rejected" if invalid else "",
        ),
        ("devices affected", lost["devices_affected"], ""),
        ("first loss", since[11:19], f"{since[:10]} UTC"),
        ("last loss", until[11:19], f"{until[:10]} UTC"),
    ]


def _spans(lost: Answer) -> Table:
    """The numbers behind the chart."""
    timeline = lost["timeline"]
    rows = [(span["start"], span["lost"]) for span in timeline]
    return Table(
        f"{number(len(timeline), 'span')} with losses", [f"{span_name(lost['timeline_span_s'])} from", "lost"], rows
    )
