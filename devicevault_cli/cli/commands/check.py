"""dvctl check: one line and an exit code for monitoring."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.values import parsed
from devicevault_cli.errors import DvctlError
from devicevault_cli.operations.monitoring.limits import Limit, parse_age, parse_limit

if TYPE_CHECKING:
    from devicevault_cli.operations.monitoring.check import CheckAnswer


@command(
    "dvctl check", "dvctl check --max-lag 1000:10000 --max-age 5m", "dvctl check --format prometheus", streams="own"
)
def check(
    ctx: Context,
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

    Also checks that the table can be read, that storage dispatch is on where devices need it, and that the broker
    answers. The exit code is 0 for ok, 1 for a warning, 2 for critical, 3 for unknown (also if a server is
    unreachable). Above N is critical, above WARN a warning. Without any limit: lag and pending 1000:10000, age 5m:1h,
    dead 0:100.
    """

    from devicevault_cli.operations.monitoring.check import (
        CODES,
        DEFAULTS,
        nagios,
        prometheus,
    )
    from devicevault_cli.operations.monitoring.check_streams import together
    from devicevault_cli.output.printer import Printer

    given = {"lag": max_lag, "pending": max_pending, "age_s": max_age, "dead": max_dead}
    limits = {name: limit for name, limit in given.items() if limit is not None} or DEFAULTS
    each = [_checked(one, limits) for one in ctx.each_stream]
    answer = each[0] if len(each) == 1 else together(each, limits, ctx.settings["stream"].shown or "")
    if format_ == "json":
        Printer(ctx.terminal, "json").answer(answer.to_dict())
    elif format_ is None:
        # Where nothing could be checked there are no rows, and the answer itself is the one line.
        ctx.printer.answer(
            answer.to_dict(), "checks" if answer.checks else None, lines=lambda _: nagios(_inert(answer))
        )
    else:
        lines = prometheus(*map(_inert, each)) if format_ == "prometheus" else nagios(_inert(answer))
        Printer(ctx.terminal).answer(answer.to_dict(), lines=lambda _: lines)
    return CODES[answer.status]


def _checked(ctx: Context, limits: "dict[str, Limit]") -> "CheckAnswer":
    """The answer about one stream; the database and the broker are asked with the first."""
    from devicevault_cli.operations.monitoring.check import CheckAnswer, check_group

    shared = ctx.is_first
    try:
        return check_group(
            ctx.group,
            limits,
            lambda: ctx.repository if ctx.settings.has_database and shared else None,
            ctx.dispatch if shared else None,
            ctx.settings.broker_url if ctx.dispatch.on and shared else None,
        )
    except DvctlError as error:
        return CheckAnswer("unknown", ctx.settings.stream, ctx.settings.group, [], error=str(error))


def _inert(answer: "CheckAnswer") -> "CheckAnswer":
    """With control characters escaped: what reads these formats takes a line break or a `\\x` in a name for its own."""
    from devicevault_cli.output.escapes import visible

    error = None if answer.error is None else visible(answer.error)
    checks = [replace(check, detail=visible(check.detail)) if check.detail else check for check in answer.checks]
    return replace(answer, stream=visible(answer.stream), group=visible(answer.group), error=error, checks=checks)
