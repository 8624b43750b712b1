"""Checksummed JSON Lines: private files, written atomically."""

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

CHECKSUM = "_dvctl.sha256"
CHECKSUM_LINE = f'{{"{CHECKSUM}"'.encode()
"""The beginning of the last line, and of no other."""


def write(path: Path, lines: Iterable[dict[str, Any]], *, replace: bool = False) -> int:
    """Write one object per line and a checksum to a new file (0600), synced and renamed. -> number of objects

    Raises DvctlError if the file cannot be written, Usage if it exists already. No partial file is left.
    """
    if path.exists() and not replace:
        raise Usage(f"{path} exists already", hint="choose another name, or remove it")
    partial = path.with_name(f".dvctl-{token_hex(8)}")
    with _writing(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with _writing(path), open(partial, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            written = _write(file, lines)
        with _writing(path):
            partial.rename(path) if replace else _rename_new(partial, path)
            _sync_folder(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return written


def _write(file: IO[bytes], lines: Iterable[dict[str, Any]]) -> int:
    written = -1
    for written, line in enumerate(_encoded(lines)):  # noqa: B007 - the last number, that of the checksum, is the count
        file.write(line)
    file.flush()
    os.fsync(file.fileno())
    return written


def write_text(out: TextIO, lines: Iterable[dict[str, Any]]) -> int:
    """Write the same to an open stream; after an error it has no checksum. -> number of objects"""
    written = -1
    for written, line in enumerate(_encoded(lines)):  # noqa: B007
        out.write(line.decode("ascii"))
    return written


def _encoded(lines: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """One object per line, and the checksum."""
    digest = sha256()
    written = 0
    for line in lines:
        encoded = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        digest.update(encoded)
        yield encoded
        written += 1
    yield json.dumps({CHECKSUM: digest.hexdigest(), "lines": str(written)}).encode() + b"\n"


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file, after its checksum was verified.

    Raises Damaged for a truncated or edited file, Usage for one that cannot be read.
    """
    check(path)
    with reading(path), path.open("rb") as file:
        for line in file:
            if not line.startswith(CHECKSUM_LINE):
                yield _object(line, path)


def _object(line: bytes, path: Path) -> dict[str, Any]:
    """One line. A valid checksum does not mean that dvctl wrote the file."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Damaged(f"{path} holds a line that is no JSON object")
    return value


def check(path: Path, name: str | None = None) -> None:
    """Verify the checksum. Raises Damaged or Usage, with the `name` that the operator knows the file by."""
    digest = sha256()
    last = b""
    with reading(path), path.open("rb") as file:
        for line in file:
            if last:
                digest.update(last)
            last = line
    try:
        checksum = json.loads(last)[CHECKSUM]
    except (ValueError, KeyError, TypeError, RecursionError):
        why = "has no checksum at its end: it is truncated, or dvctl did not write it"
        raise Damaged(f"{name or path} {why}") from None
    if checksum != digest.hexdigest():
        raise Damaged(f"{name or path} does not match its checksum: it was edited or damaged")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raises Usage where the file cannot be read."""
    try:
        yield
    except OSError as error:
        raise Usage(f"{path} cannot be read: {error.strerror}") from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "make room on the disk, or choose another directory"
        raise DvctlError(f"{path} cannot be written: {error.strerror}", hint=hint) from error


def _rename_new(partial: Path, path: Path) -> None:
    """Rename without overwriting a file that another process has created since."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # FAT and some network file systems have no hard links, and different errors for that
        # Only this process may replace the empty file.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            partial.rename(path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    else:
        partial.unlink()


def _sync_folder(folder: Path) -> None:
    """Sync the directory, so that the new name survives a power failure; some file systems do not support it."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
