"""What is remembered of a database server: from where on entries are looked up after a fail-over."""

from __future__ import annotations

import pytest

from devicevault_cli.errors import Refused, Unavailable
from devicevault_cli.repository.errors import from_libpq_attempts
from devicevault_cli.repository.model import Server
from devicevault_cli.streams.model import EntryId
from devicevault_cli.streams.written_to import Mark, WrittenTo

MINUTE = 60_000


def marked(*minutes: int, recheck: int = 10) -> WrittenTo:
    """A mark in each of these minutes, at the entry of that number."""
    known = WrittenTo("7", 1, "0/1", recheck * MINUTE)
    for minute in minutes:
        known = known.with_mark(Mark(minute * MINUTE, EntryId(minute, 0)))
    return known


@pytest.mark.parametrize(
    ("minutes", "first"),
    [
        ((0,), 0),
        (range(6), 0),
        (range(30), 19),
        ((0, 100, 101), 0),  # nothing was saved in between
        ((0, 100, 101, 111), 101),
    ],
)
def test_entries_are_looked_up_back_from_the_last_mark(minutes: tuple[int, ...], first: int) -> None:
    """However long ago that is: while the database is away nothing is saved, and no mark is set."""
    assert marked(*minutes).recheck_from == EntryId(first, 0)


def test_marks_that_are_not_needed_any_more_go() -> None:
    assert [mark.id.ms for mark in marked(*range(30)).marks] == list(range(19, 30))
    assert WrittenTo("7", 1, "0/1", 0).recheck_from is None


@pytest.mark.parametrize(("now", "first"), [(29, 19), (35, 25), (39, 29), (40, 29), (41, None), (1000, None)])
def test_trim_keeps_what_a_fail_over_now_would_need(now: int, first: int | None) -> None:
    """A mark is set each minute while something is saved: after eleven minutes without one nothing is needed."""
    expected = None if first is None else EntryId(first, 0)
    assert marked(*range(30)).needed_from(now * MINUTE) == expected


def test_the_record_can_be_read_back() -> None:
    known = marked(1, 2, 3)
    assert WrittenTo.from_json(known.to_json()) == known


@pytest.mark.parametrize("record", ["", "[]", "{}", "nonsense", '{"system": 1}', b"\xff"])
def test_what_dvctl_did_not_write_is_nothing(record: str | bytes) -> None:
    assert WrittenTo.from_json(record) is None


def test_servers_are_told_apart_as_far_as_they_are_known() -> None:
    assert Server("7", 1, "0/1").is_same(Server("7", 1, "0/2"))
    assert not Server("7", 1).is_same(Server("7", 2))
    assert not Server("7", 1).is_same(Server("8", 1))
    assert Server("", 1).is_same(Server("8", 1)), "the user may not read the identifier"


def test_what_only_one_of_several_hosts_refuses_is_an_outage() -> None:
    wrong = ("a", "5432", 'connection failed: FATAL:  password authentication failed for user "u"')
    away = ("b", "", "connection failed: Connection refused")
    assert isinstance(from_libpq_attempts([wrong, wrong], "PostgreSQL a,b/v"), Refused)
    error = from_libpq_attempts([wrong, away], "PostgreSQL a,b/v")
    assert isinstance(error, Unavailable)
    assert "a:5432: FATAL: password authentication failed" in str(error)
    assert "b: Connection refused" in str(error)
    read_only = [("a", "1", "connection failed: session is read-only")] * 2
    assert "promote" in str(from_libpq_attempts(read_only, "PostgreSQL a,b/v").hint)
