"""A command about several streams: done for each of them, with one answer, one confirmation and one exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from devicevault_cli.cli.context import Context
from devicevault_cli.cli.options import read_entries
from devicevault_cli.cli.values import StreamEntry, placed
from devicevault_cli.errors import DvctlError, ExitCode, NothingMatched, Usage
from devicevault_cli.output.gathered import Columns, Gathering, GatheringPrinter, print_gathered
from devicevault_cli.streams.model import EntryId

if TYPE_CHECKING:
    from devicevault_cli.operations.changes.change import Change

Values = Mapping[str, Any]
SEVERITY = (0, ExitCode.FOUND, ExitCode.FAILED, ExitCode.CONFIG, ExitCode.REFUSED, ExitCode.UNAVAILABLE)
"""Exit codes, the worst last."""


@dataclass(frozen=True, slots=True)
class Planned:
    """The change of one stream: planned, and neither confirmed nor applied yet."""

    ctx: Context
    change: Change[Any]
    question: str
    ids: Callable[[Any], Iterable[object]] | None
    hint: str | None


def for_one(ctx: Context, values: Values) -> dict[str, Any]:
    """The values of the parameters where there is one stream: entries without its name."""
    return _of_stream(values, ctx.settings.streams, ctx.settings.stream)


def look(ctx: Context, function: Callable[..., int | None], values: Values, columns: Columns | None) -> int:
    """Answer for each stream, and print the answers as one. -> the worst exit code

    A stream that cannot be read does not keep the others from being shown. Raises the error where there are only
    errors.
    """
    gathering = Gathering(columns)
    codes, errors = [0], []
    contexts = _contexts(ctx, values)
    for one in contexts:
        own = replace(one, printer=GatheringPrinter(ctx.printer, one.settings.stream, gathering))
        try:
            codes.append(function(own, **_of_stream(values, ctx.settings.streams, one.settings.stream)) or 0)
        except DvctlError as error:
            errors.append((own, error))
    if len(errors) == len(contexts) and not gathering.found:
        raise errors[0][1]
    print_gathered(ctx.printer, gathering)
    return max([*codes, *_reported(errors)], key=_severity)


def change(ctx: Context, function: Callable[..., int | None], values: Values) -> int:
    """Plan the change of each stream, confirm once, and apply one after another. -> exit code

    Where a stream cannot be planned or changed, that is reported, the others are changed, and the exit code is 1.
    Raises the refusal of any of them before anything is changed.
    """
    plans: list[Planned] = []
    gathering = Gathering()
    errors: list[tuple[Context, DvctlError]] = []
    contexts = _contexts(ctx, values)
    for one in contexts:
        own = replace(one, printer=GatheringPrinter(ctx.printer, one.settings.stream, gathering), plans=plans)
        try:
            function(own, **_of_stream(values, ctx.settings.streams, one.settings.stream))
        except DvctlError as error:
            errors.append((own, error))
    if not plans:
        raise errors[0][1]
    _show(ctx, plans)
    _reported(errors)
    if not ctx.dry_run:
        _refuse(plans)
    done, failed = _carried_out(ctx, plans)
    _print(ctx, gathering, done)
    if errors or failed:
        return ExitCode.FAILED
    return ExitCode.FOUND if any(answer.to_dict().get("ok") is False for _, answer in done) else 0


def _contexts(ctx: Context, values: Values) -> Sequence[Context]:
    """A context for each stream; where entries were typed, for each stream that has some."""
    streams = ctx.settings.streams
    typed = [placed(one, streams) for value in values.values() for one in _entries(value)]
    source = values.get("ids_from")
    of_file = {} if source is None else read_entries(ctx, source)
    named = {entry.stream for entry in typed} | {stream for stream, ids in of_file.items() if ids}
    each = [one if source is None else replace(one, ids=list(of_file[one.settings.stream])) for one in ctx.each_stream]
    if source is None and not typed:
        return each
    return [one for one in each if one.settings.stream in named] or each[:1]


def _entries(value: Any) -> list[EntryId | StreamEntry]:
    found = [one for one in value if isinstance(one, EntryId | StreamEntry)] if isinstance(value, list | tuple) else []
    return [] if isinstance(value, EntryId | StreamEntry) else found


def _of_stream(values: Values, streams: Sequence[str], stream: str) -> dict[str, Any]:
    """The values with the entries that are of this stream."""
    found = dict(values)
    for name, value in values.items():
        if entries := _entries(value):
            found[name] = [entry.id for entry in (placed(one, streams) for one in entries) if entry.stream == stream]
    return found


def _severity(code: int) -> int:
    return SEVERITY.index(code) if code in SEVERITY else len(SEVERITY)


def _reported(errors: Sequence[tuple[Context, DvctlError]]) -> list[int]:
    """Say which streams failed, and why. -> their exit codes"""
    for ctx, error in errors:
        if isinstance(error, NothingMatched):
            ctx.printer.warn(str(error))
        else:
            ctx.printer.error(str(error), error.hint, int(error.exit_code))
    return [int(error.exit_code) for _, error in errors]


def _show(ctx: Context, plans: Sequence[Planned]) -> None:
    """The plan of each stream, and at the end the servers."""
    if ctx.printer.quiet and (ctx.yes or ctx.confirm_name is not None):
        return
    for plan in plans:
        ctx.printer.plan([f"{plan.ctx.settings.stream}:", *(f"  {line}" for line in plan.change.lines())])
    ctx.printer.strong(f"target: {plans[0].ctx.target}")


def _refuse(plans: Sequence[Planned]) -> None:
    for plan in plans:
        if plan.change.refusal is not None:
            refusal = plan.change.refusal
            refusal.args = (f"{plan.ctx.settings.stream}: {refusal}; no stream was changed",)
            raise refusal


def _carried_out(ctx: Context, plans: Sequence[Planned]) -> tuple[list[tuple[Planned, Any]], bool]:
    """Confirm once, then apply each. -> the plans that were applied and their answers, and whether one failed"""
    from devicevault_cli.cli.changes import about
    from devicevault_cli.operations.changes import journal
    from devicevault_cli.operations.changes.change import answer_without_applying, carry_out
    from devicevault_cli.operations.changes.interruption import interruptible

    done: list[tuple[Planned, Any]] = []
    failed = asked = False
    with interruptible():
        for plan in plans:
            answer = answer_without_applying(plan.change, dry_run=ctx.dry_run)
            try:
                if answer is None:
                    if not asked:
                        sizes = sum(1 for one in plans if one.change.size)
                        ctx.confirm(f"{plan.question.rstrip('?')}, on {sizes} of {len(plans)} streams?",
                                    plan.change.typed)  # fmt: skip
                        asked = True
                    with journal.opened(about(plan.ctx)) as opened:
                        answer = carry_out(plan.change, opened)
            except DvctlError as error:
                if not asked:
                    raise
                failed = True
                plan.ctx.printer.error(str(error), error.hint, int(error.exit_code))
                continue
            done.append((plan, answer))
    return done, failed


def _print(ctx: Context, gathering: Gathering, done: Sequence[tuple[Planned, Any]]) -> None:
    from devicevault_cli.cli.changes import facts_of, tell_undo
    from devicevault_cli.output.change_page import result_lines

    for plan, answer in done:
        if answer.applied or ctx.printer.output != "table":
            view = partial(result_lines, "verify --repair" if ctx.command == "verify" else ctx.command)
            plan.ctx.printer.answer(facts_of(answer), ids=plan.ids, view=view)
        tell_undo(plan.ctx, plan.change, answer)
    if ctx.printer.output == "table" and ctx.dry_run:
        ctx.printer.answer({}, lines=lambda _: ["Dry run: no changes made."])
    print_gathered(ctx.printer, gathering)


def require_choice(ctx: Context) -> None:
    """Raises Usage for a change where several streams are configured and none was chosen."""
    if not ctx.all_streams:
        streams = ctx.settings.streams
        raise Usage(
            f"{len(streams)} streams are configured, and this changes something: say on which",
            hint=f"add --stream '{streams[0]}' for one, or --all-streams for all",
        )
