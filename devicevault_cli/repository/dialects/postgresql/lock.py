"""The table's advisory lock in the hands of a client that stopped: its session is ended, so that others can go on."""

from __future__ import annotations

from contextlib import suppress

import psycopg

from devicevault_cli.repository.dialects.postgresql.statements import load

_SQL = load("catalog.sql")

FROZEN_MS = 10_000
"""How long a session may hold the lock and leave a message exchange unfinished."""


def end_frozen_holder(connection: psycopg.Connection, key: int) -> int | None:
    """End the session whose client went silent between the parameters of its INSERT and the order to execute it.

    PostgreSQL applies none of its timeouts there: it is not idle in transaction, and `statement_timeout` waits for the
    message to be complete. libpq sends the two separately, so a client that is frozen in between (SIGSTOP, a paused
    machine) would hold the lock until it is thawed. A session of another role cannot be seen, and is left alone.
    -> the process id of the session that was ended
    """
    with suppress(psycopg.Error):
        ended = connection.execute(_SQL["end_frozen_holder"], {"key": key, "frozen_ms": FROZEN_MS}).fetchone()
        return int(ended[0]) if ended else None
    return None
