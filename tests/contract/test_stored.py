"""What became of configurations, on every database: states, identifiers compared byte for byte, rights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import psycopg
import pytest

from devicevault_cli.errors import Refused
from devicevault_cli.operations.entries.trim import Keep, plan_trim
from devicevault_cli.operations.verify.scan import Scope
from devicevault_cli.operations.verify.verify import verify
from devicevault_cli.pipelines import RESULTS
from devicevault_cli.repository import open_repository, tables
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.stream import Stream
from tests.support.consuming import GROUP
from tests.support.storing import HOUR_MS, Stored, store

SCOPE = Scope(grace_ms=HOUR_MS)
NAMES = ("Job:1", "job:1", "job:1 ", "jo\u0308b:1", "j\u00f6b:1")
"""Some collations take these for the same."""


@pytest.fixture
def repository(database_url: str) -> Iterator[Repository]:
    with closing(open_repository(database_url, tables.RESULTS)) as opened:
        yield opened


def states(stream: Stream, repository: Repository) -> dict[str, int]:
    answer = verify(Group(stream, GROUP), RESULTS, repository, SCOPE).to_dict()
    found: dict[str, int] = answer["storage"]
    return found


def test_every_state_on_every_database(stream: Stream, repository: Repository) -> None:
    stored = store(stream, repository)
    assert states(stream, repository) == stored.expected


def test_the_floor_of_trim_on_every_database(stream: Stream, repository: Repository) -> None:
    stored = store(stream, repository)
    letters = DeadLetters(stream, GROUP)
    answer = plan_trim(stream, letters, RESULTS, repository, Keep(), dispatches=True).answer
    count = sum(stored.expected[state] for state in ("store_failed", "not_stored", "in_progress"))
    block = answer.blocked_by[0]
    assert (answer.floor, block.by, block.count) == (stored.ids["store_failed"][0], "storage", count)


@pytest.mark.parametrize("kept", range(len(NAMES)))
def test_the_backup_of_another_identifier_is_not_taken_for_it(
    stream: Stream, repository: Repository, kept: int
) -> None:
    repository.check()
    stored = Stored(stream, repository)
    for name in NAMES:
        stored.success("not_stored", name)
    stored.save()
    stored.backup("success", NAMES[kept])
    found = states(stream, repository)
    assert (found["stored"], found["not_stored"]) == (1, len(NAMES) - 1)


@pytest.mark.parametrize("table", ["backups_storedbackup", "locations_backuplocation"])
def test_a_missing_right_is_named_with_its_remedy(stream: Stream, postgres_url: str, table: str) -> None:
    with closing(open_repository(postgres_url, tables.RESULTS)) as repository:
        store(stream, repository)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        role = f"reader-{connection.info.dbname}"
        connection.execute(f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'reading'")
        connection.execute(f'GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{role}"')
        connection.execute(f'REVOKE SELECT ON {table} FROM "{role}"')
    parts = urlsplit(postgres_url)
    url = f"postgresql://{role}:reading@{parts.netloc.rpartition('@')[2]}{parts.path}"
    try:
        with closing(open_repository(url, tables.RESULTS)) as reading:
            with pytest.raises(Refused) as refused:
                states(stream, reading)
            assert verify(Group(stream, GROUP), RESULTS, reading).ok is True
            letters = DeadLetters(stream, GROUP)
            off = plan_trim(stream, letters, RESULTS, reading, Keep())
            assert off.answer.blocked_by == []
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f'DROP OWNED BY "{role}"')
            connection.execute(f'DROP ROLE "{role}"')
    assert table in str(refused.value)
    assert "GRANT SELECT" in (refused.value.hint or "")
