"""Writes what is made from the app: docs/cli.md and the completions. `make generate` runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from devicevault_cli.cli.commands.completion import script

ROOT = Path(__file__).parents[1]
EXAMPLES = re.compile(r"^Examples:((?:\n  .+)+)", re.MULTILINE)
"""How the help of a command ends; in Markdown the examples would run together."""
SHELLS = {"bash": "dvctl.bash", "zsh": "_dvctl", "fish": "dvctl.fish"}


def generated() -> dict[Path, str]:
    """Every generated file and its content."""
    completions = {ROOT / "completions" / name: script(shell) for shell, name in SHELLS.items()}
    return completions | {ROOT / "docs" / "cli.md": reference()}


def reference() -> str:
    """The reference page, as `typer utils docs` makes it of the app."""
    words = ["-m", "typer", "devicevault_cli.cli.app", "utils", "docs", "--name", "dvctl", "--title", "dvctl reference"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True, cwd=ROOT)
    text = done.stdout.strip().replace("&#x27;", "'").replace("&quot;", '"')
    text = EXAMPLES.sub(_block, text)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _block(examples: re.Match[str]) -> str:
    lines = "\n".join(f"$ {line.strip()}" for line in examples[1].strip().splitlines())
    return f"**Examples**:\n\n```console\n{lines}\n```"


def main() -> None:
    """Write them."""
    for path, content in generated().items():
        path.write_text(content, "utf-8")


if __name__ == "__main__":
    main()
