"""dvctl export: messages or dead letters as a sealed file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from devicevault_cli.commands.arguments import Argument, Option
from devicevault_cli.commands.options import (
    END,
    START,
    Device,
    End,
    IdsFrom,
    Since,
    Start,
    Status,
    command,
    read_ids,
    say_if_missing,
)
from devicevault_cli.commands.replay import Task
from devicevault_cli.errors import Usage
from devicevault_cli.operations.interruption import interruptible
from devicevault_cli.operations.plan import quietly
from devicevault_cli.operations.selection import Selection, from_stream
from devicevault_cli.runtime import Runtime
from devicevault_cli.streams.model import Entry

STDOUT = Path("-")


@command(
    "dvctl export results.jsonl --since -1d",
    "dvctl export dead.jsonl --dead",
    "dvctl export router.jsonl --device 7 --reveal",
    "dvctl export - --status failure | gzip > failures.jsonl.gz",
)
def export(
    run: Runtime,
    file: Annotated[Path | None, Argument("FILE", "Where to; - is stdout.", complete="files")] = None,
    to_file: Annotated[Path | None, Option("--file", "Where to; - is stdout.", "FILE|-", complete="files")] = None,
    ids_from: IdsFrom = None,
    start: Start = START,
    end: End = END,
    since: Since = None,
    device: Device = None,
    task: Task = None,
    status: Status = None,
    dead: Annotated[bool, Option("--dead", "Dead letters instead of messages.")] = False,
    reveal: Annotated[bool, Option("--reveal", "With device_config, which may hold secrets.")] = False,
    replace: Annotated[bool, Option("--replace", "Replace the file if it exists.")] = False,
) -> None:
    """Write messages or dead letters to a file (0600, with a checksum) that replay and publish read.

    Without --reveal the field device_config is left out.
    """
    from devicevault_cli.operations.export import export_entries, export_letters

    path = file or to_file
    if path is None:
        raise Usage("to which file?", hint="dvctl export FILE")
    ids = read_ids(run, None, ids_from) if ids_from is not None else None
    selection = Selection(ids, max(start, since or START), end, device, task, status)
    to_stdout = path == STDOUT
    target = run.terminal.stdout if to_stdout else path
    with interruptible(), run.printer.progress("exporting") as bar:
        progress = quietly if to_stdout and run.terminal.stdout_is_tty else bar
        if dead:
            letters = (
                letter
                for page in run.dead_letters.pages()
                for letter in page
                if selection.matches(Entry(letter.id, letter.fields)) and (ids is None or letter.id in ids)
            )
            answer = export_letters(target, letters, reveal=reveal, replace=replace, progress=progress)
        else:
            pages = from_stream(run.stream, selection)()
            answer = export_entries(target, pages, reveal=reveal, replace=replace, progress=progress)
    if to_stdout:
        run.printer.note(f"exported: {answer['exported']:,}")
    else:
        run.printer.answer(answer)
    if not answer["exported"]:
        say_if_missing(run)
