"""The installed command `dvctl`, and `python -m devicevault_cli`."""

import gc
import os
import sys

from devicevault_cli import __version__


def main() -> None:
    """Run sys.argv, and end the process with its exit code."""
    if os.getpid() == 1:
        _end_by_sigterm()
    # Modules and messages come by the thousand and make no cycles: looking for some each 700 objects costs a tenth of
    # a command's time, and once within the imports 7 ms.
    gc.set_threshold(150_000, 20, 20)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # a daemon was started without it
            nowhere = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(nowhere, "r" if name == "stdin" else "w", encoding="utf-8", closefd=False))  # noqa: SIM115
    try:
        if sys.argv[1:] in (["--version"], ["-V"]) and _printed(f"dvctl {__version__}\n"):
            return
        from devicevault_cli.cli.app import app

        app()
    except KeyboardInterrupt:  # while modules are imported; later ones are answered where they come
        sys.exit(130)
    finally:
        gc.freeze()  # else garbage is looked for twice more before the end: 11 to 23 % of a command


def _end_by_sigterm() -> None:
    """Before anything is imported: to the first process of a container no SIGTERM is delivered that it does not handle.

    A container that is stopped while it starts would else run until it is killed.
    """
    import signal

    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))


def _printed(text: str) -> bool:
    """Print what scripts ask for often, without importing Typer. -> False where the app has to report why not"""
    try:
        os.write(sys.stdout.fileno(), text.encode())  # past the buffer, which would keep what cannot be written
    except (OSError, ValueError):
        return False
    return True


if __name__ == "__main__":
    main()
