"""What `top` tells: rates between looks, and the page that is drawn."""

from __future__ import annotations

from typing import Any

from devicevault_cli.operations.monitoring.top import Point, Rates, rates
from devicevault_cli.output.live import lines, trouble

GROUP = {"lag": 80, "lag_s": 1.5, "pending": 20, "oldest_pending_age_ms": 450}


def look(**changes: Any) -> dict[str, Any]:
    return {
        "stream": {"length": 3032},
        "group": GROUP,
        "consumers": [
            {"name": "gone", "pending": 0, "idle_ms": 90_000, "alive": False},
            {"name": "vm-0\x1b[31m", "pending": 20, "idle_ms": 5, "alive": True},
        ],
        "dead": {"length": 31},
        "discarded": 0,
        "rates": Rates(100.0, 150.0, 2.0),
        "failures": [{"id": "1-0", "reason": "malformed-log", "device_id": "7", "at": "", "detail": "log is not JSON"}],
    } | changes


def page(**changes: Any) -> str:
    return "\n".join(lines("device:results", "devicevault", look(**changes), 80, coloured=False))


def test_rates_are_what_changed_between_two_looks() -> None:
    assert rates(Point(0, 100, 50), Point(10, 200, 250), 100) == Rates(10.0, 20.0, 10.0)
    assert rates(Point(0, 100, 50), Point(10, 200, 100), 100) == Rates(10.0, 5.0, None), "never caught up"
    assert rates(Point(0, 100, 100), Point(10, 100, 100), 0) == Rates(0.0, 0.0, 0.0)


def test_what_cannot_be_told_is_no_rate() -> None:
    assert rates(Point(0, 100, 50), Point(0, 100, 50), 50) == Rates()
    assert rates(Point(0, 100, 50), Point(10, 90, 40), 50) == Rates(), "trimmed, or reset"
    assert rates(Point(0, 100, None), Point(10, 200, None), None) == Rates(10.0, None)


def test_the_page() -> None:
    shown = page()
    assert "80 of 3,032 entries, 1.5s behind" in shown
    assert "20, the oldest is 450ms old" in shown
    assert "100.0/s arrive, 150.0/s are settled, caught up in 2.0s" in shown
    assert shown.index("vm-0\\x1b[31m") < shown.index("gone"), "who works stands first"
    assert "malformed-log" in shown
    assert "\x1b" not in shown


def test_the_page_says_what_is_not_known() -> None:
    assert "there is no stream yet" in page(stream=None, group=None)
    assert "there is no group yet" in page(group=None)
    shown = page(group=GROUP | {"lag": None, "lag_s": None}, rates=Rates(), consumers=[], failures=[])
    assert "unknown of 3,032 entries, behind for an unknown time" in shown
    assert "measuring" in shown
    assert "no consumers" in shown
    assert "not catching up" in page(rates=Rates(5.0, 1.0, None))


def test_trouble_is_told_in_place() -> None:
    assert list(trouble("s", "g", "Redis is away\x07", coloured=False))[2:] == ["Redis is away\\x07", "trying again"]
