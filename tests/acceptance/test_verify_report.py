"""The HTML report of an incident in a real browser: no complaint, every number, phone and desk, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import fakeredis
import pytest

from devicevault_cli.operations.verify.verify import verify
from devicevault_cli.output.report.content import next_steps
from devicevault_cli.output.report.html import html
from devicevault_cli.pipelines import RESULTS
from devicevault_cli.repository import open_repository, tables
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.stream import Stream
from tests.support import servers
from tests.support.browser import Browser, browser_kind
from tests.support.consuming import GROUP
from tests.support.incident import HOSTILE, stage

PHONE, DESK = 360, 1280
WIDER = """[...document.querySelectorAll('body *')]
  .filter(each => each.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map(each => each.outerHTML.slice(0, 80))"""
CONTRAST = """(() => {
  const level = colour => { const [r, g, b] = colour.match(/[0-9.]+/g).map(each => each / 255)
    .map(each => each <= .03928 ? each / 12.92 : ((each + .055) / 1.055) ** 2.4)
    return .2126 * r + .7152 * g + .0722 * b }
  const behind = each => { const colour = getComputedStyle(each).backgroundColor
    return colour === 'rgba(0, 0, 0, 0)' && each.parentElement ? behind(each.parentElement) : colour }
  return [...document.querySelectorAll('h1, h2, p, td, th, dt, dd, small, code, footer, .why, .axis span, figcaption')]
    .filter(each => each.getClientRects().length)
    .map(each => { const [a, b] = [level(getComputedStyle(each).color), level(behind(each))].sort((x, y) => y - x)
      return [(a + .05) / (b + .05), each.outerHTML.slice(0, 80)] })
    .filter(([ratio]) => ratio < 4.5)
})()"""
"""Text whose contrast is below what WCAG 2 asks for (AA, 4.5 to 1)."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    kind = browser_kind()
    if kind is None:
        servers.unavailable("a browser (chromium, or name one with DVCTL_TEST_BROWSER)")
    servers.used.add(kind.name)
    with Browser(kind) as opened:
        yield opened


@pytest.fixture
def report(sqlite_url: str, tmp_path: Path) -> tuple[Path, dict[str, object]]:
    """The page and the answer it tells, of an outage of half an hour."""
    with (
        closing(fakeredis.FakeRedis()) as client,
        closing(open_repository(sqlite_url, tables.RESULTS)) as repository,
    ):
        stream = Stream(client, "device:results")
        stage(stream, repository, a_minute=60)
        answer = verify(Group(stream, GROUP), RESULTS, repository).to_dict()
    about = {"stream": stream.key, "group": GROUP, "database": HOSTILE[0], "table": RESULTS.table}
    path = tmp_path / "incident.html"
    path.write_text(html(answer, about, next_steps(answer)), "utf-8")
    return path, answer


def test_a_report_is_readable_everywhere(browser: Browser, report: tuple[Path, dict[str, object]]) -> None:
    path, answer = report
    for width in (PHONE, DESK):
        for scheme in ("light", "dark"):
            browser.open(path, width=width, scheme=scheme)
            assert browser.complaints == []
            assert browser.evaluate("document.documentElement.scrollWidth") <= width
            assert browser.evaluate(WIDER) == []
            assert browser.evaluate(CONTRAST) == []
    text = browser.evaluate("document.body.innerText")
    for number in numbers(answer):
        assert f"{number:,}" in text, number
    assert "dvctl verify --repair" in text
    assert browser.evaluate("document.querySelectorAll('svg rect').length") == len(answer["timeline"])  # type: ignore[arg-type]


def numbers(answer: dict[str, object]) -> list[int]:
    classes, rows, devices = answer["classes"], answer["rows"], answer["devices"]
    assert isinstance(classes, dict)
    assert isinstance(rows, dict)
    assert isinstance(devices, list)
    assert classes["lost"] > 500
    assert classes["lost_invalid"] > 0
    return [
        *classes.values(),
        rows["rows"],
        *(each["lost"] for each in devices),
        classes["lost"] + classes["lost_invalid"],
    ]


def test_hostile_names_stay_text(browser: Browser, report: tuple[Path, dict[str, object]]) -> None:
    path, _ = report
    browser.open(path)
    assert browser.evaluate("document.querySelectorAll('script, img, a, iframe, object').length") == 0
    assert browser.evaluate("document.querySelectorAll('h1').length") == 1
    text = browser.evaluate("document.body.textContent")
    assert HOSTILE[0] in text
    assert not set("\u202e\x1b\x07\x00") & set(text)


def test_the_browser_complains_where_there_is_reason(browser: Browser, tmp_path: Path) -> None:
    """Else the tests above could not fail."""
    path = tmp_path / "bad.html"
    head = "<!DOCTYPE html><meta name=viewport content='width=device-width'><body style='background: #fff'>"
    path.write_text(
        f"{head}<div style='width: 500px; color: #ccc'><p>pale</p><script>console.error('oh')</script>", "utf-8"
    )
    browser.open(path, width=PHONE)
    assert any("oh" in each for each in browser.complaints)
    assert len(browser.evaluate(WIDER)) > 0
    assert len(browser.evaluate(CONTRAST)) == 1
