"""Command lines in this process, as tests/cli has them."""

from __future__ import annotations

import logging

import pytest

from devicevault_cli.consumer import retry, worker
from tests.cli.conftest import at as at  # noqa: PLC0414 - a fixture
from tests.cli.conftest import cli as cli  # noqa: PLC0414 - a fixture


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A repair is noticed at the next attempt, which may be half a minute later; the whole log is captured."""
    caplog.set_level(logging.DEBUG, "dvctl.consume")
    monkeypatch.setattr(worker, "BLOCK_MS", 150)
    monkeypatch.setattr(retry, "LONGEST_WAIT_S", 1.0)
