"""PostgreSQL databases in another encoding than UTF-8: which text they hold."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format

from devicevault_cli.repository.repertoire import Repertoire, Repertoires
from devicevault_cli.repository.tables import TableSpec


class _LenientText(Loader):
    """Text of a database that does not check its encoding: what is no UTF-8 is replaced, never an error."""

    format = Format.TEXT

    def load(self, data: Buffer) -> str:
        return bytes(data).decode(errors="replace")


def learn_encoding(
    connection: psycopg.Connection, spec: TableSpec, ask: Callable[[list[str]], list[str]]
) -> Repertoires:
    """The limits of the database's encoding; UTF8 has none, and SQL_ASCII takes any bytes and gives any back."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding == "UTF8":
        return {}
    if encoding == "SQL_ASCII":
        # As a UTF-8 client one could not read the rows that clients in other encodings wrote.
        connection.execute("SET client_encoding = 'SQL_ASCII'")
        for kind in ("text", "varchar", "bpchar", "name"):
            connection.adapters.register_loader(kind, _LenientText)
        return {}
    one = Repertoire(ask)
    return {(spec.name, column): one for column in spec.columns}


def unchanged(connection: psycopg.Connection, characters: list[str]) -> list[str]:
    """Those that the database converts to its encoding and back; for one that it lacks, all are refused together."""
    try:
        rows = connection.execute("SELECT c FROM unnest(%s::text[]) AS c", [characters]).fetchall()
    except psycopg.errors.UntranslatableCharacter:
        middle = len(characters) // 2
        parts = (characters[:middle], characters[middle:]) if middle else ()
        return [character for part in parts for character in unchanged(connection, part)]
    return [character for character, (back,) in zip(characters, rows, strict=True) if character == back]
