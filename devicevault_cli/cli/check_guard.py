"""`dvctl check` answers as monitoring expects whatever goes wrong: one UNKNOWN line, exit code 3."""

from __future__ import annotations

import errno
import io
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from devicevault_cli.errors import ExitCode, Usage
from devicevault_cli.output.terminal import Terminal

UNKNOWN = ExitCode.FOUND
"""What monitoring takes for unknown."""
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGALRM)
"""What a scheduler sends that has waited too long."""
_FLAGS = ("-v", "--verbose", "-h", "--help", "-V", "--version")
"""Options before the command that have no value."""


class _Signalled(BaseException):
    """A signal asks for an end."""


class _Held(io.StringIO):
    """The answer until it is whole: what is printed is one answer, never the beginning of one and then an error."""

    def __init__(self, encoding: str | None) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str | None:  # type: ignore[override]
        """The one of the real stdout."""
        return self._encoding


def is_check(words: Sequence[str]) -> bool:
    """Whether `check` is the command of a command line: the first word that is no option and no value of one."""
    values = iter(words)
    for word in values:
        if not word.startswith("-"):
            return word == "check"
        if word not in _FLAGS and "=" not in word and not (word[1] != "-" and len(word) > 2):
            next(values, None)
    return False


def guarded(words: Sequence[str], terminal: Terminal, work: Callable[[Terminal], int]) -> int:
    """Do the work of `check`. -> its exit code, 3 for whatever went wrong"""
    held = _Held(getattr(terminal.stdout, "encoding", None))
    with _signals():
        try:
            code = work(terminal._replace(stdout=held))
            text = held.getvalue()
        except _Signalled as stopped:
            code, text = UNKNOWN, _unknown(words, terminal, f"stopped by {stopped}")
        except KeyboardInterrupt:
            code, text = UNKNOWN, _unknown(words, terminal, "interrupted")
        except Exception as error:  # noqa: BLE001 - monitoring understands nothing but this line
            _trace(words, terminal, error)
            code, text = UNKNOWN, _unknown(words, terminal, _reason(error))
        return _said(text, code, terminal)


@contextmanager
def _signals() -> Iterator[None]:
    """The first signal ends the work; those after it cannot cut off the line that is printed then."""
    before: dict[int, object] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        for caught in before:
            signal.signal(caught, signal.SIG_IGN)
        raise _Signalled(signal.Signals(number).name)

    with suppress(ValueError):  # not in the main thread
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)  # type: ignore[arg-type]


def _reason(error: Exception) -> str:
    from devicevault_cli.cli.reporting import as_dvctl_error
    from devicevault_cli.redact import scrub

    known = as_dvctl_error(error)
    reason = scrub(str(known))
    return f"{reason} ({known.hint})" if known.hint else reason


def _trace(words: Sequence[str], terminal: Terminal, error: Exception) -> None:
    if isinstance(error, Usage) or not {"-v", "--verbose"}.intersection(words):
        return
    from devicevault_cli.output.printer import Printer
    from devicevault_cli.output.traces import chain

    with suppress(OSError, ValueError):
        Printer(terminal).note(*chain(error))


def _unknown(words: Sequence[str], terminal: Terminal, why: str) -> str:
    """The answer in the format that was asked for, as far as that is known."""
    from devicevault_cli.output.escapes import to_json, visible

    reason = visible(why)
    wanted = _format(words, terminal.environ)
    if wanted == "json":
        answer: dict[str, object] = {"status": "unknown", "stream": None, "group": None, "checks": [], "error": reason}
        return f"{to_json(answer)}\n"
    line = f"DVCTL UNKNOWN - {reason.replace('|', '/')}\n"  # the first bar would begin performance data
    if wanted != "prometheus":
        return line
    with suppress(OSError, ValueError):
        terminal.stderr.write(line)
        terminal.stderr.flush()
    return f"# TYPE dvctl_check_status gauge\ndvctl_check_status {UNKNOWN:d}\n"


def _format(words: Sequence[str], environ: Mapping[str, str]) -> str:
    """`--format`, else `-o`, else DVCTL_OUTPUT, read without the parser, which may be what failed."""
    given = {"--format": "", "--output": environ.get("DVCTL_OUTPUT", "")}
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if word.startswith("-o") and word != "-o" and not word.startswith("--"):
            name, equals, value = "-o", "=", word[2:]
        name = {"-o": "--output"}.get(name, name)
        if name in given:
            given[name] = value if equals else "".join(words[number + 1 : number + 2])
    return given["--format"] or given["--output"]


def _said(text: str, code: int, terminal: Terminal) -> int:
    """Print the answer; where stdout cannot take it, say so on stderr. -> exit code"""
    try:
        if isinstance(getattr(terminal.stdout, "name", None), int):
            # What stands in for a stdout that was closed: the real one has a name.
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        terminal.stdout.write(text)
        terminal.stdout.flush()
        return code
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
    with suppress(OSError, ValueError):
        # What is left in the buffer would fail once more as Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), terminal.stdout.fileno())
    with suppress(OSError, ValueError):
        terminal.stderr.write(f"DVCTL UNKNOWN - stdout cannot be written: {why}\n")
        terminal.stderr.flush()
    return UNKNOWN
