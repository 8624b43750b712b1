"""dvctl db: what the database can be helped with."""

from typing import Annotated

from devicevault_cli.cli.changes import about, change, facts_of
from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.values import whole_number


@command("dvctl db index --dry-run", "dvctl db index --yes", redis=False, database=True, changes=True)
def index(ctx: Context) -> int:
    """Create a unique index on task_identifier.

    The database itself then refuses a second row. On PostgreSQL without blocking writers; on MariaDB the index is on an
    invisible generated column, and the whole table is written anew. Refused while duplicates exist, which are listed,
    and on partitioned tables.
    """
    from devicevault_cli.operations.answer import keys_of
    from devicevault_cli.operations.changes.journal import opened
    from devicevault_cli.operations.database.index import (
        IdentityRows,
        IndexAnswer,
        create_index,
        index_plan,
        index_undo,
    )
    from devicevault_cli.output.change_page import index_lines

    plan, undo = index_plan(ctx.repository), index_undo(ctx.repository)
    ctx.printer.note(plan.says)
    if plan.needed and plan.possible:
        ctx.printer.note(undo.plan)
    ctx.printer.strong(f"target: {ctx.target}")
    answer = IndexAnswer(created=False, duplicates=plan.duplicates)
    if plan.needed and not plan.duplicates and not ctx.dry_run:
        # What is not possible is refused by the database's own words, without a question before.
        if plan.possible:
            ctx.confirm("Create the index?")
        with opened(about(ctx)) as journal:
            answer = create_index(ctx.repository, journal)
    ctx.printer.answer(facts_of(answer), "duplicates", view=index_lines, keys=keys_of(IdentityRows))
    if answer.undo:
        ctx.printer.hint(undo.prefix + answer.undo)
    if answer.duplicates:
        ctx.printer.hint("`dvctl db dedupe` removes duplicate rows that are equal")
        return 0 if ctx.dry_run else 1
    return 0


@command("dvctl db accept --dry-run", "dvctl db accept --yes", database=True, changes=True, streams="each")
def accept(ctx: Context) -> None:
    """Let consumers write to a server that they refuse.

    Consumers remember which PostgreSQL server they wrote to, and refuse an old primary that is back after a fail-over,
    and another cluster. This accepts the server that --database-url leads to now. Consumers that wait continue by
    themselves, after they looked recent entries up again; for everything before that, run `dvctl verify`.
    """
    from devicevault_cli.operations.database.accept import plan_accept

    ctx.repository.check(writing=False)
    change(ctx, lambda: plan_accept(ctx.group, ctx.repository), "Write to this server?")


@command(
    "dvctl db init --database-url sqlite:///trial.sqlite3 --devices 50 --yes", redis=False, database=True, changes=True
)
def init(
    ctx: Context,
    devices: Annotated[int, whole_number("--devices", text="Also add this many devices.", least=0)] = 0,
) -> None:
    """Create DeviceVault's tables in an empty database.

    For tests and trials only: a real database belongs to DeviceVault's migrations.
    """
    from devicevault_cli.operations.changes.journal import opened
    from devicevault_cli.operations.database.init import UNDO, InitAnswer, init_tables
    from devicevault_cli.output.change_page import init_lines
    from devicevault_cli.repository import open_repository
    from devicevault_cli.repository.tables import TABLES
    from devicevault_cli.repository.url import parse_url

    ctx.printer.note("creates DeviceVault's four tables in an empty database; a real one belongs to its migrations")
    ctx.printer.note(UNDO.plan)
    ctx.printer.strong(f"target: {parse_url(ctx.settings.database_url).shown}")
    answer = InitAnswer()
    if ctx.confirm("Create them?"):
        repository = open_repository(ctx.settings.database_url, TABLES[ctx.pipeline.table], create=True)
        try:
            with opened(about(ctx, repository)) as journal:
                answer = init_tables(repository, devices, journal)
        finally:
            repository.close()
    ctx.printer.answer(facts_of(answer), view=init_lines)
