"""dvctl doctor: is everything around the consumer as it should be?"""

from __future__ import annotations

from typing import Any

from devicevault_cli.commands.options import command
from devicevault_cli.errors import DvctlError
from devicevault_cli.runtime import Runtime

FOUND = 3


@command("dvctl doctor", "dvctl doctor -o json", "dvctl doctor --config /etc/devicevault/config.yaml")
def doctor(run: Runtime) -> int:
    """Examine Redis, the group, the database and the settings: small named checks, each with a fix.

    Only reads. Ends with 3 where something is to be repaired, and with 69 where Redis cannot be reached.
    """
    from devicevault_cli.operations.diagnose import diagnose, has_problem

    run.stream.ping()
    repository = run.repository if run.settings.has_database else None
    answer = diagnose(run.group, repository, *_compared(run))
    shown = {"checks": _with_fixes_below(answer["checks"])} if run.printer.output == "table" else answer
    run.printer.answer(shown, "checks", ("status", "name", "detail"))
    return FOUND if has_problem(answer) else 0


def _with_fixes_below(checks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For people: a command to type stands in one piece, in a line of its own."""
    rows = []
    for each in checks:
        rows.append(each)
        if each["fix"]:
            rows.append({"status": "", "name": "", "detail": f"fix: {each['fix']}"})
    return rows


def _compared(run: Runtime) -> tuple[list[str], list[str]]:
    """Of DeviceVault's config.yaml: settings about which it says something else than what is in force here, and keys
    that stand there without effect."""
    from devicevault_cli.config_files import config_path, from_config_yaml, load_config_yaml, without_effect

    config = run.settings["config"].value
    if config is None:
        return [], []
    path = config_path(config)
    try:
        content = load_config_yaml(path)
        said = from_config_yaml(content, path, run.pipeline.name)
    except DvctlError:
        return [], []
    values = {setting.name: setting.value for setting in run.settings.all}
    return [name for name, value in said.items() if name in values and values[name] != value], without_effect(content)
