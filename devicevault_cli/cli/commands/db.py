"""dvctl db: what the database can be helped with."""

from __future__ import annotations

from typing import Annotated, Any

from devicevault_cli.cli.arguments import Option
from devicevault_cli.cli.context import Runtime
from devicevault_cli.cli.options import command


@command("dvctl db index --dry-run", "dvctl db index --yes", redis=False, database=True, changes=True)
def index(run: Runtime) -> int:
    """Create a unique index on task_identifier, so that the database itself refuses a second row.

    On PostgreSQL without blocking writers. Refused while duplicates exist, which are listed, and on MySQL/MariaDB.
    """
    from devicevault_cli.operations.database.index import create_index, index_plan

    plan = index_plan(run.repository)
    run.printer.note(plan["plan"])
    answer: dict[str, Any] = {"created": False, "duplicates": plan["duplicates"], "applied": False}
    if plan["needed"] and not plan["duplicates"] and not run.dry_run:
        # What is not possible is refused by the database's own words, without a question before.
        if plan["possible"]:
            run.confirm("Create it?")
        answer = {**create_index(run.repository), "applied": True}
    run.printer.answer(answer, "duplicates")
    if answer["duplicates"]:
        run.printer.hint("`dvctl db dedupe` removes surplus rows that are equal")
        return 0 if run.dry_run else 1
    return 0


@command(
    "dvctl db init --database-url sqlite:///trial.sqlite3 --devices 50 --yes", redis=False, database=True, changes=True
)
def init(
    run: Runtime,
    devices: Annotated[int, Option("--devices", "Also add this many devices.", least=0)] = 0,
) -> None:
    """Create DeviceVault's tables in an empty database, for tests and trials only."""
    from devicevault_cli.operations.database.index import init_tables
    from devicevault_cli.repository.repository import open_repository
    from devicevault_cli.repository.tables import TABLES

    run.printer.note("creates DeviceVault's four tables in an empty database; a real one belongs to its migrations")
    answer = {"tables": 0, "devices": 0, "applied": False}
    if run.confirm("Create them?"):
        repository = open_repository(run.settings.database_url, TABLES[run.pipeline.table], create=True)
        try:
            answer = {**init_tables(repository, devices), "applied": True}
        finally:
            repository.close()
    run.printer.answer(answer)
