"""dvctl completion: the script that makes a shell complete dvctl's commands, options and values."""

from typing import Annotated, Literal

import typer

from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context


@command(
    "dvctl completion bash > ~/.local/share/bash-completion/completions/dvctl",
    "dvctl --install-completion",
    redis=False,
)
def completion(
    ctx: Context,
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="The shell.", metavar="SHELL")],
) -> None:
    """Print the completion script of bash, zsh or fish.

    `dvctl --install-completion` installs the script of the shell you are in.
    """
    ctx.terminal.stdout.write(script(shell))


def script(shell: str) -> str:
    """The script, as Typer makes it; zsh's also works when it is autoloaded from `$fpath`."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    text: str = get_completion_script(prog_name="dvctl", complete_var="_DVCTL_COMPLETE", shell=shell).strip()
    if shell == "zsh":
        text, _, register = text.rpartition("\n")
        call = '_dvctl_completion "$@"'
        text += f"\nif [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n  {call}\nelse\n  {register}\nfi"
    return f"{text}\n"
