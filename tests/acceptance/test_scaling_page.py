"""docs/scaling.md: its calculation, word for word, and a consumer at work on the partitioned table that it makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import redis

from tests.support.messages import mixed, publish
from tests.support.oracle import assert_everything
from tests.support.pages import steps
from tests.support.partitions import PAGE, partition_by_time
from tests.support.process import Dvctl
from tests.support.rows import select

ROOT = Path(__file__).parents[2]


def capacity(*words: str) -> list[str]:
    command = [sys.executable, "tools/capacity.py", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_the_calculation_is_as_the_page_shows_it() -> None:
    ((command, shown),) = steps(PAGE.read_text())
    assert command.startswith("python tools/capacity.py ")
    assert capacity(*command.split()[2:]) == shown.splitlines()


ROWS = [line.split("|")[1:-1] for line in PAGE.read_text().splitlines() if " million |" in line]


@pytest.mark.parametrize("row", ROWS)
def test_the_table_of_a_million_devices_is_what_the_calculation_says(row: list[str]) -> None:
    per_day, rate, share, stream, rows = (cell.strip() for cell in row)
    messages, kept, _, _, writing, _ = capacity("--devices", "1000000", "--per-day", per_day.replace(",", ""))
    assert f" {rate} a second," in messages
    assert f" {rows.replace(' million', ',000,000')} a day" in messages
    assert f" {stream} a day" in kept
    assert round(float(share.split()[0]), 1) == pytest.approx(float(writing.split()[1].rstrip("%")), abs=0.5)


def test_a_partitioned_table_gets_everything_once(dvctl: Dvctl, redis_url: str, postgres_url: str) -> None:
    """Rows that were there before, and those of messages that come twice, stay single."""
    dvctl.on_its_own_host().use(redis_url, postgres_url)
    messages = mixed(200)
    with redis.Redis.from_url(redis_url) as client:
        sent = publish(client, messages[: len(messages) // 2])
        dvctl.ok("consume", "--drain")
        partition_by_time(postgres_url)
        sent += publish(client, messages)
    for group in ("devicevault", "second"):
        dvctl.ok("consume", "--drain", "--group", group)
    assert_everything(redis_url, postgres_url, sent)
    assert dvctl.json("verify")["ok"] is True
    (kind,) = select(postgres_url, "SELECT relkind FROM pg_class WHERE relname = 'devices_devicebackupresult'")
    assert kind in [("p",), (b"p",)]
