"""Help texts: rendered from the commands, shipped as files so that `--help` need not import them."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from devicevault_cli.cli.arguments import Argument, Parameter
from devicevault_cli.cli.options import Command
from devicevault_cli.cli.table import DEFAULTS, GROUPS, PANELS, TABLE, load, no_command
from devicevault_cli.errors import NothingMatched

WIDTH = 80
TEXTS = Path(__file__).parent / "help"
"""One file a topic, written by `make generate`: dvctl.txt, dvctl-pending.txt, dvctl-dlq-list.txt."""

_SETTINGS = (
    "Settings (highest first: flags, --profile, environment, DVCTL_PROFILE,\n"
    "config.yaml, defaults; `dvctl config` shows where each value comes from):"
)


def asked_for(words: Sequence[str]) -> str | None:
    """The topic that a command line asks help for: "", "dlq", "dlq list"; None where it asks for none."""
    before = list(words[: words.index("--")] if "--" in words else words)
    if before[:1] == ["help"]:
        return _named_topic([word for word in before[1:] if not word.startswith("-")])
    if not {"-h", "--help"}.intersection(before):
        return None
    named = [word for word in before if not word.startswith("-")]
    two = " ".join(named[:2])
    if two in TABLE:
        return two
    return named[0] if named and (named[0] in TABLE or named[0] in GROUPS) else ""


def _named_topic(named: list[str]) -> str:
    """The topic behind `dvctl help`. Raises NothingMatched for a command that does not exist."""
    topic = " ".join(named)
    if not named or topic in TABLE or topic in GROUPS:
        return topic
    if named[0] in TABLE:  # `dvctl help show 1-0`
        return named[0]
    known = [words for words in TABLE if words.startswith(f"{named[0]} ")] or [*GROUPS, *TABLE]
    raise NothingMatched(no_command(topic, known), hint="run `dvctl --help` to list the commands")


def help_text(topic: str) -> str:
    """The shipped text; rendered anew where a source tree has none yet."""
    try:
        return help_file(topic).read_text("utf-8")
    except FileNotFoundError:
        return render(topic)


def help_file(topic: str) -> Path:
    """Where the text of a topic is shipped."""
    return TEXTS / f"{'-'.join(['dvctl', *topic.split()])}.txt"


def render(topic: str) -> str:
    """The text of a topic, from the commands themselves."""
    return _command_text(topic, load(topic)) if topic in TABLE else _list_text(topic)


def summary(command: Command) -> str:
    """The first line of its description."""
    return (inspect.getdoc(command.function) or "").partition("\n")[0].removesuffix(".")


def label(command: Command) -> str:
    """Whether it changes anything, and what."""
    return command.effect or ("changing" if command.changes else "read-only")


def _list_text(group: str) -> str:
    """All commands by panel, or those of one group."""
    usage = f"dvctl {group} COMMAND [OPTIONS]" if group else "dvctl COMMAND [OPTIONS]"
    parts = [f"Usage: {usage}"]
    if not group:
        parts.append("Consume, inspect and repair DeviceVault's result streams: from Redis Streams to\nSQL rows.")
    for panel, commands in PANELS.items():
        chosen = {words: load(words) for words in commands if words.startswith(f"{group} " if group else "")}
        rows = [(words, f"{summary(each)}{' *' if each.changes else ''}") for words, each in chosen.items()]
        if rows:
            parts.append(_section(f"{panel}:", rows))
    parts.append("* makes changes: shows a plan and asks first; --dry-run only shows the plan.")
    if group in DEFAULTS:
        parts.append(f"`dvctl {group}` alone is `dvctl {group} {DEFAULTS[group]}`.")
    example = f"dvctl {group} COMMAND --help" if group else "dvctl COMMAND --help"
    parts.append(f"`{example}` explains one. Every option follows its command.")
    return "\n\n".join(parts) + "\n"


def _command_text(words: str, command: Command) -> str:
    arguments = [each for each in command.own if isinstance(each.spec, Argument)]
    options = [each for each in command.own if not isinstance(each.spec, Argument)]
    shown = "".join(f" {_argument(each)}" for each in arguments)
    head, _, body = (inspect.getdoc(command.function) or "").partition("\n")
    parts = [f"Usage: dvctl {words}{shown} [OPTIONS]", _filled(f"{head} ({label(command)})")]
    parts += [_filled(each) for each in body.split("\n\n")]
    if arguments:
        parts.append(_section("Arguments:", [(each.spec.metavar, _explained(each)) for each in arguments]))
    if options:
        parts.append(_section("Options:", [(_names(each), _explained(each)) for each in options]))
    parts.append(_section(_SETTINGS, [(_names(each), each.spec.help) for each in command.settings]))
    parts.append(_section("Common options:", [(_names(each), _common(each, command)) for each in command.common]))
    if command.examples:
        parts.append("Examples:\n" + "\n".join(f"  {example}" for example in command.examples))
    return "\n\n".join(part for part in parts if part) + "\n"


def _filled(paragraph: str) -> str:
    return textwrap.fill(" ".join(paragraph.split()), WIDTH, break_on_hyphens=False)


def _argument(parameter: Parameter) -> str:
    name = f"{parameter.spec.metavar.removesuffix('...')}{'...' if parameter.many else ''}"
    return name if parameter.default is inspect.Parameter.empty else f"[{name}]"


def _names(parameter: Parameter) -> str:
    names = ", ".join(parameter.names)
    indented = names if names.startswith("-") and names[1] != "-" else f"    {names}"
    return f"{indented} {'NAME' if _has_many_choices(parameter) else parameter.metavar}".rstrip()


def _has_many_choices(parameter: Parameter) -> bool:
    return len("|".join(parameter.choices)) > 40


def _common(parameter: Parameter, command: Command) -> str:
    return (
        f"How the answer is printed: {', '.join(command.formats)}."
        if parameter.name == "output"
        else _explained(parameter)
    )


def _explained(parameter: Parameter) -> str:
    from devicevault_cli.times import show_duration

    default, metavar, text = parameter.default, parameter.metavar, parameter.spec.help
    if _has_many_choices(parameter):
        text += f" One of: {', '.join(parameter.choices)}."
    if default is inspect.Parameter.empty or default in (None, False, "") or metavar.startswith("ID|"):
        return text
    shown = show_duration(default).replace(" ", "") if metavar == "DURATION" else str(default)
    return f"{text} [{shown}]"


def _section(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """A heading and two columns; a long left one stands on a line of its own."""
    listed = list(rows)
    left = min(28, max((len(name) for name, _ in listed), default=0)) + 4
    lines = [title]
    for name, text in listed:
        wrapped = textwrap.wrap(text, WIDTH - left, break_on_hyphens=False) or [""]
        if len(name) + 4 > left:
            lines.append(f"  {name}")
        else:
            lines.append(f"  {name}".ljust(left) + wrapped.pop(0))
        lines += [" " * left + line for line in wrapped]
    return "\n".join(line.rstrip() for line in lines)
