"""A batch for PostgreSQL: planned in waves, packed into arrays, and which records its answers say were inserted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from devicevault_cli.records import Record, identity
from devicevault_cli.repository import postgres_sql as sql
from devicevault_cli.repository.postgres_arrays import Array, instants, integers, texts
from devicevault_cli.repository.postgres_flight import Statement, identity_of, rows_of
from devicevault_cli.repository.tables import TableSpec
from devicevault_cli.repository.waves import Wave

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

_PACKERS: dict[str, Callable[[Sequence[Any]], Array]] = {"text": texts, "integer": integers, "time": instants}
_UNNAMED = ("device_id", "task_id", "timestamp", "status", "log")


def pack(spec: TableSpec, records: Sequence[Record], wave: Wave) -> list[Array]:
    """An array for each column of a wave's records."""
    columns = zip(*(records[position] for position in wave.positions), strict=True)
    packers = (_PACKERS[spec.kind(column)] for column in spec.columns)
    return [pack_column(column) for pack_column, column in zip(packers, columns, strict=True)]


class Batch:
    """Records that one transaction saves, in waves that are packed already."""

    def __init__(
        self,
        spec: TableSpec,
        records: Sequence[Record],
        planned: list[Wave],
        packed: list[list[Array]],
        *,
        by_identifier: bool,
    ) -> None:
        self.records = records
        self.by_identifier = by_identifier
        self._spec = spec
        self._waves, self._packed = planned, packed
        self._diverts = False

    @property
    def named(self) -> bool:
        """Whether every record has an identifier."""
        return all(wave.named for wave in self._waves)

    @property
    def size(self) -> int:
        """Bytes of all parameters."""
        return sum(len(array.data) for arrays in self._packed for array in arrays)

    def statements(self, *, unique_index: bool, diverts: bool, loose: sql.Loose) -> Iterator[Statement]:
        """A statement for each wave. `diverts`: rows may go where the INSERT does not report them (an inheritance
        trigger), so the identities are looked up before and after it too."""
        self._diverts = diverts
        for wave, arrays in zip(self._waves, self._packed, strict=True):
            insert = sql.save_wave(self._spec, named=wave.named, unique_index=unique_index, loose=loose)
            save, look_up = Statement(insert, arrays), self._look_up(wave, arrays, loose)
            yield from (look_up, save, look_up) if diverts else (save,)

    def _look_up(self, wave: Wave, arrays: list[Array], loose: sql.Loose) -> Statement:
        columns = dict(zip(self._spec.columns, arrays, strict=True))
        if wave.named:
            return Statement(sql.find_named(self._spec.name, loose), [columns["task_identifier"]])
        return Statement(sql.find_unnamed(self._spec.name, loose), [columns[name] for name in _UNNAMED])

    def not_inserted(self, results: Sequence[PGresult]) -> list[int]:
        """The positions of the records that were not inserted, from the answers to `statements`."""
        step = 3 if self._diverts else 1
        left: list[int] = []
        for number, wave in enumerate(self._waves):
            left += self._left(wave, results[number * step : (number + 1) * step])
        return left

    def _left(self, wave: Wave, results: Sequence[PGresult]) -> list[int]:
        if len(results) > 1:
            before, _, after = results
            new = {row[0] for row in rows_of(after)} - {row[0] for row in rows_of(before)}
            return [position for number, position in enumerate(wave.positions, 1) if str(number) not in new]
        if results[0].ntuples == len(wave.positions):
            return []
        inserted = set(map(identity_of, rows_of(results[0])))
        return [position for position in wave.positions if identity(self.records[position]) not in inserted]
