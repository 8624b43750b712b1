"""Batches that are saved while the next one is prepared: every record gets its outcome, on every database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from devicevault_cli.errors import Unavailable
from devicevault_cli.messages import Rejected
from devicevault_cli.operations.save import Outcome, save_batches
from devicevault_cli.records import Record
from devicevault_cli.repository.repository import Repository
from tests.support.records import result
from tests.support.recovering import table_at

TOO_LONG = "x" * 17


def outcomes(table: Repository, batches: Sequence[Sequence[Record]]) -> list[list[str]]:
    """In words; each with the number of its batch, to see that they come in order."""
    answered = list(save_batches(table, enumerate(batches)))
    assert [number for number, _ in answered] == list(range(len(batches)))
    return [[word(each) for each in found] for _, found in answered]


def word(outcome: Outcome) -> str:
    return outcome.reason if isinstance(outcome, Rejected) else outcome.outcome


def test_each_record_gets_its_outcome(database_url: str) -> None:
    with table_at(database_url) as table:
        batches = [[result("a"), result("b", device=999)], [], [result("a"), result("c"), result("c")], [result("d")]]
        assert outcomes(table, batches) == [
            ["inserted", "unknown-device"],
            [],
            ["duplicate", "inserted", "duplicate"],
            ["inserted"],
        ]
        assert table.count() == 3


def test_a_record_that_the_database_refuses_stands_alone(database_url: str) -> None:
    # SQLite checks no length.
    refused = "inserted" if database_url.startswith("sqlite") else "database-rejected"
    with table_at(database_url) as table:
        bad = [result("a"), result("b", status=TOO_LONG), result("c")]
        found = outcomes(table, [bad, [result("d")], [result("e", status=TOO_LONG)]])
        assert found == [["inserted", refused, "inserted"], ["inserted"], [refused]]


def test_an_outage_ends_it_and_what_was_committed_is_found_again(database_url: str) -> None:
    """The batch under way may be saved without having been answered: the next run finds it as a duplicate."""

    def batches() -> Iterator[tuple[int, list[Record]]]:
        yield 0, [result("a")]
        yield 1, [result("b")]
        raise Unavailable("Redis went away")

    with table_at(database_url) as table:
        answered = []
        with pytest.raises(Unavailable):
            for number, found in save_batches(table, batches()):
                answered += [(number, word(each)) for each in found]
        assert answered == [(0, "inserted")]
        (again,) = outcomes(table, [[result("a"), result("b")]])
        assert again[0] == "duplicate"
        assert table.count() == 2
