"""The table refuses rows for a reason that is not in the message: held with an alarm, and once repaired, every row.

Field case 4. Each case breaks the table under a running consumer on a real server, looks, and repairs it.
"""

from __future__ import annotations

import logging

import pytest

from tests.cli.conftest import Cli
from tests.field.broken_tables import MARIADB, POSTGRES, SQLITE, Case, run
from tests.support.daemon import consuming
from tests.support.messages import good, mixed
from tests.support.oracle import held

pytestmark = pytest.mark.usefixtures("short_waits")


def alarms(caplog: pytest.LogCaptureFixture) -> str:
    """What was logged as an error: what an operator has to put right."""
    return "\n".join(record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR)


def held_until_repaired(
    case: Case,
    redis_url: str,
    database_url: str,
    cli: Cli,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with consuming(redis_url, database_url) as daemon:
        daemon.publish(good(20))
        daemon.wait_settled()
        run(database_url, *case.broken)
        with held(redis_url):
            daemon.publish([*mixed(40, seed=2), *good(1, seed=3)])
            daemon.wait_deferred(2)
            told = alarms(caplog)
            for word in case.named:
                assert word in told, told
            assert daemon.worker.counters.table_refuses_rows
            refuses_to_start_and_says_so(case, cli.at(redis_url, database_url))
        run(database_url, *case.healed)
        daemon.all_once()
        assert not daemon.worker.counters.table_refuses_rows


def refuses_to_start_and_says_so(case: Case, at: Cli) -> None:
    """`doctor` names the fault; a consumer that has to end does not begin, and says why."""
    doctor = at("doctor", "-o", "json")
    [table] = [check for check in doctor.json["checks"] if check["name"] == "table"]
    assert (doctor.code, table["status"]) == (3, "problem"), doctor.out
    started = at("consume", "--drain")
    assert started.code == 69, started.err
    for said in (table["detail"] + table["fix"], started.err):
        assert any(word in said for word in case.named), said


@pytest.mark.parametrize("what", POSTGRES)
def test_postgresql(
    what: str,
    redis_url: str,
    postgres_url: str,
    cli: Cli,
    caplog: pytest.LogCaptureFixture,
) -> None:
    held_until_repaired(POSTGRES[what], redis_url, postgres_url, cli, caplog)


@pytest.mark.parametrize("what", MARIADB)
def test_mariadb(
    what: str,
    redis_url: str,
    mariadb_url: str,
    cli: Cli,
    caplog: pytest.LogCaptureFixture,
) -> None:
    held_until_repaired(MARIADB[what], redis_url, mariadb_url, cli, caplog)


@pytest.mark.parametrize("what", SQLITE)
def test_sqlite(
    what: str,
    redis_url: str,
    sqlite_url: str,
    cli: Cli,
    caplog: pytest.LogCaptureFixture,
) -> None:
    held_until_repaired(SQLITE[what], redis_url, sqlite_url, cli, caplog)
