"""dvctl check: one line and an exit code for monitoring."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Runtime
from devicevault_cli.cli.values import parsed
from devicevault_cli.errors import DvctlError
from devicevault_cli.operations.monitoring.limits import Limit, parse_age, parse_limit


@command("dvctl check", "dvctl check --max-lag 1000:10000 --max-age 5m", "dvctl check --format prometheus")
def check(
    run: Runtime,
    max_lag: Annotated[
        Limit | None,
        typer.Option("--max-lag", help="Undelivered entries.", metavar="[WARN:]N", parser=parsed(parse_limit)),
    ] = None,
    max_pending: Annotated[
        Limit | None,
        typer.Option("--max-pending", help="Pending entries.", metavar="[WARN:]N", parser=parsed(parse_limit)),
    ] = None,
    max_age: Annotated[
        Limit | None,
        typer.Option(
            "--max-age",
            help="Age of the oldest entry that is undelivered or pending.",
            metavar="[WARN:]DURATION",
            parser=parsed(parse_age),
        ),
    ] = None,
    max_dead: Annotated[
        Limit | None, typer.Option("--max-dead", help="Dead letters.", metavar="[WARN:]N", parser=parsed(parse_limit))
    ] = None,
    format_: Annotated[
        Literal["nagios", "json", "prometheus"] | None,
        typer.Option("--format", help="Output format (default: nagios)."),
    ] = None,
) -> int:
    """Report in one line whether the group keeps up.

    The exit code is 0 for ok, 1 for a warning, 2 for critical, 3 for unknown (also if a server is unreachable). Above N
    is critical, above WARN a warning. Without any limit: lag and pending 1000:10000, age 5m:1h, dead 0:100.
    """

    from devicevault_cli.operations.monitoring.check import CODES, DEFAULTS, nagios, prometheus, watch
    from devicevault_cli.output.printer import Printer

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

    from devicevault_cli.output.escapes import visible

    return {name: visible(value) if isinstance(value, str) else value for name, value in answer.items()}
