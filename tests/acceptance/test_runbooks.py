"""The runbooks, word for word: each command in a shell on real servers, and what it prints is what the page shows."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.consuming import letters
from tests.support.incidents import STAGED
from tests.support.process import DVCTL, END_S, Dvctl
from tests.support.recovering import group_on, pending, table_at

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"


def steps(text: str) -> list[tuple[str, str]]:
    """The commands of a page with what they print, as its console blocks show them."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            found.append((command, shown))
    return found


def pattern(shown: str) -> str:
    """`...` is what differs from day to day; alone on a line, any number of lines. Spaces and rules are layout."""
    lines = []
    for line in shown.splitlines():
        if line.strip() == "...":
            lines.append(r"(?:.*\n)*?")
        elif line.strip():
            parts = [re.escape(part) for part in re.split(r"\s+", line.strip())]
            lines.append(r"\s*" + r"\s+".join(part.replace(r"\.\.\.", r".*?") for part in parts) + r"\s*\n")
    return r"\s*" + r"\s*".join(lines) + r"\s*"


def shell(dvctl: Dvctl, command: str) -> str:
    """Run a line as an operator types it. -> all that it printed; it must succeed"""
    environment = dvctl.environment | {"PATH": f"{DVCTL.parent}:/usr/bin:/bin", "COLUMNS": "100"}
    environment.pop("XDG_STATE_HOME", None)
    ran = subprocess.run(
        ["/bin/bash", "-c", command],
        env=environment,
        cwd=dvctl.directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=END_S,
        check=False,
    )
    assert ran.returncode == 0, f"$ {command}\n{ran.stdout}"
    return ran.stdout


def test_every_runbook_is_executed() -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"} == set(STAGED)


def execute(name: str, dvctl: Dvctl, redis_url: str, database_url: str) -> None:
    with group_on(redis_url) as group, table_at(database_url) as table:
        STAGED[name](group, table)
    dvctl.use(redis_url, database_url).on_its_own_host()
    text = (RUNBOOKS / f"{name}.md").read_text("utf-8")
    assert len(steps(text)) > 3
    for command, shown in steps(text):
        said = shell(dvctl, command)
        assert re.fullmatch(pattern(shown), said), f"$ {command}\n--- printed\n{said}\n--- the page shows\n{shown}"


@pytest.mark.parametrize("name", [each for each in STAGED if each != "stuck-system"])
def test_a_runbook_does_what_it_says(name: str, dvctl: Dvctl, redis_url: str, postgres_url: str) -> None:
    execute(name, dvctl, redis_url, postgres_url)


@servers.two_redis(2)
def test_the_stuck_system_is_repaired_by_commands_alone(dvctl: Dvctl, each_redis_url: str, postgres_url: str) -> None:
    """The system that this tool was born from: in the end 950 rows, 50 letters, nothing pending, no ghost."""
    execute("stuck-system", dvctl, each_redis_url, postgres_url)
    with group_on(each_redis_url) as group, table_at(postgres_url) as table:
        bad = {number for number in range(1000) if number % 20 == 7}
        rows = [row["task_identifier"] for row in table.fetch(range(1, 2000)).values()]
        assert sorted(map(str, rows)) == sorted(f"job-{number}" for number in range(1000) if number not in bad)
        found = Counter(letter.reason for letter in letters(group.stream))
        reasons = ("invalid-device-id", "unknown-device", "missing-device-id", "malformed-log", "value-too-long")
        assert found == dict.fromkeys(reasons, 10)
        assert pending(group) == {}
        assert group.consumers() == []
