"""A page decoded by column gives what its messages give one by one; the decoder for one message is the reference."""

from __future__ import annotations

import time
from dataclasses import fields as fields_of_class
from datetime import UTC, datetime
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from devicevault_cli.columns import decode_results, decode_stored
from devicevault_cli.consumer.batch import Batch, decode, decode_page, joined
from devicevault_cli.json_text import list_problem
from devicevault_cli.messages import parse_time
from devicevault_cli.pipelines import RESULTS, STORAGE, Pipeline
from devicevault_cli.record_columns import RecordColumns, RecordKeys
from devicevault_cli.records import INT4_MAX, INT8_MAX
from devicevault_cli.streams.model import pairs_of
from devicevault_cli.streams.page import FEW, page
from devicevault_cli.streams.replies import entries

Reply: TypeAlias = list[Any]
"""Entries as Redis sends them: [id, [name, value, ...]]."""

MS = 1_767_225_600_000
USUAL = {
    b"operation": b"store",
    b"task_id": b"t-1",
    b"task_identifier": b"collect:7:2026-01-01T00:00:00+00:00",
    b"device_id": b"7",
    b"status": b"success",
    b"log": b'["done"]',
    b"device_config": b"hostname r7",
    b"collection_duration_ms": b"1500",
    b"initiated_at": b"2025-12-31T23:59:58.500000+00:00",
    b"is_binary": b"False",
    b"storage_backend": b"git",
    b"storage_ref": b"0a1b2c",
    b"storage_duration_ms": b"15",
}
NUMBERS = (
    *(b"0", b"00", b"007", b"+7", b"-7", b" 7", b"7 ", b"1_0", b"7.0", b"2147483647", b"2147483648", b"00002147483647"),
    *(b"9223372036854775807", b"9223372036854775808", b"9" * 30, b"0" * 30 + b"7", b"0" * 5000 + b"7", b"1" * 5000),
    *("\u0663".encode(), b"7\0", b"7\n8", b"\xff", b"1e3", b"0x7"),
)
TEXTS = (
    *(b"success", b"failure", b"Success", b"t\0", b"\xff", b"\xed\xa0\x80", b"\xc3", b"\xa9", b"a\nb", b" ", b"\x7f"),
    *("é".encode(), "é".encode() * 16, "é".encode() * 17, "é".encode() * 64, "é".encode() * 128, "é".encode() * 129),
    *("\U0001f600".encode(), "\u2028".encode(), "\ufeff".encode(), b"a" * 16, b"a" * 17, b"a" * 64, b"a" * 65),
    *(b"a" * 32, b"a" * 33, b"a" * 128, b"a" * 129, b"a" * 256, b"a" * 257, b"store", b"prune"),
)
LOGS = (
    *(b"[]", b" [] ", b"\t[1]\r\n", b"{}", b"1", b"null", b'"a"', b"[", b"[1", b"2]", b"[1,]", b"[] []", b"[]\x00"),
    *(b"[NaN]", b"[Infinity]", b"[-Infinity]", b"[1e400]", b"[-0]", b"[01]", b"[1.]", b"[.5]", b"[1E5]", b"[1e-400]"),
    *(b'["\\ud800"]', b'["\\udc00\\ud800"]', b'["\\ud83d\\ude00"]', b'["\\u0000"]', b'["\0"]', b'["\n"]', b'["\x7f"]'),
    *(b"[1" + b"0" * 5000 + b"]", b"[" * 900 + b"]" * 900, b"[" * 1100 + b"]" * 1100, b"[" * 5000 + b"]" * 5000),
    *(b"\xef\xbb\xbf[]", b'["\xff"]', b'["\xed\xa0\x80"]', '["\u2028é"]'.encode(), b"[]\x0b", b"\x0c[]", b"[]\xc2\xa0"),
    *(b'[{"a":1,"a":2}]', b"[{1:2}]", b"[{'a':1}]", b"[true,false,null]", b"[True]", b"[/**/]", b'["\\x41"]', b"[,]"),
    *(
        b'[""]' * 2,
        b"[18446744073709551616]",
        b"[0.1e1]",
        b'{"a":[]}',
        b'["' + b"x" * 3000 + b'"]',
        b"[9" * 300 + b"]" * 300,
    ),
)
TIMES = (
    *(b"2026-01-01", b"20260101", b"2026-W01-1", b"2026W011", b"2026-001", b"0001-01-01T00:00:00+00:00", b"0001-01-01"),
    *(b"0001-01-01T00:00:00+23:59", b"9999-12-31T23:59:59.999999-23:59", b"9999-12-31T23:59:59.999999Z", b"0000-01-01"),
    *(
        b"2026-01-01T24:00:00",
        b"2026-01-01T23:59:60",
        b"2026-01-01t01:02:03z",
        b"2026-01-01 01:02:03",
        b"20260101T010203Z",
    ),
    *(
        b"2026-01-01T01:02:03,5",
        b"2026-01-01T01:02:03.123456789",
        b"2026-01-01T01",
        b"2026-01-01T01:02",
        b"2026-01-01T0102",
    ),
    *(
        b"2026-01-01T01:02:03+0530",
        b"2026-01-01T01:02:03+05",
        b"2026-01-01T01:02:03+05:30:15",
        b"2026-01-01T01:02:03+25:00",
    ),
    *(
        b"2026-01-01\n2026-01-02",
        b"2026-01-01T01:02:03\n",
        b"\n",
        b"2026-13-01",
        b"2026-02-30",
        b"now",
        b"\xff",
        b"1767225600",
    ),
    *(
        b"2026-01-01T01:02:03-00:00",
        b"1969-12-31T23:59:59.999999Z",
        b"1900-01-01T00:00:00Z",
        b"2026-01-01T010203+05:30",
    ),
)
IDS = (
    *(
        (0, 0),
        (0, 1),
        (MS, 2**64 - 1),
        (946_684_799_999, 7),
        (946_684_800_000, 0),
        (4_102_444_799_999, 999),
        (MS, 1000),
    ),
    *((4_102_444_800_000, 0), (253_402_300_799_999, 999), (253_402_300_800_000, 0), (2**64 - 1, 2**64 - 1)),
)
ODD: dict[bytes, tuple[bytes, ...]] = {
    **dict.fromkeys((b"device_id", b"collection_duration_ms", b"storage_duration_ms"), NUMBERS),
    **dict.fromkeys(
        (b"task_id", b"task_identifier", b"status", b"storage_backend", b"storage_ref", b"operation"), TEXTS
    ),
    b"log": LOGS,
    b"initiated_at": TIMES,
    b"device_config": (b"\xff\0", b"x" * 5000),
    b"_dvctl.id": (b"1-1", b"1767225600000-5", b"x", b"18446744073709551616-0", b"5-18446744073709551615"),
    b"extra": (b"\xff",),
}
NAMES = (*USUAL, b"_dvctl.id", b"extra", b"\xff")


def odd_value(name: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(st.just(b""), st.sampled_from(ODD.get(name, (b"x",))), st.binary(max_size=12))


@st.composite
def messages(draw: st.DrawFn, usual: dict[bytes, bytes]) -> list[bytes]:
    """The fields of a message in which something may be unusual."""
    pairs = list(usual.items())
    for _ in range(draw(st.sampled_from((0, 0, 0, 0, 1, 1, 2)))):
        name = draw(st.sampled_from(NAMES))
        places = [number for number, pair in enumerate(pairs) if pair[0] == name]
        change = draw(st.sampled_from(("set", "set", "set", "drop", "repeat", "move")))
        if change in ("drop", "move"):
            pairs = [pair for pair in pairs if pair[0] != name]
        if change == "move":
            pairs.append((name, usual.get(name, b"")))
        if change == "set" and places:
            pairs[places[0]] = name, draw(odd_value(name))
        elif change in ("set", "repeat"):
            pairs.append((name, draw(odd_value(name))))
    return [part for pair in pairs or [(b"extra", b"")] for part in pair]


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    """A page: of messages that are mostly alike, and all have the same odd values in some fields."""
    names = draw(st.permutations(list(USUAL)))
    usual = {name: USUAL[name] for name in names[: draw(st.sampled_from((len(names), len(names), 9)))]}
    for name in draw(st.lists(st.sampled_from(list(ODD)), max_size=2)):
        usual[name] = draw(odd_value(name))
    alike = draw(st.booleans())
    found: Reply = []
    for number in range(draw(st.integers(0, 40))):
        ms, seq = (
            draw(st.sampled_from(IDS)) if not alike and draw(st.integers(0, 9)) == 0 else (MS + number // 3, number)
        )
        fields = [part for pair in usual.items() for part in pair] if alike else draw(messages(usual))
        found.append([b"%d-%d" % (ms, seq), fields])
    return found


def by_column(reply: Reply, pipeline: Pipeline, most: int, *, keep: bool) -> Batch:
    parts = list(decode_page(page(reply), pipeline, most, keep_configurations=keep))
    return joined(parts, gone=(), reclaimed=0, generation=0)


def one_by_one(reply: Reply, pipeline: Pipeline, most: int, *, keep: bool) -> Batch:
    return decode(entries(reply), pipeline.decode, most, keep_configurations=keep)


def assert_same(found: Batch, expected: Batch) -> None:
    for about in fields_of_class(Batch):
        value, wanted = getattr(found, about.name), getattr(expected, about.name)
        if isinstance(value, (list, tuple, RecordColumns, set)):
            value, wanted = list(value), list(wanted)
        assert value == wanted, about.name
    assert [found.records[number] for number in range(len(found.records))] == list(expected.records)


def assert_keys(keys: RecordKeys, expected: Batch) -> None:
    """Every message is valid, and its record has these."""
    wanted = [
        (record.task_identifier.encode(), record.device_id, record.status.encode()) for record in expected.records
    ]
    assert list(zip(*keys, strict=True)) == wanted
    assert not expected.rejected and not expected.skipped


def usual_reply(count: int, **changed: bytes) -> Reply:
    message = USUAL | {name.encode(): value for name, value in changed.items()}
    return [[b"%d-%d" % (MS, number), [part for pair in message.items() for part in pair]] for number in range(count)]


@pytest.mark.parametrize("pipeline", [RESULTS, STORAGE], ids=["results", "storage"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(reply=replies(), most=st.sampled_from((INT4_MAX, INT8_MAX, 7)), keep=st.booleans())
@example(usual_reply(20, initiated_at=b"2026-01-01\n2026-01-02"), INT4_MAX, True)
@example([[b"%d-0" % number, [b"a", b"1", b"a", b"2"]] for number in range(FEW)], INT4_MAX, True)
def test_columns_give_what_the_messages_give(pipeline: Pipeline, reply: Reply, most: int, keep: bool) -> None:
    expected = one_by_one(reply, pipeline, most, keep=keep)
    assert_same(by_column(reply, pipeline, most, keep=keep), expected)
    assert [(key, *pairs_of(fields)) for key, fields in page(reply)] == [
        (key, *pairs_of(fields)) for key, fields in entries(reply)
    ]
    alone = pipeline.decode_columns(page(reply), most) if reply else None
    assert alone is None or list(alone) == expected.records
    keys = pipeline.decode_keys(page(reply), most) if reply else None
    if keys is not None:
        assert not page(reply).has(b"_dvctl.id")
        assert_keys(keys, expected)


@pytest.mark.parametrize("field", list(ODD), ids=bytes.decode)
@pytest.mark.parametrize("pipeline", [RESULTS, STORAGE], ids=["results", "storage"])
def test_each_odd_value_alone_and_in_all_messages(pipeline: Pipeline, field: bytes) -> None:
    for value in (b"", *ODD[field]):
        everywhere = usual_reply(FEW, **{field.decode(): value})
        once = [*usual_reply(2 * FEW), *usual_reply(1, **{field.decode(): value}), *usual_reply(2 * FEW)]
        for reply in (everywhere, once):
            for most in (INT4_MAX, INT8_MAX):
                expected = one_by_one(reply, pipeline, most, keep=True)
                assert_same(by_column(reply, pipeline, most, keep=True), expected)
                keys = pipeline.decode_keys(page(reply), most)
                if field != b"_dvctl.id":  # a replayed message is looked at alone
                    assert (keys is not None) >= (pipeline.decode_columns(page(reply), most) is not None)
                if keys is not None:
                    assert_keys(keys, expected)


@pytest.mark.parametrize("pipeline", [RESULTS, STORAGE], ids=["results", "storage"])
def test_odd_ids_and_the_longest_duration(pipeline: Pipeline) -> None:
    for ms, seq in IDS:
        for begun in (MS, *(MS - INT4_MAX + more for more in (-2, -1, 0, 1))):
            text = datetime.fromtimestamp(begun // 1000, UTC).replace(microsecond=begun % 1000 * 1000).isoformat()
            reply = usual_reply(FEW, initiated_at=text.encode())
            reply[3][0] = b"%d-%d" % (ms, seq)
            expected = one_by_one(reply, pipeline, INT4_MAX, keep=False)
            assert_same(by_column(reply, pipeline, INT4_MAX, keep=False), expected)


def test_whatever_the_fast_json_parser_takes_is_json_for_the_reference() -> None:
    """Each odd log cut off, doubled or with a byte more at every place."""
    from orjson import JSONDecodeError, loads

    taken = 0
    for log in LOGS:
        for cut in range(min(len(log), 40) + 1):
            for changed in (
                log[:cut],
                log[cut:],
                *(log[:cut] + byte + log[cut:] for byte in (b"\0", b",", b"]", b"\xa0", b"0")),
            ):
                try:
                    value = loads(changed)
                except JSONDecodeError:
                    continue
                taken += isinstance(value, list)
                assert not isinstance(value, list) or list_problem(changed.decode()) is None, changed
    assert taken > 200


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.one_of(
            st.sampled_from(TIMES),
            st.from_regex(rb"\d{4}-?\d\d-?\d\dT\d\d:\d\d(?:[.,]\d{1,7})?(Z|[+-]\d\d:?\d\d)?", fullmatch=True),
        ),
        min_size=FEW,
        max_size=12,
    )
)
def test_times_are_those_of_the_reference(texts: list[bytes]) -> None:
    reply = [[b"%d-0" % (MS + n), [b"device_id", b"1", b"initiated_at", text]] for n, text in enumerate(texts)]
    found = decode_results(page(reply))
    assert found is None or list(found.column("initiated_at")) == list(map(parse_time, texts))


def test_usual_pages_are_decoded_by_column() -> None:
    """Else nothing here compares anything, and nothing is faster."""
    reply = usual_reply(128)
    assert decode_results(page(reply)) is not None
    assert decode_stored(page(reply)) is not None
    for pipeline in (RESULTS, STORAGE):
        assert pipeline.decode_keys(page(reply), INT4_MAX) is not None
        keys = pipeline.decode_keys(page(usual_reply(20, initiated_at=b"x", storage_duration_ms=b"x")), INT4_MAX)
        assert keys is not None, "times and durations are of no interest"
    for changed in ({"initiated_at": b""}, {"status": b""}, {"log": b""}, {"collection_duration_ms": b""}):
        assert decode_results(page(usual_reply(128, **changed))) is not None
    mixed = [*usual_reply(20), [b"9-1", [b"device_id", b"1"]], *usual_reply(20)]
    assert sum(isinstance(part.records, RecordColumns) for part in decode_page(page(mixed), RESULTS, 9)) == 2
    assert isinstance(by_column(mixed, RESULTS, 9, keep=False).records, RecordColumns)
    shuffled = [[key, fields[::-1][1::2] and [*fields[2:], *fields[:2]]] for key, fields in usual_reply(10)]
    assert decode_results(page([*usual_reply(10), *shuffled])) is not None


def test_a_page_by_column_takes_less_processor_time() -> None:
    """A guard against a way that silently became the slow one; the figures stand in docs/performance.md."""
    reply = usual_reply(128)

    def cost(way: Any) -> float:
        times = []
        for _ in range(20):
            begun = time.thread_time()
            way(reply, RESULTS, INT4_MAX, keep=False)
            times.append(time.thread_time() - begun)
        return min(times)

    assert cost(by_column) < 0.7 * cost(one_by_one)
