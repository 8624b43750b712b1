"""With `--storage`: each persisted success is followed on to its stored backup, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from devicevault_cli.messages import SUCCESS
from devicevault_cli.operations.dispatch.names import StorageState
from devicevault_cli.operations.dispatch.stored import Success, check_storage_tables, storage_states
from devicevault_cli.operations.verify.classes import ClassifiedEntry
from devicevault_cli.operations.verify.scan import Page
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.model import EntryId
from devicevault_cli.times import Milliseconds, now_ms


def follow(pages: Iterator[Page], stream: str, repository: Repository, grace_ms: Milliseconds) -> Iterator[Page]:
    """The same pages, with what became of the configurations. The rows were looked up first: a backup comes later."""
    check_storage_tables(repository)
    recent = EntryId(max(0, now_ms() - grace_ms), 0)
    for page in pages:
        entries = page.entries
        states = _states(entries, stream, repository, recent)
        followed = [entry._replace(storage=states[entry.id]) if entry.id in states else entry for entry in entries]
        yield page._replace(others=followed, matched=0)


def _states(
    entries: Sequence[ClassifiedEntry], stream: str, repository: Repository, recent: EntryId
) -> Mapping[EntryId, StorageState]:
    successes = [
        Success(entry.id, entry.first, entry.record)
        for entry in entries
        if entry.entry_class == "persisted" and entry.record is not None and entry.record.status == SUCCESS
    ]
    states = storage_states(stream, repository, successes, recent)
    return {success.id: state for success, state in zip(successes, states, strict=True)}
