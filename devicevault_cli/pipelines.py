"""What a pipeline is, and the two that exist: stream, group, table and decoding belong together."""

from __future__ import annotations

import re
from dataclasses import dataclass

from devicevault_cli.messages import Decoder, decode_result, decode_storage


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The way of one kind of message from its stream to its table."""

    name: str
    stream: str
    group: str
    table: str
    decode: Decoder


RESULTS = Pipeline("results", "device:results", "devicevault", "devices_devicebackupresult", decode_result)
STORAGE = Pipeline("storage", "storage:results", "devicevault-storage", "backups_storedbackup", decode_storage)
PIPELINES = {pipeline.name: pipeline for pipeline in (RESULTS, STORAGE)}

_OWN_CONSUMER = re.compile(r"(?:storage-)?consumer-[0-9]+")


def is_devicevaults_own(consumer: str) -> bool:
    """Whether a consumer has the name that DeviceVault's own gives itself: `consumer-PID`, `storage-consumer-PID`."""
    return _OWN_CONSUMER.fullmatch(consumer) is not None
