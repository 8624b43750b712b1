"""The manual pages: every command with every option, and no complaint from the programs that print them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from devicevault_cli.cli.app import COMMANDS, app
from tests.support.tools import checked
from tools.man_pages import pages

PAGES = pages()
ROOT_COMMAND: Any = typer.main.get_command(app)
DATE = "1764547200"


def page_of(words: str) -> str:
    """The page as text, its hyphens as a reader types them."""
    return PAGES[f"{'-'.join(['dvctl', *words.split()])}.1"].replace(r"\-", "-")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", DATE)
    for name, text in pages().items():
        (tmp_path / name).write_text(text, "utf-8")
    return sorted(tmp_path.iterdir())


def options_of(words: str) -> set[str]:
    command = ROOT_COMMAND
    for word in words.split():
        command = command.commands[word]
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    return {flag for option in shown if option.param_type_name == "option" for flag in option.opts} | {"-h", "--help"}


@pytest.mark.parametrize("words", ["", *COMMANDS])
def test_a_page_has_every_option_and_example(words: str) -> None:
    page = page_of(words)
    assert {flag for flag in options_of(words) if rf"\fB{flag}\fR" not in page} == set()
    if words:
        shown = page.partition(".EX\n")[2].partition("\n.EE")[0]
        assert len(shown.splitlines()) == len(COMMANDS[words].examples) > 0


def test_the_page_of_a_group_and_of_dvctl_name_every_command() -> None:
    for words in COMMANDS:
        first, _, second = words.partition(" ")
        assert rf"\fBdvctl-{first}\fR(1)" in page_of("")
        assert not second or rf"\fBdvctl-{first}-{second}\fR(1)" in page_of(first)


def test_every_page_that_another_names_exists() -> None:
    named = {name for words in PAGES.values() for name in re.findall(r"\\fB(\S+)\\fR\(1\)", words.replace(r"\-", "-"))}
    assert {f"{name}.1" for name in named} == PAGES.keys()


def test_the_page_of_dvctl_has_exit_codes_and_variables() -> None:
    page = page_of("")
    for code in (0, 1, 2, 3, 69, 77, 78, 130):
        assert f"\n\\fB{code}\\fR\n" in page
    assert "DEVICEVAULT_STORAGE_RESULTS_GROUP" in page


def test_pages_have_a_date_only_if_the_builder_gives_one(files: list[Path]) -> None:
    assert "2025-12-01" in files[0].read_text("utf-8").partition("\n")[0]
    assert ' 1 "" "dvctl ' in PAGES[files[0].name].partition("\n")[0]


def test_groff_prints_every_page_without_warnings(files: list[Path]) -> None:
    assert checked("groff", "-man", "-Tutf8", "-ww", "-z", *files) == ""


def test_mandoc_finds_nothing_wrong(files: list[Path]) -> None:
    assert checked("mandoc", "-T", "lint", "-W", "warning", *files) == ""


def test_what_is_typed_can_be_pasted_from_a_page() -> None:
    """An unescaped hyphen or quote may be printed as a typographic one, which a shell does not understand."""
    for page in PAGES.values():
        shown = [line for line in page.splitlines() if not line.startswith(".")]
        assert [line for line in shown if re.search(r"(?<!\\)-|['`^~]", line)] == []
