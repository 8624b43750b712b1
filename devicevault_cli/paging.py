"""Long sequences a page at a time: cut into pages, and read one page ahead."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

ROWS_PER_STATEMENT = 1000
"""Rows or identities asked for in one statement."""


def paged(items: Iterable[T], size: int = ROWS_PER_STATEMENT) -> Iterator[list[T]]:
    """Lists of at most `size`."""
    remaining = iter(items)
    while page := list(islice(remaining, size)):
        yield page


def read_ahead(pages: Iterator[T]) -> Generator[T, None, None]:
    """The same pages, read by a thread, one page ahead. Close the generator where it may be left early."""
    with ThreadPoolExecutor(1, "read-ahead") as reader:
        coming = reader.submit(next, pages, None)
        while (page := coming.result()) is not None:
            coming = reader.submit(next, pages, None)
            yield page
