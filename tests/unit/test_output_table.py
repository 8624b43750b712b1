"""Tables: they fit, and nothing is cut off but what is absurdly long."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from devicevault_cli.output.table import LONGEST, cell_width, folded, heading, lines_of, show, table
from devicevault_cli.output.view import Cell

WORDS = st.text(st.characters(categories=["Ll", "Lo", "Nd"]) | st.just(" "), max_size=60).map(
    lambda each: " ".join(each.split())
)


def test_columns_are_aligned_and_numbers_stand_to_the_right() -> None:
    rows = [{"id": "1-0", "deliveries": 7, "idle_ms": 192_000}, {"id": "22-0", "deliveries": 12, "idle_ms": 5}]
    assert table(rows, ["id", "deliveries", "idle_ms"], 80) == [
        "ID    DELIVERIES    IDLE",
        "1-0            7  3m 12s",
        "22-0          12     5ms",
    ]


def test_what_fits_is_laid_out_without_rich() -> None:
    program = (
        "import sys; from devicevault_cli.output.table import table; "
        "print(table([{'id': '1-0', 'state': 'held'}], ['id', 'state'], 80), 'rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "['ID   STATE', '1-0  held'] False\n"


@settings(deadline=None)  # the first call imports Rich
@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=5))
def test_what_fits_looks_the_same_with_and_without_rich(cells: list[tuple[str, str]]) -> None:
    widths = [max(1, *(cell_width(row[n]) for row in cells)) for n in (0, 1)]
    assert lines_of(cells, 200) == folded([[Cell(cell) for cell in row] for row in cells], widths, [False, False])


def test_wide_characters_take_two_columns() -> None:
    assert lines_of([["漢字", "x"], ["abcd", "y"]], 80) == ["漢字  x", "abcd  y"]


@given(st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=5), st.integers(40, 120))
def test_lines_fit_the_width_and_keep_every_character(cells: list[tuple[str, str, str]], width: int) -> None:
    lines = lines_of(cells, width)
    assert all(cell_width(line) <= width for line in lines)
    printed = sorted("".join(lines).replace(" ", ""))
    assert printed == sorted("".join(cell for row in cells for cell in row).replace(" ", ""))


def test_values_are_shown_by_their_unit() -> None:
    shown = [
        show("age_ms", 65_000),
        show("lag_s", 90),
        show("rate_per_s", 12.34),
        show("bytes", 2048),
        show("alive", True),
        show("lag", None),
        show("ids", ["1-0", "2-0"]),
        show("x", "a\x1bb"),
        show("reasons", {"bad\n": 2}),
        show("stream", {"key": "s", "age_ms": 65_000}),
    ]
    expected = [
        "1m 5s",
        "1m 30s",
        "12.3",
        "2.0 KiB",
        "yes",
        "-",
        "1-0 2-0",
        "a\\x1bb",
        "bad\\n=2",
        "key=s  age_ms=1m 5s",
    ]
    assert shown == expected
    assert heading("oldest_pending_age_ms") == "OLDEST PENDING AGE"


def test_names_of_data_tell_no_unit() -> None:
    assert show("consumers", {"worker_1_ms": 65_000}) == "worker_1_ms=65,000"


def test_what_is_absurdly_long_is_cut_and_says_so() -> None:
    assert show("device_id", "x" * LONGEST) == "x" * LONGEST
    assert show("device_id", "x" * 1_000_000) == "x" * LONGEST + "... (1,000,000 characters)"


def test_long_text_gives_way_before_an_id_is_torn() -> None:
    row = {"id": "1795546855206-112", "reason": "invalid-device-id", "detail": "device_id is 'abc', which is no number"}
    lines = table([row], ["id", "reason", "detail"], 60)
    assert [line.split()[0] for line in lines[1:]] == ["1795546855206-112", "which"]
    assert "invalid-device-id" in lines[1]
    assert all(cell_width(line) <= 60 for line in lines)


def test_states_have_colours_only_where_they_are_asked_for() -> None:
    rows = [{"id": "stuck", "state": "stuck"}, {"id": "held", "state": "held"}]
    assert "\x1b" not in "".join(table(rows, ["id", "state"], 80))
    assert table(rows, ["id", "state"], 80, colour=True)[1:] == ["stuck  \x1b[33mstuck\x1b[0m", "held   held"]


def test_neighbours_have_different_headings() -> None:
    assert table([{"lag": 3, "lag_s": 90}], ["lag", "lag_s"], 80) == ["LAG  BEHIND", "  3  1m 30s"]
