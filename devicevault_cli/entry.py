"""The installed command: version, help and completion are answered before the rest of dvctl is imported."""

from __future__ import annotations

import sys


def main() -> int:
    """Run sys.argv. -> exit code"""
    words = sys.argv[1:]
    if words in (["--version"], ["-V"]):
        from devicevault_cli import __version__

        return _write(f"dvctl {__version__}\n")
    if text := _shipped_help(words):
        return _write(text)
    if words[:1] == ["__complete"]:
        from devicevault_cli.commands.complete import main as complete

        return complete(words[1:])
    from devicevault_cli.main import run

    return run(words)


def _shipped_help(words: list[str]) -> str | None:
    """The help text of `dvctl --help`, `dvctl COMMAND --help`, from its file; None for all else."""
    if not words or words[-1] not in ("--help", "-h") or not all(each.replace("-", "").isalpha() for each in words):
        return None
    name = "-".join(["dvctl", *words[:-1]])
    try:
        with open(f"{__file__.rpartition('/')[0]}/help/{name}.txt", encoding="utf-8") as file:  # noqa: PTH123 - pathlib takes longer than the rest
            return file.read()
    except OSError:
        return None


def _write(text: str) -> int:
    if sys.stdout is None:
        # Started with its standard output closed.
        return 0
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stderr.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
