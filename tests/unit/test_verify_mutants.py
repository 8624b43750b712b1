"""Each rule of verify broken on purpose: the seeded numbers must show it, for every class of entries and rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import fakeredis
import pytest

from devicevault_cli.operations.verify import classes, scan
from devicevault_cli.operations.verify.classes import ClassifiedEntry, Classifier
from devicevault_cli.operations.verify.rows import IdSet
from devicevault_cli.operations.verify.verify import verify
from devicevault_cli.pipelines import STORAGE
from devicevault_cli.repository import open_repository, tables
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.stream import Stream
from tests.support.verifying import Seeded, seed, stored

Break = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture
def seeded(sqlite_url: str) -> Iterator[Seeded]:
    """Every class of `storage`; one row twice, two that speak of another status, four that no entry accounts for,
    one of these among entries that exist."""
    with (
        closing(fakeredis.FakeRedis()) as client,
        closing(open_repository(sqlite_url, tables.STORAGE)) as repository,
    ):
        seeded = seed(Stream(client, "storage:results"), repository, STORAGE)
        trimmed = stored(4)
        seeded.save(seeded.add("trimmed", trimmed), trimmed)
        seeded.stream.call("XDEL", seeded.stream.key, *map(str, seeded.ids["trimmed"]))
        columns = ", ".join(repository.spec.columns)
        with closing(sqlite3.connect(repository.url.name)) as connection, connection:
            name = repository.spec.name
            connection.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {name} WHERE id = 5")
            connection.execute(f"UPDATE {name} SET status = 'failure' WHERE id IN (7, 8)")
            among = f"(SELECT timestamp FROM {name} WHERE id = 6)"
            connection.execute(f"UPDATE {name} SET timestamp = {among} WHERE id = {seeded.rows}")
        yield seeded


def found(seeded: Seeded) -> dict[str, Any]:
    answer = verify(seeded.group, seeded.pipeline, seeded.repository, deep=True).to_dict()
    rest = {"gone": answer["pending_gone"], "reasons": answer["lost_reasons"]}
    return {**answer["classes"], **answer["rows"], **rest}


def wanted(seeded: Seeded) -> dict[str, Any]:
    rows = {"rows": seeded.rows + 1, "duplicate_rows": 1, "conflicting": 2}
    rows |= {"rows_without_entry": 4, "rows_without_entry_in_range": 1}
    return seeded.expected | rows | {"gone": 2, "reasons": dict(seeded.reasons)}


def test_without_a_mutant_the_numbers_are_the_seeded_ones(seeded: Seeded) -> None:
    assert found(seeded) == wanted(seeded)
    assert all(count for name, count in wanted(seeded).items() if name != "reasons")


def forgets(name: str, value: Callable[[Classifier], object]) -> Break:
    """What was known before the scan is forgotten."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        original = Classifier.__init__

        def forgetful(classifier: Classifier, group: Group, pipeline: Any, repository: Repository) -> None:
            original(classifier, group, pipeline, repository)
            setattr(classifier, name, value(classifier))

        patch.setattr(Classifier, "__init__", forgetful)

    return apply


def replaces(where: object, name: str, by: object) -> Break:
    return lambda patch: patch.setattr(where, name, by)


def not_pending(patch: pytest.MonkeyPatch) -> None:
    """In neither look."""
    page = Classifier.page
    patch.setattr(Classifier, "page", lambda classifier, entries, _: page(classifier, entries, ()))
    patch.setattr(Classifier, "_delivered_now", lambda classifier, _: (classifier.position, ()))


def everything_passed(patch: pytest.MonkeyPatch) -> None:
    """The group's position is taken for the end of the stream."""
    forgets("position", lambda classifier: classifier.stream.last_generated_id if classifier.stream else None)(patch)
    delivered = Classifier._delivered_now
    patch.setattr(
        Classifier, "_delivered_now", lambda classifier, ids: (classifier.position, delivered(classifier, ids)[1])
    )


MUTANTS: dict[str, list[Break]] = {
    "persisted": [replaces(Repository, "find", lambda self, records: [[] for _ in records])],
    "dead": [forgets("dead", lambda _: set()), replaces(classes, "dead_among", lambda group, ids: set())],
    "discarded": [
        forgets("discarded", lambda _: set()),
        replaces(classes, "discarded_among", lambda group, ids: set()),
    ],
    "pending": [not_pending],
    "undelivered": [everything_passed],
    "skipped": [replaces(classes, "Skipped", type("Never", (), {}))],
    "lost": [replaces(classes, "LOST", frozenset()), forgets("discarded", lambda _: AllIds())],
    "lost_invalid": [replaces(classes, "_check_valid", lambda entry, *_: entry._replace(entry_class="lost"))],
    "gone": [replaces(scan, "_still_gone", lambda group, candidates: [])],
    "conflicting": [replaces(ClassifiedEntry, "conflicts", False)],
    "duplicate_rows": [replaces(Repository, "surplus", lambda self: 0)],
    "rows_without_entry": [replaces(IdSet, "__contains__", lambda self, number: True)],
    "rows_without_entry_in_range": [
        replaces(Repository, "times_after", lambda self, after: [(row, 0) for row in self.ids_after(after)])
    ],
}


class AllIds:
    """Has every id."""

    def __contains__(self, key: object) -> bool:
        return True


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_rule_is_caught(seeded: Seeded, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in MUTANTS[name]:
        each(monkeypatch)
    broken = found(seeded)
    assert broken[name] != wanted(seeded)[name]
