"""Where dvctl keeps its own files: state, profiles and temporary files, each found by one rule."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from devicevault_cli.errors import BadConfig, DvctlError

if TYPE_CHECKING:
    from tempfile import TemporaryDirectory

SET_STATE = "set XDG_STATE_HOME to a directory that this user can write to"


class NoStateDirectory(DvctlError):
    """There is no directory for snapshots and the journal."""


def state_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Snapshots and the journal: the first that is set of `$XDG_STATE_HOME/dvctl`, `$STATE_DIRECTORY` (which systemd
    sets, for one service) and `$HOME/.local/state/dvctl`. Raises NoStateDirectory.
    """
    if base := environ.get("XDG_STATE_HOME"):
        return Path(base) / "dvctl"
    if own := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(own)
    home = _home(environ)
    if home is None:
        raise NoStateDirectory("there is no state directory: this user has no home directory", hint=SET_STATE)
    return home / ".local" / "state" / "dvctl"


def config_directory(environ: Mapping[str, str]) -> Path:
    """Profiles: `$XDG_CONFIG_HOME/dvctl`, by default `$HOME/.config/dvctl`. Raises BadConfig."""
    if base := environ.get("XDG_CONFIG_HOME"):
        return Path(base) / "dvctl"
    home = _home(environ)
    if home is None:
        raise BadConfig(
            "there is no directory for profiles: this user has no home directory",
            hint="set XDG_CONFIG_HOME to the directory that holds dvctl/config.toml",
        )
    return home / ".config" / "dvctl"


def _home(environ: Mapping[str, str]) -> Path | None:
    """HOME, else what the user database says; None for a user id that it does not list."""
    if home := environ.get("HOME"):
        return Path(home)
    import pwd

    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return None
    return Path(home) if home else None


def expanded(path: str) -> Path:
    """A path as typed, with `~` replaced. Raises BadConfig."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        hint = "set HOME, or write the path in full"
        raise BadConfig(f"{path} begins with ~, and that home directory is unknown", hint=hint) from None


def snapshot_directory() -> Path:
    """Where snapshots are. Raises NoStateDirectory."""
    return state_directory() / "snapshots"


def why_no_snapshot() -> NoStateDirectory | None:
    """What keeps snapshots from being written: tried where the directory is or would be made, leaving nothing there."""
    from tempfile import TemporaryFile

    try:
        directory = wanted = snapshot_directory()
        while not directory.exists():
            directory = directory.parent
        with TemporaryFile(dir=directory, prefix=".dvctl-") as file:
            file.write(bytes(4096))
    except NoStateDirectory as error:
        return error
    except OSError as error:
        return NoStateDirectory(f"snapshots cannot be written to {wanted}: {error.strerror}", hint=SET_STATE)
    return None


def temporary_file(*, named: bool = False) -> IO[bytes]:
    """A file that is removed when it is closed; `named`: it has a name to be opened by. Raises DvctlError."""
    import tempfile

    make = tempfile.NamedTemporaryFile if named else tempfile.TemporaryFile
    with needing_tmpdir():
        file: IO[bytes] = make(prefix="dvctl-", dir=_cache_directory())
        return file


def reserve(file: IO[bytes], start: int, length: int) -> None:
    """Have the disk keep room for a part of a temporary file. Raises DvctlError where there is none."""
    with needing_tmpdir():
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), start, length)
        elif os.fstat(file.fileno()).st_size < start + length:
            file.truncate(start + length)


def temporary_directory() -> TemporaryDirectory[str]:
    """A directory that is removed with all it holds. Raises DvctlError."""
    from tempfile import TemporaryDirectory

    with needing_tmpdir():
        return TemporaryDirectory(prefix="dvctl-", dir=_cache_directory())


def _cache_directory(environ: Mapping[str, str] = os.environ) -> str | None:
    """`$CACHE_DIRECTORY`, which systemd sets for one service, unless TMPDIR says something else."""
    return None if environ.get("TMPDIR") else environ.get("CACHE_DIRECTORY", "").partition(":")[0] or None


def lock_directory() -> Path:
    """The directory for locks, shared by all users of this host. Raises DvctlError."""
    from tempfile import gettempdir

    with needing_tmpdir():
        return Path(gettempdir())


@contextmanager
def needing_tmpdir() -> Iterator[None]:
    """Raise DvctlError where a temporary file cannot be written."""
    try:
        yield
    except OSError as error:
        hint = "set TMPDIR to a writable directory with room"
        raise DvctlError(f"a temporary file cannot be written: {error.strerror}", hint=hint) from error
