"""dvctl config: every setting and where it came from."""

from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Runtime


@command("dvctl config", "dvctl config --profile production -o json", redis=False)
def config(run: Runtime) -> None:
    """Show every setting and where its value comes from.

    Passwords are hidden. Precedence, highest first: flag, profile named by --profile, environment variable, profile
    named by DVCTL_PROFILE, DeviceVault's config.yaml, default. `detail` names the flag, variable, profile or file, and
    the variable that a profile overrides.
    """
    settings = [
        {"name": setting.name, "value": setting.shown, "source": setting.source}
        # The columns of a CSV stay as they are, for scripts that count them.
        | ({} if run.printer.output == "csv" else {"detail": setting.detail})
        for setting in run.settings.all
    ]
    run.printer.answer({"settings": settings}, "settings")
