"""Every command that uses Redis, on a Redis Cluster and through Sentinels; in one test, for one set of servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from devicevault_cli.cli.app import COMMANDS as ALL
from tests.cli.conftest import Cli
from tests.cli.test_every_command import KEYS, SCREENS, World, check_json
from tests.cli.test_exit_codes import consent
from tests.support.redis_server import RedisServer
from tests.support.sqlite_database import SqliteFiles
from tests.support.topologies import RedisCluster, SentinelGroup

TOGETHER = [words for words in ALL if ALL[words].needs.redis and words not in SCREENS]


@pytest.fixture(params=["redis_cluster", "sentinel_group"])
def topology(request: pytest.FixtureRequest) -> RedisCluster | SentinelGroup:
    """One after the other."""
    found: RedisCluster | SentinelGroup = request.getfixturevalue(request.param)
    return found


@pytest.mark.slow
def test_every_command(
    cli: Cli, topology: RedisCluster | SentinelGroup, redis_server: RedisServer, tmp_path: Path
) -> None:
    assert len(TOGETHER) > 25
    failed = {}
    for number, words in enumerate(TOGETHER):
        folder = tmp_path / str(number)
        folder.mkdir()
        for client in _emptied(topology):
            database_url = SqliteFiles(folder).database()
            world = World(cli.at(topology.url, database_url), topology.url, folder, client, redis_server.fresh())
            answer = world.cli(*world.line(words), *consent(words), "-o", "json")
            if answer.code not in ({1} if words == "dlq retry" else {0, 3}):
                failed[words] = answer
                continue
            check_json(words, answer)
    assert not failed
    assert set(TOGETHER) <= KEYS.keys()


def _emptied(topology: RedisCluster | SentinelGroup) -> Iterator[redis.Redis]:
    """A client of the master, which has nothing any more."""
    with topology.master().client() as client:
        client.flushall()
        yield client
