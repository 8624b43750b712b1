"""dvctl consumers: who consumes, and retiring those that will not come back."""

from __future__ import annotations

from typing import Annotated

from devicevault_cli.cli.arguments import Argument, Option
from devicevault_cli.cli.changes import change
from devicevault_cli.cli.context import Runtime
from devicevault_cli.cli.named import answered, typed_group
from devicevault_cli.cli.options import command, parse_name
from devicevault_cli.errors import Usage
from devicevault_cli.times import parse_duration


@command("dvctl consumers", "dvctl consumers list -o json")
def list_(run: Runtime) -> None:
    """List the consumers of the group, what they hold, and which are alive (idle under 10 s)."""
    from devicevault_cli.operations.groups.retire import list_consumers

    answer = list_consumers(run.group)
    answered(run, answer, typed_group(run), "consumers")
    if not answer["consumers"]:
        run.printer.note(f"no consumers: group {run.group.name} of {run.stream.key} has none, or is not there yet")


@command(
    "dvctl consumers retire worker-3 --to worker-1",
    "dvctl consumers retire --dead-for 1h --dry-run",
    "dvctl consumers retire --dead-for 7d --yes",
    changes=True,
    force=True,
)
def retire(
    run: Runtime,
    names: Annotated[list[str] | None, Argument("NAME...", "Consumers.", complete="consumers")] = None,
    dead_for: Annotated[
        int | None,
        Option("--dead-for", "All consumers that have been idle for this long.", "DURATION", parse_duration),
    ] = None,
    to: Annotated[
        str | None,
        Option(
            "--to",
            "Consumer that takes over their entries (default: an active one, else HOST-0).",
            "NAME",
            parse_name,
            complete="consumers",
        ),
    ] = None,
) -> None:
    """Delete consumers after moving their pending entries, atomically; delivery counts and idle times stay.

    Refused, unless --force, where one of them may be a client that waits for messages (CLIENT LIST).
    """
    from devicevault_cli.operations.groups.retire import plan_retire

    if bool(names) == (dead_for is not None):
        raise Usage("give either names of consumers or --dead-for", hint="run `dvctl consumers` to list them")
    with run.printer.progress("moving entries") as progress:
        change(
            run,
            lambda: plan_retire(
                run.group, names or (), dead_for_ms=dead_for, to=to, force=run.force, progress=progress
            ),
            "Retire these consumers?",
        )
