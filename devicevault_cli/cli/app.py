"""The Typer app: every command by panel, and what happens around one. `from devicevault_cli.cli.app import app`."""

import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from inspect import Parameter, Signature
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperGroup

from devicevault_cli import __version__
from devicevault_cli.cli.check_guard import guarded, is_check
from devicevault_cli.cli.command import WORDS, Command, flags_of
from devicevault_cli.cli.commands import (
    ack,
    check,
    claim,
    completion,
    config,
    consume,
    consumers,
    db,
    db_restore,
    dedupe,
    demo,
    dispatch,
    dlq,
    doctor,
    export,
    groups,
    help_,
    incidents,
    journal,
    pending,
    publish,
    replay,
    show,
    snapshots,
    status,
    tail,
    top,
    trim,
    verify,
)
from devicevault_cli.cli.help_style import StyledCommand, head, style_help
from devicevault_cli.cli.options import DEFAULTS, SHARED
from devicevault_cli.cli.reporting import reported
from devicevault_cli.output.terminal import Terminal

PANELS: dict[str, dict[str, Command]] = {
    "Run": {"consume": consume.consume, "publish": publish.publish, "demo": demo.demo},
    "Look": {
        "status": status.status,
        "pending": pending.pending,
        "show": show.show,
        "tail": tail.tail,
        "top": top.top,
        "verify": verify.verify,
        "check": check.check,
        "doctor": doctor.doctor,
        "incidents list": incidents.list_,
        "incidents acknowledge": incidents.acknowledge,
        "config show": config.show,
        "config init": config.init,
        "config validate": config.validate,
        "config use": config.use,
        "journal": journal.journal,
        "snapshots list": snapshots.list_,
        "snapshots show": snapshots.show,
        "snapshots prune": snapshots.prune,
    },
    "Repair": {
        "claim": claim.claim,
        "ack": ack.ack,
        "consumers list": consumers.list_,
        "consumers retire": consumers.retire,
        "reset-group": groups.reset_group,
        "destroy-group": groups.destroy_group,
        "restore-group": groups.restore_group,
        "replay": replay.replay,
        "dispatch": dispatch.dispatch,
        "dlq list": dlq.list_,
        "dlq show": dlq.show,
        "dlq stats": dlq.stats,
        "dlq retry": dlq.retry,
        "dlq drop": dlq.drop,
        "trim": trim.trim,
        "export": export.export,
        "db index": db.index,
        "db dedupe": dedupe.dedupe,
        "db restore": db_restore.restore,
        "db accept": db.accept,
        "db init": db.init,
    },
    "Help": {"completion": completion.completion, "help": help_.help_},
}
"""The words of each command, and the command; two words are a command of a sub-app."""

COMMANDS: dict[str, Command] = {words: command for panel in PANELS.values() for words, command in panel.items()}

SUB_APPS = {
    "consumers": "List consumers, and retire inactive ones",
    "dlq": "List, repair, retry and drop dead letters",
    "db": "Unique index, duplicate rows, fail-over, trial tables",
    "incidents": "List what Redis lost, and acknowledge it",
    "config": "Show settings; write and choose profiles",
    "snapshots": "List, show and delete the files that undo changes",
}
"""The first words of two, and what their commands have in common."""

_CHANGES = "Commands marked * show a plan and ask before they change anything."
_PLACES = "Settings and output options may also stand before the command."


class _Group(TyperGroup):
    """A group of commands that shows its help when none is typed."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        style_help()
        super().format_help(ctx, formatter)

    alone = "--help"
    """What stands for no words at all, and before options where it is a command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing and (
            not args or (not self.alone.startswith("-") and args[0].startswith("-") and args[0] not in _HELP)
        ):
            args = [self.alone, *args]
        return super().parse_args(ctx, args)


class _Listing(_Group):
    """A group of commands that lists when none is typed."""

    alone = "list"


class _Showing(_Group):
    """A group of commands that shows when none is typed."""

    alone = "show"


ALONE: dict[str, type[_Group]] = {"list": _Listing, "show": _Showing}
"""The second words that stand for themselves when only the first is typed."""


class _Root(_Group):
    """dvctl: around every command stand the terminal, the report of its error, and its exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line; with `standalone_mode` the process ends with its exit code, else that is returned.

        `obj` is the Terminal, this process's own where none is given.
        """
        if os.environ.get(complete_var or "_DVCTL_COMPLETE"):
            return super().main(args, prog_name or "dvctl", complete_var, standalone_mode, windows_expand_args, **extra)
        words = list(sys.argv[1:] if args is None else args)
        terminal = extra.get("obj") or Terminal.real()
        code = (guarded if is_check(words) else reported)(words, terminal, lambda held: self._run(words, held))
        if standalone_mode:
            sys.exit(code)
        return code

    def _run(self, words: list[str], terminal: Terminal) -> int:
        try:
            # Help is printed by Typer, to what stands at sys.stdout.
            with (
                redirect_stdout(terminal.stdout),
                redirect_stderr(terminal.stderr),
                self.make_context("dvctl", [*words], obj=terminal) as ctx,
            ):
                ctx.meta[WORDS] = tuple(words)
                return self.invoke(ctx) or 0
        except typer.Exit as done:
            return done.exit_code


_HELP = ("-h", "--help")
_CONTEXT = {"help_option_names": list(_HELP)}


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"dvctl {__version__}")
        raise typer.Exit


def _root(**_: object) -> None:
    """Consume, inspect and repair DeviceVault's result streams: from Redis Streams to SQL rows."""


def _with_shared_options() -> None:
    """Before the command the shared options are read too, and not shown: the help of each command has them."""
    version = Annotated[
        bool,
        typer.Option("--version", "-V", help="Show the version.", callback=_print_version, is_eager=True),
    ]
    parameters = [Parameter("version", Parameter.KEYWORD_ONLY, default=False, annotation=version)]
    for name, annotation in SHARED.items():
        kind = get_args(annotation)[0]
        hidden = typer.Option(*flags_of(annotation), hidden=True)
        parameters.append(
            Parameter(name, Parameter.KEYWORD_ONLY, default=DEFAULTS[name], annotation=Annotated[kind, hidden])
        )
    _root.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    _root.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}


def _app() -> typer.Typer:
    _with_shared_options()
    root = typer.Typer(
        name="dvctl",
        cls=_Root,
        help=_root.__doc__,
        epilog=f"{_CHANGES}\n{_PLACES}",
        context_settings=_CONTEXT,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    root.callback()(_root)
    subs: dict[str, typer.Typer] = {}
    for panel, commands in PANELS.items():
        for words, command in commands.items():
            first, _, second = words.partition(" ")
            if second and first not in subs:
                subs[first] = _sub_app(first)
                root.add_typer(subs[first], rich_help_panel=head(panel))
            _add(subs.get(first, root), second or first, command, None if second else panel)
    return root


def _sub_app(name: str) -> typer.Typer:
    alone = second_alone(name)
    changes = any(command.needs.changes for words, command in COMMANDS.items() if words.partition(" ")[0] == name)
    means = [_CHANGES] * changes + [f"`dvctl {name}` alone is `dvctl {name} {alone}`."] * bool(alone)
    return typer.Typer(
        name=name,
        cls=ALONE.get(alone, _Group),
        help=SUB_APPS[name],
        epilog="\n".join(means),
        context_settings=_CONTEXT,
        rich_markup_mode="rich",
    )


def second_alone(name: str) -> str:
    """The second word of the command that the first one alone means; '' where that shows the help."""
    return next((word for word in ALONE if f"{name} {word}" in COMMANDS), "")


def _add(to: typer.Typer, word: str, command: Command, panel: str | None) -> None:
    to.command(
        word,
        help=command.help,
        short_help=f"{command.summary}{' *' if command.needs.changes else ''}",
        epilog=command.epilog,
        cls=StyledCommand,
        rich_help_panel=head(panel) if panel else None,
        context_settings=_CONTEXT,
    )(command.callback)


app = _app()


def run(words: Sequence[str], terminal: Terminal | None = None) -> int:
    """Run a command line in this process. -> its exit code"""
    code: int = _root_command().main(list(words), standalone_mode=False, obj=terminal)
    return code


@cache
def _root_command() -> Any:
    return typer.main.get_command(app)
