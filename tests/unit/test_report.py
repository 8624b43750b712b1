"""The reports of verify: hostile text in every place they take text from comes out inert."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from devicevault_cli.operations.verify.names import CLASSES
from devicevault_cli.output.report.content import MEANING, Step
from devicevault_cli.output.report.html import html
from devicevault_cli.output.report.markdown import markdown

EVIL = "\"'><script>alert(1)</script><img src=x>&amp;\x1b[2J\x9b\u202e\u2066\x07\x00\r\n\t{{ 7 * 7 }}{% raw %}|`*_"
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]")
TIMES = ["2026-01-09T23:15:00.000Z", "2026-01-09T23:44:00.000Z"]


def answer(text: str) -> dict[str, Any]:
    """What verify answers, with this text wherever the answer holds text from messages, rows or the environment."""
    example = dict.fromkeys(("id", "time", "task_identifier", "consumer", "reason", "detail"), text)
    return {
        "ok": False,
        "problem": text,
        "stream": {"entries": 1_234_567, "first_id": "1-0", "last_id": "2-0"},
        "classes": dict.fromkeys(CLASSES, 1_234),
        "lost_reasons": {text: 1_234},
        "pending_gone": 3,
        "rows": {"rows": 9, "duplicate_rows": 2, "conflicting": 0, "rows_without_entry": None},
        "duplicates": [{"identity": text, "ids": [1, 2]}, {"identity": [1, text], "ids": [3, 4]}],
        "columns_differing": {text: 5},
        "times_differing": {"timestamp": 5},
        "lost_since": TIMES[0],
        "lost_until": TIMES[1],
        "devices": [{"device_id": 1, "name": text, "lost": 1_200}, {"device_id": 2, "name": None, "lost": 34}],
        "devices_affected": 2,
        "timeline_span_s": 60,
        "timeline": [{"start": TIMES[0], "lost": 1_000}, {"start": TIMES[1], "lost": 234}],
        "examples": [{"class": "lost_invalid", "device_id": None} | example],
        "elapsed_s": 1.25,
    }


class Page(HTMLParser):
    """The elements, attributes and text of a page, as a browser reads them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes |= {name for name, _ in attributes}

    def handle_data(self, data: str) -> None:
        self.text += data


def rendered(write: Callable[..., str], text: str) -> str:
    return write(answer(text), {"stream": text, "database": text, text: "x"}, [Step(f"dvctl {text}", text)])


def test_hostile_text_adds_nothing_to_the_page() -> None:
    page, harmless = (Page(rendered(html, text)) for text in (EVIL, "plain"))
    assert page.elements == harmless.elements
    assert page.attributes == harmless.attributes
    assert not page.elements.keys() & {"script", "img", "a", "iframe"}
    assert "{{ 7 * 7 }}{% raw %}" in page.text
    assert "<script>alert(1)</script>" in page.text, "it can still be read"
    assert page.text.count("\\x1b[2J\\x9b\\u202e\\u2066\\x07\\x00\\r\\n\\t") == harmless.text.count("plain")


@pytest.mark.parametrize("write", [html, markdown])
def test_no_control_character_gets_into_a_report(write: Callable[..., str]) -> None:
    assert not CONTROL.search(rendered(write, EVIL))


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    page = rendered(html, "plain")
    assert not re.search(r"https?:|//|url\(|@import|<script|\bon\w+=", page)
    assert "default-src 'none'" in page


def test_numbers_are_grouped_and_missing_values_are_empty() -> None:
    page = rendered(html, "plain")
    for number in ("1,234,567", "1,234", "1,200"):
        assert number in page
    assert "None" not in page
    assert 'viewBox="0 0 30 100"' in page


def test_every_class_has_a_meaning() -> None:
    assert tuple(MEANING) == CLASSES
