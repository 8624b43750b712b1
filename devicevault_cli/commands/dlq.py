"""dvctl dlq: dead letters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, TypeAlias

from devicevault_cli.commands.arguments import Argument, Option
from devicevault_cli.commands.changes import change, planned, ready_database
from devicevault_cli.commands.options import Count, Device, IdsFrom, command, read_ids, say_if_missing
from devicevault_cli.errors import Usage
from devicevault_cli.operations.dead_letters import Letters
from devicevault_cli.runtime import Runtime
from devicevault_cli.streams.model import EntryId
from devicevault_cli.times import now_ms, parse_duration, parse_moment

COLUMNS = ("id", "reason", "device_id", "attempts", "detail")

Ids: TypeAlias = Annotated[list[EntryId] | None, Argument("ID...", "First ids of the messages.", EntryId.parse)]
Reason: TypeAlias = Annotated[str | None, Option("--reason", "Only with this reason.", "REASON")]
Since: TypeAlias = Annotated[
    int | None,
    Option("--since", "Only dead-lettered since.", "TIME|-DURATION", lambda text: parse_moment(text, now_ms())),
]
OlderThan: TypeAlias = Annotated[
    int | None, Option("--older-than", "Only dead-lettered longer ago.", "DURATION", parse_duration)
]
Everything: TypeAlias = Annotated[bool, Option("--all", "All of the group's dead letters.")]


def _chosen(
    run: Runtime,
    ids: list[EntryId] | None,
    ids_from: str | None,
    reason: str | None,
    device: int | None,
    since_ms: int | None,
    older_than_ms: int | None,
) -> Letters:
    return Letters(
        ids=frozenset(read_ids(run, ids, ids_from)) if ids or ids_from is not None else None,
        reason=reason,
        device=device,
        since_ms=since_ms,
        until_ms=None if older_than_ms is None else now_ms() - older_than_ms,
    )


def _require(chosen: Letters, everything: bool) -> None:
    if chosen == Letters() and not everything:
        raise Usage("which dead letters?", hint="give ids, --reason, --device, --since, --older-than, or --all")


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
    from devicevault_cli.operations.dead_letters import list_letters

    chosen = _chosen(run, ids, ids_from, reason, device, since, older_than)
    limit = None if everything or run.settings.output == "ids" else count
    answer = list_letters(run.dead_letters, chosen, limit)
    run.printer.answer(answer, "entries", COLUMNS)
    if not answer["total"]:
        say_if_missing(run)


@command("dvctl dlq show 1767225600000-0", "dvctl dlq show 1767225600000-0 -o json", ids=True)
def show(
    run: Runtime,
    ids: Ids = None,
    ids_from: IdsFrom = None,
    reveal: Annotated[bool, Option("--reveal", "Show device_config instead of its size and hash.")] = False,
) -> None:
    """Show dead letters whole: the message, the reason, the history."""
    from devicevault_cli.operations.dead_letters import show_letters

    wanted = read_ids(run, ids, ids_from)
    if not wanted and ids_from is None:
        raise Usage("which dead letters?", hint="give ids; `dvctl dlq list` shows them")
    run.printer.answer(show_letters(run.dead_letters, wanted, reveal=reveal), "entries", lines=_letters)


def _letters(answer: Any) -> Iterator[str]:
    from devicevault_cli.operations.inspect import field_lines

    for letter in answer["entries"]:
        yield f"{letter['id']}  {letter['reason']}: {letter['detail']}"
        yield f"  since {letter['at']}, given up by {letter['consumer']} after {letter['deliveries']} deliveries"
        yield f"  retried {letter['attempts']} times"
        for name, value in field_lines(letter["fields"]):
            yield f"  {name:22}  {value}"
    for key in answer["unknown"]:
        yield f"{key}  no dead letter"


@command("dvctl dlq stats", "dvctl dlq stats -o json")
def stats(run: Runtime) -> None:
    """Count dead letters by reason and device, with the oldest and the newest."""
    from devicevault_cli.operations.dead_letters import letter_stats

    answer = letter_stats(run.dead_letters)
    run.printer.answer(answer)
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
    """Process dead letters again; only what then has its committed row is removed.

    What fails again stays, with its new reason and one more attempt; what --set replaced stays beside it as
    _dvctl.original.FIELD. A repair that changes the identity records the original as discarded.
    """
    from devicevault_cli.operations.retry import parse_repairs, plan_retry

    chosen = _chosen(run, ids, ids_from, reason, device, since, older_than)
    _require(chosen, everything)
    fixes = parse_repairs(repairs or [])
    repository = ready_database(run)
    with run.printer.progress("retrying") as progress:
        change(
            run,
            lambda: plan_retry(run.dead_letters, chosen, run.pipeline, repository, fixes, progress, most=planned(run)),
            "Retry them?",
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
    """Give dead letters up for good; each is recorded as discarded, so that verify does not call it lost."""
    from devicevault_cli.operations.dead_letters import plan_drop

    chosen = _chosen(run, ids, ids_from, reason, device, since, older_than)
    _require(chosen, everything)
    with run.printer.progress("dropping") as progress:
        change(run, lambda: plan_drop(run.dead_letters, chosen, progress), "Drop them for good?")
