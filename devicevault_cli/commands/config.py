"""dvctl config: every setting and where it came from."""

from __future__ import annotations

from devicevault_cli.commands.options import command
from devicevault_cli.runtime import Runtime


@command("dvctl config", "dvctl config --profile production -o json", redis=False)
def config(run: Runtime) -> None:
    """Show every setting, its value without passwords, and where it came from.

    A flag outweighs the environment, that a profile, that DeviceVault's config.yaml, that the default.
    """
    settings = [{"name": each.name, "value": each.shown, "source": each.source} for each in run.settings.all]
    run.printer.answer({"settings": settings}, "settings")
