"""Saving on PostgreSQL: one transaction a batch, sent at once and collected later; safe against writers beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import compress
from typing import TYPE_CHECKING, Any

from devicevault_cli.paging import paged
from devicevault_cli.record_columns import RecordColumns, RecordKeys
from devicevault_cli.records import Record, identity
from devicevault_cli.repository import repertoire
from devicevault_cli.repository.batches import split_distinct
from devicevault_cli.repository.dialects.postgresql import statements
from devicevault_cli.repository.dialects.postgresql.arrays import (
    Array,
    instants,
    integers,
    small_integers,
    texts,
)
from devicevault_cli.repository.dialects.postgresql.dialect import PostgresDialect, PostgresFacts
from devicevault_cli.repository.dialects.postgresql.pipeline import (
    PendingTransaction,
    PipelineTransaction,
    ServerError,
    Statement,
    identity_of,
    rows_of,
)
from devicevault_cli.repository.model import INSERTED, Existing, Saved
from devicevault_cli.repository.replacement import SUCCESS, not_replaced, row_to_replace
from devicevault_cli.repository.tables import STORAGE, TableSpec

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

SEND_MS, SLOWEST_BYTES_A_MS = 10_000, 100
"""How long the server waits, the lock in hand, for a client to send its batch: so long, and longer for a large one."""
UNIQUE_VIOLATION = "23505"
CONTENDED_S = 600.0
"""How long ON CONFLICT is used after another writer inserted an identifier of ours: each refused batch uses up ids."""

_PACKERS: dict[str, Callable[[Sequence[Any]], Array]] = {"text": texts, "integer": integers, "time": instants}
_UNNAMED = ("device_id", "task_id", "timestamp", "status", "log")


class PipelineWriter:
    """Saves batches through libpq's pipeline, on the connection of the dialect."""

    def __init__(self, dialect: PostgresDialect) -> None:
        self._dialect = dialect
        self._spec = dialect.spec
        self._prepared: Batch | None = None
        self._contended_until = 0.0

    def prepare(self, records: Sequence[Record]) -> None:
        """Pack the records."""
        self._prepared = self._batch(records)

    def _batch(self, records: Sequence[Record]) -> Batch:
        prepared, self._prepared = self._prepared, None
        facts = self._dialect.facts
        if prepared is not None and prepared.records is records and prepared.by_identifier == facts.unique_index:
            return prepared
        return Batch(self._spec, records, by_identifier=facts.unique_index, small=facts.small)

    def submit(self, records: Sequence[Record]) -> PendingTransaction[list[Saved]]:
        """Send one transaction; the server works on it from now on.

        One is pending at a time: the one before is completed first and keeps its own result. So that the server is
        not kept waiting, submit the next batch before asking the last one for its result.
        """
        with self._dialect.translated():
            self._dialect.busy_driver()
            batch = self._batch(records)
            self._dialect.finish_pending()
            transaction = self._send(batch, on_conflict=time.monotonic() < self._contended_until)
            timeline = self._dialect.tells_timeline
        pending = PendingTransaction(transaction, lambda: self._collect(transaction, batch, timeline=timeline))
        self._dialect.pending = pending
        return pending

    def _send(self, batch: Batch, *, on_conflict: bool) -> PipelineTransaction:
        session = self._dialect.busy_driver()
        return PipelineTransaction(session, self._statements(batch, on_conflict=on_conflict))

    def _statements(self, batch: Batch, *, on_conflict: bool) -> Iterator[Statement]:
        """The lock is a statement of its own: the next one's snapshot is then younger than the lock."""
        facts = self._dialect.facts
        key = statements.lock_key(self._spec) if not (facts.unique_index and batch.named) else None
        send_ms = SEND_MS + batch.size // SLOWEST_BYTES_A_MS
        yield Statement(statements.BEGIN)
        yield Statement(statements.settings(send_ms, lock=key, timeline=self._dialect.tells_timeline))
        yield from batch.statements(facts, on_conflict=on_conflict)
        yield Statement("COMMIT")

    def _collect(self, transaction: PipelineTransaction, batch: Batch, *, timeline: bool) -> list[Saved]:
        with self._dialect.translated():
            try:
                settings, *results = transaction.results()
            except ServerError as error:
                if error.refusal.sqlstate != UNIQUE_VIOLATION or error.refusal.constraint != batch.relies_on:
                    raise
                settings, *results = self._saved_beside_others(batch)
            if timeline:
                self._dialect.require_timeline(next(rows_of(settings))[0])
        answers = [INSERTED] * len(batch.records)
        left = batch.not_inserted(results)
        for position, saved in zip(left, self._explained([batch.records[number] for number in left]), strict=True):
            answers[position] = saved
        return answers

    def _saved_beside_others(self, batch: Batch) -> list[PGresult]:
        """Save a batch of which another writer has just inserted an identifier. -> the answers to its statements"""
        results = self._send(batch, on_conflict=True).results()
        self._contended_until = time.monotonic() + CONTENDED_S
        return results

    def _explained(self, records: Sequence[Record]) -> list[Saved]:
        """Why records were not inserted: the device first, as with every message."""
        if not records:
            return []
        known = self._dialect.known_devices(record.device_id for record in records)
        found = self.find(records)
        if not known:
            with self._dialect.catalog() as catalog:
                catalog.require_visible_devices()
        if any(not rows and record.device_id in known for record, rows in zip(records, found, strict=True)):
            raise self._dialect.no_row()
        saved = [
            Saved("duplicate", rows[0]) if record.device_id in known else Saved("unknown-device")
            for record, rows in zip(records, found, strict=True)
        ]
        return self._replaced(records, found, saved) if self._spec.name == STORAGE.name else saved

    def _replaced(
        self, records: Sequence[Record], found: Sequence[Sequence[Existing]], saved: Sequence[Saved]
    ) -> list[Saved]:
        """Replace the rows of failed stores by successes among the duplicates. -> `saved`, with what was replaced

        In a transaction after that of the batch: what is lost between the two is found again, a failed row with a
        success to come, when the entry is delivered again.
        """
        answers = list(saved)
        replacing: dict[str, tuple[int, Existing]] = {}
        for position, (record, rows) in enumerate(zip(records, found, strict=True)):
            if saved[position].outcome != "duplicate":
                continue
            if record.task_identifier in replacing:
                first, row = replacing[record.task_identifier]
                now = Existing(row.id, records[first].device_id, SUCCESS)
                answers[position] = Saved("duplicate", now)
            elif failed := row_to_replace(self._spec, record, rows):
                replacing[record.task_identifier] = position, failed
                answers[position] = Saved("replaced", failed)
        if replacing:
            done = self._replace({key: (records[position], row) for key, (position, row) in replacing.items()})
            for key in replacing.keys() - done:
                position, failed = replacing[key]
                answers[position] = self._replaced_by_another(records[position], failed)
        return answers

    def _replace(self, replacing: Mapping[str, tuple[Record, Existing]]) -> set[str]:
        """Replace rows, in the order of their identifiers as the inserts. -> the identifiers of those replaced"""
        self._dialect.require_right("UPDATE")
        records, rows = zip(*(replacing[key] for key in sorted(replacing)), strict=True)
        arrays = [*pack(self._spec, records, self._dialect.facts.small), integers([row.id for row in rows])]
        send_ms = SEND_MS + sum(len(array.data) for array in arrays) // SLOWEST_BYTES_A_MS
        with self._dialect.translated():
            session = self._dialect.busy_driver()
            replace = Statement(statements.replace_failed(self._spec, self._dialect.facts.loose), arrays)
            opening = Statement(statements.settings(send_ms, lock=statements.lock_key(self._spec)))
            transaction = PipelineTransaction(
                session, [Statement(statements.BEGIN), opening, replace, Statement("COMMIT")]
            )
            _, result = transaction.results()
        return {str(identity_of(row)) for row in rows_of(result)}

    def _replaced_by_another(self, record: Record, failed: Existing) -> Saved:
        """The outcome of a success whose failed row was replaced in the meantime. Raises Unavailable if it was not."""
        [rows] = self.find([record])
        if not rows or row_to_replace(self._spec, record, rows):
            raise not_replaced(self._dialect.where, self._spec, failed)
        return Saved("duplicate", rows[0])

    def find(self, records: Sequence[Record]) -> list[list[Existing]]:
        found: list[list[Existing]] = [[] for _ in records]
        with self._dialect.translated():
            self._dialect.finish_pending()
            self._dialect.busy_driver()
        possible = repertoire.identifiable(self._dialect.repertoires, self._spec, records)
        positions = list(compress(range(len(records)), possible))
        for named in (True, False):
            for page in paged(position for position in positions if bool(records[position].task_identifier) is named):
                arrays = pack(self._spec, [records[position] for position in page])
                for number, row in self._rows(_look_up(self._spec, arrays, self._dialect.facts, named=named)):
                    found[page[number - 1]].append(row)
        return found

    def ask_unmatched(self, keys: RecordKeys) -> Callable[[], list[int]]:
        """Send the look-up; the transaction pending before is completed first."""
        with self._dialect.translated():
            self._dialect.finish_pending()
            session = self._dialect.busy_driver()
            facts = self._dialect.facts
            integer = small_integers if "device_id" in facts.small else integers
            arrays = [texts(keys.task_identifier), integer(keys.device_id), texts(keys.status)]
            look_up = Statement(statements.find_unmatched(self._spec.name, facts.loose), arrays)
            transaction = PipelineTransaction(session, self._reading(look_up))

        def collect() -> list[int]:
            with self._dialect.translated():
                _, result = transaction.results()
            return sorted({int(number) - 1 for (number,) in rows_of(result)})

        pending = PendingTransaction(transaction, collect)
        self._dialect.pending = pending
        return pending.result

    def _reading(self, look_up: Statement) -> Iterator[Statement]:
        """A look-up in a transaction of its own."""
        yield Statement(statements.BEGIN_READING)
        yield Statement(statements.settings(statements.STATEMENT_MS, lock=None))
        yield look_up
        yield Statement("COMMIT")

    def _rows(self, look_up: Statement) -> Iterator[tuple[int, Existing]]:
        """Run a look-up in a transaction of its own. -> the number of the record, from 1, and a row"""
        with self._dialect.translated():
            session = self._dialect.driver
            transaction = PipelineTransaction(session, self._reading(look_up))
            _, result = transaction.results()
        for number, row_id, device_id, status in rows_of(result):
            yield int(number), Existing(int(row_id), int(device_id), status)


class Batch:
    """Records that one transaction saves, in parts of distinct identities that are packed already."""

    def __init__(
        self,
        spec: TableSpec,
        records: Sequence[Record],
        *,
        by_identifier: bool = False,
        small: Collection[str] = (),
    ) -> None:
        self.records, self.by_identifier = records, by_identifier
        self._spec = spec
        self._parts = split_distinct(records, by_identifier=by_identifier)
        self._packed = [pack(spec, _taken(records, part.positions), small) for part in self._parts]
        self._diverts = False
        self.relies_on = ""
        """The unique index that refuses the batch where another writer inserts the same identifiers."""

    @property
    def named(self) -> bool:
        """Whether every record has an identifier."""
        return all(part.named for part in self._parts)

    @property
    def size(self) -> int:
        """Bytes of all parameters."""
        return sum(len(array.data) for arrays in self._packed for array in arrays)

    def statements(self, facts: PostgresFacts, *, on_conflict: bool) -> Iterator[Statement]:
        """A statement for each part. Where rows may be diverted, the identities are looked up before and after too.

        `on_conflict`: leave out what the unique index refuses.
        """
        self._diverts = facts.diverts
        on_conflict = facts.unique_index and (on_conflict or facts.diverts)
        index = None if on_conflict else facts.index
        self.relies_on = index.name if index else ""
        for part, arrays in zip(self._parts, self._packed, strict=True):
            insert = statements.insert_new(
                self._spec,
                named=part.named,
                on_conflict=on_conflict,
                index=index.oid if index else 0,
                loose=facts.loose,
            )
            save = Statement(insert, arrays)
            look_up = [_look_up(self._spec, arrays, facts, named=part.named)] if self._diverts else []
            yield from (*look_up, save, *look_up)

    def not_inserted(self, results: Sequence[PGresult]) -> list[int]:
        """The positions of the records that were not inserted, from the answers to `statements`."""
        step = 3 if self._diverts else 1
        left: list[int] = []
        for number, part in enumerate(self._parts):
            *before, saved = results[number * step : (number + 1) * step]
            if before:
                new = {row[0] for row in rows_of(saved)} - {row[0] for row in rows_of(before[0])}
                left += [position for turn, position in enumerate(part.positions, 1) if str(turn) not in new]
            elif saved.ntuples != len(part.positions):
                inserted = set(map(identity_of, rows_of(saved)))
                left += [position for position in part.positions if identity(self.records[position]) not in inserted]
        return left


def pack(spec: TableSpec, records: Sequence[Record], small: Collection[str] = ()) -> list[Array]:
    """An array for each column of the records. `small`: the columns whose type is integer."""
    packers = (small_integers if column in small else _PACKERS[spec.kind(column)] for column in spec.columns)
    columns = records.columns if isinstance(records, RecordColumns) else zip(*records, strict=True)
    return [pack_column(column) for pack_column, column in zip(packers, columns, strict=True)]


def _taken(records: Sequence[Record], positions: Sequence[int]) -> Sequence[Record]:
    """The records at these positions, in their order."""
    if positions == list(range(len(records))):
        return records
    return records.take(positions) if isinstance(records, RecordColumns) else [records[number] for number in positions]


def _look_up(spec: TableSpec, arrays: Sequence[Array], facts: PostgresFacts, *, named: bool) -> Statement:
    """Looks up the rows of records, given as `pack` does, that all have an identifier, or all have none."""
    columns = dict(zip(spec.columns, arrays, strict=True))
    text = statements.find(spec.name, named=named, loose=facts.loose)
    return Statement(text, [columns[name] for name in (("task_identifier",) if named else _UNNAMED)])
