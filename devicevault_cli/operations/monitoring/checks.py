"""Running the checks of one server, so that an unreachable server is reported and waited for only once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple, TypeAlias

from devicevault_cli.errors import DvctlError, Unavailable

State: TypeAlias = Literal["ok", "warning", "problem", "unknown"]


class Finding(NamedTuple):
    """What a check found. `fix` is empty if there is nothing to fix."""

    status: State
    detail: str
    fix: str = ""


Check: TypeAlias = Callable[[], Finding]
"""Raises DvctlError if the check cannot be made."""


def run_checks(
    checks: Iterable[tuple[str, Check]], server: str, error: DvctlError | None = None
) -> Iterator[tuple[str, Finding]]:
    """Run the checks of one server. -> the name of each check and what it found

    The first check is whether the server can be used at all. If that is a problem, or once the server is unreachable,
    the other checks are skipped and `unknown`. `error`: why the server cannot be used, if that is known already.
    """
    skipped = ""
    for number, (name, check) in enumerate(checks):
        if skipped:
            yield name, Finding("unknown", skipped)
            continue
        finding, unreachable = _run(check) if error is None else (problem(error), isinstance(error, Unavailable))
        yield name, finding
        if unreachable:
            skipped = f"{server} is unreachable"
        elif number == 0 and finding.status == "problem":
            skipped = f"not examined: see {name}"


def _run(check: Check) -> tuple[Finding, bool]:
    """Run a check. -> what it found, and whether the server is unreachable"""
    try:
        return check(), False
    except Unavailable as error:
        return problem(error), True
    except DvctlError as error:
        return Finding("unknown", str(error), error.hint or ""), False


def problem(error: DvctlError) -> Finding:
    """An error as a problem, with its hint as the fix."""
    return Finding("problem", str(error), error.hint or "")
