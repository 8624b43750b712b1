"""Files that must not lie: JSON lines with a checksum at the end, private, complete or not there at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import IO, Any, TextIO

from devicevault_cli.errors import Damaged, DvctlError, Usage

SEAL = "_dvctl.sha256"
SEAL_LINE = f'{{"{SEAL}"'.encode()
"""How the last line begins, and no other."""


def write_sealed(path: Path, lines: Iterable[dict[str, Any]], *, replace: bool = False) -> int:
    """Write an object a line and a seal: created anew (0600), synced, renamed into place. -> how many lines

    Raises DvctlError when the disk does not take it, Usage where the file is there already; nothing is left then.
    """
    if path.exists() and not replace:
        raise Usage(f"{path} exists already", hint="choose another name, or remove it")
    partial = path.with_name(f".dvctl-{token_hex(8)}")
    with _named(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with _named(path), open(partial, "xb", opener=_privately) as file:
            written = _write(file, lines)
        with _named(path):
            partial.rename(path) if replace else _rename_new(partial, path)
            _sync_folder(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return written


def _privately(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write(file: IO[bytes], lines: Iterable[dict[str, Any]]) -> int:
    written = -1
    for written, line in enumerate(_encoded(lines)):  # noqa: B007 - the last number, that of the seal, is how many
        file.write(line)
    file.flush()
    os.fsync(file.fileno())
    return written


def write_sealed_text(out: TextIO, lines: Iterable[dict[str, Any]]) -> int:
    """The same text to an open stream, where it ends without a seal if something fails. -> how many lines"""
    written = -1
    for written, line in enumerate(_encoded(lines)):  # noqa: B007
        out.write(line.decode("ascii"))
    return written


def _encoded(lines: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """An object a line, and the seal."""
    digest = sha256()
    written = 0
    for line in lines:
        encoded = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        digest.update(encoded)
        yield encoded
        written += 1
    yield json.dumps({SEAL: digest.hexdigest(), "lines": str(written)}).encode() + b"\n"


def read_sealed(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file whose seal holds: it is read twice, so that nothing is believed before all was checked.

    Raises Damaged for a file that was cut or edited, Usage for one that cannot be read.
    """
    check_seal(path)
    with _readable(path) as file:
        for line in file:
            if not line.startswith(SEAL_LINE):
                yield _object(line, path)


def _object(line: bytes, path: Path) -> dict[str, Any]:
    """One line. A seal says that nobody changed the file since, not that dvctl wrote it."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Damaged(f"{path} holds a line that is no JSON object")
    return value


def check_seal(path: Path, name: str | None = None) -> None:
    """Raises Damaged or Usage, with the name that the operator knows the file by."""
    digest = sha256()
    last = b""
    with _readable(path) as file:
        for line in file:
            if last:
                digest.update(last)
            last = line
    try:
        seal = json.loads(last)[SEAL]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Damaged(f"{name or path} has no seal at its end: it is truncated, or dvctl did not write it") from None
    if seal != digest.hexdigest():
        raise Damaged(f"{name or path} does not match its checksum: it was edited or damaged")


def has_seal(path: Path) -> bool:
    """Whether the file ends in a seal, be it a true one."""
    with _readable(path) as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 200))
        return SEAL_LINE in file.read()


@contextmanager
def _readable(path: Path) -> Iterator[IO[bytes]]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise Usage(f"{path} cannot be read: {error.strerror}") from error


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DvctlError(
            f"{path} cannot be written: {error.strerror}", hint="make room on the disk, or choose another directory"
        ) from error


def _rename_new(partial: Path, path: Path) -> None:
    """Rename without overwriting what another process made meanwhile."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # FAT and some network file systems have no hard links, and each its own error for that
        _claim(path)
        try:
            partial.rename(path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    else:
        partial.unlink()


def _claim(path: Path) -> None:
    """Create an empty file that only this process may then replace."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _sync_folder(folder: Path) -> None:
    """So that the new name itself survives a power cut; not every file system lets a folder be synced."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
