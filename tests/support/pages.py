"""Pages that the tests execute: their commands, what the pages show, and a shell that types them."""

from __future__ import annotations

import re
import subprocess
from textwrap import dedent

from tests.support.process import DVCTL, END_S, Dvctl


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


def shell(dvctl: Dvctl, command: str) -> str:
    """Run a line as an operator types it. -> all that it printed; it must succeed"""
    environment = dvctl.environment | {"PATH": f"{DVCTL.parent}:/usr/bin:/bin", "COLUMNS": "100"}
    environment.pop("XDG_STATE_HOME", None)
    ran = subprocess.run(
        ["/bin/bash", "-c", command],
        env=environment,
        cwd=dvctl.directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=END_S,
        check=False,
    )
    assert ran.returncode == 0, f"$ {command}\n{ran.stdout}"
    return ran.stdout
