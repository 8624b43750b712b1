"""PostgreSQL's binary format for arrays: one parameter carries a column of a whole batch.

Text arrays made by a general dumper cost more than the insert itself; these are joined by C code.
Layout (src/backend/utils/adt/arrayfuncs.c, array_recv): number of dimensions, has-null flag, element type,
length, lower bound, then each element with its length, -1 for NULL. Everything is big-endian.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from struct import Struct, error
from typing import NamedTuple

from devicevault_cli.records import Micros

_HEADER = Struct(">iiIii")
_LENGTH = Struct(">i")
_SHORT = [_LENGTH.pack(length) for length in range(1024)]
"""The lengths of short texts, packed: 0.03 us a text instead of 0.09."""
_NULL = _LENGTH.pack(-1)
_TEXT_OID, _INT4_OID, _INT8_OID, _TIMESTAMPTZ_OID = 25, 23, 20, 1184
_TEXTS, _INT4S, _INT8S, _TIMESTAMPTZS = 1009, 1007, 1016, 1185

EPOCH: Micros = 946_684_800_000_000
"""2000-01-01, where PostgreSQL's timestamps begin."""


class Array(NamedTuple):
    """An array in binary format and the OID of its type."""

    data: bytes
    oid: int


def texts(values: Sequence[str] | Sequence[bytes]) -> Array:
    """text[], of text or of its UTF-8."""
    encoded = [value if isinstance(value, bytes) else value.encode() for value in values]
    sizes = list(map(len, encoded))
    lengths = map(_SHORT.__getitem__ if max(sizes, default=0) < len(_SHORT) else _LENGTH.pack, sizes)
    return _array(chain.from_iterable(zip(lengths, encoded, strict=True)), len(values), _TEXT_OID, _TEXTS)


def integers(values: Sequence[int | None]) -> Array:
    """bigint[], which suits columns of integer too: the server's assignment cast checks the range."""
    return _array(_packed(values, "q"), len(values), _INT8_OID, _INT8S)


def small_integers(values: Sequence[int | None]) -> Array:
    """integer[], for columns of that type, so that the server has nothing to cast; bigint[] where a value is larger."""
    try:
        return _array(_packed(values, "i"), len(values), _INT4_OID, _INT4S)
    except error:
        return integers(values)


def instants(values: Sequence[Micros | None]) -> Array:
    """timestamptz[]"""
    moved = [None if value is None else value - EPOCH for value in values]
    return _array(_packed(moved, "q"), len(values), _TIMESTAMPTZ_OID, _TIMESTAMPTZS)


def _packed(values: Sequence[int | None], code: str) -> Iterable[bytes]:
    """Elements of the size that `code` has in struct. Without NULL all in one call: 0.06 us each instead of 0.2."""
    size = 4 if code == "i" else 8
    if None in values:
        pack = _elements(code, 1).pack
        return [_NULL if value is None else pack(size, value) for value in values]
    flat = [size] * (2 * len(values))
    flat[1::2] = values  # type: ignore[assignment]
    return (_elements(code, len(values)).pack(*flat),)


@lru_cache(64)
def _elements(code: str, count: int) -> Struct:
    return Struct(">" + f"i{code}" * count)


def _array(elements: Iterable[bytes], length: int, element: int, oid: int) -> Array:
    # The flag that NULLs may occur costs nothing; without any element there is no dimension.
    header = _HEADER.pack(1, 1, element, length, 1) if length else _HEADER.pack(0, 0, element, 0, 0)[:12]
    return Array(b"".join(chain((header,), elements)), oid)
