"""Which of the consumers on this host am I? A name that two processes share would mix up what they hold."""

from __future__ import annotations

import fcntl
import socket
import sys
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import IO
from urllib.parse import quote

from devicevault_cli.directories import lock_directory
from devicevault_cli.errors import DvctlError
from devicevault_cli.pipelines import is_devicevaults_own

SLOTS = 1000

Lock = socket.socket | IO[str]
"""Held as long as the object lives; the kernel frees it with the process, however that ends."""


def lock_name(stream: str, group: str, consumer: str) -> Lock | None:
    """Lock a consumer name on this host, or None where another process holds it."""
    digest = _digest(stream, group, consumer)
    return _lock_socket(digest) if sys.platform == "linux" else _lock_file(digest)


def _digest(stream: str, group: str, consumer: str) -> str:
    return sha256(f"{stream}\0{group}\0{consumer}".encode("utf-8", "surrogateescape")).hexdigest()[:32]


def lowest_free(stream: str, group: str, instance: int | None = None, first: int = 0) -> tuple[str, Lock]:
    """`HOST-N` and its lock: the lowest N from `first` on, or the given one, that no process on this host holds."""
    name, [lock] = lowest_free_everywhere([stream], group, instance, first)
    return name, lock


def lock_everywhere(streams: Sequence[str], group: str, consumer: str) -> list[Lock] | None:
    """Lock a consumer name on this host for each of the streams, or None where another process holds it for one."""
    locks: list[Lock] = []
    for stream in streams:
        lock = lock_name(stream, group, consumer)
        if lock is None:
            release(locks)
            return None
        locks.append(lock)
    return locks


def release(locks: Iterable[Lock]) -> None:
    """Free the names."""
    for lock in locks:
        lock.close()


def lowest_free_everywhere(
    streams: Sequence[str], group: str, instance: int | None = None, first: int = 0
) -> tuple[str, list[Lock]]:
    """As `lowest_free`, for several streams: a name that no other process holds for any of them."""
    host = _host()
    for number in range(first, SLOTS) if instance is None else (instance,):
        if (locks := lock_everywhere(streams, group, f"{host}-{number}")) is not None:
            return f"{host}-{number}", locks
    if instance is not None:
        held = (stream for stream in streams if holder(stream, group, f"{host}-{instance}") is not None)
        raise _running(next(held, streams[0]), group, host, instance)
    raise DvctlError(f"all {SLOTS} consumer names of this host are taken", hint="fix one with --consumer NAME")


def _running(stream: str, group: str, host: str, instance: int) -> DvctlError:
    process = holder(stream, group, f"{host}-{instance}")
    return DvctlError(
        f"instance {instance} of group {group} of stream {stream} is running on this host already"
        f"{'' if process is None else f' (pid {process})'}; names are locked for each host, whatever its Redis",
        hint="choose another --instance, or a name with --consumer NAME",
    )


def holder(stream: str, group: str, consumer: str) -> int | None:
    """The id of the process that holds the lock of a name; None where the system does not tell, as of other users."""
    try:
        sockets = (line.split() for line in Path("/proc/net/unix").read_text().splitlines())
        name = f"@dvctl/{_digest(stream, group, consumer)}"
        inode = next((columns[6] for columns in sockets if columns[7:] == [name]), None)
    except OSError:
        return None
    processes = (path for path in Path("/proc").iterdir() if inode is not None and path.name.isdigit())
    return next((int(path.name) for path in processes if _has_open(path, f"socket:[{inode}]")), None)


def _has_open(process: Path, socket_name: str) -> bool:
    try:
        return any(str(descriptor.readlink()) == socket_name for descriptor in (process / "fd").iterdir())
    except OSError:  # it has ended, or is another user's
        return False


def _host() -> str:
    """This host in a consumer's name: printable ASCII, and never so that DeviceVault's own consumer could have it."""
    host = quote(socket.gethostname(), safe="!#$&'()*+,/:;=?@[]^`{|}~", errors="surrogateescape") or "localhost"
    return f"dvctl-{host}" if is_devicevaults_own(f"{host}-0") else host


def _lock_socket(digest: str) -> Lock | None:
    """An abstract socket: seen by every user of the host, leaves no file behind."""
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        lock.bind(f"\0dvctl/{digest}")
    except OSError:
        lock.close()
        return None
    return lock


def _lock_file(digest: str) -> Lock | None:
    path = lock_directory() / f"dvctl-{digest}.lock"
    try:
        lock = path.open("a")
    except OSError:  # another user's
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return None
    return lock
