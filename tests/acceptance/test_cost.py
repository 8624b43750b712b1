"""What a message costs in processor time, beside a loop that only reads and acknowledges: no change makes it dearer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMITS = {"decode": 0.6, "consume": 3.4, "verify": 5.5}
"""Multiples of the loop's own processor time."""


def test_a_message_costs_no_more_than_it_did(redis_url: str, postgres_url: str, tmp_path: Path) -> None:
    ratios = measured(redis_url, postgres_url, tmp_path)
    assert {name: round(ratios[name], 2) for name, most in LIMITS.items() if ratios[name] > most} == {}


def measured(redis_url: str, database_url: str, directory: Path) -> dict[str, float]:
    """Processor time as a multiple of the bare loop's. Without the measurement of coverage, which costs more itself."""
    outside = {name: os.environ[name] for name in os.environ if not name.startswith(("COV", "DVCTL_", "DEVICEVAULT_"))}
    command = [sys.executable, "-m", "tests.support.cost", redis_url, database_url]
    environment = outside | {"XDG_STATE_HOME": str(directory)}
    ran = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True, timeout=300)
    lowest: dict[str, float] = json.loads(ran.stdout)
    print(lowest)
    return {name: took / lowest["part" if name == "decode" else "drain"] for name, took in lowest.items()}
