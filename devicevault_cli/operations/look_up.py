"""Entries as they decode now, with the rows that have their identity."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from devicevault_cli.messages import Decision, Decoded
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.repository.model import Existing
from devicevault_cli.streams.model import Entry

if TYPE_CHECKING:
    from devicevault_cli.repository.repository import Repository


def look_up(
    entries: Iterable[Entry], pipeline: Pipeline, repository: Repository
) -> list[tuple[Entry, Decision, Sequence[Existing]]]:
    """Each entry, what it decodes to, and its rows, lowest id first; none where it cannot be decoded."""
    device_id_max = repository.device_id_max
    decided = [(entry, pipeline.decode_entry(entry, device_id_max)) for entry in entries]
    found = iter(repository.find([decision.record for _, decision in decided if isinstance(decision, Decoded)]))
    return [(entry, decision, next(found) if isinstance(decision, Decoded) else ()) for entry, decision in decided]
