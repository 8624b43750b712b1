"""Which row the success of a store replaces: else a store that failed once could never be healed."""

from __future__ import annotations

from collections.abc import Sequence

from devicevault_cli.errors import Unavailable
from devicevault_cli.records import Record
from devicevault_cli.repository.model import Existing
from devicevault_cli.repository.tables import STORAGE, TableSpec

SUCCESS = "success"


def row_to_replace(spec: TableSpec, record: Record, rows: Sequence[Existing]) -> Existing | None:
    """The row that the record replaces. `rows`: all with its identity, lowest id first.

    Without an identifier the status is part of the identity, so there is nothing to replace.
    """
    if spec.name != STORAGE.name or record.status != SUCCESS or not record.task_identifier:
        return None
    return rows[0] if rows and all(row.status != SUCCESS for row in rows) else None


def not_replaced(where: str, spec: TableSpec, row: Existing) -> Unavailable:
    """The error for an UPDATE that did not change the row, although no success is there."""
    error = f"{where}: row {row.id} of {spec.name} was not replaced by the success with its identifier"
    hint = f"retry: the row was changed or deleted meanwhile; if this repeats, look at the triggers of {spec.name}"
    return Unavailable(error, hint=hint)
