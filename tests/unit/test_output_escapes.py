"""Untrusted text is inert: nothing that moves a cursor, reorders or hides gets through."""

from __future__ import annotations

import csv
import io
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicevault_cli.output.escapes import csv_cell, to_json, visible

ANY_TEXT = st.text(st.characters(codec=None), max_size=200)
"""Lone surrogates too."""


def harmless(text: str) -> bool:
    """Unicode itself calls none of it a control, a format character, a surrogate or a separator of lines."""
    return all(unicodedata.category(each) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for each in text)


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x7f", "\\x7f"),
        ("abc\u202ecba", "abc\\u202ecba"),
        ("a\u200bb\ufeff", "a\\u200bb\\ufeff"),
        ("\U000e0041", "\\U000e0041"),
        ("\udc80", "\\udc80"),
        ("[bold]markup[/bold] ü 漢 🎉", "[bold]markup[/bold] ü 漢 🎉"),
    ],
)
def test_controls_become_visible_and_the_rest_stays(hostile: str, shown: str) -> None:
    assert visible(hostile) == shown


@given(ANY_TEXT)
def test_nothing_harmful_gets_through(text: str) -> None:
    assert harmless(visible(text))
    assert harmless(to_json(text))
    assert harmless(csv_cell(text))


@given(
    st.recursive(
        ANY_TEXT | st.integers() | st.booleans() | st.none(),
        lambda each: st.lists(each) | st.dictionaries(ANY_TEXT, each),
        max_leaves=8,
    )
)
def test_json_reads_back_equal_on_one_line(value: object) -> None:
    for ascii_only in (False, True):
        line = to_json(value, ascii_only=ascii_only)
        # Two surrogates side by side are one character once they are read back from their escapes.
        assert _joined(json.loads(line)) == _joined(value)
        assert "\n" not in line


def _joined(value: object) -> object:
    return json.loads(json.dumps(value))


@given(ANY_TEXT)
def test_no_csv_cell_is_a_formula(text: str) -> None:
    cell = csv_cell(text)
    assert not cell.lstrip().startswith(("=", "+", "-", "@", "\t", "\r"))
    buffer = io.StringIO()
    csv.writer(buffer).writerow([cell, "next"])
    assert next(csv.reader(io.StringIO(buffer.getvalue()))) == [cell, "next"]


def test_numbers_of_our_own_stay_numbers_in_csv() -> None:
    assert [csv_cell(each) for each in (-5, 1.5, True, None, [1], {"a": 1}, "-5")] == [
        "-5",
        "1.5",
        "true",
        "",
        "[1]",
        '{"a": 1}',
        "'-5",
    ]
