"""A page of entries as Redis sent it, to be read field by field for all entries, or entry by entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import compress, repeat
from typing import Any, TypeAlias, overload

from devicevault_cli.streams import replies
from devicevault_cli.streams.model import Entry, EntryId

Columns: TypeAlias = Mapping[bytes, Sequence[bytes]]

FEW = 8
"""Of fewer entries than these it takes less time to look at each one."""

_make: Any = tuple.__new__


class Page(Sequence[Entry]):
    """Entries in the order of their ids. An Entry is made only where one is asked for.

    `ids`: of all entries. `size`: bytes of all values. `largest`: bytes that no entry of the page exceeds.
    """

    __slots__ = ("_columns", "_entries", "ids", "largest", "size")

    def __init__(self, ids: list[EntryId], content: Columns | list[Entry]) -> None:
        """`content`: the values of each field, where all entries have the same ones; else the entries."""
        self.ids = ids
        self._columns: Columns | None = None
        self._entries: list[Entry] | None = None
        if isinstance(content, list) or not ids:
            self._entries = content if isinstance(content, list) else []
            rows = [sum(map(len, entry.fields.values())) for entry in self._entries]
            self.size, self.largest = sum(rows), max(rows, default=0)
        else:
            self._columns = content
            # 0.2 us an entry; the exact size of the largest one would cost 0.5.
            sizes = [list(map(len, column)) for column in content.values()]
            self.size, self.largest = sum(map(sum, sizes)), sum(map(max, sizes))

    def column(self, name: bytes) -> Sequence[bytes]:
        """The value of a field in each entry, the last one where the name is repeated; b"" where it is absent."""
        if self._columns is None:
            return [entry.fields.get(name, b"") for entry in self]
        return self._columns.get(name) or (b"",) * len(self.ids)

    def has(self, name: bytes) -> bool:
        """Whether any entry has the field."""
        if self._columns is None:
            return any(name in entry.fields for entry in self)
        return name in self._columns

    @property
    def columns(self) -> Columns | None:
        """The values of each field; None unless all entries have the same fields in the same order, each once."""
        return self._columns

    def where(self, chosen: Sequence[bool]) -> Page:
        """The entries for which this is true."""
        if all(chosen):
            return self
        ids = list(compress(self.ids, chosen))
        if self._columns is None or not ids:
            return Page(ids, list(compress(self._all(), chosen)) if ids else [])
        return Page(ids, {name: tuple(compress(column, chosen)) for name, column in self._columns.items()})

    def _all(self) -> list[Entry]:
        if self._entries is None:
            columns = self._columns or {}
            rows = zip(*columns.values(), strict=True)
            fields = (dict(zip(columns, row, strict=True)) for row in rows)
            self._entries = list(map(_make, repeat(Entry), zip(self.ids, fields, strict=True)))
        return self._entries

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, which: int) -> Entry: ...
    @overload
    def __getitem__(self, which: slice) -> Page: ...
    def __getitem__(self, which: int | slice) -> Entry | Page:
        if isinstance(which, int):
            return self._all()[which]
        if self._columns is None:
            return Page(self.ids[which], self._all()[which])
        return Page(self.ids[which], {name: column[which] for name, column in self._columns.items()})


def page(reply: Any) -> Page:
    """Entries as Redis sends them. Raises one of Python's errors for a reply of another shape."""
    if reply and len(reply) >= FEW:
        keys, fields = zip(*reply, strict=True)
        columns = _columns(fields)
        if columns is not None:
            return Page(_entry_ids(keys), columns)
    return page_of(replies.entries(reply or ()))


def page_of(entries: list[Entry]) -> Page:
    """A page of entries that exist already."""
    return Page([entry.id for entry in entries], entries)


def page_of_one_stream(reply: Any) -> Page:
    """The entries in an answer of XREADGROUP that asked for one stream."""
    return page(reply[0][1] if reply else None)


def _columns(fields: Sequence[Any]) -> Columns | None:
    """The values of each field; None unless all entries have the same names in the same order, and each once.

    The entries of one version of one program are so. With its id 0.9 us an entry; making an Entry takes 1.5.
    """
    if set(map(type, fields)) != {list} or len(set(map(len, fields))) > 1:
        return None
    parts = list(zip(*fields, strict=True))
    names, values = parts[::2], parts[1::2]
    if not values or any(column.count(column[0]) != len(fields) for column in names):
        return None
    columns = dict(zip((column[0] for column in names), values, strict=True))
    return columns if len(columns) == len(names) else None


def _entry_ids(keys: Sequence[bytes]) -> list[EntryId]:
    """The ids, well-formed by origin: 0.4 us each instead of 0.7."""
    numbers = list(map(int, b"-".join(keys).split(b"-")))
    return list(map(_make, repeat(EntryId), zip(numbers[::2], numbers[1::2], strict=True)))
