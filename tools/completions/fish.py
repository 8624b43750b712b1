"""completions/dvctl.fish"""

from __future__ import annotations

from devicevault_cli.cli.arguments import Parameter
from devicevault_cli.cli.options import Command
from devicevault_cli.cli.table import DEFAULTS, GROUPS
from tools.completions.values import (
    FILES,
    HEAD,
    arguments,
    choices,
    commands,
    first_words,
    live_kind,
    options,
    subcommands,
)

_FISH = r"""
function __dvctl_words
    commandline -opc | string match -v -- '-*'
end

function __dvctl_first
    test (count (commandline -opc)) -eq 1
end

function __dvctl_group
    set -l typed (commandline -opc)
    test (count $typed) -eq 2; and test "$typed[2]" = $argv[1]
end

function __dvctl_at
    set -l typed (commandline -opc)
    if test (count $argv) -eq 2
        test "$typed[2]" = $argv[1]; and test "$typed[3]" = $argv[2]
    else
        test "$typed[2]" = $argv[1]
    end
end

function __dvctl_default
    set -l typed (commandline -opc)
    test "$typed[2]" = $argv[1]; and not string match -qr '^[a-z]' -- "$typed[3]"
end

function __dvctl_live
    set -l typed (commandline -opc)
    command $typed[1] __complete $argv[1] $typed[2..-1] 2>/dev/null
end

complete -c dvctl -f
complete -c dvctl -n __dvctl_first -l help -d 'List the commands'
complete -c dvctl -n __dvctl_first -l version -d 'Show the version'
"""


def fish() -> str:
    """The script for fish 3 or newer."""
    lines = [f"complete -c dvctl -n __dvctl_first -a {name} -d {_fish(text)}" for name, text in first_words().items()]
    for group in sorted(GROUPS):
        lines += [
            f"complete -c dvctl -n '__dvctl_group {group}' -a {name} -d {_fish(text)}"
            for name, text in subcommands(group).items()
        ]
    for words, command in commands().items():
        group, _, name = words.partition(" ")
        at = f"__dvctl_at {words}" + (f"; or __dvctl_default {group}" if DEFAULTS.get(group, "") == name != "" else "")
        lines += [_fish_option(at, words, command, each) for each in options(command)]
        lines += [
            f"complete -c dvctl -n {_fish(at)} {_fish_values(words, command, each)}"
            for each in arguments(command)[:1]
            if live_kind(words, each)
        ]
    return f"{HEAD}\n{_FISH}\n" + "\n".join(lines) + "\n"


def _fish_option(at: str, words: str, command: Command, option: Parameter) -> str:
    names = " ".join(f"-l {each[2:]}" if each.startswith("--") else f"-s {each[1:]}" for each in option.names)
    value = "" if option.is_flag else f" -r {_fish_values(words, command, option)}"
    return f"complete -c dvctl -n {_fish(at)} {names}{value} -d {_fish(option.spec.help)}"


def _fish_values(words: str, command: Command, parameter: Parameter) -> str:
    offered = choices(command, parameter)
    kind = live_kind(words, parameter)
    if offered:
        return f"-f -a '{' '.join(offered)}'"
    return "-F" if kind == FILES else f"-f -a '(__dvctl_live {kind})'" if kind else "-f"


def _fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
