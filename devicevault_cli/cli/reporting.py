"""The one place where an error becomes a message on stderr and an exit code."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from devicevault_cli.errors import Cancelled, DvctlError, ExitCode, Usage
from devicevault_cli.output.terminal import Terminal

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EAGAIN)
"""What a write to stdout can fail with: a full disk, a terminal that is gone, a stream that is no output."""


def reported(words: Sequence[str], terminal: Terminal, work: Callable[[Terminal], int]) -> int:
    """Do the work and report its error, if any. -> exit code"""
    try:
        code = work(terminal)
        terminal.stdout.flush()
    except KeyboardInterrupt:
        return _interrupted(terminal)
    except (BrokenPipeError, SystemExit):  # the latter is how Rich ends, which prints the help
        return _reader_gone(terminal)
    except Exception as error:  # noqa: BLE001 - the last catch: an error of dvctl's own is one line too
        return _report(as_dvctl_error(error), words, terminal)
    return code


def as_dvctl_error(error: Exception) -> DvctlError:
    """The error as one of dvctl's; a usage error of Typer's is recognised by what Click documents of it."""
    if isinstance(error, DvctlError):
        return error
    if hasattr(error, "format_message"):
        return _usage(error)
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return _caused(
            DvctlError(f"this cannot be written: {error.strerror}", hint="make room, or write elsewhere"), error
        )
    from devicevault_cli.redact import explain

    lines = explain(error).splitlines()
    message = f"an error in dvctl: {type(error).__name__}{': ' + lines[0][:200] if lines else ''}"
    return _caused(DvctlError(message, hint="--verbose shows where; please report it"), error)


def _caused(error: DvctlError, cause: Exception) -> DvctlError:
    error.__cause__ = cause
    return error


def _usage(error: Any) -> Usage:
    """`--count: 'five' is not a whole number` rather than `Invalid value for '--count' / '-n': ...`."""
    parameter, context = getattr(error, "param", None), getattr(error, "ctx", None)
    if hasattr(error, "param_type") and parameter is not None:  # something is missing
        message = f"missing {parameter.param_type_name} {_label(parameter)}"
    elif parameter is not None:
        message = f"{_label(parameter)}: {error.message.rstrip('.')}"
    else:
        message = error.format_message()
    command = context.command_path if context is not None else "dvctl"
    hint = getattr(error.__cause__, "hint", None) or f"run `{command} --help` to see every option"
    if getattr(error, "option_name", None) == "--yes" and _has_option(context, "--confirm"):
        message, hint = "No such option: --yes", "use --confirm NAME, with the name of the group"
    return Usage(message, hint=hint)


def _has_option(context: Any, option: str) -> bool:
    return context is not None and any(option in parameter.opts for parameter in context.command.params)


def _label(parameter: Any) -> str:
    options = [str(name) for name in parameter.opts if name.startswith("-")]
    return max(options, key=len) if options else str(parameter.metavar or parameter.name)


def _report(error: DvctlError, words: Sequence[str], terminal: Terminal) -> int:
    """One line that says what failed, one that says what to do; with --verbose the whole chain before."""
    from devicevault_cli.output.printer import Printer
    from devicevault_cli.output.traces import chain

    color = _typed(words, "--color")
    terminal = terminal._replace(color=color if color in ("always", "never") else "auto")
    printer = Printer(terminal, errors=_typed(words, "--errors") or _as_the_log(_typed(words, "--log-format")))
    try:
        _flush(terminal)
        if isinstance(error, Cancelled):
            printer.note(str(error))
            return error.exit_code
        # Whoever mistyped a command line is not helped by where dvctl noticed.
        if {"--verbose", "-v"}.intersection(words) and not isinstance(error, Usage):
            printer.note(*chain(error))
        printer.error(str(error), error.hint, int(error.exit_code))
    except BrokenPipeError:
        return _reader_gone(terminal)
    return error.exit_code


def _as_the_log(log_format: str) -> str:
    """Whoever reads the log of a daemon as JSON reads what ends it in the same way."""
    return "log" if log_format == "json" else ""


def _typed(words: Sequence[str], option: str) -> str:
    """The last value of an option on a command line that may be wrong elsewhere; empty without any."""
    value = ""
    for at, word in enumerate(words):
        if word == option:
            value = words[at + 1] if at + 1 < len(words) else ""
        elif word.startswith(f"{option}="):
            value = word.partition("=")[2]
    return value


def _interrupted(terminal: Terminal) -> int:
    """A terminal shows `^C` where the cursor was; the shell's prompt belongs on a line of its own."""
    with suppress(OSError, ValueError):
        if terminal.stderr_is_tty:
            terminal.stderr.write("\n")
            terminal.stderr.flush()
    return ExitCode.INTERRUPTED


def _flush(terminal: Terminal) -> None:
    """What stdout does not take is given up: that it failed is about to be reported. Raises BrokenPipeError."""
    try:
        terminal.stdout.flush()
    except BrokenPipeError:
        raise
    except (OSError, ValueError):
        _give_up(terminal)


def _reader_gone(terminal: Terminal) -> int:
    """`dvctl ... | head` has seen enough: end like other tools that SIGPIPE ends, without a word."""
    _give_up(terminal)
    return ExitCode.READER_GONE


def _give_up(terminal: Terminal) -> None:
    """Python flushes stdout once more at exit, and would complain there."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), terminal.stdout.fileno())
