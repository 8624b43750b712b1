"""Cutting what is long into lists of a size that one statement or script can take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

PAGE = 1000
"""Rows or identities asked for in one statement."""


def paged(items: Iterable[T], size: int = PAGE) -> Iterator[list[T]]:
    """Lists of at most `size`."""
    remaining = iter(items)
    while page := list(islice(remaining, size)):
        yield page
