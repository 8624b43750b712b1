"""The runbooks, word for word: each command in a shell on real servers, and what it prints is what the page shows."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.by_hand import Host
from tests.support.consuming import letters
from tests.support.incidents import STAGED
from tests.support.pages import pattern, steps, typed
from tests.support.process import Dvctl
from tests.support.recovering import group_on, pending, table_at

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"


def test_every_runbook_is_executed() -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"} == set(STAGED)


def execute(name: str, dvctl: Dvctl, redis_url: str, database_url: str) -> None:
    with group_on(redis_url) as group, table_at(database_url) as table:
        STAGED[name](group, table)
    dvctl.use(redis_url, database_url).on_its_own_host()
    text = (RUNBOOKS / f"{name}.md").read_text("utf-8")
    assert len(steps(text)) > 3
    with group_on(redis_url) as group, Host(dvctl, group, redis_url, database_url) as host:
        host.prepare(name)
        for command, shown in steps(text):
            said = host.do(command)
            if said is None:
                said = typed(dvctl, command)
            fits = re.fullmatch(pattern(shown), said)
            assert fits, f"$ {command}\n--- printed\n{said}\n--- the page shows\n{shown}"


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
