"""Times and durations as people type them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicevault_cli.errors import Usage
from devicevault_cli.times import iso, parse_duration, parse_moment, parse_time, show_duration


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("0", 0),
        ("500ms", 500),
        ("90s", 90_000),
        ("5m", 300_000),
        ("1.5h", 5_400_000),
        ("1d12h", 129_600_000),
        ("1d3h5m2s", 97_502_000),
        ("2w", 1_209_600_000),
    ],
)
def test_durations(text: str, milliseconds: int) -> None:
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize(
    "text", ["", "5", "m", "5 m", "-5m", "5x", "12h1d", "1h1h", "1e3s", "\u0665m", "5m!", "1..5h", "0x1s"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(Usage):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-01-12T04:47:00Z", "2026-01-12T04:47:00.000Z"),
        ("2026-01-12T04:47:00", "2026-01-12T04:47:00.000Z"),
        ("2026-01-12T04:47:00.123456+02:00", "2026-01-12T02:47:00.123Z"),
        ("2026-01-12", "2026-01-12T00:00:00.000Z"),
        ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
    ],
)
def test_times_without_an_offset_are_utc(text: str, shown: str) -> None:
    assert iso(parse_time(text)) == shown


@pytest.mark.parametrize(
    "text",
    ["", "now", "tomorrow", "2026-02-30", "60", "24:00", "1969-12-31", "10000-01-01", "0001-01-01T00:00:00+14:00"],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(Usage):
        parse_time(text)


def test_a_duration_means_back_from_now() -> None:
    now = parse_time("2026-01-12T12:00:00Z")
    assert iso(parse_moment("-2h", now)) == iso(parse_moment("2h", now)) == "2026-01-12T10:00:00.000Z"
    assert parse_moment("-1000w", 0) == 0
    assert parse_moment("2026-01-12T12:00:00Z", 0) == now


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [(0, "0ms"), (850, "850ms"), (3_200, "3.2s"), (192_000, "3m 12s"), (3_600_000, "1h"), (187_200_000, "2d 4h")],
)
def test_people_see_the_two_largest_units(milliseconds: int, shown: str) -> None:
    assert show_duration(milliseconds) == shown


@given(st.text(max_size=30))
def test_no_text_is_more_than_refused(text: str) -> None:
    for parse in (parse_duration, parse_time, lambda each: parse_moment(each, 0)):
        try:
            assert parse(text) >= 0
        except Usage as error:
            assert error.exit_code == 2
