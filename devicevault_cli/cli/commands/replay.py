"""dvctl replay: chosen entries straight to the table, the group untouched."""

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devicevault_cli.cli.changes import change, planned, ready_database, to_storage
from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.named import typed_device, unmatched
from devicevault_cli.cli.options import (
    END,
    START,
    Device,
    EntryIds,
    IdsFrom,
    Rate,
    Since,
    Status,
    ToStorage,
    TypedEnd,
    TypedStart,
    forbid,
    read_ids,
    require_order,
)
from devicevault_cli.cli.values import parse_entry, parsed, whole_number
from devicevault_cli.errors import Usage
from devicevault_cli.streams.model import EntryId

if TYPE_CHECKING:
    from devicevault_cli.operations.replay.selection import Selection, Source

Task = Annotated[
    str | None, typer.Option("--task", help="Only messages of this task id or task identifier.", metavar="TEXT")
]


@command(
    "dvctl replay --id 1767225600000-0",
    "dvctl replay --since -2h --missing --dry-run",
    "dvctl verify --show lost -o ids | dvctl replay --ids - --yes",
    "dvctl replay --file export.jsonl --yes",
    database=True,
    changes=True,
    streams="each",
)
def replay(
    ctx: Context,
    words: EntryIds = None,
    ids: Annotated[
        list[EntryId] | None,
        typer.Option("--id", help="Only this entry; repeatable.", metavar="ID", parser=parsed(parse_entry)),
    ] = None,
    ids_from: IdsFrom = None,
    start: TypedStart = None,
    end: TypedEnd = None,
    since: Since = None,
    device: Device = None,
    task: Task = None,
    status: Status = None,
    missing: Annotated[bool, typer.Option("--missing", help="Only entries without a row.")] = False,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="Entries of a file of dvctl export; - is stdin.", metavar="FILE|-", readable=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace rows of another device or status.")] = False,
    republish: Annotated[bool, typer.Option("--republish", help="Put copies on the stream instead.")] = False,
    max_copies: Annotated[
        int | None, whole_number("--max-copies", text="With --republish: most copies of one message (3).", least=1)
    ] = None,
    rate: Rate = None,
    dispatch: ToStorage = False,
) -> None:
    """Persist selected entries through the consumer's write path.

    Existing rows are not duplicated. Each row gets the time of its entry. No group is changed. Configurations are
    handed to the storage workers with --dispatch only, those of inserted rows.
    """
    from devicevault_cli.operations.replay.replay import ReplayOptions, plan_replay
    from devicevault_cli.operations.replay.republish import MOST_COPIES, plan_republish
    from devicevault_cli.operations.replay.selection import Selection

    listed = [*(words or ()), *(ids or ())]
    selection = Selection(
        ids=read_ids(ctx, listed, ids_from) if listed or ids_from is not None else None,
        start=max(start or START, since or START),
        end=end or END,
        device=device,
        task=task,
        status=status,
    )
    unlimited = selection == Selection() and all(value is None for value in (start, end, since, file))
    if unlimited and not missing:
        raise Usage("no entries are chosen", hint="give ids, a range, --device, --task, --status, --file or --missing")
    forbid(
        (
            republish and (file is not None or missing or overwrite or dispatch),
            "--republish copies entries of the stream: no --file, --missing, --overwrite or --dispatch",
        ),
        (max_copies is not None and not republish, "--max-copies needs --republish"),
        (file is not None and ctx.whole is not None, "--file holds entries of one stream: name it with --stream"),
    )
    require_order(selection.start, selection.end)
    known = partial(unmatched, look=lambda: typed_device(ctx, device))
    with ExitStack() as files, ctx.printer.progress("replaying") as progress:
        source = _source(ctx, selection, file, files)
        if republish:
            most = MOST_COPIES if max_copies is None else max_copies
            change(
                ctx,
                lambda: known(plan_republish(ctx.stream, source, rate=rate, most=most, progress=progress)),
                "Publish these copies?",
            )
            return
        hand_over = to_storage(ctx, wanted=dispatch)
        about = source, ctx.pipeline, ready_database(ctx, saving=True), ReplayOptions(missing, overwrite, rate)
        change(
            ctx,
            lambda: known(plan_replay(*about, progress, most=planned(ctx), hand_over=hand_over)),
            "Replay these entries?",
        )


def _source(ctx: Context, selection: "Selection", file: Path | None, files: ExitStack) -> "Source":
    from devicevault_cli.operations.entries.message_files import STDIN, readable_twice
    from devicevault_cli.operations.replay.selection import from_file, from_stream

    if file is None:
        return from_stream(ctx.stream, selection)
    path = files.enter_context(readable_twice(file, ctx.terminal.stdin))
    return from_file(path, selection, "stdin" if file == STDIN else file.name)
