"""Running named checks so that a server that is away is reported once, and waited for once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple, TypeAlias

from devicevault_cli.errors import DvctlError, Unavailable

State: TypeAlias = Literal["ok", "warning", "problem", "unknown"]


class Finding(NamedTuple):
    """What a check found. `fix` is empty where nothing needs one."""

    status: State
    detail: str
    fix: str = ""


Check: TypeAlias = Callable[[], Finding]


def examine(
    checks: Iterable[tuple[str, Check]], server: str, error: DvctlError | None = None
) -> Iterator[tuple[str, Finding]]:
    """Make the checks of one server. Once it is found to be away, the checks after that are `unknown` unmade.

    The first check says whether the server can be used at all: if that is a problem, the others depend on it.
    `error`: what is known to be the matter with the server already.
    """
    why = ""
    for number, (name, check) in enumerate(checks):
        if why:
            yield name, Finding("unknown", why)
            continue
        finding, away = _made(check) if error is None else (_failed(error), isinstance(error, Unavailable))
        yield name, finding
        if away:
            why = f"{server} is unreachable"
        elif number == 0 and finding.status == "problem":
            why = f"not examined: see {name}"


def _made(check: Check) -> tuple[Finding, bool]:
    """A finding, and whether it is that the server is away."""
    try:
        return check(), False
    except Unavailable as error:
        return _failed(error), True
    except DvctlError as error:
        return Finding("unknown", str(error), error.hint or ""), False


def _failed(error: DvctlError) -> Finding:
    return Finding("problem", str(error), error.hint or "")
