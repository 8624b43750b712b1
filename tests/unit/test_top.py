"""What `top` tells: rates between looks, and the page that is drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from devicevault_cli.operations.monitoring.status import ConsumerStatus
from devicevault_cli.operations.monitoring.top import Rates, RecentDeadLetter, Sample, most_active_first, rates
from devicevault_cli.output.live import Courses, GroupFigures, Page, lines, trouble
from devicevault_cli.output.sparkline import sparkline
from devicevault_cli.output.table import cell_width
from devicevault_cli.output.view import View
from devicevault_cli.streams.model import EntryId
from tests.support.looks import assert_looks

GROUP = GroupFigures(
    lag=80, lag_s=1.5, pending=20, oldest_pending_age_ms=450, arriving=100.0, processed=150.0, caught_up_s=2.0
)
CONSUMERS = most_active_first(
    [
        ConsumerStatus("devicevault", "gone", 0, 90_000, None, False),
        ConsumerStatus("devicevault", "vm-0\x1b[31m", 20, 5, None, True),
    ]
)
FAILURE = RecentDeadLetter(EntryId(1, 0), "malformed-log", "7", "", "log is not JSON")
PAGE = Page(3032, GROUP, 31, 0, [consumer.to_dict() for consumer in CONSUMERS], [FAILURE.to_dict()])


def page(**changes: Any) -> str:
    return "\n".join(lines("device:results", "devicevault", replace(PAGE, **changes), View(80, coloured=False), 40))


def test_rates_are_what_changed_between_two_looks() -> None:
    assert rates(Sample(0, 100, 50), Sample(10, 200, 250), 100) == Rates(10.0, 20.0, 10.0)
    assert rates(Sample(0, 100, 50), Sample(10, 200, 100), 100) == Rates(10.0, 5.0, None), "never caught up"
    assert rates(Sample(0, 100, 100), Sample(10, 100, 100), 0) == Rates(0.0, 0.0, 0.0)


def test_what_cannot_be_told_is_no_rate() -> None:
    assert rates(Sample(0, 100, 50), Sample(0, 100, 50), 50) == Rates()
    assert rates(Sample(0, 100, 50), Sample(10, 90, 40), 50) == Rates(), "trimmed, or reset"
    assert rates(Sample(0, 100, None), Sample(10, 200, None), None) == Rates(10.0, None)


def test_the_page() -> None:
    shown = page()
    assert "80 of 3,032 entries, 1.5s behind" in shown
    assert "20, the oldest is 450ms old" in shown
    assert "100.0/s arriving, 150.0/s processed, caught up in 2.0s" in shown
    assert shown.index("vm-0\\x1b[31m") < shown.index("gone"), "who works stands first"
    assert "malformed-log" in shown
    assert "\x1b" not in shown


def test_the_page_says_what_is_not_known() -> None:
    assert "there is no stream yet" in page(length=None, group=None)
    assert "there is no group yet" in page(group=None)
    unknown = replace(GROUP, lag=None, lag_s=None, arriving=None, processed=None, caught_up_s=None)
    shown = page(group=unknown, consumers=[], failures=[])
    assert "unknown of 3,032 entries, behind for an unknown time" in shown
    assert "measuring" in shown
    assert "no consumers" in shown
    assert "not catching up" in page(group=replace(GROUP, caught_up_s=None))


def test_trouble_is_told_in_place() -> None:
    shown = trouble("s", "g", "Redis is away\x07", View(80, coloured=False))
    assert shown[1:] == ["PROBLEM: Redis is away\\x07", "", "retrying"]


BUSY = replace(
    PAGE,
    consumers=[
        ConsumerStatus("devicevault", f"backup-{n}-0", 100 - n, n * 700_000, None, n == 0).to_dict() for n in range(9)
    ],
    failures=[
        RecentDeadLetter(
            EntryId(1_767_225_600_000 + n, 0), "unknown-device", "4711", "2026-01-01T00:00:09.000Z", "no device " * n
        ).to_dict()
        for n in range(30)
    ],
    state="problem",
    verdict="8 of 9 consumers are dead, 80 entries behind (34m), 20 pending",
    courses=Courses([*range(200)], [n % 7 for n in range(200)], [None, *[0.0] * 40], [31.0] * 3),
    database="unreachable (Connection refused)",
    pipeline="results",
)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (140, 50)])
def test_the_whole_page_fits_the_screen(width: int, height: int) -> None:
    shown = lines("device:results", "devicevault", BUSY, View(width, coloured=True), height)
    plain = lines("device:results", "devicevault", BUSY, View(width, coloured=False), height)
    assert len(shown) == height
    assert max(map(cell_width, plain)) <= width
    assert_looks(f"top-{width}x{height}", "\n".join(shown) + "\n")


def test_the_keys_are_listed_and_a_pause_is_told() -> None:
    shown = lines("s", "g", PAGE, View(80, coloured=False), 24, paused=True, keys=True)
    assert "p  pause, or go on" in shown
    assert "paused, " in shown[0]
    assert "lag" not in "\n".join(shown)


def test_bars_begin_at_0_and_tell_nothing_from_little() -> None:
    assert sparkline([0, 1, 50, 100], 10) == "▁▂▅█"
    assert sparkline([0, 1, 50, 100], 2) == "▅█"
    assert sparkline([None, 0.0], 10) == " ▁"
    assert sparkline([0, 100], 10, ascii_only=True) == "_#"
    assert sparkline([], 10) == sparkline([1], 0) == ""
