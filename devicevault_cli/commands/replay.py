"""dvctl replay: chosen entries straight to the table, the group untouched."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

from devicevault_cli.commands.arguments import Argument, Option
from devicevault_cli.commands.changes import change, planned, ready_database
from devicevault_cli.commands.options import (
    END,
    START,
    Device,
    End,
    IdsFrom,
    Rate,
    Since,
    Start,
    Status,
    command,
    read_ids,
)
from devicevault_cli.errors import Usage
from devicevault_cli.operations.message_files import STDIN, readable_twice
from devicevault_cli.operations.selection import Selection, Source, from_file, from_stream
from devicevault_cli.runtime import Runtime
from devicevault_cli.streams.model import EntryId

Task = Annotated[str | None, Option("--task", "Only this task id or task identifier.", "TEXT")]


@command(
    "dvctl replay --id 1767225600000-0",
    "dvctl replay --since -2h --missing --dry-run",
    "dvctl verify --show lost -o ids | dvctl replay --ids - --yes",
    "dvctl replay --file export.jsonl --yes",
    database=True,
    changes=True,
)
def replay(
    run: Runtime,
    words: Annotated[list[EntryId] | None, Argument("ID...", "Only these entries.", EntryId.parse, "ids")] = None,
    ids: Annotated[list[EntryId] | None, Option("--id", "Only this entry; repeatable.", "ID", EntryId.parse)] = None,
    ids_from: IdsFrom = None,
    start: Start = START,
    end: End = END,
    since: Since = None,
    device: Device = None,
    task: Task = None,
    status: Status = None,
    missing: Annotated[bool, Option("--missing", "Only entries without a row.")] = False,
    file: Annotated[
        Path | None,
        Option("--file", "Entries of a file of dvctl export; - is stdin.", "FILE|-", complete="files"),
    ] = None,
    overwrite: Annotated[bool, Option("--overwrite", "Replace rows of another device or status.")] = False,
    republish: Annotated[bool, Option("--republish", "Put copies on the stream instead.")] = False,
    max_copies: Annotated[int, Option("--max-copies", "Leave out what was republished so often.", least=1)] = 3,
    rate: Rate = None,
) -> None:
    """Persist chosen entries again by the code that consume uses; what has its row stays single.

    Each keeps the time of its entry. No group is touched, nothing is dispatched to storage.
    """
    from devicevault_cli.operations.replay import ReplayOptions, plan_replay, plan_republish

    listed = [*(words or ()), *(ids or ())]
    selection = Selection(
        ids=read_ids(run, listed, ids_from) if listed or ids_from is not None else None,
        start=max(start, since or START),
        end=end,
        device=device,
        task=task,
        status=status,
    )
    if selection == Selection() and file is None and not missing:
        raise Usage(
            "which entries?", hint="give ids, --since, --device, --missing ...; --missing takes all without a row"
        )
    with ExitStack() as files, run.printer.progress("replaying") as progress:
        source = _source(run, selection, file, files)
        if republish:
            if file is not None or missing or overwrite:
                raise Usage("--republish copies entries of the stream: no --file, --missing or --overwrite")
            change(
                run,
                lambda: plan_republish(run.stream, source, rate=rate, most=max_copies, progress=progress),
                "Publish the copies?",
            )
            return
        repository = ready_database(run)
        options = ReplayOptions(missing, overwrite, rate)
        change(
            run,
            lambda: plan_replay(source, run.pipeline, repository, options, progress, most=planned(run)),
            "Replay them?",
        )


def _source(run: Runtime, selection: Selection, file: Path | None, files: ExitStack) -> Source:
    if file is None:
        return from_stream(run.stream, selection)
    path = files.enter_context(readable_twice(file, run.terminal.stdin))
    return from_file(path, selection, "stdin" if file == STDIN else file.name)
