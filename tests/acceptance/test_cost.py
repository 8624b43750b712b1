"""What a message costs: no change makes it dearer. Of a measure that other programs on the machine do not change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_CALLS = {"consume": 19.0, "verify": 6.0}
"""Of functions, a message; 15.4 and 4.5 when this was written, 76 and 94 with decoding one by one."""
MOST_OF_ONE_BY_ONE = 0.46
"""Of the processor time of decoding one by one; 0.38 when this was written."""


def test_a_message_costs_no_more_than_it_did(redis_url: str, postgres_url: str, tmp_path: Path) -> None:
    cost = measured(redis_url, postgres_url, tmp_path)
    assert {name: cost[name] for name, most in MOST_CALLS.items() if cost[name] > most} == {}
    assert cost["by column"] <= MOST_OF_ONE_BY_ONE * cost["one by one"]


def measured(redis_url: str, database_url: str, directory: Path) -> dict[str, float]:
    """In a process of its own, without the measurement of coverage, which costs more itself."""
    outside = {name: os.environ[name] for name in os.environ if not name.startswith(("COV", "DVCTL_", "DEVICEVAULT_"))}
    command = [sys.executable, "-m", "tests.support.cost", redis_url, database_url]
    environment = outside | {"XDG_STATE_HOME": str(directory)}
    ran = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True, timeout=300)
    found: dict[str, float] = json.loads(ran.stdout)
    return found
