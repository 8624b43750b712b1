"""The names of what becomes of a configuration, each once."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

StorageState: TypeAlias = Literal["stored", "store_failed", "not_stored", "in_progress", "not_dispatchable"]
STORAGE_STATES: tuple[StorageState, ...] = get_args(StorageState)
UNSTORED: frozenset[StorageState] = frozenset(("not_stored", "store_failed"))
"""States in which somebody has to do something: the configuration is to be dispatched again."""
