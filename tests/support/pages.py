"""Pages that the tests execute: their commands, what the pages show, and a shell that types them."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from textwrap import dedent
from unittest import mock

from devicevault_cli.cli.app import run
from devicevault_cli.output.terminal import Terminal
from tests.support.process import DVCTL, END_S, Dvctl

_CODE = ' || echo "exit code $?"'
_PLAIN = re.compile(r"dvctl [^|&;<>$`*?~(){}!\\]+")
"""A command of dvctl that no shell has to read."""


def steps(text: str) -> list[tuple[str, str]]:
    """The commands of a page with what they print, as its console blocks show them; a block may be indented."""
    found: list[tuple[str, str]] = []
    for block in map(dedent, re.findall(r"^ *```console\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            found.append((command, shown))
    return found


def pattern(shown: str) -> str:
    """`...` is what differs from day to day; alone on a line, any number of lines. Spaces and rules are layout."""
    lines = []
    for line in shown.splitlines():
        if line.strip() == "...":
            lines.append(r"(?:.*\n)*?")
        elif line.strip():
            parts = [re.escape(part) for part in re.split(r"\s+", line.strip())]
            lines.append(r"\s*" + r"\s+".join(part.replace(r"\.\.\.", r".*?") for part in parts) + r"\s*\n")
    return r"\s*" + r"\s*".join(lines) + r"\s*"


def typed(dvctl: Dvctl, command: str) -> str:
    """Like `shell`, but dvctl runs in this process where no shell is needed, which takes a tenth of the time.

    Commands may be connected by pipes, and show their exit code.
    """
    parts = command.removesuffix(_CODE).split(" | ")
    if not all(_PLAIN.fullmatch(part) for part in parts):
        return shell(dvctl, command)
    printed, piped = io.StringIO(), ""
    code = 0
    with _as_process(dvctl):
        for number, part in enumerate(parts, 1):
            out = printed if number == len(parts) else io.StringIO()
            terminal = Terminal(io.StringIO(piped), out, printed, dict(os.environ))
            code = run(shlex.split(part)[1:], terminal)
            piped = out.getvalue()
    assert code == 0 or command.endswith(_CODE), f"$ {command}\n{printed.getvalue()}"
    return f"{printed.getvalue()}exit code {code}\n" if code else printed.getvalue()


@contextlib.contextmanager
def _as_process(dvctl: Dvctl) -> Iterator[None]:
    """What a process of its own would have: environment, directory, host name, handlers of signals."""
    environment = _environment(dvctl)
    host = environment.get("DVCTL_TEST_HOST") or socket.gethostname()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with (
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.object(socket, "gethostname", lambda: host),
        contextlib.chdir(dvctl.directory),
    ):
        yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _environment(dvctl: Dvctl) -> dict[str, str]:
    environment = dvctl.environment | {"PATH": f"{DVCTL.parent}:/usr/bin:/bin", "COLUMNS": "100"}
    environment.pop("XDG_STATE_HOME", None)
    return environment


def shell(dvctl: Dvctl, command: str) -> str:
    """Run a line as an operator types it. -> all that it printed; it must succeed"""
    ran = subprocess.run(
        ["/bin/bash", "-c", command],
        env=_environment(dvctl),
        cwd=dvctl.directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=END_S,
        check=False,
    )
    assert ran.returncode == 0, f"$ {command}\n{ran.stdout}"
    return ran.stdout
