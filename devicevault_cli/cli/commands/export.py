"""dvctl export: messages or dead letters as a sealed file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from devicevault_cli.cli.arguments import Argument, Option
from devicevault_cli.cli.commands.replay import Task
from devicevault_cli.cli.context import Runtime
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
    command,
    read_ids,
    require_order,
    say_if_missing,
)
from devicevault_cli.errors import Usage
from devicevault_cli.operations.changes.interruption import interruptible
from devicevault_cli.operations.changes.plan import Answer, quietly
from devicevault_cli.operations.named import Named
from devicevault_cli.operations.replay.selection import Selection, from_stream
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
    file: Annotated[Path | None, Argument("FILE", "File to write; - is stdout.", complete="files")] = None,
    to_file: Annotated[Path | None, Option("--file", "File to write; - is stdout.", "FILE|-", complete="files")] = None,
    ids_from: IdsFrom = None,
    start: Start = START,
    end: End = END,
    since: Since = None,
    device: Device = None,
    task: Task = None,
    status: Status = None,
    dead: Annotated[bool, Option("--dead", "Export dead letters instead of messages.")] = False,
    reveal: Annotated[bool, Option("--reveal", "Include device_config, which may hold secrets.")] = False,
    replace: Annotated[bool, Option("--replace", "Replace the file if it exists.")] = False,
) -> None:
    """Write messages or dead letters to a file (0600, with a checksum) that replay and publish read.

    Without --reveal the field device_config is left out.
    """
    path = file or to_file
    if path is None:
        raise Usage("missing argument FILE", hint="type `dvctl export FILE`")
    require_order(max(start, since or START), end)
    ids = read_ids(run, None, ids_from) if ids_from is not None else None
    selection = Selection(ids, max(start, since or START), end, device, task, status)
    to_stdout = path == STDOUT
    target = run.terminal.stdout if to_stdout else path
    chosen = _letters(run, selection) if dead else _entries(run, selection)
    with interruptible():
        first = next(chosen.items, None)
        if first is None:
            names = chosen.named()
            names = names if names.unknown else typed_device(run, device)
            if names.nothing:
                # An empty file would only be in the way of the next try.
                answered(run, {"exported": 0, "file": None, "unknown": list(names.unknown)}, names)
            run.printer.note("nothing matched")
            say_if_missing(run)
        items = chain(() if first is None else (first,), chosen.items)
        with run.printer.progress("exporting") as bar:
            progress = quietly if to_stdout and run.terminal.stdout_is_tty else bar
            answer = chosen.write(target, items, reveal=reveal, replace=replace, progress=progress)
    names = chosen.named()
    if to_stdout:
        run.printer.note(f"exported: {answer['exported']:,}")
        conclude(run, names)
    else:
        answered(run, answer | {"unknown": list(names.unknown)}, names)


class _Chosen(NamedTuple):
    """What is to be exported, who writes it, and, once it was read, which of its ids do not exist."""

    items: Iterator[Any]
    write: Callable[..., Answer]
    named: Callable[[], Named]


def _entries(run: Runtime, selection: Selection) -> _Chosen:
    from devicevault_cli.operations.entries.export import export_entries

    source = from_stream(run.stream, selection)
    return _Chosen(filter(None, source()), export_entries, source.named)


def _letters(run: Runtime, selection: Selection) -> _Chosen:
    from devicevault_cli.operations.dead_letters.letters import Found, Letters
    from devicevault_cli.operations.entries.export import export_letters

    found = Found(run.dead_letters, Letters(None if selection.ids is None else frozenset(selection.ids)))
    letters = (letter for page in found.again() for letter in page)
    chosen = (letter for letter in letters if selection.matches(Entry(letter.id, letter.fields)))
    return _Chosen(chosen, export_letters, found.named)
