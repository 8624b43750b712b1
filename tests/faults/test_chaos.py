"""Chaos for some seconds with fixed seeds, and in `make long` with a new one that is printed: everything once."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.chaos.faults import KINDS
from tests.chaos.run import Plan, Report, Servers, run, servers
from tests.support import servers as servers_of_a_test

pytestmark = [pytest.mark.faults, pytest.mark.acceptance, pytest.mark.slow, pytest.mark.timeout(600)]

HALVES = tuple(KINDS)[::2], tuple(KINDS)[1::2]
"""In a few seconds a run comes to half of the kinds; two runs come to all."""


@pytest.fixture(scope="module")
def to_break() -> Iterator[Servers]:
    """The servers that every run here breaks: starting them takes as long as a run."""
    with servers() as started:
        yield started


def survive(plan: Plan, to_break: Servers) -> Report:
    report = run(plan, *to_break)
    print(report)
    assert report.ok, str(report)
    return report


@pytest.mark.parametrize(("seed", "kinds"), [(1, HALVES[0]), (2, HALVES[1])])
def test_everything_once(seed: int, kinds: tuple[str, ...], to_break: Servers) -> None:
    report = survive(Plan(seed, 6, kinds=kinds), to_break)
    assert set(report.hit) >= {kind for kind in kinds if not kind.startswith("lost-")}


def test_every_success_is_stored_once(to_break: Servers) -> None:
    """With storage dispatch: RabbitMQ and a storage worker, and faults on them."""
    servers_of_a_test.rabbitmq_to_use()
    kinds = ("kill", "broker-kill", "broker-alarm", "broker-cut", "worker-kill", "lost-confirm")
    report = survive(Plan(3, 1, consumers=2, kinds=kinds, dispatch=True, every_s=1.0), to_break)
    assert set(report.hit) >= {kind for kind in kinds if not kind.startswith("lost-")}


@pytest.mark.long
def test_everything_once_with_a_new_seed(to_break: Servers) -> None:
    survive(Plan(random.SystemRandom().randrange(1_000_000), 8), to_break)
