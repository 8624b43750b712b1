"""dvctl doctor: named checks of Redis, the group, the database, the broker and the settings, each with a fix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devicevault_cli.errors import DvctlError
from devicevault_cli.operations.answer import Answer
from devicevault_cli.operations.dispatch.state import DispatchState
from devicevault_cli.operations.monitoring.broker_checks import broker_checks
from devicevault_cli.operations.monitoring.checks import Finding, State, run_checks
from devicevault_cli.operations.monitoring.database_checks import database_checks
from devicevault_cli.operations.monitoring.group_checks import group_checks, incidents_check
from devicevault_cli.operations.monitoring.redis_checks import redis_checks, side_keys
from devicevault_cli.operations.monitoring.storage_checks import LocationTypes, storage_checks
from devicevault_cli.streams.group import Group

if TYPE_CHECKING:
    from devicevault_cli.repository.repository import Repository


@dataclass(frozen=True, slots=True)
class CheckResult(Answer):
    """An element of `checks[]`. `fix` is empty if there is nothing to fix."""

    name: str
    status: State
    detail: str
    fix: str


@dataclass(frozen=True, slots=True)
class DoctorAnswer(Answer):
    checks: Sequence[CheckResult]

    @property
    def has_problem(self) -> bool:
        """Whether something must be repaired; warnings and unknown results do not count."""
        return any(check.status == "problem" for check in self.checks)

    def status_of(self, name: str) -> State:
        return next(check.status for check in self.checks if check.name == name)


def diagnose(
    group: Group,
    repository: Repository | None,
    overridden: Sequence[str] = (),
    without_effect: Sequence[str] = (),
    *,
    dispatch: DispatchState,
    broker_url: str | None = None,
    redis_error: DvctlError | None = None,
    database_error: DvctlError | None = None,
) -> DoctorAnswer:
    """Run every check. A check that cannot be made is `unknown`; an unreachable server is one problem.

    overridden: names of settings for which config.yaml has another value. without_effect: keys of config.yaml that
    nobody reads. broker_url: where dispatch is on. The errors are those that are known before any check is made.
    """
    types = LocationTypes(repository)
    checks = [*database_checks(repository, group), *storage_checks(group.stream.key, repository, dispatch, types)]
    on_database = list(run_checks(checks, "the database", database_error))
    usable = on_database[0][1].status != "problem"  # one that does not answer is waited for once
    on_redis = [
        *redis_checks(group.stream),
        *group_checks(group),
        ("incidents", lambda: incidents_check(group, repository if usable else None)),
        ("side-keys", lambda: side_keys(group.stream)),
    ]
    on_broker = broker_checks(dispatch, broker_url, types if usable else LocationTypes(None))
    found = [
        *run_checks(on_redis, "Redis", redis_error),
        *on_database,
        *run_checks(on_broker, "the broker"),
        ("settings", _settings(overridden, without_effect)),
    ]
    return DoctorAnswer([CheckResult(name, *finding) for name, finding in found])


def diagnose_stream(group: Group) -> DoctorAnswer:
    """Run the checks of one stream and its group."""
    checks = [
        *group_checks(group),
        ("incidents", lambda: incidents_check(group, None)),
        ("side-keys", lambda: side_keys(group.stream)),
    ]
    return DoctorAnswer([CheckResult(name, *finding) for name, finding in run_checks(checks, "Redis")])


def _settings(overridden: Sequence[str], without_effect: Sequence[str]) -> Finding:
    details, fixes = [], []
    if overridden:
        details.append(f"DeviceVault's config.yaml has other values for: {', '.join(overridden)}")
        fixes.append("run `dvctl config` to see where each value comes from")
    if without_effect:
        details.append(f"{' and '.join(without_effect)} in config.yaml has no effect: the workers do not read it")
        fixes.append("set DEVICEVAULT_RESULTS_STREAM for the workers and dvctl")
    if details:
        return Finding("warning", "; ".join(details), "; ".join(fixes))
    return Finding("ok", "config.yaml has no other values")
