"""Why SQLite cannot write: it reports a missing right, a read-only disk and a vanished folder with the same codes."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from devicevault_cli.errors import DvctlError, Refused, Unavailable

_EFFECTIVE = os.access in os.supports_effective_ids


def access_refused(path: Path) -> DvctlError | None:
    """Which file or folder this user may not write, and what to type; None where no right is missing."""
    folder = path.absolute().parent
    for above in [*reversed(folder.parents), folder]:
        if above.is_dir() and not _may(above, os.X_OK):
            return _refused(path, above, "enter folder", f"chmod o+x {above}")
    if not path.exists():
        return None
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return Unavailable(
            f"SQLite file {path} is on a file system that is mounted read-only", hint="mount it writable"
        )
    for file in (path, *(Path(f"{path}{suffix}") for suffix in ("-wal", "-shm", "-journal"))):
        if file.exists() and not _may(file, os.R_OK | os.W_OK):
            return _refused(path, file, "write", f"chown {_user()} {file}")
    if not _may(folder, os.W_OK | os.X_OK):
        return _refused(path, folder, "create the journal in folder", f"chown {_user()} {folder}")
    return None


def _refused(path: Path, what: Path, verb: str, fix: str) -> Refused:
    database = "" if what == path else f"SQLite file {path}: "
    kind = f"SQLite file {what}" if what == path else str(what)
    return Refused(f"{database}user {_user()} may not {verb} {kind}", hint=f"as its owner: {fix}")


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=_EFFECTIVE)


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
