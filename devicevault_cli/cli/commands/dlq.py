"""dvctl dlq: dead letters."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from devicevault_cli.cli import complete
from devicevault_cli.cli.changes import change, planned, ready_database, to_storage
from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.named import answered, looked_up, typed_device, typed_group, unmatched
from devicevault_cli.cli.options import Count, Device, IdsFrom, ToStorage, read_ids, say_if_missing
from devicevault_cli.cli.values import duration, parse_entry, parsed
from devicevault_cli.errors import Usage
from devicevault_cli.operations.entries.positions import parse_start
from devicevault_cli.streams.model import EntryId
from devicevault_cli.times import now_ms

if TYPE_CHECKING:
    from devicevault_cli.operations.dead_letters.select import LetterFilter
    from devicevault_cli.operations.named import Named


LETTERS = ("id", "reason", "device_id", "detail")
"""Columns of the letters of several streams."""


def _counts(answer: "Mapping[str, Any]") -> "Mapping[str, Any]":
    """What the table of several streams shows of one."""
    return {name: answer[name] for name in ("total", "retried", "bytes")}


Ids: TypeAlias = Annotated[
    list[EntryId] | None,
    typer.Argument(
        help="First ids of the messages.",
        metavar="ID...",
        parser=parsed(parse_entry),
        autocompletion=complete.dead_ids,
    ),
]
Reason: TypeAlias = Annotated[
    str | None,
    typer.Option("--reason", help="Only letters with this reason.", metavar="REASON", autocompletion=complete.reasons),
]
Since: TypeAlias = Annotated[
    EntryId | None,
    typer.Option(
        "--since", help="Only letters written since this time.", metavar="TIME|-DURATION", parser=parsed(parse_start)
    ),
]
OlderThan: TypeAlias = Annotated[int | None, duration("--older-than", text="Only letters older than this.")]
Everything: TypeAlias = Annotated[bool, typer.Option("--all", help="All of the group's dead letters.")]


def _chosen(
    ctx: Context,
    ids: list[EntryId] | None,
    ids_from: str | None,
    reason: str | None,
    device: int | None,
    since: EntryId | None,
    older_than_ms: int | None,
) -> "LetterFilter":
    from devicevault_cli.operations.dead_letters.select import LetterFilter

    return LetterFilter(
        ids=frozenset(read_ids(ctx, ids, ids_from)) if ids or ids_from is not None else None,
        reason=reason,
        device=device,
        since_ms=None if since is None else since.ms,
        until_ms=None if older_than_ms is None else now_ms() - older_than_ms,
    )


def _require(chosen: "LetterFilter", everything: bool) -> None:
    from devicevault_cli.operations.dead_letters.select import LetterFilter

    if chosen == LetterFilter() and not everything:
        raise Usage("no dead letters are chosen", hint="give ids, --reason, --device, --since, --older-than, or --all")
    if chosen.ids is not None and everything:
        raise Usage("give either ids or --all")


def _typed(ctx: Context, chosen: "LetterFilter") -> "Named":
    """What was typed and does not exist, where nothing was found."""

    from devicevault_cli.operations.named import NO_NAMES

    names = (typed_group(ctx), chosen.named_reason(ctx.dead_letters), typed_device(ctx, chosen.device))
    return next((name for name in names if name.unknown), NO_NAMES)


@command(
    "dvctl dlq list",
    "dvctl dlq list --reason unknown-device -o ids | dvctl dlq retry --ids - --yes",
    ids=True,
    streams="each",
    columns=LETTERS,
)
def list_(
    ctx: Context,
    ids: Ids = None,
    ids_from: IdsFrom = None,
    reason: Reason = None,
    device: Device = None,
    since: Since = None,
    older_than: OlderThan = None,
    everything: Everything = False,
    count: Count = 100,
) -> None:
    """List dead letters, oldest first.

    The totals count every letter that matches. With -o ids all letters are listed, not only one page.
    """

    from devicevault_cli.operations.answer import keys_of
    from devicevault_cli.operations.dead_letters.list import LetterRow, list_letters
    from devicevault_cli.operations.dead_letters.select import LetterFilter
    from devicevault_cli.output.lists_page import letters_lines

    chosen = _chosen(ctx, ids, ids_from, reason, device, since, older_than)
    limit = None if everything or ctx.settings.output == "ids" else count
    answer = list_letters(ctx.dead_letters, chosen, limit)
    named = chosen.named(ctx.dead_letters, answer.unknown or ())
    if not answer.total and not named.unknown:
        named = _typed(ctx, chosen)
    answered(ctx, answer.to_dict(), named, "entries", view=letters_lines, keys=keys_of(LetterRow))
    if not answer.total:
        if chosen != LetterFilter():
            ctx.printer.note("nothing matched")
        say_if_missing(ctx)


@command("dvctl dlq show 1767225600000-0", "dvctl dlq show 1767225600000-0 -o json", ids=True, streams="each")
def show(
    ctx: Context,
    ids: Ids = None,
    ids_from: IdsFrom = None,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show device_config instead of its size and hash.")] = False,
) -> None:
    """Show dead letters with message, reason and history."""

    from devicevault_cli.operations.dead_letters.select import LetterFilter
    from devicevault_cli.operations.dead_letters.show import show_letters
    from devicevault_cli.output.entries_page import show_letters_lines

    wanted = read_ids(ctx, ids, ids_from)
    if not wanted and ids_from is None:
        raise Usage("missing argument ID...", hint="give ids; run `dvctl dlq list` to see them")
    answer = show_letters(ctx.dead_letters, wanted, reveal=reveal)
    named = LetterFilter(frozenset(wanted)).named(ctx.dead_letters, answer.unknown)
    looked_up(ctx, answer.to_dict(), named, "entries", view=show_letters_lines)


@command("dvctl dlq stats", "dvctl dlq stats -o json", streams="each", columns=_counts)
def stats(ctx: Context) -> None:
    """Count dead letters by reason and device."""

    from devicevault_cli.operations.dead_letters.stats import letter_stats
    from devicevault_cli.operations.named import NO_NAMES
    from devicevault_cli.output.lists_page import letter_stats_lines

    answer = letter_stats(ctx.dead_letters)
    answered(ctx, answer.to_dict(), NO_NAMES if answer.total else typed_group(ctx), view=letter_stats_lines)
    if not answer.total:
        say_if_missing(ctx)


@command(
    "dvctl dlq retry --reason unknown-device --dry-run",
    "dvctl dlq retry 1767225600000-0 --set device_id=12",
    "dvctl dlq retry --all --yes",
    database=True,
    changes=True,
    streams="each",
)
def retry(
    ctx: Context,
    ids: Ids = None,
    ids_from: IdsFrom = None,
    reason: Reason = None,
    device: Device = None,
    since: Since = None,
    older_than: OlderThan = None,
    everything: Everything = False,
    repairs: Annotated[
        list[str] | None, typer.Option("--set", help="Repair a field on the way; repeatable.", metavar="FIELD=VALUE")
    ] = None,
    dispatch: ToStorage = False,
) -> None:
    """Process dead letters again.

    A letter is removed once its row is committed. What fails again stays, with its new reason and one more attempt;
    what --set replaced stays beside it as _dvctl.original.FIELD. A repair that changes the identity records the
    original as discarded. With --dispatch a letter is removed only once the broker has confirmed its configuration.
    """
    from devicevault_cli.operations.dead_letters.retry import parse_repairs, plan_retry

    chosen = _chosen(ctx, ids, ids_from, reason, device, since, older_than)
    _require(chosen, everything)
    fixes = parse_repairs(repairs or [])
    hand_over = to_storage(ctx, wanted=dispatch)
    about = ctx.dead_letters, chosen, ctx.pipeline, ready_database(ctx, saving=True), fixes
    with ctx.printer.progress("retrying") as progress:
        change(
            ctx,
            lambda: unmatched(
                plan_retry(*about, progress, most=planned(ctx), hand_over=hand_over), lambda: _typed(ctx, chosen)
            ),
            "Retry these dead letters?",
            hint="run `dvctl dlq list` to see the reasons, and repair a field with `dvctl dlq retry --set FIELD=VALUE`",
        )


@command("dvctl dlq drop 1767225600000-0", "dvctl dlq drop --older-than 90d --dry-run", changes=True, streams="each")
def drop(
    ctx: Context,
    ids: Ids = None,
    ids_from: IdsFrom = None,
    reason: Reason = None,
    device: Device = None,
    since: Since = None,
    older_than: OlderThan = None,
    everything: Everything = False,
) -> None:
    """Remove dead letters.

    Their messages are recorded as discarded, so that verify does not report them as lost. While its entry is on the
    stream, `dvctl replay ID` brings a message back.
    """
    from devicevault_cli.operations.dead_letters.drop import plan_drop

    chosen = _chosen(ctx, ids, ids_from, reason, device, since, older_than)
    _require(chosen, everything)
    with ctx.printer.progress("dropping") as progress:
        change(
            ctx,
            lambda: unmatched(plan_drop(ctx.dead_letters, chosen, progress), lambda: _typed(ctx, chosen)),
            "Drop these dead letters?",
        )
