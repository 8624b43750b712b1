"""The catalogue of bad input: what looks wrong and is kept, what becomes NULL, what is rejected - on every database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from tests.support.messages import Fields
from tests.support.oracle import TABLE, beside
from tests.support.process import Dvctl
from tests.support.rows import EPOCH, micros, select
from tests.support.schema import DEVICES

pytestmark = [pytest.mark.acceptance]

INT4_MAX, INT8_MAX = 2**31 - 1, 2**63 - 1
COLUMNS = ("task_id", "task_identifier", "device_id", "status", "log", "initiated_at", "collection_duration_ms")
STREAMS = {"results": "device:results", "storage": "storage:results"}


@dataclass(frozen=True, slots=True)
class Case:
    """A message, and what becomes of it: a row with these values, noting these fields; or a letter; or nothing."""

    fields: Fields
    row: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    reason: str = ""


def fields_of(number: object, **changes: Any) -> Fields:
    """A good message of its own identity with changes: text, bytes, or None for a field that is absent."""
    base: dict[str, Any] = {"task_identifier": f"case:{number}", "device_id": "7", "status": "success", "log": '["x"]'}
    return {name.encode(): _bytes(value) for name, value in (base | changes).items() if value is not None}


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


# --- kept as it is


LOGS = (
    *('["\N{ROCKET} done"]', '["\'; DROP TABLE devices_devicebackupresult; --", "%s %(x)s {} \\\\ \\" ?"]'),
    *('["a\\nb", "\\u001b[31mred\\u001b[0m", "[bold]markup[/bold]"]', '["\u202eright to left\u200b", "\x7f\x9b31m"]'),
    *('["\\ud800", "\\udfff\\ud800", "\\u0000"]', '[{"key": 1, "key": 2}]', " \t\r\n[ ] \n", "[null, 1e999, -0]"),
    *("[" + "9" * 5000 + "]", "[" * 10_000 + "]" * 10_000, "[" + '{"a":' * 10_000 + "0" + "}" * 10_000 + "]"),
    '["' + "\u00e9 long " * 2_500_000 + '"]',
)
NAMES = (
    *("Name", "name", "NAME", "n\u00e4me", "na\u0308me", "name ", "name  ", " name", "name\t", "name\n", " ", "  "),
    *("stra\u00dfe", "strasse", "\u0130", "i\u0307", "\uff21", "A", "zero\u200bwidth", "zerowidth", "\U0001f680" * 128),
    *("a%", "a_", "a\\", "a'", 'a"', "a\x1b[2J", "-a", "=1+1", "i" * 128, "NULL", "\u00e9" * 128, "\x7f", "\u0378"),
)
STATUSES = ("partial", "SUCCESS", "success ", " ", "s" * 16, "\u00e9" * 16, "\U0001f680" * 16, "\x1b[1m", "a\nb")


def kept() -> list[Case]:
    """What looks wrong and is stored as it is."""
    cases = [Case(fields_of(f"log {number}", log=log), {"log": log}) for number, log in enumerate(LOGS)]
    cases += [Case(fields_of(name, task_identifier=name), {"task_identifier": name}) for name in NAMES]
    cases += [Case(fields_of(f"status {one}", status=one), {"status": one}) for one in STATUSES]
    cases += [Case(fields_of(f"task {one[0]}", task_id=one), {"task_id": one}) for one in ("t" * 64, "\u00fc" * 64)]
    for one in ("7", "007", "0" * 30 + "7"):
        cases.append(Case(fields_of(f"device {one}", device_id=one), {"device_id": 7}))
    for absent in (None, ""):
        cases.append(Case(fields_of(f"no status {absent}", status=absent), {"status": "failure"}))
        cases.append(Case(fields_of(f"no log {absent}", log=absent), {"log": "[]"}))
        cases.append(Case(fields_of(f"no task {absent}", task_id=absent), {"task_id": ""}))
        cases.append(
            Case(fields_of("", task_identifier=absent, task_id=f"anonymous {absent}"), {"task_identifier": ""})
        )
    strange = {f"extra {number}": number for number in range(6000)} | {"": "no name", "\x1b]0;title\x07": "\x00"}
    return [*cases, Case(fields_of("thousands of fields", **strange))]


# --- NULL with a note


def at(year: int, *rest: int) -> int:
    """UTC in microseconds."""
    month, day, hour, minute, second, micros = (*rest, *(1, 1, 0, 0, 0, 0)[len(rest) :])
    return (datetime(year, month, day, hour, minute, second, micros, tzinfo=UTC) - EPOCH) // datetime.resolution


TIMES = {
    "2026-01-12T04:47:00.123456+00:00": at(2026, 1, 12, 4, 47, 0, 123456),
    "2026-01-12T04:47:00.1234567Z": at(2026, 1, 12, 4, 47, 0, 123456),
    "2026-01-12T04:47:00Z": at(2026, 1, 12, 4, 47),
    "2026-01-12t04:47:00z": at(2026, 1, 12, 4, 47),
    "2026-01-12 04:47:00": at(2026, 1, 12, 4, 47),
    "2026-01-12T04:47": at(2026, 1, 12, 4, 47),
    "2026-01-12": at(2026, 1, 12),
    "20260112T044700Z": at(2026, 1, 12, 4, 47),
    "2026-01-12T10:17:00.5+05:30": at(2026, 1, 12, 4, 47, 0, 500000),
    "2026-01-12T10:17:00+0530": at(2026, 1, 12, 4, 47),
    "2026-01-11T23:47:00-05": at(2026, 1, 12, 4, 47),
    "2024-02-29T00:00:00Z": at(2024, 2, 29),
    "0001-01-01T00:00:00Z": at(1, 1, 1),
    "0099-12-31T23:59:59.000001": at(99, 12, 31, 23, 59, 59, 1),
    "1582-10-10T00:00:00Z": at(1582, 10, 10),
    "9999-12-31T23:59:59.999999Z": at(9999, 12, 31, 23, 59, 59, 999999),
}
NO_TIMES = (
    *("2026-01-12T04:47:60Z", "2026-01-12T24:00:00Z", "2026-01-12T04:60:00Z", "10000-01-01T00:00:00Z", "now"),
    *("infinity", "-infinity", "epoch", "2026-02-30T00:00:00Z", "2025-02-29", "0000-01-01T00:00:00Z", "2026-13-01"),
    *("0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00", "2026-01-12T04:47:00+24:00", "1768193220", "null"),
    *(
        "2026-1-12",
        "2026-0112T04:47:00",
        "\u0662\u0660\u0662\u0666-01-12T04:47:00Z",
        " 2026-01-12T04:47:00Z",
        "2026-01-12T04:47:00Z\n",
    ),
    *("12.01.2026", "2026-01-12T04:47:00 UTC", "2026-01-12T04:47:00.Z", "-2026-01-12", b"\xff", b"2026-01-12\x00"),
)
DURATIONS = {"0": 0, "007": 7, "2147483647": INT4_MAX, "0" * 40 + "12": 12}
NO_DURATIONS = (
    *("NaN", "1e3", "-5", "-0", "+5", "\u0661\u0662", "1_000", "1.5", " 5", "5 ", "5\n", "inf", "0x10", "\u00b2"),
    *("2147483648", "9" * 5000, b"\xff", b"5\x00", "null"),
)


def doubtful() -> list[Case]:
    """Times and durations: a value, or NULL with a note; without any, NULL and no note."""
    cases = [Case(fields_of(f"time {one}", initiated_at=one), {"initiated_at": TIMES[one]}) for one in TIMES]
    cases += [
        Case(fields_of(f"no time {number}", initiated_at=one), {"initiated_at": None}, ("initiated_at",))
        for number, one in enumerate(NO_TIMES)
    ]
    name = "collection_duration_ms"
    cases += [Case(fields_of(f"ms {one}", **{name: one}), {name: DURATIONS[one]}) for one in DURATIONS]
    cases += [
        Case(fields_of(f"no ms {number}", **{name: one}), {name: None}, (name,))
        for number, one in enumerate(NO_DURATIONS)
    ]
    nothing = {name: None, "initiated_at": None}
    return [
        *cases,
        Case(fields_of("neither", **{name: "", "initiated_at": ""}), nothing),
        Case(fields_of("0"), nothing),
    ]


# --- rejected


DEVICE_IDS = (
    *("abc", "-1", "+1", "0", "000", "1e3", "12.0", "1_000", "\u0661\u0662", "\u00b2", " 7x", " 7", "7 ", "7\n", "0x7"),
    *(INT4_MAX + 1, INT8_MAX, INT8_MAX + 1, "9" * 5000, b"\xff", b"7\x00", b"\x00", "None", "\x1b]0;owned\x07"),
)
TEXTS = ("task_id", "task_identifier", "status", "log")
NOT_UTF8 = (b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b'["\xe9"]', b"a\xc3")
NOT_LISTS = (
    *("{", '"x"', "{}", "[1", "1", "null", "[NaN]", "[Infinity]", "[] []", "[1,]", "[,]", "['x']", "[01]", '["\n"]'),
    *("\ufeff[]", "\u00a0[]", "[" * 10_000, "[" * 10_000 + "]" * 9_999, '{"a":' * 10_000, '["\\x41"]', '["\\ud80"]'),
)


def rejected() -> list[Case]:
    """What becomes a letter, with its reason."""
    cases = [_bad("invalid-device-id", device_id=one) for one in DEVICE_IDS]
    cases += [_bad("missing-device-id", device_id=one) for one in (None, "")]
    cases += [_bad("unknown-device", device_id=one) for one in (DEVICES + 1, INT4_MAX)]
    cases += [_bad("invalid-encoding", **{name: one}) for name in TEXTS for one in NOT_UTF8]
    cases += [_bad("nul-character", **{name: one}) for name in TEXTS for one in (b"\x00", b'["a\x00"]')]
    cases += [_bad("malformed-log", log=one) for one in NOT_LISTS]
    for name, limit in (("task_id", 64), ("task_identifier", 128), ("status", 16)):
        cases += [_bad("value-too-long", **{name: one}) for one in ("x" * (limit + 1), "x" + " " * limit, "x" * 10**6)]
    many = {f"extra {number}": f"{number}:," for number in range(6000)}
    cases.append(_bad("invalid-device-id", device_id="many", **many, **{"": "", "\x00": b"\xff\x00"}))
    cases.append(_bad("unknown-device", device_id=999, device_config=bytes(range(256)) * 40))
    cases.append(
        Case({b"hello": b"world", b"operation": b"store", b"_dvctl.reason": b"forged"}, reason="empty-message")
    )
    return cases + _in_order()


def _bad(reason: str, **changes: Any) -> Case:
    return Case(fields_of(f"bad {reason}", **changes), reason=reason)


def _in_order() -> list[Case]:
    """Everything wrong at once, then one fault less each time: the documented order decides."""
    wrong: dict[str, Any] = {"status": b"\xff", "task_id": b"t\x00", "task_identifier": "i" * 129, "log": "{"}
    steps: tuple[tuple[str, dict[str, Any]], ...] = (
        ("invalid-encoding", {"device_id": ""}),
        ("nul-character", {"status": "s"}),
        ("missing-device-id", {"task_id": "t"}),
        ("invalid-device-id", {"device_id": "x"}),
        ("value-too-long", {"device_id": "999"}),
        ("malformed-log", {"task_identifier": "i"}),
        ("unknown-device", {"log": "[]"}),
    )
    cases = []
    for reason, mended in steps:
        wrong |= mended
        cases.append(_bad(reason, **wrong))
    return cases


# --- through the consumer


def consumed(dvctl: Dvctl, url: str, database_url: str, cases: list[Case], pipeline: str = "results") -> dict[str, Any]:
    """Publish every case, persisted ones twice, and drain. Compares what became of each. -> the answer"""
    stream = STREAMS[pipeline]
    with redis.Redis.from_url(url) as client:
        ids = [client.xadd(stream, one.fields).decode() for one in cases]
        dvctl.use(url, database_url)
        answer = dvctl.ok("consume", "--pipeline", pipeline, "--drain", "--verbose", "-o", "json")
        compare_letters(client, stream, dict(zip(ids, cases, strict=True)))
        again = [one for one in cases if not one.reason and one.fields.get(b"task_identifier")]
        for one in again:
            client.xadd(stream, one.fields)
        second = dvctl.json("consume", "--pipeline", pipeline, "--drain")
        assert (second["duplicates"], second["persisted"]) == (len(again), 0), "each identity is found, and only itself"
    noted = re.findall(r"entry (\d+-\d+): (\w+) is unusable", answer.stderr)
    assert sorted(noted) == sorted((key, name) for key, one in zip(ids, cases, strict=True) for name in one.notes)
    counted: dict[str, Any] = answer.json()
    return counted


def compare_letters(client: Any, stream: str, cases: dict[str, Case]) -> None:
    """Each bad message has its letter: the reason, and the message byte for byte."""
    letters = {fields.pop(b"_dvctl.id").decode(): fields for _, fields in client.xrange(beside(stream, "dead"))}
    assert {key: fields[b"_dvctl.reason"].decode() for key, fields in letters.items()} == {
        key: one.reason for key, one in cases.items() if one.reason
    }
    for key, fields in letters.items():
        own = unpacked(fields.pop(b"_dvctl.packed", b"")) | {n: v for n, v in fields.items() if b"_dvctl." not in n}
        assert own == {name: value for name, value in cases[key].fields.items() if b"_dvctl." not in name}


def unpacked(netstrings: bytes) -> Fields:
    """A message of too many fields for a script: `LENGTH:BYTES,` for each name and value."""
    parts = []
    while netstrings:
        length, _, rest = netstrings.partition(b":")
        parts.append(rest[: int(length)])
        assert rest[int(length) :][:1] == b","
        netstrings = rest[int(length) + 1 :]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_database_keeps_and_rejects_the_same(dvctl: Dvctl, redis_url: str, database_url: str) -> None:
    cases = kept() + doubtful() + rejected()
    answer = consumed(dvctl, redis_url, database_url, cases)
    stored = [one for one in cases if not one.reason]
    assert (answer["persisted"], answer["dead_lettered"]) == (len(stored), len(cases) - len(stored))
    columns = ", ".join(COLUMNS)
    found = [dict(zip(COLUMNS, one, strict=True)) for one in select(database_url, f"SELECT {columns} FROM {TABLE}")]
    rows = {(row["task_identifier"], row["task_id"]): row for row in found}
    assert len(found) == len(rows) == len(stored)
    for one in stored:
        row = rows[one.fields.get(b"task_identifier", b"").decode(), one.fields.get(b"task_id", b"").decode()]
        row["initiated_at"] = micros(row["initiated_at"]) if row["initiated_at"] is not None else None
        expected = {"device_id": 7} | one.row
        assert {name: row[name] for name in expected} == expected, one.fields


STORED = {"operation": "store", "storage_backend": "git", "storage_ref": "0" * 40}
STORAGE_COLUMNS = ("task_identifier", "status", "log", "storage_backend", "storage_ref", "storage_duration_ms")


def storage_cases() -> list[Case]:
    """The same rules on the other stream, with its own fields."""
    texts = (*TEXTS, "storage_backend", "storage_ref")
    cases = [
        Case(
            fields_of("good", **STORED, storage_duration_ms="5"), {"storage_duration_ms": 5, "storage_backend": "git"}
        ),
        Case(fields_of("bare", operation="store"), {"storage_backend": "", "storage_ref": ""}),
        Case(fields_of("unnamed", operation=""), {"status": "success"}),
        Case(fields_of("untold"), {"storage_duration_ms": None}),
        Case({b"hello": b"world"}, reason="empty-message"),
        Case(fields_of("long", **STORED | {"storage_ref": "\u00e9" * 256, "storage_backend": "b" * 32})),
        Case(fields_of("empty", **STORED, status="", log=""), {"status": "failure", "log": "[]"}),
    ]
    for number, one in enumerate(NO_DURATIONS):
        name = "storage_duration_ms"
        cases.append(Case(fields_of(f"no ms {number}", **STORED, **{name: one}), {name: None}, (name,)))
    bad: list[tuple[str, dict[str, Any]]] = [("invalid-device-id", {"device_id": one}) for one in DEVICE_IDS]
    bad += [("invalid-encoding", {name: one}) for name in texts for one in NOT_UTF8]
    bad += [("nul-character", {name: b"a\x00"}) for name in texts]
    bad += [("malformed-log", {"log": one}) for one in NOT_LISTS]
    bad += [("value-too-long", {name: "x" * size}) for name, size in (("storage_backend", 33), ("storage_ref", 257))]
    bad += [("missing-device-id", {"device_id": None}), ("unknown-device", {"device_id": "999"})]
    cases += [_bad(reason, **STORED | changes) for reason, changes in bad]
    return cases


def test_storage_messages_are_judged_alike(dvctl: Dvctl, redis_url: str, database_url: str) -> None:
    cases = storage_cases()
    with redis.Redis.from_url(redis_url) as client:
        for operation in ("delete", "STORE", "store ", b"\xff", b"store\x00"):
            client.xadd(STREAMS["storage"], fields_of("x", operation=operation, device_id="bad"))
    answer = consumed(dvctl, redis_url, database_url, cases, "storage")
    stored = [one for one in cases if not one.reason]
    assert (answer["persisted"], answer["skipped"]) == (len(stored), 5)
    found = select(database_url, f"SELECT {', '.join(STORAGE_COLUMNS)} FROM backups_storedbackup ORDER BY id")
    for values, one in zip(found, stored, strict=True):
        row = dict(zip(STORAGE_COLUMNS, values, strict=True))
        assert {name: row[name] for name in one.row} == one.row, one.fields


@pytest.mark.parametrize("bigint", [False, True])
def test_the_largest_device_id_is_that_of_the_column(
    dvctl: Dvctl, redis_url: str, database_backend: Any, bigint: bool
) -> None:
    beyond = INT8_MAX if bigint else INT4_MAX
    cases = [
        _bad("unknown-device", device_id=beyond),
        _bad("invalid-device-id", device_id=beyond + 1),
        _bad("unknown-device" if bigint else "invalid-device-id", device_id=INT4_MAX + 1),
    ]
    url = database_backend.database(bigint=bigint)
    consumed(dvctl, redis_url, url, cases)
    database_backend.drop(url)


IDS = {
    "1-0": 1_000,
    "0-1": 1,
    "1767225600000-1002": 1_767_225_600_000_002,
    "253402300799999-999": at(9999, 12, 31, 23, 59, 59, 999999),
    "253402300800000-0": at(9999, 12, 31, 23, 59, 59, 999999),
    f"{2**64 - 1}-{2**64 - 1}": at(9999, 12, 31, 23, 59, 59, 999999),
}


def test_ids_at_the_ends_of_time_are_clamped(dvctl: Dvctl, redis_url: str, database_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        for key in sorted(IDS, key=lambda one: tuple(map(int, one.split("-")))):
            client.xadd(STREAMS["results"], fields_of(key, initiated_at="0001-01-01T00:00:00Z"), id=key)
    dvctl.use(redis_url, database_url)
    assert dvctl.json("consume", "--drain")["persisted"] == len(IDS)
    rows = select(database_url, f"SELECT task_identifier, timestamp, overall_duration_ms FROM {TABLE}")
    assert {name: (micros(time), overall) for name, time, overall in rows} == {
        f"case:{key}": (moment, None) for key, moment in IDS.items()
    }
    assert dvctl.json("verify")["classes"]["persisted"] == len(IDS)
    assert dvctl.json("status")["table"]["latest_timestamp"].startswith("9999-12-31T23:59:59")
    assert [each["state"] for each in dvctl.json("show", *IDS)["entries"]] == ["persisted"] * len(IDS)


ODD_SETTINGS = {
    "postgres": ("timezone = 'Asia/Tokyo'", "datestyle = 'SQL, DMY'", "standard_conforming_strings = off"),
    "mariadb": ("time_zone = '+09:00'", "sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT'"),
}


@pytest.fixture(params=ODD_SETTINGS)
def odd_database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database whose administrator has set it up unlike any other."""
    server, url = (request.getfixturevalue(f"{request.param}_{what}") for what in ("server", "url"))
    if request.param == "postgres":
        server.execute(*(f"ALTER DATABASE {url.rpartition('/')[2]} SET {each}" for each in ODD_SETTINGS["postgres"]))
        yield url
        return
    [[before]] = server.execute("SELECT @@GLOBAL.sql_mode")
    server.execute(*(f"SET GLOBAL {each}" for each in ODD_SETTINGS["mariadb"]))
    yield url
    server.execute(f"SET GLOBAL sql_mode = '{before}'", "SET GLOBAL time_zone = 'SYSTEM'")


def test_the_settings_of_a_server_change_nothing(dvctl: Dvctl, redis_url: str, odd_database_url: str) -> None:
    cases = kept() + doubtful()
    assert consumed(dvctl, redis_url, odd_database_url, cases)["persisted"] == len(cases)
    with redis.Redis.from_url(redis_url) as client:
        client.xadd(STREAMS["results"], fields_of("end"), id="253402300799999-999")
    dvctl.ok("consume", "--drain")
    found = dvctl.json("verify", "--deep")
    assert (found["rows"]["rows_without_entry"], found["rows"]["rows"]) == (0, len(cases) + 1)
    assert found["classes"]["persisted"] == found["stream"]["entries"]
    assert dvctl.json("status")["table"]["latest_timestamp"] == "9999-12-31T23:59:59.999999Z"
    assert dvctl.json("replay", "--missing", "--dry-run")["selected"] == 0
