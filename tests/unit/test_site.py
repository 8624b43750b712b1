"""The site is built from README and docs as they are, fails for a broken link, and loads nothing from the network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOADS = {"audio", "embed", "iframe", "img", "link", "object", "script", "source", "video"}
"""Elements of HTML that fetch what they name; `a` only leads there."""


@dataclass(frozen=True, slots=True)
class Site:
    """A checkout whose README can be changed, and what is built from it."""

    checkout: Path
    html: Path

    def build(self, builder: str = "html") -> subprocess.CompletedProcess[str]:
        """As `make site` does."""
        strict: list[str | Path] = ["--quiet", "--fail-on-warning", "--keep-going", "-c", ROOT / "tools" / "site"]
        doctrees = self.html.parent / "doctrees"
        command = [sys.executable, "-m", "sphinx", "-b", builder, *strict, "-d", doctrees, self.checkout, self.html]
        return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("site")
    (folder / "checkout").mkdir()
    shutil.copytree(ROOT / "docs", folder / "checkout" / "docs")
    for path in ROOT.glob("*.md"):
        shutil.copy(path, folder / "checkout")
    for linked in ("LICENSE", "deploy", "tests"):
        (folder / "checkout" / linked).symlink_to(ROOT / linked)
    found = Site(folder / "checkout", folder / "html")
    done = found.build()
    assert done.returncode == 0, done.stderr
    return found


class Loaded(HTMLParser):
    """What a page loads from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.foreign: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in LOADS:
            self.foreign += [value for _, value in attrs if value and re.match(r"(https?:)?//", value)]


def test_every_page_is_there_and_the_readme_is_the_front_page(site: Site) -> None:
    pages = [ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if not (site.html / page.relative_to(ROOT)).with_suffix(".html").is_file()] == []
    front = (site.html / "index.html").read_text("utf-8")
    assert "dvctl moves the results that DeviceVault" in front
    assert 'href="docs/take-over.html"' in front
    heads = re.findall(r'<p class="caption"[^>]*><span class="caption-text">([^<]*)', front)
    assert heads[:4] == ["Start", "Operate", "Understand", "Reference"]


def test_nothing_is_loaded_from_the_network(site: Site) -> None:
    for page in site.html.rglob("*.html"):
        parser = Loaded()
        parser.feed(page.read_text("utf-8"))
        assert parser.foreign == [], page
    for style in site.html.rglob("*.css"):
        assert re.findall(r"""(?:@import|url\()\s*["']?(?:https?:)?//[^)"']*""", style.read_text("utf-8")) == [], style


def test_a_broken_link_an_unknown_heading_and_a_page_outside_the_navigation_fail(site: Site) -> None:
    readme = site.checkout / "README.md"
    broken = "[a](docs/none.md) [b](docs/verify.md#none) [c](#none) [d](none/)"
    readme.write_text(f"{readme.read_text('utf-8')}\n{broken}\n", "utf-8")
    (site.checkout / "orphan.md").write_text("# Orphan\n", "utf-8")
    done = site.build("dummy")
    assert done.returncode != 0
    complaints = re.findall(r"(\w+\.md).*WARNING: (.*) \[", done.stderr)
    assert sorted(complaints) == [
        ("README.md", "'myst' cross-reference target not found: 'docs/none.md'"),
        ("README.md", "'myst' cross-reference target not found: 'none'"),
        ("README.md", "'myst' cross-reference target not found: 'none/'"),
        ("README.md", "local id not found in doc 'docs/verify': 'none'"),
        ("orphan.md", "document isn't included in any toctree"),
    ]
