"""PostgreSQL with a standby: host lists, promotion under load, an old primary that comes back, PgBouncer between."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

import pytest

from devicevault_cli.errors import OtherServer, Unavailable
from tests.support.daemon import consuming
from tests.support.messages import good, mixed
from tests.support.oracle import TABLE, assert_everything
from tests.support.postgres_server import PostgresServer
from tests.support.postgres_standby import PostgresStandby, listed
from tests.support.server import wait_until

pytestmark = [pytest.mark.faults]


class Pair(NamedTuple):
    """A primary and its standby. `url`: both, the standby first; `here`, `there`: each alone."""

    primary: PostgresServer
    standby: PostgresStandby
    url: str
    here: str
    there: str

    def fail_over(self) -> None:
        """Kill the primary, and promote the standby."""
        self.primary.kill9()
        self.standby.promote()


@pytest.fixture
def pair(new_postgres: Callable[..., PostgresServer], new_standby: Callable[..., PostgresStandby]) -> Pair:
    """A primary with a database of DeviceVault's, and an asynchronous standby that has caught up."""
    primary = new_postgres()
    here = primary.database()
    standby = new_standby(primary)
    standby.wait_streaming()
    database = here.rpartition("/")[2]
    return Pair(primary, standby, listed(standby, primary, database=database), here, standby.url_for(database))


def rows(url: str, server: PostgresServer) -> int:
    [(count,)] = server.execute(f"SELECT count(*) FROM {TABLE}", database=url)
    return int(count)


def test_what_the_standby_lacked_is_back(redis_url: str, pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    """Rows of acknowledged messages are gone with the old primary; that one gets none when it is back."""
    with consuming(redis_url, pair.there, database_through=pair.url) as daemon:
        daemon.publish(mixed(100))
        daemon.wait_settled()
        pair.standby.cut_off()
        daemon.publish(mixed(300, seed=2))
        daemon.wait_settled()
        lacking = rows(pair.here, pair.primary) - rows(pair.there, pair.standby)
        assert lacking > 100
        pair.fail_over()
        daemon.publish(mixed(100, seed=3))
        daemon.all_once()
        counters = daemon.worker.counters
        assert counters.recovered == lacking
        assert counters.rechecked >= lacking
        assert f"{lacking} missing rows restored" in caplog.text
        assert [record.levelname for record in caplog.records if "restored" in record.message] == ["ERROR"]

        pair.standby.kill9()
        pair.primary.start()
        before = rows(pair.here, pair.primary)
        daemon.hold(good(20, seed=4))
        wait_until(lambda: "is an old primary" in caplog.text, what="the alarm")
        assert rows(pair.here, pair.primary) == before
        pair.standby.start()
        daemon.all_once()
        assert rows(pair.here, pair.primary) == before
    assert counters.recovered == lacking
