"""The contract of the repository library, the same on SQLite, every PostgreSQL and MariaDB."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from devicevault_cli.errors import DvctlError, SchemaMismatch, Unavailable
from devicevault_cli.record_columns import RecordColumns
from devicevault_cli.records import INT4_MAX, LATEST, Record, StorageResult
from devicevault_cli.repository import open_repository
from devicevault_cli.repository.model import Duplicate, Existing, Saved
from devicevault_cli.repository.repository import Repository
from devicevault_cli.repository.tables import RESULTS, STORAGE
from tests.support import django_models
from tests.support.records import DISTINCT, T0, as_django, execute, insert, result, stored

NULLS: dict[str, Any] = {"initiated_at": None, "collection_duration_ms": None, "overall_duration_ms": None}
LOGS = (
    "[]",
    '["<b>x</b>", "Robert\'); DROP TABLE devices_device;--", "50%s %d ? :1 $1 \\\\ \\u0000 \\ud800"]',
    '["line\\nfeed", "\x1b[31mred\x1b[0m", "\u202eright to left", "😀 \U0010ffff é e\u0301"]',
    '["tab\there", " trailing "]   \n',
    '["' + "x" * 3_000_000 + '"]',
)


@pytest.fixture
def repository(database_url: str) -> Iterator[Repository]:
    opened = open_repository(database_url, RESULTS)
    opened.check()
    yield opened
    opened.close()


@pytest.fixture
def storage(database_url: str) -> Iterator[Repository]:
    opened = open_repository(database_url, STORAGE)
    opened.check()
    yield opened
    opened.close()


def outcomes(saved: list[Saved]) -> list[str]:
    return [each.outcome for each in saved]


# --- saving


def written_by(repository: Repository, records: Sequence[Record]) -> tuple[list[Any], list[dict[str, Any]]]:
    """What became of records, and the rows that they left; the table is empty again afterwards."""
    saved = [(each.outcome, each.existing and each.existing[1:]) for each in repository.save(records)]
    rows = repository.fetch(repository.ids_after(0))
    repository.remove(list(rows))
    return saved, [{name: value for name, value in row.items() if name != "id"} for row in rows.values()]


@pytest.mark.parametrize("indexed", [False, True], ids=["", "unique index"])
def test_columns_are_saved_as_their_records_are(repository: Repository, storage: Repository, indexed: bool) -> None:
    if indexed and not repository.index_obstacle():
        repository.create_index()
    nulls = result("nulls", **NULLS)
    named = [*map(result, DISTINCT), nulls, result("largest", collection_duration_ms=INT4_MAX, overall_duration_ms=0)]
    others = [result("collect:1", 2), result("", task_id=""), result("", task_id=""), result("elsewhere", 999), nulls]
    backups = [*map(stored, DISTINCT), stored("null", storage_duration_ms=None), stored("long", log=LOGS[-1])]
    for opened, records in ((repository, named), (repository, named + others), (storage, backups), (storage, [])):
        columns = RecordColumns.of(opened.spec.record, records)
        assert list(columns) == list(records)
        assert written_by(opened, columns) == written_by(opened, records)


def test_rows_read_back_through_the_orm_as_they_were_written(database_url: str, repository: Repository) -> None:
    records = [result(f"log-{number}", log=log) for number, log in enumerate(LOGS)]
    records += [result(key) for key in DISTINCT]
    records += [
        result("", task_id=""),
        result("nulls", **NULLS),
        result("epoch", timestamp=0, initiated_at=-1),
        result("whole second", timestamp=T0 // 1_000_000 * 1_000_000),
        result("latest", timestamp=LATEST, initiated_at=LATEST),
        result("numbers", collection_duration_ms=INT4_MAX, overall_duration_ms=0),
        result("x" * 128, task_id="é" * 64, status="s" * 16),
    ]
    assert outcomes(repository.save(records)) == ["inserted"] * len(records)
    found = {row.pop("task_identifier"): row for row in django_models.read(database_url)}
    assert len(found) == len(records)
    for record in records:
        written = as_django(record)
        row = found[written.pop("task_identifier")]
        row.pop("id")
        assert row == written


def test_storage_rows_read_back_through_the_orm(database_url: str, storage: Repository) -> None:
    records = [stored("a"), stored("b", storage_duration_ms=None, storage_ref="é" * 256, storage_backend="b" * 32)]
    assert outcomes(storage.save(records)) == ["inserted", "inserted"]
    found = django_models.read(database_url, django_models.StoredBackup)
    assert [{name: row[name] for name in StorageResult._fields} for row in found] == [
        as_django(each) for each in records
    ]


def test_each_record_gets_its_own_outcome_in_order(repository: Repository) -> None:
    repository.save([result("there", device=2)])
    saved = repository.save([result("new"), result("there"), result("nobody", device=9999), result("other", device=3)])
    assert outcomes(saved) == ["inserted", "duplicate", "unknown-device", "inserted"]
    assert saved[1].existing is not None
    assert (saved[1].existing.device_id, saved[1].existing.status) == (2, "success")
    assert [each.existing for each in saved if each.outcome != "duplicate"] == [None] * 3


def test_an_unknown_device_comes_before_a_duplicate(repository: Repository) -> None:
    repository.save([result("a")])
    assert outcomes(repository.save([result("a", device=9999)])) == ["unknown-device"]


def test_saving_nothing_is_nothing(repository: Repository) -> None:
    save = repository.submit([])
    assert save.wait(0)
    assert save.result() == []


def test_repeats_within_a_batch_find_the_row_of_the_first(repository: Repository) -> None:
    batch = [result("a", device=9999), result("a", device=2), result("b"), result("a", device=3, status="failure")]
    batch += [result("a"), result("b")]
    saved = repository.save(batch)
    assert outcomes(saved) == ["unknown-device", "inserted", "inserted", "duplicate", "duplicate", "duplicate"]
    [[row]] = repository.find([result("a")])
    assert (row.device_id, row.status) == (2, "success")
    assert saved[3].existing == saved[4].existing == row
    assert repository.count() == 2


def test_identifiers_that_collations_equate_are_distinct(repository: Repository) -> None:
    for _ in range(2):
        for key in DISTINCT:
            repository.save([result(key)])
    assert repository.count() == len(DISTINCT)
    assert [len(found) for found in repository.find([result(key) for key in DISTINCT])] == [1] * len(DISTINCT)
    assert outcomes(repository.save([result(key) for key in DISTINCT])) == ["duplicate"] * len(DISTINCT)


def test_spaces_are_an_identifier(repository: Repository) -> None:
    same: dict[str, Any] = {"task_id": "t", "log": "[]"}
    assert (
        outcomes(repository.save([result("", **same), result(" ", **same), result("  ", **same)])) == ["inserted"] * 3
    )
    assert (
        outcomes(repository.save([result("", **same), result(" ", **same), result("  ", **same)])) == ["duplicate"] * 3
    )


@pytest.mark.parametrize("task_id", ["", "t"])
def test_without_an_identifier_five_values_are_the_identity(repository: Repository, task_id: str) -> None:
    first = result("", task_id=task_id)
    others = [
        first._replace(device_id=2),
        first._replace(task_id=task_id + "T"),
        first._replace(timestamp=T0 + 1),
        first._replace(status="failure"),
        first._replace(status="Success"),
        first._replace(log='["other"]'),
        first._replace(log=first.log + " "),
    ]
    same = first._replace(initiated_at=None, collection_duration_ms=None, overall_duration_ms=7)
    saved = repository.save([first, *others, same])
    assert outcomes(saved) == ["inserted"] * 8 + ["duplicate"]
    assert outcomes(repository.save([first, *others, same])) == ["duplicate"] * 9
    assert repository.count() == 8


def test_a_record_without_identifier_is_no_duplicate_of_one_with(repository: Repository) -> None:
    assert outcomes(repository.save([result("a", task_id="t"), result("", task_id="t")])) == ["inserted"] * 2


def test_of_several_rows_the_lowest_id_answers(database_url: str, repository: Repository) -> None:
    insert(database_url, [result("a", device=3), result("a", device=4), result("b")])
    [[first, second], [_], []] = repository.find([result("a"), result("b"), result("c")])
    assert (first.device_id, second.device_id) == (3, 4)
    assert first.id < second.id
    assert repository.save([result("a")]) == [Saved("duplicate", first)]


def test_a_thousand_in_one_batch_twice(repository: Repository) -> None:
    batch = [result(f"key-{number}", device=number % 50 + 1) for number in range(1000)]
    assert set(outcomes(repository.save(batch))) == {"inserted"}
    again = repository.save([*batch[500:], *(result(f"more-{number}") for number in range(500))])
    assert outcomes(again) == ["duplicate"] * 500 + ["inserted"] * 500
    found = repository.find(batch)
    assert [[Existing(*each) for each in row] for row in found[500:]] == [[each.existing] for each in again[:500]]
    assert repository.count() == 1500


def test_the_next_batch_may_be_submitted_before_the_last_is_asked_for(repository: Repository) -> None:
    first = repository.submit([result("a"), result("b")])
    second = repository.submit([result("b"), result("c")])
    while not second.wait(0.1):
        pass
    assert outcomes(second.result()) == ["duplicate", "inserted"]
    assert first.wait(0)
    assert outcomes(first.result()) == ["inserted", "inserted"]
    assert outcomes(first.result()) == ["inserted", "inserted"]


def test_a_save_that_nobody_asks_for_is_saved_nevertheless(database_url: str, repository: Repository) -> None:
    repository.submit([result("a")])
    assert repository.count() == 1
    other = open_repository(database_url, RESULTS)
    assert other.count() == 1
    other.close()


# --- storage


def test_a_stored_backup_sets_the_overall_duration_of_its_collection(
    storage: Repository, repository: Repository
) -> None:
    began = T0 - 1_500_000
    repository.save(
        [
            result("stored", overall_duration_ms=1, initiated_at=began),
            result("failed", overall_duration_ms=1),
            result("no start", overall_duration_ms=1, initiated_at=None),
            result("negative", overall_duration_ms=1, initiated_at=T0 + 9_000_000),
            result("too long", overall_duration_ms=1, initiated_at=T0 - (INT4_MAX + 2000) * 1000),
            result("Stored", overall_duration_ms=1),
            result("", overall_duration_ms=1),
        ]
    )
    saved = storage.save(
        [
            stored("stored", timestamp=T0 + 500_999),
            stored("failed", status="failure"),
            stored("no start"),
            stored("negative"),
            stored("too long"),
            stored("no collection"),
            stored(""),
            stored("stored", timestamp=T0 + 9_999_999),
        ]
    )
    assert outcomes(saved) == ["inserted"] * 7 + ["duplicate"]
    durations = {row["task_identifier"]: row["overall_duration_ms"] for row in repository.fetch(range(1, 8)).values()}
    assert durations.pop("stored") == 2000
    assert set(durations.values()) == {1}


def test_of_several_collections_the_newest_gets_the_duration(
    database_url: str, storage: Repository, repository: Repository
) -> None:
    times = {"a": (T0, T0 + 9, T0 - 9), "b": (T0, T0, T0 - 9)}
    for name, timestamps in times.items():
        insert(database_url, [result(name, overall_duration_ms=1, timestamp=time) for time in timestamps])
    storage.save([stored("a"), stored("b")])
    storage.save([stored("a", timestamp=T0 + 9_000_000)])
    durations = [row["overall_duration_ms"] for row in repository.fetch(range(1, 7)).values()]
    assert durations == [1, 2000, 1, 1, 2000, 1], "of the same time, the highest id"


# --- reading


def test_counts_and_the_latest_time(repository: Repository) -> None:
    assert (repository.count(), repository.latest_timestamp()) == (0, None)
    repository.save([result("a", timestamp=T0 + 5), result("b"), result("c", timestamp=T0 + 1)])
    assert (repository.count(), repository.latest_timestamp()) == (3, T0 + 5)


def test_known_devices(repository: Repository) -> None:
    assert repository.known_devices([1, 50, 51, 9999, 1]) == {1, 50}
    assert repository.known_devices([]) == set()
    assert repository.known_devices(range(1, 5000)) == set(range(1, 51))


def test_whole_rows_come_back_as_records_went_in(repository: Repository) -> None:
    records = [result("a"), result("b", **NULLS), result("c", timestamp=0)]
    repository.save(records)
    ids = [found[0].id for found in repository.find(records)]
    assert repository.fetch([*ids, 999_999]) == {
        row_id: {"id": row_id, **record._asdict()} for row_id, record in zip(ids, records, strict=True)
    }
    assert repository.fetch([]) == {}


def test_duplicates_are_grouped_in_the_database(database_url: str, repository: Repository) -> None:
    nameless = result("", task_id="t", log='["é"]')
    insert(
        database_url,
        [result(key) for key in DISTINCT]
        + [result("a"), result("a", device=2), result("b"), result("a", status="failure"), result("b ")]
        + [nameless, nameless._replace(overall_duration_ms=None), nameless._replace(log='["e"]')]
        + [result(" "), result("  ")],
    )
    first = len(DISTINCT) + 1
    identity = (1, "t", T0, "success", '["é"]')
    assert repository.duplicates() == [
        Duplicate("a", [first, first + 1, first + 3]),
        Duplicate(identity, [first + 5, first + 6]),
    ]
    assert repository.surplus() == 3
    assert len(repository.duplicates(1)) == 1


def test_no_duplicates_in_an_empty_table(repository: Repository) -> None:
    assert (repository.duplicates(), repository.surplus()) == ([], 0)


# --- the state of the database


def test_check_knows_the_size_of_the_key(repository: Repository) -> None:
    assert repository.device_id_max == INT4_MAX
    assert repository.unique_index is False


@pytest.mark.parametrize("spec", [RESULTS, STORAGE])
def test_a_database_without_tables_is_named(empty_database_url: str, spec: Any) -> None:
    repository = open_repository(empty_database_url, spec)
    for attempt in (repository.check, lambda: repository.save([result("a")]), repository.count):
        with pytest.raises(SchemaMismatch, match=f"{spec.name}|devices_device"):
            attempt()
    repository.close()


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("devices_devicebackupresult", "collection_duration_ms"),
        ("devices_devicebackupresult", "initiated_at"),
        ("backups_storedbackup", "storage_ref"),
    ],
)
def test_a_missing_column_is_named_before_and_while_saving(database_url: str, table: str, column: str) -> None:
    spec = STORAGE if table == STORAGE.name or column == "initiated_at" else RESULTS
    repository = open_repository(database_url, spec)
    repository.check()
    record = result("a") if spec is RESULTS else stored("a")
    repository.save([record])
    execute(database_url, f"ALTER TABLE {table} RENAME COLUMN {column} TO was_{column}")
    with pytest.raises(SchemaMismatch):
        repository.save([record._replace(task_identifier="b")])
    with pytest.raises(SchemaMismatch, match=rf"{table} has no column {column}"):
        repository.check()
    execute(database_url, f"ALTER TABLE {table} RENAME COLUMN was_{column} TO {column}")
    assert outcomes(repository.save([record, record._replace(task_identifier="b")])) == ["duplicate", "inserted"]
    repository.close()


def test_the_tables_are_those_that_django_creates(empty_database_url: str, database_backend: Any) -> None:
    repository = open_repository(empty_database_url, RESULTS)
    repository.create_tables()
    repository.add_devices(3)
    repository.check()
    assert outcomes(repository.save([result("a", device=3), result("b", device=4)])) == ["inserted", "unknown-device"]
    with pytest.raises(DvctlError, match=r"has tables already: .*devices_device"):
        repository.create_tables()
    repository.close()
    theirs = database_backend.database(empty=True)
    django_models.create(theirs)
    assert django_models.describe(empty_database_url) == django_models.describe(theirs)
    database_backend.drop(theirs)


def test_the_unique_index_keeps_other_writers_out(database_url: str, repository: Repository) -> None:
    insert(database_url, [result("a"), result("a"), result(""), result("")])
    refused = repository.create_index()
    assert (refused.created, refused.duplicates) == (False, [Duplicate("a", [1, 2])])
    assert [repository.unique_index] == [False]
    execute(database_url, "DELETE FROM devices_devicebackupresult WHERE id = 2")
    assert repository.create_index().created
    assert repository.unique_index
    assert not repository.create_index().created
    with pytest.raises(Exception, match=r"(?i)unique|1062"):
        insert(database_url, [result("a")])
    insert(database_url, [result("")])
    batch = [result("b"), result("a"), result("b"), result("B"), result("c", device=9999), result("", device=2)]
    expected = ["inserted", "duplicate", "duplicate", "inserted", "unknown-device", "inserted"]
    assert outcomes(repository.save(batch)) == expected
    assert [len(found) for found in repository.find(batch)] == [1, 1, 1, 1, 0, 1]


def test_after_close_the_next_call_connects_again(repository: Repository) -> None:
    repository.save([result("a")])
    repository.close()
    assert repository.count() == 1
    repository.close()
    assert outcomes(repository.save([result("a")])) == ["duplicate"]


def test_no_message_shows_what_is_in_a_record(database_url: str, repository: Repository) -> None:
    execute(database_url, "ALTER TABLE devices_devicebackupresult RENAME COLUMN log TO was_log")
    with pytest.raises(DvctlError) as caught:
        repository.save([result("identifier-secret", log='["log-secret"]', task_id="task-secret")])
    shown = f"{caught.value} {caught.value.hint} {caught.value!r}"
    assert "secret" not in shown
    assert "\n" not in shown


def test_an_unknown_host_or_file_is_unavailable(tmp_path: Any) -> None:
    for url in ("postgresql://nobody:pw-secret@127.0.0.1:1/x", "mysql://nobody:pw-secret@127.0.0.1:1/x"):
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1/x") as caught:
            open_repository(url, RESULTS).check()
        assert "secret" not in f"{caught.value} {caught.value.hint}"
    with pytest.raises(Unavailable, match="cannot be opened"):
        open_repository(f"sqlite:///{tmp_path}/absent.db", RESULTS).check()
    assert not (tmp_path / "absent.db").exists()
