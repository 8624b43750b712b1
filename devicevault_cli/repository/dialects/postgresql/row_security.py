"""Row-level security: what policies forbid the user."""

from __future__ import annotations

import psycopg

from devicevault_cli.errors import TableAtFault
from devicevault_cli.repository.dialects.postgresql.statements import load
from devicevault_cli.repository.tables import DEVICES, TableSpec

_SQL = load("catalog.sql")


def sentences(connection: psycopg.Connection, spec: TableSpec) -> list[str]:
    """What policies forbid the user, a sentence for each table and command."""
    says = []
    for table, user, command, permits in connection.execute(_SQL["policies"], [[spec.name, DEVICES], spec.name]):
        if permits == "none":
            says.append(f"no policy of {table} allows {command} to {user}")
        elif permits == "some":
            says.append(f"policies of {table} allow {command} to {user} for some rows only")
    return says


def require_visible_devices(connection: psycopg.Connection, where: str, spec: TableSpec) -> None:
    """Raises TableAtFault where policies hide every device: each message would seem to be of an unknown one."""
    for table, user, command, permits in connection.execute(_SQL["policies"], [[DEVICES], spec.name]):
        if permits == "none":
            error = f"{where}: row-level security hides every row of {table} from {user} ({command})"
            raise TableAtFault(
                error, hint=f"as the owner: CREATE POLICY ... ON {table} FOR SELECT TO {user} USING (true);"
            )
