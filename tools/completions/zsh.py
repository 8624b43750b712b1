"""completions/_dvctl"""

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

_ZSH = r"""
_dvctl_live() {
    # _arguments puts options for compadd before the word of its own that it is given.
    local -a values
    values=("${(@f)$(${words_typed[1]} __complete ${@[-1]} ${words_typed[2,-1]} 2>/dev/null)}")
    compadd "${@[1,-2]}" -a values
}

_dvctl() {
    local -a words_typed=("${(@)words}")
    local curcontext=$curcontext command
    if (( CURRENT == 2 )); then
        local -a commands=(
@COMMANDS@
        )
        _describe -t commands 'dvctl command' commands
        return
    fi
    command=$words[2]
    shift words; (( CURRENT-- ))
    case $command in
@GROUPS@
    esac
    case $command in
@ARGUMENTS@
    esac
}

if [[ $funcstack[1] == _dvctl ]]; then _dvctl "$@"; else compdef _dvctl dvctl; fi
"""


def zsh() -> str:
    """The script for zsh's own completion system; works from fpath and when sourced."""
    script = _ZSH.replace(
        "@COMMANDS@", "\n".join(f"            {_zsh_item(name, text)}" for name, text in first_words().items())
    )
    script = script.replace("@GROUPS@", "\n".join(_zsh_group(group) for group in sorted(GROUPS)))
    script = script.replace("@ARGUMENTS@", "\n".join(_zsh_command(words, each) for words, each in commands().items()))
    return f"#compdef dvctl\n{HEAD}\n{script}"


def _zsh_item(name: str, text: str) -> str:
    return _quoted(f"{name}:{text}")


def _zsh_group(group: str) -> str:
    items = "\n".join(f"                    {_zsh_item(name, text)}" for name, text in subcommands(group).items())
    default = DEFAULTS.get(group)
    fallback = (
        f'\n            elif [[ $words[2] == -* ]]; then\n                command="{group} {default}"'
        if default
        else ""
    )
    return f"""        {group})
            if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then
                local -a commands=(
{items}
                )
                _describe -t commands 'dvctl {group} command' commands
                return{fallback}
            else
                command="$command $words[2]"
                shift words; (( CURRENT-- ))
            fi ;;"""


def _zsh_command(words: str, command: Command) -> str:
    specs = [line for each in options(command) for line in _zsh_option(words, command, each)]
    for each in arguments(command):
        star = "*" if each.many else ""
        specs.append(_quoted(f"{star}:{_zsh_text(each.metavar)}:{_zsh_action(words, command, each)}"))
    joined = " \\\n                ".join(specs)
    return f'        "{words}")\n            _arguments -s -S \\\n                {joined} ;;'


def _zsh_option(words: str, command: Command, option: Parameter) -> list[str]:
    others = f"({' '.join(option.names)})" if len(option.names) > 1 and not option.many else ""
    text = f"[{_zsh_text(option.spec.help)}]"
    value = "" if option.is_flag else f":{_zsh_text(option.metavar)}:{_zsh_action(words, command, option)}"
    repeat = "*" if option.many else ""
    # `--name=` takes `--name=value` too, and `--name value`.
    return [
        _quoted(f"{repeat}{others}{name}{'=' if value and name.startswith('--') else ''}{text}{value}")
        for name in option.names
    ]


def _zsh_action(words: str, command: Command, parameter: Parameter) -> str:
    offered = choices(command, parameter)
    kind = live_kind(words, parameter)
    if offered:
        return f"({' '.join(offered)})"
    return "_files" if kind == FILES else f"_dvctl_live {kind}" if kind else " "


def _zsh_text(text: str) -> str:
    for character in "\\[]:":
        text = text.replace(character, f"\\{character}")
    return text


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
