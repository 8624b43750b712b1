"""Pages of a stream as columns, the next one asked for while one is used."""

from __future__ import annotations

import pytest

from devicevault_cli.errors import Unavailable
from devicevault_cli.streams.model import LAST, ZERO, EntryId
from devicevault_cli.streams.stream import FIRST_READ, Stream
from tests.support.consuming import good


def fill(stream: Stream, count: int) -> None:
    for number, message in enumerate(good(count), 1):
        stream.call("XADD", stream.key, f"{number}-0", *(part for pair in message.items() for part in pair))


@pytest.mark.parametrize("count", [0, 1, FIRST_READ, FIRST_READ + 1, 90])
@pytest.mark.parametrize("size", [1, 30, 1000])
def test_the_entries_are_those_of_pages(stream: Stream, count: int, size: int) -> None:
    fill(stream, count)
    for start, end in ((ZERO, LAST), (EntryId(3, 0), EntryId(count - 2, 0) if count > 2 else ZERO)):
        found = [entry for page in stream.column_pages(start, end, size) for entry in page]
        assert found == [entry for page in stream.pages(start, end, size) for entry in page]


def test_the_next_page_is_asked_for_before_it_is_wanted(stream: Stream) -> None:
    fill(stream, 3 * FIRST_READ)
    pages = stream.column_pages()
    first = next(pages)
    stream.ping()  # answered after what was sent before
    stream.call("DEL", stream.key)
    assert [len(page) for page in (first, *pages)] == [FIRST_READ, 2 * FIRST_READ]


def test_a_reading_that_is_left_early_gives_its_connection_back(stream: Stream) -> None:
    fill(stream, 3 * FIRST_READ)
    before = len(stream.call("CLIENT", "LIST").splitlines())
    for _ in range(5):
        pages = stream.column_pages()
        next(pages)
        pages.close()
    assert stream.range(count=1)[0].id == EntryId(1, 0)
    assert len(stream.call("CLIENT", "LIST").splitlines()) <= before + 1


def test_the_last_id_there_can_be(stream: Stream) -> None:
    fill(stream, 1)
    stream.call("XADD", stream.key, str(LAST), "a", "b")
    assert [page.ids for page in stream.column_pages(count=1)] == [[EntryId(1, 0)], [LAST]]


def test_a_connection_that_is_lost_meanwhile_is_an_outage(stream: Stream) -> None:
    fill(stream, 3 * FIRST_READ)
    pages = stream.column_pages()
    next(pages)
    stream.client.connection_pool.disconnect()
    with pytest.raises(Unavailable):
        next(pages)
