"""One consumer's side of a group, on every Redis."""

from __future__ import annotations

import time

from devicevault_cli.streams.delivery import Delivery
from tests.support.recovering import group_on, message, pending


def test_showing_life_refreshes_the_idle_time_and_delivers_nothing(each_redis_url: str) -> None:
    with group_on(each_redis_url) as group:
        group.create()
        group.stream.add(message(number) for number in range(3))
        delivery = Delivery(group, "me")
        delivery.read_new(1)
        before, info = pending(group), group.info()
        time.sleep(1.0)
        delivery.show_life()
        assert set(pending(group)) == set(before)
        assert group.info() == info
        assert group.consumers()[0].idle_ms < 900
