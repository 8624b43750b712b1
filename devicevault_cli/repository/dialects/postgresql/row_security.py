"""Row-level security: what policies forbid the user."""

from __future__ import annotations

import psycopg

from devicevault_cli.errors import TableAtFault
from devicevault_cli.repository.tables import DEVICES, TableSpec


def sentences(connection: psycopg.Connection, spec: TableSpec) -> list[str]:
    """What policies forbid the user, a sentence for each table and command."""
    says = []
    for table, user, command, permits in connection.execute(_POLICIES, [[spec.name, DEVICES], spec.name]):
        if permits == "none":
            says.append(f"no policy of {table} allows {command} to {user}")
        elif permits == "some":
            says.append(f"policies of {table} allow {command} to {user} for some rows only")
    return says


def require_visible_devices(connection: psycopg.Connection, where: str, spec: TableSpec) -> None:
    """Raises TableAtFault where policies hide every device: each message would seem to be of an unknown one."""
    for table, user, command, permits in connection.execute(_POLICIES, [[DEVICES], spec.name]):
        if permits == "none":
            error = f"{where}: row-level security hides every row of {table} from {user} ({command})"
            raise TableAtFault(
                error, hint=f"as the owner: CREATE POLICY ... ON {table} FOR SELECT TO {user} USING (true);"
            )


# Of each table with row-level security in force, for each command that dvctl uses: which rows are allowed.
_POLICIES = """
WITH policy AS (
    SELECT n.oid AS namespace, p.tablename, p.cmd, p.permissive = 'PERMISSIVE' AS permits,
        p.qual, coalesce(p.with_check, p.qual) AS checked
    FROM pg_policies AS p JOIN pg_namespace AS n ON n.nspname = p.schemaname
    WHERE 'public' = ANY (p.roles) OR EXISTS (
        SELECT FROM unnest(p.roles) AS r (name) JOIN pg_roles ON rolname = r.name
        WHERE pg_has_role(current_user, pg_roles.oid, 'member'))
)
SELECT c.relname, quote_ident(current_user), command, (
    SELECT CASE WHEN bool_or(permits) IS NOT TRUE THEN 'none'
        WHEN bool_or(permits AND condition = 'true') AND NOT bool_or(NOT permits AND condition <> 'true') THEN 'all'
        ELSE 'some' END
    FROM policy, LATERAL (SELECT CASE command WHEN 'SELECT' THEN qual ELSE checked END AS condition) AS l
    WHERE namespace = c.relnamespace AND tablename = c.relname AND cmd IN ('ALL', command)
)
FROM unnest(%s::text[]) AS wanted (name)
JOIN pg_class AS c ON c.oid = to_regclass(quote_ident(wanted.name))
CROSS JOIN (VALUES ('SELECT'), ('INSERT')) AS v (command)
WHERE row_security_active(c.oid) AND (command = 'SELECT' OR c.relname = %s)
ORDER BY c.relname, command DESC"""
