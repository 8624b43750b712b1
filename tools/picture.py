"""Draws what a command shows on a terminal as SVG: `python -m tools.picture docs/images/demo.svg dvctl demo`."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH = 80
FONT_FACES = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)
"""Rich names fonts on a server; the picture has those of whoever looks at it."""


def on_a_terminal(words: list[str]) -> str:
    """Everything the command writes to a terminal of 80 columns."""
    main, side = pty.openpty()
    environ = os.environ | {"COLUMNS": str(WIDTH), "TERM": "xterm-256color"}
    process = subprocess.Popen(words, stdin=side, stdout=side, stderr=side, env=environ)
    os.close(side)
    seen = b""
    while part := _read(main):
        seen += part
    os.close(main)
    if process.wait():
        raise SystemExit(f"{words} ended with {process.returncode}: {seen.decode()}")
    return seen.decode().replace("\r\n", "\n")


def picture(command: str, shown: str) -> str:
    """The SVG."""
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=WIDTH, file=Path(os.devnull).open("w"), force_terminal=True)  # noqa: SIM115
    console.print(Text(f"$ {command}", "bold"))
    console.print(Text.from_ansi(shown.rstrip("\n")), soft_wrap=True)
    svg = FONT_FACES.sub("", console.export_svg(title=escape(command), unique_id="dvctl"))
    return svg.replace("Fira Code", "ui-monospace, Menlo, Consolas").rstrip() + "\n"


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the process has ended
        return b""


def main() -> None:
    path, *words = sys.argv[1:]
    Path(path).write_text(picture(" ".join(words), on_a_terminal(words)), "utf-8")


if __name__ == "__main__":
    main()
