"""dvctl config: every setting and where it came from."""

from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context


@command("dvctl config", "dvctl config --profile production -o json", redis=False)
def config(ctx: Context) -> None:
    """Show every setting and where its value comes from.

    Passwords are hidden. Precedence, highest first: flag, profile named by --profile, environment variable, profile
    named by DVCTL_PROFILE, DeviceVault's config.yaml, default. `detail` names the flag, variable, profile or file, and
    the variable that a profile overrides. Also says whether storage dispatch is on.
    """
    settings = [
        {"name": setting.name, "value": setting.shown, "source": setting.source}
        # The columns of a CSV stay as they are, for scripts that count them.
        | ({} if ctx.printer.output == "csv" else {"detail": setting.detail})
        for setting in ctx.settings.all
    ]
    dispatch = ctx.dispatch.line if ctx.printer.output == "table" else ctx.dispatch.to_dict()
    ctx.printer.answer({"settings": settings, "dispatch": dispatch}, "settings")
