"""Whatever Redis answers, each reader gives a value or an error of dvctl's own, never one of Python's."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devicevault_cli.errors import DvctlError, Unavailable
from tests.support.replies import READERS, Reply, encoded, read

WORDS = (
    *(
        "name",
        "consumers",
        "pending",
        "last-delivered-id",
        "entries-read",
        "lag",
        "length",
        "first-entry",
        "last-entry",
    ),
    *("last-generated-id", "max-deleted-entry-id", "entries-added", "idle", "inactive"),
)
errors = st.sampled_from(
    [
        *(
            "ERR",
            "NOGROUP no such key",
            "WRONGTYPE x",
            "NOPERM this user has no permissions to run the 'x' command",
            "x",
        ),
        *("LOADING", "MOVED 1 h:1", "ASK 1 h:1", "EXECABORT", "BUSY", "OOM", "NOAUTH", "NOSCRIPT", "READONLY", "", "-"),
    ]
).map(Exception)
leaf = st.one_of(
    st.none(),
    st.sampled_from([0, 1, -1, 2**63 - 1, 5]),
    st.sampled_from([b"1-0", b"2-0", b"0-0", b"-", b"1-", b"x-1", b"", b"1", b"\xff", b"18446744073709551615-1"]),
    st.sampled_from([*map(str.encode, WORDS), b"_dvctl.id", b"_dvctl.packed", b"3:ab", b'{"id": 5}', b"maxmemory:1"]),
)
replies: st.SearchStrategy[Any] = st.recursive(
    st.one_of(leaf, errors), lambda inner: st.lists(inner, max_size=6), max_leaves=25
)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(said=st.lists(replies, min_size=1, max_size=4))
def test_replies_of_any_shape_are_read_or_refused(name: str, said: list[Reply]) -> None:
    with suppress(DvctlError):
        read(name, said)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(list(READERS)), st.one_of(st.binary(max_size=60), replies.map(lambda one: encoded(one)[:-3])))
def test_bytes_that_are_no_reply_are_refused(name: str, said: bytes) -> None:
    with suppress(DvctlError):
        read(name, said)


def test_the_scripted_redis_is_read_like_a_real_one() -> None:
    """The test's own test."""
    assert read("consumers", [[[b"name", b"c", b"pending", 3, b"idle", 5]]])[0].pending == 3
    assert read("range", [[[b"1-0", [b"a", b"b"]]]])[0].fields == {b"a": b"b"}
    with pytest.raises(Unavailable, match="cannot be read"):
        read("consumers", [7])
