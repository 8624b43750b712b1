"""dvctl show: entries whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from devicevault_cli.cli.arguments import Argument, Option
from devicevault_cli.cli.context import Runtime
from devicevault_cli.cli.named import looked_up
from devicevault_cli.cli.options import IdsFrom, command, read_ids
from devicevault_cli.errors import Usage
from devicevault_cli.operations.named import named_entries
from devicevault_cli.streams.model import EntryId


@command(
    "dvctl show 1767225600000-0",
    "dvctl pending -o ids | dvctl show --ids -",
    "dvctl show 1767225600000-0 --reveal -o json",
    database=True,
)
def show(
    run: Runtime,
    ids: Annotated[list[EntryId] | None, Argument("ID...", "Entry ids.", EntryId.parse, complete="ids")] = None,
    ids_from: IdsFrom = None,
    reveal: Annotated[bool, Option("--reveal", "Show device_config instead of its size and hash.")] = False,
) -> None:
    """Show entries with every field, where each stands, and what consuming it would do."""
    from devicevault_cli.operations.entries.show import show as look

    wanted = read_ids(run, ids, ids_from)
    if not wanted:
        raise Usage("missing argument ID...", hint="give ids, or --ids - to read them from a pipe")
    entries, unknown = look(wanted, run.group, run.dead_letters, run.pipeline, run.repository, reveal=reveal)
    names = named_entries(run.stream.key, run.stream, wanted, unknown)
    looked_up(run, {"entries": entries, "unknown": list(names.unknown)}, names, "entries", lines=_lines)


def _lines(answer: Any) -> Iterator[str]:
    from devicevault_cli.operations.entries.show import field_lines

    for entry in answer["entries"]:
        yield f"{entry['id']}  {entry['time']}  {entry['state']}"
        for name, value in field_lines(entry["fields"]):
            yield f"  {name:22}  {value}"
        if "pending" in entry:
            held = entry["pending"]
            yield f"  held by {held['consumer']}, idle {held['idle_ms']} ms, delivered {held['deliveries']} times"
        if entry["row"]:
            yield f"  row {entry['row']['id']}: device {entry['row']['device_id']}, status {entry['row']['status']}"
        yield f"  consuming would: {entry['would']}" if entry["fields"] else f"  {entry['would']}"
