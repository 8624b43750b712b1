"""dvctl consumers: who consumes, and retiring those that will not come back."""

from functools import partial
from typing import Annotated

import typer

from devicevault_cli.cli import complete
from devicevault_cli.cli.changes import change
from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.named import answered, typed_group
from devicevault_cli.cli.values import duration, parse_name, parsed
from devicevault_cli.errors import Usage


@command(
    "dvctl consumers", "dvctl consumers list -o json", streams="each", columns=("name", "pending", "idle_ms", "alive")
)
def list_(ctx: Context) -> None:
    """List the consumers of the group.

    Shows how many entries each holds, and which are active (idle for less than 10 s).
    """
    from devicevault_cli.operations.answer import keys_of
    from devicevault_cli.operations.groups.consumers import list_consumers
    from devicevault_cli.operations.monitoring.status import ConsumerStatus
    from devicevault_cli.output.status_page import consumers_lines

    answer = list_consumers(ctx.group)
    keys = keys_of(ConsumerStatus)
    view = partial(consumers_lines, ctx.stream.key)
    answered(ctx, answer.to_dict(), typed_group(ctx), "consumers", view=view, keys=keys)
    if not answer.consumers and ctx.printer.output != "table":
        ctx.printer.note(f"no consumers: group {ctx.group.name} of {ctx.stream.key} has none, or is not there yet")


@command(
    "dvctl consumers retire worker-3 --to worker-1",
    "dvctl consumers retire --dead-for 1h --dry-run",
    "dvctl consumers retire --dead-for 7d --yes",
    changes=True,
    force=True,
    streams="each",
)
def retire(
    ctx: Context,
    names: Annotated[
        list[str] | None, typer.Argument(help="Consumers.", metavar="NAME...", autocompletion=complete.consumers)
    ] = None,
    dead_for: Annotated[
        int | None, duration("--dead-for", text="All consumers that have been idle for this long.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="Consumer that takes over their entries (default: an active one, else HOST-0).",
            metavar="NAME",
            parser=parsed(parse_name),
            autocompletion=complete.consumers,
        ),
    ] = None,
) -> None:
    """Delete consumers after moving their pending entries.

    Both happen atomically; delivery counts and idle times stay. Refused, unless --force, where one of them may be a
    client that waits for messages (CLIENT LIST).
    """
    from devicevault_cli.operations.groups.retire import plan_retire

    if bool(names) == (dead_for is not None):
        raise Usage("give either names of consumers or --dead-for", hint="run `dvctl consumers` to list them")
    with ctx.printer.progress("moving entries") as progress:
        change(
            ctx,
            lambda: plan_retire(
                ctx.group, names or (), dead_for_ms=dead_for, to=to, force=ctx.force, progress=progress
            ),
            "Retire these consumers?",
        )
