"""A packed dead letter reads back; a worker's field of that name, or a damaged one, hides nothing and stops nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicevault_cli.errors import Damaged
from devicevault_cli.streams.letters import PACKED, pack, read_letter, unpack
from devicevault_cli.streams.model import Entry, EntryId


@given(st.dictionaries(st.binary(), st.binary()))
def test_what_was_packed_reads_back(fields: dict[bytes, bytes]) -> None:
    parts = [part for pair in fields.items() for part in pair]
    assert unpack(pack(parts)) == parts


@given(st.binary())
def test_any_bytes_are_parts_or_damaged(packed: bytes) -> None:
    try:
        assert len(unpack(packed)) % 2 == 0
    except Damaged:
        letter = read_letter(Entry(EntryId(9, 0), {b"_dvctl.id": b"5-0", PACKED: packed}))
        assert letter is not None
        assert letter.fields == {PACKED: packed}


@pytest.mark.parametrize("packed", [b"x", b"-5:", b"3:ab,", b"1:a", b"1:a,", b"99999999999:a,", b"1_0:aaaaaaaaaa,1:b,"])
def test_damage_is_said(packed: bytes) -> None:
    with pytest.raises(Damaged):
        unpack(packed)


def test_a_letter_with_hostile_fields_is_read() -> None:
    fields = {b"_dvctl.id": b"5-0", b"_dvctl.deliveries": b"9" * 5000, PACKED: b"-5:", b"log": b"[]"}
    letter = read_letter(Entry(EntryId(9, 0), fields))
    assert letter is not None
    assert letter.deliveries == 0
    assert letter.fields == {b"log": b"[]", PACKED: b"-5:"}
