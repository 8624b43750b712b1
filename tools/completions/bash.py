"""completions/dvctl.bash"""

from __future__ import annotations

from devicevault_cli.cli.arguments import Parameter
from devicevault_cli.cli.options import Command
from devicevault_cli.cli.table import DEFAULTS, GROUPS
from tools.completions.values import HEAD, arguments, choices, commands, first_words, live_kind, options, subcommands

_BASH = r"""
_dvctl_live() {
    # COMP_WORDS is cut at = and :, so the words of the line are taken from it whole.
    local IFS=$'\n' line=${COMP_LINE:0:COMP_POINT}
    local -a typed
    IFS=$' \t\n' read -r -a typed <<<"$line"
    "${typed[0]:-dvctl}" __complete "$1" "${typed[@]:1}" 2>/dev/null
}

_dvctl() {
    local line=${COMP_LINE:0:COMP_POINT} cur prev command="" candidates="" kind="" i
    local -a typed
    read -r -a typed <<<"$line"
    if [[ $line == *[[:space:]] ]]; then typed+=(""); fi
    cur=${typed[${#typed[@]}-1]} prev=${typed[${#typed[@]}-2]}
    local before=${#typed[@]}-1
    if (( before == 1 )); then
        COMPREPLY=($(compgen -W "$_dvctl_commands --help --version" -- "$cur"))
        return
    fi
    command=${typed[1]}
    case "$command" in
@GROUPS@
    esac
    if [[ $cur == --*=* ]]; then prev=${cur%%=*} cur=${cur#*=}; fi
    case "$command $prev" in
@VALUES@
        *)
            if [[ $cur == -* ]]; then
                case "$command" in
@OPTIONS@
                esac
            else
                case "$command" in
@ARGUMENTS@
                esac
            fi ;;
    esac
    case "$kind" in
        none) return ;;
        files) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")); return ;;
        "") ;;
        *) candidates=$(_dvctl_live "$kind") ;;
    esac
    COMPREPLY=($(compgen -W "$candidates" -- "$cur"))
    # What stands before the last : is already on the line, and bash would put it there twice.
    if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then
        local colon=${cur%"${cur##*:}"}
        for i in "${!COMPREPLY[@]}"; do COMPREPLY[i]=${COMPREPLY[i]#"$colon"}; done
    fi
}

complete -F _dvctl dvctl
"""


def bash() -> str:
    """The script for bash 4 or newer; bash-completion is not needed."""
    sections = {
        "GROUPS": [_bash_group(group) for group in sorted(GROUPS)],
        "VALUES": _bash_values(),
        "OPTIONS": [_bash_options(words, each) for words, each in commands().items()],
        "ARGUMENTS": [
            f'                    "{words}") kind={live_kind(words, each) or "none"} ;;'
            for words, command in commands().items()
            for each in arguments(command)[:1]
        ],
    }
    script = _BASH
    for name, lines in sections.items():
        script = script.replace(f"@{name}@", "\n".join(lines))
    return f'{HEAD}\n\n_dvctl_commands="{" ".join(first_words())}"\n{script}'


def _bash_group(group: str) -> str:
    known = " ".join(subcommands(group))
    default = DEFAULTS.get(group)
    fallback = f'\n            if [[ ${{typed[2]}} == -* ]]; then command="{group} {default}"; fi' if default else ""
    return f"""        {group})
            if (( before == 2 )) && [[ $cur != -* ]]; then
                COMPREPLY=($(compgen -W "{known}" -- "$cur"))
                return
            fi
            command="{group} ${{typed[2]}}"{fallback} ;;"""


def _bash_options(words: str, command: Command) -> str:
    names = " ".join(name for each in options(command) for name in each.names)
    return f'''                    "{words}") candidates="{names}" ;;'''


def _bash_values() -> list[str]:
    """One line an option that means the same wherever it stands, else one line a command."""
    actions: dict[str, dict[str, str]] = {}
    for words, command in commands().items():
        for each in options(command):
            for name in () if each.is_flag else each.names:
                actions.setdefault(name, {})[words] = _action(words, command, each)
    lines = []
    for name, by_command in actions.items():
        usual = max(by_command.values(), key=list(by_command.values()).count)
        lines += [f'"{words} {name}") {each} ;;' for words, each in by_command.items() if each != usual]
        lines.append(f'*" {name}") {usual} ;;')
    return [f"        {line}" for line in lines]


def _action(words: str, command: Command, option: Parameter) -> str:
    offered = choices(command, option)
    return f'candidates="{" ".join(offered)}"' if offered else f"kind={live_kind(words, option) or 'none'}"
