"""A user of Redis without the right to consume ends the start, with messages waiting and without."""

from __future__ import annotations

import pytest

from tests.acceptance.test_consume_process import add
from tests.support.process import Dvctl
from tests.support.redis_server import RedisServer


@pytest.mark.parametrize("waiting", [0, 5])
@pytest.mark.parametrize("missing", ["xreadgroup", "eval", "xgroup"])
def test_a_missing_right_is_told_at_the_start(
    dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str, waiting: int, missing: str
) -> None:
    client = redis_server.client()
    add(client, range(waiting))
    client.execute_command("ACL", "SETUSER", "limited", "on", ">pw", "~*", "+@all", f"-{missing}")
    try:
        answer = dvctl.use(redis_server.url_for(user="limited", password="pw"), sqlite_url).run("consume")
    finally:
        client.execute_command("ACL", "DELUSER", "limited")
    assert answer.code == 77, answer
    assert missing in answer.stderr.lower()
