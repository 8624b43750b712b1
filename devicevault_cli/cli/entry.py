"""The installed command: version, help and completion are answered before the rest of dvctl is imported."""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run sys.argv, and end the process."""
    # Modules and messages come by the thousand and make no cycles: looking for some each 700 objects costs a tenth, and
    # once within the imports 7 ms.
    gc.set_threshold(150_000, 20, 20)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # a daemon was started without it
            setattr(sys, name, open(os.devnull, "r+", encoding="utf-8"))  # noqa: PTH123, SIM115
    try:
        code = answer(sys.argv[1:])
    except KeyboardInterrupt:  # while modules are imported; later ones are answered where they come
        code = 130
    except BrokenPipeError:  # `dvctl --help | head` has seen enough
        code = 141
    except (OSError, ValueError) as error:
        code = _cannot_write(error)
    _leave(code)


def answer(words: list[str]) -> int:
    """Run a command line. -> exit code"""
    if words in (["--version"], ["-V"]):
        from devicevault_cli import __version__

        return _write(f"dvctl {__version__}\n")
    if text := _shipped_help(words):
        return _write(text)
    if words[:1] == ["__complete"]:
        from devicevault_cli.cli.complete import main as complete

        return complete(words[1:])
    from devicevault_cli.cli.main import run

    return run(words)


def _leave(code: int) -> NoReturn:
    """End at once: taking the interpreter apart, module by module, is a seventh of a short command's time."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = code or 141
    except (OSError, ValueError) as error:
        code = code or _cannot_write(error)
    try:  # noqa: SIM105 - contextlib is not loaded yet, and takes its time
        sys.stderr.flush()
    except (OSError, ValueError):
        pass
    os._exit(code)


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
    sys.stdout.write(text)
    sys.stdout.flush()
    return 0


def _cannot_write(error: Exception) -> int:
    """Say so, in the words of `main`. -> exit code"""
    try:
        reason = getattr(error, "strerror", None) or error
        sys.stderr.write(f"error: this cannot be written: {reason}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass
    return 1


if __name__ == "__main__":
    main()
