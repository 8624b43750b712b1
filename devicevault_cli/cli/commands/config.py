"""dvctl config: every setting and where it came from; profiles are written, checked and chosen."""

from collections.abc import Container, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from devicevault_cli.cli import complete
from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.options import forbid
from devicevault_cli.errors import BadConfig, Cancelled, DvctlError, ExitCode, Usage
from devicevault_cli.pipelines import PIPELINES

if TYPE_CHECKING:
    from devicevault_cli.operations.configuration.checks import ProfileCheck, ServerChecks
    from devicevault_cli.settings import Given, Settings

FIRST = "default"
"""What the first profile is called unless another name is given."""
QUESTIONS = {
    "redis_url": "Redis URL",
    "database_url": "Database URL",
    "stream": "Stream",
    "group": "Consumer group",
    "broker_url": "Celery's broker URL, or none",
}
DEFAULTING = ("stream", "group")
"""What is written only where it differs from the default."""

ProfileName: TypeAlias = Annotated[
    str | None, typer.Argument(help="Profile.", metavar="PROFILE", autocompletion=complete.profiles)
]


@command("dvctl config", "dvctl config show --profile production -o json", redis=False)
def show(ctx: Context) -> None:
    """Show every setting and where its value comes from.

    Passwords are hidden. Precedence, highest first: flag, profile named by --profile, environment variable, profile
    named by DVCTL_PROFILE or chosen by `dvctl config use`, DeviceVault's config.yaml, default. `detail` names the flag,
    variable, profile or file, and the variable that a profile overrides. Also says whether storage dispatch is on, and
    what the URL of a Redis Cluster or of Sentinels means.
    """
    from devicevault_cli.output.config_page import settings_lines

    settings = [
        {"name": setting.name, "value": setting.shown, "source": setting.source}
        # The columns of a CSV stay as they are, for scripts that count them.
        | ({} if ctx.printer.output == "csv" else {"detail": setting.detail})
        for setting in ctx.settings.all
    ]
    answer = {"settings": settings, "dispatch": ctx.dispatch.to_dict(), "redis": ctx.settings.redis_meaning}
    ctx.printer.answer(answer, "settings", view=settings_lines)


@command(
    "dvctl config init",
    "dvctl config init production --redis-url redis://redis/1 --database-url postgresql://dv@db/devicevault --use",
    redis=False,
    profiles=False,
    effect="writes dvctl's config.toml",
)
def init(
    ctx: Context,
    named: ProfileName = None,
    use: Annotated[bool, typer.Option("--use", help="Make the profile the default.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a profile of that name.")] = False,
    no_check: Annotated[bool, typer.Option("--no-check", help="Do not ask the servers first.")] = False,
) -> None:
    """Write a profile, from flags or answers to questions.

    The flags are --redis-url, --database-url, --stream, --group, --pipeline, --broker-url and --no-dispatch; without
    any of them the values are asked for on a terminal. Nothing is written before the servers of the profile have
    answered, and no profile is replaced without --force or a yes. The file is ~/.config/dvctl/config.toml, with
    mode 0600; its comments and other profiles stay. Without --use the default profile stays too.
    """
    from devicevault_cli.config_files import profiles_path
    from devicevault_cli.operations.configuration import profiles
    from devicevault_cli.output.config_page import written_lines

    path = profiles_path(ctx.terminal.environ)
    values: dict[str, Given] = {
        setting.name: setting.values if setting.more else setting.value or ""
        for setting in ctx.settings.all
        if setting.source == "flag" and setting.name in profiles.WRITTEN
    }
    asking = not values
    if asking and not ctx.terminal.can_ask:
        hint = "give at least one of --redis-url, --database-url, --stream, --group, --broker-url"
        raise Usage("no settings are given, and there is no terminal to ask on", hint=hint)
    there = profiles.existing(path)
    name = _chosen(ctx, named) or (_ask_name(ctx) if asking else FIRST)
    profiles.check_name(name)
    _may_replace(ctx, name, path, there=name in there.names, force=force)
    if asking:
        values = _ask_values(ctx)
    profiles.check_values(values)
    ordered = {key: values[key] for key in profiles.WRITTEN if key in values}
    checks = [] if no_check else _checked(ctx, ordered)
    default = use or (asking and there.default != name and ctx.printer.agreed("Make it the default profile?"))
    answer = profiles.write_profile(path, name, ordered, checks, default=default)
    ctx.printer.answer(answer.to_dict(), view=written_lines)
    ctx.printer.hint(
        f"run `dvctl status{'' if answer.default else f' --profile {name}'}` to see the stream and the rows"
    )
    if not answer.default:
        ctx.printer.hint(f"run `dvctl config use {name}` to make the profile the default")


@command(
    "dvctl config validate",
    "dvctl config validate production --connect",
    "dvctl config validate --connect -o json",
    redis=False,
    profiles=False,
)
def validate(
    ctx: Context,
    named: ProfileName = None,
    connect: Annotated[bool, typer.Option("--connect", help="Also ask Redis, the database and the broker.")] = False,
) -> int:
    """Check the profiles in dvctl's config.toml.

    Checks the syntax, unknown settings and values of one profile, or of all. Ends with 78 if something is wrong in the
    file. With --connect also asks the servers, and ends with 69, 77 or 78 as other commands do if one of them does not
    answer as it should.
    """
    from devicevault_cli.config_files import profiles_path, read_profiles
    from devicevault_cli.operations.answer import keys_of
    from devicevault_cli.operations.configuration.checks import (
        ProfileCheck,
        ValidateAnswer,
        file_checks,
        profile_checks,
    )
    from devicevault_cli.output.config_page import checks_lines

    path = profiles_path(ctx.terminal.environ)
    if not path.exists():
        raise BadConfig(f"there is no file {path}", hint="write a profile with `dvctl config init`")
    file = read_profiles(path)
    wanted = _chosen(ctx, named)
    if wanted is not None:
        _ = file.profile(wanted) if wanted not in file.names else None
    names = file.names if wanted is None else [wanted]
    checks = [*file_checks(file)]
    wrong = any(check.status == "problem" for check in checks)
    errors: list[DvctlError] = []
    for name in names:
        found = [*profile_checks(file, name)]
        usable = all(check.status == "ok" for check in found)
        wrong = wrong or not usable
        for servers in _servers(ctx, name) if connect and usable else ():
            found += servers.run()
            errors += [servers.error] if servers.error is not None else []
        checks += found
    default = file.default if file.default in file.names else None
    answer = ValidateAnswer(str(path), default, connect, not wrong and not errors, checks)
    ctx.printer.answer(answer.to_dict(), "checks", view=checks_lines, keys=keys_of(ProfileCheck))
    return ExitCode.CONFIG if wrong else int(errors[0].exit_code) if errors else 0


@command(
    "dvctl config use production",
    "dvctl config use --none",
    redis=False,
    profiles=False,
    effect="writes dvctl's config.toml",
)
def use(
    ctx: Context,
    named: ProfileName = None,
    none: Annotated[bool, typer.Option("--none", help="Have no default profile.")] = False,
) -> None:
    """Make a profile the default.

    It then applies where neither --profile nor DVCTL_PROFILE names another, with the rank of DVCTL_PROFILE: environment
    variables take precedence over it. Written to config.toml as `default-profile`; comments stay.
    """
    from devicevault_cli.config_files import profiles_path, read_profiles
    from devicevault_cli.operations.configuration.profiles import use_profile
    from devicevault_cli.output.config_page import used_lines

    wanted = _chosen(ctx, named)
    forbid((none and named is not None, "--none and PROFILE exclude each other"))
    if wanted is None and not none:
        raise Usage("missing argument PROFILE", hint="`dvctl config validate` lists the profiles")
    path = profiles_path(ctx.terminal.environ)
    answer = use_profile(path, None if none else wanted)
    ctx.printer.answer(answer.to_dict(), view=used_lines)
    if answer.profile != answer.before:
        undo = "--none" if answer.before is None else answer.before
        ctx.printer.hint(f"to undo this: dvctl config use {undo}")
    named = ctx.terminal.environ.get("DVCTL_PROFILE")
    if named and named != answer.profile:
        ctx.printer.warn(f"DVCTL_PROFILE names profile {named}, which takes precedence while it is set")
    elif answer.profile and (
        variables := _overriding(ctx.terminal.environ, read_profiles(path).profile(answer.profile))
    ):
        takes = "takes" if len(variables) == 1 else "take"
        ctx.printer.note(f"{', '.join(variables)} {takes} precedence over it; with --profile the profile does")


def _chosen(ctx: Context, named: str | None) -> str | None:
    """The profile that was typed, as an argument or with --profile."""
    setting = ctx.settings["profile"]
    return named or (setting.value if setting.source == "flag" else None)


def _ask_name(ctx: Context) -> str:
    return ctx.printer.ask("Profile", FIRST) or FIRST


def _may_replace(ctx: Context, name: str, path: Path, *, there: bool, force: bool) -> None:
    """Raises Usage or Cancelled where a profile of that name must stay."""
    if not there or force:
        return
    if not ctx.terminal.can_ask:
        raise Usage(f"{path} has a profile {name!r} already", hint="add --force to replace it, or give another name")
    if not ctx.printer.agreed(f"{path} has a profile {name} already. Replace it?"):
        raise Cancelled


def _ask_values(ctx: Context) -> "dict[str, Given]":
    """The answers, each asked for until it can be used. Enter takes the value in force."""
    found: dict[str, Given] = {}
    for name, question in QUESTIONS.items():
        setting = ctx.settings[name]
        shown = setting.shown or ("none" if name == "broker_url" else "")
        while True:
            value = ctx.printer.ask(question, shown)
            try:
                found |= _answered(name, value, setting.value, is_default=setting.source == "default")
                break
            except DvctlError as error:
                ctx.printer.error(str(error), error.hint)
    return found


def _answered(name: str, typed: str, present: str | None, *, is_default: bool) -> dict[str, str]:
    """What an answer adds to the profile. Raises BadConfig."""
    from devicevault_cli.operations.configuration.profiles import check_values

    if name == "broker_url" and (typed.lower() == "none" or not (typed or present)):
        return {}
    value = typed or present
    if value is None:
        raise BadConfig("a database is needed", hint="for example postgresql://USER@HOST/devicevault")
    check_values({name: value})
    return {} if name in DEFAULTING and is_default and value == present else {name: value}


def _checked(ctx: Context, values: "dict[str, Given]") -> "list[ProfileCheck]":
    """Ask the servers of a profile that is not written yet. Raises what one of them answers, or Cancelled."""
    from devicevault_cli.settings import load_each

    environ = {name: value for name, value in ctx.terminal.environ.items() if name != "DVCTL_PROFILE"}
    each = load_each(values, environ, profiles=False)
    asked = [_server_checks(ctx, None, settings, values) for settings in each]
    with ctx.printer.progress("asking the servers"):
        checks = [check for servers in asked for check in servers.run()]
    error = next((servers.error for servers in asked if servers.error is not None), None)
    if error is None:
        return checks
    if not ctx.terminal.can_ask:
        error.args = (f"{str(error).rstrip('.')}; the profile was not written",)
        error.hint = "; ".join(filter(None, (error.hint, "add --no-check to write it all the same")))
        raise error
    for check in checks:
        if check.status == "problem":
            ctx.printer.warn(f"{check.setting}: {check.detail}")
    if not ctx.printer.agreed("Write the profile all the same?"):
        raise Cancelled
    return checks


def _servers(ctx: Context, name: str) -> "Iterator[ServerChecks]":
    """For each pipeline of a profile."""
    from devicevault_cli.settings import load_each

    for settings in load_each({"profile": name}, ctx.terminal.environ):
        yield _server_checks(ctx, name, settings)


def _overriding(environ: Mapping[str, str], profile: "Mapping[str, Given]") -> list[str]:
    """The variables that are set and take precedence over settings of a default profile."""
    from devicevault_cli.settings import environment_variables

    named = profile.get("pipeline")
    pipeline = named if isinstance(named, str) and named in PIPELINES else "results"
    variables = [variable for name in profile for variable in environment_variables(name, pipeline)]
    return [variable for variable in variables if environ.get(variable)]


def _server_checks(
    ctx: Context, profile: str | None, settings: "Settings", only: Container[str] | None = None
) -> "ServerChecks":
    from devicevault_cli.operations.configuration.checks import ServerChecks

    own = replace(ctx, settings=settings, further=())
    groups = [partial(getattr, of_stream, "group") for of_stream in own.each_stream]
    return ServerChecks(profile, (settings, own.dispatch, groups, lambda: own.repository), only)
