"""Records of one table as columns: what a page brings and an INSERT takes; a record is made where one is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, compress, repeat
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias, overload

from devicevault_cli.records import Record

Column: TypeAlias = Sequence[Any]
"""The values of one field: bytes in UTF-8 for text, else integers and None."""

_make: Any = tuple.__new__


class RecordKeys(NamedTuple):
    """What is compared of records and their rows, as columns of the same length. Texts are UTF-8."""

    task_identifier: Sequence[bytes]
    device_id: Sequence[int]
    status: Sequence[bytes]

    def where(self, chosen: Sequence[bool]) -> RecordKeys:
        """The keys for which this is true."""
        identifiers, devices, statuses = self
        return RecordKeys(
            list(compress(identifiers, chosen)), list(compress(devices, chosen)), list(compress(statuses, chosen))
        )


class RecordColumns(Sequence[Record]):
    """A sequence of records. `columns`: one for each field of `kind`, in order, all of the same length."""

    __slots__ = ("columns", "kind")

    def __init__(self, kind: type[Record], columns: Sequence[Column]) -> None:
        self.kind = kind
        self.columns = columns

    @classmethod
    def of(cls, kind: type[Record], records: Iterable[Record]) -> RecordColumns:
        """The same records as columns."""
        columns = list(zip(*records, strict=True)) or [() for _ in kind._fields]
        return cls(kind, [_encoded(column) for column in columns])

    def column(self, name: str) -> Column:
        """The column of a field."""
        return self.columns[self.kind._fields.index(name)]

    def texts(self, name: str) -> Sequence[str]:
        """The column of a text field, decoded."""
        return decoded(self.column(name))

    def take(self, positions: Sequence[int]) -> RecordColumns:
        """The records at these positions, in their order."""
        return RecordColumns(self.kind, [[column[position] for position in positions] for column in self.columns])

    def __len__(self) -> int:
        return len(self.columns[0])

    @overload
    def __getitem__(self, which: int) -> Record: ...
    @overload
    def __getitem__(self, which: slice) -> RecordColumns: ...
    def __getitem__(self, which: int | slice) -> Record | RecordColumns:
        if isinstance(which, slice):
            return RecordColumns(self.kind, [column[which] for column in self.columns])
        values = map(itemgetter(which), self.columns)
        record: Record = self.kind._make(value.decode() if isinstance(value, bytes) else value for value in values)
        return record

    def __iter__(self) -> Iterator[Record]:
        return map(_make, repeat(self.kind), zip(*map(decoded, self.columns), strict=True))

    def __repr__(self) -> str:
        return f"RecordColumns({len(self)} {self.kind.__name__})"


def joined(parts: Sequence[Sequence[Record]]) -> Sequence[Record]:
    """The records of all parts, in order: as columns if any part is so."""
    kind = next((part.kind for part in parts if isinstance(part, RecordColumns)), None)
    if kind is None:
        return list(chain.from_iterable(parts))
    if len(parts) == 1:
        return parts[0]
    given = (part if isinstance(part, RecordColumns) else RecordColumns.of(kind, part) for part in parts)
    columns = zip(*(part.columns for part in given), strict=True)
    return RecordColumns(kind, [list(chain.from_iterable(column)) for column in columns])


def joined_keys(parts: Sequence[RecordKeys]) -> RecordKeys:
    """The keys of all parts, in order."""
    if len(parts) == 1:
        return parts[0]
    return RecordKeys(
        list(chain.from_iterable(part.task_identifier for part in parts)),
        list(chain.from_iterable(part.device_id for part in parts)),
        list(chain.from_iterable(part.status for part in parts)),
    )


def _encoded(column: Column) -> Column:
    return list(map(str.encode, column)) if column and isinstance(column[0], str) else column


def decoded(column: Column) -> Column:
    """A column as the records have it: text is decoded."""
    return list(map(bytes.decode, column)) if column and isinstance(column[0], bytes) else column
