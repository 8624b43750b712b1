"""Several writers at once, each offering every identity twice: one row each, on every database."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from contextlib import suppress

import pytest

from devicevault_cli.repository import open_repository
from devicevault_cli.repository.tables import RESULTS
from tests.support.records import execute
from tests.support.rows import read_rows

IDENTITIES = 400


def write(url: str, writers: int, *, batch: int = 50, mutant: str = "") -> int:
    """-> how many rows the writers together say they inserted"""
    command = [sys.executable, "-m", "tests.support.writer", url]
    running = [
        subprocess.Popen(
            [*command, str(seed), str(IDENTITIES), str(batch), mutant],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(writers)
    ]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()  # "ready", or nothing from one that failed: its errors are read below
    for process in running:
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.write("go\n")
            process.stdin.flush()
    told = [process.communicate(timeout=250) for process in running]
    assert [errors for _, errors in told] == [""] * writers
    return sum(int(answer) for answer, _ in told)


def repeated(url: str) -> int:
    counted = Counter(row.identity for row in read_rows(url))
    assert len(counted) == IDENTITIES
    return sum(counted.values()) - IDENTITIES


@pytest.mark.slow
def test_eight_writers_leave_one_row_for_each_identity(database_url: str) -> None:
    assert write(database_url, 8) == IDENTITIES
    assert repeated(database_url) == 0


@pytest.mark.slow
def test_eight_writers_beside_the_unique_index(each_postgres_url: str) -> None:
    repository = open_repository(each_postgres_url, RESULTS)
    assert repository.create_index().created
    repository.close()
    assert write(each_postgres_url, 8) == IDENTITIES
    assert repeated(each_postgres_url) == 0


@pytest.mark.slow
def test_the_test_catches_writers_that_take_no_lock(postgres_url: str) -> None:
    for _ in range(5):
        execute(postgres_url, f"TRUNCATE {RESULTS.name}")
        # On a machine that is busy elsewhere they may come one after the other.
        if write(postgres_url, 8, batch=IDENTITIES, mutant="without-lock") > IDENTITIES:
            break
    assert repeated(postgres_url) > 0
