"""From a command line to an exit code, and from an error to a message."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress

from devicevault_cli.errors import Cancelled, DvctlError, Usage
from devicevault_cli.output.terminal import Terminal

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EAGAIN)
"""What a write to stdout can fail with: a full disk, a terminal that is gone, a stream that is no output."""


def run(words: Sequence[str], terminal: Terminal | None = None) -> int:
    """Run a command line. -> its exit code; nothing escapes but what asks Python itself to end"""
    terminal = terminal or Terminal.real()
    if "check" in words:
        from devicevault_cli.cli.check_guard import guarded, is_check

        if is_check(words):
            return guarded(words, terminal, lambda held: _run(list(words), held))
    try:
        code = _run(list(words), terminal)
        terminal.stdout.flush()
    except DvctlError as error:
        return _report(error, words, terminal)
    except KeyboardInterrupt:
        return _interrupted(terminal)
    except BrokenPipeError:
        return _reader_gone(terminal)
    except Exception as error:  # noqa: BLE001 - the last catch: an error of dvctl's own is told in one line too
        return _report(_unexpected(error), words, terminal)
    return code


def _run(words: list[str], terminal: Terminal) -> int:
    from devicevault_cli.cli.table import find, load

    if words[:1] == ["help"] or {"-h", "--help"}.intersection(words):
        from devicevault_cli.cli.help import asked_for, help_text

        topic = asked_for(words)
        if topic is not None:
            terminal.stdout.write(help_text(topic))
            return 0
    name, rest = find(words)
    return load(name)(rest, terminal, name)


def _report(error: DvctlError, words: Sequence[str], terminal: Terminal) -> int:
    """One line that says what, one that says what to try; with --verbose the whole chain before."""
    from devicevault_cli.output.printer import Printer
    from devicevault_cli.output.traces import chain

    printer = Printer(terminal)
    try:
        _flush(terminal)
        if isinstance(error, Cancelled):
            printer.note(str(error))
            return error.exit_code
        # Whoever mistyped a command line is not helped by where dvctl noticed.
        if {"--verbose", "-v"}.intersection(words) and not isinstance(error, Usage):
            printer.note(*chain(error))
        printer.error(str(error), error.hint)
    except BrokenPipeError:
        return _reader_gone(terminal)
    return error.exit_code


def _interrupted(terminal: Terminal) -> int:
    """A terminal shows `^C` where the cursor was; the shell's prompt belongs on a line of its own."""
    with suppress(OSError, ValueError):
        if terminal.stderr_is_tty:
            terminal.stderr.write("\n")
            terminal.stderr.flush()
    return 130


def _unexpected(error: Exception) -> DvctlError:
    from devicevault_cli.redact import explain

    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        full = DvctlError(f"this cannot be written: {error.strerror}", hint="make room, or write elsewhere")
        full.__cause__ = error
        return full
    told = explain(error).splitlines()
    unexpected = DvctlError(
        f"an error in dvctl: {type(error).__name__}{': ' + told[0][:200] if told else ''}",
        hint="--verbose shows where; please report it",
    )
    unexpected.__cause__ = error
    return unexpected


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
    return 141


def _give_up(terminal: Terminal) -> None:
    """Python flushes stdout once more at exit, and would complain there."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), terminal.stdout.fileno())
