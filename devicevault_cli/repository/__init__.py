"""The repository library: all that dvctl knows of SQL.

Importing this package loads no driver; `open_repository` loads the one that the URL names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from devicevault_cli.repository.url import parse_url

if TYPE_CHECKING:
    from devicevault_cli.repository.repository import Repository
    from devicevault_cli.repository.tables import TableSpec


def open_repository(url: str, spec: TableSpec, *, create: bool = False, application_name: str = "dvctl") -> Repository:
    """The repository for a table of the database at a URL. It connects when it is first used.

    `create`: an SQLite file may be created. Raises BadConfig.
    """
    from devicevault_cli.repository.repository import Repository

    parsed = parse_url(url)
    if parsed.dialect == "postgresql":
        from devicevault_cli.repository.dialects.postgresql.dialect import PostgresDialect
        from devicevault_cli.repository.dialects.postgresql.writer import PipelineWriter

        postgres = PostgresDialect(parsed, spec, application_name)
        return Repository(postgres, PipelineWriter(postgres))
    from devicevault_cli.repository.locked_insert import LockedInsert

    if parsed.dialect == "mysql":
        from devicevault_cli.repository.dialects.mysql import MysqlDialect

        mysql = MysqlDialect(parsed, spec)
        return Repository(mysql, LockedInsert(mysql))
    from devicevault_cli.repository.dialects.sqlite import SqliteDialect

    sqlite = SqliteDialect(parsed, spec, create=create)
    return Repository(sqlite, LockedInsert(sqlite))
