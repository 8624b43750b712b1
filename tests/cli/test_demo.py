"""dvctl demo without its extra says what to install."""

from __future__ import annotations

import shutil

import pytest

from devicevault_cli.streams import embedded
from tests.cli.conftest import Cli


@pytest.mark.parametrize("absent", ["fakeredis", "lupa"])
def test_without_a_redis_and_without_the_extra(cli: Cli, monkeypatch: pytest.MonkeyPatch, absent: str) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(embedded, "find_spec", lambda name: None if name == absent else object())
    answer = cli("demo")
    assert (answer.code, answer.out) == (1, "")
    assert "pip install 'dvctl[demo]'" in answer.err


def test_with_the_extra(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    answer = cli("demo", "-o", "json")
    assert answer.json["verify"]["ok"] is True
    assert "fakeredis" in answer.err
