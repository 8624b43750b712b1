"""Reading ahead: the next page is on its way while the last one is worked on."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def read_ahead(pages: Iterator[T]) -> Generator[T, None, None]:
    """The same pages, read by a thread of its own, one ahead. Close it where it may be left early."""
    with ThreadPoolExecutor(1, "read-ahead") as reader:
        coming = reader.submit(next, pages, None)
        while (page := coming.result()) is not None:
            coming = reader.submit(next, pages, None)
            yield page
