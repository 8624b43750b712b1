"""The next page is read while the last one is worked on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from devicevault_cli.paging import read_ahead


def test_the_pages_come_in_order_and_one_ahead() -> None:
    asked: list[int] = []
    second = threading.Event()

    def pages() -> Iterator[list[int]]:
        for number in range(3):
            asked.append(number)
            if number == 1:
                second.set()
            yield [number] if number else []

    found: list[list[int]] = []
    for page in read_ahead(pages()):
        if not found:
            assert second.wait(60), "nobody reads while the first page is worked on"
        found.append(page)
    assert found == [[], [1], [2]]
    assert asked == [0, 1, 2]


def test_what_goes_wrong_is_raised_where_the_pages_are_used() -> None:
    def pages() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    found = []
    with pytest.raises(ValueError, match="no more"):
        for page in read_ahead(pages()):
            found.append(page)  # noqa: PERF402  that it came is the point
    assert found == [1]


def test_left_early_it_leaves_no_thread_behind() -> None:
    with closing(read_ahead(iter(range(100)))) as pages:
        assert next(pages) == 0
    assert not [each for each in threading.enumerate() if each.name.startswith("read-ahead")]
