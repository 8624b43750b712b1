"""The oracle is tested too: a consumer with a known mistake must not survive a chaos run, and for the right reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.chaos.run import Plan, Report, run, servers

pytestmark = [pytest.mark.faults, pytest.mark.acceptance, pytest.mark.slow, pytest.mark.timeout(600)]


Suffer = Callable[..., Report]


@pytest.fixture(scope="module")
def suffer() -> Iterator[Suffer]:
    """A short run of a mutant with the faults that its mistake has to fear."""
    with servers() as to_break:

        def run_mutant(mutant: str, *kinds: str, seed: int = 3) -> Report:
            report = run(Plan(seed, seconds=4, kinds=kinds, mutant=mutant, drain_s=4), *to_break)
            print(report)
            assert not report.others, "the mutant itself failed, which proves nothing"
            return report

        yield run_mutant


def test_acknowledging_before_commit_is_caught(suffer: Suffer) -> None:
    """What was in no letter and no row must include good messages: bad ones get no letter once acknowledged."""
    kinds = ("postgres-freeze", "kill", "vanish", "kill")
    # A death has to fall between the acknowledgement and COMMIT, which not every run brings about.
    assert any(suffer("acknowledge-first", *kinds, seed=seed).lost_good() for seed in range(3, 9))


def test_consuming_without_the_lock_is_caught(suffer: Suffer) -> None:
    reports = (suffer("no-lock", "lost-read", "cut", seed=seed) for seed in range(3, 9))
    report = next((report for report in reports if report.findings.duplicates), None)
    assert report is not None, "no two consumers met in six runs"
    assert not report.findings.lost


def test_never_reclaiming_is_caught(suffer: Suffer) -> None:
    report = suffer("no-reclaim", "postgres-freeze", "vanish")
    assert report.findings.pending
    assert not report.drained
    assert not report.findings.duplicates
