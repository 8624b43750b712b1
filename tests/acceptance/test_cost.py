"""What a message costs in processor time, beside what was measured at the same moment: no change makes it dearer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BARE_LOOP, ONE_BY_ONE = "drain", "one by one"
LIMITS = {("decode", ONE_BY_ONE): 0.46, ("consume", BARE_LOOP): 3.45, ("verify", BARE_LOOP): 5.5}
"""Multiples of processor time. Without decoding by column the first would be 1, the second 4."""


def test_a_message_costs_no_more_than_it_did(redis_url: str, postgres_url: str, tmp_path: Path) -> None:
    cost = measured(redis_url, postgres_url, tmp_path)
    assert [
        f"{what}: {cost[what] / cost[of]:.2f} of {of}"
        for (what, of), most in LIMITS.items()
        if cost[what] > most * cost[of]
    ] == []


def measured(redis_url: str, database_url: str, directory: Path) -> dict[str, float]:
    """Microseconds a message. Without the measurement of coverage, which costs more itself."""
    outside = {name: os.environ[name] for name in os.environ if not name.startswith(("COV", "DVCTL_", "DEVICEVAULT_"))}
    command = [sys.executable, "-m", "tests.support.cost", redis_url, database_url]
    environment = outside | {"XDG_STATE_HOME": str(directory)}
    ran = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True, timeout=300)
    found: dict[str, float] = json.loads(ran.stdout)
    return found
