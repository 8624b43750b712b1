"""Saving a batch with text that the database cannot hold."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

from devicevault_cli.errors import RecordRejected
from devicevault_cli.records import Record
from devicevault_cli.repository.model import CompletedSave, Saved
from devicevault_cli.repository.repository import Repository


def save_around(
    repository: Repository, records: Sequence[Record], encodable: Sequence[bool], sqlstate: str
) -> CompletedSave:
    """Save a batch; a record that is not encodable is not sent. Raises RecordRejected if it would be inserted."""
    unsent = [record for record, fits in zip(records, encodable, strict=True) if not fits]
    known = repository.known_devices(record.device_id for record in unsent)
    answers: list[Saved] = []
    for record, rows in zip(unsent, repository.find(unsent), strict=True):
        if record.device_id not in known:
            answers.append(Saved("unknown-device"))
        elif rows:
            answers.append(Saved("duplicate", rows[0]))
        else:
            message = f"{repository.where}: the character set lacks a character of the record"
            raise RecordRejected(message, sqlstate=sqlstate)
    saved, explained = iter(repository.save(list(compress(records, encodable)))), iter(answers)
    return CompletedSave([next(saved if fits else explained) for fits in encodable])
