"""What a pipeline is, and the two that exist: stream, group, table and decoding belong together."""

from __future__ import annotations

import re
from dataclasses import dataclass

from devicevault_cli.columns import (
    ColumnDecoder,
    KeyDecoder,
    decode_results,
    decode_stored,
    result_keys,
    stored_keys,
)
from devicevault_cli.messages import (
    RESULT_NOTES,
    STORAGE_NOTES,
    Decision,
    Decoder,
    decode_result,
    decode_storage,
    first_id,
)
from devicevault_cli.streams.model import Entry, EntryId


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The way of one kind of message from its stream to its table.

    `decode` takes one message, `decode_columns` a page of usual ones, and `decode_keys` does of these what comparing
    them with their rows takes. `notes`: the fields that are stored as NULL or
    clamped where their value is unusable. `dispatches`: the configurations that its messages carry are handed to the
    storage workers.
    """

    name: str
    stream: str
    group: str
    table: str
    decode: Decoder
    decode_columns: ColumnDecoder
    decode_keys: KeyDecoder
    notes: tuple[str, ...]
    dispatches: bool = False

    def decode_entry(self, entry: Entry, device_id_max: int) -> Decision:
        """Decode an entry of the stream. `device_id_max`: the largest value of the table's device_id column."""
        return self.decode(*entry.id, entry.fields, device_id_max)


def original_id(entry: Entry) -> EntryId:
    """The id the message had first: the one a copy or dead letter carries, else the entry's own."""
    return EntryId(*(first_id(entry.fields) or entry.id))


RESULTS = Pipeline(
    "results", "device:results", "devicevault", "devices_devicebackupresult", decode_result, decode_results,
    result_keys, RESULT_NOTES, dispatches=True,
)  # fmt: skip
STORAGE = Pipeline(
    "storage", "storage:results", "devicevault-storage", "backups_storedbackup", decode_storage, decode_stored,
    stored_keys, STORAGE_NOTES,
)  # fmt: skip
PIPELINES = {pipeline.name: pipeline for pipeline in (RESULTS, STORAGE)}

_OWN_CONSUMER = re.compile(r"(?:storage-)?consumer-[0-9]+")


def is_devicevaults_own(consumer: str) -> bool:
    """Whether a consumer has the name that DeviceVault's own gives itself: `consumer-PID`, `storage-consumer-PID`."""
    return _OWN_CONSUMER.fullmatch(consumer) is not None
