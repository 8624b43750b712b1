"""The pure parts of the repository: parts, URLs, instants, binary arrays, the meaning of error codes."""

from __future__ import annotations

import struct
from collections import defaultdict
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from devicevault_cli.errors import (
    BadConfig,
    DvctlError,
    LockConflict,
    LocksExhausted,
    RecordRejected,
    Refused,
    SchemaMismatch,
    Unavailable,
)
from devicevault_cli.paging import paged
from devicevault_cli.record_columns import RecordColumns
from devicevault_cli.records import LATEST, Identity, identity
from devicevault_cli.repository import errors as codes
from devicevault_cli.repository.batches import split_distinct
from devicevault_cli.repository.dialects import mysql_index
from devicevault_cli.repository.dialects.postgresql.arrays import (
    EPOCH,
    Array,
    instants,
    integers,
    small_integers,
    texts,
)
from devicevault_cli.repository.dialects.postgresql.connection import conninfo
from devicevault_cli.repository.schema import to_micros, to_text, to_texts
from devicevault_cli.repository.tables import RESULTS, STORAGE, TableSpec
from devicevault_cli.repository.url import parse_url
from tests.support.records import result

# --- parts

_records = st.lists(
    st.builds(
        lambda key, task: result(key, task_id=task),
        st.sampled_from(("a", "b", "é", "\uffff", "😀", "")),
        st.sampled_from("xy"),
    )
)


@given(_records, st.booleans())
def test_parts_keep_repeats_apart_and_in_order(records: list[Any], by_identifier: bool) -> None:
    planned = split_distinct(records, by_identifier=by_identifier)
    assert sorted(position for part in planned for position in part.positions) == list(range(len(records)))
    seen = defaultdict(list)
    for part in planned:
        keys = [identity(records[position]) for position in part.positions]
        assert len(set(keys)) == len(keys)
        assert all(bool(records[position].task_identifier) is part.named for position in part.positions)
        for key, position in zip(keys, part.positions, strict=True):
            seen[key].append(position)
        if by_identifier and part.named:
            assert keys == sorted(keys)
        elif part.named:
            assert part.positions == sorted(part.positions)
    assert all(positions == sorted(positions) for positions in seen.values())
    assert split_distinct(RecordColumns.of(RESULTS.record, records), by_identifier=by_identifier) == planned


# --- instants


@given(st.integers(-62_135_596_800_000_000, LATEST))
def test_instants_survive_as_text_and_as_datetime(micros: int) -> None:
    text = to_text(micros)
    assert to_micros(text) == micros
    assert to_micros(datetime.fromisoformat(text)) == micros
    assert to_micros(datetime.fromisoformat(f"{text}+02:00")) == micros - 7_200_000_000
    assert to_text(micros) == str(datetime.fromisoformat(text).replace(tzinfo=None))


def test_a_fraction_of_zero_is_left_out() -> None:
    assert to_text(0) == "1970-01-01 00:00:00"
    assert to_text(LATEST) == "9999-12-31 23:59:59.999999"
    assert to_micros(datetime(2000, 1, 1, tzinfo=UTC)) == EPOCH


@given(st.lists(st.none() | st.integers(-62_135_596_800_000_000, LATEST) | st.integers(-2_000_000, 2_000_000)))
def test_many_times_are_written_as_each_one_is(instants: list[int | None]) -> None:
    assert to_texts(instants) == [None if instant is None else to_text(instant) for instant in instants]


# --- binary arrays


def unpacked(array: Array) -> list[bytes | None]:
    """What the server would read."""
    dimensions, _, _ = struct.unpack_from(">iiI", array.data)
    if dimensions == 0:
        assert len(array.data) == 12
        return []
    count, lower = struct.unpack_from(">ii", array.data, 12)
    assert (dimensions, lower) == (1, 1)
    elements: list[bytes | None] = []
    at = 20
    for _ in range(count):
        (length,) = struct.unpack_from(">i", array.data, at)
        at += 4
        elements.append(None if length < 0 else array.data[at : at + length])
        at += max(length, 0)
    assert at == len(array.data)
    return elements


@given(st.lists(st.text() | st.just("x" * 1023) | st.just("x" * 1024)))
def test_texts_are_packed_whole(values: list[str]) -> None:
    assert [element.decode() for element in unpacked(texts(values)) if element is not None] == values
    assert texts([value.encode() for value in values]) == texts(values)


@given(st.lists(st.none() | st.integers(-(2**63) + EPOCH, 2**63 - 1)))
def test_integers_and_instants_are_packed_whole(values: list[int | None]) -> None:
    expected = [None if value is None else struct.pack(">q", value) for value in values]
    assert unpacked(integers(values)) == expected
    moved = [None if value is None else struct.pack(">q", value - EPOCH) for value in values]
    assert unpacked(instants(values)) == moved


@given(st.lists(st.none() | st.integers(-(2**31), 2**31 - 1)))
def test_small_integers_are_packed_in_four_bytes_unless_one_is_large(values: list[int | None]) -> None:
    assert unpacked(small_integers(values)) == [None if value is None else struct.pack(">i", value) for value in values]
    assert small_integers([*values, 2**31]) == integers([*values, 2**31])


# --- URLs


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgres://u:pw@db.example:5433/vault", "PostgreSQL db.example:5433/vault"),
        ("postgresql+psycopg://u:p%40w@db/vault?sslmode=require", "PostgreSQL db/vault"),
        ("postgresql://u:pw@one:1,two:2/vault", "PostgreSQL one:1,two:2/vault"),
        ("postgresql://u:pw@[::1]:5432/vault", "PostgreSQL [::1]:5432/vault"),
        ("postgresql://u:pw@/vault?host=one:1&host=two:2", "PostgreSQL one:1,two:2/vault"),
        ("postgresql://u:pw@/vault?host=one,two&port=1,2", "PostgreSQL one:1,two:2/vault"),
        ("postgresql://u:pw@/vault?host=one,two&port=7", "PostgreSQL one:7,two:7/vault"),
        ("postgresql://u:pw@/vault?host=one&port=7", "PostgreSQL one:7/vault"),
        ("postgresql://u:pw@/vault?host=/run/postgresql", "PostgreSQL /run/postgresql/vault"),
        ("postgresql:///vault", "PostgreSQL localhost/vault"),
        ("mysql://u:pw@db/vault", "MySQL db/vault"),
        ("sqlite:////srv/a%20b.db", "SQLite file /srv/a b.db"),
        ("sqlite:///relative.db", "SQLite file relative.db"),
    ],
)
def test_urls_are_shown_without_their_secrets(url: str, shown: str) -> None:
    parsed = parse_url(url)
    assert parsed.shown == shown
    assert "pw" not in repr(parsed)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "secret",
        "oracle://u:secret@db/vault",
        "postgresql:/u:secret@db",
        "postgresql://u:secret@db:port/vault",
        "postgresql://u:secret@/vault?host=one:port&host=two",
        "postgresql://u:secret@/vault?host=one:70000&host=two",
        "mysql://u:secret@db:99999/vault",
        "mysql://u:secret@[db/vault",
        "sqlite://secret.db",
        "sqlite:///",
    ],
)
def test_a_url_that_cannot_be_read_is_not_repeated(url: str) -> None:
    with pytest.raises(BadConfig) as caught:
        parse_url(url)
    assert "secret" not in f"{caught.value} {caught.value.hint} {caught.value.__cause__} {caught.value.__context__}"


@pytest.mark.parametrize(
    ("url", "hosts", "ports"),
    [
        ("postgresql://u:p%2Bw@one:1,two:2/vault?options=-cx%3Dy+z", "one,two", "1,2"),
        ("postgres://u:p%2Bw@/vault?host=one:1&options=-cx%3Dy+z&host=two&host=[::1]:3", "one,two,::1", "1,,3"),
        ("postgresql://u:p%2Bw@/vault?host=one,two&port=1,2&options=-cx%3Dy+z", "one,two", "1,2"),
    ],
)
def test_several_hosts_are_spelled_as_libpq_does(url: str, hosts: str, ports: str) -> None:
    """Of several the primary is looked for, unless the URL says otherwise; nothing else of it is changed."""
    values = conninfo_to_dict(conninfo(parse_url(url), "dvctl"))
    assert (values["host"], values["port"]) == (hosts, ports)
    assert (values["password"], values["options"]) == ("p+w", "-cx=y+z")
    assert (values["target_session_attrs"], values["connect_timeout"]) == ("read-write", "3")
    own = conninfo_to_dict(conninfo(parse_url(f"{url}&target_session_attrs=any&connect_timeout=9"), "dvctl"))
    assert (own["target_session_attrs"], own["connect_timeout"]) == ("any", "9")
    single = conninfo_to_dict(conninfo(parse_url("postgresql://one/vault"), "dvctl"))
    assert "target_session_attrs" not in single


# --- tables


@pytest.mark.parametrize("spec", [RESULTS, STORAGE])
@pytest.mark.parametrize("which", ["key", (7, "task", 5, "failure", "[]")])
def test_a_probe_has_the_identity(spec: TableSpec, which: Identity) -> None:
    assert identity(spec.probe(which)) == which


def test_pages_hold_everything_once() -> None:
    assert list(paged(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(paged([])) == []


# --- errors


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("08006", Unavailable),
        ("57P01", Unavailable),
        ("57P03", Unavailable),
        ("57014", Unavailable),
        ("53100", Unavailable),
        ("53300", Unavailable),
        ("53200", LocksExhausted),
        ("25006", Unavailable),
        ("55P03", Unavailable),
        ("40001", Unavailable),
        ("40P01", Unavailable),
        ("58030", Unavailable),
        ("XX000", Unavailable),
        ("P0001", Unavailable),
        ("", Unavailable),
        ("28P01", Refused),
        ("28000", Refused),
        ("42501", Refused),
        ("42P01", SchemaMismatch),
        ("42703", SchemaMismatch),
        ("3D000", BadConfig),
        ("22001", RecordRejected),
        ("22P05", RecordRejected),
        ("23503", RecordRejected),
        ("23514", RecordRejected),
    ],
)
def test_what_a_sqlstate_means(code: str, expected: type[DvctlError]) -> None:
    error = codes.from_sqlstate(code, "said\nin two lines", "PostgreSQL db/vault")
    assert type(error) is expected
    assert "\n" not in str(error)
    assert "PostgreSQL db/vault" in str(error)
    assert code in str(error) or expected is not RecordRejected


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        *((number, LockConflict) for number in (1205, 1213)),
        *((number, Unavailable) for number in (2006, 2013, 1040, 1290, 1836, 1021, 2003, 1226, 0, 1317)),
        *((number, Refused) for number in (1045, 1044, 1142)),
        *((number, SchemaMismatch) for number in (1146, 1054)),
        (1049, BadConfig),
        *((number, RecordRejected) for number in (1153, 1292, 1366, 1406, 1452, 1048, 1062, 3140, 4025)),
    ],
)
def test_what_a_number_of_mysql_means(number: int, expected: type[DvctlError]) -> None:
    error = codes.from_mysql(number, "Data too long: 'secret'", "MySQL db/vault")
    assert type(error) is expected
    if expected is RecordRejected:
        assert "secret" not in str(error)


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (5, "database is locked", Unavailable),
        (261, "database is locked", Unavailable),
        (8, "attempt to write a readonly database", Unavailable),
        (13, "database or disk is full", Unavailable),
        (10, "disk I/O error", Unavailable),
        (14, "unable to open database file", Unavailable),
        (1, "no such table: x", SchemaMismatch),
        (1, "table x has no column named y", SchemaMismatch),
        (1, "something else", Unavailable),
        (26, "file is not a database", BadConfig),
        (23, "authorization denied", Refused),
        (787, "FOREIGN KEY constraint failed", RecordRejected),
        (18, "string or blob too big", RecordRejected),
    ],
)
def test_what_a_code_of_sqlite_means(code: int, text: str, expected: type[DvctlError]) -> None:
    assert type(codes.from_sqlite(code, text, "SQLite file x")) is expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('FATAL:  password authentication failed for user "x"', Refused),
        ('FATAL:  role "x" does not exist', Refused),
        ("FATAL:  no pg_hba.conf entry for host", Refused),
        ("fe_sendauth: no password supplied", Refused),
        ('FATAL:  database "x" does not exist', BadConfig),
        ("connection refused\n\tIs the server running on that host?", Unavailable),
        ("FATAL:  the database system is starting up", Unavailable),
        ("FATAL:  sorry, too many clients already", Unavailable),
        ("timeout expired", Unavailable),
    ],
)
def test_what_a_failure_to_connect_means(said: str, expected: type[DvctlError]) -> None:
    assert type(codes.from_libpq_connect(said, "PostgreSQL db/vault")) is expected


GROUP_REPLICATION = {"version": "8.0.40", "group_replication_group_name": "a-b-c"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"version": "10.11.6-MariaDB"}, (True, (10, 11, 6), "", "")),
        ({"version": "5.5.5-10.2.1-MariaDB", "wsrep_on": "OFF"}, (True, (10, 2, 1), "", "needs MariaDB 10.3")),
        ({"version": "8.0.13", "wsrep_on": "ON", "wsrep_provider": "none"}, (False, (8, 0, 13), "", "")),
        ({"version": "8.0.12-log"}, (False, (8, 0, 12), "", "needs MySQL 8.0.13 or later; this is 8.0.12")),
        (
            {"version": "11.4.2-MariaDB-log", "wsrep_on": "ON", "wsrep_provider": "/usr/lib/libgalera_smm.so"},
            (True, (11, 4, 2), "Galera", ""),
        ),
        (GROUP_REPLICATION | {"group_replication_single_primary_mode": "OFF"}, (False, (8, 0, 40), "several", "")),
        (GROUP_REPLICATION | {"group_replication_single_primary_mode": "ON"}, (False, (8, 0, 40), "", "")),
        (
            {"version": "8.4.0", "group_replication_group_name": "", "group_replication_single_primary_mode": "OFF"},
            (False, (8, 4, 0), "", ""),
        ),
    ],
)
def test_whether_a_server_of_mysql_shares_its_table_and_can_have_the_index(
    variables: dict[str, str], expected: tuple[bool, tuple[int, ...], str, str]
) -> None:
    connection: Any = SimpleNamespace(exec_driver_sql=lambda _: SimpleNamespace(all=variables.items))
    server = mysql_index.server_of(connection)
    writers, obstacle = expected[2:]
    assert (server.is_mariadb, server.version) == expected[:2]
    for text, part in ((server.writers, writers), (mysql_index.obstacle(server), obstacle)):
        assert bool(text) == bool(part)
        assert part in text


def test_on_mysql_the_index_is_on_an_expression() -> None:
    """No MySQL has run this: it is held to what its manual says of functional key parts, in double parentheses."""
    connection: Any = SimpleNamespace(exec_driver_sql=lambda *_: SimpleNamespace(first=lambda: None))
    server = mysql_index.Server(False, (8, 0, 13), "")
    name = RESULTS.index_name
    assert mysql_index.creation(connection, server, RESULTS) == (
        f"ALTER TABLE {RESULTS.name} ADD UNIQUE INDEX {name} ((NULLIF(CAST(task_identifier AS BINARY), '')))"
    )
    assert mysql_index.removal(server, RESULTS) == f"ALTER TABLE {RESULTS.name} DROP INDEX {name}"
