"""dvctl dlq: dead letters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, TypeAlias

from devicevault_cli.cli.arguments import Argument, Option
from devicevault_cli.cli.changes import change, planned, ready_database
from devicevault_cli.cli.context import Runtime
from devicevault_cli.cli.named import answered, looked_up, typed_device, typed_group, unmatched
from devicevault_cli.cli.options import Count, Device, IdsFrom, command, read_ids, say_if_missing
from devicevault_cli.errors import Usage
from devicevault_cli.operations.dead_letters.letters import Letters
from devicevault_cli.operations.entries.positions import parse_start
from devicevault_cli.operations.named import NO_NAMES, Named
from devicevault_cli.streams.model import EntryId
from devicevault_cli.times import now_ms, parse_duration

COLUMNS = ("id", "reason", "device_id", "attempts", "detail")

Ids: TypeAlias = Annotated[list[EntryId] | None, Argument("ID...", "First ids of the messages.", EntryId.parse)]
Reason: TypeAlias = Annotated[str | None, Option("--reason", "Only letters with this reason.", "REASON")]
Since: TypeAlias = Annotated[
    EntryId | None, Option("--since", "Only letters written since this time.", "TIME|-DURATION", parse_start)
]
OlderThan: TypeAlias = Annotated[
    int | None, Option("--older-than", "Only letters older than this.", "DURATION", parse_duration)
]
Everything: TypeAlias = Annotated[bool, Option("--all", "All of the group's dead letters.")]


def _chosen(
    run: Runtime,
    ids: list[EntryId] | None,
    ids_from: str | None,
    reason: str | None,
    device: int | None,
    since: EntryId | None,
    older_than_ms: int | None,
) -> Letters:
    return Letters(
        ids=frozenset(read_ids(run, ids, ids_from)) if ids or ids_from is not None else None,
        reason=reason,
        device=device,
        since_ms=None if since is None else since.ms,
        until_ms=None if older_than_ms is None else now_ms() - older_than_ms,
    )


def _require(chosen: Letters, everything: bool) -> None:
    if chosen == Letters() and not everything:
        raise Usage("no dead letters are chosen", hint="give ids, --reason, --device, --since, --older-than, or --all")
    if chosen.ids is not None and everything:
        raise Usage("give either ids or --all")


def _typed(run: Runtime, chosen: Letters) -> Named:
    """What was typed and does not exist, where nothing was found."""
    names = (typed_group(run), chosen.named_reason(run.dead_letters), typed_device(run, chosen.device))
    return next((each for each in names if each.unknown), NO_NAMES)


@command("dvctl dlq list", "dvctl dlq list --reason unknown-device -o ids | dvctl dlq retry --ids - --yes", ids=True)
def list_(
    run: Runtime,
    ids: Ids = None,
    ids_from: IdsFrom = None,
    reason: Reason = None,
    device: Device = None,
    since: Since = None,
    older_than: OlderThan = None,
    everything: Everything = False,
    count: Count = 100,
) -> None:
    """List dead letters, oldest first; totals are of all that match (-o ids: all, not only a page)."""
    from devicevault_cli.operations.dead_letters.letters import list_letters

    chosen = _chosen(run, ids, ids_from, reason, device, since, older_than)
    limit = None if everything or run.settings.output == "ids" else count
    answer = list_letters(run.dead_letters, chosen, limit)
    named = chosen.named(run.dead_letters, map(EntryId.parse, answer.get("unknown", ())))
    if not answer["total"] and not named.unknown:
        named = _typed(run, chosen)
    answered(run, answer, named, "entries", columns=COLUMNS)
    if not answer["total"]:
        if chosen != Letters():
            run.printer.note("nothing matched")
        say_if_missing(run)


@command("dvctl dlq show 1767225600000-0", "dvctl dlq show 1767225600000-0 -o json", ids=True)
def show(
    run: Runtime,
    ids: Ids = None,
    ids_from: IdsFrom = None,
    reveal: Annotated[bool, Option("--reveal", "Show device_config instead of its size and hash.")] = False,
) -> None:
    """Show dead letters whole: the message, the reason, the history."""
    from devicevault_cli.operations.dead_letters.letters import show_letters

    wanted = read_ids(run, ids, ids_from)
    if not wanted and ids_from is None:
        raise Usage("missing argument ID...", hint="give ids; run `dvctl dlq list` to see them")
    answer = show_letters(run.dead_letters, wanted, reveal=reveal)
    named = Letters(frozenset(wanted)).named(run.dead_letters, map(EntryId.parse, answer["unknown"]))
    looked_up(run, answer, named, "entries", lines=_letters)


def _letters(answer: Any) -> Iterator[str]:
    from devicevault_cli.operations.entries.show import field_lines

    for letter in answer["entries"]:
        yield f"{letter['id']}  {letter['reason']}: {letter['detail']}"
        yield f"  since {letter['at']}, given up by {letter['consumer']} after {letter['deliveries']} deliveries"
        yield f"  retried {letter['attempts']} times"
        for name, value in field_lines(letter["fields"]):
            yield f"  {name:22}  {value}"


@command("dvctl dlq stats", "dvctl dlq stats -o json")
def stats(run: Runtime) -> None:
    """Count dead letters by reason and device, with the oldest and the newest."""
    from devicevault_cli.operations.dead_letters.letters import letter_stats

    answer = letter_stats(run.dead_letters)
    answered(run, answer, NO_NAMES if answer["total"] else typed_group(run))
    if not answer["total"]:
        say_if_missing(run)


@command(
    "dvctl dlq retry --reason unknown-device --dry-run",
    "dvctl dlq retry 1767225600000-0 --set device_id=12",
    "dvctl dlq retry --all --yes",
    database=True,
    changes=True,
)
def retry(
    run: Runtime,
    ids: Ids = None,
    ids_from: IdsFrom = None,
    reason: Reason = None,
    device: Device = None,
    since: Since = None,
    older_than: OlderThan = None,
    everything: Everything = False,
    repairs: Annotated[
        list[str] | None, Option("--set", "Repair a field on the way; repeatable.", "FIELD=VALUE")
    ] = None,
) -> None:
    """Process dead letters again; a letter is removed once its row is committed.

    What fails again stays, with its new reason and one more attempt; what --set replaced stays beside it as
    _dvctl.original.FIELD. A repair that changes the identity records the original as discarded.
    """
    from devicevault_cli.operations.dead_letters.retry import parse_repairs, plan_retry

    chosen = _chosen(run, ids, ids_from, reason, device, since, older_than)
    _require(chosen, everything)
    fixes = parse_repairs(repairs or [])
    about = run.dead_letters, chosen, run.pipeline, ready_database(run)
    with run.printer.progress("retrying") as progress:
        change(
            run,
            lambda: unmatched(plan_retry(*about, fixes, progress, most=planned(run)), lambda: _typed(run, chosen)),
            "Retry these dead letters?",
            hint="run `dvctl dlq list` to see the reasons, and repair a field with `dvctl dlq retry --set FIELD=VALUE`",
        )


@command("dvctl dlq drop 1767225600000-0", "dvctl dlq drop --older-than 90d --dry-run", changes=True)
def drop(
    run: Runtime,
    ids: Ids = None,
    ids_from: IdsFrom = None,
    reason: Reason = None,
    device: Device = None,
    since: Since = None,
    older_than: OlderThan = None,
    everything: Everything = False,
) -> None:
    """Remove dead letters and record their messages as discarded, so that verify does not report them as lost.

    While its entry is on the stream, `dvctl replay ID` brings a message back.
    """
    from devicevault_cli.operations.dead_letters.letters import plan_drop

    chosen = _chosen(run, ids, ids_from, reason, device, since, older_than)
    _require(chosen, everything)
    with run.printer.progress("dropping") as progress:
        change(
            run,
            lambda: unmatched(plan_drop(run.dead_letters, chosen, progress), lambda: _typed(run, chosen)),
            "Drop these dead letters?",
        )
