"""dvctl check: one line and an exit code for monitoring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from devicevault_cli.cli.arguments import Option
from devicevault_cli.cli.context import Runtime
from devicevault_cli.cli.options import command
from devicevault_cli.errors import DvctlError, Usage
from devicevault_cli.operations.monitoring.check import CODES, DEFAULTS, Limit, nagios, prometheus, watch
from devicevault_cli.output.escapes import visible
from devicevault_cli.output.printer import Printer
from devicevault_cli.times import parse_duration


def _number(text: str) -> float:
    if not text.isascii() or not text.isdigit():
        raise Usage(f"not a number: {text[:60]!r}")
    if len(text) > 18:
        raise Usage(f"{text[:60]} is out of range")
    return float(text)


def parse_limit(text: str) -> Limit:
    """`100`: critical above it; `50:100`: a warning above the first, critical above the second. Raises Usage."""
    return _limit(*(_number(part) for part in _parts(text)))


def parse_age(text: str) -> Limit:
    """The same of durations, in seconds: `5m`, `5m:1h`. Raises Usage."""
    return _limit(*(parse_duration(part) / 1000 for part in _parts(text)))


def _parts(text: str) -> list[str]:
    parts = text.split(":")
    if len(parts) > 2 or "" in parts:
        raise Usage(f"not a limit: {text[:60]!r}", hint="a limit looks like 100, or 50:100 (warning:critical)")
    return parts


def _limit(first: float, second: float | None = None) -> Limit:
    if second is not None and second < first:
        raise Usage("the critical limit is below that of the warning")
    return Limit(None, first) if second is None else Limit(first, second)


@command("dvctl check", "dvctl check --max-lag 1000:10000 --max-age 5m", "dvctl check --format prometheus")
def check(
    run: Runtime,
    max_lag: Annotated[Limit | None, Option("--max-lag", "Undelivered entries.", "[WARN:]N", parse_limit)] = None,
    max_pending: Annotated[Limit | None, Option("--max-pending", "Pending entries.", "[WARN:]N", parse_limit)] = None,
    max_age: Annotated[
        Limit | None,
        Option("--max-age", "Age of the oldest entry that is undelivered or pending.", "[WARN:]DURATION", parse_age),
    ] = None,
    max_dead: Annotated[Limit | None, Option("--max-dead", "Dead letters.", "[WARN:]N", parse_limit)] = None,
    format_: Annotated[
        Literal["nagios", "json", "prometheus"] | None, Option("--format", "How the answer is printed [nagios].")
    ] = None,
) -> int:
    """Say in one line whether the group keeps up: 0 ok, 1 warning, 2 critical, 3 unknown (also: unreachable).

    Above N is critical, above WARN a warning. Without any limit: lag and pending 1000:10000, age 5m:1h, dead 0:100.
    """
    given = {"lag": max_lag, "pending": max_pending, "age_s": max_age, "dead": max_dead}
    limits = {name: limit for name, limit in given.items() if limit is not None} or DEFAULTS
    try:
        answer = watch(run.group, limits, lambda: run.repository if run.settings.has_database else None)
    except DvctlError as error:
        about = {"stream": run.stream.key, "group": run.group.name}
        answer = {"status": "unknown", **about, "checks": [], "error": str(error)}
    if format_ == "json":
        Printer(run.terminal, "json").answer(answer)
    elif format_ is None:
        # Where nothing could be checked there are no rows, and the answer itself is the one line.
        run.printer.answer(answer, "checks" if answer["checks"] else None, lines=lambda told: nagios(_inert(told)))
    else:
        shape = prometheus if format_ == "prometheus" else nagios
        Printer(run.terminal).answer(answer, lines=lambda told: shape(_inert(told)))
    return CODES[answer["status"]]


def _inert(answer: Mapping[str, Any]) -> dict[str, Any]:
    """With names as they are shown: what reads these formats takes a line break or a `\\x` in a name for its own."""
    return {name: visible(value) if isinstance(value, str) else value for name, value in answer.items()}
