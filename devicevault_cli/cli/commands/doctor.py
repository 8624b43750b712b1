"""dvctl doctor: is everything around the consumer as it should be?"""

from collections.abc import Callable
from dataclasses import replace

from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.directories import expanded
from devicevault_cli.errors import DvctlError, ExitCode


@command(
    "dvctl doctor",
    "dvctl doctor -o json",
    "dvctl doctor --config /etc/devicevault/config.yaml",
    streams="each",
    columns=("name", "status", "detail", "fix"),
)
def doctor(ctx: Context) -> int:
    """Check the environment and suggest fixes.

    Checks Redis, the group, the database, the broker and the settings, each with a fix. Only reads. Ends with 3 if
    something needs repair, and with 69 if Redis is unreachable; the rest is checked even then.
    """
    from devicevault_cli.operations.monitoring.doctor import diagnose
    from devicevault_cli.output.doctor_page import doctor_lines

    redis_error = _error(ctx.stream.ping)
    if not ctx.is_first:
        return _further(ctx, redis_error)
    database_error = _error(lambda: ctx.repository) if ctx.settings.has_database else None
    answer = diagnose(
        ctx.group,
        ctx.repository if ctx.settings.has_database and database_error is None else None,
        *_compared(ctx),
        dispatch=ctx.dispatch,
        broker_url=ctx.settings.broker_url if ctx.dispatch.on else None,
        redis_error=redis_error,
        database_error=database_error,
    )
    if redis_error is not None and answer.status_of("database") != "ok":
        raise redis_error  # nothing else is known either
    ctx.printer.answer(answer.to_dict(), "checks", view=doctor_lines)
    if redis_error is not None:
        ctx.printer.error(str(redis_error), redis_error.hint, int(redis_error.exit_code))
        return redis_error.exit_code
    return ExitCode.FOUND if answer.has_problem else 0


def _further(ctx: Context, redis_error: DvctlError | None) -> int:
    """The checks of a further stream: the database, the broker and the settings are those of the first."""
    from devicevault_cli.operations.monitoring.doctor import diagnose_stream

    if redis_error is not None:
        raise redis_error
    answer = diagnose_stream(ctx.group)
    if ctx.printer.output == "table":  # a check that passes is shown for the first stream only
        answer = replace(answer, checks=[check for check in answer.checks if check.status != "ok"])
    ctx.printer.answer(answer.to_dict(), "checks")
    return ExitCode.FOUND if answer.has_problem else 0


def _error(look: Callable[[], object]) -> DvctlError | None:
    try:
        look()
    except DvctlError as error:
        return error
    return None


def _compared(ctx: Context) -> tuple[list[str], list[str]]:
    """Of DeviceVault's config.yaml: settings about which it says something else than what is in force here, and keys
    that stand there without effect."""
    from devicevault_cli.config_files import from_config_yaml, load_config_yaml, without_effect

    config = ctx.settings["config"].value
    if config is None:
        return [], []
    path = expanded(config)
    try:
        content = load_config_yaml(path)
        said = from_config_yaml(content, path, ctx.pipeline.name)
    except DvctlError:
        return [], []
    values = {setting.name: setting.value for setting in ctx.settings.all}
    return [name for name, value in said.items() if name in values and values[name] != value], without_effect(content)
