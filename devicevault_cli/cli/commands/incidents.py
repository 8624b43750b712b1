"""dvctl incidents: what happened to the stream, and acknowledging it."""

from typing import Annotated

import typer

from devicevault_cli.cli.changes import change
from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.options import forbid
from devicevault_cli.cli.values import parsed
from devicevault_cli.errors import Usage


def parse_number(text: str) -> int:
    """The id of an incident. Raises Usage."""
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise Usage(f"not the id of an incident: {text[:60]!r}", hint="list the incidents with `dvctl incidents`")
    return int(text)


@command(
    "dvctl incidents",
    "dvctl incidents --all -o json",
    ids=True,
    streams="each",
    columns=("id", "at", "group", "detail"),
)
def list_(
    ctx: Context,
    everything: Annotated[bool, typer.Option("--all", help="Also list acknowledged incidents.")] = False,
) -> None:
    """List incidents: restarted streams, entries removed unread.

    An incident is reported by status, check, doctor and top until it is acknowledged. An incident without an id was
    found by this command, and is not recorded yet.
    """
    from devicevault_cli.operations.answer import keys_of
    from devicevault_cli.operations.monitoring.incidents import Incident, list_incidents

    answer = list_incidents(ctx.stream, ctx.repository if ctx.settings.has_database else None, everything=everything)
    ctx.printer.answer(
        answer.to_dict(),
        "incidents",
        # Two times and the group leave no room on 80 columns; the detail names the group.
        ("id", "at", "detail", "acknowledged_at") if everything else ("id", "at", "group", "detail"),
        keys=keys_of(Incident),
        ids=lambda _: (incident.id for incident in answer.incidents if incident.id is not None),
    )
    if answer.incidents and not everything:
        ctx.printer.hint("once the cause is known: `dvctl incidents acknowledge`")


@command("dvctl incidents acknowledge", "dvctl incidents acknowledge 3 --yes", changes=True, streams="each")
def acknowledge(
    ctx: Context,
    ids: Annotated[
        list[int] | None,
        typer.Argument(help="Incident ids (all without any).", metavar="ID...", parser=parsed(parse_number)),
    ] = None,
) -> None:
    """Acknowledge incidents.

    status, check, doctor and top no longer report them. The stream as it is now is taken for granted from then on.
    """
    from devicevault_cli.operations.monitoring.incidents import plan_acknowledge

    forbid((bool(ids) and ctx.whole is not None, "ids of incidents are those of one stream: name it with --stream"))
    repository = ctx.repository if ctx.settings.has_database else None
    change(ctx, lambda: plan_acknowledge(ctx.stream, ids or (), repository), "Acknowledge?")
