"""The names of what `verify` finds, each once, in the order in which it lists them."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from devicevault_cli.operations.dispatch.names import StorageState

EntryClass: TypeAlias = Literal[
    "persisted", "dead", "discarded", "pending", "undelivered", "skipped", "lost", "lost_invalid"
]
CLASSES: tuple[EntryClass, ...] = get_args(EntryClass)
Listed: TypeAlias = Literal[EntryClass, StorageState, "gone", "conflicting", "duplicate_rows", "rows_without_entry"]
"""What `verify --show` lists: a class of entries, the successes in one state of storage, pending entries that are gone,
conflicting entries, or rows."""
