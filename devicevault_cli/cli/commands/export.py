"""dvctl export: messages or dead letters as a checksummed file."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from devicevault_cli.cli.command import command
from devicevault_cli.cli.commands.replay import Task
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.named import answered, conclude, typed_device
from devicevault_cli.cli.options import (
    END,
    START,
    Device,
    End,
    IdsFrom,
    Since,
    Start,
    Status,
    read_ids,
    require_order,
    say_if_missing,
)
from devicevault_cli.errors import Usage
from devicevault_cli.streams.model import Entry

if TYPE_CHECKING:
    from devicevault_cli.operations.entries.export import ExportAnswer
    from devicevault_cli.operations.named import Named
    from devicevault_cli.operations.replay.selection import Selection

STDOUT = Path("-")


@command(
    "dvctl export results.jsonl --since -1d",
    "dvctl export dead.jsonl --dead",
    "dvctl export router.jsonl --device 7 --reveal",
    "dvctl export - --status failure | gzip > failures.jsonl.gz",
)
def export(
    ctx: Context,
    file: Annotated[
        Path | None, typer.Argument(help="File to write; - is stdout.", metavar="FILE", readable=False)
    ] = None,
    to_file: Annotated[
        Path | None, typer.Option("--file", help="File to write; - is stdout.", metavar="FILE|-", readable=False)
    ] = None,
    ids_from: IdsFrom = None,
    start: Start = START,
    end: End = END,
    since: Since = None,
    device: Device = None,
    task: Task = None,
    status: Status = None,
    dead: Annotated[bool, typer.Option("--dead", help="Export dead letters instead of messages.")] = False,
    reveal: Annotated[bool, typer.Option("--reveal", help="Include device_config, which may hold secrets.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the file if it exists.")] = False,
) -> None:
    """Write messages or dead letters to a file.

    The file has mode 0600 and a checksum, and can be read by replay and publish. Without --reveal the field
    device_config is left out.
    """

    from devicevault_cli.operations.changes.change import quietly
    from devicevault_cli.operations.changes.interruption import interruptible
    from devicevault_cli.operations.replay.selection import Selection
    from devicevault_cli.output.change_page import exported_lines

    path = file or to_file
    if path is None:
        raise Usage("missing argument FILE", hint="type `dvctl export FILE`")
    require_order(max(start, since or START), end)
    ids = read_ids(ctx, None, ids_from) if ids_from is not None else None
    selection = Selection(ids, max(start, since or START), end, device, task, status)
    to_stdout = path == STDOUT
    target = ctx.terminal.stdout if to_stdout else path
    chosen = _letters(ctx, selection) if dead else _entries(ctx, selection)
    with interruptible():
        first = next(chosen.items, None)
        if first is None:
            names = chosen.named()
            names = names if names.unknown else typed_device(ctx, device)
            if names.nothing:
                # An empty file would only be in the way of the next try.
                answered(ctx, {"exported": 0, "file": None, "unknown": list(names.unknown)}, names)
            ctx.printer.note("nothing matched")
            say_if_missing(ctx)
        items = chain(() if first is None else (first,), chosen.items)
        with ctx.printer.progress("exporting") as bar:
            progress = quietly if to_stdout and ctx.terminal.stdout_is_tty else bar
            answer = chosen.write(target, items, reveal=reveal, replace=replace, progress=progress)
    names = chosen.named()
    if to_stdout:
        ctx.printer.note(f"exported: {answer.exported:,}")
        conclude(ctx, names)
    else:
        view = partial(exported_lines, path.stat().st_size if answer.exported else None, reveal)
        answered(ctx, answer.to_dict() | {"unknown": list(names.unknown)}, names, view=view)


class _Chosen(NamedTuple):
    """What is to be exported, who writes it, and, once it was read, which of its ids do not exist."""

    items: Iterator[Any]
    write: "Callable[..., ExportAnswer]"
    named: "Callable[[], Named]"


def _entries(ctx: Context, selection: "Selection") -> _Chosen:
    from devicevault_cli.operations.entries.export import export_entries
    from devicevault_cli.operations.replay.selection import from_stream

    source = from_stream(ctx.stream, selection)
    return _Chosen(filter(None, source()), export_entries, source.named)


def _letters(ctx: Context, selection: "Selection") -> _Chosen:
    from devicevault_cli.operations.dead_letters.select import LetterFilter, SelectedLetters
    from devicevault_cli.operations.entries.export import export_letters

    ids = None if selection.ids is None else frozenset(selection.ids)
    found = SelectedLetters(ctx.dead_letters, LetterFilter(ids))
    letters = (letter for page in found.pages() for letter in page)
    chosen = (letter for letter in letters if selection.matches(Entry(letter.id, letter.fields)))
    return _Chosen(chosen, export_letters, found.named)
