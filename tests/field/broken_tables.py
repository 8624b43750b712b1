"""Ways in which a table comes to refuse every row, on each database, and how it is repaired."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import NamedTuple

from tests.support.oracle import TABLE
from tests.support.records import execute


class Case(NamedTuple):
    """How the table is broken and repaired, and what the alarm and `doctor` have to name."""

    broken: tuple[str, ...]
    healed: tuple[str, ...]
    named: tuple[str, ...]


def trigger(body: str, when: str = "BEFORE INSERT", more: str = "") -> tuple[str, ...]:
    """A trigger for each row in PostgreSQL."""
    return (
        f"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$",
        f"CREATE {more.partition('|')[0]} TRIGGER guard {when} ON {TABLE} {more.partition('|')[2]}"
        " FOR EACH ROW EXECUTE FUNCTION f()",
    )


ADD_SLOT = (f"ALTER TABLE {TABLE} ADD COLUMN slot integer", f"UPDATE {TABLE} SET slot = 1 ORDER BY id LIMIT 1")
SEQUENCE = f"pg_get_serial_sequence('{TABLE}', 'id')"
IN_STEP = f"SELECT setval({SEQUENCE}, (SELECT max(id) FROM {TABLE}))"
NO_TRIGGER = ("DROP FUNCTION f CASCADE",)
FIRST = f"(SELECT min(id) FROM {TABLE})"

POSTGRES = {
    "the id sequence is exhausted": Case(
        (f"SELECT setval({SEQUENCE}, 2147483647)",), (IN_STEP,), ("sequence", "2147483647", "bigint")
    ),
    "the id does not fit into its column (22003)": Case(
        (
            f"ALTER TABLE {TABLE} ALTER COLUMN id DROP IDENTITY",
            "CREATE SEQUENCE large AS bigint START 2147483648",
            f"ALTER TABLE {TABLE} ALTER COLUMN id SET DEFAULT nextval('large')",
        ),
        (f"ALTER TABLE {TABLE} ALTER COLUMN id TYPE bigint",),
        ("large", "bigint"),
    ),
    "a new column that must not be NULL": Case(
        (
            f"ALTER TABLE {TABLE} ADD COLUMN tenant integer NOT NULL DEFAULT 1",
            f"ALTER TABLE {TABLE} ALTER COLUMN tenant DROP DEFAULT",
        ),
        (f"ALTER TABLE {TABLE} ALTER COLUMN tenant SET DEFAULT 1",),
        ("tenant", "23502", "SET DEFAULT"),
    ),
    "a column that dvctl fills with NULL must not be NULL": Case(
        (f"ALTER TABLE {TABLE} ALTER COLUMN initiated_at SET NOT NULL",),
        (f"ALTER TABLE {TABLE} ALTER COLUMN initiated_at DROP NOT NULL",),
        ("initiated_at", "23502", "nullable"),
    ),
    "no partition for today": Case(
        (
            f"ALTER TABLE {TABLE} RENAME TO plain",
            "CREATE SEQUENCE ids START 1000",
            f"CREATE TABLE {TABLE} (LIKE plain) PARTITION BY RANGE (timestamp)",
            f"ALTER TABLE {TABLE} ALTER COLUMN id SET DEFAULT nextval('ids')",
            f"CREATE TABLE old PARTITION OF {TABLE} FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')",
        ),
        (f"CREATE TABLE rest PARTITION OF {TABLE} DEFAULT", f"INSERT INTO {TABLE} SELECT * FROM plain"),
        ("partition", "23514", "DEFAULT"),
    ),
    "the sequence is behind, the primary key has another name": Case(
        (f"ALTER INDEX {TABLE}_pkey RENAME TO one_of_each", f"SELECT setval({SEQUENCE}, 1, false)"),
        (IN_STEP,),
        ("sequence", "setval"),
    ),
    "a CHECK on a column that dvctl does not write": Case(
        (
            f"ALTER TABLE {TABLE} ADD COLUMN tenant integer DEFAULT 0",
            f"ALTER TABLE {TABLE} ADD CONSTRAINT has_tenant CHECK (tenant > 0) NOT VALID",
        ),
        (f"ALTER TABLE {TABLE} DROP CONSTRAINT has_tenant",),
        ("has_tenant", "23514"),
    ),
    "a CHECK that nothing can pass": Case(
        (f"ALTER TABLE {TABLE} ADD CONSTRAINT frozen CHECK (false) NOT VALID",),
        (f"ALTER TABLE {TABLE} DROP CONSTRAINT frozen",),
        ("frozen", "23514"),
    ),
    "an exclusion constraint on a column that dvctl does not write": Case(
        (
            f"ALTER TABLE {TABLE} ADD COLUMN slot int4range",
            f"UPDATE {TABLE} SET slot = '[1,9)' WHERE id = {FIRST}",
            f"ALTER TABLE {TABLE} ADD CONSTRAINT apart EXCLUDE USING gist (slot WITH &&)",
            f"ALTER TABLE {TABLE} ALTER COLUMN slot SET DEFAULT '[1,2)'",
        ),
        (f"ALTER TABLE {TABLE} DROP CONSTRAINT apart",),
        ("apart", "23P01"),
    ),
    "a unique index on a column that dvctl does not write": Case(
        (
            f"ALTER TABLE {TABLE} ADD COLUMN slot integer",
            f"UPDATE {TABLE} SET slot = 1 WHERE id = {FIRST}",
            f"CREATE UNIQUE INDEX one_slot ON {TABLE} (slot)",
            f"ALTER TABLE {TABLE} ALTER COLUMN slot SET DEFAULT 1",
        ),
        ("DROP INDEX one_slot",),
        ("one_slot", "23505"),
    ),
    "a foreign key that dvctl does not write, checked at COMMIT": Case(
        (
            f"ALTER TABLE {TABLE} ADD COLUMN site integer CONSTRAINT on_site"
            " REFERENCES locations_backuplocation DEFERRABLE INITIALLY DEFERRED",
            f"ALTER TABLE {TABLE} ALTER COLUMN site SET DEFAULT 999",
        ),
        (f"ALTER TABLE {TABLE} DROP CONSTRAINT on_site",),
        ("on_site", "23503"),
    ),
    "a trigger that refuses (P0001)": Case(
        trigger("RAISE EXCEPTION 'no tenant given';"), NO_TRIGGER, ("no tenant given", "P0001")
    ),
    "a trigger that refuses with the code of a CHECK": Case(
        trigger("RAISE EXCEPTION 'closed for today' USING ERRCODE = '23514';"),
        NO_TRIGGER,
        ("closed for today", "23514"),
    ),
    "a trigger that refuses at COMMIT with the code of a value": Case(
        trigger("RAISE 'not now' USING ERRCODE = '22023';", "AFTER INSERT", "CONSTRAINT|DEFERRABLE INITIALLY DEFERRED"),
        NO_TRIGGER,
        ("not now", "22023"),
    ),
    "a trigger whose own table is full": Case(
        (
            "CREATE TABLE audit (id integer PRIMARY KEY, who text)",
            "INSERT INTO audit VALUES (1, 'x')",
            *trigger("INSERT INTO audit VALUES (1, NEW.task_id);"),
        ),
        NO_TRIGGER,
        ("audit_pkey", "23505"),
    ),
    "a trigger that swallows the row": Case(trigger("RETURN NULL;"), NO_TRIGGER, ("reported no row", "guard")),
}

MARIADB = {
    "the AUTO_INCREMENT is exhausted": Case(
        (f"ALTER TABLE {TABLE} AUTO_INCREMENT = 2147483647",),
        (f"ALTER TABLE {TABLE} MODIFY id bigint NOT NULL AUTO_INCREMENT",),
        ("AUTO_INCREMENT", "bigint"),
    ),
    "a new column that must not be NULL": Case(
        (f"ALTER TABLE {TABLE} ADD COLUMN tenant integer NOT NULL",),
        (f"ALTER TABLE {TABLE} ALTER COLUMN tenant SET DEFAULT 1",),
        ("tenant", "1364", "SET DEFAULT"),
    ),
    "a column that dvctl fills with NULL must not be NULL": Case(
        (f"ALTER TABLE {TABLE} MODIFY initiated_at datetime(6) NOT NULL",),
        (f"ALTER TABLE {TABLE} MODIFY initiated_at datetime(6) NULL",),
        ("initiated_at", "1048", "nullable"),
    ),
    "no partition for today": Case(
        (
            f"RENAME TABLE {TABLE} TO plain",
            f"CREATE TABLE {TABLE} LIKE plain",
            f"ALTER TABLE {TABLE} DROP PRIMARY KEY, ADD PRIMARY KEY (id, timestamp)",
            f"ALTER TABLE {TABLE} PARTITION BY RANGE COLUMNS (timestamp) (PARTITION p VALUES LESS THAN ('2020-01-01'))",
        ),
        (
            f"ALTER TABLE {TABLE} ADD PARTITION (PARTITION rest VALUES LESS THAN (MAXVALUE))",
            f"INSERT INTO {TABLE} SELECT * FROM plain",
        ),
        ("partition", "1526"),
    ),
    "a CHECK on a column that dvctl does not write": Case(
        (
            f"ALTER TABLE {TABLE} ADD COLUMN tenant integer",
            f"ALTER TABLE {TABLE} ADD CONSTRAINT has_tenant CHECK (tenant > 0)",
            f"ALTER TABLE {TABLE} ALTER COLUMN tenant SET DEFAULT 0",
        ),
        (f"ALTER TABLE {TABLE} DROP CONSTRAINT has_tenant",),
        ("has_tenant", "4025"),
    ),
    "a unique index on a column that dvctl does not write": Case(
        (*ADD_SLOT, f"CREATE UNIQUE INDEX one_slot ON {TABLE} (slot)", f"ALTER TABLE {TABLE} ALTER slot SET DEFAULT 1"),
        (f"DROP INDEX one_slot ON {TABLE}",),
        ("one_slot", "1062"),
    ),
    "a foreign key that dvctl does not write": Case(
        (
            f"ALTER TABLE {TABLE} ADD COLUMN site integer",
            f"ALTER TABLE {TABLE} ADD CONSTRAINT on_site FOREIGN KEY (site) REFERENCES locations_backuplocation (id)",
            f"ALTER TABLE {TABLE} ALTER site SET DEFAULT 999",
        ),
        (f"ALTER TABLE {TABLE} DROP CONSTRAINT on_site",),
        ("on_site", "1452"),
    ),
    "a trigger that refuses": Case(
        (
            f"CREATE TRIGGER guard BEFORE INSERT ON {TABLE} FOR EACH ROW"
            " SIGNAL SQLSTATE '23000' SET MESSAGE_TEXT = 'no tenant given'",
        ),
        ("DROP TRIGGER guard",),
        ("no tenant given", "1644"),
    ),
}


REBUILD = "REBUILD "


def rebuilt(old: str, new: str) -> tuple[str, ...]:
    """SQLite alters little: a new table in the old one's place, its definition changed. `BACK` undoes it."""
    return (f"{REBUILD}{old}|{new}",)


LAST_COLUMN = "overall_duration_ms integer NULL"
BACK = (f"DROP TABLE {TABLE}", f"ALTER TABLE plain RENAME TO {TABLE}")

SQLITE = {
    "the ids are used up": Case(
        (f"UPDATE sqlite_sequence SET seq = 9223372036854775807 WHERE name = '{TABLE}'",),
        (f"UPDATE sqlite_sequence SET seq = (SELECT max(id) FROM {TABLE}) WHERE name = '{TABLE}'",),
        ("ids", "used up", "sqlite_sequence"),
    ),
    "a new column that must not be NULL": Case(
        rebuilt(LAST_COLUMN, f"{LAST_COLUMN}, tenant integer NOT NULL"), BACK, ("tenant", "NOT NULL", "SET DEFAULT")
    ),
    "a column that dvctl fills with NULL must not be NULL": Case(
        rebuilt("initiated_at datetime NULL", "initiated_at datetime NOT NULL"), BACK, ("initiated_at", "nullable")
    ),
    "a CHECK on a column that dvctl does not write": Case(
        rebuilt(LAST_COLUMN, f"{LAST_COLUMN}, tenant integer DEFAULT 0 CHECK (tenant > 0)"), BACK, ("tenant > 0",)
    ),
    "a unique index on a column that dvctl does not write": Case(
        (
            *rebuilt(LAST_COLUMN, f"{LAST_COLUMN}, slot integer DEFAULT 1 UNIQUE"),
            f"INSERT INTO {TABLE} SELECT *, 1 FROM plain LIMIT 1",
        ),
        BACK,
        ("slot",),
    ),
    "a foreign key that dvctl does not write, checked at COMMIT": Case(
        rebuilt(
            LAST_COLUMN,
            f"{LAST_COLUMN}, site integer DEFAULT 999 REFERENCES locations_backuplocation (id)"
            " DEFERRABLE INITIALLY DEFERRED",
        ),
        BACK,
        ("FOREIGN KEY", "site"),
    ),
    "a trigger that refuses": Case(
        (f"CREATE TRIGGER guard BEFORE INSERT ON {TABLE} BEGIN SELECT RAISE(ABORT, 'no tenant given'); END",),
        ("DROP TRIGGER guard",),
        ("no tenant given",),
    ),
    "a trigger that swallows the row": Case(
        (f"CREATE TRIGGER guard BEFORE INSERT ON {TABLE} BEGIN SELECT RAISE(IGNORE); END",),
        ("DROP TRIGGER guard",),
        ("reported no row", "trigger"),
    ),
}


def run(url: str, *statements: str) -> None:
    """Run statements in the database of a test, as its owner."""
    if not url.startswith("sqlite"):
        execute(url, *statements)
        return
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
        for statement in statements:
            if statement.startswith(REBUILD):
                old, new = statement.removeprefix(REBUILD).split("|")
                [[sql]] = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", [TABLE]).fetchall()
                assert old in sql, sql
                connection.execute(f"ALTER TABLE {TABLE} RENAME TO plain")
                connection.execute(sql.replace(old, new))
            else:
                connection.execute(statement)
