"""dvctl verify: every stream entry against every row."""

import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.named import conclude, typed_group
from devicevault_cli.cli.options import Rate, Since, forbid, require_order
from devicevault_cli.cli.values import duration, parsed
from devicevault_cli.errors import DvctlError, ExitCode, Usage
from devicevault_cli.operations.dispatch.names import STORAGE_STATES
from devicevault_cli.operations.entries.positions import parse_end
from devicevault_cli.operations.verify.names import Listed
from devicevault_cli.streams.model import LAST, ZERO, EntryId
from devicevault_cli.times import parse_pause

WHEN = {"id": 18, "time": 24}
ENTRY = WHEN | {"device_id": 9, "task_identifier": 20}
COLUMNS = {
    "lost_invalid": ENTRY | {"reason": 20},
    "gone": WHEN | {"consumer": 30},
    "conflicting": ENTRY | {"row": 9},
    "duplicate_rows": {"id": 10, "identity": 60},
    "rows_without_entry": {"id": 10},
}
"""What `--show` tells of each class; of the others as much as of an entry."""
ROUND = {"entries": 9, "persisted": 9, "pending": 8, "undelivered": 11, "lost": 6, "lost_invalid": 12, "ok": 4}
STORED_ROUND = {
    **{name: ROUND[name] for name in ("entries", "persisted", "lost", "lost_invalid")},
    "not_stored": 10,
    "store_failed": 12,
    "ok": 4,
}
"""With --storage, as many as fit into 80 columns."""
GRACE_MS = 3_600_000
SHOWN = ("persisted", "dead", "pending", "undelivered", "lost")
"""The classes that the table of several streams shows."""


def _line(answer: "Mapping[str, Any]") -> "Mapping[str, Any]":
    """What the table of several streams shows of one; valid and invalid messages that are lost are one number."""
    classes = dict(answer["classes"])
    if "lost" in classes:
        classes["lost"] += classes["lost_invalid"]
    shown = {name: classes[name] for name in SHOWN if name in classes}
    return {"entries": answer["stream"]["entries"], **shown, "ok": answer["ok"]}


@command(
    "dvctl verify",
    "dvctl verify --since -1d --report incident.html",
    "dvctl verify --show lost -o ids",
    "dvctl verify --storage",
    "dvctl verify --repair --dry-run",
    database=True,
    ids=True,
    effect="read-only but for --repair",
    streams="each",
    columns=_line,
)
def verify(
    ctx: Context,
    counts: Annotated[bool, typer.Option("--counts", help="Only count; at once, but proves nothing.")] = False,
    show: Annotated[Listed | None, typer.Option("--show", help="List every entry of one class, or such rows.")] = None,
    since: Since = None,
    until: Annotated[
        EntryId | None,
        typer.Option("--until", help="Only up to this time.", metavar="TIME|-DURATION", parser=parsed(parse_end)),
    ] = None,
    storage: Annotated[
        bool, typer.Option("--storage", help="Also follow each success on to its stored backup.")
    ] = False,
    grace: Annotated[
        int | None,
        duration("--grace", text="With --storage: time allowed for storing (1h)."),
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also compare every column; find rows without an entry.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Insert what is lost; dead-letter what is lost and invalid.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Verify repeatedly, one line each, until interrupted.")
    ] = False,
    every: Annotated[
        int | None,
        typer.Option(
            "--every",
            help="With --watch: pause between two rounds (1m).",
            metavar="DURATION",
            parser=parsed(parse_pause),
        ),
    ] = None,
    rate: Rate = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Also write a report, .md or .html.", metavar="FILE", readable=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --repair: show the plan, change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --repair: do not ask.")] = False,
    all_streams: Annotated[
        bool, typer.Option("--all-streams", help="With --repair: repair every stream, where several are configured.")
    ] = False,
) -> int:
    """Compare every entry of the stream with every row.

    Entries and rows are matched by identity. Only reads, in bounded memory, also beside consumers at work. Ends with 3
    where something is lost, pending but gone from the stream, or stands twice in the table; with --storage also where
    a configuration is not stored, or storing it failed.
    """

    from devicevault_cli.operations.verify.scan import Scope
    from devicevault_cli.output.printer import not_confirmed

    storage = storage or show in STORAGE_STATES
    forbid(
        (storage and not ctx.pipeline.dispatches, "--storage needs the pipeline results: it follows its successes"),
        (storage and counts, "--storage does not combine with --counts: it looks at every success"),
        (grace is not None and not storage, "--grace needs --storage"),
        (sum((counts, show is not None, repair, watch)) > 1, "give one of --counts, --show, --repair and --watch"),
        (every is not None and not watch, "--every needs --watch"),
        ((dry_run or yes or all_streams) and not repair,
         "--dry-run, --yes and --all-streams need --repair: without it verify changes nothing"),
        (deep and (counts or show is not None or watch), "--deep does not combine with --counts, --show or --watch"),
        (counts and any(value is not None for value in (since, until, rate)),
         "--counts counts everything: no --since, --until or --rate"),
        (report is not None and (report.suffix not in (".md", ".html") or counts or show is not None or watch),
         "--report writes .md or .html, of one whole verification"),
        (ctx.whole is not None and (deep or watch or report is not None),
         "--deep, --watch and --report work on one stream: name it with --stream"),
    )  # fmt: skip
    require_order(since, until, "--since", "--until")
    if ctx.printer.output == "ids" and (show is None or counts or watch or repair):
        raise Usage("-o ids needs --show CLASS", hint="dvctl verify --show lost -o ids")
    if repair and not (dry_run or yes or ctx.terminal.can_ask):
        raise not_confirmed(ctx.terminal, "--yes")
    conclude(ctx, typed_group(ctx))
    scope = Scope(since or ZERO, until or LAST, rate, (GRACE_MS if grace is None else grace) if storage else None)
    if counts:
        return _counts(ctx)
    if show is not None:
        return _show(ctx, scope, show)
    if watch:
        return _watch(ctx, scope, (60_000 if every is None else every) / 1000)
    if repair:
        return _repair(ctx, scope, report, deep=deep)
    return _told(ctx, _once(ctx, scope, deep=deep), scope, report)


def _once(ctx: Context, scope: Any, *, deep: bool = False) -> dict[str, Any]:
    from devicevault_cli.operations.verify.verify import verify as look

    with ctx.printer.progress("verifying") as progress:
        return look(ctx.group, ctx.pipeline, ctx.repository, scope, deep=deep, progress=progress).to_dict()


def _repair(ctx: Context, scope: Any, report: Path | None, *, deep: bool) -> int:
    from devicevault_cli.cli.changes import carried_out, change, check_success, facts_of, tell_undo
    from devicevault_cli.operations.database.fail_over import require_current
    from devicevault_cli.operations.verify.repair import plan_repair

    if not ctx.dry_run:
        require_current(ctx.group, ctx.repository)
    with ctx.printer.progress("verifying") as progress:
        make = partial(plan_repair, ctx.group, ctx.pipeline, ctx.repository, scope, deep=deep, progress=progress)
        if ctx.plans is not None:  # of several streams: confirmed and applied together
            change(ctx, make, "Repair?")
            return 0
        planned, done = carried_out(ctx, make, "Repair?")
    code = _told(ctx, facts_of(done), scope, report)
    tell_undo(ctx, planned, done)
    check_success(planned, done)
    return code


def _told(ctx: Context, answer: dict[str, Any], scope: Any, report: Path | None) -> int:
    from devicevault_cli.operations.verify.caveats import acknowledged_losses
    from devicevault_cli.output.report.content import next_steps
    from devicevault_cli.output.report.text import text_lines

    if answer["problem"]:
        if ctx.printer.output != "table":  # where the last line says it
            ctx.printer.warn(answer["problem"])
    elif answer["stream"]["entries"] == 0:
        ctx.printer.note(f"nothing to verify: {ctx.stream.key} has no entries here")
    for incident in answer["incidents"]:
        if incident["detail"] not in (answer["problem"] or ""):
            ctx.printer.warn(incident["detail"])
    ctx.printer.answer(answer, view=text_lines)
    if losses := acknowledged_losses(ctx.group):
        ctx.printer.note(losses)
    steps = next_steps(answer, _settings(ctx), _scope(scope))
    if report is not None:
        _write_report(ctx, report, answer, _about(ctx, scope), steps)
    if not answer["ok"]:
        for step in steps:
            ctx.printer.step(step.command, step.why)
    return 0 if answer["ok"] else ExitCode.FOUND


def _about(ctx: Context, scope: Any) -> dict[str, str]:
    """What a report must tell for its numbers to mean anything years later. No password is shown."""
    from devicevault_cli import __version__
    from devicevault_cli.times import iso, now_ms

    part = {name: f"{position} ({iso(position.ms)})" for name, position in (("from", scope.start), ("to", scope.end))
            if position not in (ZERO, LAST)}  # fmt: skip
    return {
        "stream": ctx.stream.key,
        "group": ctx.group.name,
        "Redis": ctx.settings["redis_url"].shown or "",
        "database": ctx.repository.where,
        "table": ctx.pipeline.table,
        **part,
        "verified": iso(now_ms()),
        "by": f"dvctl {__version__}",
    }


def _write_report(ctx: Context, path: Path, answer: dict[str, Any], about: dict[str, str], steps: list[Any]) -> None:
    from devicevault_cli.output.report.html import html
    from devicevault_cli.output.report.markdown import markdown

    text = (html if path.suffix == ".html" else markdown)(answer, about, steps)
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise DvctlError(f"{path} cannot be written: {error.strerror}") from error
    ctx.printer.note(f"report written to {path}")


def _counts(ctx: Context) -> int:
    from devicevault_cli.operations.verify.verify import counts

    answer = counts(ctx.group, ctx.repository)
    ctx.printer.answer(answer.to_dict())
    if missing := _no_stream(ctx, answer.rows["rows"]):
        return missing
    ctx.printer.hint("a loss and a duplicate cancel out in counts; `dvctl verify` compares identities")
    return 0


def _no_stream(ctx: Context, rows: int = 0) -> int:
    """Say that there is nothing to verify, where that is no good sign. -> exit code, 0 where there is something"""
    from devicevault_cli.operations.verify.caveats import nothing_to_verify

    problem = nothing_to_verify(ctx.stream, ctx.stream.info(), rows)
    if problem:
        ctx.printer.warn(problem)
    return ExitCode.FOUND if problem else 0


def _show(ctx: Context, scope: Any, wanted: Listed) -> int:
    from devicevault_cli.operations.verify.result import VerifyResult
    from devicevault_cli.operations.verify.verify import list_findings

    result = VerifyResult()
    found = list_findings(ctx.group, ctx.pipeline, ctx.repository, scope, wanted, result)
    ctx.printer.stream((row.to_dict() for row in found), COLUMNS.get(wanted, ENTRY))
    missing = _no_stream(ctx, ctx.repository.count())
    wrong = result.lost or result.gone or result.unstored
    return ExitCode.FOUND if missing or wrong or ctx.repository.surplus() else 0


def _watch(ctx: Context, scope: Any, pause_s: float) -> int:
    def rounds() -> Iterator[dict[str, Any]]:
        while True:
            answer = _once(ctx, scope)
            counted = answer["classes"] | answer.get("storage", {})
            yield {"entries": answer["stream"]["entries"], **counted, "ok": answer["ok"]}
            time.sleep(pause_s)

    ctx.printer.stream(rounds(), ROUND if scope.grace_ms is None else STORED_ROUND, "rounds")
    return 0


def _settings(ctx: Context) -> str:
    """The options that a hint must repeat to mean the same stream; not the URLs, which may hold passwords."""
    from devicevault_cli.cli.repeated import typed_settings

    return typed_settings(ctx)


def _scope(scope: Any) -> str:
    """`--since` and `--until` as ids: `-1d` would mean another time an hour later."""
    given = {"--since": scope.start, "--until": scope.end}
    return " ".join(f"{name} {each}" for name, each in given.items() if each not in (ZERO, LAST))
