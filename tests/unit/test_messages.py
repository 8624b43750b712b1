"""Decoding: any bytes become a record or a reason, never an exception; the documented order of reasons holds."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devicevault_cli.json_text import _is_json, list_problem
from devicevault_cli.messages import (
    RESULT_FIELDS,
    Decoded,
    Rejected,
    Skipped,
    decode_result,
    decode_storage,
    first_id,
    parse_time,
)
from devicevault_cli.records import INT4_MAX, LATEST, DeviceResult, StorageResult, identity

MS = 1_767_225_600_000
GOOD = {
    b"task_id": b"t-1",
    b"task_identifier": b"collect:7:2026-01-01T00:00:00+00:00",
    b"device_id": b"7",
    b"status": b"success",
    b"log": b'["done"]',
    b"device_config": b"hostname r7",
    b"collection_duration_ms": b"1500",
    b"initiated_at": b"2025-12-31T23:59:58.500000+00:00",
    b"is_binary": b"False",
}


def decoded(fields: dict[bytes, bytes], ms: int = MS, seq: int = 5) -> DeviceResult:
    decision = decode_result(ms, seq, fields)
    assert isinstance(decision, Decoded), decision
    assert isinstance(decision.record, DeviceResult)
    return decision.record


def test_a_good_message_becomes_a_row_with_the_time_of_its_id() -> None:
    assert decode_result(MS, 5, GOOD) == Decoded(
        DeviceResult(
            "t-1",
            "collect:7:2026-01-01T00:00:00+00:00",
            7,
            "success",
            MS * 1000 + 5,
            '["done"]',
            1_767_225_598_500_000,
            1500,
            1500,
        )
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({b"task_id": b"\xff", b"device_id": b"", b"log": b"{"}, "invalid-encoding"),
        ({b"log": b'["\xff"]'}, "invalid-encoding"),
        ({b"status": b"a\0", b"device_id": b""}, "nul-character"),
        ({b"device_id": b""}, "missing-device-id"),
        ({b"task_id": b"x" * 65, b"device_id": b"x"}, "invalid-device-id"),
        ({b"task_id": b"x" * 65, b"log": b"{"}, "value-too-long"),
        ({b"task_identifier": b"x" * 129}, "value-too-long"),
        ({b"status": b"x" * 17}, "value-too-long"),
        ({b"log": b"{"}, "malformed-log"),
        ({b"log": b'"x"'}, "malformed-log"),
        ({b"log": b"{}"}, "malformed-log"),
        ({b"log": b"[1"}, "malformed-log"),
        ({b"log": b"[NaN]"}, "malformed-log"),
        ({b"log": b"[] []"}, "malformed-log"),
    ],
)
def test_the_first_reason_in_the_documented_order_is_given(changes: dict[bytes, bytes], reason: str) -> None:
    decision = decode_result(MS, 0, GOOD | changes)
    assert isinstance(decision, Rejected)
    assert decision.reason == reason


@pytest.mark.parametrize(
    "raw",
    [
        b"abc",
        b"-1",
        b"0",
        b"00",
        b"1e3",
        b"12.0",
        b"1_000",
        "١٢".encode(),
        b" 7x",
        b"7 ",
        b"2147483648",
        b"9" * 5000,
        b"\xff",
        b"7\x00",
    ],
)
def test_a_device_id_is_ascii_digits_within_the_column(raw: bytes) -> None:
    decision = decode_result(MS, 0, GOOD | {b"device_id": raw})
    assert isinstance(decision, Rejected)
    assert decision.reason == "invalid-device-id"


def test_the_largest_device_id_is_that_of_the_column() -> None:
    assert isinstance(decode_result(MS, 0, GOOD | {b"device_id": b"2147483648"}, 2**63 - 1), Decoded)
    assert decoded(GOOD | {b"device_id": b"2147483647"}).device_id == INT4_MAX
    assert decoded(GOOD | {b"device_id": b"007"}).device_id == 7


def test_a_message_of_unknown_fields_is_empty_and_of_one_known_field_is_not() -> None:
    assert decode_result(MS, 0, {b"hello": b"world"}) == Rejected("empty-message", "none of the known fields is there")
    for name in RESULT_FIELDS:
        decision = decode_result(MS, 0, {name: b""})
        assert isinstance(decision, Rejected)
        assert decision.reason == "missing-device-id"


def test_absent_fields_have_their_defaults() -> None:
    row = decoded({b"device_id": b"7"})
    assert (row.task_id, row.task_identifier, row.status, row.log) == ("", "", "failure", "[]")
    assert (row.initiated_at, row.collection_duration_ms, row.overall_duration_ms) == (None, None, None)
    assert identity(row) == (7, "", row.timestamp, "failure", "[]")


@pytest.mark.parametrize("raw", [b"NaN", b"1e3", b"-5", "١٢".encode(), b"1_000", b"2147483648", b"1.5", b"\xff", b" 5"])
def test_an_unusable_duration_is_null_with_a_note(raw: bytes) -> None:
    decision = decode_result(MS, 0, GOOD | {b"collection_duration_ms": raw})
    assert isinstance(decision, Decoded)
    assert isinstance(decision.record, DeviceResult)
    assert decision.record.collection_duration_ms is None
    assert decision.notes == ("collection_duration_ms",)


@pytest.mark.parametrize(
    "raw",
    [
        b"2026-01-01T00:00:60",
        b"2026-01-01T24:00:00",
        b"10000-01-01T00:00:00",
        b"now",
        b"infinity",
        b"2026-02-30T00:00:00",
        b"\xff",
        b"0001-01-01T00:00:00+10:00",
    ],
)
def test_an_unusable_time_is_null_with_a_note(raw: bytes) -> None:
    decision = decode_result(MS, 0, GOOD | {b"initiated_at": raw})
    assert isinstance(decision, Decoded)
    assert isinstance(decision.record, DeviceResult)
    assert decision.record.initiated_at is None
    assert decision.record.overall_duration_ms is None
    assert decision.notes == ("initiated_at",)


def test_times_without_offset_are_utc_and_offsets_are_applied() -> None:
    noon = parse_time(b"2026-01-01T12:00:00Z")
    assert parse_time(b"2026-01-01T12:00:00") == noon
    assert parse_time(b"2026-01-01T13:00:00+01:00") == noon
    assert parse_time(b"2026-01-01T12:00:00.000001Z") == (noon or 0) + 1


def test_an_overall_duration_that_is_negative_or_too_long_is_null() -> None:
    assert decoded(GOOD | {b"initiated_at": b"2026-01-01T00:00:01Z"}).overall_duration_ms is None
    assert decoded(GOOD | {b"initiated_at": b"1990-01-01T00:00:00Z"}).overall_duration_ms is None


def test_an_implausible_id_is_clamped_with_a_note() -> None:
    decision = decode_result(2**64 - 1, 2**64 - 1, GOOD)
    assert isinstance(decision, Decoded)
    assert (decision.record.timestamp, decision.notes) == (LATEST, ("timestamp",))
    assert decoded(GOOD, ms=1, seq=1002).timestamp == 1002


def test_a_republished_message_keeps_its_first_time() -> None:
    assert decoded(GOOD | {b"_dvctl.id": b"1767225600001-3"}).timestamp == 1_767_225_600_001_003
    assert decoded(GOOD | {b"_dvctl.id": b"rubbish"}).timestamp == MS * 1000 + 5
    assert first_id({b"_dvctl.id": b"1-2"}) == (1, 2)
    assert first_id({}) is None


STORE = {b"operation": b"store", b"device_id": b"7", b"storage_backend": b"git", b"storage_ref": b"abc"}


def test_storage_messages() -> None:
    assert decode_storage(MS, 0, STORE | {b"storage_duration_ms": b"12"}) == Decoded(
        StorageResult("", "", 7, "failure", MS * 1000, "[]", "git", "abc", 12)
    )
    for operation in (b"delete", b"read", b"STORE", b" store", b"\xff"):
        assert isinstance(decode_storage(MS, 0, STORE | {b"operation": operation}), Skipped)
    assert decode_storage(MS, 0, {b"hello": b"world"}) == Rejected("empty-message", "none of the known fields is there")
    for name, value in ((b"storage_backend", b"x" * 33), (b"storage_ref", b"x" * 257)):
        decision = decode_storage(MS, 0, STORE | {name: value})
        assert isinstance(decision, Rejected)
        assert decision.reason == "value-too-long"


def test_a_storage_message_without_an_operation_is_to_be_stored() -> None:
    """DeviceVault's own consumer takes it so: to skip it would lose the result."""
    expected = decode_storage(MS, 0, STORE)
    assert isinstance(expected, Decoded)
    assert decode_storage(MS, 0, STORE | {b"operation": b""}) == expected
    assert decode_storage(MS, 0, {name: value for name, value in STORE.items() if name != b"operation"}) == expected


wire_value = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace")),
    st.sampled_from([b"7", b"success", b"[]", b"store", b"2026-01-01T00:00:00Z", b"1-1"]),
)
wire_name = st.one_of(
    st.sampled_from([*sorted(RESULT_FIELDS), b"operation", b"storage_ref", b"_dvctl.id"]), st.binary(max_size=8)
)
unsigned = st.integers(0, 2**64 - 1)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(unsigned, unsigned, st.dictionaries(wire_name, wire_value, max_size=12))
def test_any_bytes_become_a_record_or_a_reason(ms: int, seq: int, fields: dict[bytes, bytes]) -> None:
    for decode in (decode_result, decode_storage):
        decision = decode(ms, seq, fields)
        if isinstance(decision, Decoded):
            record = decision.record
            assert 0 <= record.timestamp <= LATEST
            assert 1 <= record.device_id <= INT4_MAX
            assert len(record.task_identifier) <= 128
            assert "\0" not in record.log
            assert list_problem(record.log) is None
        else:
            assert isinstance(decision, Rejected | Skipped)


@pytest.mark.parametrize("depth", [1, 900, 10_000])
def test_depth_does_not_matter(depth: int) -> None:
    assert list_problem("[" * depth + "]" * depth) is None
    assert list_problem("[" * depth + "]" * (depth - 1)) is not None
    assert list_problem("[" + '{"a":' * depth + "1" + "}" * depth + "]") is None
    assert list_problem("[" + '{"a" 1' * depth + "}" * depth + "]") is not None
    assert list_problem("[" * depth + "]" * depth + "]") is not None
    assert list_problem('{"a":' * depth + "[]" + "}" * depth) is not None


def test_json_that_python_would_read_or_refuse_by_its_own_rules() -> None:
    assert list_problem("[" + "1" * 5000 + "]") is None
    assert list_problem(r'["\ud800", "\u0000"]') is None
    assert list_problem('[{"a": 1, "a": 2}]') is None
    assert list_problem(" \n[]\t") is None
    assert list_problem("\u00a0[]") is not None
    assert list_problem("[Infinity]") is not None


near_json = st.lists(
    st.sampled_from(
        [*'[]{},:" ', "[]", "{}", '"a"', '"\\u00e9"', '"\\x"', "0", "-1", "01", "1.5e3", "1.", "true", "nul"]
    ),
    max_size=12,
).map("".join)


@given(near_json)
def test_the_judge_of_deep_json_agrees_with_the_decoder(text: str) -> None:
    """Beyond the decoder's depth another judge decides: both must say the same."""
    try:
        json.loads(text, parse_int=str)
    except ValueError:
        assert not _is_json(text.strip(" "))
    else:
        assert _is_json(text.strip(" "))
